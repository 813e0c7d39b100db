/* What the journal hands to the store when it is opened: one batch in a frame whose checksum is right, whatever its
 * bytes are. It is refused as damaged, by the store and by `reeve check`, or every change of it is there, above the
 * database and, after a checkpoint, in it. Then the core goes on with what it finds, rows and records of any kind, and
 * is asked to change it: it may refuse, and must not fall over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "fuzz.h"
#include "journal_format.h"
#include "keys.h"
#include "password.h"
#include "store_state.h"

#define STARTED_MAX 64
#define ASKED_MAX 16
#define NOW_MS UINT64_C(1800000000000)
#define YEAR_MS UINT64_C(31536000000)

/* An empty store that was closed: its database as bytes, and what its journal has to begin with. */
static struct {
    uint8_t *database;
    size_t size;
    struct journal_record record;
} empty;
static struct catalogue *catalogue;

static struct {
    struct reeve_uuid operation_id;
    uint64_t attempt;
} started[STARTED_MAX];
static size_t started_count;

static void on_start(void *arg, struct flight *flight)
{
    (void)arg;
    if (started_count == STARTED_MAX)
        return;
    started[started_count].operation_id = flight->task.operation_id;
    started[started_count++].attempt = flight->task.attempt;
}

static void on_cancel(void *arg, struct flight *flight)
{
    (void)arg, (void)flight;
}

static int open_store(struct store **ret_store, struct reeve_error *ret_error)
{
    return store_open(&(struct store_options){.directory = fuzz_directory(),
                                              .map_initial_bytes = 1 << 20,
                                              .journal_segment_bytes = JOURNAL_SEGMENT_BYTES_MIN,
                                              .journal_max_bytes = 1 << 20,
                                              .table_max_bytes = 1 << 16,
                                              .single_threaded = true},
                      ret_store, ret_error);
}

/* ---- What a payload says, read the naive way ---- */

struct payload {
    const uint8_t *at, *end;
};

struct change {
    unsigned table;
    bool gone;
    struct store_key key;
    const uint8_t *value;
    size_t size;
};

/* Where the next change begins; NULL: this is none. */
static const uint8_t *read_change(const uint8_t *at, const uint8_t *end, struct change *ret_change)
{
    const size_t left = (size_t)(end - at);
    if (left < 8 || at[0] >= TABLE_COUNT || at[1] > 1 || at[2] == 0 || at[2] > STORE_KEY_SIZE_MAX)
        return NULL;
    const uint64_t size = at[4] + at[5] * UINT64_C(256) + at[6] * UINT64_C(65536) + at[7] * UINT64_C(16777216);
    if (left - 8 < at[2] || left - 8 - at[2] < size)
        return NULL;
    *ret_change = (struct change){.table = at[0], .gone = at[1] != 0, .key = {.size = at[2]}, .size = (size_t)size};
    memcpy(ret_change->key.bytes, at + 8, at[2]);
    ret_change->value = at + 8 + at[2];
    return ret_change->value + size;
}

static bool is_whole(const uint8_t *at, const uint8_t *end)
{
    struct change change;
    while (at && at < end)
        at = read_change(at, end, &change);
    return at != NULL;
}

/* ---- Commands, to what the payload is about ---- */

static void to_organization(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->organization = (struct reeve_organization_params){.organization_id = id};
}

static void rename_organization(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->organization_update = (struct reeve_organization_update_params){
        .organization_id = id, .name = reeve_str("new"), .service_quota = 1};
}

static void new_key(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->key_create = (struct reeve_key_create_params){.organization_id = id, .name = reeve_str("new")};
}

static void new_service(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->service_create = (struct reeve_service_create_params){.organization_id = id,
                                                                  .name = reeve_str("new"),
                                                                  .provider = reeve_str("aws"),
                                                                  .region = reeve_str("us-east-1"),
                                                                  .tier = REEVE_TIER_PRODUCTION};
}

static void to_key(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->key = (struct reeve_key_params){.organization_id = organization_id, .key_id = id};
}

static void rename_key(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->key_update = (struct reeve_key_update_params){
        .organization_id = organization_id, .key_id = id, .name = reeve_str("new")};
}

static void to_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service = (struct reeve_service_params){.organization_id = organization_id, .service_id = id};
}

static void rename_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service_update = (struct reeve_service_update_params){
        .organization_id = organization_id, .service_id = id, .name = reeve_str("new")};
}

static void scale_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service_scale = (struct reeve_service_scale_params){
        .organization_id = organization_id, .service_id = id, .max_total_memory_gb = 48, .idle_timeout_minutes = 5};
}

static void lose_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service_health = (struct reeve_service_health_params){
        .organization_id = organization_id, .service_id = id, .code = reeve_str("lost")};
}

static void schedule_backups(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->backup_configuration_update = (struct reeve_backup_configuration_update_params){
        .organization_id = organization_id, .service_id = id, .period_hours = 24, .start_time = reeve_str("02:00")};
}

