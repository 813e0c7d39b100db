/* Writing MessagePack into a buffer, each value in its shortest form, as msgpack-c writes it: what the engine stores is
 * written and read so often that a call for each byte or two is what it costs. */
#ifndef REEVE_BASE_PACK_H
#define REEVE_BASE_PACK_H

#include <stdint.h>
#include <string.h>

#include "buffer.h"

/* Room for so many bytes at the end; NULL when out of memory. */
static inline uint8_t *pack_room(struct buffer *out, size_t size)
{
    if (!out->failed && out->capacity - out->size >= size)
        return (uint8_t *)out->data + out->size;
    return (uint8_t *)buffer_reserve(out, size);
}

static inline void pack_byte(struct buffer *out, uint8_t byte)
{
    uint8_t *room = pack_room(out, 1);
    if (!room)
        return;
    *room = byte;
    out->size++;
}

/* A head and a big-endian number of 2 to the power of `log` bytes. */
static inline void pack_headed(struct buffer *out, uint8_t head, unsigned log, uint64_t value)
{
    const size_t size = (size_t)1 << log;
    uint8_t *room = pack_room(out, 1 + size);
    if (!room)
        return;
    room[0] = head;
    for (size_t i = size; i > 0; i--, value >>= 8)
        room[i] = (uint8_t)value;
    out->size += 1 + size;
}

static inline unsigned pack_log_of(uint64_t value)
{
    return value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
}

static inline void pack_nil(struct buffer *out)
{
    pack_byte(out, 0xc0);
}

static inline void pack_true(struct buffer *out)
{
    pack_byte(out, 0xc3);
}

static inline void pack_u64(struct buffer *out, uint64_t value)
{
    const unsigned log = pack_log_of(value);
    if (value < 0x80)
        pack_byte(out, (uint8_t)value);
    else
        pack_headed(out, (uint8_t)(0xcc + log), log, value);
}

static inline void pack_array(struct buffer *out, uint64_t count)
{
    if (count < 16)
        pack_byte(out, (uint8_t)(0x90 | count));
    else if (count <= UINT16_MAX)
        pack_headed(out, 0xdc, 1, count);
    else
        pack_headed(out, 0xdd, 2, count);
}

static inline void pack_body(struct buffer *out, const void *bytes, size_t size)
{
    uint8_t *room = pack_room(out, size);
    if (!room || size == 0)
        return;
    memcpy(room, bytes, size);
    out->size += size;
}

static inline void pack_bin(struct buffer *out, const void *bytes, size_t size)
{
    const unsigned log = pack_log_of(size);
    pack_headed(out, (uint8_t)(0xc4 + log), log, size);
    pack_body(out, bytes, size);
}

static inline void pack_str(struct buffer *out, const char *text, size_t size)
{
    const unsigned log = pack_log_of(size);
    if (size < 32)
        pack_byte(out, (uint8_t)(0xa0 | size));
    else
        pack_headed(out, (uint8_t)(0xd9 + log), log, size);
    pack_body(out, text, size);
}

#endif
