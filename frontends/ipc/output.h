/* What a connection is to be sent: bytes of its own, and between them bytes that it shares with others. */
#ifndef REEVE_IPC_OUTPUT_H
#define REEVE_IPC_OUTPUT_H

#include <uv.h>

#include "base/buffer.h"

struct ipc_server;

/* Bytes that are made once and go out with many connections; gone with the last reference. */
struct shared {
    unsigned references;
    struct buffer bytes;
};

struct output {
    struct buffer bytes;  /* its own */
    struct buffer pieces; /* what is shared, and behind how many of its own bytes it comes */
    size_t shared_size;
};

/* One reference is the caller's. NULL: out of memory. */
struct shared *shared_new(struct ipc_server *server);
void shared_release(struct ipc_server *server, struct shared *shared);

/* Behind all that is there. Running out of memory counts as a failure of `bytes`. */
void output_share(struct ipc_server *server, struct output *output, struct shared *shared);
size_t output_size(const struct output *output);
/* All but the first `skip` bytes, for writing; in memory of the server, until the next call. NULL: out of memory. */
uv_buf_t *output_vector(struct ipc_server *server, const struct output *output, size_t skip, unsigned *ret_count);
/* It is empty then. */
void output_release(struct ipc_server *server, struct output *output);

#endif
