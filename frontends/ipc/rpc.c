#include "rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *parse_call(const msgpack_object *items, struct rpc_message *message)
{
    if (items[0].type != MSGPACK_OBJECT_STR)
        return "the method must be a string";
    if (items[1].type != MSGPACK_OBJECT_ARRAY)
        return "the params must be an array";
    message->method = (struct reeve_str){items[0].via.str.ptr, items[0].via.str.size};
    message->params = &items[1];
    return NULL;
}

static bool parse_id(const msgpack_object *item, struct rpc_message *message)
{
    if (item->type != MSGPACK_OBJECT_POSITIVE_INTEGER || item->via.u64 > UINT32_MAX)
        return false;
    message->id = (uint32_t)item->via.u64;
    return true;
}

const char *rpc_parse(const msgpack_object *object, struct rpc_message *ret_message)
{
    if (object->type != MSGPACK_OBJECT_ARRAY || object->via.array.size < 3)
        return "a message must be an array of 3 or 4";
    const msgpack_object *items = object->via.array.ptr;
    const uint32_t count = object->via.array.size;
    if (items[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || items[0].via.u64 > RPC_NOTIFICATION)
        return "a message must start with 0 (request), 1 (response) or 2 (notification)";
    struct rpc_message message = {.kind = (enum rpc_kind)items[0].via.u64};
    const char *wrong = NULL;
    if (count != (message.kind == RPC_NOTIFICATION ? 3 : 4))
        return "requests and responses must have 4 elements, notifications 3";
    if (message.kind != RPC_NOTIFICATION && !parse_id(&items[1], &message))
        return "the message id must be an unsigned number of 32 bits";
    if (message.kind == RPC_RESPONSE) {
        message.error = items[2].type == MSGPACK_OBJECT_NIL ? NULL : &items[2];
        message.result = &items[3];
    } else {
        wrong = parse_call(items + count - 2, &message);
    }
    if (!wrong)
        *ret_message = message;
    return wrong;
}

bool rpc_params_map(const msgpack_object *params, const msgpack_object **ret_map)
{
    *ret_map = NULL;
    if (params->via.array.size == 0)
        return true;
    const msgpack_object *first = params->via.array.ptr;
    if (params->via.array.size > 1 || (first->type != MSGPACK_OBJECT_MAP && first->type != MSGPACK_OBJECT_NIL))
        return false;
    *ret_map = first->type == MSGPACK_OBJECT_MAP ? first : NULL;
    return true;
}

void rpc_pack_text(msgpack_packer *packer, const char *text)
{
    const size_t size = strlen(text);
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, text, size);
}

void rpc_pack_uuid(msgpack_packer *packer, const struct reeve_uuid *uuid)
{
    char text[37];
    if (reeve_uuid_is_nil(uuid)) {
        msgpack_pack_nil(packer);
        return;
    }
    reeve_uuid_format(uuid, text);
    rpc_pack_text(packer, text);
}

void rpc_pack_pair_u64(msgpack_packer *packer, const char *key, uint64_t value)
{
    rpc_pack_text(packer, key);
    msgpack_pack_uint64(packer, value);
}

void rpc_pack_pair_text(msgpack_packer *packer, const char *key, const char *value)
{
    rpc_pack_text(packer, key);
    rpc_pack_text(packer, value);
}

void rpc_pack_request(msgpack_packer *packer, uint32_t id, const char *method)
{
    msgpack_pack_array(packer, 4);
    msgpack_pack_uint8(packer, RPC_REQUEST);
    msgpack_pack_uint32(packer, id);
    rpc_pack_text(packer, method);
}

void rpc_pack_result(msgpack_packer *packer, uint32_t id)
{
    msgpack_pack_array(packer, 4);
    msgpack_pack_uint8(packer, RPC_RESPONSE);
    msgpack_pack_uint32(packer, id);
    msgpack_pack_nil(packer);
}

void rpc_pack_notification(msgpack_packer *packer, const char *method)
{
    msgpack_pack_array(packer, 3);
    msgpack_pack_uint8(packer, RPC_NOTIFICATION);
    rpc_pack_text(packer, method);
    msgpack_pack_array(packer, 1);
}

static void pack_details(msgpack_packer *packer, const struct reeve_error *error)
{
    if (error->code == REEVE_ERROR_LAGGED) {
        msgpack_pack_map(packer, 1);
        rpc_pack_pair_u64(packer, "resume", error->resume_sequence);
        return;
    }
    const char *state = reeve_service_state_name(error->state);
    if (error->code != REEVE_ERROR_CONFLICT || error->state == REEVE_SERVICE_STATE_NONE || !state) {
        msgpack_pack_map(packer, 0);
        return;
    }
    unsigned allowed = 0;
    while (reeve_allowed_name(error, allowed))
        allowed++;
    msgpack_pack_map(packer, 2);
    rpc_pack_pair_text(packer, "state", state);
    rpc_pack_text(packer, "allowed");
    msgpack_pack_array(packer, allowed);
    for (unsigned i = 0; i < allowed; i++)
        rpc_pack_text(packer, reeve_allowed_name(error, i));
}

static void pack_error_map(msgpack_packer *packer, const struct reeve_error *error)
{
    const char *name = reeve_error_name((int)error->code);
    msgpack_pack_map(packer, error->field[0] ? 5 : 4);
    rpc_pack_pair_text(packer, "code", name ? name : "INTERNAL");
    rpc_pack_pair_text(packer, "message", error->message[0] ? error->message : reeve_error_text((int)error->code));
    if (error->field[0])
        rpc_pack_pair_text(packer, "field", error->field);
    rpc_pack_text(packer, "retryable");
    if (reeve_error_retryable((int)error->code))
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
    rpc_pack_text(packer, "details");
    pack_details(packer, error);
}

void rpc_pack_error(msgpack_packer *packer, uint32_t id, const struct reeve_error *error)
{
    msgpack_pack_array(packer, 4);
    msgpack_pack_uint8(packer, RPC_RESPONSE);
    msgpack_pack_uint32(packer, id);
    pack_error_map(packer, error);
    msgpack_pack_nil(packer);
}

void rpc_pack_error_notification(msgpack_packer *packer, const struct reeve_error *error)
{
    rpc_pack_notification(packer, "error");
    pack_error_map(packer, error);
}

int rpc_error_set(struct reeve_error *error, enum reeve_error_code code, const char *field, const char *format, ...)
{
    *error = (struct reeve_error){.code = code};
    snprintf(error->field, sizeof error->field, "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return -(int)code;
}
