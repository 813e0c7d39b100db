/* Lifecycles over the socket of a real daemon: everything pipelined, transitions learned by a watch. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/map.h"
#include "bench/lib/daemon_stats.h"
#include "bench/lib/host.h"
#include "bench/lib/watchers.h"
#include "schema.h"

#define ID_RING 65536 /* more than can be under way */

enum phase { CREATING, STOPPING, DELETING };

struct line {
    char service_id[37];
    uint64_t sent_ns;
    enum phase phase;
};

struct bench {
    pid_t pid;
    unsigned busy; /* lines with something under way */
    enum host_phase at;
    uint64_t started_ns;
    const struct run_options *options;
    struct run_result *result;
    struct ipc_client *client;
    struct line *lines;
    struct map by_service;
    uint32_t *line_of_id; /* request id modulo ID_RING -> line */
    char organization_id[37];
    struct buffer params;
    bool failed;
};

/* ---- The daemon ---- */

static pid_t start_daemon(const struct run_options *options, const char *socket_path)
{
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    execl(options->binary, options->binary, "serve", "--data", options->directory, "--socket", socket_path,
          "--provisioner", "simulated:delay-ms=0", "--operations-max", "16384", "--operations-per-org-max", "16384",
          "--log-level", "warning", "--map-initial-bytes", "1073741824", "--services-per-org", "1000000000",
          "--ipc-client-requests-max", "65536", (char *)NULL);
    fprintf(stderr, "bench: cannot run %s\n", options->binary);
    _exit(127);
}

static struct ipc_client *connect_to(const char *socket_path, pid_t pid)
{
    struct ipc_client *client;
    struct reeve_error error;
    while (ipc_client_connect(socket_path, &client, &error) < 0) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            fprintf(stderr, "bench: the daemon ended at once\n");
            return NULL;
        }
        poll(NULL, 0, 5);
    }
    return client;
}

/* ---- Messages ---- */

static void pack_text(msgpack_packer *packer, const char *text)
{
    const size_t size = strlen(text);
    msgpack_pack_str(packer, size);
    msgpack_pack_str_body(packer, text, size);
}

static int fail(struct bench *bench, const struct reeve_error *error)
{
    fprintf(stderr, "bench: %s %s\n", reeve_error_name((int)error->code), error->message);
    bench->failed = true;
    return -1;
}

static int send_request(struct bench *bench, struct line *line, const char *method)
{
    msgpack_packer packer;
    uint32_t id;
    buffer_reset(&bench->params);
    msgpack_packer_init(&packer, &bench->params, buffer_write);
    const bool create = line->phase == CREATING;
    msgpack_pack_map(&packer, create ? 5 : 2);
    pack_text(&packer, "organizationId");
    pack_text(&packer, bench->organization_id);
    if (create) {
        static const char *const fields[][2] = {
            {"name", "bench"}, {"provider", "aws"}, {"region", "us-east-1"}, {"tier", "production"}};
        for (int i = 0; i < 4; i++) {
            pack_text(&packer, fields[i][0]);
            pack_text(&packer, fields[i][1]);
        }
    } else {
        pack_text(&packer, "serviceId");
        pack_text(&packer, line->service_id);
    }
    line->sent_ns = bench_now_ns();
    if (ipc_client_send(bench->client, method, bench->params.data, bench->params.size, &id) < 0)
        return fail(bench, ipc_client_error(bench->client));
    bench->line_of_id[id % ID_RING] = (uint32_t)(line - bench->lines);
    return 0;
}

static bool uuid_of(const msgpack_object *text, struct reeve_uuid *ret_uuid)
{
    return text && text->type == MSGPACK_OBJECT_STR &&
           reeve_uuid_parse(text->via.str.ptr, text->via.str.size, ret_uuid);
}

static void take_response(struct bench *bench, const struct ipc_message *message)
{
    struct line *line = &bench->lines[bench->line_of_id[message->id % ID_RING]];
    struct reeve_uuid id;
    if (message->is_error) {
        struct reeve_error error;
        ipc_error_decode(&message->body, &error);
        fail(bench, &error);
        return;
    }
    if (bench->at == HOST_MEASURING) {
        histogram_add(&bench->result->latency, bench_now_ns() - line->sent_ns);
        bench->result->commands++;
    }
    if (line->phase == CREATING && uuid_of(ipc_map_get(ipc_map_get(&message->body, "service"), "id"), &id)) {
        reeve_uuid_format(&id, line->service_id);
        map_put(&bench->by_service, &id, line);
    }
}

static bool is_text(const msgpack_object *object, const char *text)
{
    return object && object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
           memcmp(object->via.str.ptr, text, object->via.str.size) == 0;
}

