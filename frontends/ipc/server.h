/* The IPC server: MessagePack-RPC on a UNIX stream socket, on the host's libuv loop.
 *
 * All of it happens on the thread of that loop. The methods are the rows of schemas/commands.def and schemas/local.def.
 * Nothing grows without bound: see limits.def.
 */
#ifndef REEVE_IPC_SERVER_H
#define REEVE_IPC_SERVER_H

#include <reeve.h>

#include "base/buffer.h"
#include "frontends/common/operation_log.h"
#include "frontends/common/worker.h"
#include "schema.h"

/* 0 means the default. */
struct ipc_limits {
#define IPC_LIMIT(c_name, flag, preset, min, max, unit, text) uint64_t c_name;
#include "limits.def"
};

struct ipc_stats {
#define IPC_COUNTER(c_name, name, kind, text) uint64_t c_name;
#include "counters.def"
};

/* The same as data for loops; offsets are into struct ipc_limits and struct ipc_stats. */
extern const struct option_type ipc_options[];
extern const unsigned ipc_options_count;
extern const struct counter_type ipc_counters[];
extern const unsigned ipc_counters_count;

/* May start as { 0 }. All of it is copied. */
struct ipc_server_options {
    const char *socket_path; /* required; what is left of a server that is gone is replaced */
    unsigned socket_mode;    /* 0: 0600 */
    /* Names or numbers; NULL: as the process has them. */
    const char *socket_owner;
    const char *socket_group;
    /* Who may connect: names or numbers, separated by commas or spaces. Both NULL: the user of this process and root.
     * A client passes when its user or one of its groups is listed. */
    const char *allowed_users;
    const char *allowed_groups;
    struct ipc_limits limits;
    const struct worker_source *workers; /* where clients find operations to do; NULL: others do them. Not copied. */
    reeve_log_cb log;                    /* NULL: no log */
    void *log_arg;
    operation_log_cb operation_log; /* NULL: nobody keeps such things */
    void *operation_log_arg;
};

struct uv_loop_s;
struct ipc_server;

/* Listen. On failure *ret_server is NULL and ret_error says why; the loop must then run once more for handles to
 * close. Ignores SIGPIPE for the process where it had no handler: a client that is gone must not end it. */
int ipc_server_open(const struct ipc_server_options *options, struct uv_loop_s *loop, struct reeve_engine *engine,
                    struct ipc_server **ret_server, struct reeve_error *ret_error);

/* Remove the socket, end watches, answer what is under way, disconnect everybody (after close_ms also those that do
 * not read), then call on_closed (may be NULL): the server is no more, and the engine may be closed. */
void ipc_server_close(struct ipc_server *server, void (*on_closed)(void *arg), void *arg);

/* Change what may change while running: limits. */
void ipc_server_reload(struct ipc_server *server, const struct ipc_limits *limits);

void ipc_server_get_stats(const struct ipc_server *server, struct ipc_stats *ret_stats);

#endif
