#include "fixture.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "password.h"

#define START_MS UINT64_C(1700000000000)

static void on_start(void *arg, struct flight *flight)
{
    struct fixture *fixture = arg;
    assert(fixture->task_count < FIXTURE_TASKS_MAX);
    fixture->started++;
    fixture->tasks[fixture->task_count++] = (struct fixture_task){
        .operation_id = flight->task.operation_id,
        .service_id = flight->task.service_id,
        .organization_id = flight->task.organization_id,
        .backup_id = flight->task.backup_id,
        .kind = flight->task.kind,
        .attempt = flight->task.attempt,
        .desired = flight->task.desired,
    };
}

static void on_cancel(void *arg, struct flight *flight)
{
    struct fixture *fixture = arg;
    for (size_t i = 0; i < fixture->task_count; i++) {
        if (uuid_equal(&fixture->tasks[i].operation_id, &flight->task.operation_id) &&
            fixture->tasks[i].attempt == flight->task.attempt)
            fixture->tasks[i].cancelled = true;
    }
}

static void open_core(struct fixture *fixture)
{
    struct reeve_error error;
    const struct reeve_limits limits = fixture->core.limits;
    fixture->core = (struct core){.limits = limits};
    int r = store_open(&(struct store_options){.directory = fixture->directory,
                                               .map_initial_bytes = limits.map_initial_bytes,
                                               .map_max_bytes = limits.map_max_bytes,
                                               .journal_segment_bytes = limits.journal_segment_bytes,
                                               .journal_max_bytes = limits.journal_max_bytes,
                                               .table_max_bytes = limits.table_max_bytes,
                                               .single_threaded = true},
                       &fixture->store, &error);
    if (r < 0)
        fprintf(stderr, "%s\n", error.message);
    assert(r == 0);
    fixture->core.store = fixture->store;
    fixture->core.catalogue = fixture->catalogue;
    fixture->core.endpoint_domain = reeve_str("test");
    fixture->core.hooks = (struct core_hooks){.arg = fixture,
                                              .has_provisioner = true,
                                              .password_forms = fixture->password_forms,
                                              .start = on_start,
                                              .cancel = on_cancel};
    r = core_init(&fixture->core, fixture->now_ms, &error);
    assert(r == 0);
    (void)r;
}

void fixture_open_sized(struct fixture *fixture, uint64_t map_initial_bytes, uint64_t map_max_bytes)
{
    struct reeve_error error;
    memset(fixture, 0, sizeof *fixture);
    directory_make("/tmp", fixture->directory);
    fixture->now_ms = START_MS;
    fixture->password_forms = 1U << REEVE_PASSWORD_FORM_SHA_256;
    fixture->mono_ms = 1000000;
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)&fixture->core.limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    fixture->core.limits.journal_segment_bytes = 1 << 20; /* it is written as a whole for each store */
    fixture->core.limits.table_max_bytes = 2 << 20;       /* so that it gets full, and checkpoints are made */
    if (map_initial_bytes) {
        fixture->core.limits.map_initial_bytes = map_initial_bytes;
        fixture->core.limits.map_max_bytes = map_max_bytes;
        fixture->core.limits.journal_max_bytes = 4 << 20; /* what does not get into the map is refused soon */
        fixture->core.limits.table_max_bytes = 1 << 20;
    }
    const int r = catalogue_new(NULL, &fixture->catalogue, &error);
    assert(r == 0);
    (void)r;
    arena_init(&fixture->arena, 64 * 1024);
    open_core(fixture);
}

void fixture_open(struct fixture *fixture)
{
    fixture_open_sized(fixture, 0, 0);
}

void fixture_close(struct fixture *fixture)
{
    core_deinit(&fixture->core);
    store_close(fixture->store);
    catalogue_free(fixture->catalogue);
    arena_deinit(&fixture->arena);
    directory_remove(fixture->directory);
}

static void run_batch(struct fixture *fixture, struct reeve_request *request, struct report *report)
{
    uint8_t seed[CORE_SEED_SIZE] = {0};
    fixture->seed++;
    memset(seed, fixture->seed, sizeof seed);
    memcpy(seed, &fixture->started, sizeof fixture->started);
    arena_reset(&fixture->arena);
    int r = core_begin(&fixture->core, &fixture->arena, fixture->now_ms, fixture->mono_ms, seed);
    assert(r == 0);
    if (report)
        core_report(&fixture->core, report);
    if (request)
        fixture->result = *core_request(&fixture->core, request);
    core_due(&fixture->core);
    r = core_commit(&fixture->core);
    assert(r == 0);
    (void)r;
    core_dispatch(&fixture->core);
}

void fixture_restart(struct fixture *fixture, uint64_t down_ms)
{
    core_deinit(&fixture->core);
    store_abandon(fixture->store);
    fixture->task_count = 0;
    fixture->now_ms += down_ms;
    fixture->mono_ms += down_ms;
    open_core(fixture);
    run_batch(fixture, NULL, NULL);
}

int fixture_submit(struct fixture *fixture, struct reeve_request *request)
{
    password_prepare(request, fixture->password_forms);
    run_batch(fixture, request, NULL);
    return (int)fixture->result.error.code;
}

void fixture_advance(struct fixture *fixture, uint64_t ms)
{
    fixture->now_ms += ms;
    fixture->mono_ms += ms;
    run_batch(fixture, NULL, NULL);
}

