/* Stories of services and backups, told to the core with time and provisioner in the test's hands. After each, the
 * store must pass its own check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/story.h"

static void test_whole_life(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_PROVISIONING);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    assert_int_equal(f->result.answer.service.state, REEVE_SERVICE_STATE_STOPPING);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_STOPPED);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_START), 0);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_START);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_DELETE), REEVE_ERROR_CONFLICT);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_DELETE), 0);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_GONE);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), REEVE_ERROR_NOT_FOUND);
    assert_int_equal(f->task_count, 0);
}

static void test_ids_are_in_the_order_they_are_made(void **state)
{
    struct fixture *f = *state;
    struct reeve_uuid before = fixture_organization(f, false);
    for (int i = 0; i < 6000; i++) { /* within one millisecond, and more than it can count */
        const uint8_t seed[CORE_SEED_SIZE] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
        arena_reset(&f->arena);
        assert_int_equal(core_begin(&f->core, &f->arena, f->now_ms, f->mono_ms, seed), 0);
        const struct reeve_uuid id = core_new_id(&f->core);
        assert_true(memcmp(&before, &id, sizeof id) < 0);
        before = id;
        assert_int_equal(core_commit(&f->core), 0);
        core_dispatch(&f->core);
    }
}

static void test_asking_for_what_is_changes_nothing(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    struct reeve_service before, after;
    assert_true(fixture_load_service(f, &id, &before));
    const uint64_t generation = before.generation, sequence = f->core.durable.sequence;
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_START), 0);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_AWAKE), 0);
    assert_true(fixture_load_service(f, &id, &after));
    assert_int_equal(after.generation, generation);
    assert_int_equal(f->core.durable.sequence, sequence);
}

static void test_a_failed_attempt_is_tried_again_with_the_same_id_after_a_pause(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    const struct reeve_uuid operation_id = fixture_task(f, &id)->operation_id;
    finish(f, REEVE_OUTCOME_STATUS_RETRY);
    assert_null(fixture_task(f, &id));
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.operation.attempt, 2);
    assert_true(service.operation.retry_at_ms > f->now_ms);
    assert_true(service.operation.retry_at_ms <= f->now_ms + f->core.limits.retry_min_ms);
    assert_int_equal(service.operation.last_error.code.size, 4);
    fixture_advance(f, service.operation.retry_at_ms - f->now_ms - 1);
    assert_null(fixture_task(f, &id));
    fixture_advance(f, 1);
    assert_non_null(fixture_task(f, &id));
    assert_true(uuid_equal(&fixture_task(f, &id)->operation_id, &operation_id));
    assert_int_equal(fixture_task(f, &id)->attempt, 2);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
}

static void test_attempts_used_up_end_in_failed_with_the_reason(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    for (uint64_t i = 0; i < f->core.limits.operation_attempts_max; i++) {
        assert_non_null(fixture_task(f, &id));
        finish(f, REEVE_OUTCOME_STATUS_RETRY);
        fixture_advance(f, f->core.limits.retry_max_ms);
    }
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.state, REEVE_SERVICE_STATE_FAILED);
    assert_memory_equal(service.failure.message.data, "as the test wants it", service.failure.message.size);
    assert_null(fixture_task(f, &id));
    /* It never was provisioned: starting it provisions it. */
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_START), 0);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_PROVISION);
}

static void test_time_used_up_ends_in_failed(void **state)
{
    struct fixture *f = *state;
    f->core.limits.operation_attempts_max = 1000;
    const struct reeve_uuid id = fixture_service(f);
    finish(f, REEVE_OUTCOME_STATUS_RETRY);
    fixture_advance(f, f->core.limits.operation_total_ms);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_PROVISIONING);
    finish(f, REEVE_OUTCOME_STATUS_RETRY);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_FAILED);
}

static void test_a_permanent_error_ends_in_failed_at_once(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    finish(f, REEVE_OUTCOME_STATUS_FAILED);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_FAILED);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_DELETE), 0);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_GONE);
}

