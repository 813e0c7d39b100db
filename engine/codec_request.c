/* Wire form, in: the parameters of a command from a map, each checked by its row. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "codec.h"

struct decoder {
    struct arena *arena;
    struct reeve_error *error;
    char path[sizeof((struct reeve_error *)0)->field];
};

__attribute__((format(printf, 2, 3))) static int refuse(struct decoder *decoder, const char *format, ...)
{
    *decoder->error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST};
    memcpy(decoder->error->field, decoder->path, sizeof decoder->path);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(decoder->error->message, sizeof decoder->error->message, format, arguments);
    va_end(arguments);
    return -REEVE_ERROR_BAD_REQUEST;
}

static int no_memory(struct decoder *decoder)
{
    *decoder->error = (struct reeve_error){.code = REEVE_ERROR_NO_MEMORY, .message = "out of memory"};
    return -REEVE_ERROR_NO_MEMORY;
}

/* What fits of it goes behind the path. */
static void path_append(struct decoder *decoder, const char *text, size_t size)
{
    const size_t before = strlen(decoder->path), room = sizeof decoder->path - 1 - before;
    const size_t fits = size < room ? size : room;
    if (fits > 0) /* an empty text may be nowhere */
        memcpy(decoder->path + before, text, fits);
    decoder->path[before + fits] = '\0';
}

/* Append to the path; returns its length before, for path_pop(). */
static size_t path_push(struct decoder *decoder, const char *separator, const char *name, size_t size)
{
    const size_t before = strlen(decoder->path);
    if (before)
        path_append(decoder, separator, strlen(separator));
    path_append(decoder, name, utf8_cut(name, size, 64));
    return before;
}

static size_t path_push_index(struct decoder *decoder, size_t index)
{
    const size_t before = strlen(decoder->path);
    snprintf(decoder->path + before, sizeof decoder->path - before, "[%zu]", index);
    return before;
}

static void path_pop(struct decoder *decoder, size_t before)
{
    decoder->path[before] = '\0';
}

/* "<number:32>", "<string:x>", "<null>": what was given, short. */
static const char *describe(const msgpack_object *value, char text[64])
{
    switch (value->type) {
    case MSGPACK_OBJECT_NIL:
        return "<null>";
    case MSGPACK_OBJECT_BOOLEAN:
        return value->via.boolean ? "<boolean:true>" : "<boolean:false>";
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        snprintf(text, 64, "<number:%llu>", (unsigned long long)value->via.u64);
        return text;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        snprintf(text, 64, "<number:%lld>", (long long)value->via.i64);
        return text;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        snprintf(text, 64, "<number:%g>", value->via.f64);
        return text;
    case MSGPACK_OBJECT_STR:
        if (!utf8_valid(value->via.str.ptr, value->via.str.size))
            return "<string>";
        snprintf(text, 64, "<string:%.*s>", (int)utf8_cut(value->via.str.ptr, value->via.str.size, 40),
                 value->via.str.ptr);
        return text;
    case MSGPACK_OBJECT_ARRAY:
        return "<array>";
    case MSGPACK_OBJECT_MAP:
        return "<object>";
    case MSGPACK_OBJECT_BIN:
        return "<binary>";
    case MSGPACK_OBJECT_EXT:
        return "<extension>";
    }
    return "<unknown>";
}

static int take_u64(struct decoder *decoder, const struct field *field, const msgpack_object *value, void *target)
{
    char text[64];
    uint64_t number = 0;
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        number = value->via.u64;
    } else if ((value->type == MSGPACK_OBJECT_FLOAT64 || value->type == MSGPACK_OBJECT_FLOAT32) &&
               value->via.f64 >= 0 && value->via.f64 < 9007199254740992.0 && floor(value->via.f64) == value->via.f64) {
        number = (uint64_t)value->via.f64; /* clients whose numbers are all floats send 24.0 */
    } else {
        return refuse(decoder, "must be a whole number from 0 on %s", describe(value, text));
    }
    if (field->max && (number < field->min || number > field->max))
        return refuse(decoder, "must be from %llu to %llu %s", (unsigned long long)field->min,
                      (unsigned long long)field->max, describe(value, text));
    if (number < field->min)
        return refuse(decoder, "must be at least %llu %s", (unsigned long long)field->min, describe(value, text));
    memcpy(target, &number, sizeof number);
    return 0;
}

