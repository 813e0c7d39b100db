/* A store with something in it that cannot be: whatever it is, it is told, refused or dropped; nothing is made of it,
 * and nothing falls over. Reading by the check is in test_store.c. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "tests/lib/fixture.h"

#define HOUR_MS UINT64_C(3600000)

static char told[512]; /* the last line of the log */

static void on_log(void *arg, enum reeve_log_level level, const char *line)
{
    (void)arg, (void)level;
    snprintf(told, sizeof told, "%s", line);
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture_open(&fixture);
    fixture.core.hooks.log = on_log;
    told[0] = '\0';
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    return 0;
}

static void put(struct fixture *f, enum store_table table, struct store_key key, const void *value, size_t size)
{
    assert_int_equal(store_begin(f->store), 0);
    store_put(f->store, table, &key, value, size);
    assert_int_equal(store_commit(f->store), 0);
    schedule_forget(&f->core); /* as after opening */
}

static void take_out(struct fixture *f, enum store_table table, struct store_key key)
{
    assert_int_equal(store_begin(f->store), 0);
    store_delete(f->store, table, &key);
    assert_int_equal(store_commit(f->store), 0);
}

static void put_record(struct fixture *f, enum store_table table, struct store_key key, const struct record_type *type,
                       const void *record)
{
    struct buffer bytes = {0};
    codec_encode_stored(type, record, &bytes);
    put(f, table, key, bytes.data, bytes.size);
    buffer_deinit(&bytes);
}

static uint64_t count(struct fixture *f, enum store_table table)
{
    struct store_read read;
    assert_int_equal(store_read_begin(f->store, &read), 0);
    const uint64_t items = store_read_count(&read, table);
    store_read_end(&read);
    return items;
}

/* A batch that may fail: with a request, or for what is due. */
static int try_batch(struct fixture *f, struct reeve_request *request)
{
    const uint8_t seed[CORE_SEED_SIZE] = {++f->seed, 7};
    arena_reset(&f->arena);
    int r = core_begin(&f->core, &f->arena, f->now_ms, f->mono_ms, seed);
    assert_int_equal(r, 0);
    if (request)
        core_request(&f->core, request);
    core_due(&f->core);
    r = core_commit(&f->core);
    if (r == 0)
        core_dispatch(&f->core);
    return r;
}

static int try_command(struct fixture *f, enum reeve_command command)
{
    struct reeve_request request = {.command = command};
    request.params.service = (struct reeve_service_params){.organization_id = f->organization_id,
                                                           .service_id = f->service_id};
    return try_batch(f, &request);
}

static struct store_key service_key(const struct fixture *f)
{
    return key_pair(&f->organization_id, &f->service_id);
}

/* ---- Records that decode, and do not keep their own rules ---- */

static void put_service(struct fixture *f, const struct reeve_service *service)
{
    put_record(f, TABLE_SERVICES, service_key(f), &record_type_service, service);
}

static void assert_service_refused(struct fixture *f, const struct reeve_service *good, const struct reeve_service *bad,
                                   const char *why)
{
    put_service(f, bad);
    told[0] = '\0';
    assert_int_equal(try_command(f, REEVE_COMMAND_SERVICE_STOP), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(told, why));
    assert_true(fixture_check(f) > 0);
    put_service(f, good);
}

#define BAD_SERVICE(why, change)                                                                                       \
    do {                                                                                                               \
        struct reeve_service service = good;                                                                           \
        change;                                                                                                        \
        assert_service_refused(f, &good, &service, why);                                                               \
    } while (0)