static void test_an_attempt_past_its_deadline_is_cancelled_and_tried_again(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    fixture_advance(f, f->core.limits.operation_timeout_ms - 1);
    assert_false(fixture_task(f, &id)->cancelled);
    fixture_advance(f, 1);
    assert_true(fixture_task(f, &id)->cancelled);
    assert_int_equal(f->core.stats.operations_timeout, 1);
    /* The next attempt waits until the cancelled one has ended, and its late success does not count. */
    fixture_advance(f, f->core.limits.retry_min_ms);
    assert_int_equal(f->started, 1);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(f->core.stats.operations_late, 1);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_PROVISIONING);
    assert_int_equal(f->started, 2);
    assert_int_equal(fixture_task(f, &id)->attempt, 2);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
}

static void test_kinds_of_operations_may_have_limits_of_their_own(void **state)
{
    struct fixture *f = *state;
    f->core.limits.timeout_ms_of[REEVE_OPERATION_KIND_STOP] = 50;
    f->core.limits.attempts_max_of[REEVE_OPERATION_KIND_STOP] = 1;
    const struct reeve_uuid id = fixture_service(f);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    /* Another one is provisioned meanwhile, with the limit of all: its deadline stands behind the one of the stop. */
    fixture_service(f);
    f->service_id = id;
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    fixture_advance(f, 49);
    assert_false(fixture_task(f, &id)->cancelled);
    fixture_advance(f, 1);
    assert_true(fixture_task(f, &id)->cancelled);
    assert_int_equal(f->core.stats.operations_timeout, 1);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_FAILED);
}

static void pause_attempt(struct fixture *f, bool paused)
{
    fixture_pause(f, fixture_task(f, &f->service_id), paused);
}

static void test_the_time_of_a_paused_attempt_stands_still(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    struct reeve_service service;
    pause_attempt(f, true);
    pause_attempt(f, true);
    fixture_advance(f, 3 * f->core.limits.operation_total_ms);
    assert_false(fixture_task(f, &id)->cancelled);
    pause_attempt(f, false);
    const uint64_t started_ms = f->now_ms;
    fixture_advance(f, f->core.limits.operation_timeout_ms - 1);
    assert_false(fixture_task(f, &id)->cancelled);
    fixture_advance(f, 1);
    assert_true(fixture_task(f, &id)->cancelled);
    /* The time of all attempts together counts from when the work began. */
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.operation.started_ms, started_ms);
    assert_int_equal(service.operation.attempt, 2);
    pause_attempt(f, true); /* too late: it is being cancelled */
    fixture_advance(f, f->core.limits.cancel_grace_ms);
    assert_int_equal(f->started, 2);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
}

static void test_a_paused_attempt_can_be_cancelled_and_finished(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    pause_attempt(f, true);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    assert_true(fixture_task(f, &id)->cancelled);
    fixture_advance(f, f->core.limits.cancel_grace_ms);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_STOP);
    pause_attempt(f, true);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_STOPPED);
}

static void test_a_cancelled_attempt_that_hangs_is_given_up(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    fixture_advance(f, f->core.limits.operation_timeout_ms);
    fixture_advance(f, f->core.limits.retry_min_ms);
    assert_int_equal(f->started, 1);
    fixture_advance(f, f->core.limits.cancel_grace_ms);
    assert_int_equal(f->started, 2);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
}

static void seal(struct fixture *f, struct arena *arena, struct report *report, struct core_batch *ret_batch)
{
    const uint8_t seed[CORE_SEED_SIZE] = {++f->seed};
    assert_int_equal(core_begin(&f->core, arena, f->now_ms, f->mono_ms, seed), 0);
    if (report)
        core_report(&f->core, report);
    core_due(&f->core);
    assert_int_equal(core_seal(&f->core, false, ret_batch), 0);
}

