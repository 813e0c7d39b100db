/* Memory that runs out: each allocation there is fails once, and then each with all that follow. What is refused is
 * told as NO_MEMORY and has not happened; what was acknowledged is there; what failed once succeeds when it is asked
 * again. The program is linked so that what the engine allocates comes from here. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "journal_format.h"
#include "password.h"
#include "tests/lib/directory.h"

/* ---- An allocator that fails ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

/* Of this thread: the others of an engine have what they need. */
static _Thread_local struct {
    unsigned long at;    /* which one fails; 0: none */
    bool and_all_behind; /* and every one after it */
    unsigned long count, failed;
} memory;

static bool fails(void)
{
    memory.count++;
    if (memory.at == 0 || memory.count < memory.at || (memory.count > memory.at && !memory.and_all_behind))
        return false;
    memory.failed++;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    return fails() ? ENOMEM : __real_posix_memalign(ret_memory, alignment, size);
}

static void let_fail(unsigned long at, bool and_all_behind)
{
    memory.at = at;
    memory.and_all_behind = and_all_behind;
    memory.count = memory.failed = 0;
}

/* From here on there is enough. Whether there was not. */
static bool end_of_failing(void)
{
    memory.at = 0;
    return memory.failed > 0;
}

/* What runs in one thread has nothing new for the build that looks at threads, and takes long there. */
#ifdef __SANITIZE_THREAD__
#define STEP 11
#else
#define STEP 1
#endif

/* ---- A life in one thread ---- */

#define NOW_MS UINT64_C(1700000000000)
#define TASKS_MAX 16
#define KNOWN_MAX 32

struct known {
    enum store_table table;
    struct store_key key;
};

struct life {
    char directory[DIRECTORY_PATH_MAX];
    struct catalogue *catalogue;
    struct store *store;
    struct core core;
    struct arena arena;
    uint64_t mono_ms;
    uint8_t seed;
    bool is_open, gives_up; /* at the first thing that is refused */
    bool gave_up;
    struct reeve_result result;
    struct {
        struct reeve_uuid operation_id;
        uint64_t attempt;
    } tasks[TASKS_MAX];
    size_t task_count;
    struct known known[KNOWN_MAX]; /* acknowledged */
    size_t known_count;
    struct reeve_uuid organization_id, service_id;
};

static void on_start(void *arg, struct flight *flight)
{
    struct life *life = arg;
    assert_true(life->task_count < TASKS_MAX);
    life->tasks[life->task_count].operation_id = flight->task.operation_id;
    life->tasks[life->task_count++].attempt = flight->task.attempt;
}

static void on_cancel(void *arg, struct flight *flight)
{
    (void)arg, (void)flight;
}

static void close_life(struct life *life)
{
    core_deinit(&life->core);
    store_close(life->store);
    catalogue_free(life->catalogue);
    life->store = NULL;
    life->catalogue = NULL;
    life->is_open = false;
}

static int try_open(struct life *life)
{
    struct reeve_error error = {0};
    life->core = (struct core){.endpoint_domain = reeve_str("test"),
                               .hooks = {.arg = life,
                                         .has_provisioner = true,
                                         .password_forms = 1U << REEVE_PASSWORD_FORM_SHA_256,
                                         .start = on_start,
                                         .cancel = on_cancel}};
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)&life->core.limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    int r = catalogue_new(NULL, &life->catalogue, &error);
    if (r == 0)
        r = store_open(&(struct store_options){.directory = life->directory,
                                               .map_initial_bytes = 1 << 20,
                                               .journal_segment_bytes = JOURNAL_SEGMENT_BYTES_MIN,
                                               .journal_max_bytes = 1 << 20,
                                               .table_max_bytes = 1 << 20,
                                               .single_threaded = true},
                       &life->store, &error);
    life->core.store = life->store;
    life->core.catalogue = life->catalogue;
    if (r == 0)
        r = core_init(&life->core, NOW_MS, &error);
    life->is_open = true;
    if (r < 0) {
        close_life(life);
        if (r != -REEVE_ERROR_NO_MEMORY)
            fprintf(stderr, "%s\n", error.message);
        assert_int_equal(r, -REEVE_ERROR_NO_MEMORY);
        assert_int_equal(error.code, REEVE_ERROR_NO_MEMORY);
    }
    return r;
}

