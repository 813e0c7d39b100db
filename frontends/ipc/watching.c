#include "watching.h"

#include <stdlib.h>

#include "codec.h"
#include "frontends/ipc/connection.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"

#define WATCHING_EVENTS_MAX 256
#define WATCHING_BYTES_MAX 65536

struct watching {
    struct reeve_watch base;
    struct link link; /* in the connection */
    struct ipc_connection *connection;
    uint64_t id;
    struct buffer events; /* encoded, not sent */
    uint32_t count;
    bool answered; /* the client knows the number of this watch */
    bool paused;
};

static void flush(struct watching *watching)
{
    if (watching->count == 0)
        return;
    struct ipc_server *server = watching->connection->server;
    struct buffer *out = connection_out(watching->connection);
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    rpc_pack_notification(&packer, "events");
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "watch", watching->id);
    rpc_pack_text(&packer, "events");
    msgpack_pack_array(&packer, watching->count);
    buffer_append(out, watching->events.data, watching->events.size);
    out->failed |= watching->events.failed;
    server->stats.events += watching->count;
    watching->count = 0;
    server_buffer_give(server, &watching->events);
}

static void pause_watch(struct watching *watching)
{
    if (!watching->paused)
        reeve_watch_pause(&watching->base);
    watching->paused = true;
}

static void on_event(struct reeve_watch *base, const struct reeve_event *event)
{
    struct watching *watching = base->data;
    struct ipc_connection *connection = watching->connection;
    struct ipc_server *server = connection->server;
    if (watching->events.capacity == 0)
        server_buffer_take(server, &watching->events);
    msgpack_packer packer;
    msgpack_packer_init(&packer, &watching->events, buffer_write);
    codec_encode_wire(&record_type_event, event, &packer);
    watching->count++;
    link_append(&server->dirty, &connection->in_dirty);
    const bool full = watching->count >= WATCHING_EVENTS_MAX || watching->events.size >= WATCHING_BYTES_MAX;
    if (full && watching->answered)
        flush(watching);
    if ((full && !watching->answered) || connection_unread(connection) >= server->limits.output_pause_bytes)
        pause_watch(watching);
}

static void on_lagged(struct reeve_watch *base, uint64_t resume_sequence)
{
    struct watching *watching = base->data;
    flush(watching);
    watching->connection->server->stats.lagged++;
    msgpack_packer packer;
    msgpack_packer_init(&packer, connection_out(watching->connection), buffer_write);
    rpc_pack_notification(&packer, "lagged");
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "watch", watching->id);
    rpc_pack_pair_u64(&packer, "resume", resume_sequence);
}

static void watching_free(struct watching *watching)
{
    struct ipc_connection *connection = watching->connection;
    reeve_watch_stop(&watching->base);
    link_remove(&watching->link);
    connection->watches_count--;
    connection->server->stats.watches--;
    server_buffer_give(connection->server, &watching->events);
    free(watching);
}

/* A watch from now on starts at a sequence number too, so that the client can be told where it starts. */
static struct watching *watching_new(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    struct ipc_server *server = connection->server;
    const struct reeve_event_watch_params *params = &request->base.params.event_watch;
    struct watching *watching = calloc(1, sizeof *watching);
    if (!watching)
        return NULL;
    watching->base.from_sequence = params->from ? params->from : reeve_last_sequence(server->engine) + 1;
    watching->base.organization_id = params->organization_id;
    watching->base.service_id = params->service_id;
    watching->base.on_event = on_event;
    watching->base.on_lagged = on_lagged;
    watching->base.data = watching;
    watching->connection = connection;
    watching->id = ++server->next_watch;
    link_init(&watching->link);
    return watching;
}

static void refuse(struct ipc_request *request, enum reeve_error_code code, const char *message)
{
    struct reeve_error error;
    rpc_error_set(&error, code, "", "%s", message);
    request_refuse(request, &error);
}

void watching_start(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    struct ipc_server *server = connection->server;
    if (connection->watches_count >= server->limits.client_watches_max) {
        refuse(request, REEVE_ERROR_QUOTA_EXCEEDED, "a client may have no more watches; end one first");
        return;
    }
    struct watching *watching = watching_new(request);
    if (!watching) {
        refuse(request, REEVE_ERROR_NO_MEMORY, "out of memory");
        return;
    }
    struct reeve_error error;
    if (reeve_watch_start(server->client, &watching->base, &error) < 0) {
        free(watching);
        request_refuse(request, &error);
        return;
    }
    link_append(&connection->watches, &watching->link);
    connection->watches_count++;
    server->stats.watches++;
    msgpack_packer packer;
    msgpack_packer_init(&packer, request_answer(request), buffer_write);
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "watch", watching->id);
    rpc_pack_pair_u64(&packer, "from", watching->base.from_sequence);
    watching->answered = true;
    request_finish(request);
}

void watching_stop(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    const uint64_t id = request->base.params.event_unwatch.watch;
    for (struct link *link = connection->watches.next; link != &connection->watches; link = link->next) {
        struct watching *watching = link_owner(link, struct watching, link);
        if (watching->id != id)
            continue;
        flush(watching);
        watching_free(watching);
        msgpack_packer packer;
        msgpack_packer_init(&packer, request_answer(request), buffer_write);
        msgpack_pack_map(&packer, 0);
        request_finish(request);
        return;
    }
    struct reeve_error error;
    rpc_error_set(&error, REEVE_ERROR_NOT_FOUND, "watch", "this client has no watch %llu", (unsigned long long)id);
    request_refuse(request, &error);
}

void watching_flush(struct ipc_connection *connection)
{
    for (struct link *link = connection->watches.next; link != &connection->watches; link = link->next)
        flush(link_owner(link, struct watching, link));
}

void watching_resume(struct ipc_connection *connection)
{
    for (struct link *link = connection->watches.next; link != &connection->watches; link = link->next) {
        struct watching *watching = link_owner(link, struct watching, link);
        if (!watching->paused)
            continue;
        watching->paused = false;
        reeve_watch_resume(&watching->base);
    }
}

void watching_stop_all(struct ipc_connection *connection)
{
    struct link *next;
    for (struct link *link = connection->watches.next; link != &connection->watches; link = next) {
        next = link->next;
        watching_free(link_owner(link, struct watching, link));
    }
}