static void test_an_attempt_that_is_reported_while_it_is_given_up_lands_once(void **state)
{
    struct fixture *f = *state;
    struct core_batch given_up, reported;
    struct arena arena;
    uint64_t durable;
    const struct reeve_uuid id = fixture_service(f);
    struct report report = {.operation_id = fixture_task(f, &id)->operation_id,
                            .attempt = 1,
                            .outcome = {.status = REEVE_OUTCOME_STATUS_CANCELLED}};
    arena_init(&arena, 4096);
    fixture_advance(f, f->core.limits.operation_timeout_ms);
    f->mono_ms += f->core.limits.cancel_grace_ms;
    arena_reset(&f->arena);
    seal(f, &f->arena, NULL, &given_up);
    seal(f, &arena, &report, &reported);
    store_wait(f->store);
    assert_int_equal(store_settle(f->store, &durable), 0);
    core_settle(&f->core, &given_up);
    core_dispatch_batch(&f->core, &given_up, reported.number);
    core_settle(&f->core, &reported);
    core_dispatch_batch(&f->core, &reported, reported.number);
    arena_deinit(&arena);
    assert_int_equal(f->core.flights.count, 0);
    fixture_advance(f, f->core.limits.retry_min_ms);
    assert_int_equal(f->started, 2);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
}

static void test_a_jump_of_the_wall_clock_does_not_end_an_attempt(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    f->now_ms += 10 * f->core.limits.operation_timeout_ms;
    fixture_advance(f, 0);
    assert_false(fixture_task(f, &id)->cancelled);
}

static void test_stop_cancels_provisioning_and_waits_for_its_end(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    struct fixture_task provision = *fixture_task(f, &id);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    assert_true(fixture_task(f, &id)->cancelled);
    assert_int_equal(f->started, 1);
    finish(f, REEVE_OUTCOME_STATUS_CANCELLED);
    assert_int_equal(f->started, 2);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_STOP);
    /* A second answer of the cancelled attempt is ignored. */
    fixture_report(f, &provision, &(struct reeve_outcome){.status = REEVE_OUTCOME_STATUS_DONE});
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_STOPPING);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_STOPPED);
}

static void test_changes_are_applied_one_at_a_time_the_newest_wins(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    assert_int_equal(rename_service(f, "one"), 0);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_CONFIGURE);
    const size_t started = f->started;
    assert_int_equal(rename_service(f, "two"), 0);
    assert_int_equal(rename_service(f, "three"), 0);
    assert_int_equal(f->started, started);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(f->started, started + 1);
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(fixture_task(f, &id)->desired, service.desired);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.applied, service.desired);
    assert_int_equal(f->started, started + 1);
    assert_int_equal(service.state, REEVE_SERVICE_STATE_RUNNING);
}

static void test_a_change_while_stopped_is_carried_by_the_next_start(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    fixture_command(f, REEVE_COMMAND_SERVICE_STOP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(rename_service(f, "later"), 0);
    assert_null(fixture_task(f, &id));
    fixture_command(f, REEVE_COMMAND_SERVICE_START);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_null(fixture_task(f, &id));
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.applied, service.desired);
}

static void test_idle_and_awake(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    fixture_advance(f, 15 * MINUTE_MS - 1);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
    fixture_advance(f, 1);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_IDLE);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_SUSPEND);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_START), 0);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_IDLE);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_AWAKE), 0);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_AWAKING);
    finish(f, REEVE_OUTCOME_STATUS_CANCELLED);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_START);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
}

static void test_activity_keeps_a_service_from_idling(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    for (int i = 0; i < 20; i++) {
        fixture_advance(f, 14 * MINUTE_MS);
        assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_ACTIVITY), 0);
        assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
    }
    fixture_advance(f, 16 * MINUTE_MS);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_IDLE);
}

static void test_activity_of_before_does_not_wake(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_ACTIVITY};
    request.params.service = (struct reeve_service_params){.organization_id = f->organization_id, .service_id = id};
    request.meta.if_generation = service.generation;
    assert_int_equal(fixture_submit(f, &request), 0);
    fixture_advance(f, 16 * MINUTE_MS);
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_STALE_GENERATION);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_IDLE);
    request.meta.if_generation = 0;
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_AWAKING);
}