/* What may be refused once, or from now on always. */
static bool is_refused(struct life *life, int r)
{
    if (r == 0)
        return false;
    if (r != -REEVE_ERROR_NO_MEMORY)
        fprintf(stderr, "%s (allocation %lu)\n", reeve_error_text(r), memory.at);
    assert_int_equal(r, -REEVE_ERROR_NO_MEMORY);
    assert_true(memory.failed > 0);
    life->gave_up |= life->gives_up;
    return true;
}

/* Every allocation of the batch is one of its own. */
static int run_batch(struct life *life, struct reeve_request *request, struct report *report)
{
    const uint8_t seed[CORE_SEED_SIZE] = {++life->seed, 1};
    arena_deinit(&life->arena);
    arena_init(&life->arena, 1);
    life->mono_ms += 10;
    int r = core_begin(&life->core, &life->arena, NOW_MS + life->mono_ms, life->mono_ms, seed);
    if (r < 0)
        return r;
    if (report)
        core_report(&life->core, report);
    if (request) {
        password_prepare(request, life->core.hooks.password_forms);
        const struct reeve_result *result = core_request(&life->core, request);
        life->result = result ? *result : (struct reeve_result){.error.code = REEVE_ERROR_INTERNAL};
    }
    core_due(&life->core);
    r = core_commit(&life->core);
    if (r == 0)
        core_dispatch(&life->core);
    return r == 0 && request ? -(int)life->result.error.code : r;
}

static void know(struct life *life, enum store_table table, struct store_key key)
{
    assert_true(life->known_count < KNOWN_MAX);
    life->known[life->known_count++] = (struct known){table, key};
}

/* Until it is done; what is refused has not been, so that the same key does it once. */
static bool ask(struct life *life, struct reeve_request *request, const char *idempotency_key)
{
    request->meta.idempotency_key = reeve_str(idempotency_key);
    while (!life->gave_up && is_refused(life, run_batch(life, request, NULL)))
        ;
    if (!life->gave_up)
        assert_false(life->result.replayed);
    return !life->gave_up;
}

/* Done already: the same answer. */
static bool ask_again(struct life *life, struct reeve_request *request)
{
    while (!life->gave_up && is_refused(life, run_batch(life, request, NULL)))
        ;
    if (!life->gave_up)
        assert_true(life->result.replayed);
    return !life->gave_up;
}

/* Where memory was missing for a start it is tried again soon, without anybody asking. */
static void wait_for_task(struct life *life)
{
    uint64_t mono_ms, now_ms;
    for (int i = 0; i < 2 && !life->gave_up && life->task_count == 0; i++) {
        core_next_due(&life->core, &mono_ms, &now_ms);
        assert_in_range(mono_ms, life->mono_ms, life->mono_ms + 1000);
        assert_true(memory.failed > 0);
        is_refused(life, run_batch(life, NULL, NULL));
        life->gave_up |= life->gives_up;
    }
}

/* What has been started succeeds. */
static bool finish_task(struct life *life)
{
    wait_for_task(life);
    if (life->gave_up)
        return false;
    assert_int_equal(life->task_count, 1);
    struct report report = {.operation_id = life->tasks[0].operation_id,
                            .attempt = life->tasks[0].attempt,
                            .outcome = {.status = REEVE_OUTCOME_STATUS_DONE, .size_bytes = 5}};
    life->task_count = 0;
    while (!life->gave_up && is_refused(life, run_batch(life, NULL, &report)))
        ;
    return !life->gave_up;
}

static bool make_organization(struct life *life)
{
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create.name = reeve_str("acme");
    if (!ask(life, &request, "one"))
        return false;
    life->organization_id = life->result.answer.organization.id;
    know(life, TABLE_ORGANIZATIONS, key_uuid(&life->organization_id));
    return ask_again(life, &request);
}

static bool make_key(struct life *life)
{
    struct reeve_access_entry source = {.source = reeve_str("10.0.0.0/8")};
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_CREATE};
    request.params.key_create = (struct reeve_key_create_params){.organization_id = life->organization_id,
                                                                 .name = reeve_str("ci"),
                                                                 .ip_access_list = {&source, 1},
                                                                 .given = REEVE_GIVEN_KEY_CREATE_IP_ACCESS_LIST};
    if (!ask(life, &request, "two"))
        return false;
    const struct reeve_uuid id = life->result.answer.key_created.key_id;
    char secret[64];
    snprintf(secret, sizeof secret, "%.*s", (int)life->result.answer.key_created.key_secret.size,
             life->result.answer.key_created.key_secret.data);
    know(life, TABLE_KEYS, key_pair(&life->organization_id, &id));
    know(life, TABLE_KEY_INDEX, key_uuid(&id));
    if (!ask_again(life, &request))
        return false;
    assert_memory_equal(&life->result.answer.key_created.key_id, &id, sizeof id);
    assert_int_equal(life->result.answer.key_created.key_secret.size, strlen(secret));
    assert_memory_equal(life->result.answer.key_created.key_secret.data, secret, strlen(secret));
    return true;
}

