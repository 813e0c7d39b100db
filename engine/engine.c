#include "engine.h"

#include <assert.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crash.h"
#include "catalogue.h"

#define ARENA_SIZE (256 * 1024)
#define FAILURE_PAUSE_MS 500
#define TIMER_MAX_MS 3600000
#define UNSETTLED_MAX 2
#define POLL_AFTER_MAX 255

void engine_log(struct reeve_engine *engine, enum reeve_log_level level, const char *line)
{
    if (!engine->log || level > atomic_load(&engine->log_level))
        return;
    pthread_mutex_lock(&engine->log_lock);
    engine->log(engine->log_arg, level, line);
    pthread_mutex_unlock(&engine->log_lock);
}

uint64_t engine_now_ms(struct reeve_engine *engine)
{
    pthread_mutex_lock(&engine->state_lock);
    struct steady_clock clock = engine->shown_clock;
    pthread_mutex_unlock(&engine->state_lock);
    return clock_advance(&clock, clock_wall_ns(), clock_mono_ns()) / 1000000;
}

static void log_hook(void *arg, enum reeve_log_level level, const char *line)
{
    engine_log(arg, level, line);
}

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

static void free_reports(struct report *report)
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
    for (struct report *report = batch->items.reports; report; report = report->next)
        core_report(core, report);
    for (struct reeve_request *request = batch->items.requests; request; request = request->internal.next) {
        request->internal.result = core_request(core, request);
        crash_point(CRASH_BATCH);
    }
    core_due(core);
    crash_point(CRASH_COMMITTING);
    batch->sealed_ns = clock_mono_ns();
    /* Where nobody waits for the next batch, flushing on this thread saves two hops. */
    return core_seal(core, engine->unsettled_count == 0 && inbox_is_empty(&engine->inbox), &batch->core);
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
        free_reports(batch->items.reports);
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

static void publish_stats(struct reeve_engine *engine)
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
    uv_update_time(&engine->loop);
    uv_timer_start(&engine->timer, on_timer, wait_ms, 0);
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
    free_reports(batch->items.reports);
    atomic_store(&engine->published, engine->core.durable.sequence);
    crash_point(CRASH_COMMITTED);
    atomic_store(&engine->refusing, false);
    publish_stats(engine); /* who has the answer finds it counted */
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
    publish_stats(engine);
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
    publish_stats(engine); /* with what was started */
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

enum turn {
    TURN_RAN,     /* a batch */
    TURN_IDLE,    /* there was nothing to do */
    TURN_BLOCKED, /* the engine is woken when there is room again */
};

/* One turn of the engine. */
static enum turn run_turn(struct reeve_engine *engine)
{
    settle(engine);
    take_reload(engine);
    const bool idle = !engine->due && !engine->kept_reports && inbox_is_empty(&engine->inbox);
    /* The next batch grows while two are on their way; who woke the engine when one has come home does so again. */
    if (idle || engine->unsettled_count >= UNSETTLED_MAX || store_room(engine->store) == STORE_WAIT) {
        publish_stats(engine);
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
    if (engine->unsettled_count > 0 || !engine->many_processors || engine->polls_spared++ < engine->poll_after)
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
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct reeve_engine *engine = timer->data;
    engine->due = true;
    run_turn(engine);
}

static void on_settled(void *arg)
{
    struct reeve_engine *engine = arg;
    if (atomic_load(&engine->listening))
        inbox_wake(&engine->inbox);
}

static void on_wake(uv_async_t *wake)
{
    struct reeve_engine *engine = wake->data;
    const bool closing = atomic_load(&engine->closing);
    if (closing)
        crash_point(CRASH_CLOSING);
    if (closing)
        engine->core.hooks.has_provisioner = false; /* what is not in flight by now waits for the next opening */
    run_turns(engine);
    if (!closing || engine->unsettled_first)
        return;
    /* Provisioners may still report, and there is nobody to wake any more. */
    if (!inbox_close(&engine->inbox))
        return;
    uv_close((uv_handle_t *)&engine->timer, NULL);
    uv_close((uv_handle_t *)wake, NULL);
}

static void run_thread(void *arg)
{
    struct reeve_engine *engine = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* signals are the host's */
    pthread_setname_np(pthread_self(), "reeve-engine");
    uv_run(&engine->loop, UV_RUN_DEFAULT);
}

/* ---- Opening and closing ---- */

static int take_limits(struct reeve_limits *limits, const struct reeve_limits *wanted, struct reeve_error *ret_error)
{
    for (unsigned i = 0; i < schema_options_count; i++) {
        const struct option_type *option = &schema_options[i];
        uint64_t value;
        memcpy(&value, (const char *)wanted + option->offset, sizeof value);
        if (value == 0)
            value = option->preset;
        if (value < option->min || value > option->max)
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, option->name,
                             "must be from %llu to %llu %s <number:%llu>", (unsigned long long)option->min,
                             (unsigned long long)option->max, option->unit, (unsigned long long)value);
        memcpy((char *)limits + option->offset, &value, sizeof value);
    }
    return 0;
}

