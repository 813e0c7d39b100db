/* One run of one cell of a bench, and what came out of it. */
#ifndef REEVE_BENCH_RUN_H
#define REEVE_BENCH_RUN_H

#include <reeve.h>

#include "bench/lib/histogram.h"

#define TRANSITIONS 6 /* of one lifecycle: create, running, stop, stopped, delete, gone */

enum work {
    LIFECYCLES, /* embedded, over IPC, over HTTP */
    UPDATES,    /* names of stopped services are changed, each change durable: embedded, over HTTP */
};

struct run_options {
    const char *directory; /* made fresh by the caller */
    const char *binary;    /* build/reeve, for IPC and HTTP */
    enum work work;
    unsigned outstanding;
    double seconds;
    /* for the floor: what the engine did in the same column */
    double inputs_per_batch;
    uint64_t record_bytes, event_bytes;
};

struct run_result {
    double seconds;
    uint64_t lifecycles;
    uint64_t commands; /* answered; over HTTP: requests */
    uint64_t batches, batch_inputs, puts, bytes, commit_ns;
    uint64_t record_bytes, event_bytes; /* as stored */
    struct histogram latency;           /* of commands, from sending to the durable answer */
};

/* Each returns 0, or -1 after it has said on standard error what went wrong. */
int run_embedded(const struct run_options *options, struct run_result *ret_result);
int run_ipc(const struct run_options *options, struct run_result *ret_result);
int run_http(const struct run_options *options, struct run_result *ret_result);
int run_floor(const struct run_options *options, struct run_result *ret_result);

uint64_t bench_now_ns(void);
/* Limits that let the bench be the limit. */
struct reeve_limits bench_limits(void);

#endif