static bool make_service(struct life *life)
{
    struct reeve_access_entry source = {.source = reeve_str("10.0.0.0/8"), .description = reeve_str("office")};
    struct reeve_tag tag = {.key = reeve_str("team"), .value = reeve_str("a")};
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_CREATE};
    request.params.service_create = (struct reeve_service_create_params){.organization_id = life->organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1"),
                                                                         .tier = REEVE_TIER_PRODUCTION,
                                                                         .ip_access_list = {&source, 1},
                                                                         .tags = {&tag, 1}};
    if (!ask(life, &request, "three"))
        return false;
    life->service_id = life->result.answer.service_created.service.id;
    know(life, TABLE_SERVICES, key_pair(&life->organization_id, &life->service_id));
    return ask_again(life, &request) && finish_task(life);
}

static bool command(struct life *life, enum reeve_command command, const char *idempotency_key)
{
    struct reeve_request request = {.command = command};
    request.params.service = (struct reeve_service_params){.organization_id = life->organization_id,
                                                           .service_id = life->service_id};
    return ask(life, &request, idempotency_key);
}

static bool update_service(struct life *life)
{
    struct reeve_access_entry more = {.source = reeve_str("192.0.2.0/24")};
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_UPDATE};
    request.params.service_update.organization_id = life->organization_id;
    request.params.service_update.service_id = life->service_id;
    request.params.service_update.ip_access_list.add = (struct reeve_access_entry_list){&more, 1};
    return ask(life, &request, "four") && finish_task(life);
}

static bool set_password(struct life *life)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_SET_PASSWORD};
    request.params.service_set_password.organization_id = life->organization_id;
    request.params.service_set_password.service_id = life->service_id;
    return ask(life, &request, "five") && ask_again(life, &request) && finish_task(life);
}

static bool begin_backup(struct life *life, const char *idempotency_key)
{
    if (!command(life, REEVE_COMMAND_BACKUP_CREATE, idempotency_key))
        return false;
    const struct reeve_uuid id = life->result.answer.backup.id;
    know(life, TABLE_BACKUPS, key_pair(&life->service_id, &id));
    know(life, TABLE_BACKUP_INDEX, key_uuid(&id));
    return true;
}

static bool make_backup(struct life *life)
{
    return begin_backup(life, "six") && finish_task(life);
}

static bool copy_and_check(struct life *life)
{
    char path[96];
    struct reeve_error error = {0};
    struct reeve_check_summary summary;
    snprintf(path, sizeof path, "%s/copy", life->directory);
    while (!life->gave_up && is_refused(life, store_copy(life->store, path, &error)))
        assert_int_equal(access(path, F_OK), -1);
    while (!life->gave_up && is_refused(life, reeve_check(path, NULL, NULL, &summary, &error)))
        ;
    if (!life->gave_up && memory.failed == 0)
        assert_int_equal(summary.findings, 0);
    return !life->gave_up;
}

static bool checkpoint(struct life *life)
{
    while (!life->gave_up && is_refused(life, store_checkpoint(life->store)))
        ;
    return !life->gave_up;
}

static bool open_life(struct life *life)
{
    while (!life->gave_up && is_refused(life, try_open(life)))
        ;
    return !life->gave_up;
}

/* As after a crash: what the journal has is read. */
static bool open_again(struct life *life)
{
    core_deinit(&life->core);
    store_abandon(life->store);
    catalogue_free(life->catalogue);
    life->store = NULL;
    life->catalogue = NULL;
    life->is_open = false;
    life->task_count = 0;
    if (!open_life(life))
        return false;
    while (!life->gave_up && is_refused(life, run_batch(life, NULL, NULL)))
        ;
    return !life->gave_up;
}

