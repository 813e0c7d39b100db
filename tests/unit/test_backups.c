/* Stories of backups: made, kept, deleted, scheduled, restored from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/story.h"

static void test_a_backup_is_made_kept_and_deleted_when_its_retention_ends(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), REEVE_ERROR_CONFLICT);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_BACKUP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    struct reeve_backup backup;
    assert_true(fixture_load_backup(f, &backup_id, &backup));
    assert_int_equal(backup.state, REEVE_BACKUP_STATE_DONE);
    assert_int_equal(backup.size_bytes, 4711);
    assert_int_equal(backup.expires_ms, f->now_ms + 48 * HOUR_MS);
    /* The service goes, its backup stays until then. */
    fixture_command(f, REEVE_COMMAND_SERVICE_STOP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    fixture_command(f, REEVE_COMMAND_SERVICE_DELETE);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    fixture_advance(f, 48 * HOUR_MS - 1);
    assert_true(fixture_load_backup(f, &backup_id, &backup));
    fixture_advance(f, 1);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_DELETE_BACKUP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_false(fixture_load_backup(f, &backup_id, &backup));
}

static void make_backup(struct fixture *f, struct reeve_uuid *ret_id)
{
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    *ret_id = f->result.answer.backup.id;
    finish(f, REEVE_OUTCOME_STATUS_DONE);
}

static void delete_backup(struct fixture *f, const struct reeve_uuid *id)
{
    struct reeve_request request = {.command = REEVE_COMMAND_BACKUP_DELETE};
    request.params.backup = (struct reeve_backup_params){
        .organization_id = f->organization_id, .service_id = f->service_id, .backup_id = *id};
    assert_int_equal(fixture_submit(f, &request), 0);
}

static struct fixture_task *task_of(struct fixture *f, enum reeve_operation_kind kind,
                                    const struct reeve_uuid *backup_id)
{
    for (size_t i = 0; i < f->task_count; i++) {
        if (f->tasks[i].kind == kind && (!backup_id || uuid_equal(&f->tasks[i].backup_id, backup_id)))
            return &f->tasks[i];
    }
    return NULL;
}

/* What is under way, or in its pause, does not wait for a place that becomes free. */
static void test_a_deletion_that_failed_waits_for_its_pause(void **state)
{
    struct fixture *f = *state;
    struct reeve_uuid ids[3];
    fixture_running(f);
    for (int i = 0; i < 3; i++)
        make_backup(f, &ids[i]);
    delete_backup(f, &ids[0]);
    rename_service(f, "second");
    rename_service(f, "third");
    delete_backup(f, &ids[1]);
    delete_backup(f, &ids[2]); /* one more than there is room for: the queue is looked through */
    fixture_finish(f, task_of(f, REEVE_OPERATION_KIND_CONFIGURE, NULL), REEVE_OUTCOME_STATUS_DONE);
    fixture_finish(f, task_of(f, REEVE_OPERATION_KIND_DELETE_BACKUP, &ids[0]), REEVE_OUTCOME_STATUS_RETRY);
    fixture_finish(f, task_of(f, REEVE_OPERATION_KIND_CONFIGURE, NULL), REEVE_OUTCOME_STATUS_DONE);
    assert_null(task_of(f, REEVE_OPERATION_KIND_DELETE_BACKUP, &ids[0]));
    assert_non_null(task_of(f, REEVE_OPERATION_KIND_DELETE_BACKUP, &ids[1]));
    assert_non_null(task_of(f, REEVE_OPERATION_KIND_DELETE_BACKUP, &ids[2]));
    fixture_advance(f, f->core.limits.retry_min_ms);
    assert_int_equal(task_of(f, REEVE_OPERATION_KIND_DELETE_BACKUP, &ids[0])->attempt, 2);
}

/* All of them wait for the one place that the service has, and none may be forgotten. */
static void test_backups_that_wait_to_be_deleted_all_are(void **state)
{
    struct fixture *f = *state;
    struct reeve_uuid ids[3], other;
    struct reeve_backup backup;
    const struct reeve_uuid id = fixture_running(f);
    for (int i = 0; i < 3; i++)
        make_backup(f, &ids[i]);
    rename_service(f, "renamed");
    struct fixture_task *configure = fixture_task(f, &id);
    assert_int_equal(configure->kind, REEVE_OPERATION_KIND_CONFIGURE);
    for (int i = 0; i < 3; i++)
        delete_backup(f, &ids[i]);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    other = f->result.answer.backup.id;
    for (int i = 0; i < 5; i++)
        finish(f, REEVE_OUTCOME_STATUS_DONE);
    for (int i = 0; i < 3; i++)
        assert_false(fixture_load_backup(f, &ids[i], &backup));
    assert_true(fixture_load_backup(f, &other, &backup));
    assert_int_equal(backup.state, REEVE_BACKUP_STATE_DONE);
}

static void test_a_restore_that_is_refused_does_not_hold_its_backup(void **state)
{
    struct fixture *f = *state;
    fixture_running(f);
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_CREATE};
    request.params.service_create = (struct reeve_service_create_params){.organization_id = f->organization_id,
                                                                         .name = reeve_str("copy"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1"),
                                                                         .tier = REEVE_TIER_PRODUCTION,
                                                                         .backup_id = backup_id,
                                                                         .password_hash = reeve_str("no hash")};
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_BAD_REQUEST);
    struct reeve_backup backup;
    assert_true(fixture_load_backup(f, &backup_id, &backup));
    assert_int_equal(backup.restores, 0);
}

