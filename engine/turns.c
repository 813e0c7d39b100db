/* The engine's thread: it sleeps, or looks busily for what comes next, and takes turns. Each finishes what has become
 * durable and makes the next batch. */
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/crash.h"
#include "catalogue.h"
#include "engine.h"

#define ARENA_SIZE (256 * 1024)
#define FAILURE_PAUSE_MS 500
#define TIMER_MAX_MS 3600000
#define UNSETTLED_MAX 2
#define POLL_AFTER_MAX 255

/* ---- Batches ---- */

static struct batch *batch_take(struct reeve_engine *engine)
{
    pthread_mutex_lock(&engine->state_lock);
    struct batch *batch = engine->spare_batches;
    if (batch)
        engine->spare_batches = batch->next;
    pthread_mutex_unlock(&engine->state_lock);
    if (!batch) {
        batch = calloc(1, sizeof *batch);
        if (!batch)
            return NULL;
        arena_init(&batch->arena, ARENA_SIZE);
        batch->engine = engine;
    }
    atomic_store(&batch->references, 1);
    return batch;
}

void batch_release(struct batch *batch)
{
    if (atomic_fetch_sub(&batch->references, 1) > 1)
        return;
    arena_reset(&batch->arena);
    struct reeve_engine *engine = batch->engine;
    pthread_mutex_lock(&engine->state_lock);
    batch->next = engine->spare_batches;
    engine->spare_batches = batch;
    pthread_mutex_unlock(&engine->state_lock);
}

void batches_free(struct reeve_engine *engine)
{
    for (struct batch *batch = engine->spare_batches, *next; batch; batch = next) {
        next = batch->next;
        arena_deinit(&batch->arena);
        free(batch);
    }
}

void reports_free(struct report *report)
{
    for (struct report *next; report; report = next) {
        next = report->next;
        free(report);
    }
}

/* Reports of a batch that failed come first again. */
static struct report *join_reports(struct report *kept, struct report *fresh)
{
    if (!kept)
        return fresh;
    struct report *last = kept;
    while (last->next)
        last = last->next;
    last->next = fresh;
    return kept;
}

static void take_reload(struct reeve_engine *engine)
{
    pthread_mutex_lock(&engine->state_lock);
    engine->due |= engine->reload_wanted;
    if (engine->reload_wanted) {
        engine->core.limits = engine->pending_limits;
        catalogue_free(engine->catalogue);
        engine->catalogue = engine->pending_catalogue;
        engine->core.catalogue = engine->catalogue;
        engine->core.log_level = atomic_load(&engine->log_level);
        engine->pending_catalogue = NULL;
        engine->reload_wanted = false;
    }
    pthread_mutex_unlock(&engine->state_lock);
}

/* Bucket i takes what is not above 2 to the power of i; the last one takes the rest. */
static void count_in(struct reeve_histogram *histogram, uint64_t value)
{
    unsigned bucket = 0;
    while (bucket < REEVE_HISTOGRAM_BUCKETS - 1 && value > UINT64_C(1) << bucket)
        bucket++;
    histogram->buckets[bucket]++;
    histogram->sum += value;
    histogram->count++;
}

static void apply_reports(struct core *core, struct report *report)
{
    for (size_t i = 0; report; report = report->next, i++) {
        if (i % STORE_FETCH_MAX == 0)
            core_fetch_reports(core, report);
        core_report(core, report);
    }
}

static void apply_requests(struct core *core, struct reeve_request *request)
{
    for (size_t i = 0; request; request = request->internal.next, i++) {
        if (i % STORE_FETCH_MAX == 0)
            core_fetch_requests(core, request);
        request->internal.result = core_request(core, request);
        crash_point(CRASH_BATCH);
    }
}

/* Apply everything; from here on it is on its way to disk. */
static int make_batch(struct reeve_engine *engine, struct batch *batch)
{
    struct core *core = &engine->core;
    uint8_t seed[CORE_SEED_SIZE];
    randombytes_buf(seed, sizeof seed);
    const uint64_t mono_ns = clock_mono_ns();
    const uint64_t now_ms = clock_advance(&engine->clock, clock_wall_ns(), mono_ns) / 1000000;
    arena_reset(&batch->arena);
    const int r = core_begin(core, &batch->arena, now_ms, mono_ns / 1000000, seed);
    sodium_memzero(seed, sizeof seed);
    if (r < 0)
        return r;
    if (engine->failing)
        core_probe(core);
    apply_reports(core, batch->items.reports);
    apply_requests(core, batch->items.requests);
    core_due(core);
    crash_point(CRASH_COMMITTING);
    batch->sealed_ns = clock_mono_ns();
    /* Where nobody waits for the next batch, flushing on this thread saves two hops. */
    const bool wait = engine->unsettled_count == 0 && inbox_is_empty(&engine->inbox) && !engine->more_to_tell;
    engine->more_to_tell = false;
    return core_seal(core, wait, &batch->core);
}

