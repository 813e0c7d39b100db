#include "connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "frontends/ipc/listing.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"
#include "frontends/ipc/watching.h"
#include "frontends/ipc/working.h"

#define READ_MORE_BYTES 65536
#define COMMANDING_MS 1000 /* who gave a command may be waiting for what comes of it */

/* ---- Output ---- */

static struct buffer *own_output(struct ipc_connection *connection)
{
    if (connection->out.bytes.capacity == 0)
        server_buffer_take(connection->server, &connection->out.bytes);
    return &connection->out.bytes;
}

struct buffer *connection_out(struct ipc_connection *connection)
{
    link_append(&connection->server->dirty, &connection->in_dirty);
    return own_output(connection);
}

bool connection_only_watches(const struct ipc_connection *connection)
{
    return connection->watches_count > 0 && connection->requests == 0 &&
           (connection->commanded_ms == 0 ||
            uv_now(connection->server->loop) - connection->commanded_ms > COMMANDING_MS);
}

struct buffer *connection_events_out(struct ipc_connection *connection)
{
    struct ipc_server *server = connection->server;
    if (!link_used(&connection->in_dirty))
        link_append(connection_only_watches(connection) ? &server->telling : &server->dirty, &connection->in_dirty);
    return own_output(connection);
}

void connection_share(struct ipc_connection *connection, struct shared *shared)
{
    output_share(connection->server, &connection->out, shared);
}

size_t connection_unread(const struct ipc_connection *connection)
{
    const uv_stream_t *stream = (const uv_stream_t *)&connection->pipe;
    return output_size(&connection->out) + (connection->writing ? uv_stream_get_write_queue_size(stream) : 0);
}

static bool may_take_request(const struct ipc_connection *connection)
{
    const struct ipc_server *server = connection->server;
    return connection->requests < server->limits.client_requests_max &&
           server->stats.requests_now < server->limits.requests_max &&
           connection_unread(connection) < server->limits.output_pause_bytes;
}

/* Something it may have been waiting for has happened. */
static void unblock(struct ipc_connection *connection)
{
    if (connection->blocked && connection->state == CONNECTION_OPEN && may_take_request(connection))
        link_append(&connection->server->ready, &connection->in_ready);
}

/* Output has left: let go on what was held back for it. The two marks are apart, so that work comes in pieces. */
static void output_drained(struct ipc_connection *connection)
{
    if (connection_unread(connection) > connection->server->limits.output_pause_bytes / 2)
        return;
    listing_resume(connection);
    if (connection_only_watches(connection))
        link_append(&connection->server->told, &connection->in_told);
    else
        watching_resume(connection);
    working_resume(connection);
    unblock(connection);
}

static void on_written(uv_write_t *write, int status)
{
    struct ipc_connection *connection = write->data;
    struct ipc_server *server = connection->server;
    connection->writing = false;
    link_remove(&connection->in_writing);
    output_release(server, &connection->written);
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (status < 0)
        connection_close(connection);
    else
        link_append(&server->dirty, &connection->in_dirty);
}

/* Leave the rest to the loop, which tells when the socket has taken all of it. */
static int write_later(struct ipc_connection *connection, size_t done)
{
    struct ipc_server *server = connection->server;
    unsigned count;
    const uv_buf_t *rest = output_vector(server, &connection->out, done, &count);
    connection->write.data = connection;
    const int r = rest ? uv_write(&connection->write, (uv_stream_t *)&connection->pipe, rest, count, on_written)
                       : UV_ENOMEM;
    if (r < 0)
        return r;
    connection->waiting_bytes = output_size(&connection->out) - done;
    connection->progress_ms = uv_now(server->loop);
    connection->written = connection->out;
    connection->out = (struct output){0};
    connection->writing = true;
    link_append(&server->writing, &connection->in_writing);
    return 0;
}

