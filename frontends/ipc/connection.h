/* One client: bytes in, messages out, and waiting where either side is ahead of the other. */
#ifndef REEVE_IPC_CONNECTION_H
#define REEVE_IPC_CONNECTION_H

#include "frontends/ipc/server_private.h"

/* Take a waiting client from the listener. */
void connection_accept(struct ipc_server *server);

/* The buffer to append whole messages to; it is sent at the end of this turn of the loop. */
struct buffer *connection_out(struct ipc_connection *connection);
/* The same for events: who only watches is sent them when it has its turn. */
struct buffer *connection_events_out(struct ipc_connection *connection);
/* Bytes that other connections get too, behind what was appended last. */
void connection_share(struct ipc_connection *connection, struct shared *shared);
/* Has it watches, and has given no commands lately, so that it is not waiting for what comes of them? */
bool connection_only_watches(const struct ipc_connection *connection);
/* Bytes the client has not taken yet. */
size_t connection_unread(const struct ipc_connection *connection);

/* A request is answered or dropped; the connection may be freed by this. */
void connection_request_done(struct ipc_connection *connection);

/* Work off input that was held back; try to send; look for clients that do not read. For server_turn() and timers. */
void connection_work(struct ipc_connection *connection);
void connection_flush(struct ipc_connection *connection);
void connection_check_stall(struct ipc_connection *connection);

/* Tell the client why and close once it has been told. */
void connection_fail(struct ipc_connection *connection, const struct reeve_error *error);
/* Take no requests any more and close when all is answered. */
void connection_drain(struct ipc_connection *connection);
/* Close at once. */
void connection_close(struct ipc_connection *connection);

#endif
