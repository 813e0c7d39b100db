/* Lifecycles or updates through libreeve: one client on a loop in this thread, a provisioner that is done at once. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "base/map.h"
#include "bench/lib/run.h"
#include "codec.h"

struct slot {
    struct reeve_request request;
    struct reeve_uuid service_id;
    uint64_t sent_ns;
    bool odd; /* which of two names the next update gives */
    struct bench *bench;
};

struct bench {
    const struct run_options *options;
    struct run_result *result;
    uv_loop_t loop;
    uv_timer_t timer;
    struct reeve_engine *engine;
    struct reeve_client *client;
    struct reeve_watch watch;
    struct reeve_uuid organization_id;
    struct slot *slots;
    struct map by_service; /* service -> struct slot */
    unsigned ready;        /* services that stopped before updates begin */
    bool ending, failed;
    struct reeve_request setup;
    struct reeve_stats before;
    uint64_t started_ns;
};

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct reeve_limits bench_limits(void)
{
    return (struct reeve_limits){
        .operations_max = 16384, .operations_per_org_max = 16384, .map_initial_bytes = UINT64_C(1) << 30};
}

static void on_start(void *arg, struct reeve_task *task)
{
    const struct bench *bench = arg;
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE};
    reeve_operation_finish(bench->engine, &task->operation_id, task->attempt, &done);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

static void finish(struct bench *bench)
{
    if (bench->ending)
        return;
    bench->ending = true;
    struct reeve_stats after;
    reeve_get_stats(bench->engine, &after);
    struct run_result *result = bench->result;
    result->seconds = (double)(bench_now_ns() - bench->started_ns) / 1e9;
    result->batches = after.batches - bench->before.batches;
    result->batch_inputs = after.batch_inputs - bench->before.batch_inputs;
    result->puts = after.store_puts - bench->before.store_puts;
    result->bytes = after.store_bytes - bench->before.store_bytes;
    result->commit_ns = after.commit_ns - bench->before.commit_ns;
    reeve_watch_stop(&bench->watch);
    uv_close((uv_handle_t *)&bench->timer, NULL);
    reeve_client_close(bench->client, NULL, NULL);
}

static void fail(struct bench *bench, const struct reeve_error *error)
{
    fprintf(stderr, "bench: %s %s\n", reeve_error_name(error->code), error->message);
    bench->failed = true;
    finish(bench);
}

static void on_done(struct reeve_request *request, const struct reeve_result *result);

static void submit(struct slot *slot, enum reeve_command command)
{
    struct bench *bench = slot->bench;
    slot->request.command = command;
    slot->request.on_done = on_done;
    slot->request.data = slot;
    slot->sent_ns = bench_now_ns();
    const int r = reeve_submit(bench->client, &slot->request);
    if (r < 0)
        fail(bench, &(struct reeve_error){.code = (enum reeve_error_code) - r});
}

static void create(struct slot *slot)
{
    slot->request.params.service_create = (struct reeve_service_create_params){
        .organization_id = slot->bench->organization_id,
        .name = reeve_str("bench"),
        .provider = reeve_str("aws"),
        .region = reeve_str("us-east-1"),
        .tier = REEVE_TIER_PRODUCTION,
    };
    submit(slot, REEVE_COMMAND_SERVICE_CREATE);
}

static void update(struct slot *slot)
{
    slot->odd = !slot->odd;
    slot->request.params.service_update = (struct reeve_service_update_params){
        .organization_id = slot->bench->organization_id,
        .service_id = slot->service_id,
        .name = reeve_str(slot->odd ? "bench-a" : "bench-b")};
    submit(slot, REEVE_COMMAND_SERVICE_UPDATE);
}

static uint64_t stored_size(const struct record_type *type, const void *record)
{
    struct buffer bytes = {0};
    codec_encode_stored(type, record, &bytes);
    const size_t size = bytes.size;
    buffer_deinit(&bytes);
    return size;
}

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct slot *slot = request->data;
    struct bench *bench = slot->bench;
    if (result->error.code) {
        fail(bench, &result->error);
        return;
    }
    histogram_add(&bench->result->latency, bench_now_ns() - slot->sent_ns);
    bench->result->commands += !bench->ending;
    if (request->command == REEVE_COMMAND_SERVICE_UPDATE && !bench->ending)
        update(slot);
    if (request->command != REEVE_COMMAND_SERVICE_CREATE)
        return;
    const struct reeve_service *service = &result->answer.service_created.service;
    slot->request.params.service = (struct reeve_service_params){.organization_id = bench->organization_id,
                                                                 .service_id = service->id};
    slot->service_id = service->id;
    map_put(&bench->by_service, &slot->service_id, slot);
    if (bench->result->record_bytes == 0)
        bench->result->record_bytes = stored_size(&record_type_service, service);
}