static void test_lost_health_starts_again(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_HEALTH_LOST};
    request.params.service_health = (struct reeve_service_health_params){
        .organization_id = f->organization_id, .service_id = id, .code = reeve_str("crashed")};
    assert_int_equal(fixture_submit(f, &request), 0);
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.state, REEVE_SERVICE_STATE_DEGRADED);
    assert_memory_equal(service.failure.code.data, "crashed", 7);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.state, REEVE_SERVICE_STATE_RUNNING);
    assert_int_equal(service.failure.code.size, 0);
}

static void lose(struct fixture *f, const struct reeve_uuid *id)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_HEALTH_LOST};
    request.params.service_health = (struct reeve_service_health_params){
        .organization_id = f->organization_id, .service_id = *id, .code = reeve_str("crashed")};
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_int_equal(state_of(f, id), REEVE_SERVICE_STATE_DEGRADED);
}

/* Pauses are half drawn: from 1/2 of the length on it may be started, after the whole length it is. */
static void expect_pause(struct fixture *f, const struct reeve_uuid *id, uint64_t pause_ms, uint64_t restarts)
{
    struct reeve_service service;
    assert_true(fixture_load_service(f, id, &service));
    assert_int_equal(service.restarts, restarts);
    assert_int_equal(service.lost_ms, f->now_ms);
    fixture_advance(f, pause_ms / 2 - 1);
    assert_null(fixture_task(f, id));
    fixture_advance(f, pause_ms - pause_ms / 2 + 1);
    assert_int_equal(fixture_task(f, id)->kind, REEVE_OPERATION_KIND_START);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, id), REEVE_SERVICE_STATE_RUNNING);
}

static void test_a_service_that_is_lost_again_and_again_is_started_after_growing_pauses(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    lose(f, &id);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_START); /* at once */
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    for (uint64_t i = 0; i < 12; i++) {
        const uint64_t pause_ms = f->core.limits.restart_min_ms << i;
        lose(f, &id);
        expect_pause(f, &id, pause_ms < f->core.limits.restart_max_ms ? pause_ms : f->core.limits.restart_max_ms,
                     i + 2);
    }
    fixture_advance(f, f->core.limits.restart_reset_ms);
    lose(f, &id); /* long without trouble: as for the first time */
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_START);
    assert_int_equal(fixture_check(f), 0);
}

static void test_a_pause_before_a_restart_ends_with_a_stop_and_survives_the_engine(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    lose(f, &id);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    lose(f, &id);
    assert_null(fixture_task(f, &id));
    fixture_restart(f, 10);
    assert_null(fixture_task(f, &id));
    fixture_advance(f, 1000);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_START);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    lose(f, &id);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_STOP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.state, REEVE_SERVICE_STATE_STOPPED);
    assert_int_equal(service.restarts, 0); /* whoever starts it now has looked at it */
    assert_int_equal(fixture_check(f), 0);
}

/* A program that was told the older settings may end after a restart, when the newer ones are known. */
static void test_a_change_during_an_attempt_is_not_lost_with_the_engine(void **state)
{
    struct fixture *f = *state;
    struct reeve_service service;
    const struct reeve_uuid id = fixture_running(f);
    rename_service(f, "second");
    const uint64_t told = fixture_task(f, &id)->desired;
    rename_service(f, "third");
    fixture_restart(f, 10);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_CONFIGURE);
    assert_int_equal(fixture_task(f, &id)->desired, told); /* it is the same attempt */
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.applied, told);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_CONFIGURE);
    assert_int_equal(fixture_task(f, &id)->desired, told + 1);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.applied, service.desired);
}

/* ---- Restart, limits, fairness ---- */

static void test_a_restart_dispatches_what_was_under_way_with_the_same_id(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    const struct reeve_uuid operation_id = fixture_task(f, &id)->operation_id;
    fixture_restart(f, 0);
    assert_int_equal(f->task_count, 1);
    assert_true(uuid_equal(&fixture_task(f, &id)->operation_id, &operation_id));
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
    fixture_restart(f, 0);
    assert_int_equal(f->task_count, 0);
}

