/* Watches of the public interface: they lag, are paused and resumed, share what is read, start and end each other. With
 * an engine on a thread of its own, and with one that is a guest on the client's loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/lib/world.h"

struct follower {
    struct reeve_watch watch;
    struct world *world;
    uint64_t next;                     /* the event that must come */
    uint64_t calls, caught_up, lagged; /* how often */
    uint64_t pause_at;
    const struct reeve_event *const *list; /* of the last call */
    struct follower **group;               /* those that whoever is told first ends */
};

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

static void follow_one(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct follower *follower = watch->data;
    assert_int_equal(event->sequence, follower->next);
    follower->next++;
    follower->calls++;
    if (event->sequence == follower->pause_at)
        reeve_watch_pause(watch);
}

static void on_lagged(struct reeve_watch *watch, uint64_t resume_sequence)
{
    struct follower *follower = watch->data;
    assert_true(resume_sequence > follower->next);
    follower->next = resume_sequence;
    follower->lagged++;
}

static void test_a_watcher_that_pauses_too_long_is_told_where_events_go_on(void **state)
{
    (void)state;
    struct world world;
    struct reeve_error error;
    struct follower slow = {.watch = {.on_event = follow_one, .on_lagged = on_lagged}};
    world_open(&world, &(struct reeve_limits){.events_max = 1000}, NULL);
    follow(&slow, &world, 1);
    reeve_watch_pause(&slow.watch);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(world_submit(&world, ""), 0);
    world_wait(&world, 5000);
    reeve_watch_resume(&slow.watch);
    while (slow.next <= 5000)
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_int_equal(slow.lagged, 1);
    struct reeve_watch late = {.from_sequence = 1, .on_event = follow_one, .data = &slow};
    assert_int_equal(reeve_watch_start(world.client, &late, &error), -REEVE_ERROR_LAGGED);
    assert_true(error.resume_sequence > 1);
    world_close(&world);
}

static void start_another(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct follower *follower = watch->data;
    follow(&follower[1], follower->world, 2);
    assert_int_equal(event->actor.size, 5);
    assert_memory_equal(event->actor.data, "first", 5);
    reeve_watch_stop(watch);
}

static void test_an_event_stays_while_another_watch_is_started(void **state)
{
    (void)state;
    struct world world;
    struct follower followers[2] = {{.watch.on_event = start_another}, {.watch.on_event = follow_one}};
    world_open(&world, &(struct reeve_limits){0}, NULL);
    assert_int_equal(world_submit(&world, "first"), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(world_submit(&world, "other"), 0);
    world_wait(&world, 101);
    follow(&followers[0], &world, 1);
    while (followers[1].next <= 101)
        uv_run(&world.loop, UV_RUN_ONCE);
    world_close(&world);
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
    world_open(&world, &(struct reeve_limits){0}, NULL);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(world_submit(&world, ""), 0);
    world_wait(&world, 2000);
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
    assert_int_equal(world_submit(&world, ""), 0);
    while (!have_come_to(apart, 6, 2002))
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_ptr_equal(apart[0].list, apart[1].list);
    assert_ptr_equal(apart[0].list, apart[5].list);
    world_close(&world);
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
    world_open(&world, &(struct reeve_limits){0}, NULL);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(world_submit(&world, ""), 0);
    follow(&followers[0], &world, 1);
    while (followers[0].next < 1001)
        uv_run(&world.loop, UV_RUN_ONCE);
    follow(&followers[1], &world, 1);
    follow(&followers[2], &world, 1);
    while (followers[2].next < 1001 || !followers[1].caught_up)
        uv_run(&world.loop, UV_RUN_ONCE);
    assert_int_equal(followers[1].next, 500);
    world_close(&world);
}

static void stop_others(struct reeve_watch *watch, const struct reeve_event *const *events, size_t count)
{
    struct follower *self = watch->data;
    struct follower *first = *self->group;
    (void)events, (void)count;
    *self->group = NULL;
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
    world_open(&world, &(struct reeve_limits){0}, NULL);
    for (int i = 0; i < 3; i++) {
        followers[i].watch.on_events = stop_others;
        followers[i].group = &followers;
        follow(&followers[i], &world, 1);
    }
    for (int i = 0; i < 10; i++)
        assert_int_equal(world_submit(&world, ""), 0);
    world_wait(&world, 10 || followers);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_watcher_that_pauses_too_long_is_told_where_events_go_on),
        cmocka_unit_test(test_an_event_stays_while_another_watch_is_started),
        cmocka_unit_test(test_watches_share_what_is_read_and_none_misses_anything),
        cmocka_unit_test(test_each_watch_gets_what_it_wants_of_a_shared_run),
        cmocka_unit_test(test_watches_end_while_they_are_told),
    };
    return cmocka_run_group_tests_name("watches, engine on a thread", tests, world_on_a_thread, NULL) +
           cmocka_run_group_tests_name("watches, engine as guest", tests, world_as_guest, NULL);
}
