/* The provisioner, which is the test, and a run from an empty store to its quiet end. */
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "catalogue.h"
#include "world.h"

#define START_MS UINT64_C(1700000000000)
#define DRAIN_ROUNDS_MAX 400

struct world world;
bool sim_trace;

static jmp_buf out_of_run;
static char failure_text[600];

void world_trace(const char *format, ...)
{
    va_list arguments;
    if (!sim_trace)
        return;
    va_start(arguments, format);
    printf("%10llu.%03llu  ", (unsigned long long)(world.now_ms / 1000 % 10000000),
           (unsigned long long)(world.now_ms % 1000));
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

void sim_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure_text, sizeof failure_text, format, arguments);
    va_end(arguments);
    longjmp(out_of_run, 1);
}

uint64_t sim_random(uint64_t *state)
{
    uint64_t x = (*state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* ---- The provisioner ---- */

static void on_start(void *arg, struct flight *flight)
{
    (void)arg;
    const struct m_operation *operation = model_operation(&world.durable, &flight->task.operation_id);
    world_trace("started: %s, attempt %llu", reeve_operation_kind_name(flight->task.kind),
                (unsigned long long)flight->task.attempt);
    coverage->tasks++;
    SIM_REQUIRE(operation, "an attempt at %s was started that nothing waits for",
                reeve_operation_kind_name(flight->task.kind));
    SIM_REQUIRE(operation->kind == flight->task.kind && operation->attempt == flight->task.attempt,
                "attempt %llu at %s was started, not attempt %llu at %s", (unsigned long long)flight->task.attempt,
                reeve_operation_kind_name(flight->task.kind), (unsigned long long)operation->attempt,
                reeve_operation_kind_name(operation->kind));
    SIM_REQUIRE(!operation->pauses, "an attempt was started in its pause");
    for (unsigned i = 0; i < PAST_MAX; i++)
        SIM_REQUIRE(memcmp(&world.past[i].operation_id, &flight->task.operation_id, 16) != 0 ||
                        world.past[i].attempt != flight->task.attempt || world.past[i].desired == flight->task.desired,
                    "the same attempt is told to bring about %llu, and was told %llu",
                    (unsigned long long)flight->task.desired, (unsigned long long)world.past[i].desired);
    for (unsigned i = 0; i < world.tasks_count; i++)
        SIM_REQUIRE(memcmp(&world.tasks[i].slot_id, &flight->slot_id, 16) != 0,
                    "two attempts at once for one service: %s while %s is under way",
                    reeve_operation_kind_name(flight->task.kind), reeve_operation_kind_name(world.tasks[i].kind));
    SIM_REQUIRE(world.tasks_count < TASKS_MAX, "more attempts than there is room for");
    world.tasks[world.tasks_count++] = (struct task){.operation_id = flight->task.operation_id,
                                                     .slot_id = flight->slot_id,
                                                     .kind = flight->task.kind,
                                                     .attempt = flight->task.attempt,
                                                     .desired = flight->task.desired,
                                                     .started_mono_ms = world.mono_ms};
}

static void on_cancel(void *arg, struct flight *flight)
{
    (void)arg;
    world_trace("cancelled: %s, attempt %llu", reeve_operation_kind_name(flight->task.kind),
                (unsigned long long)flight->task.attempt);
    for (unsigned i = 0; i < world.tasks_count; i++) {
        if (memcmp(&world.tasks[i].operation_id, &flight->task.operation_id, 16) == 0 && !world.tasks[i].cancelled) {
            world.tasks[i].cancelled = true;
            world.tasks[i].cancelled_mono_ms = world.mono_ms;
        }
    }
}

void world_remember(const struct task *task)
{
    world.past[world.past_count++ % PAST_MAX] = *task;
}

void world_drop_task(unsigned index)
{
    world_remember(&world.tasks[index]);
    world.tasks[index] = world.tasks[--world.tasks_count];
}

/* ---- Opening and dying ---- */

static void set_limits(struct reeve_limits *limits)
{
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    limits->operation_attempts_max = SIM_ATTEMPTS_MAX;
    limits->operation_timeout_ms = SIM_TIMEOUT_MS;
    limits->operation_total_ms = 604800000;
    limits->cancel_grace_ms = SIM_GRACE_MS;
    limits->retry_min_ms = SIM_RETRY_MIN_MS;
    limits->retry_max_ms = SIM_RETRY_MAX_MS;
    limits->restart_min_ms = SIM_RESTART_MIN_MS;
    limits->restart_max_ms = SIM_RESTART_MAX_MS;
    limits->restart_reset_ms = SIM_RESTART_RESET_MS;
    limits->backups_per_service = SIM_BACKUPS_PER_SERVICE;
    limits->idempotency_ms = SIM_IDEMPOTENCY_MS;
    limits->overdue_per_second = 1000000;
    limits->map_initial_bytes = 1 << 20;      /* it has to grow */
    limits->journal_segment_bytes = 32 << 10; /* a few batches */
    limits->journal_max_bytes = 192 << 10;
    limits->table_max_bytes = 256 << 10;
}

void world_open_core(void)
{
    struct reeve_error error = {0};
    struct core *core = &world.core;
    *core = (struct core){0};
    set_limits(&core->limits);
    const struct store_options options = {.directory = world.directory,
                                          .map_initial_bytes = core->limits.map_initial_bytes,
                                          .map_max_bytes = core->limits.map_max_bytes,
                                          .journal_segment_bytes = core->limits.journal_segment_bytes,
                                          .journal_max_bytes = core->limits.journal_max_bytes,
                                          .table_max_bytes = core->limits.table_max_bytes,
                                          .single_threaded = true};
    SIM_REQUIRE(store_open(&options, &world.store, &error) == 0, "the store cannot be opened: %s", error.message);
    core->store = world.store;
    core->catalogue = world.catalogue;
    core->endpoint_domain = reeve_str("sim");
    core->hooks = (struct core_hooks){.has_provisioner = true,
                                      .password_forms = 1U << REEVE_PASSWORD_FORM_SHA_256,
                                      .start = on_start,
                                      .cancel = on_cancel};
    SIM_REQUIRE(core_init(core, world.now_ms, &error) == 0, "the core cannot be opened: %s", error.message);
}

void world_close_core(void)
{
    if (world.in_batch)
        store_abort(world.store);
    world.in_batch = false;
    core_deinit(&world.core);
    store_abandon(world.store);
    world.store = NULL;
}

/* ---- A run ---- */

static void pass(uint32_t word)
{
    static const uint64_t spans_ms[] = {1, 50, 300, 1000, 5000, 30000, 120000, 700000, 3700000, 40000000};
    const uint64_t span_ms = spans_ms[word % (sizeof spans_ms / sizeof spans_ms[0])] + (word >> 8) % 7;
    world.now_ms += span_ms;
    world.mono_ms += word >> 16 & 15 ? span_ms : span_ms / 2; /* a clock that was set drifts */
}

static void make_organizations(void)
{
    static struct inputs inputs;
    for (unsigned i = 0; i < SIM_ORGANIZATIONS; i++) {
        struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
        uint8_t seed[CORE_SEED_SIZE] = {(uint8_t)(i + 1)};
        request.params.organization_create.name = reeve_str("sim");
        request.params.organization_create.paid = i > 0;
        request.params.organization_create.service_quota = i == 0 ? SIM_SERVICE_QUOTA : 0;
        arena_reset(&world.arena);
        SIM_REQUIRE(core_begin(&world.core, &world.arena, world.now_ms, world.mono_ms, seed) == 0, "no batch");
        const struct reeve_result *result = core_request(&world.core, &request);
        SIM_REQUIRE(result->error.code == 0, "no organization: %s", result->error.message);
        world.organizations[i] = result->answer.organization.id;
        SIM_REQUIRE(core_commit(&world.core) == 0, "no organization");
        core_dispatch(&world.core);
    }
    world.organizations[SIM_ORGANIZATIONS].bytes[0] = 7;
    world.sequence = world.durable_sequence = world.core.durable.sequence;
    memset(&inputs, 0, sizeof inputs);
    world_run_batch(&inputs);
}

static void add_step(struct inputs *inputs, const struct sim_step *step)
{
    coverage->steps++;
    switch (step->kind) {
    case STEP_COMMAND:
        coverage->commands++;
        world_add_command(inputs, step->words);
        break;
    case STEP_OUTCOME:
        world_add_outcome(inputs, step->words);
        break;
    case STEP_PASS:
        pass(step->words[0]);
        break;
    case STEP_CRASH:
        world.crash = (enum crash_point)(1 + step->words[0] % (CRASH_POINTS - 1));
        break;
    case STEP_FAULT:
        world.fault = (enum fault)(1 + step->words[0] % (FAULTS - 1));
        break;
    default:
        break;
    }
}

static void check_store(void)
{
    char path[96];
    struct reeve_error error = {0};
    struct reeve_check_summary summary;
    snprintf(path, sizeof path, "%s/copy", world.directory);
    SIM_REQUIRE(store_copy(world.store, path, &error) == 0, "the store cannot be copied: %s", error.message);
    SIM_REQUIRE(reeve_check(path, NULL, NULL, &summary, &error) == 0, "the store cannot be checked: %s", error.message);
    SIM_REQUIRE(summary.findings == 0, "the check finds %llu things wrong", (unsigned long long)summary.findings);
    directory_remove(path);
    coverage->checks++;
}

/* Something that is still to be done; NULL: nothing. */
static const struct m_operation *busy(void)
{
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++) {
        if (world.model.services[i].exists && world.model.services[i].operation.kind)
            return &world.model.services[i].operation;
    }
    for (unsigned i = 0; i < SIM_BACKUPS_MAX; i++) {
        if (world.model.backups[i].exists && world.model.backups[i].operation.kind)
            return &world.model.backups[i].operation;
    }
    return NULL;
}

/* From here on everything succeeds and nobody asks for anything: all must come to rest. */
static void drain(void)
{
    static struct inputs inputs;
    world_trace("from here on all succeeds");
    const struct m_operation *left;
    for (unsigned round = 0; (left = busy()) || world.kept_count; round++) {
        SIM_REQUIRE(round < DRAIN_ROUNDS_MAX, "%s, attempt %llu, is never started",
                    left ? reeve_operation_kind_name(left->kind) : "an answer that was kept",
                    left ? (unsigned long long)left->attempt : 0);
        memset(&inputs, 0, sizeof inputs);
        while (world.tasks_count && inputs.reports_count < INPUTS_MAX) {
            world_add_report(&inputs, &world.tasks[0], REEVE_OUTCOME_STATUS_DONE, true);
            world_drop_task(0);
        }
        if (inputs.reports_count == 0) {
            world.now_ms += 1000;
            world.mono_ms += 1000;
        }
        world_run_batch(&inputs);
        world_settle_all();
    }
    world_settle_all();
    SIM_REQUIRE(world.core.flights.count == world.tasks_count, "%zu attempts are in flight, the provisioner has %u",
                world.core.flights.count, world.tasks_count);
}

static void run_steps(const struct sim_step *steps, size_t count, size_t *ret_at)
{
    static struct inputs inputs;
    for (size_t i = 0; i < count;) {
        memset(&inputs, 0, sizeof inputs);
        *ret_at = i;
        do
            add_step(&inputs, &steps[i++]);
        while (i < count && steps[i].joins && inputs.requests_count < INPUTS_MAX && inputs.reports_count < INPUTS_MAX);
        world_run_batch(&inputs);
    }
    *ret_at = count;
    world.crash = CRASH_NONE;
    world.fault = FAULT_NONE;
    world.failing_checkpoints = 0;
    drain();
    check_store();
}

void world_run(const struct sim_step *steps, size_t count, uint64_t seed, struct failure *ret_failure)
{
    static size_t at;
    struct reeve_error error;
    memset(&world, 0, sizeof world);
    memset(ret_failure, 0, sizeof *ret_failure);
    directory_make("/dev/shm", world.directory);
    if (catalogue_new(NULL, &world.catalogue, &error) != 0)
        abort();
    arena_init(&world.arena, 256 * 1024);
    for (unsigned i = 0; i < SEALED_MAX; i++)
        arena_init(&world.sealed[i].arena, 256 * 1024);
    signal(SIGXFSZ, SIG_IGN); /* world_spoil_writes() */
    world.now_ms = START_MS;
    world.mono_ms = 1000000;
    world.random = seed;
    coverage->runs++;
    if (setjmp(out_of_run) == 0) {
        world_open_core();
        make_organizations();
        run_steps(steps, count, &at);
    } else {
        world_spoil_writes(false);
        if (world.reading)
            store_read_end(&world.read);
        ret_failure->failed = true;
        ret_failure->step = at;
        memcpy(ret_failure->text, failure_text, sizeof failure_text);
    }
    if (world.store)
        world_close_core();
    catalogue_free(world.catalogue);
    arena_deinit(&world.arena);
    for (unsigned i = 0; i < SEALED_MAX; i++)
        arena_deinit(&world.sealed[i].arena);
    directory_remove(world.directory);
}