static void on_time(uv_timer_t *timer)
{
    finish(timer->data);
}

static void start_measuring(struct bench *bench)
{
    bench->result->latency = (struct histogram){0};
    bench->result->commands = 0;
    reeve_get_stats(bench->engine, &bench->before);
    bench->started_ns = bench_now_ns();
    uv_timer_start(&bench->timer, on_time, (uint64_t)(bench->options->seconds * 1000), 0);
}

static void on_stopped(struct slot *slot)
{
    struct bench *bench = slot->bench;
    if (bench->options->work == LIFECYCLES) {
        submit(slot, REEVE_COMMAND_SERVICE_DELETE);
    } else if (++bench->ready == bench->options->outstanding) {
        start_measuring(bench);
        for (unsigned i = 0; i < bench->options->outstanding; i++)
            update(&bench->slots[i]);
    }
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct bench *bench = watch->data;
    struct slot *slot = map_get(&bench->by_service, &event->service_id);
    if (!slot || bench->ending)
        return;
    if (event->type == REEVE_EVENT_TYPE_SERVICE_RUNNING) {
        submit(slot, REEVE_COMMAND_SERVICE_STOP);
    } else if (event->type == REEVE_EVENT_TYPE_SERVICE_STOPPED) {
        on_stopped(slot);
    } else if (event->type == REEVE_EVENT_TYPE_SERVICE_GONE) {
        bench->result->lifecycles++;
        bench->result->event_bytes = stored_size(&record_type_event, event);
        map_remove(&bench->by_service, &event->service_id);
        create(slot);
    }
}

static void on_organization(struct reeve_request *request, const struct reeve_result *result)
{
    struct bench *bench = request->data;
    if (result->error.code) {
        fail(bench, &result->error);
        return;
    }
    bench->organization_id = result->answer.organization.id;
    start_measuring(bench);
    for (unsigned i = 0; i < bench->options->outstanding; i++)
        create(&bench->slots[i]);
}

static int run(struct bench *bench)
{
    const struct reeve_provisioner provisioner = {
        .version = REEVE_PROVISIONER_VERSION, .name = "bench", .arg = bench, .start = on_start, .cancel = on_cancel};
    const struct reeve_options options = {
        .data_dir = bench->options->directory, .provisioner = &provisioner, .limits = bench_limits()};
    struct reeve_error error;
    if (reeve_open(&options, &bench->engine, &error) < 0) {
        fprintf(stderr, "bench: %s\n", error.message);
        return -1;
    }
    uv_loop_init(&bench->loop);
    uv_timer_init(&bench->loop, &bench->timer);
    bench->timer.data = bench;
    reeve_client_open(bench->engine, &bench->loop, &bench->client);
    bench->watch = (struct reeve_watch){.on_event = on_event, .data = bench};
    reeve_watch_start(bench->client, &bench->watch, &error);
    bench->setup = (struct reeve_request){
        .command = REEVE_COMMAND_ORGANIZATION_CREATE, .on_done = on_organization, .data = bench};
    bench->setup.params.organization_create.name = reeve_str("bench");
    bench->setup.params.organization_create.paid = true;
    reeve_submit(bench->client, &bench->setup);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    reeve_close(bench->engine);
    uv_loop_close(&bench->loop);
    return bench->failed ? -1 : 0;
}

int run_embedded(const struct run_options *options, struct run_result *ret_result)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct slot *slots = calloc(options->outstanding, sizeof *slots);
    int r = -1;
    *ret_result = (struct run_result){0};
    if (bench && slots) {
        bench->options = options;
        bench->result = ret_result;
        bench->slots = slots;
        for (unsigned i = 0; i < options->outstanding; i++)
            slots[i].bench = bench;
        r = run(bench);
        map_deinit(&bench->by_service);
    }
    free(slots);
    free(bench);
    return r;
}
