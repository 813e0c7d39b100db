/* The public interface where threads meet: many submitters, a full queue, watchers that lag, closing with work queued.
 * Everything with an engine on a thread of its own, and with one that is a guest on the client's loop. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>
#include <reeve.h>
#include <uv.h>

#include "tests/lib/directory.h"

#define THREADS 4
#define EACH 500

static bool is_guest; /* the engine of the tests that run now */

struct world {
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    size_t answered, refused, lagged;
    uint64_t next_sequence;
    struct reeve_watch watch;
};

static void open_world(struct world *world, const struct reeve_limits *limits)
{
    struct reeve_error error;
    *world = (struct world){0};
    directory_make("/tmp", world->directory);
    uv_loop_init(&world->loop);
    const struct reeve_options options = {
        .data_dir = world->directory, .loop = is_guest ? &world->loop : NULL, .limits = *limits};
    assert_int_equal(reeve_open(&options, &world->engine, &error), 0);
    assert_int_equal(reeve_client_open(world->engine, &world->loop, &world->client), 0);
}

static void close_world(struct world *world)
{
    struct reeve_error error;
    struct reeve_check_summary summary;
    reeve_client_close(world->client, NULL, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    reeve_close(world->engine);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    assert_int_equal(reeve_check(world->directory, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.findings, 0);
    assert_int_equal(summary.organizations, world->answered - world->refused);
    directory_remove(world->directory);
}

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct world *world = request->data;
    world->answered++;
    world->refused += result->error.code != REEVE_OK;
    free(request);
}

/* BUSY is tried again: what was taken is answered exactly once. */
static int submit_as(struct world *world, const char *actor)
{
    struct reeve_request *request = calloc(1, sizeof *request);
    request->command = REEVE_COMMAND_ORGANIZATION_CREATE;
    request->params.organization_create.name = reeve_str("acme");
    request->actor = reeve_str(actor);
    request->on_done = on_done;
    request->data = world;
    const int r = reeve_submit(world->client, request);
    if (r < 0)
        free(request);
    return r;
}

static int submit(struct world *world)
{
    return submit_as(world, "");
}

static void *submit_many(void *arg)
{
    struct world *world = arg;
    for (int i = 0; i < EACH;)
        i += submit(world) == 0;
    return NULL;
}

static void assert_histogram(const struct reeve_histogram *histogram, uint64_t count, uint64_t sum)
{
    uint64_t in_buckets = 0;
    for (unsigned i = 0; i < REEVE_HISTOGRAM_BUCKETS; i++)
        in_buckets += histogram->buckets[i];
    assert_int_equal(in_buckets, count);
    assert_int_equal(histogram->count, count);
    assert_int_equal(histogram->sum, sum);
}

static void test_many_threads_submit_and_each_command_is_answered_once(void **state)
{
    (void)state;
    struct world world;
    pthread_t threads[THREADS];
    open_world(&world, &(struct reeve_limits){.queue_capacity = 64, .batch_max = 32});
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &world), 0);
    while (world.answered < THREADS * EACH)
        uv_run(&world.loop, UV_RUN_ONCE);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(world.answered, THREADS * EACH);
    assert_int_equal(world.refused, 0);
    struct reeve_stats stats;
    reeve_get_stats(world.engine, &stats);
    assert_int_equal(stats.commands, THREADS * EACH);
    assert_true(stats.batch_largest <= 32);
    assert_int_equal(stats.transitions_by_type[REEVE_EVENT_TYPE_ORGANIZATION_CREATE], THREADS * EACH);
    assert_histogram(&stats.batch_size, stats.batches, stats.batch_inputs);
    assert_histogram(&stats.commit_us, stats.batches, stats.commit_us.sum);
    assert_int_equal(stats.batch_size.buckets[6], 0); /* above 32 */
    close_world(&world);
}

static void test_a_full_queue_says_so_and_never_blocks(void **state)
{
    (void)state;
    struct world world;
    size_t taken = 0, busy = 0;
    open_world(&world, &(struct reeve_limits){.queue_capacity = 1, .batch_max = 1});
    while (busy < 10) {
        const int r = submit(&world);
        taken += r == 0;
        busy += r == -REEVE_ERROR_BUSY;
        assert_true(r == 0 || r == -REEVE_ERROR_BUSY);
    }
    while (world.answered < taken)
        uv_run(&world.loop, UV_RUN_ONCE);
    struct reeve_stats stats;
    reeve_get_stats(world.engine, &stats);
    assert_int_equal(stats.queue_full, busy);
    close_world(&world);
}

