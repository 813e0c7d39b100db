/* What is measured, as data: who can be measured, and which scenarios there are. */
#ifndef REEVE_BENCH_SCENARIO_H
#define REEVE_BENCH_SCENARIO_H

#include "bench/lib/common.h"

#define COLUMNS_MAX 8
#define SUBJECTS_MAX 12

enum subject_kind { SUBJECT_ENGINE, SUBJECT_FLOOR, SUBJECT_PEER };

struct subject {
    const char *name;
    enum subject_kind kind;
    const char *store; /* whose directory it uses; the modes of the engine have one */
    run_function run;
    unsigned outstanding_max;
    const char *(*missing)(void); /* NULL: never */
    const char *(*about)(void);
};

enum extent { QUICK, FULL, EXTENT_COUNT };

struct scenario {
    const char *name, *title, *unit;
    enum work work;
    const char *subjects[SUBJECTS_MAX]; /* in the order in which they run; embedded before the floors */
    const char *floor;                  /* what the others are a ratio of */
    unsigned outstanding[EXTENT_COUNT][COLUMNS_MAX];
    uint64_t existing[EXTENT_COUNT][COLUMNS_MAX];
    unsigned watchers;
    double seconds[EXTENT_COUNT]; /* of engine and peers; 0: as the options say */
    bool is_time;                 /* told in ms, less is better; else per second */
    bool is_paced;                /* its rate is given: ratios are of the p99, less is better */
    bool is_fresh;                /* each run begins with an empty store */
};

extern const struct subject bench_subjects[];
extern const unsigned bench_subjects_count;
extern const struct scenario bench_scenarios[];
extern const unsigned bench_scenarios_count;

const struct subject *bench_subject(const char *name);

#endif
