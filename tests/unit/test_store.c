/* The store when all is well and when it is not: full map, full disk, wrong files, newer schema, two openers. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "migrate.h"
#include "tests/lib/fixture.h"

/* So many writes are made and said to have failed; those behind them do fail. */
static int lies, failures;

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    const bool lie = lies > 0 && lies--, fail = !lie && failures > 0 && failures--;
    const ssize_t done = fail ? -1 : syscall(SYS_pwrite64, fd, bytes, size, offset);
    if (!lie && !fail)
        return done;
    errno = EIO;
    return -1;
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture_open(&fixture);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    const uint64_t findings = fixture_check(f);
    fixture_close(f);
    return findings ? -1 : 0;
}

static void test_keys_sort_as_their_parts_do(void **state)
{
    (void)state;
    const struct reeve_uuid low = {{1}}, high = {{1, 1}};
    const struct store_key keys[] = {
        key_due(1, DUE_BACKUP, &high, &high),
        key_due(255, DUE_SERVICE, &low, &low),
        key_due(256, DUE_SERVICE, &low, &low),
        key_due(256, DUE_SERVICE, &low, &high),
        key_due(256, DUE_SERVICE, &high, &low),
        key_due(256, DUE_BACKUP, &low, &low),
        key_due(UINT64_C(1) << 40, DUE_SERVICE, &low, &low),
    };
    for (size_t i = 1; i < sizeof keys / sizeof keys[0]; i++)
        assert_true(memcmp(keys[i - 1].bytes, keys[i].bytes, keys[i].size) < 0);
    struct store_key ones = {.size = 2, .bytes = {0xff, 0xff}}, mixed = {.size = 2, .bytes = {0x01, 0xff}};
    assert_int_equal(key_after_prefix(ones).size, 0);
    assert_int_equal(key_after_prefix(mixed).size, 1);
    assert_int_equal(key_after_prefix(mixed).bytes[0], 2);
}

static void test_the_map_grows_by_itself(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    fixture_open_sized(f, 1 << 18, 1 << 28);
    for (int i = 0; i < 3000; i++, f->now_ms++) /* else their ids would come again */
        fixture_organization(f, false);
    struct store_stats stats;
    assert_int_equal(store_checkpoint(f->store), 0);
    store_get_stats(f->store, &stats);
    assert_true(stats.map_used_bytes > 1 << 18);
    assert_true(stats.map_bytes > 1 << 18);
}

/* One request in a batch whose outcome may be a fault of the store. */
static int try_create(struct fixture *f)
{
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create = (struct reeve_organization_create_params){.name = reeve_str("one more")};
    const uint8_t seed[CORE_SEED_SIZE] = {++f->seed, 1};
    arena_reset(&f->arena);
    const int r = core_begin(&f->core, &f->arena, ++f->now_ms, f->mono_ms, seed);
    if (r < 0)
        return r;
    core_request(&f->core, &request);
    return core_commit(&f->core);
}

static uint64_t organizations(struct fixture *f)
{
    struct store_read read;
    assert_int_equal(store_read_begin(f->store, &read), 0);
    const uint64_t count = store_read_count(&read, TABLE_ORGANIZATIONS);
    store_read_end(&read);
    return count;
}

static void test_a_full_map_refuses_and_keeps_what_was_acknowledged(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    fixture_open_sized(f, 1 << 20, 1 << 20);
    uint64_t acknowledged = 0;
    int r;
    while ((r = try_create(f)) == 0)
        acknowledged++;
    assert_int_equal(r, -REEVE_ERROR_UNAVAILABLE);
    assert_non_null(strstr(store_failure(f->store), "map-max-bytes"));
    assert_int_equal(organizations(f), acknowledged);
    assert_true(try_create(f) < 0);
    f->core.limits.map_max_bytes = 1 << 24;
    fixture_restart(f, 0);
    assert_int_equal(organizations(f), acknowledged);
    assert_int_equal(try_create(f), 0);
}