static void test_a_pause_before_the_next_attempt_outlives_a_restart(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    finish(f, REEVE_OUTCOME_STATUS_RETRY);
    fixture_restart(f, 0);
    assert_null(fixture_task(f, &id));
    fixture_advance(f, f->core.limits.retry_min_ms);
    assert_int_equal(fixture_task(f, &id)->attempt, 2);
}

static void test_what_came_due_during_a_long_downtime_is_spread(void **state)
{
    struct fixture *f = *state;
    f->core.limits.overdue_per_second = 10;
    for (int i = 0; i < 100; i++)
        fixture_running(f);
    fixture_restart(f, 24 * HOUR_MS);
    assert_true(f->core.stats.timers_fired <= 10);
    uint64_t fired = f->core.stats.timers_fired;
    for (int tick = 0; tick < 10; tick++) {
        fixture_advance(f, 500);
        assert_true(f->core.stats.timers_fired - fired <= 5);
        fired = f->core.stats.timers_fired;
    }
    for (int tick = 0; tick < 100; tick++) {
        fixture_advance(f, 1000);
        while (f->task_count)
            fixture_finish(f, &f->tasks[0], REEVE_OUTCOME_STATUS_DONE);
    }
    struct store_read read;
    assert_int_equal(store_read_begin(f->store, &read), 0);
    struct store_item item;
    assert_true(store_read_last(&read, TABLE_DUE, &item));
    store_read_end(&read);
    assert_true(f->core.stats.timers_fired >= 100);
}

static void test_places_in_flight_go_round_the_organizations(void **state)
{
    struct fixture *f = *state;
    f->core.limits.operations_max = 10;
    f->core.limits.operations_per_org_max = 8;
    const struct reeve_uuid big = fixture_organization(f, false);
    for (int i = 0; i < 50; i++)
        fixture_service(f);
    assert_int_equal(f->task_count, 8);
    const struct reeve_uuid small = fixture_organization(f, false);
    for (int i = 0; i < 5; i++)
        fixture_service(f);
    assert_int_equal(f->task_count, 10);
    /* As places come free, the small one is not behind the fifty of the big one. */
    size_t of_small = 0;
    for (int i = 0; i < 10; i++) {
        of_small += uuid_equal(&f->tasks[0].organization_id, &small);
        fixture_finish(f, &f->tasks[0], REEVE_OUTCOME_STATUS_DONE);
        assert_true(f->task_count <= 10);
    }
    for (size_t i = 0; i < f->task_count; i++)
        of_small += uuid_equal(&f->tasks[i].organization_id, &small);
    assert_int_equal(of_small, 5);
    while (f->task_count)
        fixture_finish(f, &f->tasks[0], REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(f->started, 55);
    (void)big;
}

/* ---- Keys ---- */

static uint64_t rows(struct fixture *f, enum store_table table)
{
    struct store_read read;
    assert_int_equal(store_read_begin(f->store, &read), 0);
    const uint64_t count = store_read_count(&read, table);
    store_read_end(&read);
    return count;
}

static void test_a_key_is_indexed_as_long_as_it_is_there(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid revoked = fixture_key(f, 0);
    fixture_key(f, f->now_ms + HOUR_MS);
    fixture_key(f, 0);
    assert_int_equal(rows(f, TABLE_KEY_INDEX), 3);
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_REVOKE};
    request.params.key = (struct reeve_key_params){.organization_id = f->organization_id, .key_id = revoked};
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_int_equal(rows(f, TABLE_KEY_INDEX), 2);
    fixture_advance(f, HOUR_MS);
    assert_int_equal(rows(f, TABLE_KEY_INDEX), 1);
    assert_int_equal(fixture_check(f), 0);
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_DELETE};
    request.params.organization = (struct reeve_organization_params){.organization_id = f->organization_id};
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_int_equal(rows(f, TABLE_KEYS), 0);
    assert_int_equal(rows(f, TABLE_KEY_INDEX), 0);
}

/* ---- Numbers by state ---- */

