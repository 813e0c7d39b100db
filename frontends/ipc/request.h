/* One request: from the bytes of a message to its answer. */
#ifndef REEVE_IPC_REQUEST_H
#define REEVE_IPC_REQUEST_H

#include "frontends/ipc/server_private.h"

/* Work off one whole message. False: it was no RPC, and ret_error says why. */
bool request_receive(struct ipc_connection *connection, const char *data, size_t size, struct reeve_error *ret_error);

/* Answer with an error, and be done with the request. */
void request_refuse(struct ipc_request *request, const struct reeve_error *error);
/* Append the head of the answer; the result must follow, then request_finish(). NULL when the client is gone. */
struct buffer *request_answer(struct ipc_request *request);
/* Be done with a request that is answered, or whose client is gone. */
void request_finish(struct ipc_request *request);

/* For server_close(): free those that are kept for later use. */
void request_free_spare(struct ipc_server *server);

#endif