static void test_closing_answers_what_is_queued(void **state)
{
    (void)state;
    struct world world;
    open_world(&world, &(struct reeve_limits){0});
    for (int i = 0; i < 1000; i++)
        assert_int_equal(submit(&world), 0);
    close_world(&world); /* compares what was answered with what is stored */
    assert_int_equal(world.answered, 1000);
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct world *world = watch->data;
    assert_int_equal(event->sequence, world->next_sequence);
    world->next_sequence++;
}

static void on_lagged(struct reeve_watch *watch, uint64_t resume_sequence)
{
    struct world *world = watch->data;
    assert_true(resume_sequence > world->next_sequence);
    world->next_sequence = resume_sequence;
    world->lagged++;
}

static void test_a_watcher_that_pauses_too_long_is_told_where_events_go_on(void **state)
{
    (void)state;
    struct world world;
    struct reeve_error error;
    open_world(&world, &(struct reeve_limits){.events_max = 1000});
    world.next_sequence = 1;
    world.watch = (struct reeve_watch){
        .from_sequence = 1, .on_event = on_event, .on_lagged = on_lagged, .data = &world};
    assert_int_equal(reeve_watch_start(world.client, &world.watch, &error), 0);
    reeve_watch_pause(&world.watch);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(submit(&world), 0);
    while (world.answered < 5000)
        uv_run(&world.loop, UV_RUN_ONCE);
    reeve_watch_resume(&world.watch);
    while (world.next_sequence <= 5000)
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_int_equal(world.lagged, 1);
    struct reeve_watch late = {.from_sequence = 1, .on_event = on_event, .data = &world};
    assert_int_equal(reeve_watch_start(world.client, &late, &error), -REEVE_ERROR_LAGGED);
    assert_true(error.resume_sequence > 1);
    close_world(&world);
}

struct follower {
    struct reeve_watch watch;
    struct world *world;
    uint64_t next;             /* the event that must come */
    uint64_t calls, caught_up; /* how often */
    uint64_t pause_at;
    const struct reeve_event *const *list; /* of the last call */
};

static void start_another(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct follower *follower = watch->data;
    struct reeve_error error;
    follower[1].watch = (struct reeve_watch){.from_sequence = 2, .on_event = on_event, .data = follower->world};
    assert_int_equal(reeve_watch_start(follower->world->client, &follower[1].watch, &error), 0);
    assert_int_equal(event->actor.size, 5);
    assert_memory_equal(event->actor.data, "first", 5);
    reeve_watch_stop(watch);
}

