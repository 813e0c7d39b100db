/* What the benches have in common besides running: where they run, chance, what the kernel counted. */
#ifndef REEVE_BENCH_COMMON_H
#define REEVE_BENCH_COMMON_H

#include <sys/types.h>

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

/* A directory that is filled once: marked when that is done, emptied when it was left half filled. */
bool bench_is_filled(const char *directory);
int bench_mark_filled(const char *directory);

double bench_rate(const struct run_result *result);
double bench_microseconds(const struct histogram *latency, double fraction);
/* Says "bench: what: why" and returns -1. */
int bench_complain(const char *what, const char *why);

/* Numbers that follow from a seed, the same in each run. */
struct bench_chance {
    uint64_t state; /* 0 is fine */
};
uint64_t bench_draw(struct bench_chance *chance, uint64_t below);
void bench_fill(struct bench_chance *chance, void *bytes, size_t size);

/* What the kernel has counted of processes: taken at the start and at the end of what is measured, the result then has
 * the difference. Takes in the children of `pid`; 0 is this process alone. */
void bench_usage(pid_t pid, bool end, struct run_result *result);
uint64_t bench_blocks(const char *path);

#endif
