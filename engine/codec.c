#include "codec.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/pack.h"
#include "base/scan.h"
#include "base/unpack.h"

static const void *at(const void *record, const struct field *field)
{
    return (const char *)record + field->offset;
}

static uint64_t get_u64(const void *record, const struct field *field)
{
    uint64_t value;
    memcpy(&value, at(record, field), sizeof value);
    return value;
}

static unsigned get_enum(const void *record, const struct field *field)
{
    unsigned value;
    memcpy(&value, at(record, field), sizeof value);
    return value;
}

/* Every struct reeve_x_list has the same shape. */
struct any_list {
    const void *items;
    size_t count;
};

_Static_assert(sizeof(struct any_list) == sizeof(struct reeve_endpoint_list), "lists share one shape");
_Static_assert(sizeof(enum reeve_tier) == sizeof(unsigned), "enums are stored as unsigned");

static bool record_is_empty(const struct record_type *type, const void *record);

static inline bool is_empty(const struct field *field, const void *record)
{
    static const struct reeve_uuid nil;
    switch (field->kind) {
    case FIELD_BOOL:
        return !*(const bool *)at(record, field);
    case FIELD_U64:
    case FIELD_TIME:
    case FIELD_STAMP:
    case FIELD_WORDS:
        return get_u64(record, field) == 0;
    case FIELD_UUID:
        return memcmp(at(record, field), &nil, sizeof nil) == 0;
    case FIELD_STR:
    case FIELD_BIN:
        return ((const struct reeve_str *)at(record, field))->size == 0;
    case FIELD_ENUM:
        return get_enum(record, field) == 0;
    case FIELD_OBJ:
        return record_is_empty(field->record, at(record, field));
    case FIELD_LIST:
        return ((const struct any_list *)at(record, field))->count == 0;
    }
    return true;
}

static bool record_is_empty(const struct record_type *type, const void *record)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (!is_empty(&type->fields[i], record))
            return false;
    }
    return true;
}

bool codec_is_empty(const struct field *field, const void *record)
{
    return is_empty(field, record);
}

bool codec_given(const void *params, const struct field *field)
{
    uint64_t given;
    memcpy(&given, params, sizeof given);
    return (given & UINT64_C(1) << field->tag) || codec_null(params, field) || !codec_is_empty(field, params);
}

bool codec_null(const void *params, const struct field *field)
{
    uint64_t null;
    memcpy(&null, (const char *)params + sizeof(uint64_t), sizeof null);
    return null & UINT64_C(1) << field->tag;
}

/* ---- Stored form ---- */

static void store_array(const struct record_type *type, const void *record, unsigned version, struct buffer *out);

static void store_list(const struct field *field, const struct any_list *list, struct buffer *out)
{
    pack_array(out, list->count);
    for (size_t i = 0; i < list->count; i++)
        store_array(field->record, (const char *)list->items + i * field->record->size, 0, out);
}

static inline void store_value(const struct field *field, const void *record, struct buffer *out)
{
    const void *value = at(record, field);
    const struct reeve_str *text = value;
    switch (field->kind) {
    case FIELD_BOOL:
        pack_true(out);
        break;
    case FIELD_U64:
    case FIELD_TIME:
    case FIELD_STAMP:
    case FIELD_WORDS:
        pack_u64(out, get_u64(record, field));
        break;
    case FIELD_UUID:
        pack_bin(out, value, sizeof(struct reeve_uuid));
        break;
    case FIELD_STR:
        pack_str(out, text->data, text->size);
        break;
    case FIELD_BIN:
        pack_bin(out, text->data, text->size);
        break;
    case FIELD_ENUM:
        pack_u64(out, get_enum(record, field));
        break;
    case FIELD_OBJ:
        store_array(field->record, value, 0, out);
        break;
    case FIELD_LIST:
        store_list(field, value, out);
        break;
    }
}

/* Version 0: a record inside another one, without a version of its own. */
static void store_array(const struct record_type *type, const void *record, unsigned version, struct buffer *out)
{
    unsigned last = 0;
    uint64_t present = 0;
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (field->tag == 0 || is_empty(field, record))
            continue;
        last = field->tag;
        present |= UINT64_C(1) << i;
    }
    pack_array(out, last + (version ? 1 : 0));
    if (version)
        pack_u64(out, version);
    unsigned tag = 1;
    for (; present; present &= present - 1) {
        const struct field *field = &type->fields[__builtin_ctzll(present)];
        for (; tag < field->tag; tag++)
            pack_nil(out);
        store_value(field, record, out);
        tag++;
    }
}

