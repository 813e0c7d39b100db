#include "watching.h"

#include <stdlib.h>

#include "base/uuid.h"
#include "codec.h"
#include "frontends/ipc/connection.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"

struct watching {
    struct reeve_watch base;
    struct link link; /* in the connection */
    struct ipc_connection *connection;
    uint64_t id;
    bool paused;
};

/* What clients are told has the same bytes for all of them but for the number of the watch. */
static void pack_start(struct watching *watching, const char *method, const char *key)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, connection_events_out(watching->connection), buffer_write);
    rpc_pack_notification(&packer, method);
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "watch", watching->id);
    rpc_pack_text(&packer, key);
}

static struct encoded_run *encoded_place(struct ipc_server *server, const struct reeve_watch *watch)
{
    const unsigned hash = (unsigned)watch->organization_id.bytes[15] ^ watch->service_id.bytes[15];
    return &server->encoded[hash % SERVER_ENCODED_COUNT];
}

static bool is_of(const struct encoded_run *run, const struct reeve_watch *watch, uint64_t first, size_t count)
{
    return run->shared && run->first == first && run->count == count &&
           uuid_equal(&run->organization_id, &watch->organization_id) &&
           uuid_equal(&run->service_id, &watch->service_id);
}

static void forget(struct ipc_server *server, struct encoded_run *run)
{
    if (run->shared)
        shared_release(server, run->shared);
    run->shared = NULL;
}

void watching_forget_all(struct ipc_server *server)
{
    for (unsigned i = 0; i < SERVER_ENCODED_COUNT; i++)
        forget(server, &server->encoded[i]);
}

/* The events as a list: made for the first watch, used for the others that want the same of this run. */
static struct shared *encode(struct ipc_server *server, const struct reeve_watch *watch,
                             const struct reeve_event *const *events, size_t count)
{
    struct encoded_run *run = encoded_place(server, watch);
    if (is_of(run, watch, events[0]->sequence, count))
        return run->shared;
    forget(server, run);
    *run = (struct encoded_run){.shared = shared_new(server),
                                .organization_id = watch->organization_id,
                                .service_id = watch->service_id,
                                .first = events[0]->sequence,
                                .count = count};
    if (!run->shared)
        return NULL;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &run->shared->bytes, buffer_write);
    msgpack_pack_array(&packer, count);
    for (size_t i = 0; i < count; i++)
        codec_encode_wire(&record_type_event, events[i], &run->shared->bytes);
    if (run->shared->bytes.failed)
        forget(server, run);
    return run->shared;
}

static void pause_watch(struct watching *watching)
{
    if (!watching->paused)
        reeve_watch_pause(&watching->base);
    watching->paused = true;
}

static void on_events(struct reeve_watch *base, const struct reeve_event *const *events, size_t count)
{
    struct watching *watching = base->data;
    struct ipc_connection *connection = watching->connection;
    struct ipc_server *server = connection->server;
    struct shared *shared = encode(server, base, events, count);
    pack_start(watching, "events", "events");
    if (shared)
        connection_share(connection, shared);
    else
        connection->out.bytes.failed = true;
    server->stats.events += count;
    if (connection_only_watches(connection) || connection_unread(connection) >= server->limits.output_pause_bytes)
        pause_watch(watching);
}

static void on_lagged(struct reeve_watch *base, uint64_t resume_sequence)
{
    struct watching *watching = base->data;
    msgpack_packer packer;
    msgpack_packer_init(&packer, connection_events_out(watching->connection), buffer_write);
    watching->connection->server->stats.lagged++;
    pack_start(watching, "lagged", "resume");
    msgpack_pack_uint64(&packer, resume_sequence);
}

static void watching_free(struct watching *watching)
{
    struct ipc_connection *connection = watching->connection;
    reeve_watch_stop(&watching->base);
    link_remove(&watching->link);
    connection->watches_count--;
    connection->server->stats.watches--;
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
    watching->base.on_events = on_events;
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
