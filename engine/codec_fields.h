/* Between the files of the codec: is a field empty (zero, false or absent), as straight code for each kind, and for
 * each record of records.def as a whole; and the room that both forms need. For macros over its rows: `sub` is the
 * row's, `value` the field. */
#ifndef REEVE_CODEC_FIELDS_H
#define REEVE_CODEC_FIELDS_H

#include <string.h>

#include "codec.h"

static inline bool has_id(const struct reeve_uuid *id)
{
    uint64_t halves[2];
    memcpy(halves, id, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

#define HAS_BOOL(sub, value) (value)
#define HAS_U64(sub, value) ((value) != 0)
#define HAS_TIME(sub, value) ((value) != 0)
#define HAS_STAMP(sub, value) ((value) != 0)
#define HAS_ENUM(sub, value) ((value) != 0)
#define HAS_UUID(sub, value) has_id(&(value))
#define HAS_STR(sub, value) ((value).size != 0)
#define HAS_BIN(sub, value) ((value).size != 0)
#define HAS_OBJ(sub, value) has_##sub(&(value))
#define HAS_LIST(sub, value) ((value).count != 0)

#define RECORD(name)                                                                                                   \
    static inline bool has_##name(const struct reeve_##name *record)                                                   \
    {
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    if (HAS_##kind(sub, record->c_name))                                                                               \
        return true;
#define RECORD_END(name)                                                                                               \
    return false;                                                                                                      \
    }
#include "records.def"

/* ---- Room for what is written: never too little ---- */

#define NUMBER_ROOM (1 + sizeof(uint64_t))
#define HEAD_ROOM (1 + sizeof(uint32_t)) /* of a text, bytes, an array, a map */

#define ROOM_U64(sub, value) NUMBER_ROOM
#define ROOM_BOOL(sub, value) 1
#define ROOM_STR(sub, value) (HEAD_ROOM + (value).size)
#define ROOM_BIN(sub, value) (HEAD_ROOM + (value).size)
#define ROOM_OBJ(sub, value) room_##sub(&(value))
#define ROOM_LIST(sub, value) room_##sub##_list(&(value))

/* For a list of records, where there is room_NAME() and put_NAME() for one. */
#define ROOM_OF_LIST(name)                                                                                             \
    static inline size_t room_##name##_list(const struct reeve_##name##_list *list)                                    \
    {                                                                                                                  \
        size_t room = HEAD_ROOM;                                                                                       \
        for (size_t i = 0; i < list->count; i++)                                                                       \
            room += room_##name(&list->items[i]);                                                                      \
        return room;                                                                                                   \
    }
#define PUT_OF_LIST(name)                                                                                              \
    static inline uint8_t *put_##name##_list(uint8_t *at, const struct reeve_##name##_list *list)                      \
    {                                                                                                                  \
        at = put_array(at, list->count);                                                                               \
        for (size_t i = 0; i < list->count; i++)                                                                       \
            at = put_##name(at, &list->items[i], 0);                                                                   \
        return at;                                                                                                     \
    }

#endif