static int take_str(struct decoder *decoder, const struct field *field, const msgpack_object *value,
                    struct reeve_str *target)
{
    char text[64];
    if (value->type != MSGPACK_OBJECT_STR)
        return refuse(decoder, "must be a string %s", describe(value, text));
    if (!utf8_valid(value->via.str.ptr, value->via.str.size))
        return refuse(decoder, "must be valid UTF-8 without control characters");
    const size_t length = utf8_length(value->via.str.ptr, value->via.str.size);
    const uint64_t length_max = field->max ? field->max : 1024;
    if (length < field->min || length > length_max)
        return refuse(decoder, "must have from %llu to %llu characters, has %zu", (unsigned long long)field->min,
                      (unsigned long long)length_max, length);
    *target = (struct reeve_str){value->via.str.ptr, value->via.str.size};
    return 0;
}

static int take_bin(struct decoder *decoder, const struct field *field, const msgpack_object *value,
                    struct reeve_str *target)
{
    char text[64];
    const uint64_t size_max = field->max ? field->max : 1024;
    if (value->type != MSGPACK_OBJECT_BIN)
        return refuse(decoder, "must be binary %s", describe(value, text));
    if (value->via.bin.size < field->min || value->via.bin.size > size_max)
        return refuse(decoder, "must have from %llu to %llu bytes, has %u", (unsigned long long)field->min,
                      (unsigned long long)size_max, value->via.bin.size);
    *target = (struct reeve_str){value->via.bin.ptr, value->via.bin.size};
    return 0;
}

static int take_word(struct decoder *decoder, const struct field *field, const msgpack_object *value,
                     unsigned *ret_number)
{
    unsigned number = 0;
    if (value->type == MSGPACK_OBJECT_STR)
        number = enum_parse(field->words, value->via.str.ptr, value->via.str.size);
    if (number == 0) {
        char text[64], allowed[128] = "";
        for (unsigned i = 0; i < field->words->count; i++) {
            const size_t used = strlen(allowed);
            snprintf(allowed + used, sizeof allowed - used, "%s'%s'", i ? ", " : "", field->words->values[i].name);
        }
        return refuse(decoder, "must be one of %s %s", allowed, describe(value, text));
    }
    *ret_number = number;
    return 0;
}

static int take_enum(struct decoder *decoder, const struct field *field, const msgpack_object *value, void *target)
{
    unsigned number;
    const int r = take_word(decoder, field, value, &number);
    if (r == 0)
        memcpy(target, &number, sizeof number);
    return r;
}

static int take_words(struct decoder *decoder, const struct field *field, const msgpack_object *value, void *target)
{
    char text[64];
    uint64_t mask = 0;
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return refuse(decoder, "must be a list %s", describe(value, text));
    if (value->via.array.size < field->min)
        return refuse(decoder, "must name at least %llu", (unsigned long long)field->min);
    for (size_t i = 0; i < value->via.array.size; i++) {
        unsigned number;
        const size_t before = path_push_index(decoder, i);
        const int r = take_word(decoder, field, &value->via.array.ptr[i], &number);
        if (r < 0)
            return r;
        if (mask >> number & 1)
            return refuse(decoder, "is named twice");
        mask |= UINT64_C(1) << number;
        path_pop(decoder, before);
    }
    memcpy(target, &mask, sizeof mask);
    return 0;
}

