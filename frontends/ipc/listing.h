/* Lists, read in pieces so that neither the loop nor memory is held by a long one. */
#ifndef REEVE_IPC_LISTING_H
#define REEVE_IPC_LISTING_H

#include "frontends/ipc/server_private.h"

void listing_start(struct ipc_request *request, bool stream);
/* Go on with the first list of a connection, by one piece. */
void listing_step(struct ipc_connection *connection);
/* The client has read: lists that waited for that may go on. */
void listing_resume(struct ipc_connection *connection);
/* The client is gone. */
void listing_drop_all(struct ipc_connection *connection);

#endif