static void test_a_service_that_breaks_its_rules_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reeve_service good;
    fixture_running(f);
    char start[] = "02:00";
    assert_true(fixture_load_service(f, &f->service_id, &good));
    BAD_SERVICE("is in a state", service.state = REEVE_SERVICE_STATE_NONE; service.idle_at_ms = 0);
    BAD_SERVICE("is in a state", service.state = REEVE_SERVICE_STATE_GONE; service.idle_at_ms = 0);
    BAD_SERVICE("must be under way", service.state = REEVE_SERVICE_STATE_STARTING);
    BAD_SERVICE("either in the queue", service.operation.kind = REEVE_OPERATION_KIND_CONFIGURE);
    BAD_SERVICE("from 1", service.operation.kind = REEVE_OPERATION_KIND_CONFIGURE; service.operation.queued = 1);
    BAD_SERVICE("than was asked for", service.operation.kind = REEVE_OPERATION_KIND_CONFIGURE;
                service.operation.attempt = 1; service.operation.queued = 1;
                service.operation.desired = service.desired + 1);
    BAD_SERVICE("of a backup", service.operation.kind = REEVE_OPERATION_KIND_BACKUP; service.operation.attempt = 1;
                service.operation.queued = 1);
    BAD_SERVICE("no operation may", service.operation.attempt = 1;
                service.operation.kind = REEVE_OPERATION_KIND_CONFIGURE; service.operation.queued = 1;
                service.state = REEVE_SERVICE_STATE_STOPPED);
    BAD_SERVICE("backups run only", service.current_backup.bytes[0] = 1; service.state = REEVE_SERVICE_STATE_STOPPED);
    BAD_SERVICE("idle timer", service.state = REEVE_SERVICE_STATE_STOPPED; service.idle_at_ms = 5);
    BAD_SERVICE("has a reason", service.state = REEVE_SERVICE_STATE_FAILED; service.idle_at_ms = 0);
    BAD_SERVICE("more was applied", service.applied = service.desired + 1);
    BAD_SERVICE("generation", service.generation = 0);
    BAD_SERVICE("counted", service.generation = UINT64_MAX);
    BAD_SERVICE("counted", service.desired = UINT64_MAX);
    BAD_SERVICE("creation", service.created_ms = 0);
    BAD_SERVICE("time that is none", service.backup_configuration.start_time = reeve_str("2"));
    BAD_SERVICE("time that is none", service.backup_configuration.start_time = reeve_str(start);
                service.backup_configuration.period_hours = 0);
    assert_int_equal(try_command(f, REEVE_COMMAND_SERVICE_STOP), 0);
}

static void assert_backup_refused(struct fixture *f, const struct store_key *key, const struct reeve_backup *bad,
                                  const char *why)
{
    put_record(f, TABLE_BACKUPS, *key, &record_type_backup, bad);
    told[0] = '\0';
    struct reeve_request request = {.command = REEVE_COMMAND_BACKUP_DELETE};
    request.params.backup = (struct reeve_backup_params){
        .organization_id = f->organization_id, .service_id = f->service_id, .backup_id = uuid_at(key->bytes + 16)};
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(told, why));
    assert_true(fixture_check(f) > 0);
}

#define BAD_BACKUP(why, change)                                                                                        \
    do {                                                                                                               \
        struct reeve_backup backup = good;                                                                             \
        change;                                                                                                        \
        assert_backup_refused(f, &key, &backup, why);                                                                  \
    } while (0)

static void test_a_backup_that_breaks_its_rules_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reeve_backup good;
    fixture_running(f);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    const struct reeve_uuid id = f->result.answer.backup.id;
    fixture_finish(f, fixture_task(f, &f->service_id), REEVE_OUTCOME_STATUS_DONE);
    const struct store_key key = key_pair(&f->service_id, &id);
    assert_true(fixture_load_backup(f, &id, &good));
    BAD_BACKUP("is in a state", backup.state = REEVE_BACKUP_STATE_NONE);
    BAD_BACKUP("is in a state", backup.state = REEVE_BACKUP_STATE_GONE);
    BAD_BACKUP("must be under way", backup.state = REEVE_BACKUP_STATE_DELETING);
    BAD_BACKUP("no operation may", backup.operation.kind = REEVE_OPERATION_KIND_BACKUP);
    BAD_BACKUP("either in the queue", backup.state = REEVE_BACKUP_STATE_DELETING;
               backup.operation.kind = REEVE_OPERATION_KIND_DELETE_BACKUP);
    BAD_BACKUP("from 1", backup.state = REEVE_BACKUP_STATE_DELETING; backup.operation.queued = 1;
               backup.operation.kind = REEVE_OPERATION_KIND_DELETE_BACKUP);
    BAD_BACKUP("of its state", backup.state = REEVE_BACKUP_STATE_DELETING; backup.operation.queued = 1;
               backup.operation.attempt = 1; backup.operation.kind = REEVE_OPERATION_KIND_BACKUP);
    BAD_BACKUP("counted", backup.generation = UINT64_MAX);
    BAD_BACKUP("time it finished", backup.finished_ms = 0);
    BAD_BACKUP("end of its retention", backup.expires_ms = 0);
    put_record(f, TABLE_BACKUPS, key, &record_type_backup, &good);
    assert_int_equal(fixture_check(f), 0);
}