static const struct ask {
    enum reeve_command command;
    enum store_table table;
    size_t key_size; /* one id, or two */
    void (*about)(union reeve_params *params, struct reeve_uuid first, struct reeve_uuid second);
} asks[] = {
    {REEVE_COMMAND_ORGANIZATION_UPDATE, TABLE_ORGANIZATIONS, 16, rename_organization},
    {REEVE_COMMAND_ORGANIZATION_DELETE, TABLE_ORGANIZATIONS, 16, to_organization},
    {REEVE_COMMAND_KEY_CREATE, TABLE_ORGANIZATIONS, 16, new_key},
    {REEVE_COMMAND_KEY_UPDATE, TABLE_KEYS, 32, rename_key},
    {REEVE_COMMAND_KEY_REVOKE, TABLE_KEYS, 32, to_key},
    {REEVE_COMMAND_SERVICE_CREATE, TABLE_ORGANIZATIONS, 16, new_service},
    {REEVE_COMMAND_SERVICE_UPDATE, TABLE_SERVICES, 32, rename_service},
    {REEVE_COMMAND_SERVICE_SCALE, TABLE_SERVICES, 32, scale_service},
    {REEVE_COMMAND_SERVICE_START, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_STOP, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_AWAKE, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_DELETE, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_ACTIVITY, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_HEALTH_LOST, TABLE_SERVICES, 32, lose_service},
    {REEVE_COMMAND_BACKUP_CREATE, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_BACKUP_CONFIGURATION_UPDATE, TABLE_SERVICES, 32, schedule_backups},
};

static void ask_all(struct core *core, const struct ask *ask, struct payload payload, struct reeve_request *requests)
{
    struct change change;
    unsigned count = 0;
    while (payload.at < payload.end && count < ASKED_MAX) {
        payload.at = read_change(payload.at, payload.end, &change);
        if (change.table != ask->table || change.key.size != ask->key_size)
            continue;
        struct reeve_request *request = &requests[count++];
        *request = (struct reeve_request){.command = ask->command, .actor = reeve_str("fuzz")};
        ask->about(&request->params, uuid_at(change.key.bytes), uuid_at(change.key.bytes + ask->key_size - 16));
        password_prepare(request, 1U << REEVE_PASSWORD_FORM_SHA_256);
        core_request(core, request);
    }
}

/* Which commands, and in which order, is the payload's chance. */
static uint32_t chance_of(struct payload payload)
{
    uint32_t chance = 2166136261U;
    for (; payload.at < payload.end; payload.at++)
        chance = (chance ^ *payload.at) * 16777619U;
    return chance;
}

/* ---- The core on top of a store ---- */

static int open_core(struct core *core, struct store *store)
{
    struct reeve_error error;
    *core = (struct core){.store = store,
                          .catalogue = catalogue,
                          .endpoint_domain = reeve_str("test"),
                          .hooks = {.has_provisioner = true, .start = on_start, .cancel = on_cancel}};
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)&core->limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    started_count = 0;
    return core_init(core, NOW_MS, &error);
}

/* One batch: what was started before it has ended, what is asked for, and what is due by then. */
static void run_batch(struct core *core, uint64_t after_ms, const struct ask *ask, struct payload payload)
{
    const uint8_t seed[CORE_SEED_SIZE] = {(uint8_t)(after_ms >> 16), (uint8_t)after_ms};
    struct report reports[STARTED_MAX];
    struct reeve_request requests[ASKED_MAX];
    struct arena arena;
    arena_init(&arena, 16 * 1024);
    if (core_begin(core, &arena, NOW_MS + after_ms, 1000000 + after_ms, seed) == 0) {
        for (size_t i = 0; i < started_count; i++) {
            reports[i] = (struct report){
                .operation_id = started[i].operation_id,
                .attempt = started[i].attempt,
                .outcome = {.status = i % 2 ? REEVE_OUTCOME_STATUS_FAILED : REEVE_OUTCOME_STATUS_DONE}};
            core_report(core, &reports[i]);
        }
        started_count = 0;
        if (ask)
            ask_all(core, ask, payload, requests);
        core_due(core);
        if (core_commit(core) == 0)
            core_dispatch(core);
    }
    arena_deinit(&arena);
}

static void go_on(struct store *store, struct payload payload)
{
    struct core core;
    if (open_core(&core, store) == 0) {
        uint32_t chance = chance_of(payload);
        uint64_t at_ms = 0;
        for (; at_ms < 4000; at_ms += 1000)
            run_batch(&core, at_ms, NULL, payload);
        for (; at_ms < 10000; at_ms += 1000, chance = chance * 1664525U + 1013904223U)
            run_batch(&core, at_ms, &asks[(chance >> 16) % (sizeof asks / sizeof asks[0])], payload);
        run_batch(&core, YEAR_MS, NULL, payload);
    }
    core_deinit(&core);
}