void codec_encode_stored(const struct record_type *type, const void *record, struct buffer *out)
{
    store_array(type, record, type->version, out);
}

static int load_array(const struct record_type *type, struct unpack *unpack, uint64_t count, struct arena *arena,
                      void *ret_record);

static int load_record(const struct record_type *type, struct unpack *unpack, struct arena *arena, void *ret_record)
{
    uint64_t count;
    return unpack_array(unpack, &count) ? load_array(type, unpack, count, arena, ret_record)
                                        : -REEVE_ERROR_STORE_DAMAGED;
}

static int load_list(const struct field *field, struct unpack *unpack, struct arena *arena, struct any_list *ret)
{
    uint64_t count;
    if (!unpack_array(unpack, &count))
        return -REEVE_ERROR_STORE_DAMAGED;
    char *items = arena_zalloc(arena, (size_t)count * field->record->size);
    if (!items)
        return -REEVE_ERROR_NO_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        const int r = load_record(field->record, unpack, arena, items + i * field->record->size);
        if (r < 0)
            return r;
    }
    *ret = (struct any_list){items, (size_t)count};
    return 0;
}

static bool load_enum(const struct field *field, struct unpack *unpack, char *target)
{
    uint64_t value;
    if (!unpack_u64(unpack, &value) || value > UINT32_MAX || !enum_name(field->words, (unsigned)value))
        return false;
    const unsigned number = (unsigned)value;
    memcpy(target, &number, sizeof number);
    return true;
}

static bool load_uuid(struct unpack *unpack, char *target)
{
    struct reeve_str bytes;
    if (!unpack_bin(unpack, &bytes) || bytes.size != sizeof(struct reeve_uuid))
        return false;
    memcpy(target, bytes.data, sizeof(struct reeve_uuid));
    return true;
}

static int load_value(const struct field *field, struct unpack *unpack, struct arena *arena, void *record)
{
    char *target = (char *)record + field->offset;
    bool loaded = false;
    switch (field->kind) {
    case FIELD_BOOL:
        loaded = unpack_bool(unpack, (bool *)target);
        break;
    case FIELD_U64:
    case FIELD_TIME:
    case FIELD_STAMP:
    case FIELD_WORDS:
        loaded = unpack_u64(unpack, (uint64_t *)(void *)target);
        break;
    case FIELD_UUID:
        loaded = load_uuid(unpack, target);
        break;
    case FIELD_STR:
        loaded = unpack_str(unpack, (struct reeve_str *)(void *)target);
        break;
    case FIELD_BIN:
        loaded = unpack_bin(unpack, (struct reeve_str *)(void *)target);
        break;
    case FIELD_ENUM:
        loaded = load_enum(field, unpack, target);
        break;
    case FIELD_OBJ:
        return load_record(field->record, unpack, arena, target);
    case FIELD_LIST:
        return load_list(field, unpack, arena, (struct any_list *)(void *)target);
    }
    return loaded ? 0 : -REEVE_ERROR_STORE_DAMAGED;
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

/* Fields are in the order of their tags. */
static int load_array(const struct record_type *type, struct unpack *unpack, uint64_t count, struct arena *arena,
                      void *ret_record)
{
    if (count > type->tag_max)
        return -REEVE_ERROR_STORE_VERSION;
    const struct field *field = type->fields, *end = type->fields + type->count;
    for (uint64_t tag = 1; tag <= count; tag++) {
        while (field < end && field->tag < tag)
            field++;
        if (unpack_nil(unpack))
            continue;
        int r;
        if (field == end || field->tag != tag)
            r = skip_value(unpack) ? 0 : -REEVE_ERROR_STORE_DAMAGED;
        else
            r = load_value(field, unpack, arena, ret_record);
        if (r < 0)
            return r;
    }
    return 0;
}

int codec_decode_stored(const struct record_type *type, const void *data, size_t size, struct arena *arena,
                        void *ret_record)
{
    struct unpack unpack = {data, (const uint8_t *)data + size};
    uint64_t count, version;
    if (!unpack_array(&unpack, &count) || count == 0 || !unpack_u64(&unpack, &version))
        return -REEVE_ERROR_STORE_DAMAGED;
    if (version > type->version)
        return -REEVE_ERROR_STORE_VERSION;
    memset(ret_record, 0, type->size);
    const int r = load_array(type, &unpack, count - 1, arena, ret_record);
    return r == 0 && unpack.at != unpack.end ? -REEVE_ERROR_STORE_DAMAGED : r;
}

/* ---- Wire form, out ---- */

static bool is_shown(const struct field *field, const void *record)
{
    switch (field->use) {
    case USE_ALWAYS:
    case USE_SHOWN_ALWAYS:
        return true;
    case USE_SHOWN:
    case USE_BOTH:
        return !codec_is_empty(field, record);
    case USE_STORED:
    case USE_REQUIRED:
    case USE_OPTIONAL:
    case USE_NULLABLE:
        return false;
    }
    return false;
}

static void wire_text(msgpack_packer *packer, const char *text, size_t size)
{
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, text, size);
}

