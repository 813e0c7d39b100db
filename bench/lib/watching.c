#include "watching.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#include "bench/lib/common.h"

struct watching {
    struct reeve_engine *engine;
    struct reeve_client *client;
    uv_loop_t loop;
    uv_async_t ending;
    pthread_t thread;
    struct reeve_watch *watches;
    atomic_uint_least64_t *seen; /* sequence number that each has come to */
    unsigned count;
};

/* Each looks at every event, so that it costs no less than a host's own work would at least. */
static void on_events(struct reeve_watch *watch, const struct reeve_event *const *events, size_t count)
{
    atomic_uint_least64_t *seen = watch->data;
    uint64_t last = atomic_load_explicit(seen, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        if (events[i]->sequence != last + 1)
            abort(); /* one is missing, or comes twice */
        last = events[i]->sequence;
    }
    atomic_store_explicit(seen, last, memory_order_relaxed);
}

static void on_ending(uv_async_t *async)
{
    struct watching *watching = async->data;
    uv_close((uv_handle_t *)async, NULL);
    reeve_client_close(watching->client, NULL, NULL);
}

static void *run(void *arg)
{
    struct watching *watching = arg;
    pthread_setname_np(pthread_self(), "bench-watchers");
    uv_run(&watching->loop, UV_RUN_DEFAULT);
    return NULL;
}

static int start_watches(struct watching *watching)
{
    struct reeve_error error;
    for (unsigned i = 0; i < watching->count; i++) {
        struct reeve_watch *watch = &watching->watches[i];
        const uint64_t last = reeve_last_sequence(watching->engine);
        atomic_init(&watching->seen[i], last);
        *watch = (struct reeve_watch){.from_sequence = last + 1, .on_events = on_events, .data = &watching->seen[i]};
        if (reeve_watch_start(watching->client, watch, &error) < 0)
            return bench_complain("watches", error.message);
    }
    return 0;
}

static void free_all(struct watching *watching)
{
    free(watching->seen);
    free(watching->watches);
    free(watching);
}

int watching_start(struct reeve_engine *engine, unsigned count, struct watching **ret_watching)
{
    *ret_watching = NULL;
    if (count == 0)
        return 0;
    struct watching *watching = calloc(1, sizeof *watching);
    if (!watching)
        return -1;
    watching->engine = engine;
    watching->count = count;
    watching->watches = calloc(count, sizeof *watching->watches);
    watching->seen = calloc(count, sizeof *watching->seen);
    uv_loop_init(&watching->loop);
    uv_async_init(&watching->loop, &watching->ending, on_ending);
    watching->ending.data = watching;
    int r = watching->watches && watching->seen ? reeve_client_open(engine, &watching->loop, &watching->client) : -1;
    if (r == 0)
        r = start_watches(watching);
    if (r == 0)
        r = pthread_create(&watching->thread, NULL, run, watching) == 0 ? 0 : -1;
    if (r == 0)
        *ret_watching = watching;
    return r;
}

uint64_t watching_lag(const struct watching *watching)
{
    const uint64_t last = reeve_last_sequence(watching->engine);
    uint64_t lag = 0;
    for (unsigned i = 0; i < watching->count; i++) {
        const uint64_t seen = atomic_load_explicit(&watching->seen[i], memory_order_relaxed);
        if (seen < last && last - seen > lag)
            lag = last - seen;
    }
    return lag;
}

void watching_stop(struct watching *watching)
{
    if (!watching)
        return;
    uv_async_send(&watching->ending);
    pthread_join(watching->thread, NULL);
    uv_loop_close(&watching->loop);
    free_all(watching);
}