static void test_an_event_stays_while_another_watch_is_started(void **state)
{
    (void)state;
    struct world world;
    struct reeve_error error;
    struct follower followers[2] = {{.world = &world, .watch = {.from_sequence = 1, .on_event = start_another}}};
    open_world(&world, &(struct reeve_limits){0});
    world.next_sequence = 2;
    assert_int_equal(submit_as(&world, "first"), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(submit_as(&world, "other"), 0);
    while (world.answered < 101)
        uv_run(&world.loop, UV_RUN_ONCE);
    followers[0].watch.data = followers;
    assert_int_equal(reeve_watch_start(world.client, &followers[0].watch, &error), 0);
    while (world.next_sequence <= 101)
        uv_run(&world.loop, UV_RUN_ONCE);
    close_world(&world);
}

static void follow_one(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct follower *follower = watch->data;
    assert_int_equal(event->sequence, follower->next);
    follower->next++;
    follower->calls++;
    if (event->sequence == follower->pause_at)
        reeve_watch_pause(watch);
}

static void follow_many(struct reeve_watch *watch, const struct reeve_event *const *events, size_t count)
{
    struct follower *follower = watch->data;
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(events[i]->sequence, follower->next++);
    follower->calls++;
    follower->list = events;
}

static void follow_own(struct reeve_watch *watch, const struct reeve_event *const *events, size_t count)
{
    struct follower *follower = watch->data;
    assert_int_equal(count, 1);
    assert_memory_equal(&events[0]->organization_id, &watch->organization_id, sizeof watch->organization_id);
    follower->next = events[0]->sequence;
}

static void count_caught_up(struct reeve_watch *watch)
{
    struct follower *follower = watch->data;
    follower->caught_up++;
}

static void follow(struct follower *follower, struct world *world, uint64_t from)
{
    struct reeve_error error;
    follower->world = world;
    follower->watch.from_sequence = follower->next = from;
    follower->watch.on_caught_up = count_caught_up;
    follower->watch.data = follower;
    assert_int_equal(reeve_watch_start(world->client, &follower->watch, &error), 0);
}

static bool have_come_to(const struct follower *followers, size_t count, uint64_t next)
{
    for (size_t i = 0; i < count; i++) {
        if (followers[i].next < next)
            return false;
    }
    return true;
}

/* Started behind each other they stand apart; what one reads takes those along that stand in it. */
static void test_watches_share_what_is_read_and_none_misses_anything(void **state)
{
    (void)state;
    struct world world;
    struct follower apart[6] = {{.watch.on_events = follow_many},
                                {.watch.on_events = follow_many},
                                {.watch.on_events = follow_many},
                                {.watch.on_event = follow_one},
                                {.watch.on_event = follow_one, .pause_at = 900},
                                {.watch.on_events = follow_many}};
    open_world(&world, &(struct reeve_limits){0});
    for (int i = 0; i < 2000; i++)
        assert_int_equal(submit(&world), 0);
    while (world.answered < 2000)
        uv_run(&world.loop, UV_RUN_ONCE);
    static const uint64_t places[] = {1, 1, 100, 700, 800, 1999};
    for (size_t i = 0; i < 6; i++)
        follow(&apart[i], &world, places[i]);
    while (!have_come_to(apart, 4, 2001) || !have_come_to(apart + 5, 1, 2001))
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_int_equal(apart[4].next, 901);
    assert_int_equal(apart[0].calls, apart[1].calls);
    assert_true(apart[0].calls < 100);
    reeve_watch_resume(&apart[4].watch);
    while (apart[4].next < 2001)
        uv_run(&world.loop, UV_RUN_ONCE);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(apart[i].caught_up, 1);
    assert_int_equal(submit(&world), 0);
    while (!have_come_to(apart, 6, 2002))
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_ptr_equal(apart[0].list, apart[1].list);
    assert_ptr_equal(apart[0].list, apart[5].list);
    close_world(&world);
}

static void keep_organization(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct follower *follower = watch->data;
    follower->next++;
    if (follower->next == 501)
        follower[1].watch.organization_id = event->organization_id;
}

static void test_each_watch_gets_what_it_wants_of_a_shared_run(void **state)
{
    (void)state;
    struct world world;
    struct follower followers[3] = {
        {.watch.on_event = keep_organization}, {.watch.on_events = follow_own}, {.watch.on_events = follow_many}};
    open_world(&world, &(struct reeve_limits){0});
    for (int i = 0; i < 1000; i++)
        assert_int_equal(submit(&world), 0);
    follow(&followers[0], &world, 1);
    while (followers[0].next < 1001)
        uv_run(&world.loop, UV_RUN_ONCE);
    follow(&followers[1], &world, 1);
    follow(&followers[2], &world, 1);
    while (followers[2].next < 1001 || !followers[1].caught_up)
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_int_equal(followers[1].next, 500);
    close_world(&world);
}

static void stop_others(struct reeve_watch *watch, const struct reeve_event *const *events, size_t count)
{
    struct follower *self = watch->data;
    struct follower *first = self->world->watch.data;
    (void)events, (void)count;
    self->world->watch.data = NULL;
    for (int i = 0; i < 3; i++)
        reeve_watch_stop(&first[i].watch);
    free(first);
}

/* Whoever is told first ends them all and frees them: nothing of them is touched after that. */
static void test_watches_end_while_they_are_told(void **state)
{
    (void)state;
    struct world world;
    struct follower *followers = calloc(3, sizeof *followers);
    open_world(&world, &(struct reeve_limits){0});
    world.watch.data = followers;
    for (int i = 0; i < 3; i++) {
        followers[i].watch.on_events = stop_others;
        follow(&followers[i], &world, 1);
    }
    for (int i = 0; i < 10; i++)
        assert_int_equal(submit(&world), 0);
    while (world.answered < 10 || world.watch.data)
        uv_run(&world.loop, UV_RUN_ONCE);
    close_world(&world);
}

static void start_nothing(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

static void report_late(void *arg)
{
    const struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_DONE};
    const struct reeve_uuid id = {.bytes = {1}};
    assert_int_equal(reeve_operation_finish(*(struct reeve_engine **)arg, &id, 1, &outcome), 0);
}

/* A provisioner's threads report until they are told that the engine is closed, its loop has ended by then. */
static void test_a_report_during_the_close_is_dropped(void **state)
{
    (void)state;
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_error error;
    const struct reeve_provisioner provisioner = {.version = REEVE_PROVISIONER_VERSION,
                                                  .arg = &engine,
                                                  .start = start_nothing,
                                                  .cancel = start_nothing,
                                                  .closed = report_late};
    directory_make("/tmp", directory);
    uv_loop_init(&loop);
    const struct reeve_options options = {
        .data_dir = directory, .provisioner = &provisioner, .loop = is_guest ? &loop : NULL};
    assert_int_equal(reeve_open(&options, &engine, &error), 0);
    reeve_close(engine);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    directory_remove(directory);
}

static void test_only_what_changes_something_is_submitted(void **state)
{
    (void)state;
    struct world world;
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_LIST, .on_done = on_done};
    open_world(&world, &(struct reeve_limits){0});
    assert_int_equal(reeve_submit(world.client, &request), -REEVE_ERROR_BAD_REQUEST);
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    assert_int_equal(reeve_submit(world.client, &request), -REEVE_ERROR_BAD_REQUEST);
    close_world(&world);
}

