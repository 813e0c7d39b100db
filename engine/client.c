/* A host's loop bound to the engine: answers and events arrive there. */
#include <assert.h>
#include <stdlib.h>

#include "base/crash.h"
#include "engine.h"
#include "password.h"

#define RUN_EVENTS_MAX 128
#define RUN_BYTES_MAX 16384 /* of the store: what a watch is told before its pause counts is bounded */

/* The answered requests of one batch, for one client; lives in the batch's arena. */
struct delivery {
    struct delivery *next;
    struct batch *batch;
    struct reeve_request *first, *last;
};

/* Events without a gap, read and decoded once for all watches that stand among them. They are in the client's arena. */
struct event_run {
    uint64_t from, first, end; /* asked for; what came first; who has been told of all goes on there */
    size_t count, bytes;
    bool out_of_memory;
    struct reeve_event events[RUN_EVENTS_MAX];
    const struct reeve_event *all[RUN_EVENTS_MAX], *wanted[RUN_EVENTS_MAX]; /* the latter by one watch */
};

struct reeve_client {
    struct reeve_engine *engine;
    struct reeve_client *next; /* the engine's list */

    pthread_mutex_t lock; /* the engine's thread and the loop's */
    struct delivery *first, *last;

    /* the engine's thread only: of the batch being delivered */
    struct delivery *filling;
    bool has_answers;

    atomic_size_t outstanding;
    atomic_bool watching;

