/* A client of a server of others: so many commands under way over so many connections, answers in the order of the
 * commands of their connection. The protocol is the caller's. */
#ifndef REEVE_BENCH_WIRE_H
#define REEVE_BENCH_WIRE_H

#include "base/buffer.h"
#include "bench/lib/common.h"

struct wire_protocol {
    void *arg;
    int (*connect)(void *arg);
    /* Appends the next command of a slot. */
    void (*ask)(void *arg, unsigned slot, struct buffer *out);
    /* Bytes that the answer to it takes; 0: it is not whole yet; -1: it is none, or a refusal. */
    ssize_t (*take)(void *arg, unsigned slot, char *data, size_t size);
};

/* Warms up, measures; what is under way at the end is taken in still. Fills seconds, commands, count (in
 * lifecycles: a command is a transition), latency, and what `pid` used. */
int wire_run(const struct wire_protocol *protocol, const struct run_options *options, unsigned connections, pid_t pid,
             struct run_result *result);
/* One command to its answer, on a connection of its own. */
int wire_call(const struct wire_protocol *protocol, int fd, unsigned slot);

#endif
