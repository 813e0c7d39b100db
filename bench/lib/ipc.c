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
#include "bench/lib/run.h"
#include "schema.h"

#define ID_RING 65536 /* more than can be under way */

enum phase { CREATING, STOPPING, DELETING };

struct slot {
    char service_id[37];
    uint64_t sent_ns;
    enum phase phase;
};

struct bench {
    const struct run_options *options;
    struct run_result *result;
    struct ipc_client *client;
    struct slot *slots;
    struct map by_service;
    uint32_t *slot_of_id; /* request id modulo ID_RING -> slot */
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
          "--log-level", "warning", "--map-initial-bytes", "1073741824", (char *)NULL);
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
    fprintf(stderr, "bench: %s %s\n", reeve_error_name(error->code), error->message);
    bench->failed = true;
    return -1;
}

static int send_request(struct bench *bench, struct slot *slot, const char *method)
{
    msgpack_packer packer;
    uint32_t id;
    buffer_reset(&bench->params);
    msgpack_packer_init(&packer, &bench->params, buffer_write);
    const bool create = slot->phase == CREATING;
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
        pack_text(&packer, slot->service_id);
    }
    slot->sent_ns = bench_now_ns();
    if (ipc_client_send(bench->client, method, bench->params.data, bench->params.size, &id) < 0)
        return fail(bench, ipc_client_error(bench->client));
    bench->slot_of_id[id % ID_RING] = (uint32_t)(slot - bench->slots);
    return 0;
}

static bool uuid_of(const msgpack_object *text, struct reeve_uuid *ret_uuid)
{
    return text && text->type == MSGPACK_OBJECT_STR &&
           reeve_uuid_parse(text->via.str.ptr, text->via.str.size, ret_uuid);
}

static void take_response(struct bench *bench, const struct ipc_message *message)
{
    struct slot *slot = &bench->slots[bench->slot_of_id[message->id % ID_RING]];
    struct reeve_uuid id;
    if (message->is_error) {
        struct reeve_error error;
        ipc_error_decode(&message->body, &error);
        fail(bench, &error);
        return;
    }
    histogram_add(&bench->result->latency, bench_now_ns() - slot->sent_ns);
    bench->result->commands++;
    if (slot->phase == CREATING && uuid_of(ipc_map_get(ipc_map_get(&message->body, "service"), "id"), &id)) {
        reeve_uuid_format(&id, slot->service_id);
        map_put(&bench->by_service, &id, slot);
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
    struct slot *slot = map_get(&bench->by_service, &id);
    const msgpack_object *to = ipc_map_get(event, "to");
    if (!slot)
        return 0;
    if (is_text(to, "running")) {
        slot->phase = STOPPING;
        return send_request(bench, slot, "service.stop");
    }
    if (is_text(to, "stopped")) {
        slot->phase = DELETING;
        return send_request(bench, slot, "service.delete");
    }
    if (!is_text(to, "gone"))
        return 0;
    bench->result->lifecycles++;
    map_remove(&bench->by_service, &id);
    slot->phase = CREATING;
    return send_request(bench, slot, "service.create");
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
    return bench_daemon_stats(bench->client, end, bench->result) < 0 ? fail(bench, ipc_client_error(bench->client)) : 0;
}

static int set_up(struct bench *bench)
{
    static const uint8_t create[] = "\x82\xa4name\xa5"
                                    "bench\xa4paid\xc3";
    struct ipc_message message;
    struct reeve_uuid id;
    if (ipc_client_call(bench->client, "organization.create", create, sizeof create - 1, &message) < 0 ||
        !uuid_of(ipc_map_get(&message.body, "id"), &id))
        return fail(bench, ipc_client_error(bench->client));
    reeve_uuid_format(&id, bench->organization_id);
    if (ipc_client_call(bench->client, "event.watch", NULL, 0, &message) < 0)
        return fail(bench, ipc_client_error(bench->client));
    return take_stats(bench, false);
}

static int run(struct bench *bench)
{
    if (set_up(bench) < 0)
        return -1;
    const uint64_t started_ns = bench_now_ns(), until_ns = started_ns + (uint64_t)(bench->options->seconds * 1e9);
    for (unsigned i = 0; i < bench->options->outstanding; i++)
        send_request(bench, &bench->slots[i], "service.create");
    while (!bench->failed && bench_now_ns() < until_ns) {
        struct ipc_message message;
        if (ipc_client_receive(bench->client, 5000, &message) < 0)
            return fail(bench, ipc_client_error(bench->client));
        if (message.is_notification)
            take_notification(bench, &message);
        else
            take_response(bench, &message);
    }
    bench->result->seconds = (double)(bench_now_ns() - started_ns) / 1e9;
    return bench->failed ? -1 : take_stats(bench, true);
}

int run_ipc(const struct run_options *options, struct run_result *ret_result)
{
    char socket_path[4200];
    struct bench bench = {.options = options, .result = ret_result};
    *ret_result = (struct run_result){0};
    snprintf(socket_path, sizeof socket_path, "%s.sock", options->directory);
    bench.slots = calloc(options->outstanding, sizeof *bench.slots);
    bench.slot_of_id = calloc(ID_RING, sizeof *bench.slot_of_id);
    const pid_t pid = start_daemon(options, socket_path);
    int r = -1;
    if (bench.slots && bench.slot_of_id && pid > 0 && (bench.client = connect_to(socket_path, pid)))
        r = run(&bench);
    ipc_client_close(bench.client);
    if (pid > 0) {
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    }
    map_deinit(&bench.by_service);
    buffer_deinit(&bench.params);
    free(bench.slots);
    free(bench.slot_of_id);
    return r;
}