    /* the loop's thread only */
    uv_async_t async;
    struct reeve_watch *watches;
    struct reeve_watch *next_watch; /* of the walk under way: a watch may be stopped in it */
    struct reeve_watch *served;     /* the one that is being told; NULL once it is stopped */
    struct event_run *run;          /* made for the first watch */
    unsigned round;
    struct arena arena;
    uint64_t told; /* events up to here may be handed out in this turn: the answers before them have been */
    bool closing, closed;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

/* ---- From the engine ---- */

static void add_to_delivery(struct batch *batch, struct reeve_client *client, struct reeve_request *request)
{
    request->internal.next = NULL;
    if (client->filling) {
        client->filling->last->internal.next = request;
        client->filling->last = request;
        return;
    }
    struct delivery *delivery = arena_zalloc(&batch->arena, sizeof *delivery);
    if (!delivery)
        abort(); /* the answer is durable and could not be told: not to be gone on from */
    *delivery = (struct delivery){.batch = batch, .first = request, .last = request};
    atomic_fetch_add(&batch->references, 1);
    client->filling = delivery;
}

static void hand_over(struct reeve_client *client)
{
    pthread_mutex_lock(&client->lock);
    if (client->last)
        client->last->next = client->filling;
    else
        client->first = client->filling;
    client->last = client->filling;
    pthread_mutex_unlock(&client->lock);
    client->filling = NULL;
    client->has_answers = true;
}

void clients_deliver(struct reeve_engine *engine, struct batch *batch, struct reeve_request *requests)
{
    if (!requests)
        return;
    for (struct reeve_request *request = requests, *next; request; request = next) {
        next = request->internal.next;
        add_to_delivery(batch, request->internal.client, request);
    }
    pthread_mutex_lock(&engine->clients_lock);
    for (struct reeve_client *client = engine->clients, *next; client; client = next) {
        next = client->next; /* handed over, it may close */
        if (client->filling)
            hand_over(client);
    }
    pthread_mutex_unlock(&engine->clients_lock);
}

void clients_wake(struct reeve_engine *engine)
{
    pthread_mutex_lock(&engine->clients_lock);
    for (struct reeve_client *client = engine->clients; client; client = client->next) {
        if (client->has_answers || atomic_load(&client->watching))
            uv_async_send(&client->async);
        client->has_answers = false;
    }
    pthread_mutex_unlock(&engine->clients_lock);
}

/* ---- On the loop: answers ---- */

static void deliver(struct reeve_client *client, struct delivery *delivery)
{
    size_t count = 0;
    for (struct reeve_request *request = delivery->first, *next; request; request = next, count++) {
        next = request->internal.next;
        password_forget(request);
        request->on_done(request, request->internal.result); /* the request is the host's again */
    }
    batch_release(delivery->batch);
    atomic_fetch_sub(&client->outstanding, count);
}

static void deliver_all(struct reeve_client *client)
{
    pthread_mutex_lock(&client->lock);
    struct delivery *delivery = client->first;
    client->first = client->last = NULL;
    pthread_mutex_unlock(&client->lock);
    for (struct delivery *next; delivery; delivery = next) {
        next = delivery->next;
        deliver(client, delivery);
    }
}

/* ---- On the loop: events ---- */

static bool take_event(void *arg, const struct store_item *item)
{
    struct reeve_client *client = arg;
    struct event_run *run = client->run;
    struct reeve_event *event = &run->events[run->count];
    const uint64_t sequence = get_be64(item->key);
    if (sequence > client->told || (run->count && sequence != run->end))
        return false;
    void *copy = arena_copy(&client->arena, item->value, item->value_size);
    const int r = copy ? codec_decode_stored(&record_type_event, copy, item->value_size, &client->arena, event)
                       : -REEVE_ERROR_NO_MEMORY;
    run->out_of_memory |= r == -REEVE_ERROR_NO_MEMORY;
    if (run->count == 0) {
        run->first = sequence;
        run->end = sequence + 1; /* a damaged one is passed over: `reeve check` tells */
    }
    if (r < 0)
        return false;
    event->sequence = sequence;
    run->end = sequence + 1;
    run->all[run->count++] = event;
    run->bytes += item->value_size;
    return run->count < RUN_EVENTS_MAX && run->bytes < RUN_BYTES_MAX;
}

/* False: there is nothing to tell from there on, now. */
static bool read_run(struct reeve_client *client, uint64_t from)
{
    struct store_read read;
    struct event_run *run = client->run;
    run->from = run->first = run->end = from;
    run->count = run->bytes = 0;
    run->out_of_memory = false;
    arena_reset(&client->arena);
    if (store_read_begin(client->engine->store, &read) < 0)
        return false;
    const struct store_key key = key_number(from);
    store_read_each(&read, TABLE_EVENTS, &key, false, take_event, client);
    store_read_end(&read);
    return run->end > from && !run->out_of_memory && read.error == 0;
}

static bool is_wanted(const struct reeve_watch *watch, const struct reeve_event *event)
{
    return (reeve_uuid_is_nil(&watch->organization_id) ||
            uuid_equal(&watch->organization_id, &event->organization_id)) &&
           (reeve_uuid_is_nil(&watch->service_id) || uuid_equal(&watch->service_id, &event->service_id));
}

/* Those of the run that a watch wants, from where it stands. */
static size_t choose(struct event_run *run, const struct reeve_watch *watch, const struct reeve_event *const **ret_list)
{
    const size_t start = (size_t)(watch->internal.next_sequence - run->first);
    size_t count = 0;
    if (start >= run->count)
        return 0;
    *ret_list = run->all + start;
    if (reeve_uuid_is_nil(&watch->organization_id) && reeve_uuid_is_nil(&watch->service_id))
        return run->count - start;
    *ret_list = run->wanted;
    for (size_t i = start; i < run->count; i++) {
        if (is_wanted(watch, run->all[i]))
            run->wanted[count++] = run->all[i];
    }
    return count;
}

/* Is the watch still there and running? It may be stopped or paused in any callback. */
static bool goes_on(const struct reeve_client *client, const struct reeve_watch *watch)
{
    return client->served == watch && !watch->internal.paused;
}

/* Told one by one, it may pause or stop behind each of them. */
static bool tell_each(struct reeve_client *client, struct reeve_watch *watch, const struct reeve_event *const *events,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        watch->internal.next_sequence = events[i]->sequence + 1;
        watch->on_event(watch, events[i]);
        if (!goes_on(client, watch))
            return false;
    }
    return true;
}

