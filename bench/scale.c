/* A million services: how long opening takes, what memory it needs beside the mapped file, and how create and get
 * compare with ten thousand. `scale [SERVICES] [DIR]` */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "bench/lib/run.h"

#define PIPELINE 4096
#define SMALL 10000
#define PROBES 200000

struct scale {
    struct reeve_engine *engine;
    struct reeve_client *client;
    uv_loop_t loop;
    struct reeve_uuid organization_id;
    struct reeve_uuid *ids;
    uint64_t created, wanted, under_way;
    bool failed;
    struct reeve_request requests[PIPELINE];
};

static struct scale scale;

static void on_start(void *arg, struct reeve_task *task)
{
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE};
    (void)arg;
    reeve_operation_finish(scale.engine, &task->operation_id, task->attempt, &done);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

static const struct reeve_provisioner provisioner = {
    .version = REEVE_PROVISIONER_VERSION, .name = "bench", .start = on_start, .cancel = on_cancel};

static int open_engine(const char *directory)
{
    struct reeve_error error;
    struct reeve_options options = {.data_dir = directory, .provisioner = &provisioner, .limits = bench_limits()};
    options.limits.services_per_org = 100000000;
    if (reeve_open(&options, &scale.engine, &error) < 0) {
        fprintf(stderr, "bench: %s\n", error.message);
        return -1;
    }
    uv_loop_init(&scale.loop);
    return reeve_client_open(scale.engine, &scale.loop, &scale.client);
}

static void close_engine(void)
{
    reeve_client_close(scale.client, NULL, NULL);
    uv_run(&scale.loop, UV_RUN_DEFAULT);
    uv_loop_close(&scale.loop);
    reeve_close(scale.engine);
}

static void create(struct reeve_request *request);

static void on_created(struct reeve_request *request, const struct reeve_result *result)
{
    scale.under_way--;
    if (result->error.code) {
        fprintf(stderr, "bench: %s\n", result->error.message);
        scale.failed = true;
        return;
    }
    if (request->command == REEVE_COMMAND_ORGANIZATION_CREATE)
        scale.organization_id = result->answer.organization.id;
    else
        scale.ids[scale.created++] = result->answer.service_created.service.id;
    if (scale.created + scale.under_way < scale.wanted && request->command == REEVE_COMMAND_SERVICE_CREATE)
        create(request);
}

static void create(struct reeve_request *request)
{
    *request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_CREATE, .on_done = on_created};
    request->params.service_create = (struct reeve_service_create_params){.organization_id = scale.organization_id,
                                                                          .name = reeve_str("bench"),
                                                                          .provider = reeve_str("aws"),
                                                                          .region = reeve_str("us-east-1"),
                                                                          .tier = REEVE_TIER_DEVELOPMENT};
    scale.under_way++;
    if (reeve_submit(scale.client, request) < 0)
        scale.failed = true;
}

static void wait_all(void)
{
    while (scale.under_way && !scale.failed)
        uv_run(&scale.loop, UV_RUN_ONCE);
}

/* Creates per second up to so many services, `pipeline` at once. */
static double create_up_to(uint64_t wanted, uint64_t pipeline)
{
    const uint64_t before = scale.created, started_ns = bench_now_ns();
    scale.wanted = wanted;
    for (uint64_t i = 0; i < pipeline && scale.created + scale.under_way < wanted; i++)
        create(&scale.requests[i]);
    wait_all();
    return (double)(scale.created - before) / ((double)(bench_now_ns() - started_ns) / 1e9);
}

static bool ignore(void *arg, const void *record)
{
    (void)arg, (void)record;
    return true;
}

static void get(uint64_t index)
{
    struct reeve_error error;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET};
    request.params.service = (struct reeve_service_params){.organization_id = scale.organization_id,
                                                           .service_id = scale.ids[index]};
    if (reeve_read(scale.engine, &request, ignore, NULL, &error) < 0)
        fprintf(stderr, "bench: %s\n", error.message);
}

/* Warm: each page of the map has been touched before. */
static double get_rate(uint64_t among)
{
    for (uint64_t i = 0; i < among; i += 4)
        get(i);
    const uint64_t started_ns = bench_now_ns();
    for (unsigned i = 0; i < PROBES; i++)
        get((uint64_t)rand() % among);
    return PROBES / ((double)(bench_now_ns() - started_ns) / 1e9);
}

static long anonymous_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtol(line + 8, NULL, 10);
    }
    if (file)
        fclose(file);
    return kib;
}

static int remove_path(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void organization(void)
{
    struct reeve_request *request = &scale.requests[0];
    *request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_CREATE, .on_done = on_created};
    request->params.organization_create.name = reeve_str("bench");
    scale.under_way++;
    reeve_submit(scale.client, request);
    wait_all();
}

int main(int argc, char **argv)
{
    const uint64_t services = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    char here[3900] = "", directory[4096];
    const ssize_t size = readlink("/proc/self/exe", here, sizeof here - 1);
    if (size > 0)
        *strrchr(here, '/') = '\0';
    snprintf(directory, sizeof directory, "%s", argc > 2 ? argv[2] : strcat(here, "/scale-data"));
    scale.ids = calloc(services + 4 * SMALL, sizeof *scale.ids);
    if (services < 2 * SMALL || !scale.ids) {
        fprintf(stderr, "usage: scale [SERVICES] [DIR]   at least %d services\n", 2 * SMALL);
        return 2;
    }
    nftw(directory, remove_path, 16, FTW_DEPTH | FTW_PHYS);
    if (open_engine(directory) < 0)
        return 1;
    organization();
    create_up_to(SMALL, PIPELINE);
    const double small_create = create_up_to(SMALL + SMALL, 1000), small_get = get_rate(SMALL);
    create_up_to(services, PIPELINE);
    close_engine();

    const long before_kib = anonymous_kib();
    const uint64_t opening_ns = bench_now_ns();
    if (open_engine(directory) < 0)
        return 1;
    create_up_to(services + 1, 1);
    const double open_seconds = (double)(bench_now_ns() - opening_ns) / 1e9;
    const double large_create = create_up_to(services + 1 + SMALL, 1000), large_get = get_rate(services);
    const long after_kib = anonymous_kib();
    close_engine();
    nftw(directory, remove_path, 16, FTW_DEPTH | FTW_PHYS);

    printf("%llu services\n  opening, until a first create was durable   %8.3f s\n"
           "  memory beside the map, after the bench's own %8.1f MiB (before opening %.1f MiB)\n"
           "  create, 1000 outstanding   %8.0f /s   among %d: %8.0f /s   ratio %.2f\n"
           "  get, one thread            %8.0f /s   among %d: %8.0f /s   ratio %.2f\n",
           (unsigned long long)services, open_seconds, (double)after_kib / 1024, (double)before_kib / 1024,
           large_create, SMALL, small_create, large_create / small_create, large_get, SMALL, small_get,
           large_get / small_get);
    free(scale.ids);
    return scale.failed ? 1 : 0;
}
