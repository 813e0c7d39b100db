/* What the floors that write have in common: the bytes of a transition, and batches of the size that the engine had. */
#ifndef REEVE_BENCH_FLOOR_H
#define REEVE_BENCH_FLOOR_H

#include <stddef.h>

#include "bench/lib/common.h"

struct floor_batches {
    double inputs_per_batch, owed;
    size_t batch_bytes; /* on average, as the engine's store took them */
    size_t record_bytes, event_bytes;
    uint64_t started_ns, warm_until_ns, until_ns;
    bool measuring;
};

void floor_begin(struct floor_batches *batches, const struct run_options *options);
/* Transitions in the next batch. 0: the time is up. */
unsigned floor_next(struct floor_batches *batches, struct run_result *result);
/* Transitions that are one of what the scenario counts. */
unsigned floor_transitions(enum work work);
/* After the last batch: what was counted in transitions becomes what the scenario counts. */
void floor_end(struct floor_batches *batches, const struct run_options *options, struct run_result *result);

#endif
