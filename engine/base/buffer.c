#include "buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_reset(struct buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
}

char *buffer_reserve(struct buffer *buffer, size_t size)
{
    if (buffer->failed)
        return NULL;
    if (!buffer->data || buffer->capacity - buffer->size < size) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity - buffer->size < size && capacity <= SIZE_MAX / 2)
            capacity *= 2;
        char *data = capacity - buffer->size < size ? NULL : realloc(buffer->data, capacity);
        if (!data) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    char *room = buffer_reserve(buffer, size);
    if (!room || size == 0)
        return;
    memcpy(room, data, size);
    buffer->size += size;
}

int buffer_write(void *data, const char *bytes, size_t size)
{
    struct buffer *buffer = data;
    if (buffer->failed || buffer->capacity - buffer->size < size) {
        buffer_append(buffer, bytes, size);
        return buffer->failed ? -1 : 0;
    }
    /* Most of what a packer writes is a byte or two. */
    char *room = buffer->data + buffer->size;
    if (size == 1)
        *room = *bytes;
    else if (size)
        memcpy(room, bytes, size);
    buffer->size += size;
    return 0;
}
