#include "local.h"

#include <stdlib.h>
#include <string.h>

#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"

#define CHECK_FINDINGS_SHOWN_MAX 1000

static void refuse(struct ipc_request *request, enum reeve_error_code code, const char *field, const char *message)
{
    struct reeve_error error;
    rpc_error_set(&error, code, field, "%s", message);
    request_refuse(request, &error);
}

void local_hello(struct ipc_request *request)
{
    struct ipc_server *server = request->connection->server;
    msgpack_packer packer;
    msgpack_packer_init(&packer, request_answer(request), buffer_write);
    msgpack_pack_map(&packer, 5);
    rpc_pack_pair_text(&packer, "product", "reeve");
    rpc_pack_pair_text(&packer, "version", reeve_version());
    rpc_pack_pair_u64(&packer, "protocol", RPC_PROTOCOL);
    rpc_pack_pair_u64(&packer, "lastSequence", reeve_last_sequence(server->engine));
    rpc_pack_text(&packer, "methods");
    msgpack_pack_array(&packer, METHOD_COUNT);
#define LOCAL(id, name, params, help) rpc_pack_text(&packer, name);
#include "local.def"
#define COMMAND(id, number, name, mode, params, answer, input, help) rpc_pack_text(&packer, name);
#include "commands.def"
    request_finish(request);
}

static void pack_counters(msgpack_packer *packer, const struct counter_type *counters, unsigned count,
                          const void *values)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)values + counters[i].offset, sizeof value);
        rpc_pack_pair_u64(packer, counters[i].name, value);
    }
}

void local_stats(struct ipc_request *request)
{
    struct ipc_server *server = request->connection->server;
    struct reeve_stats stats;
    reeve_get_stats(server->engine, &stats);
    msgpack_packer packer;
    msgpack_packer_init(&packer, request_answer(request), buffer_write);
    msgpack_pack_map(&packer, schema_counters_count + ipc_counters_count);
    pack_counters(&packer, schema_counters, schema_counters_count, &stats);
    pack_counters(&packer, ipc_counters, ipc_counters_count, &server->stats);
    request_finish(request);
}

static void pack_pair_bytes(msgpack_packer *packer, const char *key, const struct buffer *text)
{
    rpc_pack_text(packer, key);
    msgpack_pack_str(packer, text->size);
    msgpack_pack_str_body(packer, text->data, text->size);
}

void local_operation_log(struct ipc_request *request)
{
    struct ipc_server *server = request->connection->server;
    struct buffer log = {0}, progress = {0};
    msgpack_packer packer;
    if (!server->operation_log) {
        refuse(request, REEVE_ERROR_NOT_FOUND, "", "the provisioner of this daemon keeps no logs of operations");
    } else if (!server->operation_log(server->operation_log_arg, &request->base.params.operation, &log, &progress)) {
        refuse(request, REEVE_ERROR_NOT_FOUND, "operationId",
               "nothing is kept of such an operation of this service; the last 100 logs are");
    } else if (log.failed || progress.failed) {
        refuse(request, REEVE_ERROR_NO_MEMORY, "", "out of memory");
    } else {
        msgpack_packer_init(&packer, request_answer(request), buffer_write);
        msgpack_pack_map(&packer, 2);
        pack_pair_bytes(&packer, "log", &log);
        pack_pair_bytes(&packer, "progress", &progress);
        request_finish(request);
    }
    buffer_deinit(&log);
    buffer_deinit(&progress);
}

/* ---- What blocks ---- */

struct maintenance {
    uv_work_t work;
    struct ipc_request *request;
    int r;
    struct reeve_error error;
    uint64_t last_sequence; /* snapshot: what it has in it at the least */
    struct reeve_check_summary summary;
    struct buffer findings; /* encoded strings */
    uint32_t findings_shown;
};

static void maintenance_start(struct ipc_request *request, uv_work_cb work, uv_after_work_cb after)
{
    struct ipc_server *server = request->connection->server;
    if (server->maintenance) {
        refuse(request, REEVE_ERROR_BUSY, "", "a snapshot or check is under way; try again when it is done");
        return;
    }
    struct maintenance *job = calloc(1, sizeof *job);
    if (!job) {
        refuse(request, REEVE_ERROR_NO_MEMORY, "", "out of memory");
        return;
    }
    job->request = request;
    job->work.data = job;
    if (uv_queue_work(server->loop, &job->work, work, after) < 0) {
        free(job);
        refuse(request, REEVE_ERROR_INTERNAL, "", "no thread could be started");
        return;
    }
    server->maintenance = true;
}

