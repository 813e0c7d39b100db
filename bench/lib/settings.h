/* What the bench is asked to do: its command line. */
#ifndef REEVE_BENCH_SETTINGS_H
#define REEVE_BENCH_SETTINGS_H

#include "bench/lib/scenario.h"

struct settings {
    struct bench_paths paths;
    enum extent extent;
    unsigned rounds;
    double seconds, warm_seconds;
    bool seconds_given;
    const char *scenarios, *subjects, *json_path; /* NULL: all of them; none */
    unsigned outstanding[COLUMNS_MAX];
    uint64_t existing[COLUMNS_MAX];
    bool outstanding_given, existing_given;
};

/* 0; 1: --help was asked for, and is told; -1: a refusal is. */
int settings_take(struct settings *ret_settings, int argc, char **argv);
/* Is the word in a list with commas? Without a list, each is. */
bool settings_lists(const char *list, const char *word);

#endif
