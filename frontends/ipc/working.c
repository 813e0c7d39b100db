#include "working.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec.h"
#include "frontends/ipc/connection.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"

struct working {
    struct worker base;
    struct link link; /* in the connection */
    struct ipc_connection *connection;
    uint64_t id;
    bool held; /* refused an operation because the client does not read */
};

/* ---- To the worker ---- */

static void pack_pair_hex(msgpack_packer *packer, const char *key, struct reeve_str bytes)
{
    static const char digits[] = "0123456789abcdef";
    rpc_pack_text(packer, key);
    msgpack_pack_str(packer, 2 * bytes.size);
    for (size_t i = 0; i < bytes.size; i++) {
        const unsigned char byte = (unsigned char)bytes.data[i];
        const char pair[2] = {digits[byte >> 4], digits[byte & 15]};
        msgpack_pack_str_body(packer, pair, 2);
    }
}

static void pack_pair_text(msgpack_packer *packer, const char *key, struct reeve_str text)
{
    rpc_pack_text(packer, key);
    msgpack_pack_str(packer, text.size);
    msgpack_pack_str_body(packer, text.data, text.size);
}

static void pack_pair_bin(msgpack_packer *packer, const char *key, struct reeve_str bytes)
{
    rpc_pack_text(packer, key);
    msgpack_pack_bin(packer, bytes.size);
    msgpack_pack_bin_body(packer, bytes.data, bytes.size);
}

/* What everybody is shown, and what only who does the work may know. */
static void pack_service(msgpack_packer *packer, struct buffer *out, const struct reeve_service *service)
{
    const unsigned more = 2U + (service->password_double_sha1.size > 0) + (service->password_scram.size > 0) +
                          (service->handle.size > 0);
    codec_encode_wire_with(&record_type_service, service, more, out);
    pack_pair_hex(packer, "passwordSha256", service->password_sha256);
    if (service->password_double_sha1.size)
        pack_pair_hex(packer, "passwordDoubleSha1", service->password_double_sha1);
    if (service->password_scram.size)
        pack_pair_text(packer, "passwordScram", service->password_scram);
    rpc_pack_text(packer, "mysqlEnabled");
    if (service->mysql_enabled)
        msgpack_pack_true(packer);
    else
        msgpack_pack_false(packer);
    if (service->handle.size)
        pack_pair_bin(packer, "handle", service->handle);
}

static void pack_backup(msgpack_packer *packer, struct buffer *out, const struct reeve_backup *backup)
{
    codec_encode_wire_with(&record_type_backup, backup, backup->handle.size > 0, out);
    if (backup->handle.size)
        pack_pair_bin(packer, "handle", backup->handle);
}

static void pack_pair_uuid(msgpack_packer *packer, const char *key, const struct reeve_uuid *uuid)
{
    rpc_pack_text(packer, key);
    rpc_pack_uuid(packer, uuid);
}

static void pack_task(msgpack_packer *packer, struct buffer *out, const struct reeve_task *task, uint64_t remaining_ms)
{
    const bool has_backup_id = !reeve_uuid_is_nil(&task->backup_id);
    msgpack_pack_map(packer, 7U + has_backup_id + (task->service != NULL) + (task->backup != NULL));
    pack_pair_uuid(packer, "id", &task->operation_id);
    rpc_pack_pair_text(packer, "kind", reeve_operation_kind_name(task->kind));
    rpc_pack_pair_u64(packer, "attempt", task->attempt);
    rpc_pack_pair_u64(packer, "timeoutMs", remaining_ms);
    rpc_pack_pair_u64(packer, "desired", task->desired);
    pack_pair_uuid(packer, "organizationId", &task->organization_id);
    pack_pair_uuid(packer, "serviceId", &task->service_id);
    if (has_backup_id)
        pack_pair_uuid(packer, "backupId", &task->backup_id);
    if (task->service) {
        rpc_pack_text(packer, "service");
        pack_service(packer, out, task->service);
    }
    if (task->backup) {
        rpc_pack_text(packer, "backup");
        pack_backup(packer, out, task->backup);
    }
}

static bool on_operation(struct worker *base, uint64_t lease, const struct reeve_task *task, uint64_t remaining_ms)
{
    struct working *working = (struct working *)base;
    struct ipc_connection *connection = working->connection;
    struct ipc_server *server = connection->server;
    if (server->closing)
        return false;
    if (connection_unread(connection) >= server->limits.output_pause_bytes) {
        working->held = true;
        return false;
    }
    struct buffer *out = connection_out(connection);
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    rpc_pack_notification(&packer, "worker.operation");
    msgpack_pack_map(&packer, 3);
    rpc_pack_pair_u64(&packer, "worker", working->id);
    rpc_pack_pair_u64(&packer, "lease", lease);
    rpc_pack_text(&packer, "operation");
    pack_task(&packer, out, task, remaining_ms);
    server->stats.leases++;
    return true;
}