static int take_event(struct bench *bench, const msgpack_object *event)
{
    struct reeve_uuid id;
    if (!uuid_of(ipc_map_get(event, "serviceId"), &id))
        return 0;
    struct line *line = map_get(&bench->by_service, &id);
    const msgpack_object *to = ipc_map_get(event, "to");
    if (!line)
        return 0;
    if (is_text(to, "running")) {
        line->phase = STOPPING;
        return send_request(bench, line, "service.stop");
    }
    if (is_text(to, "stopped")) {
        line->phase = DELETING;
        return send_request(bench, line, "service.delete");
    }
    if (!is_text(to, "gone"))
        return 0;
    bench->result->count += bench->at == HOST_MEASURING;
    map_remove(&bench->by_service, &id);
    line->phase = CREATING;
    bench->busy -= bench->at == HOST_DRAINING;
    return bench->at == HOST_DRAINING ? 0 : send_request(bench, line, "service.create");
}

static void take_notification(struct bench *bench, const struct ipc_message *message)
{
    const msgpack_object *events = ipc_map_get(&message->body, "events");
    if (!events || events->type != MSGPACK_OBJECT_ARRAY)
        return;
    for (uint32_t i = 0; i < events->via.array.size && !bench->failed; i++)
        take_event(bench, &events->via.array.ptr[i]);
}

/* ---- The run ---- */

static int take_stats(struct bench *bench, bool end)
{
    bench_usage(bench->pid, end, bench->result);
    return bench_daemon_stats(bench->client, end, bench->result) < 0 ? fail(bench, ipc_client_error(bench->client)) : 0;
}

static int take_message(struct bench *bench)
{
    struct ipc_message message;
    if (ipc_client_receive(bench->client, 5000, &message) < 0)
        return fail(bench, ipc_client_error(bench->client));
    if (message.is_notification)
        take_notification(bench, &message);
    else
        take_response(bench, &message);
    return bench->failed ? -1 : 0;
}

static int take_messages(struct bench *bench, double seconds)
{
    const uint64_t until_ns = bench_now_ns() + (uint64_t)(seconds * 1e9);
    int r = 0;
    const uint64_t limit = bench->options->limit ? bench->options->limit : UINT64_MAX;
    while (r == 0 && bench_now_ns() < until_ns && bench->result->count < limit)
        r = take_message(bench);
    return r;
}

static int run(struct bench *bench)
{
    struct ipc_message message;
    struct run_result *result = bench->result;
    if (ipc_client_call(bench->client, "event.watch", NULL, 0, &message) < 0)
        return fail(bench, ipc_client_error(bench->client));
    for (; bench->busy < bench->options->outstanding; bench->busy++)
        send_request(bench, &bench->lines[bench->busy], "service.create");
    if (take_messages(bench, bench->options->warm_seconds) < 0 || take_stats(bench, false) < 0)
        return -1;
    bench->at = HOST_MEASURING;
    bench->started_ns = bench_now_ns();
    if (take_messages(bench, bench->options->seconds) < 0)
        return -1;
    result->seconds = (double)(bench_now_ns() - bench->started_ns) / 1e9;
    bench->at = HOST_DRAINING;
    result->file_bytes = bench_blocks(bench->options->directory);
    int r = take_stats(bench, true);
    const uint64_t told = result->events_told / (bench->options->watchers + 1); /* to each: they are told in rounds */
    result->events_behind = bench->options->watchers && told < result->events ? result->events - told : 0;
    while (r == 0 && bench->busy)
        r = take_message(bench);
    return r;
}

static int run_watched(struct bench *bench, const char *socket_path)
{
    struct watchers *watchers = NULL;
    if (bench->options->watchers && watchers_start(socket_path, bench->options->watchers, &watchers) < 0)
        return -1;
    const int r = run(bench);
    watchers_stop(watchers);
    return r;
}

int run_ipc(const struct run_options *options, struct run_result *ret_result)
{
    char socket_path[4200];
    struct bench bench = {.options = options, .result = ret_result};
    struct reeve_uuid organization_id;
    *ret_result = (struct run_result){0};
    if (host_fill(options->directory, options->existing, &organization_id) < 0)
        return -1;
    reeve_uuid_format(&organization_id, bench.organization_id);
    snprintf(socket_path, sizeof socket_path, "%s.sock", options->directory);
    bench.lines = calloc(options->outstanding, sizeof *bench.lines);
    bench.line_of_id = calloc(ID_RING, sizeof *bench.line_of_id);
    bench.pid = start_daemon(options, socket_path);
    int r = -1;
    if (bench.lines && bench.line_of_id && bench.pid > 0 && (bench.client = connect_to(socket_path, bench.pid)))
        r = run_watched(&bench, socket_path);
    ipc_client_close(bench.client);
    if (bench.pid > 0) {
        kill(bench.pid, SIGTERM);
        waitpid(bench.pid, NULL, 0);
    }
    map_deinit(&bench.by_service);
    buffer_deinit(&bench.params);
    free(bench.lines);
    free(bench.line_of_id);
    return r;
}
