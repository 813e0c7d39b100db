/* The provisioner of workers alone: the test plays the engine, which is sometimes too busy, and the workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <string.h>
#include <uv.h>

#include "provisioners/workers.h"

#define LEASES_MAX 64

/* What the engine was told last, and what it answers. */
static struct {
    int answer;
    unsigned finished, progressed;
    enum reeve_outcome_status status;
    uint64_t attempt;
    bool paused;
} engine;

int reeve_operation_finish(struct reeve_engine *unused, const struct reeve_uuid *operation_id, uint64_t attempt,
                           const struct reeve_outcome *outcome)
{
    (void)unused, (void)operation_id;
    if (engine.answer == 0) {
        engine.finished++;
        engine.status = outcome->status;
        engine.attempt = attempt;
    }
    return engine.answer;
}

int reeve_operation_progress(struct reeve_engine *unused, const struct reeve_uuid *operation_id, uint64_t attempt,
                             uint64_t done, uint64_t total, struct reeve_str text)
{
    (void)unused, (void)operation_id, (void)attempt, (void)done, (void)total, (void)text;
    engine.progressed += engine.answer == 0;
    return engine.answer;
}

int reeve_operation_pause(struct reeve_engine *unused, const struct reeve_uuid *operation_id, uint64_t attempt,
                          bool paused)
{
    (void)unused, (void)operation_id, (void)attempt;
    if (engine.answer == 0)
        engine.paused = paused;
    return engine.answer;
}

struct hand {
    struct worker base;
    bool full; /* takes nothing */
    unsigned count, cancelled;
    uint64_t leases[LEASES_MAX]; /* as they came */
    uint64_t remaining_ms;
};

static bool on_operation(struct worker *base, uint64_t lease, const struct reeve_task *task, uint64_t remaining_ms)
{
    struct hand *hand = (struct hand *)base;
    assert_non_null(task->data);
    if (hand->full)
        return false;
    assert_true(hand->count < LEASES_MAX);
    hand->leases[hand->count++] = lease;
    hand->remaining_ms = remaining_ms;
    return true;
}

static void on_cancelled(struct worker *base, uint64_t lease)
{
    struct hand *hand = (struct hand *)base;
    hand->cancelled++;
    assert_int_equal(lease, hand->leases[hand->count - 1]);
}

struct scene {
    uv_loop_t loop;
    struct workers *workers;
    const struct reeve_provisioner *provisioner;
    const struct worker_source *source;
};

static int open_scene(void **state)
{
    static struct scene scene;
    struct reeve_error error;
    memset(&engine, 0, sizeof engine);
    assert_int_equal(uv_loop_init(&scene.loop), 0);
    assert_int_equal(workers_new("lease-ms=50", &scene.loop, &scene.workers, &error), 0);
    scene.provisioner = workers_provisioner(scene.workers);
    scene.source = workers_source(scene.workers);
    *state = &scene;
    return 0;
}

static int close_scene(void **state)
{
    struct scene *scene = *state;
    scene->provisioner->closed(scene->provisioner->arg);
    workers_free(scene->workers);
    uv_run(&scene->loop, UV_RUN_DEFAULT);
    return uv_loop_close(&scene->loop);
}

static void join(struct scene *scene, struct hand *hand, uint64_t max)
{
    hand->base.owner = hand;
    hand->base.max = max;
    hand->base.on_operation = on_operation;
    hand->base.on_cancelled = on_cancelled;
    scene->source->subscribe(scene->source->arg, &hand->base);
    scene->source->offer(scene->source->arg, &hand->base);
}

static void leave(struct scene *scene, struct hand *hand)
{
    scene->source->unsubscribe(scene->source->arg, &hand->base);
}

static void start(struct scene *scene, struct reeve_task *task)
{
    task->attempt = task->attempt ? task->attempt : 1;
    task->timeout_ms = 60000;
    task->kind = REEVE_OPERATION_KIND_START;
    scene->provisioner->start(scene->provisioner->arg, task);
}