static int write_now(struct ipc_connection *connection)
{
    struct output *out = &connection->out;
    unsigned count;
    const uv_buf_t *all = output_vector(connection->server, out, 0, &count);
    crash_point(CRASH_ANSWERING);
    const int r = all ? uv_try_write((uv_stream_t *)&connection->pipe, all, count) : UV_ENOMEM;
    if (r < 0 && r != UV_EAGAIN)
        return r;
    const size_t done = r < 0 ? 0 : (size_t)r;
    connection->server->stats.bytes_out += output_size(out);
    if (done < output_size(out))
        return write_later(connection, done);
    output_release(connection->server, out);
    return 0;
}

static void close_slow(struct ipc_connection *connection, const char *why)
{
    struct ipc_server *server = connection->server;
    server->stats.slow++;
    server_log(server, REEVE_LOG_WARNING, "ipc: client %s disconnected: %s, %zu bytes unread", connection->actor, why,
               connection_unread(connection));
    connection_close(connection);
}

void connection_flush(struct ipc_connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    if (connection->out.bytes.failed) {
        server_log(connection->server, REEVE_LOG_ERROR, "ipc: client %s disconnected: out of memory",
                   connection->actor);
        connection_close(connection);
        return;
    }
    if (!connection->writing && output_size(&connection->out) > 0 && write_now(connection) < 0) {
        connection_close(connection);
        return;
    }
    if (connection_unread(connection) > connection->server->limits.output_bytes_max) {
        close_slow(connection, "it does not read");
        return;
    }
    if (connection->state == CONNECTION_DRAINING && connection->requests == 0 && output_size(&connection->out) == 0 &&
        !connection->writing)
        connection_close(connection);
    else
        output_drained(connection);
}

/* Only those are at fault that want something and do not take it; a mere watcher may sleep and is told that it lags. */
void connection_check_stall(struct ipc_connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    const uv_stream_t *stream = (const uv_stream_t *)&connection->pipe;
    const uint64_t now = uv_now(connection->server->loop);
    const size_t waiting = uv_stream_get_write_queue_size(stream);
    if (waiting < connection->waiting_bytes) {
        connection->waiting_bytes = waiting;
        connection->progress_ms = now;
        return;
    }
    if (now - connection->progress_ms < connection->server->limits.stall_ms)
        return;
    if (connection->blocked || connection->state == CONNECTION_DRAINING || link_used(&connection->listings) ||
        connection->watches_count == 0)
        close_slow(connection, "it wants answers and has read nothing for too long");
}

/* ---- Input ---- */

/* Errors of the stream itself: there is no telling where the next message would start. */
static void fail_protocol(struct ipc_connection *connection, const struct reeve_error *error)
{
    connection->server->stats.protocol_errors++;
    connection_fail(connection, error);
}

static void fail_scan(struct ipc_connection *connection, enum scan_status status)
{
    struct reeve_error error;
    if (status == SCAN_TOO_LARGE)
        rpc_error_set(&error, REEVE_ERROR_TOO_LARGE, "", "the message is, or says it is, larger than %llu bytes",
                      (unsigned long long)connection->server->limits.message_bytes_max);
    else if (status == SCAN_TOO_DEEP)
        rpc_error_set(&error, REEVE_ERROR_BAD_REQUEST, "", "the message is nested deeper than %d levels",
                      SCAN_DEPTH_MAX);
    else
        rpc_error_set(&error, REEVE_ERROR_BAD_REQUEST, "", "this is not MessagePack: it never uses the byte 0xc1");
    fail_protocol(connection, &error);
}

/* Work off whole messages; returns how many bytes they had. */
static size_t consume(struct ipc_connection *connection, const char *data, size_t size)
{
    size_t used = 0;
    connection->blocked = false;
    while (connection->state == CONNECTION_OPEN && used < size) {
        if (!may_take_request(connection)) {
            connection->blocked = true;
            break;
        }
        const enum scan_status status = scan_step(&connection->scan, data + used, size - used);
        if (status == SCAN_MORE)
            break;
        if (status != SCAN_COMPLETE) {
            fail_scan(connection, status);
            break;
        }
        struct reeve_error error;
        if (!request_receive(connection, data + used, connection->scan.offset, &error))
            fail_protocol(connection, &error);
        used += connection->scan.offset;
        scan_init(&connection->scan, connection->server->limits.message_bytes_max);
    }
    return used;
}