/* ---- Records that do not decode ---- */

static void test_what_does_not_decode_is_refused(void **state)
{
    struct fixture *f = *state;
    fixture_running(f);
    const struct reeve_uuid key_id = fixture_key(f, 0);
    put(f, TABLE_SERVICES, service_key(f), "x", 1);
    assert_int_equal(try_command(f, REEVE_COMMAND_SERVICE_STOP), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(told, "a stored service cannot be read"));
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_REVOKE};
    request.params.key = (struct reeve_key_params){.organization_id = f->organization_id, .key_id = key_id};
    put(f, TABLE_KEYS, key_pair(&f->organization_id, &key_id), "\x92\x01\xa1", 3);
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_DELETE};
    request.params.organization.organization_id = f->organization_id;
    put(f, TABLE_ORGANIZATIONS, key_uuid(&f->organization_id), "\x91\x7f", 2); /* of a newer version */
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_VERSION);
}

/* The keys of an organization go with it: one that cannot be read keeps it. */
static void test_an_organization_with_a_damaged_key_stays(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid key_id = fixture_key(f, 0);
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_DELETE};
    request.params.organization.organization_id = f->organization_id;
    put(f, TABLE_KEYS, key_pair(&f->organization_id, &key_id), "x", 1);
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    assert_int_equal(count(f, TABLE_ORGANIZATIONS), 1);
}

static void test_a_kept_answer_that_is_damaged_is_not_given(void **state)
{
    struct fixture *f = *state;
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_CREATE, .meta.idempotency_key = reeve_str("once")};
    fixture_organization(f, false);
    request.params.key_create = (struct reeve_key_create_params){.organization_id = f->organization_id,
                                                                 .name = reeve_str("ci")};
    assert_int_equal(fixture_submit(f, &request), 0);
    struct store_item item;
    struct reeve_idempotency kept;
    assert_int_equal(store_begin(f->store), 0);
    assert_true(store_seek(f->store, TABLE_IDEMPOTENCY, &(struct store_key){0}, &item));
    struct store_key key = {.size = item.key_size};
    memcpy(key.bytes, item.key, item.key_size);
    struct arena arena;
    arena_init(&arena, 4096);
    const void *copy = arena_copy(&arena, item.value, item.value_size);
    assert_int_equal(codec_decode_stored(&record_type_idempotency, copy, item.value_size, &arena, &kept), 0);
    store_abort(f->store);

    struct reeve_idempotency bad = kept;
    bad.answer = reeve_str("x");
    put_record(f, TABLE_IDEMPOTENCY, key, &record_type_idempotency, &bad);
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    bad.answer = (struct reeve_str){0};
    put_record(f, TABLE_IDEMPOTENCY, key, &record_type_idempotency, &bad);
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    bad = kept;
    char sealed[256];
    assert_true(kept.sealed.size < sizeof sealed);
    memcpy(sealed, kept.sealed.data, kept.sealed.size);
    sealed[kept.sealed.size - 1] ^= 1;
    bad.sealed.data = sealed;
    put_record(f, TABLE_IDEMPOTENCY, key, &record_type_idempotency, &bad);
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    bad = kept;
    bad.request_hash.size = 3;
    put_record(f, TABLE_IDEMPOTENCY, key, &record_type_idempotency, &bad);
    assert_int_equal(fixture_submit(f, &request), REEVE_ERROR_IDEMPOTENCY_MISMATCH);
    put(f, TABLE_IDEMPOTENCY, key, "x", 1);
    assert_int_equal(try_batch(f, &request), -REEVE_ERROR_STORE_DAMAGED);
    put_record(f, TABLE_IDEMPOTENCY, key, &record_type_idempotency, &kept);
    assert_int_equal(fixture_submit(f, &request), 0);
    assert_true(f->result.replayed);
    arena_deinit(&arena);
}

/* ---- Rows without their record ---- */

static void assert_dropped(struct fixture *f, enum due_kind kind, const char *what)
{
    const struct reeve_uuid nobody = {{9}};
    const uint64_t before = count(f, TABLE_DUE);
    put(f, TABLE_DUE, key_due(f->now_ms, kind, &nobody, &nobody), "", 0);
    told[0] = '\0';
    assert_int_equal(try_batch(f, NULL), 0);
    if (what)
        assert_non_null(strstr(told, what));
    assert_int_equal(count(f, TABLE_DUE), before);
}