struct fixture_task *fixture_task(struct fixture *fixture, const struct reeve_uuid *service_id)
{
    for (size_t i = fixture->task_count; i > 0; i--) {
        if (uuid_equal(&fixture->tasks[i - 1].service_id, service_id))
            return &fixture->tasks[i - 1];
    }
    return NULL;
}

void fixture_report(struct fixture *fixture, const struct fixture_task *task, const struct reeve_outcome *outcome)
{
    struct report report = {.operation_id = task->operation_id, .attempt = task->attempt, .outcome = *outcome};
    run_batch(fixture, NULL, &report);
}

void fixture_pause(struct fixture *fixture, const struct fixture_task *task, bool paused)
{
    struct report report = {
        .operation_id = task->operation_id, .attempt = task->attempt, .kind = paused ? REPORT_PAUSE : REPORT_RESUME};
    run_batch(fixture, NULL, &report);
}

void fixture_finish(struct fixture *fixture, struct fixture_task *task, enum reeve_outcome_status status)
{
    assert(task);
    const struct fixture_task finished = *task;
    const size_t index = (size_t)(task - fixture->tasks);
    memmove(task, task + 1, (fixture->task_count - index - 1) * sizeof *task);
    fixture->task_count--;
    fixture_report(fixture, &finished,
                   &(struct reeve_outcome){.status = status,
                                           .code = reeve_str("test"),
                                           .message = reeve_str("as the test wants it"),
                                           .size_bytes = 4711});
}

struct reeve_uuid fixture_organization(struct fixture *fixture, bool paid)
{
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create = (struct reeve_organization_create_params){.name = reeve_str("acme"),
                                                                                   .paid = paid};
    const int r = fixture_submit(fixture, &request);
    assert(r == 0);
    (void)r;
    fixture->organization_id = fixture->result.answer.organization.id;
    return fixture->organization_id;
}

struct reeve_uuid fixture_service(struct fixture *fixture)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_CREATE};
    if (reeve_uuid_is_nil(&fixture->organization_id))
        fixture_organization(fixture, false);
    request.params.service_create = (struct reeve_service_create_params){.organization_id = fixture->organization_id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1"),
                                                                         .tier = REEVE_TIER_PRODUCTION};
    const int r = fixture_submit(fixture, &request);
    assert(r == 0);
    (void)r;
    fixture->service_id = fixture->result.answer.service_created.service.id;
    return fixture->service_id;
}

struct reeve_uuid fixture_running(struct fixture *fixture)
{
    const struct reeve_uuid id = fixture_service(fixture);
    fixture_finish(fixture, fixture_task(fixture, &id), REEVE_OUTCOME_STATUS_DONE);
    return id;
}

struct reeve_uuid fixture_key(struct fixture *fixture, uint64_t expires_ms)
{
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_CREATE};
    if (reeve_uuid_is_nil(&fixture->organization_id))
        fixture_organization(fixture, false);
    request.params.key_create = (struct reeve_key_create_params){
        .organization_id = fixture->organization_id, .name = reeve_str("ci"), .expires_ms = expires_ms};
    const int r = fixture_submit(fixture, &request);
    assert(r == 0);
    (void)r;
    return fixture->result.answer.key_created.key_id;
}

int fixture_command(struct fixture *fixture, enum reeve_command command)
{
    struct reeve_request request = {.command = command};
    request.params.service = (struct reeve_service_params){.organization_id = fixture->organization_id,
                                                           .service_id = fixture->service_id};
    return fixture_submit(fixture, &request);
}

/* Reads decode into the fixture's arena: valid until the next batch. */
static bool load(struct fixture *fixture, enum store_table table, const struct store_key *key,
                 const struct record_type *type, void *ret_record)
{
    struct store_read read;
    struct reeve_str value;
    if (store_read_begin(fixture->store, &read) < 0)
        return false;
    bool found = store_read_get(&read, table, key, &value);
    if (found) {
        void *copy = arena_copy(&fixture->arena, value.data, value.size);
        found = codec_decode_stored(type, copy, value.size, &fixture->arena, ret_record) == 0;
    }
    store_read_end(&read);
    return found;
}

bool fixture_load_service(struct fixture *fixture, const struct reeve_uuid *service_id, struct reeve_service *ret)
{
    const struct store_key key = key_pair(&fixture->organization_id, service_id);
    return load(fixture, TABLE_SERVICES, &key, &record_type_service, ret);
}

bool fixture_load_backup(struct fixture *fixture, const struct reeve_uuid *backup_id, struct reeve_backup *ret)
{
    const struct store_key key = key_pair(&fixture->service_id, backup_id);
    return load(fixture, TABLE_BACKUPS, &key, &record_type_backup, ret);
}

bool fixture_load_event(struct fixture *fixture, uint64_t sequence, struct reeve_event *ret)
{
    const struct store_key key = key_number(sequence);
    return load(fixture, TABLE_EVENTS, &key, &record_type_event, ret);
}

static void print_finding(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "finding: %s\n", line);
}

uint64_t fixture_check(struct fixture *fixture)
{
    char path[96];
    struct reeve_error error;
    struct reeve_check_summary summary;
    snprintf(path, sizeof path, "%s/copy", fixture->directory);
    int r = store_copy(fixture->store, path, &error);
    assert(r == 0);
    if (r < 0)
        fprintf(stderr, "copy: %s\n", error.message);
    assert(r == 0);
    r = reeve_check(path, print_finding, NULL, &summary, &error);
    if (r < 0)
        fprintf(stderr, "check: %s\n", error.message);
    assert(r == 0);
    (void)r;
    directory_remove(path);
    return summary.findings;
}