static void drop_input(struct ipc_connection *connection)
{
    server_buffer_give(connection->server, &connection->in);
    connection->in_start = 0;
}

static void stop_reading(struct ipc_connection *connection)
{
    if (connection->reading)
        uv_read_stop((uv_stream_t *)&connection->pipe);
    connection->reading = false;
}

static void start_reading(struct ipc_connection *connection);

/* After input was worked off: read on, wait, or end. */
static void go_on(struct ipc_connection *connection)
{
    struct ipc_server *server = connection->server;
    if (connection->state != CONNECTION_OPEN)
        return;
    if (connection->blocked) {
        stop_reading(connection);
        if (server->stats.requests_now >= server->limits.requests_max)
            link_append(&server->waiting, &connection->in_ready);
        return;
    }
    if (!connection->eof) {
        start_reading(connection);
    } else if (connection->in.size > connection->in_start) {
        struct reeve_error error;
        rpc_error_set(&error, REEVE_ERROR_BAD_REQUEST, "", "the connection ended within a message");
        fail_protocol(connection, &error);
    } else {
        connection_drain(connection);
    }
}

void connection_work(struct ipc_connection *connection)
{
    if (connection->state != CONNECTION_OPEN)
        return;
    const size_t size = connection->in.size - connection->in_start;
    if (size > 0)
        connection->in_start += consume(connection, connection->in.data + connection->in_start, size);
    if (connection->in_start == connection->in.size)
        drop_input(connection);
    go_on(connection);
}

/* Read into memory that all connections share, unless the start of a message is already there. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct ipc_connection *connection = handle->data;
    struct buffer *in = &connection->in;
    if (in->size == 0) {
        *ret_buffer = uv_buf_init(connection->server->read_bytes, sizeof connection->server->read_bytes);
        return;
    }
    if (connection->in_start > 0) {
        in->size -= connection->in_start;
        memmove(in->data, in->data + connection->in_start, in->size);
        connection->in_start = 0;
    }
    char *room = buffer_reserve(in, READ_MORE_BYTES);
    *ret_buffer = uv_buf_init(room, room ? (unsigned)(in->capacity - in->size) : 0);
}

static void on_read(uv_stream_t *stream, ssize_t read, const uv_buf_t *buffer)
{
    struct ipc_connection *connection = stream->data;
    struct ipc_server *server = connection->server;
    if (read == UV_EOF) {
        connection->eof = true;
        stop_reading(connection);
        connection_work(connection);
        return;
    }
    if (read < 0) {
        connection_close(connection);
        return;
    }
    const size_t size = (size_t)read;
    server->stats.bytes_in += size;
    if (size == 0)
        return;
    if (buffer->base != server->read_bytes) {
        connection->in.size += size;
        connection_work(connection);
        return;
    }
    const size_t used = consume(connection, buffer->base, size);
    if (connection->state == CONNECTION_OPEN && used < size)
        buffer_append(&connection->in, buffer->base + used, size - used);
    if (connection->in.failed)
        connection_close(connection);
    go_on(connection);
}

static void start_reading(struct ipc_connection *connection)
{
    if (connection->reading)
        return;
    connection->reading = true;
    if (uv_read_start((uv_stream_t *)&connection->pipe, on_alloc, on_read) < 0)
        connection_close(connection);
}

/* ---- Coming and going ---- */