static void refuse_all(struct batch *batch, struct reeve_request *requests, const struct reeve_error *error)
{
    static const struct reeve_result out_of_memory = {
        .error = {.code = REEVE_ERROR_NO_MEMORY, .message = "out of memory; nothing was changed"}};
    arena_reset(&batch->arena);
    struct reeve_result *result = arena_zalloc(&batch->arena, sizeof *result);
    if (result)
        result->error = *error;
    for (; requests; requests = requests->internal.next)
        requests->internal.result = result ? result : &out_of_memory;
}

/* It has not happened: who asked is told, and what provisioners have reported comes again. `in_doubt`: unless the
 * process ends before the store can write again. */
static void batch_failed(struct reeve_engine *engine, struct batch *batch, int r, bool in_doubt)
{
    struct reeve_error error;
    const char *reason = store_failure(engine->store);
    if (r == -REEVE_ERROR_NO_MEMORY)
        error_plain(&error, r);
    else
        error_set(&error, REEVE_ERROR_UNAVAILABLE, NULL, "%s: %s",
                  in_doubt ? "it is not known whether this was done" : "nothing was changed",
                  reason[0] ? reason : reeve_error_text(r));
    if (!engine->failing)
        core_log(&engine->core, REEVE_LOG_ERROR, "writes are refused until the store can write again: %s",
                 error.message);
    engine->failing = true;
    engine->core.stats.commit_failures++;
    refuse_all(batch, batch->items.requests, &error);
    if (r == -REEVE_ERROR_STORE_DAMAGED) { /* trying again would find the same */
        reports_free(batch->items.reports);
        batch->items.reports = NULL;
    }
    engine->kept_reports = join_reports(engine->kept_reports, batch->items.reports);
    /* What is remembered of keys, too: what is on disk is not known until it has been looked at again. */
    atomic_fetch_add(&engine->key_epoch, 1);
    atomic_store(&engine->refusing, true);
}

static void count_batch(struct reeve_engine *engine, const struct batch *batch)
{
    struct reeve_stats *stats = &engine->core.stats;
    const uint64_t inputs = batch->items.request_count + batch->items.report_count;
    const uint64_t commit_ns = clock_mono_ns() - batch->sealed_ns;
    stats->commit_ns += commit_ns;
    count_in(&stats->commit_us, commit_ns / 1000);
    stats->batches++;
    stats->batch_inputs += inputs;
    count_in(&stats->batch_size, inputs);
    if (inputs > stats->batch_largest)
        stats->batch_largest = inputs;
}

/* Commands go on without checkpoints, for as long as there is room. */
static void tell_of_checkpoints(struct reeve_engine *engine, bool failing)
{
    char reason[256];
    if (failing == engine->checkpoints_fail)
        return;
    engine->checkpoints_fail = failing;
    store_checkpoint_failure(engine->store, reason);
    if (failing)
        core_log(&engine->core, REEVE_LOG_WARNING,
                 "a checkpoint failed and is tried again, the journal grows meanwhile: %s", reason);
    else
        core_log(&engine->core, REEVE_LOG_INFO, "checkpoints succeed again");
}

void engine_publish_stats(struct reeve_engine *engine)
{
    struct store_stats store;
    store_get_stats(engine->store, &store);
    tell_of_checkpoints(engine, store.checkpoint_failing);
    struct reeve_stats *stats = &engine->core.stats;
    stats->store_puts = store.puts;
    stats->store_deletes = store.deletes;
    stats->store_bytes = store.bytes;
    stats->journal_bytes = store.journal_bytes;
    stats->journal_flushes = store.flushes;
    stats->journal_flush_ns = store.flush_ns;
    stats->journal_held_bytes = store.journal_held_bytes;
    stats->journal_file_bytes = store.journal_file_bytes;
    stats->table_bytes = store.table_bytes;
    stats->checkpoints = store.checkpoints;
    stats->checkpoint_failures = store.checkpoint_failures;
    stats->checkpoint_puts = store.checkpoint_puts;
    stats->checkpoint_ns = store.checkpoint_ns;
    stats->checkpoint_lag = store.checkpoint_lag;
    stats->map_bytes = store.map_bytes;
    stats->map_used_bytes = store.map_used_bytes;
    pthread_mutex_lock(&engine->state_lock);
    engine->stats = *stats;
    engine->state_counts = engine->core.durable.state_counts;
    engine->limits = engine->core.limits;
    engine->shown_clock = engine->clock;
    pthread_mutex_unlock(&engine->state_lock);
}