static void test_a_full_disk_refuses_and_writing_goes_on_when_there_is_room(void **state)
{
    struct fixture *f = *state;
    struct rlimit unlimited, limit;
    char path[96];
    struct stat file;
    snprintf(path, sizeof path, "%s/data.mdb", f->directory);
    assert_int_equal(stat(path, &file), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
    limit = unlimited;
    limit.rlim_cur = (rlim_t)file.st_size + 8192;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    uint64_t acknowledged = organizations(f);
    int r = 0;
    for (int i = 0; i < 10000 && r == 0; i++) {
        r = try_create(f);
        acknowledged += r == 0;
    }
    const int again = try_create(f);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    assert_int_equal(again, -REEVE_ERROR_UNAVAILABLE);
    assert_int_equal(r, -REEVE_ERROR_UNAVAILABLE);
    assert_non_null(strstr(store_failure(f->store), "the journal cannot be written"));
    assert_int_equal(organizations(f), acknowledged);
    assert_int_equal(try_create(f), 0);
    assert_int_equal(organizations(f), acknowledged + 1);
}

/* It is on disk, and cut off before anybody is told that it has not happened. */
static void test_what_was_refused_does_not_come_back(void **state)
{
    struct fixture *f = *state;
    const uint64_t acknowledged = organizations(f);
    lies = 1;
    assert_int_equal(try_create(f), -REEVE_ERROR_UNAVAILABLE);
    assert_false(store_is_in_doubt(f->store));
    assert_non_null(strstr(store_failure(f->store), "the journal cannot be written"));
    fixture_restart(f, 0);
    assert_int_equal(organizations(f), acknowledged);
}

static void test_what_cannot_be_cut_off_is_in_doubt(void **state)
{
    struct fixture *f = *state;
    const uint64_t acknowledged = organizations(f);
    lies = 1;
    failures = 2;
    assert_int_equal(try_create(f), -REEVE_ERROR_UNAVAILABLE);
    assert_true(store_is_in_doubt(f->store));
    assert_non_null(strstr(store_failure(f->store), "the journal cannot be written"));
    assert_int_equal(try_create(f), -REEVE_ERROR_UNAVAILABLE);
    assert_true(store_is_in_doubt(f->store));
    assert_int_equal(failures, 0);
    assert_int_equal(organizations(f), acknowledged);
    fixture_restart(f, 0); /* as by a crash: there it is */
    assert_int_equal(organizations(f), acknowledged + 1);
    lies = failures = 1;
    assert_int_equal(try_create(f), -REEVE_ERROR_UNAVAILABLE);
    assert_true(store_is_in_doubt(f->store));
    assert_int_equal(try_create(f), 0);
    assert_false(store_is_in_doubt(f->store));
    fixture_restart(f, 0);
    assert_int_equal(organizations(f), acknowledged + 2);
}

static void test_a_snapshot_opens_like_the_original(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    struct reeve_check_summary copy;
    char path[96];
    fixture_running(f);
    snprintf(path, sizeof path, "%s/snapshot", f->directory);
    assert_int_equal(store_copy(f->store, path, &error), 0);
    assert_int_equal(reeve_check(path, NULL, NULL, &copy, &error), 0);
    assert_int_equal(copy.findings, 0);
    assert_int_equal(copy.services, 1);
    assert_int_equal(copy.last_sequence, f->core.durable.sequence);
    assert_true(store_copy(f->store, path, &error) < 0); /* never over something */
    assert_non_null(strstr(error.message, "File exists"));
}

static int open_error(const char *directory, struct reeve_error *error)
{
    struct reeve_engine *engine;
    const int r = reeve_open(&(struct reeve_options){.data_dir = directory}, &engine, error);
    if (r == 0)
        reeve_close(engine);
    return r;
}

static void test_a_second_opener_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    char process[32];
    snprintf(process, sizeof process, "process %ld", (long)getpid());
    assert_int_equal(open_error(f->directory, &error), -REEVE_ERROR_STORE_LOCKED);
    assert_non_null(strstr(error.message, process));
}

