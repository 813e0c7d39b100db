/* Bytes that grow. Running out of memory sets `failed` and drops what follows: check once, at the end. */
#ifndef REEVE_BASE_BUFFER_H
#define REEVE_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data;
    size_t size, capacity;
    bool failed;
};

/* A zeroed struct is an empty buffer. */
void buffer_deinit(struct buffer *buffer);
void buffer_reset(struct buffer *buffer); /* keeps the memory */
void buffer_append(struct buffer *buffer, const void *data, size_t size);
/* Room for size more bytes; NULL when out of memory. The caller adds what it wrote to `size`. */
char *buffer_reserve(struct buffer *buffer, size_t size);
/* For msgpack_packer_init(): data is a struct buffer. Returns 0, or -1 when out of memory. */
int buffer_write(void *data, const char *bytes, size_t size);

#endif