static void test_timers_of_nothing_are_dropped(void **state)
{
    struct fixture *f = *state;
    assert_dropped(f, DUE_SERVICE, "a timer without its service");
    assert_dropped(f, DUE_BACKUP, "a timer without its backup");
    assert_dropped(f, DUE_KEY, "a timer without its key");
    assert_dropped(f, DUE_IDEMPOTENCY, NULL);
    assert_dropped(f, (enum due_kind)77, "unknown kind 77");
    assert_int_equal(fixture_check(f), 0);
}

/* A record whose timer comes at another time than it says: the row is wrong, not the record. */
static void test_timers_at_a_wrong_time_are_dropped(void **state)
{
    struct fixture *f = *state;
    fixture_running(f);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    const struct reeve_uuid backup_id = f->result.answer.backup.id, key_id = fixture_key(f, f->now_ms + 1000 * HOUR_MS);
    const uint64_t before = count(f, TABLE_DUE);
    put(f, TABLE_DUE, key_due(f->now_ms, DUE_SERVICE, &f->organization_id, &f->service_id), "", 0);
    put(f, TABLE_DUE, key_due(f->now_ms, DUE_BACKUP, &f->service_id, &backup_id), "", 0);
    put(f, TABLE_DUE, key_due(f->now_ms, DUE_KEY, &f->organization_id, &key_id), "", 0);
    assert_int_equal(try_batch(f, NULL), 0);
    assert_int_equal(count(f, TABLE_DUE), before);
    assert_int_equal(fixture_check(f), 0);
}

/* One that says nothing is told each time, and its batch does not happen. */
static void test_a_timer_of_a_damaged_record_stays(void **state)
{
    struct fixture *f = *state;
    struct reeve_service service;
    fixture_running(f);
    assert_true(fixture_load_service(f, &f->service_id, &service));
    f->now_ms = service_due_ms(&service);
    put(f, TABLE_SERVICES, service_key(f), "x", 1);
    const uint64_t before = count(f, TABLE_DUE);
    assert_int_equal(try_batch(f, NULL), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(told, "a stored service cannot be read"));
    assert_int_equal(count(f, TABLE_DUE), before);
}

static void test_a_row_of_the_queue_without_its_record_starts_nothing(void **state)
{
    struct fixture *f = *state;
    const char nobody[48] = "nobody's operation";
    fixture_running(f);
    const size_t started = f->started;
    put(f, TABLE_QUEUE, key_queue(&f->organization_id, 1), nobody, 32);
    put(f, TABLE_QUEUE, key_queue(&f->organization_id, 2), nobody, 48);
    put(f, TABLE_QUEUE, key_queue(&f->organization_id, 3), nobody, 5);
    fixture_restart(f, 0);
    assert_int_equal(f->started, started);
    assert_int_equal(fixture_check(f), 3);
}