/* ---- The store that all inputs begin with ---- */

static void make_empty(void)
{
    char path[128];
    struct store *store;
    struct core core;
    struct reeve_error error;
    struct database *database;
    struct database_read read;
    bool exists;
    fuzz_require(catalogue_new(NULL, &catalogue, &error) == 0, "no catalogue");
    fuzz_require(open_store(&store, &error) == 0 && open_core(&core, store) == 0, "no store");
    core_deinit(&core);
    store_close(store);
    const struct database_options options = {
        .directory = fuzz_directory(), .map_initial_bytes = 1 << 20, .read_only = true};
    fuzz_require(database_open(&options, &database, &error) == 0 && database_read_begin(database, &read) == 0 &&
                     journal_record_read(&read, &empty.record, &exists) == 0 && exists && empty.record.closed,
                 "an empty store cannot be read");
    database_read_end(&read);
    database_close(database);
    snprintf(path, sizeof path, "%s/data.mdb", fuzz_directory());
    empty.database = fuzz_read(path, &empty.size);
}

/* Its journal has one batch behind what the database has. */
static void write_store(const uint8_t *payload, size_t size)
{
    static uint8_t file[JOURNAL_SEGMENT_BYTES_MIN];
    struct segment_header header = {
        .magic = SEGMENT_MAGIC, .version = JOURNAL_VERSION, .bytes = sizeof file, .store_id = empty.record.store_id};
    struct frame_header frame = {.magic = FRAME_MAGIC,
                                 .size = (uint32_t)size,
                                 .chain = empty.record.position.chain,
                                 .sequence = empty.record.position.sequence + 1,
                                 .term = 1,
                                 .durable = empty.record.position.sequence,
                                 .flags = FRAME_LAST};
    char path[128];
    memset(file, 0, sizeof file);
    header.checksum = segment_checksum(&header);
    memcpy(file, &header, sizeof header);
    memcpy(&frame.store, &header.store_id, sizeof frame.store);
    memcpy(file + JOURNAL_BLOCK + sizeof frame, payload, size);
    frame.checksum = frame_checksum(&frame, payload);
    memcpy(file + JOURNAL_BLOCK, &frame, sizeof frame);
    fuzz_write("data.mdb", empty.database, empty.size);
    fuzz_write("journal.0001", file, sizeof file);
    for (unsigned number = 2; number < 10; number++) {
        snprintf(path, sizeof path, JOURNAL_NAME_FORMAT, fuzz_directory(), number);
        if (unlink(path) != 0)
            break;
    }
}

/* ---- What the store has of it ---- */

static bool comes_again(const struct change *change, const uint8_t *at, const uint8_t *end)
{
    struct change other;
    while (at < end) {
        at = read_change(at, end, &other);
        if (other.table == change->table && other.key.size == change->key.size &&
            memcmp(other.key.bytes, change->key.bytes, change->key.size) == 0)
            return true;
    }
    return false;
}

/* What a checkpoint writes itself: how far it has come. */
static bool is_journal_record(const struct change *change)
{
    return change->table == TABLE_META && change->key.size == 7 && memcmp(change->key.bytes, "journal", 7) == 0;
}

static void check_changes(struct store *store, const uint8_t *at, const uint8_t *end)
{
    struct store_read read;
    struct change change;
    struct reeve_str value;
    fuzz_require(store_read_begin(store, &read) == 0, "the store cannot be read");
    while (at < end) {
        at = read_change(at, end, &change);
        if (is_journal_record(&change) || comes_again(&change, at, end))
            continue;
        const bool found = store_read_get(&read, change.table, &change.key, &value);
        fuzz_require(read.error == 0, "a change cannot be read");
        fuzz_require(found == !change.gone, "a change was not made");
        fuzz_require(!found || (value.size == change.size && memcmp(value.data, change.value, value.size) == 0),
                     "a change has another value");
    }
    store_read_end(&read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store *store;
    struct reeve_error error;
    struct reeve_check_summary summary;
    if (size > JOURNAL_SEGMENT_BYTES_MIN / 4)
        return 0;
    if (!empty.database)
        make_empty();
    write_store(data, size);
    const int expected = is_whole(data, data + size) ? 0 : -REEVE_ERROR_STORE_DAMAGED;
    fuzz_require(reeve_check(fuzz_directory(), NULL, NULL, &summary, &error) == expected,
                 "it is checked as what it is not");
    fuzz_require(open_store(&store, &error) == expected, "it is opened as what it is not");
    if (expected < 0)
        return 0;
    check_changes(store, data, data + size);
    fuzz_require(store_checkpoint(store) == 0, "the checkpoint fails");
    check_changes(store, data, data + size);
    go_on(store, (struct payload){data, data + size});
    store_abandon(store);
    fuzz_require(open_store(&store, &error) == 0, "it cannot be opened again");
    store_close(store);
    return 0;
}
