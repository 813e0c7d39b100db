/* A batch: applied to the engine and to the model, sealed, settled or failed; and where the process dies of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "backup.h"
#include "service.h"
#include "world.h"

static void learn(const struct command *command, const struct reeve_result *result)
{
    const int place = world.next.created;
    const bool service = command->kind == REEVE_COMMAND_SERVICE_CREATE;
    const struct reeve_uuid *id = service ? &result->answer.service_created.service.id : &result->answer.backup.id;
    if (world.next.replayed) {
        coverage->replays++;
        SIM_REQUIRE(result->replayed, "an answer was not given again");
        SIM_REQUIRE(reeve_uuid_is_nil(&world.next.replayed_object) || memcmp(id, &world.next.replayed_object, 16) == 0,
                    "an answer that was given again names another thing");
        return;
    }
    SIM_REQUIRE(!result->replayed, "an answer was given again that was not given before");
    if (place < 0)
        return;
    if (service)
        world.next.services[place].id = *id;
    else
        world.next.backups[place].id = *id;
    if (command->key)
        world.next.keys[world.next.keys_count - 1].object = *id;
}

static void apply(struct inputs *inputs)
{
    struct core *core = &world.core;
    model_copy(&world.next, &world.model);
    world.next.now_ms = world.now_ms;
    for (unsigned i = 0; i < inputs->reports_count; i++) {
        world_trace("outcome %s of attempt %llu", reeve_outcome_status_name(inputs->reports[i].outcome.status),
                    (unsigned long long)inputs->reports[i].attempt);
        if (inputs->counts[i])
            model_outcome(&world.next, &inputs->reports[i].operation_id, inputs->reports[i].attempt, inputs->desired[i],
                          inputs->reports[i].outcome.status);
        else
            coverage->stale_outcomes++;
        core_report(core, &inputs->reports[i]);
    }
    for (unsigned i = 0; i < inputs->requests_count; i++) {
        const struct command *command = &inputs->commands[i];
        const int wanted = model_command(&world.next, command);
        const struct reeve_result *result = core_request(core, &inputs->requests[i]);
        world_trace("%s of service %d, backup %d: %s", schema_command(command->kind)->name, command->service,
                    command->backup, wanted ? reeve_error_name(wanted) : "done");
        SIM_REQUIRE(result && (int)result->error.code == wanted, "%s was answered with %s (%s), not with %s",
                    schema_command(command->kind)->name, reeve_error_name((int)result->error.code),
                    result->error.message, reeve_error_name(wanted));
        coverage->errors[wanted]++;
        if (wanted == 0)
            learn(command, result);
    }
}

/* Attempts whose time is up count as to be tried again, and are cancelled. */
static void time_out(void)
{
    for (unsigned i = 0; i < world.tasks_count; i++) {
        const struct task *task = &world.tasks[i];
        if (!task->cancelled && task->started_mono_ms + SIM_TIMEOUT_MS <= world.mono_ms)
            model_outcome(&world.next, &task->operation_id, task->attempt, task->desired, REEVE_OUTCOME_STATUS_RETRY);
    }
}

/* The engine waits no longer for attempts that were cancelled long ago. */
static void give_up_cancelled(void)
{
    for (unsigned i = world.tasks_count; i-- > 0;) {
        if (world.tasks[i].cancelled && world.tasks[i].cancelled_mono_ms + SIM_GRACE_MS <= world.mono_ms)
            world_drop_task(i);
    }
}

static void die(enum crash_point point);

static bool dies(enum crash_point point)
{
    if (world.crash != point)
        return false;
    die(point);
    return true;
}

#define DIED 1000