/* What belongs to an attempt may be gone when it ends. */
static void test_an_attempt_without_its_record_ends(void **state)
{
    struct fixture *f = *state;
    fixture_running(f);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    take_out(f, TABLE_BACKUPS, key_pair(&f->service_id, &backup_id));
    fixture_finish(f, fixture_task(f, &f->service_id), REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(f->core.flights.count, 0);
    const struct reeve_uuid other = fixture_service(f);
    take_out(f, TABLE_SERVICES, key_pair(&f->organization_id, &other));
    const struct reeve_progress progress = {.done = 1, .total = 2};
    struct fixture_task *task = fixture_task(f, &other);
    struct report report = {
        .operation_id = task->operation_id, .attempt = 1, .kind = REPORT_PROGRESS, .progress = progress};
    const uint8_t seed[CORE_SEED_SIZE] = {1};
    arena_reset(&f->arena);
    assert_int_equal(core_begin(&f->core, &f->arena, f->now_ms, f->mono_ms, seed), 0);
    core_report(&f->core, &report);
    assert_int_equal(core_commit(&f->core), 0);
    fixture_finish(f, task, REEVE_OUTCOME_STATUS_DONE);
    assert_int_equal(f->core.flights.count, 0);
}

/* A service that says a backup of it is being made, and there is none. */
static void test_a_running_backup_that_is_missing_is_damage(void **state)
{
    struct fixture *f = *state;
    fixture_running(f);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    take_out(f, TABLE_BACKUPS, key_pair(&f->service_id, &backup_id));
    assert_int_equal(try_command(f, REEVE_COMMAND_SERVICE_STOP), -REEVE_ERROR_STORE_DAMAGED);
}

/* ---- Opening ---- */

static int open_as_host(struct fixture *f, struct reeve_error *ret_error)
{
    struct reeve_engine *engine;
    const struct reeve_options options = {.data_dir = f->directory, .limits = {.map_initial_bytes = 1 << 20}};
    const int r = reeve_open(&options, &engine, ret_error);
    if (r == 0)
        reeve_close(engine);
    return r;
}

static void reopen_store(struct fixture *f)
{
    struct reeve_error error;
    assert_int_equal(
        store_open(
            &(struct store_options){.directory = f->directory, .map_initial_bytes = 1 << 20, .single_threaded = true},
            &f->store, &error),
        0);
}

/* Put it in, see that the engine does not open, take it out again. */
static void assert_not_opened(struct fixture *f, enum store_table table, struct store_key key, const char *value,
                              size_t size, const char *why)
{
    struct reeve_error error;
    struct reeve_str before;
    char kept[4096];
    assert_int_equal(store_begin(f->store), 0);
    const bool existed = store_get(f->store, table, &key, &before);
    const size_t kept_size = existed ? before.size : 0;
    assert_true(kept_size <= sizeof kept);
    if (kept_size)
        memcpy(kept, before.data, kept_size);
    store_abort(f->store);
    put(f, table, key, value, size);
    store_close(f->store);
    assert_int_equal(open_as_host(f, &error), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(error.message, why));
    reopen_store(f);
    if (existed)
        put(f, table, key, kept, kept_size);
    else
        take_out(f, table, key);
}

static void test_an_engine_does_not_open_on_what_it_cannot_go_on_from(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    const struct store_key short_key = {.size = 3, .bytes = "\xff\xff\xff"};
    const char rubbish[] = "rubbish";
    fixture_running(f);
    core_deinit(&f->core);
    f->core = (struct core){0};
    assert_not_opened(f, TABLE_META, key_text("schema_version"), rubbish, 7, "schema version");
    assert_not_opened(f, TABLE_META, key_text("schema_version"), "\0\0\0\0\0\0\0", 8, "schema version");
    assert_not_opened(f, TABLE_EVENTS, short_key, rubbish, 7, "has a key that is none");
    assert_not_opened(f, TABLE_EVENTS, (struct store_key){.size = 1}, rubbish, 7, "has a key that is none");
    assert_not_opened(f, TABLE_EVENTS, key_number(UINT64_MAX), rubbish, 7, "has a key that is none");
    assert_not_opened(f, TABLE_QUEUE, short_key, rubbish, 7, "has a key that is none");
    assert_not_opened(f, TABLE_QUEUE, key_queue(&f->organization_id, UINT64_MAX), rubbish, 7, "has a key that is none");
    take_out(f, TABLE_META, key_text("state_counts"));
    assert_not_opened(f, TABLE_SERVICES, service_key(f), rubbish, 7, "could not be counted");
    assert_not_opened(f, TABLE_BACKUPS, service_key(f), rubbish, 7, "could not be counted");
    store_close(f->store);
    assert_int_equal(open_as_host(f, &error), 0);
    reopen_store(f);
}

static void test_an_older_store_with_damaged_keys_is_not_migrated(void **state)
{
    struct fixture *f = *state;
    const struct store_key key = key_text("schema_version");
    const struct store_key short_key = {.size = 3};
    core_deinit(&f->core);
    f->core = (struct core){0};
    put(f, TABLE_META, key, "\0\0\0\0\0\0\0\1", 8);
    assert_not_opened(f, TABLE_BACKUPS, short_key, "x", 1, "could not be brought from schema version 1");
    assert_not_opened(f, TABLE_KEYS, short_key, "x", 1, "could not be brought from schema version 1");
}

static void test_what_the_database_says_of_its_journal_may_be_damaged(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    struct reeve_check_summary summary;
    struct database *database;
    const struct database_options options = {
        .directory = f->directory, .map_initial_bytes = 1 << 20, .map_max_bytes = UINT64_MAX};
    core_deinit(&f->core);
    f->core = (struct core){0};
    store_close(f->store);
    f->store = NULL;
    assert_int_equal(database_open(&options, &database, &error), 0);
    assert_int_equal(database_write_begin(database), 0);
    database_put(database, TABLE_META, "journal", 7, "short", 5);
    assert_int_equal(database_commit(database), 0);
    database_close(database);
    assert_int_equal(open_as_host(f, &error), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(error.message, "what it says about its journal is damaged"));
    assert_int_equal(reeve_check(f->directory, NULL, NULL, &summary, &error), -REEVE_ERROR_STORE_DAMAGED);
    assert_non_null(strstr(error.message, "what it says about its journal is damaged"));
}

/* ---- Reading ---- */

struct host {
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    uint64_t events; /* by their numbers; overdue timers may add some */
    bool caught_up;
};

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    if (event->sequence < 64)
        ((struct host *)watch->data)->events |= UINT64_C(1) << event->sequence;
}