/* What is under way is given up for it. */
static bool stop_in_a_backup(struct life *life)
{
    return begin_backup(life, "seven") && command(life, REEVE_COMMAND_SERVICE_STOP, "eight") && open_again(life) &&
           finish_task(life);
}

static void live(struct life *life)
{
    static bool (*const steps[])(struct life *) = {open_life,      make_organization, make_key,     make_service,
                                                   update_service, checkpoint,        set_password, make_backup,
                                                   copy_and_check, stop_in_a_backup};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && steps[i](life); i++)
        ;
    if (life->is_open)
        close_life(life);
    arena_deinit(&life->arena);
}

/* Nothing that was acknowledged is lost, and nothing is half there. */
static void assert_kept(struct life *life)
{
    struct reeve_error error;
    struct reeve_check_summary summary;
    struct store_read read;
    struct reeve_str value;
    assert_int_equal(try_open(life), 0);
    assert_int_equal(store_read_begin(life->store, &read), 0);
    for (size_t i = 0; i < life->known_count; i++)
        assert_true(store_read_get(&read, life->known[i].table, &life->known[i].key, &value));
    store_read_end(&read);
    close_life(life);
    assert_int_equal(reeve_check(life->directory, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.findings, 0);
    if (!life->gave_up)
        assert_int_equal(summary.queued, 0);
}

/* Whether anything failed. */
static bool live_with(unsigned long at, bool and_all_behind)
{
    static struct life life;
    life = (struct life){.gives_up = and_all_behind, .mono_ms = 1000};
    directory_make("/dev/shm", life.directory);
    let_fail(at, and_all_behind);
    live(&life);
    const bool failed = end_of_failing();
    assert_true(and_all_behind || !life.gave_up);
    assert_kept(&life);
    directory_remove(life.directory);
    return failed;
}

static void test_one_allocation_that_fails_is_told_and_passes(void **state)
{
    (void)state;
    unsigned long at = 1;
    while (live_with(at, false))
        at += STEP;
    assert_true(at > 100);
    print_message("# %lu allocations failed one by one\n", at - 1);
}

static void test_memory_that_stays_out_loses_nothing(void **state)
{
    (void)state;
    for (unsigned long at = 1; live_with(at, true); at += STEP)
        ;
}

/* ---- The store alone: values that are larger than a block of its tables, batches that are larger than a frame ---- */

#define VALUE_BYTES (UINT64_C(300) << 10)
#define ROUNDS 5
#define KEYS 1100 /* that come and go: more than the list of those that have gone holds at first */

static int put_round(struct store *store, const char *value, uint64_t round)
{
    int r = store_begin(store);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < 4; i++) {
        const struct store_key key = key_number(round * 4 + i);
        store_put(store, TABLE_META, &key, value, VALUE_BYTES);
    }
    return store_commit(store);
}

static int put_and_delete(struct store *store, bool gone)
{
    int r = store_begin(store);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < KEYS; i++) {
        const struct store_key key = key_number(i);
        if (gone)
            store_delete(store, TABLE_DUE, &key);
        else
            store_insert(store, TABLE_DUE, &key, NULL, 0);
    }
    return store_commit(store);
}

static int open_large(const char *directory, struct store **ret_store)
{
    struct reeve_error error;
    return store_open(&(struct store_options){.directory = directory,
                                              .map_initial_bytes = 1 << 24,
                                              .journal_segment_bytes = UINT64_C(1) << 20,
                                              .journal_max_bytes = 1 << 25,
                                              .table_max_bytes = 1 << 22,
                                              .single_threaded = true},
                      ret_store, &error);
}

static void assert_large(struct store *store, const char *value)
{
    struct store_read read;
    struct reeve_str found;
    assert_int_equal(store_read_begin(store, &read), 0);
    for (uint64_t i = 0; i < 4 * ROUNDS; i++) {
        const struct store_key key = key_number(i);
        assert_true(store_read_get(&read, TABLE_META, &key, &found));
        assert_int_equal(found.size, VALUE_BYTES);
        assert_memory_equal(found.data, value, VALUE_BYTES);
    }
    assert_int_equal(store_read_count(&read, TABLE_DUE), 0);
    store_read_end(&read);
}

static void insist(int r)
{
    if (r < 0)
        assert_int_equal(r, -REEVE_ERROR_NO_MEMORY);
}

