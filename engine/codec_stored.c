/* The stored form. What is stored is written and read at every step of every service, so each record of records.def has
 * straight code of its own, made from its rows: nothing is looked up, and room is made once for a whole record. */
#include "base/pack.h"
#include "base/scan.h"
#include "base/unpack.h"
#include "codec_fields.h"

/* Tags are compared as variables, so that the rows without one (tag 0) compile to nothing, and silently. */
#define TAG(tag) const unsigned number = (tag)

/* ---- Which fields are not empty: a bit for each tag ---- */

#define RECORD(name)                                                                                                   \
    static inline uint64_t present_##name(const struct reeve_##name *record)                                           \
    {                                                                                                                  \
        uint64_t present = 0;
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    {                                                                                                                  \
        TAG(tag);                                                                                                      \
        if (number)                                                                                                    \
            present |= (uint64_t)HAS_##kind(sub, record->c_name) << number;                                            \
    }
#define RECORD_END(name)                                                                                               \
    return present;                                                                                                    \
    }
#include "records.def"

/* ---- Room: never too little ---- */

#define ROOM_TIME(sub, value) NUMBER_ROOM
#define ROOM_STAMP(sub, value) NUMBER_ROOM
#define ROOM_ENUM(sub, value) NUMBER_ROOM
#define ROOM_UUID(sub, value) (HEAD_ROOM + sizeof(struct reeve_uuid))

#define RECORD(name)                                                                                                   \
    static inline size_t room_##name(const struct reeve_##name *record)                                                \
    {                                                                                                                  \
        size_t room = HEAD_ROOM + NUMBER_ROOM;
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    {                                                                                                                  \
        TAG(tag);                                                                                                      \
        if (number)                                                                                                    \
            room += ROOM_##kind(sub, record->c_name);                                                                  \
    }
#define RECORD_END(name)                                                                                               \
    (void)record;                                                                                                      \
    return room;                                                                                                       \
    }                                                                                                                  \
    ROOM_OF_LIST(name)
#include "records.def"

/* ---- Out ---- */

#define PUT_BOOL(sub, at, value) put_true(at)
#define PUT_U64(sub, at, value) put_u64(at, value)
#define PUT_TIME(sub, at, value) put_u64(at, value)
#define PUT_STAMP(sub, at, value) put_u64(at, value)
#define PUT_ENUM(sub, at, value) put_u64(at, (uint64_t)(value))
#define PUT_UUID(sub, at, value) put_bin(at, &(value), sizeof(value))
#define PUT_STR(sub, at, value) put_str(at, (value).data, (value).size)
#define PUT_BIN(sub, at, value) put_bin(at, (value).data, (value).size)
#define PUT_OBJ(sub, at, value) put_##sub(at, &(value), 0)
#define PUT_LIST(sub, at, value) put_##sub##_list(at, &(value))

/* Version 0: a record inside another one, without a version of its own. A tag that no field has any more is nil. */
#define RECORD(name)                                                                                                   \
    static uint8_t *put_##name(uint8_t *at, const struct reeve_##name *record, unsigned version)                       \
    {                                                                                                                  \
        const uint64_t present = present_##name(record);                                                               \
        const unsigned last = present ? 63 - (unsigned)__builtin_clzll(present) : 0;                                   \
        unsigned next = 1;                                                                                             \
        at = put_array(at, last + (version ? 1 : 0));                                                                  \
        if (version)                                                                                                   \
            at = put_u64(at, version);
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    {                                                                                                                  \
        TAG(tag);                                                                                                      \
        if (number) {                                                                                                  \
            if (last < number)                                                                                         \
                return at;                                                                                             \
            for (; next < number; next++)                                                                              \
                at = put_nil(at);                                                                                      \
            next++;                                                                                                    \
            at = present >> number & 1 ? PUT_##kind(sub, at, record->c_name) : put_nil(at);                            \
        }                                                                                                              \
    }
#define RECORD_END(name)                                                                                               \
    (void)next;                                                                                                        \
    return at;                                                                                                         \
    }                                                                                                                  \
    PUT_OF_LIST(name)
#include "records.def"

/* ---- In ---- */

/* Numbers that are no word of an enum are damage. */
#define ENUM(type)                                                                                                     \
    static inline bool is_##type(uint64_t number)                                                                      \
    {                                                                                                                  \
        switch (number) {
#define VALUE(type, id, number, name) case number:
#define ENUM_END(type)                                                                                                 \
    return true;                                                                                                       \
    default:                                                                                                           \
        return false;                                                                                                  \
        }                                                                                                              \
        }
#include "enums.def"

static inline bool is_service_state(uint64_t number)
{
    switch (number) {
#define STATE(id, number, name, class) case number:
#include "lifecycle.def"
        return true;
    default:
        return false;
    }
}

static inline bool is_backup_state(uint64_t number)
{
    switch (number) {
#define BACKUP_STATE(id, number, name) case number:
#include "backup.def"
        return true;
    default:
        return false;
    }
}

/* Of a field that is no more. */
static bool skip_value(struct unpack *unpack)
{
    const size_t left = (size_t)(unpack->end - unpack->at);
    struct scan scan;
    scan_init(&scan, left);
    if (scan_step(&scan, unpack->at, left) != SCAN_COMPLETE)
        return false;
    unpack->at += scan.offset;
    return true;
}

static inline int done(bool loaded)
{
    return loaded ? 0 : -REEVE_ERROR_STORE_DAMAGED;
}

