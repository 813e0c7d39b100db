/* Clients that do operations: the methods worker.*, and the notifications that bring the work. */
#ifndef REEVE_IPC_WORKING_H
#define REEVE_IPC_WORKING_H

#include "frontends/ipc/server_private.h"

void working_start(struct ipc_request *request);    /* worker.subscribe */
void working_stop(struct ipc_request *request);     /* worker.unsubscribe */
void working_progress(struct ipc_request *request); /* worker.progress */
void working_finish(struct ipc_request *request);   /* worker.finish */

/* There is room for output again. */
void working_resume(struct ipc_connection *connection);
void working_stop_all(struct ipc_connection *connection);

#endif
