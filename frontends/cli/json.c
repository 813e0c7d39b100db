/* Between MessagePack, as it is sent, and JSON, as it is shown. */
#include <string.h>

#include "cli.h"

static json_t *from_map(const msgpack_object_map *map)
{
    json_t *object = json_object();
    for (uint32_t i = 0; i < map->size; i++) {
        char key[128];
        const msgpack_object *name = &map->ptr[i].key;
        if (name->type != MSGPACK_OBJECT_STR || name->via.str.size >= sizeof key)
            continue;
        memcpy(key, name->via.str.ptr, name->via.str.size);
        key[name->via.str.size] = '\0';
        json_object_set_new(object, key, json_from_msgpack(&map->ptr[i].val));
    }
    return object;
}

json_t *json_from_msgpack(const msgpack_object *object)
{
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        return json_null();
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(object->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return json_integer((json_int_t)object->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer((json_int_t)object->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return json_real(object->via.f64);
    case MSGPACK_OBJECT_STR:
        return json_stringn(object->via.str.ptr, object->via.str.size);
    case MSGPACK_OBJECT_ARRAY: {
        json_t *array = json_array();
        for (uint32_t i = 0; i < object->via.array.size; i++)
            json_array_append_new(array, json_from_msgpack(&object->via.array.ptr[i]));
        return array;
    }
    case MSGPACK_OBJECT_MAP:
        return from_map(&object->via.map);
    case MSGPACK_OBJECT_BIN:
    case MSGPACK_OBJECT_EXT:
        break;
    }
    return json_null();
}

static void pack_text(msgpack_packer *packer, const char *text, size_t size)
{
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, text, size);
}

static void to_map(const json_t *json, msgpack_packer *packer)
{
    msgpack_pack_map(packer, json_object_size(json));
    /* jansson's iterators take no const, and change nothing. */
    json_t *object = (json_t *)(uintptr_t)json;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        pack_text(packer, key, strlen(key));
        json_to_msgpack(json_object_iter_value(at), packer);
    }
}

void json_to_msgpack(const json_t *json, msgpack_packer *packer)
{
    switch (json_typeof(json)) {
    case JSON_NULL:
        msgpack_pack_nil(packer);
        break;
    case JSON_TRUE:
        msgpack_pack_true(packer);
        break;
    case JSON_FALSE:
        msgpack_pack_false(packer);
        break;
    case JSON_INTEGER:
        msgpack_pack_int64(packer, json_integer_value(json));
        break;
    case JSON_REAL:
        msgpack_pack_double(packer, json_real_value(json));
        break;
    case JSON_STRING:
        pack_text(packer, json_string_value(json), json_string_length(json));
        break;
    case JSON_ARRAY:
        msgpack_pack_array(packer, json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++)
            json_to_msgpack(json_array_get(json, i), packer);
        break;
    case JSON_OBJECT:
        to_map(json, packer);
        break;
    }
}
