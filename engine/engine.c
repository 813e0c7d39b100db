/* An engine as its host has it: opened, reloaded, asked how it is, closed. What its thread does is in turns.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "catalogue.h"
#include "engine.h"

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
                                               .on_settled = turns_on_settled,
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
    engine_publish_stats(engine);
    return r;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct handles *handles = handle->data;
    if (++handles->closed == 2)
        free(handles);
}

void engine_close_handles(struct reeve_engine *engine)
{
    struct handles *handles = engine->handles;
    handles->wake.data = handles->timer.data = handles;
    uv_close((uv_handle_t *)&handles->timer, on_handle_closed);
    uv_close((uv_handle_t *)&handles->wake, on_handle_closed);
}

static int open_handles(struct reeve_engine *engine)
{
    struct handles *handles = calloc(1, sizeof *handles);
    if (!handles || uv_async_init(engine->loop, &handles->wake, turns_on_wake) != 0) {
        free(handles);
        return -REEVE_ERROR_NO_MEMORY;
    }
    uv_timer_init(engine->loop, &handles->timer); /* takes nothing that could be missing */
    handles->wake.data = handles->timer.data = engine;
    engine->handles = handles;
    if (engine_is_guest(engine)) {
        /* The loop lives as long as the host has something to do, not as long as the engine is open. */
        uv_unref((uv_handle_t *)&handles->wake);
        uv_unref((uv_handle_t *)&handles->timer);
    }
    return 0;
}

static int no_loop(struct reeve_error *ret_error)
{
    return error_set(ret_error, REEVE_ERROR_NO_MEMORY, NULL, "cannot use an event loop (file descriptors?)");
}

static int open_loop(struct reeve_engine *engine, struct uv_loop_s *hosts, struct reeve_error *ret_error)
{
    engine->loop = hosts ? hosts : &engine->own_loop;
    if (!hosts && uv_loop_init(engine->loop) != 0)
        return no_loop(ret_error);
    if (open_handles(engine) < 0) {
        if (!hosts)
            uv_loop_close(engine->loop);
        return no_loop(ret_error);
    }
    inbox_init(&engine->inbox, &engine->handles->wake, (size_t)engine->core.limits.queue_capacity,
               (size_t)engine->core.limits.operations_max * 4 + 1024);
    engine->due = true; /* what was under way before starts with the first batch */
    engine->many_processors = uv_available_parallelism() > 1;
    atomic_store(&engine->listening, true);
    return 0;
}

/* Nobody wakes the engine any more. */
static void close_loop(struct reeve_engine *engine)
{
    inbox_deinit(&engine->inbox);
    if (engine_is_guest(engine))
        return;
    const int r = uv_loop_close(engine->loop);
    assert(r == 0);
    (void)r;
}

static void free_engine(struct reeve_engine *engine)
{
    core_deinit(&engine->core);
    store_close(engine->store);
    catalogue_free(engine->catalogue);
    catalogue_free(engine->pending_catalogue);
    reports_free(engine->kept_reports);
    batches_free(engine);
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
        r = open_loop(engine, options->loop, ret_error);
    if (r < 0) {
        free_engine(engine);
        return r;
    }
    r = provisioner_open(engine, options->provisioner);
    /* Set before the thread is there: the provisioner's callbacks may want it at once. */
    *ret_engine = engine;
    if (r == 0 && !engine_is_guest(engine) && uv_thread_create(&engine->thread, turns_run, engine) != 0)
        r = -REEVE_ERROR_NO_MEMORY;
    if (r < 0) {
        *ret_engine = NULL;
        provisioner_close(engine);
        store_mute(engine->store);
        engine_close_handles(engine);
        if (!engine_is_guest(engine))
            uv_run(engine->loop, UV_RUN_DEFAULT);
        close_loop(engine);
        free_engine(engine);
        return error_plain(ret_error, r);
    }
    /* What was under way before starts now. */
    inbox_wake(&engine->inbox);
    return 0;
}

void reeve_close(struct reeve_engine *engine)
{
    if (!engine)
        return;
    assert(!engine->clients); /* closed before, see reeve.h */
    if (engine_is_guest(engine)) {
        turns_end(engine);
    } else {
        atomic_store(&engine->closing, true);
        inbox_wake(&engine->inbox);
        uv_thread_join(&engine->thread);
    }
    provisioner_close(engine);
    store_mute(engine->store);
    struct inbox_items items;
    inbox_take(&engine->inbox, SIZE_MAX, &items);
    reports_free(items.reports); /* came after the last batch: the operation is dispatched again when opened */
    close_loop(engine);
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
    inbox_wake(&engine->inbox);
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