static int check_options(const struct reeve_options *options, struct reeve_error *ret_error)
{
    const struct reeve_provisioner *provisioner = options->provisioner;
    if (options->version > REEVE_OPTIONS_VERSION)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "version", "must be 0 to %d <number:%u>",
                         REEVE_OPTIONS_VERSION, options->version);
    if (!options->data_dir || !options->data_dir[0])
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "data_dir", "is required");
    if (strlen(options->data_dir) > 4000)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "data_dir", "must have at most 4000 bytes");
    if (options->endpoint_domain && strlen(options->endpoint_domain) > 100)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "endpoint_domain", "must have at most 100 bytes");
    if (provisioner && provisioner->version != REEVE_PROVISIONER_VERSION)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "provisioner.version", "must be %d <number:%u>",
                         REEVE_PROVISIONER_VERSION, provisioner->version);
    if (provisioner && (!provisioner->start || !provisioner->cancel))
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "provisioner", "needs start and cancel");
    return 0;
}

/* The engine's time does not go back behind what was written down. */
static uint64_t last_event_ns(struct store *store)
{
    struct store_read read;
    struct store_item item;
    uint64_t at_ms = 0;
    if (store_read_begin(store, &read) < 0)
        return 0;
    struct arena arena;
    struct reeve_event event;
    arena_init(&arena, 1024);
    if (store_read_last(&read, TABLE_EVENTS, &item) &&
        codec_decode_stored(&record_type_event, item.value, item.value_size, &arena, &event) == 0)
        at_ms = event.at_ms;
    arena_deinit(&arena);
    store_read_end(&read);
    return at_ms * 1000000;
}

static uint32_t password_forms(const struct reeve_provisioner *provisioner)
{
    return provisioner && provisioner->password_forms ? provisioner->password_forms : 1U << REEVE_PASSWORD_FORM_SHA_256;
}

static int open_core(struct reeve_engine *engine, const struct reeve_options *options, struct reeve_error *ret_error)
{
    struct core *core = &engine->core;
    int r = take_limits(&core->limits, &options->limits, ret_error);
    if (r == 0)
        r = catalogue_new(options->catalogue, &engine->catalogue, ret_error);
    if (r == 0)
        r = store_open(&(struct store_options){.directory = options->data_dir,
                                               .map_initial_bytes = core->limits.map_initial_bytes,
                                               .map_max_bytes = core->limits.map_max_bytes,
                                               .journal_segment_bytes = core->limits.journal_segment_bytes,
                                               .journal_max_bytes = core->limits.journal_max_bytes,
                                               .table_max_bytes = core->limits.table_max_bytes,
                                               .checkpoint_ms = core->limits.checkpoint_ms,
                                               .on_settled = on_settled,
                                               .arg = engine},
                       &engine->store, ret_error);
    if (r < 0)
        return r;
    core->store = engine->store;
    core->catalogue = engine->catalogue;
    core->endpoint_domain = reeve_str(engine->endpoint_domain);
    core->log_level = atomic_load(&engine->log_level);
    core->hooks = (struct core_hooks){.arg = engine,
                                      .has_provisioner = options->provisioner != NULL,
                                      .password_forms = password_forms(options->provisioner),
                                      .start = provisioner_start,
                                      .cancel = provisioner_cancel,
                                      .log = log_hook};
    clock_start(&engine->clock, clock_wall_ns(), clock_mono_ns(), last_event_ns(engine->store));
    r = core_init(core, engine->clock.now_ns / 1000000, ret_error);
    atomic_store(&engine->published, core->durable.sequence);
    atomic_store(&engine->told, core->durable.sequence);
    publish_stats(engine);
    return r;
}

