#include "server_private.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "frontends/ipc/connection.h"
#include "frontends/ipc/listing.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"
#include "frontends/ipc/watching.h"

/* Rounds of work in one turn of the loop before others get theirs. */
#define SERVER_ROUNDS_MAX 4
/* File descriptors that are left for everything but clients. */
#define SERVER_FDS_RESERVED 64
#define SERVER_REFUSAL_LOG_MS 1000
#define SERVER_ZONE_BYTES 8192
/* What is written in one turn of the loop to those that only watch; a write counts like so many bytes, too. */
#define SERVER_TELL_BYTES 131072
#define SERVER_WRITE_BYTES 16384
/* So many of these turns in a millisecond in which no request comes, and in one in which many do; it is counted how
 * many come in a period. */
#define SERVER_TELL_TURNS_MAX 32
#define SERVER_TELL_TURNS_MIN 4
#define SERVER_TELL_PERIOD_MS 16

const struct option_type ipc_options[] = {
#define IPC_LIMIT(c_name, flag, preset, min, max, unit, text)                                                          \
    {flag, offsetof(struct ipc_limits, c_name), preset, min, max, unit, text},
#include "limits.def"
};
const unsigned ipc_options_count = sizeof ipc_options / sizeof ipc_options[0];

#define KIND_COUNTER false
#define KIND_GAUGE true
const struct counter_type ipc_counters[] = {
#define IPC_COUNTER(c_name, name, kind, text) {name, offsetof(struct ipc_stats, c_name), KIND_##kind, text},
#include "counters.def"
};
const unsigned ipc_counters_count = sizeof ipc_counters / sizeof ipc_counters[0];

void server_log(struct ipc_server *server, enum reeve_log_level level, const char *format, ...)
{
    if (!server->log)
        return;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    server->log(server->log_arg, level, line);
}

/* ---- Memory of output ---- */

void server_buffer_take(struct ipc_server *server, struct buffer *buffer)
{
    if (server->spare_buffers_count > 0)
        *buffer = server->spare_buffers[--server->spare_buffers_count];
}

void server_buffer_give(struct ipc_server *server, struct buffer *buffer)
{
    if (buffer->capacity == 0 || buffer->capacity > SERVER_SPARE_BYTES_MAX ||
        server->spare_buffers_count == SERVER_SPARE_COUNT) {
        buffer_deinit(buffer);
        return;
    }
    buffer_reset(buffer);
    server->spare_buffers[server->spare_buffers_count++] = *buffer;
    *buffer = (struct buffer){0};
}

/* ---- One turn of the loop ---- */

static bool work_waits(const struct ipc_server *server)
{
    return link_used(&server->ready) || link_used(&server->dirty);
}

static void work_off_ready(struct ipc_server *server)
{
    while (link_used(&server->waiting) && server->stats.requests_now < server->limits.requests_max)
        link_append(&server->ready, server->waiting.next);
    while (link_used(&server->ready)) {
        struct ipc_connection *connection = link_owner(server->ready.next, struct ipc_connection, in_ready);
        link_remove(&connection->in_ready);
        connection_work(connection);
    }
}

/* Those that get new output meanwhile have their turn in the next round. */
static void flush_dirty(struct ipc_server *server)
{
    struct link now;
    link_init(&now);
    while (link_used(&server->dirty))
        link_append(&now, server->dirty.next);
    while (link_used(&now)) {
        struct ipc_connection *connection = link_owner(now.next, struct ipc_connection, in_dirty);
        link_remove(&connection->in_dirty);
        connection_flush(connection);
    }
}

static void on_tell_timer(uv_timer_t *timer)
{
    (void)timer; /* the turn follows */
}

/* How many turns of this millisecond may those have that only watch? Requests go before them: the more, the fewer. */
static void share_turns(struct ipc_server *server)
{
    const uint64_t now = uv_now(server->loop), passed = now - server->counted_ms;
    if (server->told_ms != now)
        server->turns_left = server->turns_max;
    server->told_ms = now;
    if (passed < SERVER_TELL_PERIOD_MS)
        return;
    const uint64_t requests = server->stats.requests - server->counted_requests;
    const uint64_t turns = SERVER_TELL_TURNS_MAX * passed / (passed + requests);
    server->turns_max = turns > SERVER_TELL_TURNS_MIN ? (unsigned)turns : SERVER_TELL_TURNS_MIN;
    server->counted_requests = server->stats.requests;
    server->counted_ms = now;
}

