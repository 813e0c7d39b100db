#include "codec.h"

#include <stdio.h>
#include <string.h>

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

/* ---- Wire form, out ---- */

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

static void wire_value(const struct field *field, const void *record, struct buffer *out)
{
    const void *value = at(record, field);
    char text[40];
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    switch (field->kind) {
    case FIELD_BOOL:
        if (*(const bool *)value)
            msgpack_pack_true(&packer);
        else
            msgpack_pack_false(&packer);
        break;
    case FIELD_U64:
        msgpack_pack_uint64(&packer, get_u64(record, field));
        break;
    case FIELD_TIME:
    case FIELD_STAMP:
        codec_format_time(get_u64(record, field), field->kind == FIELD_STAMP, text);
        wire_text(&packer, text, strlen(text));
        break;
    case FIELD_UUID:
        reeve_uuid_format(value, text);
        wire_text(&packer, text, 36);
        break;
    case FIELD_STR: {
        const struct reeve_str *string = value;
        wire_text(&packer, string->data, string->size);
        break;
    }
    case FIELD_BIN: {
        const struct reeve_str *bytes = value;
        msgpack_pack_bin(&packer, bytes->size);
        msgpack_pack_bin_body(&packer, bytes->data, bytes->size);
        break;
    }
    case FIELD_ENUM: {
        const char *name = enum_name(field->words, get_enum(record, field));
        wire_text(&packer, name ? name : "", name ? strlen(name) : 0);
        break;
    }
    case FIELD_WORDS:
        wire_words(field, get_u64(record, field), &packer);
        break;
    case FIELD_OBJ:
        codec_encode_wire(field->record, value, out);
        break;
    case FIELD_LIST: {
        const struct any_list *list = value;
        msgpack_pack_array(&packer, list->count);
        for (size_t i = 0; i < list->count; i++)
            codec_encode_wire(field->record, (const char *)list->items + i * field->record->size, out);
        break;
    }
    }
}

void codec_encode_wire_with(const struct record_type *type, const void *record, unsigned more, struct buffer *out)
{
    type->wire(record, more, out);
}

void codec_encode_wire(const struct record_type *type, const void *record, struct buffer *out)
{
    codec_encode_wire_with(type, record, 0, out);
}

void codec_encode_params(const struct record_type *type, const void *params, struct buffer *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    unsigned count = 0;
    for (unsigned i = 0; i < type->count; i++)
        count += codec_given(params, &type->fields[i]);
    msgpack_pack_map(&packer, count);
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (!codec_given(params, field))
            continue;
        wire_text(&packer, field->name, strlen(field->name));
        if (codec_null(params, field))
            msgpack_pack_nil(&packer);
        else if (field->kind == FIELD_OBJ && field->record->is_params)
            codec_encode_params(field->record, at(params, field), out);
        else
            wire_value(field, params, out);
    }
}