static void test_states_are_counted_as_they_change(void **state)
{
    struct fixture *f = *state;
    const struct reeve_state_counts *counts = &f->core.durable.state_counts;
    fixture_running(f);
    fixture_service(f);
    assert_int_equal(counts->services[REEVE_SERVICE_STATE_PROVISIONING], 1);
    assert_int_equal(counts->services[REEVE_SERVICE_STATE_RUNNING], 1);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(counts->services[REEVE_SERVICE_STATE_RUNNING], 2);
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    assert_int_equal(counts->backups[REEVE_BACKUP_STATE_IN_PROGRESS], 1);
    fixture_command(f, REEVE_COMMAND_SERVICE_STOP);
    assert_int_equal(counts->backups[REEVE_BACKUP_STATE_ERROR], 1);
    finish(f, REEVE_OUTCOME_STATUS_CANCELLED);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    fixture_restart(f, 0);
    assert_int_equal(counts->services[REEVE_SERVICE_STATE_STOPPED], 1);
    assert_int_equal(counts->services[REEVE_SERVICE_STATE_RUNNING], 1);
    fixture_command(f, REEVE_COMMAND_SERVICE_DELETE);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    uint64_t services = 0;
    for (unsigned i = 0; i < REEVE_SERVICE_STATE_COUNT; i++)
        services += counts->services[i];
    assert_int_equal(services, 1);
    assert_int_equal(counts->services[REEVE_SERVICE_STATE_GONE], 0);
}

static void test_a_batch_that_did_not_happen_counts_nothing(void **state)
{
    struct fixture *f = *state;
    const uint8_t seed[CORE_SEED_SIZE] = {1};
    fixture_running(f);
    const struct reeve_state_counts before = f->core.durable.state_counts;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_STOP};
    request.params.service = (struct reeve_service_params){.organization_id = f->organization_id,
                                                           .service_id = f->service_id};
    arena_reset(&f->arena);
    assert_int_equal(core_begin(&f->core, &f->arena, f->now_ms, f->mono_ms, seed), 0);
    assert_int_equal(core_request(&f->core, &request)->error.code, 0);
    core_fault(&f->core, -REEVE_ERROR_NO_MEMORY);
    assert_int_equal(core_commit(&f->core), -REEVE_ERROR_NO_MEMORY);
    assert_memory_equal(&f->core.durable.state_counts, &before, sizeof before);
    fixture_advance(f, 0);
    assert_memory_equal(&f->core.durable.state_counts, &before, sizeof before);
}

/* ---- What every command has ---- */

static void test_the_same_idempotency_key_gets_the_first_answer_again(void **state)
{
    struct fixture *f = *state;
    fixture_organization(f, false);
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_CREATE};
    request.meta.idempotency_key = reeve_str("once");
    request.params.service_create = (struct reeve_service_create_params){.organization_id = f->organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1")};
    assert_int_equal(fixture_submit(f, &request), 0);
    const struct reeve_uuid id = f->result.answer.service_created.service.id;
    char password[64];
    const size_t size = f->result.answer.service_created.password.size;
    memcpy(password, f->result.answer.service_created.password.data, size);
    fixture_restart(f, 23 * HOUR_MS);
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_true(f->result.replayed);
    assert_true(uuid_equal(&f->result.answer.service_created.service.id, &id));
    assert_int_equal(f->result.answer.service_created.password.size, size);
    assert_memory_equal(f->result.answer.service_created.password.data, password, size);
    request.params.service_create.name = reeve_str("other");
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_IDEMPOTENCY_MISMATCH);
    fixture_advance(f, HOUR_MS);
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_false(f->result.replayed);
}

static void test_a_stale_generation_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_STOP};
    request.params.service = (struct reeve_service_params){.organization_id = f->organization_id, .service_id = id};
    request.meta.if_generation = service.generation - 1;
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_STALE_GENERATION);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_RUNNING);
    request.meta.if_generation = service.generation;
    assert_int_equal(fixture_submit(f, &request), 0);
}