/* Some of those that only watch; the next round begins when all have had their turn. */
static void tell_watchers(struct ipc_server *server)
{
    share_turns(server);
    size_t left = server->turns_left ? SERVER_TELL_BYTES : 0;
    server->turns_left -= server->turns_left && link_used(&server->telling);
    while (link_used(&server->telling) && left > 0) {
        struct ipc_connection *connection = link_owner(server->telling.next, struct ipc_connection, in_dirty);
        const size_t size = SERVER_WRITE_BYTES + output_size(&connection->out);
        link_remove(&connection->in_dirty);
        connection_flush(connection);
        left -= size < left ? size : left;
    }
    while (!link_used(&server->telling) && link_used(&server->told)) {
        struct ipc_connection *connection = link_owner(server->told.next, struct ipc_connection, in_told);
        link_remove(&connection->in_told);
        watching_resume(connection);
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct ipc_server *server = idle->data;
    if (!link_used(&server->listings))
        return;
    struct ipc_connection *connection = link_owner(server->listings.next, struct ipc_connection, in_listings);
    link_remove(&connection->in_listings);
    if (link_used(&connection->listings))
        listing_step(connection);
}

static void on_stall_timer(uv_timer_t *timer)
{
    struct ipc_server *server = timer->data;
    struct link *next;
    for (struct link *link = server->writing.next; link != &server->writing; link = next) {
        next = link->next;
        connection_check_stall(link_owner(link, struct ipc_connection, in_writing));
    }
}

static uint64_t stall_period(const struct ipc_server *server)
{
    const uint64_t period = server->limits.stall_ms / 4;
    return period < 20 ? 20 : period > 1000 ? 1000 : period;
}

/* Idle handle and timers run only while there is a reason. */
void server_update_idle(struct ipc_server *server)
{
    const bool telling = !server->finished && (link_used(&server->telling) || link_used(&server->told));
    const bool busy = !server->finished &&
                      (link_used(&server->listings) || work_waits(server) || (telling && server->turns_left));
    const bool stalled = !server->finished && link_used(&server->writing);
    if (busy && !uv_is_active((uv_handle_t *)&server->idle))
        uv_idle_start(&server->idle, on_idle);
    else if (!busy)
        uv_idle_stop(&server->idle);
    if (stalled && !uv_is_active((uv_handle_t *)&server->stall_timer))
        uv_timer_start(&server->stall_timer, on_stall_timer, stall_period(server), stall_period(server));
    else if (!stalled)
        uv_timer_stop(&server->stall_timer);
    if (telling && !busy)
        uv_timer_start(&server->tell_timer, on_tell_timer, 1, 0);
}

static void server_turn(struct ipc_server *server)
{
    if (server->accept_pending && !server->closing)
        connection_accept(server);
    for (unsigned round = 0; round < SERVER_ROUNDS_MAX && (round == 0 || work_waits(server)); round++) {
        work_off_ready(server);
        flush_dirty(server);
    }
    server_update_idle(server);
}

/* After input and completions: the answers of this turn. */
static void on_check(uv_check_t *check)
{
    struct ipc_server *server = check->data;
    server_turn(server);
    tell_watchers(server);
    server_update_idle(server);
}

/* Before the loop waits: what timers and closing handles have brought. */
static void on_prepare(uv_prepare_t *prepare)
{
    server_turn(prepare->data);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct ipc_server *server = listener->data;
    if (status == 0) {
        connection_accept(server);
        return;
    }
    /* Out of file descriptors: libuv has closed the client by means of one it keeps for that. */
    server->stats.refused++;
    const uint64_t now = uv_now(server->loop);
    if (server->refusal_logged_ms && now - server->refusal_logged_ms < SERVER_REFUSAL_LOG_MS)
        return;
    server->refusal_logged_ms = now;
    server_log(server, REEVE_LOG_ERROR, "ipc: cannot accept clients: %s", uv_strerror(status));
}

/* ---- Closing ---- */

static void server_free(struct ipc_server *server)
{
    request_free_spare(server);
    watching_forget_all(server);
    buffer_deinit(&server->vector);
    while (server->spare_buffers_count > 0)
        buffer_deinit(&server->spare_buffers[--server->spare_buffers_count]);
    msgpack_zone_destroy(&server->zone);
    free(server->socket_path);
    free(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct ipc_server *server = handle->data;
    if (--server->handles_open > 0)
        return;
    void (*on_closed)(void *) = server->on_closed;
    void *arg = server->on_closed_arg;
    server_free(server);
    if (on_closed)
        on_closed(arg);
}

static void on_client_closed(void *arg)
{
    struct ipc_server *server = arg;
    server->finished = true;
    uv_close((uv_handle_t *)&server->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&server->check, on_handle_closed);
    uv_close((uv_handle_t *)&server->idle, on_handle_closed);
    uv_close((uv_handle_t *)&server->stall_timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->tell_timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->close_timer, on_handle_closed);
}

static void close_client_if_empty(struct ipc_server *server)
{
    if (!server->closing || server->client_closed || server->connections_alive > 0)
        return;
    server->client_closed = true;
    reeve_client_close(server->client, on_client_closed, server);
}

void server_connection_gone(struct ipc_server *server)
{
    server->connections_alive--;
    close_client_if_empty(server);
}

static void on_close_timer(uv_timer_t *timer)
{
    struct ipc_server *server = timer->data;
    struct link *next;
    for (struct link *link = server->connections.next; link != &server->connections; link = next) {
        next = link->next;
        connection_close(link_owner(link, struct ipc_connection, in_server));
    }
}

void ipc_server_close(struct ipc_server *server, void (*on_closed)(void *arg), void *arg)
{
    server->closing = true;
    server->on_closed = on_closed;
    server->on_closed_arg = arg;
    socket_remove(server->socket_path, &server->socket_identity);
    uv_close((uv_handle_t *)&server->listener, on_handle_closed);
    for (struct link *link = server->connections.next; link != &server->connections; link = link->next)
        connection_drain(link_owner(link, struct ipc_connection, in_server));
    uv_timer_start(&server->close_timer, on_close_timer, server->limits.close_ms, 0);
    close_client_if_empty(server);
}

/* ---- Opening ---- */

static int set_limits(const struct ipc_limits *wanted, struct ipc_limits *ret_limits, struct reeve_error *ret_error)
{
    struct ipc_limits limits = *wanted;
    for (unsigned i = 0; i < ipc_options_count; i++) {
        const struct option_type *option = &ipc_options[i];
        uint64_t value;
        memcpy(&value, (const char *)&limits + option->offset, sizeof value);
        if (value == 0)
            value = option->preset;
        if (value < option->min || value > option->max)
            return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, option->name,
                                 "must be from %llu to %llu %s, is %llu", (unsigned long long)option->min,
                                 (unsigned long long)option->max, option->unit, (unsigned long long)value);
        memcpy((char *)&limits + option->offset, &value, sizeof value);
    }
    if (limits.output_bytes_max < 2 * limits.output_pause_bytes)
        limits.output_bytes_max = 2 * limits.output_pause_bytes;
    *ret_limits = limits;
    return 0;
}

/* More clients than file descriptors would be cut off without a word: refuse those with an error instead. */
static void fit_descriptors(struct ipc_server *server)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
        return;
    const uint64_t reserved = SERVER_FDS_RESERVED;
    const uint64_t most = files.rlim_cur > 2 * reserved ? files.rlim_cur - reserved : files.rlim_cur / 2;
    if (server->limits.connections_max <= most)
        return;
    server_log(server, REEVE_LOG_WARNING,
               "ipc: at most %llu clients, not %llu, because the process may have only %llu open files (ulimit -n)",
               (unsigned long long)most, (unsigned long long)server->limits.connections_max,
               (unsigned long long)files.rlim_cur);
    server->limits.connections_max = most;
}