static void on_timer(uv_timer_t *timer);

static void set_timer(struct reeve_engine *engine)
{
    uint64_t mono_due_ms, now_due_ms, wait_ms = TIMER_MAX_MS;
    core_next_due(&engine->core, &mono_due_ms, &now_due_ms);
    const uint64_t mono_ms = clock_mono_ns() / 1000000, now_ms = engine->core.now_ms;
    if (mono_due_ms != UINT64_MAX)
        wait_ms = mono_due_ms > mono_ms && mono_due_ms - mono_ms < wait_ms ? mono_due_ms - mono_ms
                  : mono_due_ms > mono_ms                                  ? wait_ms
                                                                           : 0;
    if (now_due_ms != UINT64_MAX) {
        const uint64_t left_ms = now_due_ms > now_ms ? now_due_ms - now_ms : 0;
        wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
    }
    if (engine->failing)
        wait_ms = FAILURE_PAUSE_MS;
    uv_update_time(engine->loop);
    uv_timer_start(&engine->handles->timer, on_timer, wait_ms, 0);
}

/* A durable batch. The order is the promise: replies, events, effects, next timer. */
static void finish_batch(struct reeve_engine *engine, struct batch *batch, uint64_t durable)
{
    core_settle(&engine->core, &batch->core);
    /* What is remembered of keys ends before anybody has the answer. */
    if (batch->core.keys_changed || engine->failing)
        atomic_fetch_add(&engine->key_epoch, 1);
    if (engine->failing)
        core_log(&engine->core, REEVE_LOG_INFO, "the store can write again");
    engine->failing = false;
    count_batch(engine, batch);
    reports_free(batch->items.reports);
    atomic_store(&engine->published, engine->core.durable.sequence);
    crash_point(CRASH_COMMITTED);
    atomic_store(&engine->refusing, false);
    engine_publish_stats(engine); /* who has the answer finds it counted */
    clients_deliver(engine, batch, batch->items.requests);
    atomic_store(&engine->told, engine->core.durable.sequence);
    crash_point(CRASH_REPLIED);
    clients_wake(engine);
    crash_point(CRASH_DISPATCHING);
    core_dispatch_batch(&engine->core, &batch->core, durable);
    crash_point(CRASH_DISPATCHED);
    batch_release(batch);
}

static struct batch *take_unsettled(struct reeve_engine *engine)
{
    struct batch *batch = engine->unsettled_first;
    engine->unsettled_first = batch->next;
    if (!engine->unsettled_first)
        engine->unsettled_last = NULL;
    engine->unsettled_count--;
    return batch;
}

static void refuse_batch(struct reeve_engine *engine, struct batch *batch, int r, bool in_doubt)
{
    batch_failed(engine, batch, r, in_doubt);
    engine_publish_stats(engine);
    clients_deliver(engine, batch, batch->items.requests);
    clients_wake(engine);
    batch_release(batch);
}

/* What has become durable is finished, in order; when flushing fails, the rest has not happened. */
static void settle(struct reeve_engine *engine)
{
    uint64_t durable;
    if (!engine->unsettled_first)
        return;
    const int r = store_settle(engine->store, &durable);
    while (engine->unsettled_first && engine->unsettled_first->core.number <= durable)
        finish_batch(engine, take_unsettled(engine), durable);
    if (r < 0) {
        core_roll_back(&engine->core);
        while (engine->unsettled_first)
            refuse_batch(engine, take_unsettled(engine), r, store_is_in_doubt(engine->store));
    }
    engine_publish_stats(engine); /* with what was started */
    set_timer(engine);
}

static void settle_all(struct reeve_engine *engine)
{
    if (engine->unsettled_first)
        store_wait(engine->store);
    settle(engine);
}