/* Each step is made again until it is done. */
static bool fill_large(unsigned long at)
{
    static char value[VALUE_BYTES];
    char directory[DIRECTORY_PATH_MAX];
    struct store *store;
    int r;
    memset(value, 'v', sizeof value);
    directory_make("/dev/shm", directory);
    let_fail(at, false);
    while ((r = open_large(directory, &store)) < 0)
        insist(r);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        while ((r = put_round(store, value, round)) < 0)
            insist(r);
        while (round < 2 && (r = put_and_delete(store, round == 1)) < 0)
            insist(r);
    }
    store_abandon(store);
    while ((r = open_large(directory, &store)) < 0)
        insist(r);
    const bool failed = end_of_failing();
    assert_large(store, value);
    store_close(store);
    assert_int_equal(open_large(directory, &store), 0);
    assert_large(store, value);
    store_close(store);
    directory_remove(directory);
    return failed;
}

static void test_large_batches_without_memory_are_made_again(void **state)
{
    (void)state;
    for (unsigned long at = 1; fill_large(at); at += STEP)
        ;
}

/* ---- The engine's side of the host's thread: what it calls may fail, what the engine's own thread does has memory
 * ---- */

struct host {
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    bool answered, closed;
    struct reeve_uuid organization_id, service_id;
    struct reeve_uuid key_id;
    char secret[64];
    unsigned items, events;
    struct reeve_watch watch;
};

static void start_task(void *arg, struct reeve_task *task)
{
    struct host *host = arg;
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE};
    int r;
    while ((r = reeve_operation_finish(host->engine, &task->operation_id, task->attempt, &done)) < 0)
        insist(r);
}

static void cancel_task(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

static int open_host(struct host *host)
{
    struct reeve_error error;
    const struct reeve_provisioner provisioner = {.version = REEVE_PROVISIONER_VERSION,
                                                  .name = "test",
                                                  .arg = host,
                                                  .loop = &host->loop,
                                                  .start = start_task,
                                                  .cancel = cancel_task};
    const struct reeve_options options = {.data_dir = host->directory,
                                          .provisioner = &provisioner,
                                          .limits = {.journal_segment_bytes = 1 << 18, .map_initial_bytes = 1 << 20}};
    const int r = reeve_open(&options, &host->engine, &error);
    if (r < 0)
        uv_run(&host->loop, UV_RUN_DEFAULT);
    return r;
}

static void on_answer(struct reeve_request *request, const struct reeve_result *result)
{
    struct host *host = request->data;
    assert_int_equal(result->error.code, 0);
    host->answered = true;
    if (request->command == REEVE_COMMAND_ORGANIZATION_CREATE)
        host->organization_id = result->answer.organization.id;
    if (request->command == REEVE_COMMAND_SERVICE_CREATE)
        host->service_id = result->answer.service_created.service.id;
    if (request->command == REEVE_COMMAND_KEY_CREATE) {
        host->key_id = result->answer.key_created.key_id;
        snprintf(host->secret, sizeof host->secret, "%.*s", (int)result->answer.key_created.key_secret.size,
                 result->answer.key_created.key_secret.data);
    }
}

static void submit(struct host *host, struct reeve_request *request)
{
    request->on_done = on_answer;
    request->data = host;
    host->answered = false;
    assert_int_equal(reeve_submit(host->client, request), 0);
    while (!host->answered)
        uv_run(&host->loop, UV_RUN_ONCE);
}

static void make_all(struct host *host)
{
    struct reeve_access_entry source = {.source = reeve_str("10.0.0.0/8")};
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create.name = reeve_str("acme");
    submit(host, &request);
    request = (struct reeve_request){.command = REEVE_COMMAND_KEY_CREATE};
    request.params.key_create = (struct reeve_key_create_params){.organization_id = host->organization_id,
                                                                 .name = reeve_str("ci"),
                                                                 .ip_access_list = {&source, 1},
                                                                 .given = REEVE_GIVEN_KEY_CREATE_IP_ACCESS_LIST};
    submit(host, &request);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_CREATE};
    request.params.service_create = (struct reeve_service_create_params){.organization_id = host->organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1"),
                                                                         .tier = REEVE_TIER_DEVELOPMENT,
                                                                         .ip_access_list = {&source, 1}};
    submit(host, &request);
}

static bool count_record(void *arg, const void *record)
{
    struct host *host = arg;
    assert_non_null(record);
    host->items++;
    return true;
}