static void ignore_sigpipe(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) < 0 || action.sa_handler != SIG_DFL)
        return;
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

static void init_lists(struct ipc_server *server)
{
    link_init(&server->connections);
    link_init(&server->dirty);
    link_init(&server->ready);
    link_init(&server->waiting);
    link_init(&server->telling);
    link_init(&server->told);
    link_init(&server->writing);
    link_init(&server->listings);
}

/* The handles whose start cannot fail. */
static void init_handles(struct ipc_server *server)
{
    uv_pipe_init(server->loop, &server->listener, 0);
    uv_prepare_init(server->loop, &server->prepare);
    uv_check_init(server->loop, &server->check);
    uv_idle_init(server->loop, &server->idle);
    uv_timer_init(server->loop, &server->stall_timer);
    uv_timer_init(server->loop, &server->tell_timer);
    uv_timer_init(server->loop, &server->close_timer);
    server->listener.data = server->prepare.data = server->check.data = server->idle.data = server;
    server->stall_timer.data = server->tell_timer.data = server->close_timer.data = server;
    server->handles_open = 7;
    uv_prepare_start(&server->prepare, on_prepare);
    uv_check_start(&server->check, on_check);
}

static int start_listening(struct ipc_server *server, const struct ipc_server_options *options,
                           struct reeve_error *ret_error)
{
    const struct socket_options socket = {
        .path = server->socket_path,
        .mode = options->socket_mode ? options->socket_mode : 0600,
        .owner = options->socket_owner,
        .group = options->socket_group,
    };
    int fd = -1;
    int r = socket_listen(&socket, &fd, &server->socket_identity, ret_error);
    if (r < 0)
        return r;
    r = uv_pipe_open(&server->listener, fd);
    if (r < 0)
        close(fd);
    else
        r = uv_listen((uv_stream_t *)&server->listener, SOMAXCONN, on_connection);
    if (r < 0)
        return rpc_error_set(ret_error, REEVE_ERROR_UNAVAILABLE, "socket", "cannot listen on %s: %s",
                             server->socket_path, uv_strerror(r));
    return 0;
}

