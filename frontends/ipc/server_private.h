/* What server, connections and requests share. All of it belongs to the thread of the loop.
 *
 * Life of a connection: OPEN takes requests; DRAINING takes none any more, answers what is under way, then closes;
 * CLOSED waits for its handle and for requests that the engine still has, then is freed. A request is in no list: the
 * counts of its connection and of the server know of it.
 *
 * Output is gathered in `out` of each connection and leaves once per turn of the loop, in server_turn(). Events for
 * those that only watch leave in rounds: each of them gets one run, a few of them in each turn of the loop, and the
 * next round takes what has come meanwhile, as larger runs. So a thousand watchers do not keep an answer waiting.
 */
#ifndef REEVE_IPC_SERVER_PRIVATE_H
#define REEVE_IPC_SERVER_PRIVATE_H

#include <msgpack.h>
#include <uv.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/scan.h"
#include "frontends/common/link.h"
#include "frontends/ipc/method.h"
#include "frontends/ipc/output.h"
#include "frontends/ipc/peer.h"
#include "frontends/ipc/server.h"
#include "frontends/ipc/socket.h"

#define SERVER_READ_BYTES 262144
#define SERVER_SPARE_COUNT 16
#define SERVER_SPARE_BYTES_MAX 1048576
#define SERVER_SPARE_REQUESTS_MAX 8192
#define SERVER_ENCODED_COUNT 16

/* The events of one run, as one list, for all watches that want the same of it. */
struct encoded_run {
    struct shared *shared; /* NULL: none yet */
    struct reeve_uuid organization_id, service_id;
    uint64_t first, count;
};

struct ipc_server {
    struct reeve_engine *engine;
    struct reeve_client *client;
    struct ipc_limits limits;
    struct ipc_stats stats;
    struct method_table methods;
    struct peer_rules rules;
    const struct worker_source *workers; /* NULL: none */
    char *socket_path;
    struct socket_identity socket_identity;
    reeve_log_cb log;
    void *log_arg;
    operation_log_cb operation_log;
    void *operation_log_arg;

    uv_loop_t *loop;
    uv_pipe_t listener;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;         /* active while something is to be done without being told by the loop */
    uv_timer_t stall_timer; /* active while output waits for a client */
    uv_timer_t tell_timer;  /* active while watchers wait for their turn */
    uv_timer_t close_timer;
    unsigned handles_open;
    bool closing, client_closed, finished;
    void (*on_closed)(void *arg);
    void *on_closed_arg;

    struct link connections; /* all that are not freed */
    struct link dirty;       /* have output that has not been tried yet */
    struct link ready;       /* were blocked and may go on */
    struct link waiting;     /* are blocked because all clients together have too many requests */
    struct link telling;     /* only watch, and wait for their turn to be sent events */
    struct link told;        /* have had it in this round */
    struct link writing;     /* have output that the socket did not take */
    struct link listings;    /* have a list to go on with */

    uint64_t counted_ms, counted_requests; /* when requests were counted last, and how many had come */
    uint64_t told_ms;                      /* of this millisecond, those that only watch may have so many turns yet */
    unsigned turns_left, turns_max;

    unsigned connections_alive;
    uint64_t next_watch, next_worker;
    bool maintenance;    /* a snapshot or check is under way */
    bool accept_pending; /* there was no memory for a client that waits */
    uint64_t refusal_logged_ms;

    /* Memory that is used again. */
    msgpack_zone zone; /* of the message that is being decoded */
    struct ipc_request *spare_requests;
    unsigned spare_requests_count;
    struct buffer spare_buffers[SERVER_SPARE_COUNT];
    unsigned spare_buffers_count;
    struct buffer vector; /* of what is being written */
    struct encoded_run encoded[SERVER_ENCODED_COUNT];
    char read_bytes[SERVER_READ_BYTES];
};

enum connection_state {
    CONNECTION_OPEN,
    CONNECTION_DRAINING,
    CONNECTION_CLOSED,
};

struct ipc_connection {
    uv_pipe_t pipe;
    uv_write_t write;
    struct ipc_server *server;
    struct link in_server, in_dirty, in_told, in_ready, in_writing, in_listings;
    enum connection_state state;
    bool admitted, handle_closed, reading, eof;
    bool blocked; /* has input that may not be worked off yet */
    uint32_t requests;
    uint64_t commanded_ms; /* when it last gave a command; 0: never */

    struct buffer in; /* the start of a message, or what may not be worked off yet, from in_start on */
    size_t in_start;
    struct scan scan; /* of the message at in_start */

    struct output out, written; /* to be tried; with the socket */
    bool writing;
    size_t waiting_bytes; /* of `written`, when last looked at */
    uint64_t progress_ms; /* when that last became less */

    struct link watches;
    unsigned watches_count;
    struct link workers;
    unsigned workers_count;
    uint64_t leases_max;  /* of all its workers */
    struct link listings; /* of requests; the first one is at work */
    char actor[24];
};

/* What a list is at. */
struct listing {
    struct link link; /* in the connection */
    bool stream;
    bool working;   /* a thread of the pool reads it */
    bool full;      /* the answer has become as large as answers may be */
    bool cut;       /* this piece ended early, because of its size */
    bool left_over; /* there may be more items behind the last one */
    uint64_t left;  /* items still wanted */
    uint64_t count;
    uint64_t looked_at; /* records of this piece, wanted or not */
    size_t bytes_max;
    struct buffer items; /* encoded, not sent */
    uint32_t items_count;
    struct reeve_uuid last_id;
    uint64_t next_sequence;
    struct reeve_uuid organization_id, service_id; /* events: only of these */
    uv_work_t work;
    int work_r;
    struct reeve_error work_error;
};

struct ipc_request {
    struct reeve_request base;
    struct ipc_connection *connection;
    const struct method *method;
    uint32_t id;
    bool large;         /* the arena is not worth keeping */
    struct arena arena; /* the bytes of the message and what was decoded from them */
    struct listing listing;
    struct ipc_request *next_spare;
};

/* ---- server.c ---- */

__attribute__((format(printf, 3, 4))) void server_log(struct ipc_server *server, enum reeve_log_level level,
                                                      const char *format, ...);
/* The loop must come by again without waiting, if there is anything to do. */
void server_update_idle(struct ipc_server *server);
/* A connection has been freed. */
void server_connection_gone(struct ipc_server *server);
/* Output memory that another connection has given back; and giving it back. */
void server_buffer_take(struct ipc_server *server, struct buffer *buffer);
void server_buffer_give(struct ipc_server *server, struct buffer *buffer);

#endif