static void on_caught_up(struct reeve_watch *watch)
{
    ((struct host *)watch->data)->caught_up = true;
}

static void open_host(struct host *host, struct fixture *f)
{
    struct reeve_error error;
    const struct reeve_options options = {.data_dir = f->directory, .limits = {.map_initial_bytes = 1 << 20}};
    core_deinit(&f->core);
    f->core = (struct core){0};
    store_close(f->store);
    f->store = NULL;
    *host = (struct host){.events = 0};
    assert_int_equal(uv_loop_init(&host->loop), 0);
    assert_int_equal(reeve_open(&options, &host->engine, &error), 0);
    assert_int_equal(reeve_client_open(host->engine, &host->loop, &host->client), 0);
}

static void close_host(struct host *host)
{
    reeve_client_close(host->client, NULL, NULL);
    uv_run(&host->loop, UV_RUN_DEFAULT);
    reeve_close(host->engine);
    assert_int_equal(uv_loop_close(&host->loop), 0);
}

static bool take_any(void *arg, const void *record)
{
    (void)record;
    ++*(unsigned *)arg;
    return true;
}

static void assert_not_read(struct host *host, struct reeve_request request)
{
    struct reeve_error error;
    unsigned items = 0;
    assert_int_equal(reeve_read(host->engine, &request, take_any, &items, &error), -REEVE_ERROR_STORE_DAMAGED);
}

static void test_reads_tell_what_is_damaged(void **state)
{
    struct fixture *f = *state;
    struct host host;
    struct reeve_request request;
    const struct store_key short_key = {.size = 3};
    fixture_running(f);
    assert_int_equal(fixture_command(f, REEVE_COMMAND_BACKUP_CREATE), 0);
    const struct reeve_uuid backup_id = f->result.answer.backup.id, key_id = fixture_key(f, 0);
    fixture_finish(f, fixture_task(f, &f->service_id), REEVE_OUTCOME_STATUS_DONE);
    put(f, TABLE_SERVICES, service_key(f), "x", 1);
    put(f, TABLE_BACKUPS, key_pair(&f->service_id, &backup_id), "x", 1);
    put(f, TABLE_KEYS, key_pair(&f->organization_id, &key_id), "x", 1);
    put(f, TABLE_ORGANIZATIONS, short_key, "x", 1);
    open_host(&host, f);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_GET};
    request.params.service = (struct reeve_service_params){.organization_id = f->organization_id,
                                                           .service_id = f->service_id};
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_LIST};
    request.params.service_list.organization_id = f->organization_id;
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_BACKUP_GET};
    request.params.backup = (struct reeve_backup_params){
        .organization_id = f->organization_id, .service_id = f->service_id, .backup_id = backup_id};
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_BACKUP_LIST};
    request.params.backup_list.organization_id = f->organization_id;
    request.params.backup_list.service_id = f->service_id;
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_KEY_GET};
    request.params.key = (struct reeve_key_params){.organization_id = f->organization_id, .key_id = key_id};
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_KEY_LIST};
    request.params.key_list.organization_id = f->organization_id;
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_LIST};
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_BACKUP_CONFIGURATION_GET};
    request.params.service = (struct reeve_service_params){.organization_id = f->organization_id,
                                                           .service_id = f->service_id};
    assert_not_read(&host, request);
    request = (struct reeve_request){.command = REEVE_COMMAND_OPERATION_LIST};
    request.params.organization.organization_id = f->organization_id;
    assert_not_read(&host, request);
    char id[37];
    struct reeve_identity identity;
    struct reeve_error error;
    reeve_uuid_format(&key_id, id);
    assert_int_equal(reeve_authenticate(host.engine, reeve_str(id), reeve_str("x"), NULL, &identity, &error),
                     -REEVE_ERROR_STORE_DAMAGED);
    close_host(&host);
}

