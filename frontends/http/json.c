#include "json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

/* ---- Out ---- */

void json_put_text(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

void json_put_format(struct buffer *out, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_put_text(out, text);
}

static bool is_special(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

static void put_escaped(struct buffer *out, unsigned char c)
{
    char text[8];
    if (c == '"' || c == '\\')
        snprintf(text, sizeof text, "\\%c", c);
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    json_put_text(out, text);
}

void json_put_string(struct buffer *out, const char *data, size_t size)
{
    size_t start = 0;
    buffer_append(out, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        if (!is_special((unsigned char)data[i]))
            continue;
        buffer_append(out, data + start, i - start);
        put_escaped(out, (unsigned char)data[i]);
        start = i + 1;
    }
    if (start < size)
        buffer_append(out, data + start, size - start);
    buffer_append(out, "\"", 1);
}

void json_put_u64(struct buffer *out, uint64_t number)
{
    char text[21];
    buffer_append(out, text, decimal_format(number, text));
}

void json_put_name(struct buffer *out, const char *name, bool first)
{
    const size_t size = strlen(name);
    char *room = buffer_reserve(out, size + 4);
    if (!room)
        return;
    char *at = room;
    if (!first)
        *at++ = ',';
    *at++ = '"';
    memcpy(at, name, size);
    at += size;
    *at++ = '"';
    *at++ = ':';
    out->size += (size_t)(at - room);
}

/* ---- In ---- */

static bool convert(const json_t *json, struct arena *arena, unsigned depth, struct json_converted *state,
                    msgpack_object *ret);

static msgpack_object text_object(const char *text, size_t size)
{
    msgpack_object object = {.type = MSGPACK_OBJECT_STR};
    object.via.str.ptr = text;
    object.via.str.size = (uint32_t)size;
    return object;
}

static bool convert_array(const json_t *json, struct arena *arena, unsigned depth, struct json_converted *state,
                          msgpack_object *ret)
{
    const size_t count = json_array_size(json);
    ret->type = MSGPACK_OBJECT_ARRAY;
    ret->via.array.size = (uint32_t)count;
    ret->via.array.ptr = arena_alloc(arena, (count + 1) * sizeof(msgpack_object));
    if (!ret->via.array.ptr)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!convert(json_array_get(json, i), arena, depth + 1, state, &ret->via.array.ptr[i]))
            return false;
    }
    return true;
}

static bool convert_object(const json_t *json, struct arena *arena, unsigned depth, struct json_converted *state,
                           msgpack_object *ret)
{
    json_t *object = (json_t *)(uintptr_t)json; /* iterators take no const, and change nothing */
    const size_t count = json_object_size(json);
    ret->type = MSGPACK_OBJECT_MAP;
    ret->via.map.size = 0;
    ret->via.map.ptr = arena_alloc(arena, (count + 1) * sizeof(msgpack_object_kv));
    if (!ret->via.map.ptr)
        return false;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        msgpack_object_kv *pair = &ret->via.map.ptr[ret->via.map.size++];
        const char *key = json_object_iter_key(at);
        pair->key = text_object(key, strlen(key));
        if (!convert(json_object_iter_value(at), arena, depth + 1, state, &pair->val))
            return false;
    }
    return true;
}

static bool convert(const json_t *json, struct arena *arena, unsigned depth, struct json_converted *state,
                    msgpack_object *ret)
{
    if (depth > JSON_DEPTH_MAX) {
        state->too_deep = true;
        return false;
    }
    *ret = (msgpack_object){.type = MSGPACK_OBJECT_NIL};
    switch (json_typeof(json)) {
    case JSON_NULL:
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        ret->type = MSGPACK_OBJECT_BOOLEAN;
        ret->via.boolean = json_is_true(json);
        return true;
    case JSON_INTEGER:
        ret->type = json_integer_value(json) < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER : MSGPACK_OBJECT_POSITIVE_INTEGER;
        ret->via.i64 = json_integer_value(json);
        return true;
    case JSON_REAL:
        ret->type = MSGPACK_OBJECT_FLOAT64;
        ret->via.f64 = json_real_value(json);
        return true;
    case JSON_STRING:
        *ret = text_object(json_string_value(json), json_string_length(json));
        return true;
    case JSON_ARRAY:
        return convert_array(json, arena, depth, state, ret);
    case JSON_OBJECT:
        return convert_object(json, arena, depth, state, ret);
    }
    return false;
}

bool json_convert(const struct json_t *json, struct arena *arena, struct json_converted *ret_converted)
{
    *ret_converted = (struct json_converted){0};
    return convert(json, arena, 0, ret_converted, &ret_converted->object);
}
