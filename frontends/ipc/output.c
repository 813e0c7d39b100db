#include "output.h"

#include <stdlib.h>

#include "frontends/ipc/server_private.h"

struct piece {
    size_t at; /* so many of the output's own bytes come before it */
    struct shared *shared;
};

struct shared *shared_new(struct ipc_server *server)
{
    struct shared *shared = malloc(sizeof *shared);
    if (!shared)
        return NULL;
    *shared = (struct shared){.references = 1};
    server_buffer_take(server, &shared->bytes);
    return shared;
}

void shared_release(struct ipc_server *server, struct shared *shared)
{
    if (--shared->references > 0)
        return;
    server_buffer_give(server, &shared->bytes);
    free(shared);
}

static struct piece *pieces_of(const struct output *output, size_t *ret_count)
{
    *ret_count = output->pieces.size / sizeof(struct piece);
    return (struct piece *)(void *)output->pieces.data;
}

void output_share(struct ipc_server *server, struct output *output, struct shared *shared)
{
    const struct piece piece = {.at = output->bytes.size, .shared = shared};
    if (output->pieces.capacity == 0)
        server_buffer_take(server, &output->pieces);
    buffer_append(&output->pieces, &piece, sizeof piece);
    output->bytes.failed |= output->pieces.failed;
    if (output->pieces.failed)
        return;
    shared->references++;
    output->shared_size += shared->bytes.size;
}

size_t output_size(const struct output *output)
{
    return output->bytes.size + output->shared_size;
}

/* Add bytes to a vector, or pass over them as long as there is something to skip. */
static void add(uv_buf_t *vector, unsigned *count, char *data, size_t size, size_t *skip)
{
    const size_t passed = size < *skip ? size : *skip;
    *skip -= passed;
    if (size > passed)
        vector[(*count)++] = uv_buf_init(data + passed, (unsigned)(size - passed));
}

uv_buf_t *output_vector(struct ipc_server *server, const struct output *output, size_t skip, unsigned *ret_count)
{
    size_t pieces, at = 0;
    const struct piece *piece = pieces_of(output, &pieces);
    buffer_reset(&server->vector);
    uv_buf_t *vector = (uv_buf_t *)(void *)buffer_reserve(&server->vector, (2 * pieces + 1) * sizeof *vector);
    *ret_count = 0;
    if (!vector)
        return NULL;
    for (size_t i = 0; i < pieces; at = piece[i++].at) {
        add(vector, ret_count, output->bytes.data + at, piece[i].at - at, &skip);
        add(vector, ret_count, piece[i].shared->bytes.data, piece[i].shared->bytes.size, &skip);
    }
    add(vector, ret_count, output->bytes.data + at, output->bytes.size - at, &skip);
    return vector;
}

void output_release(struct ipc_server *server, struct output *output)
{
    size_t count;
    const struct piece *pieces = pieces_of(output, &count);
    for (size_t i = 0; i < count; i++)
        shared_release(server, pieces[i].shared);
    server_buffer_give(server, &output->bytes);
    server_buffer_give(server, &output->pieces);
    output->shared_size = 0;
}
