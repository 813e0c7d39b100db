/* The public interface where threads meet: many submitters, a full queue, closing with work queued, a disk that takes
 * nothing. Everything with an engine on a thread of its own, and with one that is a guest on the client's loop; what
 * only guests do. */
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

#include "tests/lib/world.h"

#define THREADS 4
#define EACH 500

static void *submit_many(void *arg)
{
    struct world *world = arg;
    for (int i = 0; i < EACH;)
        i += world_submit(world, "") == 0;
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
    world_open(&world, &(struct reeve_limits){.queue_capacity = 64, .batch_max = 32}, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &world), 0);
    world_wait(&world, THREADS * EACH);
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
    world_close(&world);
}

static void test_a_full_queue_says_so_and_never_blocks(void **state)
{
    (void)state;
    struct world world;
    size_t taken = 0, busy = 0;
    world_open(&world, &(struct reeve_limits){.queue_capacity = 1, .batch_max = 1}, NULL);
    while (busy < 10) {
        const int r = world_submit(&world, "");
        taken += r == 0;
        busy += r == -REEVE_ERROR_BUSY;
        assert_true(r == 0 || r == -REEVE_ERROR_BUSY);
    }
    world_wait(&world, taken);
    struct reeve_stats stats;
    reeve_get_stats(world.engine, &stats);
    assert_int_equal(stats.queue_full, busy);
    world_close(&world);
}

static void test_closing_answers_what_is_queued(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, &(struct reeve_limits){0}, NULL);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(world_submit(&world, ""), 0);
    world_close(&world); /* compares what was answered with what is stored */
    assert_int_equal(world.answered, 1000);
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
        .data_dir = directory, .provisioner = &provisioner, .loop = world_is_guest ? &loop : NULL};
    assert_int_equal(reeve_open(&options, &engine, &error), 0);
    reeve_close(engine);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    directory_remove(directory);
}

static void on_never(struct reeve_request *request, const struct reeve_result *result)
{
    (void)request, (void)result;
    fail_msg("what was not taken is not answered");
}

static void test_only_what_changes_something_is_submitted(void **state)
{
    (void)state;
    struct world world;
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_LIST, .on_done = on_never};
    world_open(&world, &(struct reeve_limits){0}, NULL);
    assert_int_equal(reeve_submit(world.client, &request), -REEVE_ERROR_BAD_REQUEST);
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    assert_int_equal(reeve_submit(world.client, &request), -REEVE_ERROR_BAD_REQUEST);
    world_close(&world);
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
                                          .loop = world_is_guest ? &disk->loop : NULL,
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
    const struct reeve_provisioner provisioner = {
        .version = REEVE_PROVISIONER_VERSION, .arg = &world->engine, .start = finish_at_once, .cancel = start_nothing};
    struct reeve_request request = {
        .command = REEVE_COMMAND_ORGANIZATION_CREATE, .on_done = on_prompt_done, .data = &prompt};
    world_open(world, &(struct reeve_limits){0}, &provisioner);
    request.params.organization_create.name = reeve_str("acme");
    assert_int_equal(reeve_submit(world->client, &request), 0);
    world_wait(world, 1);
    request.command = REEVE_COMMAND_SERVICE_CREATE;
    request.params.service_create = (struct reeve_service_create_params){.organization_id = prompt.organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1")};
    assert_int_equal(reeve_submit(world->client, &request), 0);
    world_wait(world, 2);
    assert_int_equal(prompt.state, REEVE_SERVICE_STATE_PROVISIONING);
    world->refused = 1; /* one of the answers was of no organization */
    world_close(world);
}

/* The loop ends when the host has nothing to do any more; what was queued by then is done when the engine is closed. */
static void test_a_guest_does_not_keep_the_loop_running(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, &(struct reeve_limits){0}, NULL);
    assert_int_equal(world_submit(&world, ""), 0);
    reeve_client_close(world.client, NULL, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(world.answered, 1);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(reeve_client_open(world.engine, &world.loop, &world.client), 0);
    world_close(&world);
}

static void test_a_loop_has_several_guests(void **state)
{
    (void)state;
    struct world world;
    struct reeve_engine *other;
    struct reeve_error error;
    char directory[DIRECTORY_PATH_MAX];
    world_open(&world, &(struct reeve_limits){0}, NULL);
    directory_make("/tmp", directory);
    const struct reeve_options options = {.data_dir = directory, .loop = &world.loop};
    assert_int_equal(reeve_open(&options, &other, &error), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(world_submit(&world, ""), 0);
    world_wait(&world, 10);
    reeve_close(other);
    assert_int_equal(world_submit(&world, ""), 0);
    world_close(&world);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_threads_submit_and_each_command_is_answered_once),
        cmocka_unit_test(test_a_full_queue_says_so_and_never_blocks),
        cmocka_unit_test(test_closing_answers_what_is_queued),
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
    return cmocka_run_group_tests_name("engine, on a thread", tests, world_on_a_thread, NULL) +
           cmocka_run_group_tests_name("engine, as guest", tests, world_as_guest, NULL) +
           cmocka_run_group_tests_name("engine, guests only", of_guests, world_as_guest, NULL);
}