/* Everything that has come in, or is due. */
static void run_batch(struct reeve_engine *engine)
{
    struct batch *batch = batch_take(engine);
    if (!batch)
        abort(); /* without 300 bytes nobody could even be told */
    inbox_take(&engine->inbox, (size_t)engine->core.limits.batch_max, &batch->items);
    batch->items.reports = join_reports(engine->kept_reports, batch->items.reports);
    engine->kept_reports = NULL;
    engine->due = false;
    const int r = make_batch(engine, batch);
    if (r < 0) {
        settle_all(engine); /* in order: what was sealed before may still come about */
        core_roll_back(&engine->core);
        refuse_batch(engine, batch, r, false);
        set_timer(engine);
        return;
    }
    batch->next = NULL;
    *(engine->unsettled_last ? &engine->unsettled_last->next : &engine->unsettled_first) = batch;
    engine->unsettled_last = batch;
    engine->unsettled_count++;
    settle(engine);
}

/* ---- Turns ---- */

enum turn {
    TURN_RAN,     /* a batch */
    TURN_IDLE,    /* there was nothing to do */
    TURN_BLOCKED, /* the engine is woken when there is room again */
};

static bool is_idle(struct reeve_engine *engine)
{
    return !engine->due && !engine->kept_reports && inbox_is_empty(&engine->inbox);
}

/* One turn of the engine. */
static enum turn run_turn(struct reeve_engine *engine)
{
    settle(engine);
    take_reload(engine);
    const bool idle = is_idle(engine);
    /* The next batch grows while two are on their way; who woke the engine when one has come home does so again. */
    if (idle || engine->unsettled_count >= UNSETTLED_MAX || store_room(engine->store) == STORE_WAIT) {
        engine_publish_stats(engine);
        return idle ? TURN_IDLE : TURN_BLOCKED;
    }
    run_batch(engine);
    return TURN_RAN;
}

/* To be woken takes longer than many a command: where one follows soon upon the answers before it, look for it for a
 * while. Where that was in vain, somebody else may need the processor: the next chances are let pass, twice as many
 * each time. */
static void poll_busily(struct reeve_engine *engine)
{
    if (engine->unsettled_count > 0 || !engine->many_processors || engine_is_guest(engine) ||
        engine->polls_spared++ < engine->poll_after)
        return;
    const uint64_t until_ns = clock_mono_ns() + engine->core.limits.busy_poll_us * 1000;
    while (inbox_is_empty(&engine->inbox) && clock_mono_ns() < until_ns)
        processor_pause();
    const bool in_vain = inbox_is_empty(&engine->inbox);
    engine->poll_after = in_vain ? 2 * engine->poll_after + 1 : 0;
    if (engine->poll_after > POLL_AFTER_MAX)
        engine->poll_after = POLL_AFTER_MAX;
    engine->polls_spared = 0;
}

/* Until nothing is left to be taken, or nothing can be. */
static void run_turns(struct reeve_engine *engine)
{
    for (;;) {
        const enum turn turn = run_turn(engine);
        if (turn == TURN_BLOCKED)
            return;
        if (turn == TURN_RAN)
            poll_busily(engine);
        if (inbox_sleep(&engine->inbox))
            return;
        if (engine_is_guest(engine)) {
            uv_async_send(&engine->handles->wake); /* what else the host's loop has to do comes first */
            return;
        }
    }
}

void turns_end(struct reeve_engine *engine)
{
    crash_point(CRASH_CLOSING);
    engine->core.hooks.has_provisioner = false; /* what is not in flight by now waits for the next opening */
    do {
        settle_all(engine);
        if (!is_idle(engine))
            run_batch(engine);
        settle_all(engine);
    } while (!inbox_close(&engine->inbox)); /* provisioners may still report */
    engine_close_handles(engine);
}

/* ---- What wakes the thread ---- */

static void on_timer(uv_timer_t *timer)
{
    struct reeve_engine *engine = timer->data;
    engine->due = true;
    run_turn(engine);
}

void turns_on_settled(void *arg)
{
    struct reeve_engine *engine = arg;
    if (atomic_load(&engine->listening))
        inbox_wake(&engine->inbox);
}

void turns_on_wake(uv_async_t *wake)
{
    struct reeve_engine *engine = wake->data;
    if (atomic_load(&engine->closing))
        turns_end(engine);
    else
        run_turns(engine);
}

void turns_run(void *arg)
{
    struct reeve_engine *engine = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* signals are the host's */
    pthread_setname_np(pthread_self(), "reeve-engine");
    uv_run(engine->loop, UV_RUN_DEFAULT);
}