static void test_a_watch_passes_over_an_event_that_is_damaged(void **state)
{
    struct fixture *f = *state;
    struct host host;
    struct reeve_error error;
    fixture_running(f);
    const uint64_t events = f->core.durable.sequence;
    put(f, TABLE_EVENTS, key_number(2), "x", 1);
    open_host(&host, f);
    struct reeve_watch watch = {.from_sequence = 1, .on_event = on_event, .on_caught_up = on_caught_up, .data = &host};
    assert_int_equal(reeve_watch_start(host.client, &watch, &error), 0);
    while (!host.caught_up)
        uv_run(&host.loop, UV_RUN_ONCE);
    const uint64_t all = (UINT64_C(1) << (events + 1)) - 1;
    assert_int_equal(host.events & all, all & ~UINT64_C(1) & ~(UINT64_C(1) << 2));
    struct reeve_request request = {.command = REEVE_COMMAND_EVENT_LIST};
    request.params.event_list.from = 1;
    assert_not_read(&host, request);
    reeve_watch_stop(&watch);
    close_host(&host);
}

/* ---- The check ---- */

static void test_the_check_tells_keys_and_values_of_a_wrong_size(void **state)
{
    struct fixture *f = *state;
    const struct store_key odd = {.size = 5, .bytes = "odd"};
    struct reeve_key key;
    const struct reeve_uuid key_id = fixture_key(f, 0);
    uint64_t findings = 0;
    for (enum store_table table = TABLE_ORGANIZATIONS; table < TABLE_COUNT; table++, findings++)
        put(f, table, odd, "x", 1);
    assert_int_equal(fixture_check(f), findings);
    for (enum store_table table = TABLE_ORGANIZATIONS; table < TABLE_COUNT; table++)
        take_out(f, table, odd);
    assert_int_equal(fixture_check(f), 0);
    struct store_read read;
    struct reeve_str value;
    const struct store_key place = key_pair(&f->organization_id, &key_id);
    assert_int_equal(store_read_begin(f->store, &read), 0);
    assert_true(store_read_get(&read, TABLE_KEYS, &place, &value));
    const void *copy = arena_copy(&f->arena, value.data, value.size);
    assert_int_equal(codec_decode_stored(&record_type_key, copy, value.size, &f->arena, &key), 0);
    store_read_end(&read);
    key.secret_sha256.size = 31;
    put_record(f, TABLE_KEYS, place, &record_type_key, &key);
    const struct reeve_uuid index_id = {{7}};
    put(f, TABLE_KEY_INDEX, key_uuid(&index_id), "x", 1);
    const struct store_key second = key_pair(&f->organization_id, &index_id);
    put(f, TABLE_KEYS, second, "x", 1);
    put(f, TABLE_IDEMPOTENCY, second, "x", 1);
    put(f, TABLE_EVENTS, key_number(9), "x", 1);
    assert_int_equal(fixture_check(f), 6); /* and the organization counts one key */
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_a_service_that_breaks_its_rules_is_refused),
        STORY(test_a_backup_that_breaks_its_rules_is_refused),
        STORY(test_what_does_not_decode_is_refused),
        STORY(test_an_organization_with_a_damaged_key_stays),
        STORY(test_a_kept_answer_that_is_damaged_is_not_given),
        STORY(test_timers_of_nothing_are_dropped),
        STORY(test_timers_at_a_wrong_time_are_dropped),
        STORY(test_a_timer_of_a_damaged_record_stays),
        STORY(test_a_row_of_the_queue_without_its_record_starts_nothing),
        STORY(test_an_attempt_without_its_record_ends),
        STORY(test_a_running_backup_that_is_missing_is_damage),
        STORY(test_an_engine_does_not_open_on_what_it_cannot_go_on_from),
        STORY(test_an_older_store_with_damaged_keys_is_not_migrated),
        STORY(test_what_the_database_says_of_its_journal_may_be_damaged),
        STORY(test_reads_tell_what_is_damaged),
        STORY(test_a_watch_passes_over_an_event_that_is_damaged),
        STORY(test_the_check_tells_keys_and_values_of_a_wrong_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
