/* Between the files of the codec: is a field empty (zero, false or absent), as straight code for each kind, and for
 * each record of records.def as a whole. For macros over its rows: `sub` is the row's, `value` the field. */
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

#endif
