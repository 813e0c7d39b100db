/* What the floors that write have in common: the bytes of a transition, and batches of the size that the engine had. */
#ifndef REEVE_BENCH_FLOOR_H
#define REEVE_BENCH_FLOOR_H

#include <stddef.h>

#include "bench/lib/common.h"

#define FLOOR_DUE_MAX 4096 /* commands that begin in one batch of floor_run_paced() */

struct floor_batches {
    double inputs_per_batch, owed;
    double bytes_per_input; /* as the engine's store took them */
    size_t record_bytes, event_bytes;
    unsigned reads_owed; /* in parts: of one there are as many as transitions of what the scenario counts */
    uint64_t started_ns, warm_until_ns, until_ns;
    bool measuring;
};

void floor_begin(struct floor_batches *batches, const struct run_options *options);
/* Transitions in the next batch. 0: the time is up. */
unsigned floor_next(struct floor_batches *batches, struct run_result *result);
/* Reads that go before a batch of so many transitions. */
unsigned floor_reads(struct floor_batches *batches, const struct run_options *options, unsigned inputs);
/* After the last batch: what was counted in transitions becomes what the scenario counts. */
void floor_end(struct floor_batches *batches, const struct run_options *options, struct run_result *result);

/* A batch of second steps of commands that began in the one before, and of first steps of those that begin. */
typedef int (*floor_batch)(void *arg, unsigned second, unsigned first);
/* Commands at their own time, at the rate of the options: all that are due are the next batch. */
int floor_run_paced(struct floor_batches *batches, const struct run_options *options, struct run_result *result,
                    floor_batch batch, void *arg);

#endif