static void free_if_unused(struct ipc_connection *connection)
{
    if (!connection->handle_closed || connection->requests > 0)
        return;
    struct ipc_server *server = connection->server;
    link_remove(&connection->in_server);
    free(connection);
    server_connection_gone(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct ipc_connection *connection = handle->data;
    connection->handle_closed = true;
    free_if_unused(connection);
}

void connection_request_done(struct ipc_connection *connection)
{
    struct ipc_server *server = connection->server;
    connection->requests--;
    server->stats.requests_now--;
    if (connection->state == CONNECTION_CLOSED)
        free_if_unused(connection);
    else if (connection->state == CONNECTION_DRAINING)
        link_append(&server->dirty, &connection->in_dirty);
    else
        unblock(connection);
}

void connection_close(struct ipc_connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection->state = CONNECTION_CLOSED;
    connection->blocked = false;
    if (connection->admitted)
        connection->server->stats.connections--;
    link_remove(&connection->in_dirty);
    link_remove(&connection->in_told);
    link_remove(&connection->in_ready);
    watching_stop_all(connection);
    working_stop_all(connection);
    listing_drop_all(connection);
    link_remove(&connection->in_listings);
    drop_input(connection);
    output_release(connection->server, &connection->out);
    uv_close((uv_handle_t *)&connection->pipe, on_handle_closed);
}

void connection_drain(struct ipc_connection *connection)
{
    if (connection->state != CONNECTION_OPEN)
        return;
    connection->state = CONNECTION_DRAINING;
    connection->blocked = false;
    link_remove(&connection->in_ready);
    stop_reading(connection);
    drop_input(connection);
    watching_stop_all(connection);
    working_stop_all(connection);
    link_append(&connection->server->dirty, &connection->in_dirty);
}

void connection_fail(struct ipc_connection *connection, const struct reeve_error *error)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, connection_out(connection), buffer_write);
    rpc_pack_error_notification(&packer, error);
    connection_drain(connection);
}

/* Is this client let in? Fills error where not. */
static bool admit(struct ipc_connection *connection, struct reeve_error *error)
{
    struct ipc_server *server = connection->server;
    uv_os_fd_t fd = -1;
    uid_t uid = (uid_t)-1;
    bool allowed = false;
    if (uv_fileno((const uv_handle_t *)&connection->pipe, &fd) == 0)
        peer_check(&server->rules, fd, &uid, &allowed);
    snprintf(connection->actor, sizeof connection->actor, "uid:%lu", (unsigned long)uid);
    if (!allowed) {
        rpc_error_set(error, REEVE_ERROR_FORBIDDEN, "", "user %lu may not use this socket", (unsigned long)uid);
        server_log(server, REEVE_LOG_WARNING, "ipc: client %s refused: not allowed", connection->actor);
        return false;
    }
    if (server->stats.connections >= server->limits.connections_max) {
        rpc_error_set(error, REEVE_ERROR_BUSY, "", "%llu clients are connected and no more are allowed",
                      (unsigned long long)server->limits.connections_max);
        return false;
    }
    return true;
}

static void init_lists(struct ipc_connection *connection)
{
    link_init(&connection->in_server);
    link_init(&connection->in_dirty);
    link_init(&connection->in_told);
    link_init(&connection->in_ready);
    link_init(&connection->in_writing);
    link_init(&connection->in_listings);
    link_init(&connection->watches);
    link_init(&connection->workers);
    link_init(&connection->listings);
}

void connection_accept(struct ipc_server *server)
{
    struct ipc_connection *connection = calloc(1, sizeof *connection);
    server->accept_pending = connection == NULL;
    if (!connection)
        return;
    connection->server = server;
    init_lists(connection);
    scan_init(&connection->scan, server->limits.message_bytes_max);
    uv_pipe_init(server->loop, &connection->pipe, 0);
    connection->pipe.data = connection;
    link_append(&server->connections, &connection->in_server);
    server->connections_alive++;
    struct reeve_error error;
    if (uv_accept((uv_stream_t *)&server->listener, (uv_stream_t *)&connection->pipe) < 0) {
        connection_close(connection);
    } else if (!admit(connection, &error)) {
        server->stats.refused++;
        connection_fail(connection, &error);
    } else {
        connection->admitted = true;
        server->stats.connections++;
        server->stats.accepted++;
        start_reading(connection);
    }
}