static void test_every_event_follows_from_the_one_before(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    fixture_command(f, REEVE_COMMAND_SERVICE_STOP);
    finish(f, REEVE_OUTCOME_STATUS_RETRY);
    fixture_advance(f, 1000);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    enum reeve_service_state last = REEVE_SERVICE_STATE_NONE;
    for (uint64_t sequence = 1; sequence <= f->core.durable.sequence; sequence++) {
        struct reeve_event event;
        assert_true(fixture_load_event(f, sequence, &event));
        if (!uuid_equal(&event.service_id, &id))
            continue;
        assert_int_equal(event.from, last);
        last = event.to;
    }
    assert_int_equal(last, state_of(f, &id));
}

static void test_old_events_are_dropped(void **state)
{
    struct fixture *f = *state;
    f->core.limits.events_max = 50;
    for (int i = 0; i < 200; i++)
        fixture_organization(f, false);
    struct reeve_event event;
    assert_false(fixture_load_event(f, 150, &event));
    assert_true(fixture_load_event(f, 151, &event));
    assert_true(fixture_load_event(f, 200, &event));
}

static void test_quota_of_services(void **state)
{
    struct fixture *f = *state;
    fixture_organization(f, false);
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_UPDATE};
    request.params.organization_update = (struct reeve_organization_update_params){
        .organization_id = f->organization_id, .service_quota = 1};
    assert_int_equal(fixture_submit(f, &request), 0);
    fixture_running(f);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_CREATE};
    request.params.service_create = (struct reeve_service_create_params){.organization_id = f->organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1")};
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_QUOTA_EXCEEDED);
    fixture_command(f, REEVE_COMMAND_SERVICE_STOP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    fixture_command(f, REEVE_COMMAND_SERVICE_DELETE);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(fixture_submit(f, &request), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_whole_life),
        STORY(test_ids_are_in_the_order_they_are_made),
        STORY(test_asking_for_what_is_changes_nothing),
        STORY(test_a_failed_attempt_is_tried_again_with_the_same_id_after_a_pause),
        STORY(test_attempts_used_up_end_in_failed_with_the_reason),
        STORY(test_time_used_up_ends_in_failed),
        STORY(test_a_permanent_error_ends_in_failed_at_once),
        STORY(test_an_attempt_past_its_deadline_is_cancelled_and_tried_again),
        STORY(test_kinds_of_operations_may_have_limits_of_their_own),
        STORY(test_the_time_of_a_paused_attempt_stands_still),
        STORY(test_a_paused_attempt_can_be_cancelled_and_finished),
        STORY(test_a_cancelled_attempt_that_hangs_is_given_up),
        STORY(test_an_attempt_that_is_reported_while_it_is_given_up_lands_once),
        STORY(test_a_jump_of_the_wall_clock_does_not_end_an_attempt),
        STORY(test_stop_cancels_provisioning_and_waits_for_its_end),
        STORY(test_changes_are_applied_one_at_a_time_the_newest_wins),
        STORY(test_a_change_while_stopped_is_carried_by_the_next_start),
        STORY(test_idle_and_awake),
        STORY(test_activity_keeps_a_service_from_idling),
        STORY(test_activity_of_before_does_not_wake),
        STORY(test_lost_health_starts_again),
        STORY(test_a_service_that_is_lost_again_and_again_is_started_after_growing_pauses),
        STORY(test_a_pause_before_a_restart_ends_with_a_stop_and_survives_the_engine),
        STORY(test_a_change_during_an_attempt_is_not_lost_with_the_engine),
        STORY(test_a_restart_dispatches_what_was_under_way_with_the_same_id),
        STORY(test_a_pause_before_the_next_attempt_outlives_a_restart),
        STORY(test_what_came_due_during_a_long_downtime_is_spread),
        STORY(test_places_in_flight_go_round_the_organizations),
        STORY(test_a_key_is_indexed_as_long_as_it_is_there),
        STORY(test_states_are_counted_as_they_change),
        STORY(test_a_batch_that_did_not_happen_counts_nothing),
        STORY(test_the_same_idempotency_key_gets_the_first_answer_again),
        STORY(test_a_stale_generation_is_refused),
        STORY(test_every_event_follows_from_the_one_before),
        STORY(test_old_events_are_dropped),
        STORY(test_quota_of_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
