/* The keys of the store's tables: big-endian, so that what is listed together lies together and in order. */
#ifndef REEVE_KEYS_H
#define REEVE_KEYS_H

#include "base/bytes.h"
#include "store.h"

/* What a due row is about. */
enum due_kind {
    DUE_SERVICE = 1,     /* organization ‖ service */
    DUE_BACKUP = 2,      /* service ‖ backup */
    DUE_KEY = 3,         /* organization ‖ key */
    DUE_IDEMPOTENCY = 4, /* organization ‖ hash */
};

static inline struct store_key key_uuid(const struct reeve_uuid *id)
{
    struct store_key key = {.size = 16};
    memcpy(key.bytes, id, 16);
    return key;
}

/* organization ‖ service, organization ‖ key, service ‖ backup, organization ‖ hash */
static inline struct store_key key_pair(const struct reeve_uuid *first, const struct reeve_uuid *second)
{
    struct store_key key = {.size = 32};
    memcpy(key.bytes, first, 16);
    memcpy(key.bytes + 16, second, 16);
    return key;
}

static inline struct store_key key_number(uint64_t number)
{
    struct store_key key = {.size = 8};
    put_be64(key.bytes, number);
    return key;
}

static inline struct store_key key_queue(const struct reeve_uuid *organization_id, uint64_t number)
{
    struct store_key key = {.size = 24};
    memcpy(key.bytes, organization_id, 16);
    put_be64(key.bytes + 16, number);
    return key;
}

static inline struct store_key key_due(uint64_t time_ms, enum due_kind kind, const struct reeve_uuid *first,
                                       const struct reeve_uuid *second)
{
    struct store_key key = {.size = 41};
    put_be64(key.bytes, time_ms);
    key.bytes[8] = (uint8_t)kind;
    memcpy(key.bytes + 9, first, 16);
    memcpy(key.bytes + 25, second, 16);
    return key;
}

static inline struct store_key key_text(const char *text)
{
    struct store_key key = {.size = strlen(text)};
    memcpy(key.bytes, text, key.size);
    return key;
}

/* The first key behind all that start with this one. An all-ones key has none behind it: its size becomes 0. */
static inline struct store_key key_after_prefix(struct store_key key)
{
    while (key.size > 0 && ++key.bytes[key.size - 1] == 0)
        key.size--;
    return key;
}

static inline struct reeve_uuid uuid_at(const uint8_t *bytes)
{
    struct reeve_uuid id;
    memcpy(&id, bytes, sizeof id);
    return id;
}

#endif
