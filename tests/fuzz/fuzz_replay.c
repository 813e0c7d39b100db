/* What the journal hands to the store when it is opened: one batch in a frame whose checksum is right, whatever its
 * bytes are. It is refused as damaged, by the store and by `reeve check`, or every change of it is there, above the
 * database and, after a checkpoint, in it. Then the core goes on with what it finds, rows and records of any kind, and
 * is asked to change it: it may refuse, and must not fall over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "asks.h"
#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "fuzz.h"
#include "journal_format.h"
#include "store_state.h"

#define STARTED_MAX 64
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
static void run_batch(struct core *core, uint64_t after_ms, const uint32_t *chance, struct payload payload)
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
        if (chance)
            ask(core, *chance, payload, requests);
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
        uint32_t chance = payload_chance(payload);
        uint64_t at_ms = 0;
        for (; at_ms < 4000; at_ms += 1000)
            run_batch(&core, at_ms, NULL, payload);
        for (; at_ms < 10000; at_ms += 1000, chance = chance * 1664525U + 1013904223U)
            run_batch(&core, at_ms, &chance, payload);
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

static bool is_whole(const uint8_t *at, const uint8_t *end)
{
    struct change change;
    while (at && at < end)
        at = payload_change(at, end, &change);
    return at != NULL;
}

static bool comes_again(const struct change *change, const uint8_t *at, const uint8_t *end)
{
    struct change other;
    while (at < end) {
        at = payload_change(at, end, &other);
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
        at = payload_change(at, end, &change);
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
    look(store, (struct payload){data, data + size});
    go_on(store, (struct payload){data, data + size});
    look(store, (struct payload){data, data + size});
    store_abandon(store);
    fuzz_require(open_store(&store, &error) == 0, "it cannot be opened again");
    store_close(store);
    return 0;
}
