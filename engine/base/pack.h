/* Writing MessagePack, each value in its shortest form, as msgpack-c writes it: records are written so often that a
 * call for each byte or two is what it costs. Whoever writes has made room; returned is where to write next. */
#ifndef REEVE_BASE_PACK_H
#define REEVE_BASE_PACK_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint8_t *put_nil(uint8_t *at)
{
    *at = 0xc0;
    return at + 1;
}

static inline uint8_t *put_false(uint8_t *at)
{
    *at = 0xc2;
    return at + 1;
}

static inline uint8_t *put_true(uint8_t *at)
{
    *at = 0xc3;
    return at + 1;
}

/* A head that tells a size, and a big-endian number of that size: the heads of 1, 2, 4 and 8 bytes follow one another.
 */
static inline uint8_t *put_number(uint8_t *at, uint8_t head_of_one, uint64_t value)
{
    if (value <= UINT8_MAX) {
        at[0] = head_of_one;
        at[1] = (uint8_t)value;
        return at + 2;
    }
    if (value <= UINT16_MAX) {
        const uint16_t two = htobe16((uint16_t)value);
        at[0] = (uint8_t)(head_of_one + 1);
        memcpy(at + 1, &two, sizeof two);
        return at + 1 + sizeof two;
    }
    if (value <= UINT32_MAX) {
        const uint32_t four = htobe32((uint32_t)value);
        at[0] = (uint8_t)(head_of_one + 2);
        memcpy(at + 1, &four, sizeof four);
        return at + 1 + sizeof four;
    }
    const uint64_t eight = htobe64(value);
    at[0] = (uint8_t)(head_of_one + 3);
    memcpy(at + 1, &eight, sizeof eight);
    return at + 1 + sizeof eight;
}

static inline uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    if (value >= 0x80)
        return put_number(at, 0xcc, value);
    *at = (uint8_t)value;
    return at + 1;
}

static inline uint8_t *put_array(uint8_t *at, uint64_t count)
{
    if (count <= UINT8_MAX && count >= 16) { /* there is no array whose count has one byte */
        at[0] = 0xdc;
        at[1] = 0;
        at[2] = (uint8_t)count;
        return at + 3;
    }
    if (count >= 16)
        return put_number(at, 0xdb, count);
    *at = (uint8_t)(0x90 | count);
    return at + 1;
}

static inline uint8_t *put_map(uint8_t *at, unsigned count)
{
    if (count >= 16) {
        const uint16_t two = htobe16((uint16_t)count);
        *at = 0xde;
        memcpy(at + 1, &two, sizeof two);
        return at + 3;
    }
    *at = (uint8_t)(0x80 | count);
    return at + 1;
}

static inline uint8_t *put_body(uint8_t *at, const void *bytes, size_t size)
{
    if (size)
        memcpy(at, bytes, size);
    return at + size;
}

static inline uint8_t *put_bin(uint8_t *at, const void *bytes, size_t size)
{
    return put_body(put_number(at, 0xc4, size), bytes, size);
}

static inline uint8_t *put_str(uint8_t *at, const char *text, size_t size)
{
    if (size >= 32)
        return put_body(put_number(at, 0xd9, size), text, size);
    *at = (uint8_t)(0xa0 | size);
    return put_body(at + 1, text, size);
}

#endif