static void wire_words(const struct field *field, uint64_t mask, msgpack_packer *packer)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < field->words->count; i++)
        count += (mask & UINT64_C(1) << field->words->values[i].number) != 0;
    msgpack_pack_array(packer, count);
    for (unsigned i = 0; i < field->words->count; i++) {
        const struct enum_value *word = &field->words->values[i];
        if (mask >> word->number & 1)
            wire_text(packer, word->name, strlen(word->name));
    }
}

static void wire_value(const struct field *field, const void *record, msgpack_packer *packer)
{
    const void *value = at(record, field);
    char text[40];
    switch (field->kind) {
    case FIELD_BOOL:
        if (*(const bool *)value)
            msgpack_pack_true(packer);
        else
            msgpack_pack_false(packer);
        break;
    case FIELD_U64:
        msgpack_pack_uint64(packer, get_u64(record, field));
        break;
    case FIELD_TIME:
    case FIELD_STAMP:
        codec_format_time(get_u64(record, field), field->kind == FIELD_STAMP, text);
        wire_text(packer, text, strlen(text));
        break;
    case FIELD_UUID:
        reeve_uuid_format(value, text);
        wire_text(packer, text, 36);
        break;
    case FIELD_STR: {
        const struct reeve_str *string = value;
        wire_text(packer, string->data, string->size);
        break;
    }
    case FIELD_BIN: {
        const struct reeve_str *bytes = value;
        msgpack_pack_bin(packer, bytes->size);
        msgpack_pack_bin_body(packer, bytes->data, bytes->size);
        break;
    }
    case FIELD_ENUM: {
        const char *name = enum_name(field->words, get_enum(record, field));
        wire_text(packer, name ? name : "", name ? strlen(name) : 0);
        break;
    }
    case FIELD_WORDS:
        wire_words(field, get_u64(record, field), packer);
        break;
    case FIELD_OBJ:
        codec_encode_wire(field->record, value, packer);
        break;
    case FIELD_LIST: {
        const struct any_list *list = value;
        msgpack_pack_array(packer, list->count);
        for (size_t i = 0; i < list->count; i++)
            codec_encode_wire(field->record, (const char *)list->items + i * field->record->size, packer);
        break;
    }
    }
}

void codec_encode_wire_with(const struct record_type *type, const void *record, unsigned more, msgpack_packer *packer)
{
    uint64_t shown = 0;
    unsigned count = more;
    for (unsigned i = 0; i < type->count; i++) {
        if (is_shown(&type->fields[i], record)) {
            shown |= UINT64_C(1) << i;
            count++;
        }
    }
    msgpack_pack_map(packer, count);
    for (unsigned i = 0; i < type->count; i++) {
        if (!(shown & UINT64_C(1) << i))
            continue;
        wire_text(packer, type->fields[i].name, strlen(type->fields[i].name));
        wire_value(&type->fields[i], record, packer);
    }
}

void codec_encode_wire(const struct record_type *type, const void *record, msgpack_packer *packer)
{
    codec_encode_wire_with(type, record, 0, packer);
}

void codec_encode_params(const struct record_type *type, const void *params, msgpack_packer *packer)
{
    unsigned count = 0;
    for (unsigned i = 0; i < type->count; i++)
        count += codec_given(params, &type->fields[i]);
    msgpack_pack_map(packer, count);
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (!codec_given(params, field))
            continue;
        wire_text(packer, field->name, strlen(field->name));
        if (codec_null(params, field))
            msgpack_pack_nil(packer);
        else if (field->kind == FIELD_OBJ && field->record->is_params)
            codec_encode_params(field->record, at(params, field), packer);
        else
            wire_value(field, params, packer);
    }
}