static void tell(struct reeve_client *client, struct reeve_watch *watch)
{
    struct event_run *run = client->run;
    const struct reeve_event *const *events = NULL;
    client->served = watch;
    if (watch->internal.next_sequence < run->first) {
        watch->internal.next_sequence = run->first;
        if (watch->on_lagged)
            watch->on_lagged(watch, run->first);
        if (!goes_on(client, watch))
            return;
    }
    const size_t count = choose(run, watch, &events);
    if (watch->on_event && !tell_each(client, watch, events, count))
        return;
    watch->internal.next_sequence = run->end;
    if (!watch->on_event && count)
        watch->on_events(watch, events, count);
    if (goes_on(client, watch) && run->end > client->told && watch->on_caught_up)
        watch->on_caught_up(watch);
}

static bool is_behind(const struct reeve_client *client, const struct reeve_watch *watch)
{
    return !watch->internal.paused && watch->internal.next_sequence <= client->told;
}

static void tell_all(struct reeve_client *client)
{
    const struct event_run *run = client->run;
    for (struct reeve_watch *watch = client->watches; watch; watch = client->next_watch) {
        client->next_watch = watch->internal.next;
        if (!is_behind(client, watch) || watch->internal.next_sequence < run->from ||
            watch->internal.next_sequence >= run->end || watch->internal.round == client->round)
            continue;
        watch->internal.round = client->round;
        tell(client, watch);
    }
    client->served = NULL;
}

static struct reeve_watch *next_behind(const struct reeve_client *client)
{
    struct reeve_watch *watch = client->watches;
    while (watch && (!is_behind(client, watch) || watch->internal.round == client->round))
        watch = watch->internal.next;
    return watch;
}

/* One run for each watch: those that stand at the same place share it. */
static void serve_watches(struct reeve_client *client)
{
    client->round++;
    for (struct reeve_watch *watch; (watch = next_behind(client));) {
        if (read_run(client, watch->internal.next_sequence))
            tell_all(client);
        else
            watch->internal.round = client->round; /* the others go on, and this one tries again */
    }
    client->round++;
    if (!next_behind(client))
        return;
    if (client->async.loop == client->engine->loop)
        client->engine->more_to_tell = true; /* who is told may ask for something: the next batch has more to come */
    uv_async_send(&client->async);           /* others of the loop have their turn first */
}

static bool take_first(void *arg, const struct store_item *item)
{
    *(uint64_t *)arg = get_be64(item->key);
    return false;
}

/* From there on events are wanted: are they all there? Called from callbacks too, whose event stays as it is. */
static int look_for(struct reeve_client *client, uint64_t from, struct reeve_error *ret_error)
{
    struct store_read read;
    uint64_t first = from;
    if (store_read_begin(client->engine->store, &read) < 0)
        return error_plain(ret_error, -REEVE_ERROR_UNAVAILABLE);
    const struct store_key key = key_number(from);
    store_read_each(&read, TABLE_EVENTS, &key, false, take_first, &first);
    store_read_end(&read);
    if (read.error < 0)
        return error_plain(ret_error, -REEVE_ERROR_UNAVAILABLE);
    if (first == from)
        return 0;
    error_set(ret_error, REEVE_ERROR_LAGGED, "from", "events before %llu are gone; resume there",
              (unsigned long long)first);
    ret_error->resume_sequence = first;
    return -REEVE_ERROR_LAGGED;
}

int reeve_watch_start(struct reeve_client *client, struct reeve_watch *watch, struct reeve_error *ret_error)
{
    struct reeve_engine *engine = client->engine;
    uint64_t from = watch->from_sequence;
    if (!watch->on_event && !watch->on_events)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "on_event", "is required, or on_events");
    if (!client->run && !(client->run = malloc(sizeof *client->run)))
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    const int r = from ? look_for(client, from, ret_error) : 0;
    if (r < 0)
        return r;
    if (from == 0)
        from = atomic_load(&engine->published) + 1;
    watch->internal.client = client;
    watch->internal.next_sequence = from;
    watch->internal.paused = false;
    watch->internal.round = client->round; /* started from a callback, it has its turn in the next round */
    watch->internal.previous = NULL;
    watch->internal.next = client->watches;
    if (client->watches)
        client->watches->internal.previous = watch;
    client->watches = watch;
    atomic_store(&client->watching, true);
    uv_async_send(&client->async);
    return 0;
}