/* LMDB must not have it open twice in a process. */
static void test_what_this_process_has_open_is_not_checked_by_its_directory(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    struct reeve_check_summary summary;
    assert_int_equal(reeve_check(f->directory, NULL, NULL, &summary, &error), -REEVE_ERROR_STORE_LOCKED);
    assert_non_null(strstr(error.message, "reeve_check_engine()"));
}

static void write_file(const char *directory, const char *name, const void *data, size_t size)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

static void test_wrong_directories_and_files_are_told_apart(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    char path[160];
    snprintf(path, sizeof path, "%s/no/such", f->directory);
    assert_int_equal(open_error(path, &error), -REEVE_ERROR_STORE_ACCESS);
    assert_non_null(strstr(error.message, path));
    write_file(f->directory, "plain", "x", 1);
    snprintf(path, sizeof path, "%s/plain", f->directory);
    assert_int_equal(open_error(path, &error), -REEVE_ERROR_STORE_ACCESS);
    snprintf(path, sizeof path, "%s/wrong", f->directory);
    mkdir(path, 0700);
    char junk[16384];
    memset(junk, 'j', sizeof junk);
    write_file(path, "data.mdb", junk, sizeof junk);
    assert_int_equal(open_error(path, &error), -REEVE_ERROR_STORE_DAMAGED);
    struct reeve_check_summary summary;
    assert_true(reeve_check(path, NULL, NULL, &summary, &error) < 0);
    snprintf(path, sizeof path, "%s/empty", f->directory);
    mkdir(path, 0700);
    assert_true(reeve_check(path, NULL, NULL, &summary, &error) < 0);
}

static void put_version(struct store *store, uint64_t version)
{
    uint8_t bytes[8];
    const struct store_key key = key_text("schema_version");
    put_be64(bytes, version);
    store_put(store, TABLE_META, &key, bytes, sizeof bytes);
}

static void test_a_newer_schema_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    assert_int_equal(store_begin(f->store), 0);
    put_version(f->store, 99);
    assert_int_equal(store_commit(f->store), 0);
    core_deinit(&f->core);
    store_close(f->store);
    assert_int_equal(open_error(f->directory, &error), -REEVE_ERROR_STORE_VERSION);
    assert_non_null(strstr(error.message, "99"));
    /* Nothing was changed: put it back and go on. */
    assert_int_equal(
        store_open(
            &(struct store_options){.directory = f->directory, .map_initial_bytes = 1 << 20, .map_max_bytes = 1 << 24},
            &f->store, &error),
        0);
    assert_int_equal(store_begin(f->store), 0);
    put_version(f->store, SCHEMA_VERSION);
    assert_int_equal(store_commit(f->store), 0);
    fixture_restart(f, 0);
}

static void copy_file(const char *from, const char *directory, const char *name)
{
    char bytes[256 * 1024];
    const int fd = open(from, O_RDONLY);
    assert_true(fd >= 0);
    const ssize_t size = read(fd, bytes, sizeof bytes);
    close(fd);
    assert_true(size > 0 && (size_t)size < sizeof bytes);
    write_file(directory, name, bytes, (size_t)size);
}

