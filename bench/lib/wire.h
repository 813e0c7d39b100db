/* A server of others and its client: so many commands under way over so many connections, answers in the order of the
 * commands of their connection. The protocol is the caller's. */
#ifndef REEVE_BENCH_WIRE_H
#define REEVE_BENCH_WIRE_H

#include "base/buffer.h"
#include "bench/lib/common.h"
#include "bench/lib/server.h"

struct wire_protocol {
    void *arg;
    unsigned connections_max;
    int (*start)(void *arg, struct server *server, const char *directory);
    int (*connect)(void *arg);
    /* Waits until it answers on this connection, and makes so many services that exist. */
    int (*prepare)(const struct wire_protocol *protocol, int fd, uint64_t services);
    /* Appends the next command of a slot. */
    void (*ask)(void *arg, unsigned slot, struct buffer *out);
    /* Bytes that the answer to it takes; 0: it is not whole yet; -1: it is none, or a refusal. */
    ssize_t (*take)(void *arg, unsigned slot, char *data, size_t size);
};

/* Starts the server, warms up, measures, stops it; what is under way at the end is taken in still. Fills seconds,
 * commands, count (in lifecycles: a command is a transition), latency, and what the server used. */
int wire_run(const struct wire_protocol *protocol, const struct run_options *options, struct run_result *ret_result);
/* One command to its answer, on a connection of its own. */
int wire_call(const struct wire_protocol *protocol, int fd, unsigned slot);

#endif