static int no_memory(struct reeve_error *ret_error)
{
    return rpc_error_set(ret_error, REEVE_ERROR_NO_MEMORY, "", "out of memory");
}

/* All that needs no loop. */
static int fill(struct ipc_server *server, const struct ipc_server_options *options, struct reeve_error *ret_error)
{
    int r = set_limits(&options->limits, &server->limits, ret_error);
    if (r == 0)
        r = peer_rules_parse(options->allowed_users, options->allowed_groups, &server->rules, ret_error);
    if (r < 0)
        return r;
    if (!options->socket_path)
        return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "socket", "no path of a socket was given");
    server->socket_path = strdup(options->socket_path);
    if (!server->socket_path)
        return no_memory(ret_error);
    server->workers = options->workers;
    server->log = options->log;
    server->log_arg = options->log_arg;
    server->operation_log = options->operation_log;
    server->operation_log_arg = options->operation_log_arg;
    method_table_init(&server->methods);
    server->turns_max = SERVER_TELL_TURNS_MAX;
    init_lists(server);
    fit_descriptors(server);
    return 0;
}

int ipc_server_open(const struct ipc_server_options *options, struct uv_loop_s *loop, struct reeve_engine *engine,
                    struct ipc_server **ret_server, struct reeve_error *ret_error)
{
    *ret_server = NULL;
    struct ipc_server *server = calloc(1, sizeof *server);
    if (!server || !msgpack_zone_init(&server->zone, SERVER_ZONE_BYTES)) {
        free(server);
        return no_memory(ret_error);
    }
    server->loop = loop;
    server->engine = engine;
    int r = fill(server, options, ret_error);
    if (r == 0) {
        r = reeve_client_open(engine, loop, &server->client);
        if (r < 0)
            rpc_error_set(ret_error, (enum reeve_error_code)(-r), "", "%s", reeve_error_text(r));
    }
    if (r < 0) {
        server_free(server);
        return r;
    }
    ignore_sigpipe();
    init_handles(server);
    r = start_listening(server, options, ret_error);
    if (r < 0) {
        ipc_server_close(server, NULL, NULL);
        return r;
    }
    server_log(server, REEVE_LOG_INFO, "ipc: listening on %s", server->socket_path);
    *ret_server = server;
    return 0;
}

void ipc_server_reload(struct ipc_server *server, const struct ipc_limits *limits)
{
    struct reeve_error error;
    if (set_limits(limits, &server->limits, &error) < 0)
        server_log(server, REEVE_LOG_ERROR, "ipc: %s %s; nothing was changed", error.field, error.message);
    else
        fit_descriptors(server);
}

void ipc_server_get_stats(const struct ipc_server *server, struct ipc_stats *ret_stats)
{
    *ret_stats = server->stats;
}
