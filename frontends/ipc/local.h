/* The methods that the server answers by itself: hello, stats, operation.log, snapshot, check. */
#ifndef REEVE_IPC_LOCAL_H
#define REEVE_IPC_LOCAL_H

#include "frontends/ipc/server_private.h"

void local_hello(struct ipc_request *request);
void local_stats(struct ipc_request *request);
void local_operation_log(struct ipc_request *request);
/* These two block, so they run on a thread of libuv's pool, one at a time. */
void local_snapshot(struct ipc_request *request);
void local_check(struct ipc_request *request);

#endif