static int open_loop(struct reeve_engine *engine, struct reeve_error *ret_error)
{
    if (uv_loop_init(&engine->loop) != 0)
        return error_set(ret_error, REEVE_ERROR_NO_MEMORY, NULL, "cannot make an event loop (file descriptors?)");
    uv_loop_configure(&engine->loop, UV_METRICS_IDLE_TIME);
    if (uv_async_init(&engine->loop, &engine->wake, on_wake) != 0 ||
        uv_timer_init(&engine->loop, &engine->timer) != 0) {
        uv_loop_close(&engine->loop);
        return error_set(ret_error, REEVE_ERROR_NO_MEMORY, NULL, "cannot make an event loop (file descriptors?)");
    }
    engine->wake.data = engine->timer.data = engine;
    inbox_init(&engine->inbox, &engine->wake, (size_t)engine->core.limits.queue_capacity,
               (size_t)engine->core.limits.operations_max * 4 + 1024);
    engine->due = true; /* what was under way before starts with the first batch */
    engine->many_processors = uv_available_parallelism() > 1;
    atomic_store(&engine->listening, true);
    return 0;
}

static void free_engine(struct reeve_engine *engine)
{
    core_deinit(&engine->core);
    store_close(engine->store);
    catalogue_free(engine->catalogue);
    catalogue_free(engine->pending_catalogue);
    free_reports(engine->kept_reports);
    for (struct batch *batch = engine->spare_batches, *next; batch; batch = next) {
        next = batch->next;
        arena_deinit(&batch->arena);
        free(batch);
    }
    pthread_mutex_destroy(&engine->clients_lock);
    pthread_mutex_destroy(&engine->state_lock);
    pthread_mutex_destroy(&engine->log_lock);
    key_cache_free(engine->key_cache);
    free(engine->data_dir);
    free(engine->endpoint_domain);
    free(engine);
}

static struct reeve_engine *new_engine(const struct reeve_options *options)
{
    struct reeve_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    pthread_mutex_init(&engine->clients_lock, NULL);
    pthread_mutex_init(&engine->state_lock, NULL);
    pthread_mutex_init(&engine->log_lock, NULL);
    engine->log = options->log;
    engine->log_arg = options->log_arg;
    atomic_init(&engine->log_level, options->log_level ? options->log_level : REEVE_LOG_INFO);
    engine->data_dir = strdup(options->data_dir);
    engine->endpoint_domain = strdup(options->endpoint_domain ? options->endpoint_domain : "reeve.local");
    engine->key_cache = key_cache_new();
    if (!engine->data_dir || !engine->endpoint_domain || !engine->key_cache) {
        free_engine(engine);
        return NULL;
    }
    return engine;
}