/* ---- A disk that takes nothing ---- */

struct disk {
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    bool answered, stopped_writing, writes_again, is_running;
    enum reeve_error_code code;
    char message[256];
    struct reeve_uuid id;               /* of what was made */
    struct reeve_uuid operation_ids[2]; /* started on the loop */
    unsigned started;
};

static void on_line(void *arg, enum reeve_log_level level, const char *line)
{
    struct disk *disk = arg;
    disk->stopped_writing |= level == REEVE_LOG_ERROR && strstr(line, "writes are refused until");
    disk->writes_again |= level == REEVE_LOG_INFO && strstr(line, "the store can write again");
}

static void on_disk_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct disk *disk = request->data;
    disk->answered = true;
    disk->code = result->error.code;
    snprintf(disk->message, sizeof disk->message, "%s", result->error.message);
    if (disk->code == 0)
        disk->id = request->command == REEVE_COMMAND_ORGANIZATION_CREATE ? result->answer.organization.id
                                                                         : result->answer.service_created.service.id;
}

static enum reeve_error_code ask(struct disk *disk, struct reeve_request *request)
{
    request->on_done = on_disk_done;
    request->data = disk;
    disk->answered = false;
    assert_int_equal(reeve_submit(disk->client, request), 0);
    while (!disk->answered)
        uv_run(&disk->loop, UV_RUN_ONCE);
    return disk->code;
}

static void start_on_disk(void *arg, struct reeve_task *task)
{
    struct disk *disk = arg;
    disk->operation_ids[disk->started++] = task->operation_id;
}

static void on_running(struct reeve_watch *watch, const struct reeve_event *event)
{
    ((struct disk *)watch->data)->is_running |= event->to == REEVE_SERVICE_STATE_RUNNING;
}

/* Files of this process may not be written from here on; returns what may be set again. */
static struct rlimit fill_disk(void)
{
    struct rlimit before, none;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = before;
    none.rlim_cur = 4096; /* no frame of a journal stands before that; what this test prints does */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    return before;
}

static void open_disk(struct disk *disk, const struct reeve_provisioner *provisioner)
{
    struct reeve_error error;
    directory_make("/tmp", disk->directory);
    assert_int_equal(uv_loop_init(&disk->loop), 0);
    const struct reeve_options options = {.data_dir = disk->directory,
                                          .provisioner = provisioner,
                                          .log = on_line,
                                          .log_arg = disk,
                                          .loop = is_guest ? &disk->loop : NULL,
                                          .limits = {.journal_segment_bytes = 1 << 18}};
    assert_int_equal(reeve_open(&options, &disk->engine, &error), 0);
    assert_int_equal(reeve_client_open(disk->engine, &disk->loop, &disk->client), 0);
}

static void close_disk(struct disk *disk)
{
    reeve_client_close(disk->client, NULL, NULL);
    reeve_close(disk->engine);
    uv_run(&disk->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&disk->loop), 0);
    directory_remove(disk->directory);
}