static int take_uuid(struct decoder *decoder, const msgpack_object *value, struct reeve_uuid *target)
{
    char text[64];
    if (value->type != MSGPACK_OBJECT_STR || !reeve_uuid_parse(value->via.str.ptr, value->via.str.size, target))
        return refuse(decoder, "must be a UUID %s", describe(value, text));
    if (reeve_uuid_is_nil(target))
        return refuse(decoder, "must not be the nil UUID");
    return 0;
}

static int take_time(struct decoder *decoder, const msgpack_object *value, void *target)
{
    char text[64];
    uint64_t ms;
    if (value->type != MSGPACK_OBJECT_STR || !codec_parse_time(value->via.str.ptr, value->via.str.size, &ms))
        return refuse(decoder, "must be a time like 2022-10-21T18:46:31Z %s", describe(value, text));
    memcpy(target, &ms, sizeof ms);
    return 0;
}

static int take_map(struct decoder *decoder, const struct record_type *type, const struct record_type *extra,
                    uint64_t extra_mask, const msgpack_object *map, enum codec_unknown unknown, void *record,
                    void *extra_record);

/* Records inside parameters (entries of an access list) have no `given`: what is absent is empty. */
static int take_list(struct decoder *decoder, const struct field *field, const msgpack_object *value,
                     enum codec_unknown unknown, void *target)
{
    char text[64];
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return refuse(decoder, "must be a list %s", describe(value, text));
    const size_t count = value->via.array.size;
    if (field->max && (count < field->min || count > field->max))
        return refuse(decoder, "must have from %llu to %llu entries, has %zu", (unsigned long long)field->min,
                      (unsigned long long)field->max, count);
    char *items = arena_zalloc(decoder->arena, count * field->record->size);
    if (!items)
        return no_memory(decoder);
    for (size_t i = 0; i < count; i++) {
        const size_t before = path_push_index(decoder, i);
        const int r = take_map(decoder, field->record, NULL, 0, &value->via.array.ptr[i], unknown,
                               items + i * field->record->size, NULL);
        if (r < 0)
            return r;
        path_pop(decoder, before);
    }
    memcpy(target, &(struct reeve_access_entry_list){(const void *)items, count},
           sizeof(struct reeve_access_entry_list));
    return 0;
}

static int take_value(struct decoder *decoder, const struct field *field, const msgpack_object *value,
                      enum codec_unknown unknown, void *record)
{
    char text[64];
    void *target = (char *)record + field->offset;
    switch (field->kind) {
    case FIELD_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN)
            return refuse(decoder, "must be true or false %s", describe(value, text));
        *(bool *)target = value->via.boolean;
        return 0;
    case FIELD_U64:
        return take_u64(decoder, field, value, target);
    case FIELD_TIME:
    case FIELD_STAMP:
        return take_time(decoder, value, target);
    case FIELD_UUID:
        return take_uuid(decoder, value, target);
    case FIELD_STR:
        return take_str(decoder, field, value, target);
    case FIELD_ENUM:
        return take_enum(decoder, field, value, target);
    case FIELD_WORDS:
        return take_words(decoder, field, value, target);
    case FIELD_OBJ:
        return take_map(decoder, field->record, NULL, 0, value, unknown, target, NULL);
    case FIELD_LIST:
        return take_list(decoder, field, value, unknown, target);
    case FIELD_BIN:
        return take_bin(decoder, field, value, target);
    }
    return refuse(decoder, "cannot be given");
}

static const struct field *find_field(const struct record_type *type, const char *name, size_t size)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (bytes_equal(type->fields[i].name, strlen(type->fields[i].name), name, size))
            return &type->fields[i];
    }
    return NULL;
}

static int refuse_unknown(struct decoder *decoder, const struct record_type *type)
{
    char allowed[200] = "";
    for (unsigned i = 0; i < type->count; i++) {
        const size_t used = strlen(allowed);
        snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "", type->fields[i].name);
    }
    return refuse(decoder, "is not known here; known are %s", allowed);
}