int reeve_open(const struct reeve_options *options, struct reeve_engine **ret_engine, struct reeve_error *ret_error)
{
    struct reeve_error ignored;
    if (!ret_error)
        ret_error = &ignored;
    *ret_engine = NULL;
    int r = check_options(options, ret_error);
    if (r < 0)
        return r;
    struct reeve_engine *engine = new_engine(options);
    if (!engine)
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    r = open_core(engine, options, ret_error);
    if (r == 0)
        r = open_loop(engine, ret_error);
    if (r < 0) {
        free_engine(engine);
        return r;
    }
    r = provisioner_open(engine, options->provisioner);
    /* Set before the thread is there: the provisioner's callbacks may want it at once. */
    *ret_engine = engine;
    if (r == 0 && uv_thread_create(&engine->thread, run_thread, engine) != 0)
        r = -REEVE_ERROR_NO_MEMORY;
    if (r < 0) {
        *ret_engine = NULL;
        provisioner_close(engine);
        store_mute(engine->store);
        uv_close((uv_handle_t *)&engine->wake, NULL);
        uv_close((uv_handle_t *)&engine->timer, NULL);
        uv_run(&engine->loop, UV_RUN_DEFAULT);
        uv_loop_close(&engine->loop);
        inbox_deinit(&engine->inbox);
        free_engine(engine);
        return error_plain(ret_error, r);
    }
    /* What was under way before starts now. */
    uv_async_send(&engine->wake);
    return 0;
}

void reeve_close(struct reeve_engine *engine)
{
    if (!engine)
        return;
    assert(!engine->clients); /* closed before, see reeve.h */
    atomic_store(&engine->closing, true);
    uv_async_send(&engine->wake);
    uv_thread_join(&engine->thread);
    const int r = uv_loop_close(&engine->loop);
    assert(r == 0);
    (void)r;
    provisioner_close(engine);
    store_mute(engine->store);
    struct inbox_items items;
    inbox_take(&engine->inbox, SIZE_MAX, &items);
    free_reports(items.reports); /* came after the last batch: the operation is dispatched again when opened */
    inbox_deinit(&engine->inbox);
    free_engine(engine);
}

int reeve_reload(struct reeve_engine *engine, const struct reeve_options *options, struct reeve_error *ret_error)
{
    struct reeve_limits limits;
    struct catalogue *catalogue;
    int r = take_limits(&limits, &options->limits, ret_error);
    if (r == 0)
        r = catalogue_new(options->catalogue, &catalogue, ret_error);
    if (r < 0)
        return r;
    pthread_mutex_lock(&engine->state_lock);
    catalogue_free(engine->pending_catalogue);
    engine->pending_catalogue = catalogue;
    engine->pending_limits = limits;
    engine->reload_wanted = true;
    if (options->log_level)
        atomic_store(&engine->log_level, options->log_level);
    pthread_mutex_unlock(&engine->state_lock);
    uv_async_send(&engine->wake);
    return 0;
}

void reeve_get_stats(struct reeve_engine *engine, struct reeve_stats *ret_stats)
{
    pthread_mutex_lock(&engine->state_lock);
    *ret_stats = engine->stats;
    pthread_mutex_unlock(&engine->state_lock);
    pthread_mutex_lock(&engine->inbox.lock);
    ret_stats->queue_full = engine->inbox.refused;
    pthread_mutex_unlock(&engine->inbox.lock);
}

uint64_t reeve_last_sequence(struct reeve_engine *engine)
{
    return atomic_load(&engine->published);
}

int reeve_snapshot(struct reeve_engine *engine, const char *path, struct reeve_error *ret_error)
{
    return store_copy(engine->store, path, ret_error);
}

void reeve_get_state_counts(struct reeve_engine *engine, struct reeve_state_counts *ret_counts)
{
    pthread_mutex_lock(&engine->state_lock);
    *ret_counts = engine->state_counts;
    pthread_mutex_unlock(&engine->state_lock);
}

void reeve_get_limits(struct reeve_engine *engine, struct reeve_limits *ret_limits)
{
    pthread_mutex_lock(&engine->state_lock);
    *ret_limits = engine->limits;
    pthread_mutex_unlock(&engine->state_lock);
}

bool reeve_is_writable(struct reeve_engine *engine)
{
    return !atomic_load(&engine->refusing);
}
