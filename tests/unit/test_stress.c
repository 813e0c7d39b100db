/* Everything at once: threads that submit and leave in the middle, threads that read, watch, copy and check, a
 * provisioner on threads of its own, and an engine that is closed under it. ThreadSanitizer has the last word. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <reeve.h>
#include <uv.h>

#include "tests/lib/directory.h"

#define SUBMITTERS 4
#define READERS 2
#define WATCHERS 2
#define FINISHERS 2
#define COMMANDS 600
#define OUTSTANDING 16
#define SERVICES 6
#define RING 4096

struct attempt {
    struct reeve_uuid operation_id;
    uint64_t number;
    enum reeve_outcome_status status;
};

struct world {
    char directory[DIRECTORY_PATH_MAX];
    struct reeve_engine *engine;
    /* the provisioner */
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct attempt ring[RING];
    size_t first, last;
    bool ending;
    pthread_rwlock_t calls; /* held for reading while the engine is called, for writing when it ends */
    bool closed;
    /* the others */
    atomic_bool stopping;
    atomic_ulong answered, submitted, read, seen;
};

static uint64_t random_of(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* ---- The provisioner ---- */

static void push(struct world *world, const struct reeve_task *task, enum reeve_outcome_status status)
{
    pthread_mutex_lock(&world->lock);
    if (world->last - world->first < RING)
        world->ring[world->last++ % RING] = (struct attempt){task->operation_id, task->attempt, status};
    pthread_cond_signal(&world->filled);
    pthread_mutex_unlock(&world->lock);
}

static void on_start(void *arg, struct reeve_task *task)
{
    push(arg, task, task->operation_id.bytes[15] % 8 ? REEVE_OUTCOME_STATUS_DONE : REEVE_OUTCOME_STATUS_RETRY);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    push(arg, task, REEVE_OUTCOME_STATUS_CANCELLED);
}

static void on_closed(void *arg)
{
    struct world *world = arg;
    pthread_rwlock_wrlock(&world->calls);
    world->closed = true;
    pthread_rwlock_unlock(&world->calls);
}

static bool pop(struct world *world, struct attempt *ret_attempt)
{
    pthread_mutex_lock(&world->lock);
    while (world->first == world->last && !world->ending)
        pthread_cond_wait(&world->filled, &world->lock);
    const bool found = world->first != world->last;
    if (found)
        *ret_attempt = world->ring[world->first++ % RING];
    pthread_mutex_unlock(&world->lock);
    return found;
}

static void *run_finisher(void *arg)
{
    struct world *world = arg;
    for (struct attempt attempt; pop(world, &attempt);) {
        const struct reeve_outcome outcome = {.status = attempt.status, .code = reeve_str("stress")};
        pthread_rwlock_rdlock(&world->calls);
        if (!world->closed)
            reeve_operation_finish(world->engine, &attempt.operation_id, attempt.number, &outcome);
        pthread_rwlock_unlock(&world->calls);
    }
    return NULL;
}

/* ---- Who submits ---- */

struct submitter {
    struct world *world;
    uv_loop_t loop;
    struct reeve_client *client;
    struct reeve_uuid organization_id, services[SERVICES];
    unsigned services_count, outstanding, sent;
    uint64_t random;
    bool closing;
};

static void submit_next(struct submitter *submitter);

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct submitter *submitter = request->data;
    if (result->error.code == 0 && request->command == REEVE_COMMAND_ORGANIZATION_CREATE)
        submitter->organization_id = result->answer.organization.id;
    if (result->error.code == 0 && request->command == REEVE_COMMAND_SERVICE_CREATE &&
        submitter->services_count < SERVICES)
        submitter->services[submitter->services_count++] = result->answer.service_created.service.id;
    free(request);
    submitter->outstanding--;
    atomic_fetch_add(&submitter->world->answered, 1);
    if (!submitter->closing)
        submit_next(submitter);
}

static struct reeve_request *make_request(struct submitter *submitter)
{
    static const enum reeve_command commands[] = {REEVE_COMMAND_SERVICE_START,  REEVE_COMMAND_SERVICE_STOP,
                                                  REEVE_COMMAND_SERVICE_UPDATE, REEVE_COMMAND_SERVICE_HEALTH_LOST,
                                                  REEVE_COMMAND_BACKUP_CREATE,  REEVE_COMMAND_SERVICE_ACTIVITY,
                                                  REEVE_COMMAND_SERVICE_AWAKE,  REEVE_COMMAND_SERVICE_SET_PASSWORD};
    struct reeve_request *request = calloc(1, sizeof *request);
    request->on_done = on_done;
    request->data = submitter;
    if (submitter->sent == 0) {
        request->command = REEVE_COMMAND_ORGANIZATION_CREATE;
        request->params.organization_create.name = reeve_str("stress");
    } else if (submitter->services_count < SERVICES) {
        request->command = REEVE_COMMAND_SERVICE_CREATE;
        request->params.service_create = (struct reeve_service_create_params){
            .organization_id = submitter->organization_id,
            .name = reeve_str("db"),
            .provider = reeve_str("aws"),
            .region = reeve_str("us-east-1")};
    } else {
        const struct reeve_uuid *id = &submitter->services[random_of(&submitter->random) % SERVICES];
        request->command = commands[random_of(&submitter->random) % (sizeof commands / sizeof commands[0])];
        request->params.service = (struct reeve_service_params){.organization_id = submitter->organization_id,
                                                                .service_id = *id};
        if (request->command == REEVE_COMMAND_SERVICE_UPDATE)
            request->params.service_update.name = reeve_str("other");
    }
    return request;
}