/* Back on the loop's thread: refuse, or give the output to append the answer to (NULL: nobody waits for it). */
static struct buffer *maintenance_answer(struct maintenance *job)
{
    job->request->connection->server->maintenance = false;
    return job->r < 0 ? NULL : request_answer(job->request);
}

static void maintenance_finish(struct maintenance *job)
{
    if (job->r < 0)
        request_refuse(job->request, &job->error);
    else
        request_finish(job->request);
    buffer_deinit(&job->findings);
    free(job);
}

/* The string of a decoded request ends where the next byte of the message starts. */
static void snapshot_work(uv_work_t *work)
{
    struct maintenance *job = work->data;
    const struct reeve_str *path = &job->request->base.params.snapshot.path;
    struct reeve_engine *engine = job->request->connection->server->engine;
    char *text = strndup(path->data, path->size);
    if (!text) {
        job->r = rpc_error_set(&job->error, REEVE_ERROR_NO_MEMORY, "", "out of memory");
        return;
    }
    job->last_sequence = reeve_last_sequence(engine);
    job->r = reeve_snapshot(engine, text, &job->error);
    free(text);
}

static void snapshot_done(uv_work_t *work, int status)
{
    (void)status;
    struct maintenance *job = work->data;
    struct buffer *out = maintenance_answer(job);
    if (out) {
        const struct reeve_str *path = &job->request->base.params.snapshot.path;
        msgpack_packer packer;
        msgpack_packer_init(&packer, out, buffer_write);
        msgpack_pack_map(&packer, 2);
        rpc_pack_text(&packer, "path");
        msgpack_pack_str(&packer, path->size);
        msgpack_pack_str_body(&packer, path->data, path->size);
        rpc_pack_pair_u64(&packer, "lastSequence", job->last_sequence);
    }
    maintenance_finish(job);
}

void local_snapshot(struct ipc_request *request)
{
    if (request->base.params.snapshot.path.data[0] != '/') {
        refuse(request, REEVE_ERROR_BAD_REQUEST, "path", "must be absolute: it is a path on the machine of the server");
        return;
    }
    maintenance_start(request, snapshot_work, snapshot_done);
}

static void on_finding(void *arg, const char *line)
{
    struct maintenance *job = arg;
    if (job->findings_shown == CHECK_FINDINGS_SHOWN_MAX)
        return;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &job->findings, buffer_write);
    rpc_pack_text(&packer, line);
    job->findings_shown++;
}

static void check_work(uv_work_t *work)
{
    struct maintenance *job = work->data;
    job->r = reeve_check_engine(job->request->connection->server->engine, on_finding, job, &job->summary, &job->error);
}

static void check_done(uv_work_t *work, int status)
{
    (void)status;
    struct maintenance *job = work->data;
    struct buffer *out = maintenance_answer(job);
    if (out) {
        const struct reeve_check_summary *summary = &job->summary;
        msgpack_packer packer;
        msgpack_packer_init(&packer, out, buffer_write);
        msgpack_pack_map(&packer, 12);
        rpc_pack_pair_u64(&packer, "organizations", summary->organizations);
        rpc_pack_pair_u64(&packer, "keys", summary->keys);
        rpc_pack_pair_u64(&packer, "services", summary->services);
        rpc_pack_pair_u64(&packer, "backups", summary->backups);
        rpc_pack_pair_u64(&packer, "events", summary->events);
        rpc_pack_pair_u64(&packer, "queued", summary->queued);
        rpc_pack_pair_u64(&packer, "due", summary->due);
        rpc_pack_pair_u64(&packer, "idempotency", summary->idempotency);
        rpc_pack_pair_u64(&packer, "lastSequence", summary->last_sequence);
        rpc_pack_pair_u64(&packer, "schemaVersion", summary->schema_version);
        rpc_pack_pair_u64(&packer, "findingsCount", summary->findings);
        rpc_pack_text(&packer, "findings");
        msgpack_pack_array(&packer, job->findings_shown);
        buffer_append(out, job->findings.data, job->findings.size);
        out->failed |= job->findings.failed;
    }
    maintenance_finish(job);
}

void local_check(struct ipc_request *request)
{
    maintenance_start(request, check_work, check_done);
}