static int finish(struct scene *scene, struct hand *hand, uint64_t lease, enum reeve_outcome_status status)
{
    const struct reeve_outcome outcome = {.status = status};
    const int r = scene->source->finish(scene->source->arg, hand, lease, &outcome);
    scene->source->offer(scene->source->arg, &hand->base);
    return r;
}

/* The timer of the provisioner keeps no loop running: something else has to. */
static void on_guard(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("what was waited for did not come");
}

static void run_until(struct scene *scene, const unsigned *count, unsigned wanted)
{
    uv_timer_t guard;
    uv_timer_init(&scene->loop, &guard);
    uv_timer_start(&guard, on_guard, 20000, 0);
    while (*count < wanted)
        uv_run(&scene->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&guard, NULL);
    uv_run(&scene->loop, UV_RUN_NOWAIT);
}

static void a_busy_engine_leaves_the_lease_as_it_is(void **state)
{
    struct scene *scene = *state;
    struct hand hand = {0};
    struct reeve_task task = {0};
    join(scene, &hand, 1);
    start(scene, &task);
    assert_int_equal(hand.count, 1);
    assert_false(engine.paused);
    engine.answer = -REEVE_ERROR_BUSY;
    assert_int_equal(finish(scene, &hand, hand.leases[0], REEVE_OUTCOME_STATUS_DONE), -REEVE_ERROR_BUSY);
    assert_non_null(task.data);
    const struct reeve_progress progress = {.done = 1};
    assert_int_equal(scene->source->progress(scene->source->arg, &hand, hand.leases[0], &progress), -REEVE_ERROR_BUSY);
    engine.answer = 0;
    assert_int_equal(finish(scene, &hand, hand.leases[0], REEVE_OUTCOME_STATUS_CANCELLED), -REEVE_ERROR_BAD_REQUEST);
    assert_int_equal(finish(scene, &hand, hand.leases[0], REEVE_OUTCOME_STATUS_DONE), 0);
    assert_null(task.data);
    assert_int_equal(engine.finished, 1);
    /* A cancel that crosses with it finds nothing to do. */
    scene->provisioner->cancel(scene->provisioner->arg, &task);
    assert_int_equal(engine.finished, 1);
    assert_int_equal(finish(scene, &hand, hand.leases[0], REEVE_OUTCOME_STATUS_DONE), -REEVE_ERROR_NOT_FOUND);
    leave(scene, &hand);
}

static void what_is_cancelled_while_it_waits_is_told_until_it_is_taken(void **state)
{
    struct scene *scene = *state;
    struct reeve_task tasks[3] = {{.attempt = 1}, {.attempt = 2}, {.attempt = 3}};
    for (int i = 0; i < 3; i++)
        start(scene, &tasks[i]);
    assert_true(engine.paused);
    engine.answer = -REEVE_ERROR_BUSY;
    for (int i = 0; i < 3; i++) {
        scene->provisioner->cancel(scene->provisioner->arg, &tasks[i]);
        assert_null(tasks[i].data);
    }
    struct hand hand = {0};
    join(scene, &hand, 3);
    assert_int_equal(hand.count, 0);
    engine.answer = 0;
    run_until(scene, &engine.finished, 3);
    assert_int_equal(engine.status, REEVE_OUTCOME_STATUS_CANCELLED);
    leave(scene, &hand);
}

static void the_end_of_a_pause_is_told_until_it_is_taken(void **state)
{
    struct scene *scene = *state;
    struct hand hand = {0};
    struct reeve_task task = {0};
    start(scene, &task);
    assert_true(engine.paused);
    engine.answer = -REEVE_ERROR_BUSY;
    join(scene, &hand, 1);
    assert_int_equal(hand.count, 1);
    assert_int_equal(hand.remaining_ms, 60000);
    assert_true(engine.paused);
    engine.answer = 0;
    assert_int_equal(scene->source->progress(scene->source->arg, &hand, hand.leases[0], NULL), 0);
    assert_false(engine.paused);
    assert_int_equal(engine.progressed, 0);
    leave(scene, &hand);
}

