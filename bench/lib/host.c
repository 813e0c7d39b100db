#include "host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIPELINE 4096     /* creates under way while a store is filled */
#define IDLE_MINUTES 1000 /* no service falls idle while anything is measured; still before its next backup is due */

struct reeve_limits bench_limits(void)
{
    return (struct reeve_limits){.operations_max = 16384,
                                 .operations_per_org_max = 16384,
                                 .services_per_org = 1000000000,
                                 .map_initial_bytes = UINT64_C(1) << 30};
}

static void on_start(void *arg, struct reeve_task *task)
{
    struct host *host = arg;
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE, .size_bytes = 1000};
    if (!host->has_engine_clock) {
        host->first_start_ns = bench_now_ns();
        host->has_engine_clock = pthread_getcpuclockid(pthread_self(), &host->engine_clock) == 0;
    }
    if (!host->holds)
        reeve_operation_finish(host->engine, &task->operation_id, task->attempt, &done);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

int host_open(struct host *host)
{
    const struct reeve_provisioner provisioner = {
        .version = REEVE_PROVISIONER_VERSION, .name = "bench", .arg = host, .start = on_start, .cancel = on_cancel};
    const struct reeve_options options = {.data_dir = host->options->directory,
                                          .provisioner = &provisioner,
                                          .loop = host->options->is_guest ? &host->loop : NULL,
                                          .limits = bench_limits()};
    struct reeve_error error;
    uv_loop_init(&host->loop);
    if (reeve_open(&options, &host->engine, &error) < 0) {
        uv_loop_close(&host->loop);
        return bench_complain(host->options->directory, error.message);
    }
    return reeve_client_open(host->engine, &host->loop, &host->client);
}

void host_close(struct host *host)
{
    if (host->client)
        reeve_client_close(host->client, NULL, NULL);
    uv_run(&host->loop, UV_RUN_DEFAULT);
    reeve_close(host->engine);
    uv_run(&host->loop, UV_RUN_DEFAULT); /* of a guest something is left to be closed */
    uv_loop_close(&host->loop);
    map_deinit(&host->by_service);
    map_deinit(&host->early);
    free(host->ids);
    free(host->are_running);
    free(host->are_busy);
    free(host->slots);
}

void host_fail(struct host *host, const struct reeve_error *error)
{
    if (!host->failed)
        bench_complain(reeve_error_name((int)error->code), error->message);
    host->failed = true;
    uv_stop(&host->loop);
}

static void on_look(uv_timer_t *timer)
{
    (void)timer; /* the loop has turned */
}

int host_settle(struct host *host)
{
    struct reeve_state_counts counts;
    uv_timer_init(&host->loop, &host->look);
    uv_timer_start(&host->look, on_look, 5, 5);
    do {
        uv_run(&host->loop, UV_RUN_ONCE);
        reeve_get_state_counts(host->engine, &counts);
    } while (!host->failed &&
             (counts.services[REEVE_SERVICE_STATE_STOPPING] || counts.services[REEVE_SERVICE_STATE_STARTING] ||
              counts.services[REEVE_SERVICE_STATE_PROVISIONING]));
    uv_close((uv_handle_t *)&host->look, NULL);
    return host->failed ? -1 : 0;
}

/* ---- The organization and its services ---- */

static bool take_organization(void *arg, const void *record)
{
    const struct reeve_organization *organization = record;
    struct host *host = arg;
    if (!bytes_equal(organization->name.data, organization->name.size, "bench", 5))
        return true;
    host->organization_id = organization->id;
    return false;
}

static void on_organization(struct reeve_request *request, const struct reeve_result *result)
{
    struct host *host = request->data;
    if (result->error.code)
        host_fail(host, &result->error);
    else
        host->organization_id = result->answer.organization.id;
}

int host_organization(struct host *host)
{
    struct reeve_error error;
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_LIST};
    if (reeve_read(host->engine, &request, take_organization, host, &error) < 0)
        return bench_complain("organizations", error.message);
    if (!reeve_uuid_is_nil(&host->organization_id))
        return 0;
    request = (struct reeve_request){
        .command = REEVE_COMMAND_ORGANIZATION_CREATE, .on_done = on_organization, .data = host};
    request.params.organization_create.name = reeve_str("bench");
    request.params.organization_create.paid = true;
    reeve_submit(host->client, &request);
    while (reeve_uuid_is_nil(&host->organization_id) && !host->failed)
        uv_run(&host->loop, UV_RUN_ONCE);
    return host->failed ? -1 : 0;
}

static bool take_service(void *arg, const void *record)
{
    const struct reeve_service *service = record;
    struct host *host = arg;
    if (host->count == host->capacity)
        return false;
    host->are_running[host->count] = service->state == REEVE_SERVICE_STATE_RUNNING;
    host->ids[host->count++] = service->id;
    return true;
}