/* What was asked is refused, what was reported comes again, and all goes on when there is room. */
static void test_a_disk_that_takes_nothing_keeps_reports_and_refuses_commands(void **state)
{
    (void)state;
    struct disk disk = {0};
    struct reeve_error error;
    struct reeve_stats stats;
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE};
    const struct reeve_provisioner provisioner = {.version = REEVE_PROVISIONER_VERSION,
                                                  .arg = &disk,
                                                  .loop = &disk.loop,
                                                  .start = start_on_disk,
                                                  .cancel = start_nothing};
    struct reeve_watch watch = {.on_event = on_running, .data = &disk};
    struct reeve_request make = {.command = REEVE_COMMAND_ORGANIZATION_CREATE}, service = make;
    open_disk(&disk, &provisioner);
    assert_int_equal(reeve_watch_start(disk.client, &watch, &error), 0);
    make.params.organization_create.name = reeve_str("acme");
    assert_int_equal(ask(&disk, &make), 0);
    service.command = REEVE_COMMAND_SERVICE_CREATE;
    service.params.service_create = (struct reeve_service_create_params){.organization_id = disk.id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1"),
                                                                         .tier = REEVE_TIER_DEVELOPMENT};
    assert_int_equal(ask(&disk, &service), 0);
    assert_int_equal(ask(&disk, &service), 0);
    while (disk.started < 2)
        uv_run(&disk.loop, UV_RUN_ONCE);

    const struct rlimit before = fill_disk();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(reeve_operation_finish(disk.engine, &disk.operation_ids[i], 1, &done), 0);
        assert_int_equal(ask(&disk, &make), REEVE_ERROR_UNAVAILABLE);
        if (!strstr(disk.message, "the journal cannot "))
            fail_msg("%s", disk.message);
    }
    assert_false(reeve_is_writable(disk.engine));
    reeve_get_stats(disk.engine, &stats);
    assert_true(stats.commit_failures >= 2);
    assert_false(disk.is_running);
    setrlimit(RLIMIT_FSIZE, &before);
    while (!disk.is_running)
        uv_run(&disk.loop, UV_RUN_ONCE);
    assert_int_equal(ask(&disk, &make), 0);
    assert_true(reeve_is_writable(disk.engine));
    reeve_watch_stop(&watch);
    close_disk(&disk);
    assert_true(disk.stopped_writing && disk.writes_again); /* told on a thread that has ended */
}

/* ---- A guest ---- */

struct prompt {
    struct world world;
    struct reeve_uuid organization_id;
    enum reeve_service_state state; /* of the service, when its create was answered */
};

static void finish_at_once(void *arg, struct reeve_task *task)
{
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE};
    assert_int_equal(reeve_operation_finish(*(struct reeve_engine **)arg, &task->operation_id, task->attempt, &done),
                     0);
}

static bool take_state(void *arg, const void *record)
{
    *(enum reeve_service_state *)arg = ((const struct reeve_service *)record)->state;
    return true;
}

static void on_prompt_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct prompt *prompt = request->data;
    struct reeve_error error;
    struct reeve_request list = {.command = REEVE_COMMAND_SERVICE_LIST};
    assert_int_equal(result->error.code, 0);
    prompt->world.answered++;
    if (request->command == REEVE_COMMAND_ORGANIZATION_CREATE) {
        prompt->organization_id = result->answer.organization.id;
        return;
    }
    list.params.service_list.organization_id = prompt->organization_id;
    assert_int_equal(reeve_read(prompt->world.engine, &list, take_state, &prompt->state, &error), 0);
}