static void workers_take_turns(void **state)
{
    struct scene *scene = *state;
    struct hand hands[3] = {{.full = true}};
    struct reeve_task tasks[6] = {{.attempt = 1}};
    for (int i = 0; i < 3; i++)
        join(scene, &hands[i], 4);
    for (int i = 0; i < 4; i++)
        start(scene, &tasks[i]);
    assert_int_equal(hands[0].count, 0);
    assert_int_equal(hands[1].count, 2);
    assert_int_equal(hands[2].count, 2);
    hands[0].full = false;
    start(scene, &tasks[4]), start(scene, &tasks[5]);
    assert_int_equal(hands[0].count, 1);
    assert_int_equal(hands[0].base.internal.count + hands[1].base.internal.count + hands[2].base.internal.count, 6);
    leave(scene, &hands[1]);
    assert_int_equal(hands[0].base.internal.count + hands[2].base.internal.count, 6);
    leave(scene, &hands[0]);
    assert_int_equal(hands[2].base.internal.count, 4);
    leave(scene, &hands[2]);
}

static void a_silent_worker_gets_nothing(void **state)
{
    struct scene *scene = *state;
    struct hand silent = {0}, other = {0};
    struct reeve_task task = {0};
    join(scene, &silent, 2);
    start(scene, &task);
    other.base.kinds = UINT64_C(1) << REEVE_OPERATION_KIND_START;
    join(scene, &other, 1);
    run_until(scene, &other.count, 1);
    assert_int_equal(silent.count, 1);
    const struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_DONE};
    assert_int_equal(scene->source->finish(scene->source->arg, &silent, silent.leases[0], &outcome),
                     -REEVE_ERROR_NOT_FOUND);
    assert_int_equal(scene->source->finish(scene->source->arg, &silent, other.leases[0], &outcome),
                     -REEVE_ERROR_NOT_FOUND);
    leave(scene, &other);
    assert_int_equal(silent.count, 1);
    scene->source->offer(scene->source->arg, &silent.base);
    assert_int_equal(silent.count, 2);
    leave(scene, &silent);
}

static void a_cancelled_worker_may_finish_or_fall_silent(void **state)
{
    struct scene *scene = *state;
    struct hand hand = {0};
    struct reeve_task tasks[2] = {{.attempt = 1}, {.attempt = 2}};
    join(scene, &hand, 1);
    start(scene, &tasks[0]);
    scene->provisioner->cancel(scene->provisioner->arg, &tasks[0]);
    assert_int_equal(hand.cancelled, 1);
    assert_int_equal(engine.finished, 0);
    assert_int_equal(finish(scene, &hand, hand.leases[0], REEVE_OUTCOME_STATUS_DONE), 0);
    assert_int_equal(engine.status, REEVE_OUTCOME_STATUS_CANCELLED);
    start(scene, &tasks[1]);
    scene->provisioner->cancel(scene->provisioner->arg, &tasks[1]);
    assert_int_equal(hand.cancelled, 2);
    run_until(scene, &engine.finished, 2);
    assert_int_equal(engine.status, REEVE_OUTCOME_STATUS_CANCELLED);
    assert_int_equal(engine.attempt, 2);
    leave(scene, &hand);
}

/* close_scene() must give back everything. */
static void closing_with_something_everywhere(void **state)
{
    struct scene *scene = *state;
    static struct reeve_task tasks[4];
    static struct hand hand;
    join(scene, &hand, 2);
    for (int i = 0; i < 4; i++)
        start(scene, &tasks[i]);
    assert_int_equal(hand.count, 2);
    engine.answer = -REEVE_ERROR_BUSY;
    scene->provisioner->cancel(scene->provisioner->arg, &tasks[3]);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, open_scene, close_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(a_busy_engine_leaves_the_lease_as_it_is),
        SCENE(what_is_cancelled_while_it_waits_is_told_until_it_is_taken),
        SCENE(the_end_of_a_pause_is_told_until_it_is_taken),
        SCENE(workers_take_turns),
        SCENE(a_silent_worker_gets_nothing),
        SCENE(a_cancelled_worker_may_finish_or_fall_silent),
        SCENE(closing_with_something_everywhere),
    };
    return cmocka_run_group_tests_name("workers", tests, NULL, NULL);
}