/* One at a time until there are services, then many. */
static void submit_next(struct submitter *submitter)
{
    const unsigned most = submitter->services_count < SERVICES ? 1 : OUTSTANDING;
    while (submitter->sent < COMMANDS && submitter->outstanding < most) {
        struct reeve_request *request = make_request(submitter);
        if (reeve_submit(submitter->client, request) < 0) {
            free(request);
            return; /* an answer leads here again */
        }
        submitter->sent++;
        submitter->outstanding++;
        atomic_fetch_add(&submitter->world->submitted, 1);
    }
}

static void *run_submitter(void *arg)
{
    struct submitter *submitter = arg;
    uv_loop_init(&submitter->loop);
    reeve_client_open(submitter->world->engine, &submitter->loop, &submitter->client);
    /* Some leave with answers outstanding. */
    const unsigned until = submitter->random % 2 ? COMMANDS : COMMANDS / 2;
    submit_next(submitter);
    while (submitter->sent < until)
        uv_run(&submitter->loop, UV_RUN_ONCE);
    submitter->closing = true;
    reeve_client_close(submitter->client, NULL, NULL);
    uv_run(&submitter->loop, UV_RUN_DEFAULT);
    uv_loop_close(&submitter->loop);
    return NULL;
}

/* ---- Who reads ---- */

static bool on_service(void *arg, const void *record)
{
    const struct reeve_service *service = record;
    struct world *world = arg;
    atomic_fetch_add(&world->read, service->generation > 0);
    return true;
}

static bool on_organization(void *arg, const void *record)
{
    struct world *world = arg;
    struct reeve_error error;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_LIST};
    request.params.service_list.organization_id = ((const struct reeve_organization *)record)->id;
    reeve_read(world->engine, &request, on_service, world, &error);
    return true;
}

static void *run_reader(void *arg)
{
    struct world *world = arg;
    const struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_LIST};
    struct reeve_error error;
    struct reeve_stats stats;
    while (!atomic_load(&world->stopping)) {
        reeve_read(world->engine, &request, on_organization, world, &error);
        reeve_get_stats(world->engine, &stats);
    }
    return NULL;
}

/* ---- Who watches ---- */

struct watcher {
    struct world *world;
    uv_loop_t loop;
    uv_async_t wake;
    struct reeve_client *client;
    struct reeve_watch watch;
    uint64_t next;
    bool gap;
};

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct watcher *watcher = watch->data;
    watcher->gap |= event->sequence != watcher->next++;
    atomic_fetch_add(&watcher->world->seen, 1);
}

static void on_wake(uv_async_t *wake)
{
    struct watcher *watcher = wake->data;
    reeve_client_close(watcher->client, NULL, NULL);
    uv_close((uv_handle_t *)wake, NULL);
}

static void *run_watcher(void *arg)
{
    struct watcher *watcher = arg;
    uv_run(&watcher->loop, UV_RUN_DEFAULT);
    uv_loop_close(&watcher->loop);
    return NULL;
}

static void open_watcher(struct watcher *watcher, struct world *world)
{
    struct reeve_error error;
    *watcher = (struct watcher){.world = world, .next = 1};
    uv_loop_init(&watcher->loop);
    uv_async_init(&watcher->loop, &watcher->wake, on_wake);
    watcher->wake.data = watcher;
    assert_int_equal(reeve_client_open(world->engine, &watcher->loop, &watcher->client), 0);
    watcher->watch = (struct reeve_watch){.from_sequence = 1, .on_event = on_event, .data = watcher};
    assert_int_equal(reeve_watch_start(watcher->client, &watcher->watch, &error), 0);
}

/* ---- Who copies and checks ---- */

static void *run_keeper(void *arg)
{
    struct world *world = arg;
    char path[96];
    struct reeve_error error;
    struct reeve_check_summary summary;
    snprintf(path, sizeof path, "%s-copy", world->directory);
    while (!atomic_load(&world->stopping)) {
        if (reeve_snapshot(world->engine, path, &error) != 0 || reeve_check(path, NULL, NULL, &summary, &error) != 0 ||
            summary.findings != 0)
            return world; /* a copy is not whole */
        directory_remove(path);
    }
    return NULL;
}

/* ---- All of them ---- */

/* Where the engine is a guest: a loop on a thread of its own, until it is told to end. */
struct hosting {
    uv_loop_t loop;
    uv_async_t end;
    pthread_t thread;
    struct world *world;
};