#define GET_BOOL(sub, target) done(unpack_bool(unpack, &(target)))
#define GET_U64(sub, target) done(unpack_u64(unpack, &(target)))
#define GET_TIME(sub, target) done(unpack_u64(unpack, &(target)))
#define GET_STAMP(sub, target) done(unpack_u64(unpack, &(target)))
#define GET_ENUM(sub, target)                                                                                          \
    done(unpack_u64(unpack, &word) && is_##sub(word) && (target = (enum reeve_##sub)word, true))
#define GET_UUID(sub, target) done(unpack_fixed(unpack, &(target), sizeof(target)))
#define GET_STR(sub, target) done(unpack_str(unpack, &(target)))
#define GET_BIN(sub, target) done(unpack_bin(unpack, &(target)))
#define GET_OBJ(sub, target) get_##sub(unpack, arena, &(target))
#define GET_LIST(sub, target) get_##sub##_list(unpack, arena, &(target))

/* So many values of the record are there; it was empty before. */
#define RECORD(name)                                                                                                   \
    static int get_values_##name(struct unpack *unpack, uint64_t count, struct arena *arena,                           \
                                 struct reeve_##name *record)                                                          \
    {                                                                                                                  \
        uint64_t next = 1, word;                                                                                       \
        int r;                                                                                                         \
        if (count > record_type_##name.tag_max)                                                                        \
            return -REEVE_ERROR_STORE_VERSION;
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    {                                                                                                                  \
        TAG(tag);                                                                                                      \
        if (number) {                                                                                                  \
            for (; next < number && next <= count; next++) {                                                           \
                if (!skip_value(unpack))                                                                               \
                    return -REEVE_ERROR_STORE_DAMAGED;                                                                 \
            }                                                                                                          \
            if (count < number)                                                                                        \
                return 0;                                                                                              \
            next++;                                                                                                    \
            if (!unpack_nil(unpack)) {                                                                                 \
                r = GET_##kind(sub, record->c_name);                                                                   \
                if (r < 0)                                                                                             \
                    return r;                                                                                          \
            }                                                                                                          \
        }                                                                                                              \
    }
#define RECORD_END(name)                                                                                               \
    (void)arena, (void)word, (void)r, (void)next, (void)record, (void)unpack;                                          \
    return 0;                                                                                                          \
    }                                                                                                                  \
    static inline int get_##name(struct unpack *unpack, struct arena *arena, struct reeve_##name *record)              \
    {                                                                                                                  \
        uint64_t count;                                                                                                \
        return unpack_array(unpack, &count) ? get_values_##name(unpack, count, arena, record)                          \
                                            : -REEVE_ERROR_STORE_DAMAGED;                                              \
    }                                                                                                                  \
    static inline int get_##name##_list(struct unpack *unpack, struct arena *arena, struct reeve_##name##_list *list)  \
    {                                                                                                                  \
        uint64_t count;                                                                                                \
        if (!unpack_array(unpack, &count))                                                                             \
            return -REEVE_ERROR_STORE_DAMAGED;                                                                         \
        struct reeve_##name *items = arena_zalloc(arena, (size_t)count * sizeof *items);                               \
        if (!items)                                                                                                    \
            return -REEVE_ERROR_NO_MEMORY;                                                                             \
        int r = 0;                                                                                                     \
        for (uint64_t i = 0; i < count && r == 0; i++)                                                                 \
            r = get_##name(unpack, arena, &items[i]);                                                                  \
        *list = (struct reeve_##name##_list){items, (size_t)count};                                                    \
        return r;                                                                                                      \
    }
#include "records.def"

/* ---- The forms ---- */

#define RECORD(name)                                                                                                   \
    static void encode_##name(const void *record, unsigned version, struct buffer *out)                                \
    {                                                                                                                  \
        uint8_t *room = (uint8_t *)buffer_reserve(out, room_##name(record));                                           \
        if (room)                                                                                                      \
            out->size += (size_t)(put_##name(room, record, version) - room);                                           \
    }                                                                                                                  \
    static int decode_##name(struct unpack *unpack, uint64_t count, struct arena *arena, void *ret_record)             \
    {                                                                                                                  \
        struct reeve_##name *record = ret_record;                                                                      \
        memset(record, 0, sizeof *record);                                                                             \
        return get_values_##name(unpack, count, arena, record);                                                        \
    }                                                                                                                  \
    const struct stored_form stored_form_##name = {encode_##name, decode_##name};
#include "records.def"

void codec_encode_stored(const struct record_type *type, const void *record, struct buffer *out)
{
    type->stored->encode(record, type->version, out);
}

int codec_decode_stored(const struct record_type *type, const void *data, size_t size, struct arena *arena,
                        void *ret_record)
{
    uint64_t count, version;
    if (size == 0)
        return -REEVE_ERROR_STORE_DAMAGED;
    struct unpack unpack = {data, (const uint8_t *)data + size};
    if (!unpack_array(&unpack, &count) || count == 0 || !unpack_u64(&unpack, &version))
        return -REEVE_ERROR_STORE_DAMAGED;
    if (version > type->version)
        return -REEVE_ERROR_STORE_VERSION;
    const int r = type->stored->decode(&unpack, count - 1, arena, ret_record);
    return r == 0 && unpack.at != unpack.end ? -REEVE_ERROR_STORE_DAMAGED : r;
}
