/* Big-endian numbers in keys, so that bytes sort as numbers do; comparing and copying strings with a length. */
#ifndef REEVE_BASE_BYTES_H
#define REEVE_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void put_be64(uint8_t *bytes, uint64_t value)
{
    value = htobe64(value);
    memcpy(bytes, &value, sizeof value);
}

static inline uint64_t get_be64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return be64toh(value);
}

static inline bool bytes_equal(const char *a, size_t a_size, const char *b, size_t b_size)
{
    return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

/* Writes the digits of a number, and a NUL; returns how many. */
size_t decimal_format(uint64_t number, char ret_text[21]);

/* Is this well-formed UTF-8 (RFC 3629) without control characters? */
bool utf8_valid(const char *text, size_t size);
/* Characters in valid UTF-8. */
size_t utf8_length(const char *text, size_t size);
/* The largest length up to size_max that does not cut a character. */
size_t utf8_cut(const char *text, size_t size, size_t size_max);

#endif