/* The report of what was started is there at once, and is the next batch; the loop's client has its turn before. */
static void test_a_guest_answers_before_it_makes_the_next_batch(void **state)
{
    (void)state;
    struct prompt prompt = {.world = {.answered = 0}};
    struct world *world = &prompt.world;
    struct reeve_error error;
    const struct reeve_provisioner provisioner = {
        .version = REEVE_PROVISIONER_VERSION, .arg = &world->engine, .start = finish_at_once, .cancel = start_nothing};
    struct reeve_request request = {
        .command = REEVE_COMMAND_ORGANIZATION_CREATE, .on_done = on_prompt_done, .data = &prompt};
    directory_make("/tmp", world->directory);
    uv_loop_init(&world->loop);
    const struct reeve_options options = {
        .data_dir = world->directory, .loop = &world->loop, .provisioner = &provisioner};
    assert_int_equal(reeve_open(&options, &world->engine, &error), 0);
    assert_int_equal(reeve_client_open(world->engine, &world->loop, &world->client), 0);
    request.params.organization_create.name = reeve_str("acme");
    assert_int_equal(reeve_submit(world->client, &request), 0);
    while (world->answered < 1)
        uv_run(&world->loop, UV_RUN_ONCE);
    request.command = REEVE_COMMAND_SERVICE_CREATE;
    request.params.service_create = (struct reeve_service_create_params){.organization_id = prompt.organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1")};
    assert_int_equal(reeve_submit(world->client, &request), 0);
    while (world->answered < 2)
        uv_run(&world->loop, UV_RUN_ONCE);
    assert_int_equal(prompt.state, REEVE_SERVICE_STATE_PROVISIONING);
    world->refused = 1; /* one of the answers was of no organization */
    close_world(world);
}

/* The loop ends when the host has nothing to do any more; what was queued by then is done when the engine is closed. */
static void test_a_guest_does_not_keep_the_loop_running(void **state)
{
    (void)state;
    struct world world;
    open_world(&world, &(struct reeve_limits){0});
    assert_int_equal(submit(&world), 0);
    reeve_client_close(world.client, NULL, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(world.answered, 1);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(reeve_client_open(world.engine, &world.loop, &world.client), 0);
    close_world(&world);
}

static void test_a_loop_has_several_guests(void **state)
{
    (void)state;
    struct world world;
    struct reeve_engine *other;
    struct reeve_error error;
    char directory[DIRECTORY_PATH_MAX];
    open_world(&world, &(struct reeve_limits){0});
    directory_make("/tmp", directory);
    const struct reeve_options options = {.data_dir = directory, .loop = &world.loop};
    assert_int_equal(reeve_open(&options, &other, &error), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(submit(&world), 0);
    while (world.answered < 10)
        uv_run(&world.loop, UV_RUN_ONCE);
    reeve_close(other);
    assert_int_equal(submit(&world), 0);
    close_world(&world);
    directory_remove(directory);
}

static void test_a_guest_that_cannot_be_opened_leaves_nothing_behind(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_error error;
    const struct reeve_options options = {.data_dir = "/nonexistent/directory", .loop = &loop};
    uv_loop_init(&loop);
    assert_int_equal(reeve_open(&options, &engine, &error), -REEVE_ERROR_STORE_ACCESS);
    assert_null(engine);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static int set_on_a_thread(void **state)
{
    (void)state;
    is_guest = false;
    return 0;
}

static int set_as_guest(void **state)
{
    (void)state;
    is_guest = true;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_threads_submit_and_each_command_is_answered_once),
        cmocka_unit_test(test_a_full_queue_says_so_and_never_blocks),
        cmocka_unit_test(test_closing_answers_what_is_queued),
        cmocka_unit_test(test_a_watcher_that_pauses_too_long_is_told_where_events_go_on),
        cmocka_unit_test(test_an_event_stays_while_another_watch_is_started),
        cmocka_unit_test(test_watches_share_what_is_read_and_none_misses_anything),
        cmocka_unit_test(test_each_watch_gets_what_it_wants_of_a_shared_run),
        cmocka_unit_test(test_watches_end_while_they_are_told),
        cmocka_unit_test(test_a_report_during_the_close_is_dropped),
        cmocka_unit_test(test_only_what_changes_something_is_submitted),
        cmocka_unit_test(test_a_disk_that_takes_nothing_keeps_reports_and_refuses_commands),
    };
    const struct CMUnitTest of_guests[] = {
        cmocka_unit_test(test_a_guest_answers_before_it_makes_the_next_batch),
        cmocka_unit_test(test_a_guest_does_not_keep_the_loop_running),
        cmocka_unit_test(test_a_loop_has_several_guests),
        cmocka_unit_test(test_a_guest_that_cannot_be_opened_leaves_nothing_behind),
    };
    return cmocka_run_group_tests_name("engine, on a thread", tests, set_on_a_thread, NULL) +
           cmocka_run_group_tests_name("engine, as guest", tests, set_as_guest, NULL) +
           cmocka_run_group_tests_name("engine, guests only", of_guests, set_as_guest, NULL);
}