/* Until it can be read; then as many records as there are. */
static void read_until(struct host *host, struct reeve_request *request, unsigned items)
{
    struct reeve_error error;
    int r;
    do {
        host->items = 0;
        r = reeve_read(host->engine, request, count_record, host, &error);
        insist(r);
    } while (r < 0);
    assert_int_equal(host->items, items);
}

static void read_all(struct host *host)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET};
    request.params.service = (struct reeve_service_params){.organization_id = host->organization_id,
                                                           .service_id = host->service_id};
    read_until(host, &request, 1);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_LIST};
    request.params.service_list.organization_id = host->organization_id;
    read_until(host, &request, 1);
    request = (struct reeve_request){.command = REEVE_COMMAND_KEY_LIST};
    request.params.key_list.organization_id = host->organization_id;
    read_until(host, &request, 1);
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_LIST};
    read_until(host, &request, 1);
}

static void authenticate(struct host *host)
{
    char id[37];
    struct reeve_identity identity;
    struct reeve_error error;
    int r;
    reeve_uuid_format(&host->key_id, id);
    do {
        r = reeve_authenticate(host->engine, reeve_str(id), reeve_str(host->secret), "10.1.2.3", &identity, &error);
        insist(r);
    } while (r < 0);
    assert_memory_equal(&identity.organization_id, &host->organization_id, sizeof identity.organization_id);
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct host *host = watch->data;
    host->events++;
    assert_int_equal(event->sequence, host->events); /* from the first on, without a gap */
}

static void watch_events(struct host *host)
{
    struct reeve_error error;
    int r;
    host->watch = (struct reeve_watch){.from_sequence = 1, .on_event = on_event, .data = host};
    while ((r = reeve_watch_start(host->client, &host->watch, &error)) < 0)
        assert_true(r == -REEVE_ERROR_NO_MEMORY || r == -REEVE_ERROR_UNAVAILABLE);
    while (host->events < 3)
        uv_run(&host->loop, UV_RUN_ONCE);
    reeve_watch_stop(&host->watch);
}

static void reload_and_copy(struct host *host)
{
    char path[96];
    struct reeve_error error;
    struct reeve_check_summary summary;
    int r;
    while ((r = reeve_reload(host->engine, &(struct reeve_options){0}, &error)) < 0)
        insist(r);
    snprintf(path, sizeof path, "%s/copy", host->directory);
    while ((r = reeve_snapshot(host->engine, path, &error)) < 0)
        insist(r);
    while ((r = reeve_check_engine(host->engine, NULL, NULL, &summary, &error)) < 0)
        insist(r);
    if (memory.failed == 0)
        assert_int_equal(summary.findings, 0);
}

static void on_client_closed(void *arg)
{
    ((struct host *)arg)->closed = true;
}

static bool be_host(unsigned long at)
{
    static struct host host;
    struct reeve_error error;
    struct reeve_check_summary summary;
    int r;
    host = (struct host){0};
    directory_make("/dev/shm", host.directory);
    assert_int_equal(uv_loop_init(&host.loop), 0);
    let_fail(at, false);
    while ((r = open_host(&host)) < 0)
        insist(r);
    while ((r = reeve_client_open(host.engine, &host.loop, &host.client)) < 0)
        insist(r);
    make_all(&host);
    authenticate(&host);
    read_all(&host);
    watch_events(&host);
    reload_and_copy(&host);
    reeve_client_close(host.client, on_client_closed, &host);
    while (!host.closed)
        uv_run(&host.loop, UV_RUN_ONCE);
    reeve_close(host.engine);
    uv_run(&host.loop, UV_RUN_DEFAULT);
    const bool failed = end_of_failing();
    assert_int_equal(uv_loop_close(&host.loop), 0);
    assert_int_equal(reeve_check(host.directory, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.findings, 0);
    assert_int_equal(summary.services, 1);
    directory_remove(host.directory);
    return failed;
}

static void test_what_a_host_calls_fails_and_passes(void **state)
{
    (void)state;
    unsigned long at = 1;
    while (be_host(at))
        at++;
    print_message("# %lu allocations of the host's thread failed one by one\n", at - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_allocation_that_fails_is_told_and_passes),
        cmocka_unit_test(test_memory_that_stays_out_loses_nothing),
        cmocka_unit_test(test_large_batches_without_memory_are_made_again),
        cmocka_unit_test(test_what_a_host_calls_fails_and_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
