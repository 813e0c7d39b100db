/* Watches of a connection: a notification for each run of events, held back while the client does not read. */
#ifndef REEVE_IPC_WATCHING_H
#define REEVE_IPC_WATCHING_H

#include "frontends/ipc/server_private.h"

void watching_start(struct ipc_request *request);
void watching_stop(struct ipc_request *request);
/* The client has read: go on. */
void watching_resume(struct ipc_connection *connection);
void watching_stop_all(struct ipc_connection *connection);
/* Give back what is kept of the last runs. */
void watching_forget_all(struct ipc_server *server);

#endif