int host_read_services(struct host *host)
{
    struct reeve_error error;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_LIST};
    request.params.service_list.organization_id = host->organization_id;
    host->capacity = host->options->existing;
    host->ids = calloc(host->capacity + 1, sizeof *host->ids);
    host->are_running = calloc(host->capacity + 1, sizeof *host->are_running);
    host->are_busy = calloc(host->capacity + 1, sizeof *host->are_busy);
    if (!host->ids || !host->are_running || !host->are_busy)
        return bench_complain("services", "out of memory");
    return reeve_read(host->engine, &request, take_service, host, &error) < 0
               ? bench_complain("services", error.message)
               : 0;
}

void host_create(struct host *host, struct reeve_request *request)
{
    request->command = REEVE_COMMAND_SERVICE_CREATE;
    request->params.service_create = (struct reeve_service_create_params){
        .organization_id = host->organization_id,
        .name = reeve_str("bench"),
        .provider = reeve_str("aws"),
        .region = reeve_str("us-east-1"),
        .tier = REEVE_TIER_PRODUCTION,
        .idle_timeout_minutes = IDLE_MINUTES,
    };
}

/* ---- Filling ---- */

struct filling {
    struct host host;
    uint64_t left, under_way;
    struct reeve_request requests[PIPELINE];
};

static void on_created(struct reeve_request *request, const struct reeve_result *result);

static void create_next(struct filling *filling, struct reeve_request *request)
{
    if (filling->left == 0 || filling->host.failed)
        return;
    filling->left--;
    filling->under_way++;
    host_create(&filling->host, request);
    request->on_done = on_created;
    request->data = filling;
    reeve_submit(filling->host.client, request);
}

static void on_created(struct reeve_request *request, const struct reeve_result *result)
{
    struct filling *filling = request->data;
    filling->under_way--;
    if (result->error.code)
        host_fail(&filling->host, &result->error);
    create_next(filling, request);
}

static int fill(struct filling *filling, uint64_t services)
{
    if (host_organization(&filling->host) < 0)
        return -1;
    filling->left = services;
    for (unsigned i = 0; i < PIPELINE; i++)
        create_next(filling, &filling->requests[i]);
    while (filling->under_way && !filling->host.failed)
        uv_run(&filling->host.loop, UV_RUN_ONCE);
    return host_settle(&filling->host);
}

int host_fill(const char *directory, uint64_t services, struct reeve_uuid *ret_organization_id)
{
    const struct run_options options = {.directory = directory};
    struct filling *filling = calloc(1, sizeof *filling);
    const bool is_filled = bench_is_filled(directory);
    if (!filling || (!is_filled && bench_make_fresh(directory) < 0)) {
        free(filling);
        return -1;
    }
    filling->host.options = &options;
    int r = host_open(&filling->host);
    if (r == 0) {
        r = is_filled ? host_organization(&filling->host) : fill(filling, services);
        *ret_organization_id = filling->host.organization_id;
        host_close(&filling->host);
    }
    if (r == 0 && !is_filled)
        r = bench_mark_filled(directory);
    free(filling);
    return r;
}

/* ---- Measuring ---- */

static uint64_t engine_ns(const struct host *host)
{
    struct timespec used = {0};
    if (host->has_engine_clock)
        clock_gettime(host->engine_clock, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

void host_start_measuring(struct host *host)
{
    struct run_result *result = host->result;
    result->latency = (struct histogram){0};
    result->commands = result->count = 0;
    host->phase = HOST_MEASURING;
    host->engine_before_ns = engine_ns(host);
    bench_usage(0, false, result);
    reeve_get_stats(host->engine, &host->before);
    host->measured_ns = bench_now_ns();
}

void host_stop_measuring(struct host *host)
{
    struct reeve_stats after;
    struct run_result *result = host->result;
    result->seconds = (double)(bench_now_ns() - host->measured_ns) / 1e9;
    if (host->watching)
        result->events_behind = watching_lag(host->watching);
    reeve_get_stats(host->engine, &after);
    result->engine_cpu_ns = host->engine_before_ns ? engine_ns(host) - host->engine_before_ns : 0;
    bench_usage(0, true, result);
    host->phase = HOST_DRAINING;
    result->batches = after.batches - host->before.batches;
    result->batch_inputs = after.batch_inputs - host->before.batch_inputs;
    result->puts = after.store_puts - host->before.store_puts;
    result->bytes = after.store_bytes - host->before.store_bytes;
    result->commit_ns = after.commit_ns - host->before.commit_ns;
    result->file_bytes = bench_blocks(host->options->directory);
}