static void on_cancelled(struct worker *base, uint64_t lease)
{
    struct working *working = (struct working *)base;
    msgpack_packer packer;
    msgpack_packer_init(&packer, connection_out(working->connection), buffer_write);
    rpc_pack_notification(&packer, "worker.cancelled");
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "worker", working->id);
    rpc_pack_pair_u64(&packer, "lease", lease);
}

/* ---- Answers ---- */

static void refuse(struct ipc_request *request, enum reeve_error_code code, const char *field, const char *message)
{
    struct reeve_error error;
    rpc_error_set(&error, code, field, "%s", message);
    request_refuse(request, &error);
}

static void answer_nothing(struct ipc_request *request)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, request_answer(request), buffer_write);
    msgpack_pack_map(&packer, 0);
    request_finish(request);
}

static bool has_source(struct ipc_request *request)
{
    if (request->connection->server->workers)
        return true;
    refuse(request, REEVE_ERROR_CONFLICT, "",
           "this server does not hand out operations; it does when started with --provisioner workers");
    return false;
}

/* After a report: whoever is behind this connection is there, and may have room. */
static void offer_all(struct ipc_connection *connection)
{
    const struct worker_source *source = connection->server->workers;
    for (struct link *link = connection->workers.next; link != &connection->workers; link = link->next)
        source->offer(source->arg, &link_owner(link, struct working, link)->base);
}

/* A report under a lease is worked off; the answer comes before what is handed out next. */
static void answer_report(struct ipc_request *request, int r)
{
    struct ipc_connection *connection = request->connection;
    if (r == 0)
        answer_nothing(request);
    else if (r == -REEVE_ERROR_NOT_FOUND)
        refuse(request, REEVE_ERROR_NOT_FOUND, "lease",
               "the lease has ended, or never was this client's; the operation may be with another worker");
    else if (r == -REEVE_ERROR_BAD_REQUEST)
        refuse(request, REEVE_ERROR_BAD_REQUEST, "status", "'cancelled' is for operations that were cancelled");
    else
        refuse(request, (enum reeve_error_code) - r, "", reeve_error_text(r));
    offer_all(connection);
}

/* ---- Subscribing ---- */

static struct working *working_new(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    const struct reeve_worker_subscribe_params *params = &request->base.params.worker_subscribe;
    struct working *working = calloc(1, sizeof *working);
    if (!working)
        return NULL;
    working->base.owner = connection;
    working->base.kinds = params->kinds;
    working->base.organization_id = params->organization_id;
    working->base.max = params->max ? params->max : 1;
    working->base.on_operation = on_operation;
    working->base.on_cancelled = on_cancelled;
    working->connection = connection;
    working->id = ++connection->server->next_worker;
    link_init(&working->link);
    return working;
}

static bool may_subscribe(struct ipc_request *request)
{
    const struct ipc_connection *connection = request->connection;
    const struct ipc_limits *limits = &connection->server->limits;
    const uint64_t max = request->base.params.worker_subscribe.max;
    if (connection->workers_count >= limits->client_workers_max) {
        refuse(request, REEVE_ERROR_QUOTA_EXCEEDED, "", "a client may have no more workers; unsubscribe one first");
        return false;
    }
    if (connection->leases_max + (max ? max : 1) > limits->client_leases_max) {
        struct reeve_error error;
        rpc_error_set(&error, REEVE_ERROR_QUOTA_EXCEEDED, "max",
                      "all workers of a client together may have %llu operations at once",
                      (unsigned long long)limits->client_leases_max);
        request_refuse(request, &error);
        return false;
    }
    return true;
}

void working_start(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    struct ipc_server *server = connection->server;
    if (!has_source(request) || !may_subscribe(request))
        return;
    struct working *working = working_new(request);
    if (!working) {
        refuse(request, REEVE_ERROR_NO_MEMORY, "", "out of memory");
        return;
    }
    link_append(&connection->workers, &working->link);
    connection->workers_count++;
    connection->leases_max += working->base.max;
    server->stats.workers++;
    msgpack_packer packer;
    msgpack_packer_init(&packer, request_answer(request), buffer_write);
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "worker", working->id);
    rpc_pack_pair_u64(&packer, "leaseMs", server->workers->lease_ms);
    request_finish(request);
    server->workers->subscribe(server->workers->arg, &working->base);
    server->workers->offer(server->workers->arg, &working->base);
}

static void working_free(struct working *working)
{
    struct ipc_connection *connection = working->connection;
    struct ipc_server *server = connection->server;
    link_remove(&working->link);
    connection->workers_count--;
    connection->leases_max -= working->base.max;
    server->stats.workers--;
    server->workers->unsubscribe(server->workers->arg, &working->base);
    free(working);
}

void working_stop(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    const uint64_t id = request->base.params.worker_unsubscribe.worker;
    if (!has_source(request))
        return;
    for (struct link *link = connection->workers.next; link != &connection->workers; link = link->next) {
        struct working *working = link_owner(link, struct working, link);
        if (working->id != id)
            continue;
        working_free(working);
        answer_nothing(request);
        return;
    }
    struct reeve_error error;
    rpc_error_set(&error, REEVE_ERROR_NOT_FOUND, "worker", "this client has no worker %llu", (unsigned long long)id);
    request_refuse(request, &error);
}