/* tests/fixtures/schema-1: a service with two backups, as schema version 1 kept them. */
static void test_an_older_store_is_migrated_on_open(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error;
    struct reeve_check_summary summary;
    char path[160];
    snprintf(path, sizeof path, "%s/older", f->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    copy_file("tests/fixtures/schema-1/data.mdb", path, "data.mdb");
    assert_int_equal(reeve_check(path, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.schema_version, 1);
    assert_int_equal(summary.findings, 0); /* what later versions brought is not missed yet */
    assert_int_equal(open_error(path, &error), 0);
    assert_int_equal(reeve_check(path, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.schema_version, SCHEMA_VERSION);
    assert_true(summary.backups >= 2); /* the schedule may have started one more */
    assert_int_equal(summary.findings, 0);
}

static void empty_table(struct store *store, enum store_table table)
{
    struct store_item item;
    while (store_seek(store, table, &(struct store_key){0}, &item)) {
        struct store_key key = {.size = item.key_size};
        memcpy(key.bytes, item.key, item.key_size);
        store_delete(store, table, &key);
    }
}

/* Without any room for what is to be written, so that the map has to grow for it. */
static void compact(struct fixture *f)
{
    char path[96], from[112], to[96];
    struct reeve_error error;
    snprintf(path, sizeof path, "%s/compact", f->directory);
    snprintf(from, sizeof from, "%s/data.mdb", path);
    snprintf(to, sizeof to, "%s/data.mdb", f->directory);
    assert_int_equal(store_copy(f->store, path, &error), 0);
    assert_int_equal(rename(from, to), 0);
    snprintf(from, sizeof from, "%s/journal.0001", f->directory); /* of what was there before */
    assert_int_equal(unlink(from), 0);
    f->core.limits.map_initial_bytes = 4096;
}

static void test_what_schema_3_brought_is_made_from_the_records(void **state)
{
    struct fixture *f = *state;
    const struct store_key counts = key_text("state_counts");
    for (int i = 0; i < 50; i++)
        fixture_key(f, 0);
    fixture_running(f);
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    fixture_service(f);
    assert_int_equal(store_begin(f->store), 0);
    empty_table(f->store, TABLE_KEY_INDEX);
    store_delete(f->store, TABLE_META, &counts);
    put_version(f->store, 2);
    assert_int_equal(store_commit(f->store), 0);
    assert_int_equal(fixture_check(f), 0);
    compact(f);
    fixture_restart(f, 0);
    struct store_read read;
    assert_int_equal(store_read_begin(f->store, &read), 0);
    assert_int_equal(store_read_count(&read, TABLE_KEY_INDEX), 50);
    store_read_end(&read);
    assert_int_equal(f->core.durable.state_counts.services[REEVE_SERVICE_STATE_RUNNING], 1);
    assert_int_equal(f->core.durable.state_counts.services[REEVE_SERVICE_STATE_PROVISIONING], 1);
    assert_int_equal(f->core.durable.state_counts.backups[REEVE_BACKUP_STATE_IN_PROGRESS], 1);
}

static void test_counts_that_cannot_be_read_are_made_again(void **state)
{
    struct fixture *f = *state;
    const struct store_key counts = key_text("state_counts");
    fixture_running(f);
    assert_int_equal(store_begin(f->store), 0);
    store_put(f->store, TABLE_META, &counts, "of other states", 15);
    assert_int_equal(store_commit(f->store), 0);
    assert_int_equal(fixture_check(f), 1);
    fixture_restart(f, 0);
    assert_int_equal(f->core.durable.state_counts.services[REEVE_SERVICE_STATE_RUNNING], 1);
}

/* Put one wrong thing into the store, see that the check finds it, take it out again. */
static void damage(struct fixture *f, enum store_table table, const struct store_key *key, const void *value,
                   size_t size)
{
    struct reeve_str before;
    char kept[4096];
    assert_int_equal(store_begin(f->store), 0);
    const bool existed = store_get(f->store, table, key, &before);
    const size_t kept_size = existed ? before.size : 0;
    if (existed)
        memcpy(kept, before.data, kept_size);
    if (value)
        store_put(f->store, table, key, value, size);
    else
        store_delete(f->store, table, key);
    assert_int_equal(store_commit(f->store), 0);
    assert_true(fixture_check(f) > 0);
    assert_int_equal(store_begin(f->store), 0);
    if (existed)
        store_put(f->store, table, key, kept, kept_size);
    else
        store_delete(f->store, table, key);
    assert_int_equal(store_commit(f->store), 0);
    assert_int_equal(fixture_check(f), 0);
}

static void test_the_check_finds_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    const struct reeve_uuid busy = fixture_service(f), id = fixture_running(f);
    struct reeve_service service;
    fixture_command(f, REEVE_COMMAND_BACKUP_CREATE);
    const struct reeve_uuid backup_id = f->result.answer.backup.id;
    assert_int_equal(fixture_check(f), 0);

    assert_true(fixture_load_service(f, &busy, &service));
    struct store_key key = key_queue(&f->organization_id, service.operation.queued);
    damage(f, TABLE_QUEUE, &key, NULL, 0);
    damage(f, TABLE_QUEUE, &key, "too short", 9);
    key = key_queue(&f->organization_id, 1);
    const char nobody[32] = "nobody's operation";
    damage(f, TABLE_QUEUE, &key, nobody, sizeof nobody);

    assert_true(fixture_load_service(f, &id, &service));
    key = key_due(service_due_ms(&service), DUE_SERVICE, &f->organization_id, &id);
    damage(f, TABLE_DUE, &key, NULL, 0);
    key = key_due(5, DUE_SERVICE, &f->organization_id, &id);
    damage(f, TABLE_DUE, &key, "", 0);

    key = key_pair(&f->organization_id, &id);
    damage(f, TABLE_SERVICES, &key, "\x91\x01", 2); /* nothing in it */
    damage(f, TABLE_SERVICES, &key, "\x91\x02", 2); /* newer */
    damage(f, TABLE_SERVICES, &key, "rubbish", 7);
    damage(f, TABLE_SERVICES, &key, NULL, 0); /* the organization counts two */
    key = key_uuid(&backup_id);
    damage(f, TABLE_BACKUP_INDEX, &key, NULL, 0);
    const struct reeve_uuid key_id = fixture_key(f, 0);
    key = key_uuid(&key_id);
    damage(f, TABLE_KEY_INDEX, &key, NULL, 0);
    damage(f, TABLE_KEY_INDEX, &key, &id, sizeof id);
    key = key_uuid(&id);
    damage(f, TABLE_KEY_INDEX, &key, &f->organization_id, sizeof f->organization_id);
    key = key_pair(&id, &backup_id);
    damage(f, TABLE_BACKUPS, &key, NULL, 0);
    key = key_number(2);
    damage(f, TABLE_EVENTS, &key, NULL, 0);
    key = key_uuid(&f->organization_id);
    damage(f, TABLE_ORGANIZATIONS, &key, NULL, 0);
    key = key_text("state_counts");
    damage(f, TABLE_META, &key, NULL, 0);
    damage(f, TABLE_META, &key, "short", 5);
    const uint8_t nothing[(REEVE_SERVICE_STATE_COUNT + REEVE_BACKUP_STATE_COUNT) * 8] = {0};
    damage(f, TABLE_META, &key, nothing, sizeof nothing);
    key = key_text("schema_version");
    damage(f, TABLE_META, &key, "1", 1);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_sort_as_their_parts_do),
        STORY(test_a_full_map_refuses_and_keeps_what_was_acknowledged),
        STORY(test_a_full_disk_refuses_and_writing_goes_on_when_there_is_room),
        STORY(test_what_was_refused_does_not_come_back),
        STORY(test_what_cannot_be_cut_off_is_in_doubt),
        STORY(test_a_snapshot_opens_like_the_original),
        STORY(test_a_second_opener_is_refused),
        STORY(test_what_this_process_has_open_is_not_checked_by_its_directory),
        STORY(test_wrong_directories_and_files_are_told_apart),
        STORY(test_a_newer_schema_is_refused),
        STORY(test_an_older_store_is_migrated_on_open),
        STORY(test_what_schema_3_brought_is_made_from_the_records),
        STORY(test_counts_that_cannot_be_read_are_made_again),
        STORY(test_the_check_finds_what_is_wrong),
        STORY(test_the_map_grows_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
