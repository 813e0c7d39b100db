/* The client's side of the IPC: blocking, without a loop. One thread at a time.
 *
 * Functions return 0 or a negated number of enum reeve_error_code; ipc_client_error() then says more. UNAVAILABLE: the
 * server is not there or has closed the connection. A request that the server refuses is not a failure of these
 * functions: the message has `is_error` set and the error map as its body, see ipc_error_decode().
 */
#ifndef REEVE_IPC_CLIENT_H
#define REEVE_IPC_CLIENT_H

#include <msgpack.h>
#include <reeve.h>

struct ipc_client;

struct ipc_message {
    bool is_notification;    /* then `method` is set */
    uint32_t id;             /* of a response: as ipc_client_send() returned it */
    struct reeve_str method; /* "events", "list.items", "lagged", "error" */
    bool is_error;
    msgpack_object body; /* result, error map, or the map of a notification */
};

/* *ret is NULL on failure. */
int ipc_client_connect(const char *socket_path, struct ipc_client **ret, struct reeve_error *ret_error);
/* NULL is fine. What was sent and not flushed is dropped. */
void ipc_client_close(struct ipc_client *client);
int ipc_client_fd(const struct ipc_client *client);

/* `params` is one MessagePack map in bytes; size 0: none. The request is only buffered, so that many go out at once;
 * it leaves with ipc_client_flush(), or when ipc_client_receive() has to wait. */
int ipc_client_send(struct ipc_client *client, const char *method, const void *params, size_t size, uint32_t *ret_id);
/* Write all that is buffered. Answers that arrive meanwhile are read, so that neither side waits for the other. */
int ipc_client_flush(struct ipc_client *client);

/* Give the next message of any kind, in the order of arrival; flush where it has not arrived yet. It is valid until the
 * next receive or call. timeout_ms < 0: without limit. BUSY: nothing came in time. */
int ipc_client_receive(struct ipc_client *client, int timeout_ms, struct ipc_message *ret_message);

/* Send and wait for the answer to that; what else arrives meanwhile is kept for ipc_client_receive(). */
int ipc_client_call(struct ipc_client *client, const char *method, const void *params, size_t size,
                    struct ipc_message *ret_message);

/* What the last failure was. */
const struct reeve_error *ipc_client_error(const struct ipc_client *client);

/* Fill from the error map of a message. */
void ipc_error_decode(const msgpack_object *body, struct reeve_error *ret_error);

/* The value of a key in a map; NULL if there is none or `map` is no map. */
const msgpack_object *ipc_map_get(const msgpack_object *map, const char *key);

#endif