static void on_end(uv_async_t *end)
{
    uv_close((uv_handle_t *)end, NULL);
}

static void *run_host(void *arg)
{
    struct hosting *hosting = arg;
    uv_run(&hosting->loop, UV_RUN_DEFAULT);
    reeve_close(hosting->world->engine);
    uv_run(&hosting->loop, UV_RUN_DEFAULT);
    uv_loop_close(&hosting->loop);
    return NULL;
}

static void open_world(struct world *world, uv_loop_t *loop)
{
    struct reeve_error error;
    const struct reeve_provisioner provisioner = {.version = REEVE_PROVISIONER_VERSION,
                                                  .name = "stress",
                                                  .arg = world,
                                                  .start = on_start,
                                                  .cancel = on_cancel,
                                                  .closed = on_closed};
    memset(world, 0, sizeof *world);
    directory_make("/tmp", world->directory);
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->filled, NULL);
    pthread_rwlock_init(&world->calls, NULL);
    const struct reeve_options options = {.data_dir = world->directory,
                                          .provisioner = &provisioner,
                                          .loop = loop,
                                          .limits = {.queue_capacity = 64, .retry_min_ms = 1}};
    /* Nothing is started before somebody has created something: the finishers know the engine by then. */
    assert_int_equal(reeve_open(&options, &world->engine, &error), 0);
}

static void close_world(struct world *world)
{
    struct reeve_error error;
    struct reeve_check_summary summary;
    assert_int_equal(reeve_check(world->directory, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.findings, 0);
    directory_remove(world->directory);
    pthread_rwlock_destroy(&world->calls);
    pthread_cond_destroy(&world->filled);
    pthread_mutex_destroy(&world->lock);
}

static void end_finishers(struct world *world, pthread_t *threads)
{
    pthread_mutex_lock(&world->lock);
    world->ending = true;
    pthread_cond_broadcast(&world->filled);
    pthread_mutex_unlock(&world->lock);
    for (int i = 0; i < FINISHERS; i++)
        pthread_join(threads[i], NULL);
}

static void open_engine(struct hosting *hosting, struct world *world, bool is_guest)
{
    hosting->world = world;
    if (is_guest) {
        uv_loop_init(&hosting->loop);
        uv_async_init(&hosting->loop, &hosting->end, on_end);
    }
    open_world(world, is_guest ? &hosting->loop : NULL);
    if (is_guest)
        pthread_create(&hosting->thread, NULL, run_host, hosting);
}

static void close_engine(struct hosting *hosting, bool is_guest)
{
    if (!is_guest) {
        reeve_close(hosting->world->engine);
        return;
    }
    uv_async_send(&hosting->end);
    pthread_join(hosting->thread, NULL);
}

static void run_round(uint64_t seed, bool is_guest)
{
    static struct world world;
    static struct hosting hosting;
    static struct submitter submitters[SUBMITTERS];
    static struct watcher watchers[WATCHERS];
    pthread_t submitting[SUBMITTERS], reading[READERS], watching[WATCHERS], finishing[FINISHERS], keeping;
    void *problem;
    open_engine(&hosting, &world, is_guest);
    for (int i = 0; i < FINISHERS; i++)
        pthread_create(&finishing[i], NULL, run_finisher, &world);
    for (int i = 0; i < WATCHERS; i++) {
        open_watcher(&watchers[i], &world);
        pthread_create(&watching[i], NULL, run_watcher, &watchers[i]);
    }
    for (int i = 0; i < READERS; i++)
        pthread_create(&reading[i], NULL, run_reader, &world);
    pthread_create(&keeping, NULL, run_keeper, &world);
    for (int i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){.world = &world, .random = seed * SUBMITTERS + (uint64_t)i + 1};
        pthread_create(&submitting[i], NULL, run_submitter, &submitters[i]);
    }
    for (int i = 0; i < SUBMITTERS; i++)
        pthread_join(submitting[i], NULL);
    atomic_store(&world.stopping, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(reading[i], NULL);
    pthread_join(keeping, &problem);
    assert_null(problem);
    for (int i = 0; i < WATCHERS; i++) {
        uv_async_send(&watchers[i].wake);
        pthread_join(watching[i], NULL);
        assert_false(watchers[i].gap);
    }
    close_engine(&hosting, is_guest); /* with attempts in flight, and finishers that go on calling until it says no */
    end_finishers(&world, finishing);
    assert_int_equal(world.answered, world.submitted);
    assert_true(world.submitted >= SUBMITTERS * COMMANDS / 2 && world.read > 0 && world.seen > 0);
    close_world(&world);
}

static void test_everything_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 3; seed++)
        run_round(seed, false);
}

static void test_everything_at_once_with_the_engine_as_guest(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 3; seed++)
        run_round(seed, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_everything_at_once),
                                       cmocka_unit_test(test_everything_at_once_with_the_engine_as_guest)};
    return cmocka_run_group_tests_name("stress", tests, NULL, NULL);
}