static void test_stop_ends_a_running_backup_in_error(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    assert_int_equal(fixture_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
    struct reeve_backup backup;
    assert_true(fixture_load_backup(f, &backup_id, &backup));
    assert_int_equal(backup.state, REEVE_BACKUP_STATE_ERROR);
    assert_memory_equal(backup.failure.code.data, "service_stopped", backup.failure.code.size);
    assert_true(fixture_task(f, &id)->cancelled);
    finish(f, REEVE_OUTCOME_STATUS_CANCELLED);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_STOP);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(state_of(f, &id), REEVE_SERVICE_STATE_STOPPED);
}

static void test_a_change_during_a_backup_waits_for_it(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_running(f);
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    const size_t started = f->started;
    assert_int_equal(rename_service(f, "renamed"), 0);
    assert_int_equal(f->started, started);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(f->started, started + 1);
    assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_CONFIGURE);
}

static void test_scheduled_backups(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid id = fixture_service(f);
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_SCALE};
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    request.params.service_scale = (struct reeve_service_scale_params){
        .organization_id = f->organization_id, .service_id = id, .given = REEVE_GIVEN_SERVICE_SCALE_IDLE_SCALING};
    assert_int_equal(fixture_submit(f, &request), 0);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    for (int day = 0; day < 3; day++) {
        fixture_advance(f, 24 * HOUR_MS);
        assert_int_equal(fixture_task(f, &id)->kind, REEVE_OPERATION_KIND_BACKUP);
        finish(f, REEVE_OUTCOME_STATUS_DONE);
    }
    struct reeve_service service;
    assert_true(fixture_load_service(f, &id, &service));
    assert_int_equal(service.state, REEVE_SERVICE_STATE_RUNNING);
    assert_true(service.backup_count >= 2);
}

static void test_backup_start_time(void **state)
{
    (void)state;
    const struct reeve_backup_configuration daily = {.period_hours = 24, .start_time = reeve_str("03:00")};
    const uint64_t midnight = UINT64_C(1699920000000); /* 2023-11-14T00:00:00Z */
    assert_int_equal(backup_next_ms(&daily, midnight), midnight + 3 * HOUR_MS);
    assert_int_equal(backup_next_ms(&daily, midnight + 3 * HOUR_MS), midnight + 27 * HOUR_MS);
    assert_int_equal(backup_next_ms(&daily, midnight + 4 * HOUR_MS), midnight + 27 * HOUR_MS);
}

static int restore(struct fixture *f, const struct reeve_uuid *backup_id, const char *region, enum reeve_tier tier)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_CREATE};
    request.params.service_create = (struct reeve_service_create_params){.organization_id = f->organization_id,
                                                                         .name = reeve_str("copy"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str(region),
                                                                         .tier = tier,
                                                                         .backup_id = *backup_id};
    return fixture_submit(f, &request);
}

static void test_restore_needs_a_finished_backup_of_the_same_region_and_tier(void **state)
{
    struct fixture *f = *state;
    fixture_running(f);
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    assert_int_equal(restore(f, &backup_id, "us-east-1", REEVE_TIER_PRODUCTION), REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(f->result.error.field, "backupId");
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(restore(f, &backup_id, "us-east-2", REEVE_TIER_PRODUCTION), REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(f->result.error.field, "region");
    assert_int_equal(restore(f, &backup_id, "us-east-1", REEVE_TIER_DEVELOPMENT), REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(f->result.error.field, "tier");
    assert_int_equal(restore(f, &(struct reeve_uuid){{1}}, "us-east-1", REEVE_TIER_PRODUCTION), REEVE_ERROR_NOT_FOUND);
    const struct reeve_uuid own = f->organization_id;
    fixture_organization(f, false);
    assert_int_equal(restore(f, &backup_id, "us-east-1", REEVE_TIER_PRODUCTION), REEVE_ERROR_NOT_FOUND);
    f->organization_id = own;
    assert_int_equal(restore(f, &backup_id, "us-east-1", REEVE_TIER_PRODUCTION), 0);
    const struct reeve_uuid copy = f->result.answer.service_created.service.id;
    assert_true(uuid_equal(&fixture_task(f, &copy)->backup_id, &backup_id));
    /* While it is being restored from, a backup stays. */
    struct reeve_request request = {.command = REEVE_COMMAND_BACKUP_DELETE};
    request.params.backup = (struct reeve_backup_params){
        .organization_id = f->organization_id, .service_id = f->service_id, .backup_id = backup_id};
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_CONFLICT);
    fixture_finish(f, fixture_task(f, &copy), REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(fixture_submit(f, &request), 0);
    finish(f, REEVE_OUTCOME_STATUS_DONE);
    struct reeve_backup backup;
    assert_false(fixture_load_backup(f, &backup_id, &backup));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_a_backup_is_made_kept_and_deleted_when_its_retention_ends),
        STORY(test_backups_that_wait_to_be_deleted_all_are),
        STORY(test_a_deletion_that_failed_waits_for_its_pause),
        STORY(test_a_restore_that_is_refused_does_not_hold_its_backup),
        STORY(test_stop_ends_a_running_backup_in_error),
        STORY(test_a_change_during_a_backup_waits_for_it),
        STORY(test_scheduled_backups),
        STORY(test_backup_start_time),
        STORY(test_restore_needs_a_finished_backup_of_the_same_region_and_tier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
