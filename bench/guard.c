/* A fixed input for counting instructions: so many lifecycles, in the same order whatever the machine's timing.
 * `guard embedded N` drives the core in this thread, in batches of a fixed size, with time and chance of its own;
 * `guard ipc|http N` sends one command after the other to the daemon that REEVE_BIN names. bench/guard.sh counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/common.h"
#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "password.h"

#define BATCH 64
#define START_MS UINT64_C(1700000000000)

struct guard {
    struct core core;
    struct arena arena;
    uint64_t now_ms;
    struct reeve_uuid organization_id;
    struct reeve_uuid ids[BATCH]; /* of the services of this batch */
    struct report reports[BATCH]; /* what the provisioner has done */
    unsigned started;
};

/* ---- The core, without a thread ---- */

static void on_start(void *arg, struct flight *flight)
{
    struct guard *guard = arg;
    guard->reports[guard->started++] = (struct report){.operation_id = flight->task.operation_id,
                                                       .attempt = flight->task.attempt,
                                                       .outcome = {.status = REEVE_OUTCOME_STATUS_DONE}};
}

static void on_cancel(void *arg, struct flight *flight)
{
    (void)arg, (void)flight;
}

static int open_core(struct guard *guard, const char *directory)
{
    struct reeve_error error;
    struct core *core = &guard->core;
    struct catalogue *catalogue = NULL;
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)&core->limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    const struct store_options options = {.directory = directory,
                                          .map_initial_bytes = core->limits.map_initial_bytes,
                                          .map_max_bytes = core->limits.map_max_bytes,
                                          .single_threaded = true};
    if (catalogue_new(NULL, &catalogue, &error) < 0 || store_open(&options, &core->store, &error) < 0)
        return bench_complain("guard", error.message);
    core->catalogue = catalogue;
    core->endpoint_domain = reeve_str("bench");
    core->hooks = (struct core_hooks){.arg = guard,
                                      .has_provisioner = true,
                                      .password_forms = 1U << REEVE_PASSWORD_FORM_SHA_256,
                                      .start = on_start,
                                      .cancel = on_cancel};
    arena_init(&guard->arena, 65536);
    guard->now_ms = START_MS;
    return core_init(core, guard->now_ms, &error) < 0 ? bench_complain("guard", error.message) : 0;
}

static int begin(struct guard *guard)
{
    uint8_t seed[CORE_SEED_SIZE] = {0};
    guard->now_ms++;
    memcpy(seed, &guard->now_ms, sizeof guard->now_ms);
    arena_reset(&guard->arena);
    return core_begin(&guard->core, &guard->arena, guard->now_ms, guard->now_ms - START_MS, seed);
}

/* 0: durable, what follows from it was started. */
static int end(struct guard *guard)
{
    core_due(&guard->core);
    const int r = core_commit(&guard->core);
    if (r != 0)
        return bench_complain("guard", "a batch was not committed");
    core_dispatch(&guard->core);
    return 0;
}

/* ---- Batches ---- */

static const struct reeve_result *ask(struct guard *guard, enum reeve_command command, unsigned index)
{
    struct reeve_request request = {.command = command};
    if (command == REEVE_COMMAND_SERVICE_CREATE)
        request.params.service_create = (struct reeve_service_create_params){.organization_id = guard->organization_id,
                                                                             .name = reeve_str("bench"),
                                                                             .provider = reeve_str("aws"),
                                                                             .region = reeve_str("us-east-1"),
                                                                             .tier = REEVE_TIER_PRODUCTION};
    else
        request.params.service = (struct reeve_service_params){.organization_id = guard->organization_id,
                                                               .service_id = guard->ids[index]};
    password_prepare(&request, guard->core.hooks.password_forms);
    return core_request(&guard->core, &request);
}

static int command_batch(struct guard *guard, enum reeve_command command)
{
    if (begin(guard) != 0)
        return -1;
    for (unsigned i = 0; i < BATCH; i++) {
        const struct reeve_result *result = ask(guard, command, i);
        if (!result || result->error.code)
            return bench_complain("guard", result ? result->error.message : "out of memory");
        if (command == REEVE_COMMAND_SERVICE_CREATE)
            guard->ids[i] = result->answer.service_created.service.id;
    }
    return end(guard);
}

static int report_batch(struct guard *guard)
{
    const unsigned count = guard->started;
    if (count != BATCH || begin(guard) != 0)
        return bench_complain("guard", "not everything was started");
    for (unsigned i = 0; i < count; i++)
        core_report(&guard->core, &guard->reports[i]);
    guard->started = 0;
    return end(guard);
}

static int make_organization(struct guard *guard)
{
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create.name = reeve_str("bench");
    if (begin(guard) != 0)
        return -1;
    const struct reeve_result *result = core_request(&guard->core, &request);
    if (!result || result->error.code)
        return -1;
    guard->organization_id = result->answer.organization.id;
    return end(guard);
}

static int run_core(const struct run_options *options, struct run_result *ret_result)
{
    static const enum reeve_command commands[] = {REEVE_COMMAND_SERVICE_CREATE, REEVE_COMMAND_SERVICE_STOP,
                                                  REEVE_COMMAND_SERVICE_DELETE};
    static struct guard guard;
    int r = open_core(&guard, options->directory);
    if (r == 0)
        r = make_organization(&guard);
    for (uint64_t done = 0; r == 0 && done < options->limit; done += BATCH) {
        for (int i = 0; i < 3 && r == 0; i++) {
            r = command_batch(&guard, commands[i]);
            if (r == 0)
                r = report_batch(&guard);
        }
        ret_result->count += BATCH;
    }
    core_deinit(&guard.core);
    store_close(guard.core.store);
    catalogue_free((struct catalogue *)(uintptr_t)guard.core.catalogue);
    arena_deinit(&guard.arena);
    return r;
}

/* ---- Which ---- */

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        run_function run;
    } modes[] = {{"embedded", run_core}, {"ipc", run_ipc}, {"http", run_http}};
    static struct run_result result;
    struct bench_paths paths;
    char directory[4096];
    bench_find_paths(&paths);
    snprintf(directory, sizeof directory, "%s-guard", paths.directory);
    const struct run_options options = {.directory = directory,
                                        .binary = paths.binary,
                                        .outstanding = 1,
                                        .seconds = 3600,
                                        .limit = argc == 3 ? strtoull(argv[2], NULL, 10) : 0};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0] && options.limit; i++) {
        char mark[4200];
        if (strcmp(argv[1], modes[i].name) != 0)
            continue;
        snprintf(mark, sizeof mark, "%s.filled", directory);
        remove(mark);
        if (bench_make_fresh(directory) < 0)
            return 1;
        const int r = modes[i].run(&options, &result);
        remove(mark);
        bench_remove_tree(directory);
        return r < 0 ? 1 : 0;
    }
    fprintf(stderr, "usage: guard embedded|ipc|http LIFECYCLES\n");
    return 2;
}
