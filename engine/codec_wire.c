/* Records in the wire form. Every answer and every event that somebody is told is one, so each record of records.def
 * has straight code of its own, made from its rows: names are known, and room is made once for a whole record. */
#include "base/pack.h"
#include "base/uuid.h"
#include "codec_fields.h"

#define UUID_SIZE 36
#define TIME_SIZE_MAX 24

/* ---- Is a field shown? (by the row's `where`) ---- */

#define SHOWN_STORED(has) false
#define SHOWN_SHOWN(has) (has)
#define SHOWN_BOTH(has) (has)
#define SHOWN_ALWAYS(has) true
#define SHOWN_SHOWN_ALWAYS(has) true

/* ---- Room: never too little, also for the NUL behind a text that is formatted in its place ---- */

#define WORD_ROOM (HEAD_ROOM + 64)

#define ROOM_TIME(sub, value) (HEAD_ROOM + TIME_SIZE_MAX + 1)
#define ROOM_STAMP(sub, value) (HEAD_ROOM + TIME_SIZE_MAX + 1)
#define ROOM_ENUM(sub, value) WORD_ROOM
#define ROOM_UUID(sub, value) (HEAD_ROOM + UUID_SIZE + 1)

#define RECORD(name)                                                                                                   \
    static inline size_t room_##name(const struct reeve_##name *record)                                                \
    {                                                                                                                  \
        size_t room = HEAD_ROOM;
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    if (SHOWN_##where(true))                                                                                           \
        room += HEAD_ROOM + sizeof(name) + ROOM_##kind(sub, record->c_name);
#define RECORD_END(name)                                                                                               \
    (void)record;                                                                                                      \
    return room;                                                                                                       \
    }                                                                                                                  \
    ROOM_OF_LIST(name)
#include "records.def"

/* ---- Values ---- */

#define PUT_LITERAL(at, text) put_str(at, text, sizeof(text) - 1)

static inline uint8_t *put_bool(uint8_t *at, bool value)
{
    return value ? put_true(at) : put_false(at);
}

static uint8_t *put_id(uint8_t *at, const struct reeve_uuid *id)
{
    char text[UUID_SIZE + 1];
    reeve_uuid_format(id, text);
    return put_str(at, text, UUID_SIZE);
}

static uint8_t *put_time(uint8_t *at, uint64_t ms, bool milliseconds)
{
    char text[TIME_SIZE_MAX + 1];
    codec_format_time(ms, milliseconds, text);
    return put_str(at, text, strlen(text));
}

/* The word of an enum; nothing for a number that is none. */
#define WORDS_BEGIN(type)                                                                                              \
    static inline uint8_t *put_word_##type(uint8_t *at, enum reeve_##type value)                                       \
    {                                                                                                                  \
        switch ((unsigned)value) {
#define WORD(number, name)                                                                                             \
    case number: {                                                                                                     \
        _Static_assert(sizeof(name) < WORD_ROOM, "a word is longer than its room");                                    \
        return PUT_LITERAL(at, name);                                                                                  \
    }
#define WORDS_END                                                                                                      \
    default:                                                                                                           \
        return PUT_LITERAL(at, "");                                                                                    \
        }                                                                                                              \
        }

#define ENUM(type) WORDS_BEGIN(type)
#define VALUE(type, id, number, name) WORD(number, name)
#define ENUM_END(type) WORDS_END
#include "enums.def"

WORDS_BEGIN(service_state)
#define STATE(id, number, name, class) WORD(number, name)
#include "lifecycle.def"
WORDS_END

WORDS_BEGIN(backup_state)
#define BACKUP_STATE(id, number, name) WORD(number, name)
#include "backup.def"
WORDS_END

/* ---- Records ---- */

#define PUT_BOOL(sub, at, value) put_bool(at, value)
#define PUT_U64(sub, at, value) put_u64(at, value)
#define PUT_TIME(sub, at, value) put_time(at, value, false)
#define PUT_STAMP(sub, at, value) put_time(at, value, true)
#define PUT_ENUM(sub, at, value) put_word_##sub(at, value)
#define PUT_UUID(sub, at, value) put_id(at, &(value))
#define PUT_STR(sub, at, value) put_str(at, (value).data, (value).size)
#define PUT_BIN(sub, at, value) put_bin(at, (value).data, (value).size)
#define PUT_OBJ(sub, at, value) put_##sub(at, &(value), 0)
#define PUT_LIST(sub, at, value) put_##sub##_list(at, &(value))

#define RECORD(name)                                                                                                   \
    static inline uint64_t shown_##name(const struct reeve_##name *record)                                             \
    {                                                                                                                  \
        uint64_t shown = 0;                                                                                            \
        unsigned number = 0;
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    shown |= (uint64_t)(SHOWN_##where(HAS_##kind(sub, record->c_name))) << number++;
#define RECORD_END(name)                                                                                               \
    (void)record, (void)number;                                                                                        \
    return shown;                                                                                                      \
    }
#include "records.def"

#define RECORD(name)                                                                                                   \
    static uint8_t *put_##name(uint8_t *at, const struct reeve_##name *record, unsigned more)                          \
    {                                                                                                                  \
        const uint64_t shown = shown_##name(record);                                                                   \
        unsigned number = 0;                                                                                           \
        at = put_map(at, (unsigned)__builtin_popcountll(shown) + more);
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    if (SHOWN_##where(true) && shown >> number & 1) {                                                                  \
        at = PUT_LITERAL(at, name);                                                                                    \
        at = PUT_##kind(sub, at, record->c_name);                                                                      \
    }                                                                                                                  \
    number++;
#define RECORD_END(name)                                                                                               \
    (void)number;                                                                                                      \
    return at;                                                                                                         \
    }                                                                                                                  \
    PUT_OF_LIST(name)                                                                                                  \
    void codec_wire_##name(const void *record, unsigned more, struct buffer *out)                                      \
    {                                                                                                                  \
        uint8_t *room = (uint8_t *)buffer_reserve(out, room_##name(record));                                           \
        if (room)                                                                                                      \
            out->size += (size_t)(put_##name(room, record, more) - room);                                              \
    }
#include "records.def"