static bool by_chance(unsigned of)
{
    return sim_random(&world.random) % of == 0;
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

void world_spoil_writes(bool spoilt)
{
    limit_files(spoilt ? 0 : RLIM_INFINITY);
}

/* At once, or where the database has to grow: some parts of a checkpoint are durable by then. */
static void spoil_checkpoint(void)
{
    char path[DIRECTORY_PATH_MAX + 16];
    struct stat status = {0};
    snprintf(path, sizeof path, "%s/data.mdb", world.directory);
    if (by_chance(2))
        stat(path, &status);
    limit_files((rlim_t)status.st_size);
}

/* A store without threads makes its checkpoints here. Where they have failed for so long that it is full, they end
 * failing. */
static int begin_batch(struct arena *arena, const uint8_t seed[CORE_SEED_SIZE])
{
    const bool fails = world.failing_checkpoints > 0 && world.failing_checkpoints--;
    world_spoil_writes(fails);
    int r = core_begin(&world.core, arena, world.now_ms, world.mono_ms, seed);
    world_spoil_writes(false);
    if (r < 0 && fails) {
        world.failing_checkpoints = 0;
        coverage->full++;
        r = core_begin(&world.core, arena, world.now_ms, world.mono_ms, seed);
    }
    return r;
}

static int make_batch(struct inputs *inputs, struct sealed_batch *sealed)
{
    struct core *core = &world.core;
    uint8_t seed[CORE_SEED_SIZE];
    for (size_t i = 0; i < sizeof seed; i += 8) {
        const uint64_t word = sim_random(&world.random);
        memcpy(seed + i, &word, 8);
    }
    arena_reset(&sealed->arena);
    SIM_REQUIRE(begin_batch(&sealed->arena, seed) == 0, "a batch cannot be begun: %s", store_failure(world.store));
    world.in_batch = true;
    apply(inputs);
    time_out();
    model_due(&world.next);
    core_due(core);
    if (dies(CRASH_IN_BATCH))
        return DIED;
    if (world.fault == FAULT_BATCH)
        core_fault(core, -REEVE_ERROR_STORE_ACCESS);
    world.in_batch = false;
    return core_seal(core, false, &sealed->batch);
}

/* Reports of a batch that has not happened come again, as the engine keeps them. */
static void keep(const struct inputs *inputs)
{
    const unsigned count = inputs->reports_count, at = world.kept_count;
    memcpy(world.kept + at, inputs->reports, count * sizeof world.kept[0]);
    memcpy(world.kept_desired + at, inputs->desired, count * sizeof world.kept_desired[0]);
    memcpy(world.kept_counts + at, inputs->counts, count * sizeof world.kept_counts[0]);
    world.kept_count += count;
}

/* An answer of before a crash, kept, that comes again when the engine has asked again meanwhile: it is the answer. */
static bool has_come_to_count(const struct report *report, struct inputs *inputs)
{
    for (unsigned i = world.tasks_count; i-- > 0;) {
        if (memcmp(&world.tasks[i].operation_id, &report->operation_id, 16) == 0 &&
            world.tasks[i].attempt == report->attempt) {
            world_drop_task(i);
            return true;
        }
    }
    for (unsigned i = 0; i < inputs->reports_count; i++) {
        if (inputs->counts[i] && inputs->reports[i].attempt == report->attempt &&
            memcmp(&inputs->reports[i].operation_id, &report->operation_id, 16) == 0) {
            inputs->counts[i] = false;
            return true;
        }
    }
    return false;
}

static void put_kept_first(struct inputs *inputs)
{
    for (unsigned i = 0; i < world.kept_count; i++) {
        if (!world.kept_counts[i])
            world.kept_counts[i] = has_come_to_count(&world.kept[i], inputs);
    }
    memmove(inputs->reports + world.kept_count, inputs->reports, inputs->reports_count * sizeof inputs->reports[0]);
    memmove(inputs->desired + world.kept_count, inputs->desired, inputs->reports_count * sizeof inputs->desired[0]);
    memmove(inputs->counts + world.kept_count, inputs->counts, inputs->reports_count * sizeof inputs->counts[0]);
    memcpy(inputs->counts, world.kept_counts, world.kept_count * sizeof world.kept_counts[0]);
    memcpy(inputs->reports, world.kept, world.kept_count * sizeof world.kept[0]);
    memcpy(inputs->desired, world.kept_desired, world.kept_count * sizeof world.kept_desired[0]);
    inputs->reports_count += world.kept_count;
    world.kept_count = 0;
}

/* Would the reports of all that is under way find room if they came again? */
static bool may_fail(const struct inputs *inputs)
{
    unsigned count = inputs->reports_count;
    for (unsigned i = 0; i < world.sealed_count; i++)
        count += world.sealed[i].inputs.reports_count;
    return count <= KEPT_MAX;
}

/* What is durable of the sealed batches; the rest has not happened. */
static void take_durable(uint64_t number)
{
    unsigned count = 0;
    while (count < world.sealed_count && world.sealed[count].batch.number <= number)
        count++;
    if (count) {
        model_copy(&world.durable, &world.sealed[count - 1].model);
        world.durable_sequence = world.sealed[count - 1].sequence;
    }
}

/* Answers, events, effects. */
static bool finish_batch(uint64_t durable)
{
    struct sealed_batch *sealed = &world.sealed[0];
    core_settle(&world.core, &sealed->batch);
    SIM_REQUIRE(world.core.durable.sequence == sealed->sequence, "after a batch the newest event is %llu, not %llu",
                (unsigned long long)world.core.durable.sequence, (unsigned long long)sealed->sequence);
    if (dies(CRASH_BEFORE_REPLY) || dies(CRASH_BEFORE_DISPATCH))
        return false;
    give_up_cancelled();
    core_dispatch_batch(&world.core, &sealed->batch, durable);
    if (dies(CRASH_AFTER_DISPATCH))
        return false;
    const struct arena arena = sealed->arena;
    memmove(sealed, sealed + 1, (world.sealed_count - 1) * sizeof *sealed);
    world.sealed[--world.sealed_count].arena = arena;
    return true;
}

static void roll_back(void)
{
    world_trace("flushing fails: %u batches have not happened", world.sealed_count);
    coverage->roll_backs++;
    core_roll_back(&world.core);
    for (unsigned i = 0; i < world.sealed_count; i++)
        keep(&world.sealed[i].inputs);
    world.sealed_count = 0;
    model_copy(&world.model, &world.durable);
    world.sequence = world.durable_sequence;
}

/* False where the process dies of it. */
static bool settle(void)
{
    uint64_t durable;
    if (world.sealed_count == 0)
        return true;
    const int r = store_settle(world.store, &durable);
    take_durable(durable);
    while (world.sealed_count && world.sealed[0].batch.number <= durable) {
        if (!finish_batch(durable))
            return false; /* and so does what was behind it */
    }
    SIM_REQUIRE(r == 0 || world.fault == FAULT_FLUSH, "batches could not be made durable: %s",
                store_failure(world.store));
    if (r < 0)
        roll_back();
    return true;
}

bool world_settle_all(void)
{
    if (!settle())
        return false;
    const bool fails = world.fault == FAULT_FLUSH && world.sealed_count;
    world_spoil_writes(fails);
    store_wait(world.store);
    world_spoil_writes(false);
    if (!settle())
        return false;
    if (fails)
        world.fault = FAULT_NONE;
    SIM_REQUIRE(world.sealed_count == 0, "a batch is neither durable nor refused");
    return true;
}

static void make_checkpoint(void)
{
    store_wait(world.store);
    if (world.fault == FAULT_CHECKPOINT)
        spoil_checkpoint();
    const int r = store_checkpoint(world.store);
    world_spoil_writes(false);
    SIM_REQUIRE(r == 0 || world.fault == FAULT_CHECKPOINT, "a checkpoint has failed: %s", store_failure(world.store));
    world_trace("a checkpoint%s", r < 0 ? " fails" : "");
    if (r < 0)
        world.failing_checkpoints = (unsigned)(sim_random(&world.random) % 96);
    *(r < 0 ? &coverage->checkpoint_failures : &coverage->checkpoints) += 1;
    world.fault = world.fault == FAULT_CHECKPOINT ? FAULT_NONE : world.fault;
}

/* It has not happened; those before it may. */
static void batch_failed(const struct inputs *inputs)
{
    coverage->faults++;
    world.fault = FAULT_NONE;
    if (!world_settle_all())
        return;
    core_roll_back(&world.core);
    world.sequence = world.durable_sequence;
    keep(inputs);
}

void world_run_batch(struct inputs *inputs)
{
    coverage->batches++;
    put_kept_first(inputs);
    if (!may_fail(inputs))
        world.fault = FAULT_NONE;
    if (dies(CRASH_BEFORE_BATCH))
        return;
    if (world.fault == FAULT_CHECKPOINT || (world.failing_checkpoints == 0 && by_chance(16)))
        make_checkpoint();
    struct sealed_batch *sealed = &world.sealed[world.sealed_count];
    const int r = make_batch(inputs, sealed);
    if (r == DIED)
        return;
    SIM_REQUIRE((r < 0) == (world.fault == FAULT_BATCH), "a batch that could %sbe made was%s",
                world.fault == FAULT_BATCH ? "not " : "", r < 0 ? " not" : "");
    if (r < 0) {
        batch_failed(inputs);
        return;
    }
    world_compare();
    coverage->stacked += world.sealed_count > 0;
    model_copy(&world.model, &world.next);
    sealed->inputs = *inputs;
    model_copy(&sealed->model, &world.next);
    sealed->sequence = world.sequence;
    world.sealed_count++;
    if (dies(CRASH_SEALED))
        return;
    if (by_chance(3))
        store_wait(world.store); /* durable, and nobody knows */
    if (world.sealed_count == SEALED_MAX || by_chance(2))
        world_settle_all();
}

/* What is not durable is gone; the provisioner's programs may still answer, and the engine asks again. */
static void die(enum crash_point point)
{
    static struct inputs nothing;
    uint64_t durable;
    coverage->crashes[point]++;
    world_trace("the process dies, at point %d", (int)point);
    coverage->restarts++;
    world.crash = CRASH_NONE;
    world.fault = FAULT_NONE;
    world.failing_checkpoints = 0;
    world.kept_count = 0;
    while (world.tasks_count)
        world_drop_task(0);
    if (world.in_batch)
        store_abort(world.store);
    world.in_batch = false;
    if (by_chance(2))
        store_wait(world.store);
    store_settle(world.store, &durable); /* only to know */
    take_durable(durable);
    world.sealed_count = 0;
    model_copy(&world.model, &world.durable);
    world.sequence = world.durable_sequence;
    world_close_core();
    world_open_core();
    memset(&nothing, 0, sizeof nothing);
    world_run_batch(&nothing);
}
