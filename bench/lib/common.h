/* What the benches have in common besides running: where they run, and which round counts. */
#ifndef REEVE_BENCH_COMMON_H
#define REEVE_BENCH_COMMON_H

#include "bench/lib/run.h"

#define ROUNDS_MAX 15

/* Where data goes and which daemon is run: beside the bench's own executable, unless REEVE_BIN names the daemon. */
struct bench_paths {
    char directory[4000], binary[4096];
};

void bench_find_paths(struct bench_paths *ret_paths);
/* Makes the directory; one that is there is fine. 0, or -1 after it has said what went wrong. */
int bench_make_directory(const char *path);
/* The same, empty. */
int bench_make_fresh(const char *path);
void bench_remove_tree(const char *path);
const char *bench_filesystem(const char *path);

/* Lifecycles or updates per second. */
double bench_rate(const struct run_result *result, enum work work);
/* The round whose rate is the median. */
const struct run_result *bench_median(const struct run_result *results, unsigned rounds, enum work work);
double bench_microseconds(const struct histogram *latency, double fraction);

#endif
