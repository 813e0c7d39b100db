/* What came out, as lines of a table and as JSON. */
#ifndef REEVE_BENCH_TELLING_H
#define REEVE_BENCH_TELLING_H

#include <jansson.h>

#include "bench/lib/scenario.h"

/* The rounds of one subject in one cell. */
struct rounds {
    const struct subject *subject;
    struct run_result results[ROUNDS_MAX];
    unsigned count;
    bool failed;                     /* said so: not told, and not run again in this cell */
    double median, min, max;         /* per second, or ms */
    const struct run_result *middle; /* the round of the median */
    struct histogram latency;        /* of all rounds */
};

struct cell {
    const struct scenario *scenario;
    unsigned outstanding;
    uint64_t existing;
    struct rounds subjects[SUBJECTS_MAX];
    unsigned count;
};

void tell_scenario(const struct scenario *scenario);
/* Prints the lines of a cell and appends them to `rows`. */
void tell_cell(struct cell *cell, json_t *rows);
/* Machine, file system, settings of those that were measured. */
json_t *tell_surroundings(const struct bench_paths *paths, unsigned round_count, double seconds, bool is_full);

#endif
