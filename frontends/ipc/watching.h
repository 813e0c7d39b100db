/* Watches of a connection: events gathered into notifications, held back while the client does not read. */
#ifndef REEVE_IPC_WATCHING_H
#define REEVE_IPC_WATCHING_H

#include "frontends/ipc/server_private.h"

void watching_start(struct ipc_request *request);
void watching_stop(struct ipc_request *request);
/* Append what has been gathered to the output. */
void watching_flush(struct ipc_connection *connection);
/* The client has read: go on. */
void watching_resume(struct ipc_connection *connection);
void watching_stop_all(struct ipc_connection *connection);

#endif
