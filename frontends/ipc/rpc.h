/* The messages of MessagePack-RPC: request [0, id, method, params], response [1, id, error, result], notification
 * [2, method, params]. Used by both sides; knows nothing of sockets. */
#ifndef REEVE_IPC_RPC_H
#define REEVE_IPC_RPC_H

#include <msgpack.h>
#include <reeve.h>

#include "base/buffer.h"

#define RPC_PROTOCOL 1

enum rpc_kind {
    RPC_REQUEST = 0,
    RPC_RESPONSE = 1,
    RPC_NOTIFICATION = 2,
};

struct rpc_message {
    enum rpc_kind kind;
    uint32_t id;                  /* request, response */
    struct reeve_str method;      /* request, notification */
    const msgpack_object *params; /* request, notification: always an array */
    const msgpack_object *error;  /* response: NULL if it was nil */
    const msgpack_object *result; /* response */
};

/* Take a message apart; it borrows from `object`. Returns NULL, or what is wrong with it. */
const char *rpc_parse(const msgpack_object *object, struct rpc_message *ret_message);

/* The one map in the params of a message; *ret_map is NULL where there is none. False: there is something else. */
bool rpc_params_map(const msgpack_object *params, const msgpack_object **ret_map);

/* Start of a message; what is named must follow. */
void rpc_pack_request(msgpack_packer *packer, uint32_t id, const char *method); /* the params array */
void rpc_pack_result(msgpack_packer *packer, uint32_t id);                      /* the result */
void rpc_pack_notification(msgpack_packer *packer, const char *method);         /* one map */

/* Whole messages: the answer to a refused request, and the notification before a connection is closed. */
void rpc_pack_error(msgpack_packer *packer, uint32_t id, const struct reeve_error *error);
void rpc_pack_error_notification(msgpack_packer *packer, const struct reeve_error *error);

void rpc_pack_text(msgpack_packer *packer, const char *text);
void rpc_pack_uuid(msgpack_packer *packer, const struct reeve_uuid *uuid); /* nil for the nil UUID */
/* A pair of a map. */
void rpc_pack_pair_u64(msgpack_packer *packer, const char *key, uint64_t value);
void rpc_pack_pair_text(msgpack_packer *packer, const char *key, const char *value);

/* Fill an error; returns its negated code. */
__attribute__((format(printf, 4, 5))) int rpc_error_set(struct reeve_error *error, enum reeve_error_code code,
                                                        const char *field, const char *format, ...);

#endif