void working_resume(struct ipc_connection *connection)
{
    const struct worker_source *source = connection->server->workers;
    for (struct link *link = connection->workers.next; link != &connection->workers; link = link->next) {
        struct working *working = link_owner(link, struct working, link);
        if (!working->held)
            continue;
        working->held = false;
        source->offer(source->arg, &working->base);
    }
}

void working_stop_all(struct ipc_connection *connection)
{
    while (link_used(&connection->workers))
        working_free(link_owner(connection->workers.next, struct working, link));
}

/* ---- Reports ---- */

void working_progress(struct ipc_request *request)
{
    const struct reeve_worker_progress_params *params = &request->base.params.worker_progress;
    const struct reeve_progress progress = {.done = params->done, .total = params->total, .text = params->text};
    if (!has_source(request))
        return;
    const struct worker_source *source = request->connection->server->workers;
    const uint64_t numbers = REEVE_GIVEN_WORKER_PROGRESS_DONE | REEVE_GIVEN_WORKER_PROGRESS_TOTAL |
                             REEVE_GIVEN_WORKER_PROGRESS_TEXT;
    answer_report(request, source->progress(source->arg, request->connection, params->lease,
                                            params->given & numbers ? &progress : NULL));
}

#define STATUS(name) (1U << REEVE_OUTCOME_STATUS_##name)
#define GIVEN(name) REEVE_GIVEN_WORKER_FINISH_##name

/* What belongs to another status shows that the worker means something else than it says. */
static bool check_status(const struct reeve_worker_finish_params *params, struct reeve_error *error)
{
    static const struct {
        uint64_t bit;
        const char *field, *problem;
        unsigned allowed;
    } rows[] = {
        {GIVEN(CODE), "code", "is not for the status 'done'", ~STATUS(DONE)},
        {GIVEN(MESSAGE), "message", "is not for the status 'done'", ~STATUS(DONE)},
        {GIVEN(RETRY_AFTER_MS), "retryAfterMs", "is only for the status 'retry'", STATUS(RETRY)},
        {GIVEN(ENDPOINTS), "endpoints", "is only for the status 'done'", STATUS(DONE)},
        {GIVEN(HANDLE), "handle", "is only for the status 'done'", STATUS(DONE)},
        {GIVEN(SIZE_BYTES), "sizeBytes", "is only for the status 'done'", STATUS(DONE)},
        {GIVEN(VERSION), "version", "is only for the status 'done'", STATUS(DONE)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (params->given & rows[i].bit && !(rows[i].allowed >> params->status & 1)) {
            rpc_error_set(error, REEVE_ERROR_BAD_REQUEST, rows[i].field, "%s", rows[i].problem);
            return false;
        }
    }
    return true;
}

static const char *check_endpoint(const struct reeve_endpoint *endpoint, const char **ret_name)
{
    *ret_name = "protocol";
    if (endpoint->protocol.size == 0 || endpoint->protocol.size > 50)
        return "must have from 1 to 50 bytes";
    *ret_name = "host";
    if (endpoint->host.size == 0 || endpoint->host.size > 255)
        return "must have from 1 to 255 bytes";
    *ret_name = "port";
    if (endpoint->port == 0 || endpoint->port > 65535)
        return "must be from 1 to 65535";
    *ret_name = "username";
    return endpoint->username.size > 255 ? "must have at most 255 bytes" : NULL;
}

/* Records in parameters have no ranges in the tables. */
static bool check_endpoints(const struct reeve_endpoint_list *endpoints, struct reeve_error *error)
{
    for (size_t i = 0; i < endpoints->count; i++) {
        const char *name, *problem = check_endpoint(&endpoints->items[i], &name);
        char field[64];
        if (!problem)
            continue;
        snprintf(field, sizeof field, "endpoints[%zu].%s", i, name);
        rpc_error_set(error, REEVE_ERROR_BAD_REQUEST, field, "%s", problem);
        return false;
    }
    return true;
}

void working_finish(struct ipc_request *request)
{
    const struct reeve_worker_finish_params *params = &request->base.params.worker_finish;
    const struct reeve_outcome outcome = {.status = params->status,
                                          .code = params->code,
                                          .message = params->message,
                                          .retry_after_ms = params->retry_after_ms,
                                          .endpoints = params->endpoints,
                                          .handle = params->handle,
                                          .version = params->version,
                                          .size_bytes = params->size_bytes};
    struct reeve_error error;
    if (!has_source(request))
        return;
    if (!check_status(params, &error) || !check_endpoints(&params->endpoints, &error)) {
        request_refuse(request, &error);
        return;
    }
    const struct worker_source *source = request->connection->server->workers;
    answer_report(request, source->finish(source->arg, request->connection, params->lease, &outcome));
}