void reeve_watch_stop(struct reeve_watch *watch)
{
    struct reeve_client *client = watch->internal.client;
    if (!client)
        return;
    if (client->next_watch == watch)
        client->next_watch = watch->internal.next;
    if (client->served == watch)
        client->served = NULL;
    if (watch->internal.previous)
        watch->internal.previous->internal.next = watch->internal.next;
    else
        client->watches = watch->internal.next;
    if (watch->internal.next)
        watch->internal.next->internal.previous = watch->internal.previous;
    watch->internal.client = NULL;
    atomic_store(&client->watching, client->watches != NULL);
}

void reeve_watch_pause(struct reeve_watch *watch)
{
    watch->internal.paused = true;
}

void reeve_watch_resume(struct reeve_watch *watch)
{
    if (!watch->internal.paused)
        return;
    watch->internal.paused = false;
    uv_async_send(&watch->internal.client->async);
}

/* ---- Life of a client ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct reeve_client *client = handle->data;
    void (*on_closed)(void *) = client->on_closed;
    void *arg = client->closed_arg;
    arena_deinit(&client->arena);
    free(client->run);
    pthread_mutex_destroy(&client->lock);
    free(client);
    if (on_closed)
        on_closed(arg);
}

static void leave_engine(struct reeve_client *client)
{
    struct reeve_engine *engine = client->engine;
    pthread_mutex_lock(&engine->clients_lock);
    struct reeve_client **link = &engine->clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    pthread_mutex_unlock(&engine->clients_lock);
}

static void close_if_done(struct reeve_client *client)
{
    if (!client->closing || client->closed || atomic_load(&client->outstanding) > 0)
        return;
    client->closed = true;
    leave_engine(client);
    uv_close((uv_handle_t *)&client->async, on_handle_closed);
}

static void on_async(uv_async_t *async)
{
    struct reeve_client *client = async->data;
    client->told = atomic_load(&client->engine->told); /* before the answers: those of these batches are there by now */
    deliver_all(client);
    if (!client->closing)
        serve_watches(client);
    close_if_done(client);
}

int reeve_client_open(struct reeve_engine *engine, struct uv_loop_s *loop, struct reeve_client **ret_client)
{
    *ret_client = NULL;
    struct reeve_client *client = calloc(1, sizeof *client);
    if (!client)
        return -REEVE_ERROR_NO_MEMORY;
    client->engine = engine;
    client->async.data = client;
    if (uv_async_init(loop, &client->async, on_async) != 0) {
        free(client);
        return -REEVE_ERROR_NO_MEMORY;
    }
    pthread_mutex_init(&client->lock, NULL);
    arena_init(&client->arena, 64 * 1024);
    pthread_mutex_lock(&engine->clients_lock);
    client->next = engine->clients;
    engine->clients = client;
    pthread_mutex_unlock(&engine->clients_lock);
    *ret_client = client;
    return 0;
}

void reeve_client_close(struct reeve_client *client, void (*on_closed)(void *arg), void *arg)
{
    if (!client)
        return;
    assert(!client->closing);
    while (client->watches)
        reeve_watch_stop(client->watches);
    client->closing = true;
    client->on_closed = on_closed;
    client->closed_arg = arg;
    close_if_done(client);
}

int reeve_submit(struct reeve_client *client, struct reeve_request *request)
{
    const enum reeve_command_mode mode = reeve_command_mode(request->command);
    if ((mode != REEVE_MODE_WRITE && mode != REEVE_MODE_CHANGE) || !request->on_done)
        return -REEVE_ERROR_BAD_REQUEST;
    request->internal.client = client;
    request->internal.result = NULL;
    password_prepare(request, client->engine->core.hooks.password_forms); /* never changes */
    atomic_fetch_add(&client->outstanding, 1);
    crash_point(CRASH_QUEUEING);
    const int r = inbox_push_request(&client->engine->inbox, request);
    crash_point(CRASH_QUEUED);
    if (r < 0) {
        atomic_fetch_sub(&client->outstanding, 1);
        password_forget(request);
    }
    return r;
}
