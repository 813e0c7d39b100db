/* What the parts of the check share. */
#ifndef REEVE_EXEC_CHECK_PRIVATE_H
#define REEVE_EXEC_CHECK_PRIVATE_H

#include "answer.h"
#include "config.h"
#include "describe.h"

struct check {
    struct exec_config config;
    struct description description;
    uint64_t seed, random; /* of the moments to kill at */
    uint64_t timeout_ms, rounds;
    unsigned runs; /* so far: names of their directories */
    unsigned passed, failed, skipped;
    const char *secrets[2]; /* must not be seen in arguments, environments and logs; NULL: nothing */
    char leak[128];         /* where it was seen */
};

/* ---- check.c ---- */

/* A line of the report. */
__attribute__((format(printf, 3, 4))) void check_line(struct check *check, bool good, const char *format, ...);
__attribute__((format(printf, 2, 3))) void check_skip(struct check *check, const char *format, ...);
uint64_t check_random(struct check *check);

/* ---- check_run.c ---- */

/* When and how a run is disturbed. */
struct disturbance {
    int number; /* SIGQUIT: kill the program at once; SIGTERM: ask it to end; 0: leave it alone */
    uint64_t after_ms;
};

struct check_run {
    struct answer answer;
    uint64_t duration_ms;
    bool started, was_killed; /* by SIGKILL, ours or for not ending */
    char log[512];            /* the end of it, on one line */
};

/* One run of the program; `input` is what it reads. To be given back with check_run_free(). */
void check_run(struct check *check, const char *operation, const char *input, const struct disturbance *disturbance,
               struct check_run *ret_run);
void check_run_free(struct check_run *run);
/* Processes that programs of this state directory have left behind. */
unsigned check_processes(const struct check *check);

/* ---- check_suite.c ---- */

void check_suite(struct check *check);

#endif