static int take_pair(struct decoder *decoder, const struct record_type *type, const struct field *field, unsigned index,
                     const msgpack_object *value, enum codec_unknown unknown, uint64_t *seen, void *record)
{
    if (*seen & UINT64_C(1) << index)
        return refuse(decoder, "is given twice");
    *seen |= UINT64_C(1) << index;
    uint64_t *masks = type->is_params ? record : NULL; /* given, null */
    if (value->type == MSGPACK_OBJECT_NIL) {
        if (field->use != USE_NULLABLE && masks)
            return refuse(decoder, "must not be null");
        if (masks)
            masks[1] |= UINT64_C(1) << field->tag;
        return 0;
    }
    if (masks)
        masks[0] |= UINT64_C(1) << field->tag;
    return take_value(decoder, field, value, unknown, record);
}

static int check_required(struct decoder *decoder, const struct record_type *type, uint64_t seen)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (type->fields[i].use == USE_REQUIRED && !(seen & UINT64_C(1) << i)) {
            path_push(decoder, ".", type->fields[i].name, strlen(type->fields[i].name));
            return refuse(decoder, "is required");
        }
    }
    return 0;
}

/* `extra` is a second set of fields (the meta parameters; those in extra_mask) that may stand in the same map. */
static int take_map(struct decoder *decoder, const struct record_type *type, const struct record_type *extra,
                    uint64_t extra_mask, const msgpack_object *map, enum codec_unknown unknown, void *record,
                    void *extra_record)
{
    char text[64];
    uint64_t seen = 0, extra_seen = 0;
    if (map && map->type != MSGPACK_OBJECT_NIL && map->type != MSGPACK_OBJECT_MAP)
        return refuse(decoder, "must be an object %s", describe(map, text));
    const size_t count = map && map->type == MSGPACK_OBJECT_MAP ? map->via.map.size : 0;
    for (size_t i = 0; i < count; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key, *value = &map->via.map.ptr[i].val;
        if (key->type != MSGPACK_OBJECT_STR || !utf8_valid(key->via.str.ptr, key->via.str.size))
            return refuse(decoder, "names of fields must be strings %s", describe(key, text));
        const size_t before = path_push(decoder, ".", key->via.str.ptr, key->via.str.size);
        const struct field *field = find_field(type, key->via.str.ptr, key->via.str.size);
        int r = 0;
        if (field) {
            r = take_pair(decoder, type, field, (unsigned)(field - type->fields), value, unknown, &seen, record);
        } else if (extra && (field = find_field(extra, key->via.str.ptr, key->via.str.size)) &&
                   extra_mask & UINT64_C(1) << field->tag) {
            r = take_pair(decoder, extra, field, (unsigned)(field - extra->fields), value, unknown, &extra_seen,
                          extra_record);
        } else if (unknown == CODEC_UNKNOWN_REFUSE) {
            r = refuse_unknown(decoder, type);
        }
        if (r < 0)
            return r;
        path_pop(decoder, before);
    }
    return check_required(decoder, type, seen);
}

int codec_decode_request(const struct command_type *command, const msgpack_object *map, enum codec_unknown unknown,
                         struct arena *arena, union reeve_params *ret_params, struct reeve_meta_params *ret_meta,
                         struct reeve_error *ret_error)
{
    struct decoder decoder = {.arena = arena, .error = ret_error};
    uint64_t meta_mask = 0;
    if (command->mode == REEVE_MODE_WRITE || command->mode == REEVE_MODE_CHANGE)
        meta_mask |= REEVE_GIVEN_META_IDEMPOTENCY_KEY;
    if (command->mode == REEVE_MODE_CHANGE)
        meta_mask |= REEVE_GIVEN_META_IF_GENERATION;
    memset(ret_params, 0, command->params->size);
    memset(ret_meta, 0, sizeof *ret_meta);
    return take_map(&decoder, command->params, &params_type_meta, meta_mask, map, unknown, ret_params, ret_meta);
}
