/* Keys by numbers, in their order and of several sizes; and numbers at random, the same in each run. */
#ifndef REEVE_TESTS_NUMBERED_KEYS_H
#define REEVE_TESTS_NUMBERED_KEYS_H

#include <string.h>

#include "tables.h"

#define KEYS 120

static uint64_t seed;

static inline uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

static inline struct store_key key_of(unsigned number)
{
    struct store_key key = {.size = 2 + number % 3};
    memset(key.bytes, 'x', sizeof key.bytes);
    key.bytes[0] = (uint8_t)(number >> 4);
    key.bytes[1] = (uint8_t)(number << 4);
    return key;
}

static inline unsigned number_of(const uint8_t *key)
{
    return (unsigned)key[0] << 4 | key[1] >> 4;
}

#endif
