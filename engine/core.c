#include "core.h"

#include <assert.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "flight.h"
#include "migrate.h"
#include "organization.h"
#include "state_counts.h"

void core_log(struct core *core, enum reeve_log_level level, const char *format, ...)
{
    if (!core->hooks.log)
        return;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    core->hooks.log(core->hooks.arg, level, line);
}

/* Bytes number so and so of those that follow from the batch's seed. */
static void expand(const struct core *core, uint32_t number, void *bytes, size_t size)
{
    uint8_t seed[CORE_SEED_SIZE];
    memcpy(seed, core->seed, sizeof seed);
    for (size_t i = 0; i < sizeof number; i++)
        seed[i] ^= ((uint8_t *)&number)[i];
    randombytes_buf_deterministic(bytes, size, seed);
    sodium_memzero(seed, sizeof seed);
}

void core_random(struct core *core, void *bytes, size_t size)
{
    assert(size <= sizeof core->random);
    if (core->random_left < size) {
        expand(core, ++core->random_used, core->random, sizeof core->random);
        core->random_left = sizeof core->random;
    }
    core->random_left -= size;
    memcpy(bytes, core->random + core->random_left, size);
    sodium_memzero(core->random + core->random_left, size); /* it may be a password by now */
}

/* In the order they are made, also within a millisecond: what is newest is listed by its id. (RFC 9562, 6.2, a counter
 * in the first random bits; where it is used up, the time is a little ahead.) */
struct reeve_uuid core_new_id(struct core *core)
{
    struct core_counters *next = &core->next;
    uint8_t random[10];
    core_random(core, random, sizeof random);
    if (core->now_ms > next->id_ms) {
        next->id_ms = core->now_ms;
        next->id_count = 0;
    } else if (++next->id_count == UUID_V7_COUNTS) {
        next->id_ms++;
        next->id_count = 0;
    }
    random[0] = (uint8_t)(next->id_count >> 8);
    random[1] = (uint8_t)next->id_count;
    return uuid_v7(next->id_ms, random);
}

void core_fault(struct core *core, int code)
{
    assert(code < 0);
    if (core->fault == 0)
        core->fault = code;
}

void *core_alloc(struct core *core, size_t size)
{
    void *memory = arena_zalloc(core->arena, size);
    if (!memory)
        core_fault(core, -REEVE_ERROR_NO_MEMORY);
    return memory;
}

struct reeve_str core_copy(struct core *core, struct reeve_str text)
{
    char *data = text.size ? arena_copy(core->arena, text.data, text.size) : NULL;
    if (text.size && !data)
        core_fault(core, -REEVE_ERROR_NO_MEMORY);
    return (struct reeve_str){data, data ? text.size : 0};
}

void core_damaged(struct core *core, const char *what, const char *problem)
{
    core_log(core, REEVE_LOG_ERROR, "a stored %s cannot be read: %s; `reeve check` tells more", what, problem);
    core_fault(core, -REEVE_ERROR_STORE_DAMAGED);
}

bool core_load(struct core *core, enum store_table table, const struct store_key *key, const struct record_type *type,
               void *ret_record)
{
    struct reeve_str value;
    if (!store_get(core->store, table, key, &value)) {
        const int error = store_batch_error(core->store);
        if (error < 0)
            core_fault(core, error);
        return false;
    }
    /* Answers are looked at when the batch has long ended. */
    value = core_copy(core, value);
    const int r = codec_decode_stored(type, value.data, value.size, core->arena, ret_record);
    if (r < 0) {
        core_log(core, REEVE_LOG_ERROR, "a stored %s cannot be read: %s; `reeve check` tells more", type->name,
                 reeve_error_text(r));
        core_fault(core, r);
    }
    return r == 0;
}

static bool encode(struct core *core, const struct record_type *type, const void *record)
{
    buffer_reset(&core->scratch);
    codec_encode_stored(type, record, &core->scratch);
    if (core->scratch.failed)
        core_fault(core, -REEVE_ERROR_NO_MEMORY);
    return !core->scratch.failed;
}

struct reeve_str core_save(struct core *core, enum store_table table, const struct store_key *key,
                           const struct record_type *type, const void *record)
{
    if (!encode(core, type, record))
        return (struct reeve_str){0};
    store_put(core->store, table, key, core->scratch.data, core->scratch.size);
    return (struct reeve_str){core->scratch.data, core->scratch.size};
}

struct reeve_str core_insert(struct core *core, enum store_table table, const struct store_key *key,
                             const struct record_type *type, const void *record)
{
    if (!encode(core, type, record))
        return (struct reeve_str){0};
    store_insert(core->store, table, key, core->scratch.data, core->scratch.size);
    return (struct reeve_str){core->scratch.data, core->scratch.size};
}

struct action *core_action(struct core *core, int kind)
{
    struct action *action = core_alloc(core, sizeof *action);
    if (!action)
        return NULL;
    action->kind = (unsigned)kind;
    if (core->actions_last)
        core->actions_last->next = action;
    else
        core->actions_first = action;
    core->actions_last = action;
    return action;
}

struct offer *core_offer(struct core *core)
{
    struct offer *offer = core_alloc(core, sizeof *offer);
    if (!offer)
        return NULL;
    if (core->offers_last)
        core->offers_last->next = offer;
    else
        core->offers_first = offer;
    core->offers_last = offer;
    return offer;
}

void core_move_due(struct core *core, uint64_t before_ms, uint64_t after_ms, enum due_kind kind,
                   const struct reeve_uuid *first, const struct reeve_uuid *second)
{
    if (before_ms == after_ms)
        return;
    schedule_note_move(core, before_ms, after_ms);
    struct store_key key = key_due(before_ms, kind, first, second);
    if (before_ms)
        store_delete(core->store, TABLE_DUE, &key);
    put_be64(key.bytes, after_ms);
    if (after_ms)
        store_insert(core->store, TABLE_DUE, &key, NULL, 0);
}

void core_drop_due(struct core *core, const char *what, uint64_t due_ms, enum due_kind kind,
                   const struct reeve_uuid *first, const struct reeve_uuid *second)
{
    if (core->fault < 0)
        return;
    core_log(core, REEVE_LOG_ERROR, "a timer without its %s was dropped; `reeve check` tells more", what);
    core_move_due(core, due_ms, 0, kind, first, second);
}

/* ---- Opening ---- */

static void note_number(struct core *core, const char *name, uint64_t number)
{
    uint8_t bytes[8];
    const struct store_key key = key_text(name);
    put_be64(bytes, number);
    store_put(core->store, TABLE_META, &key, bytes, sizeof bytes);
}

static int make_schema(struct core *core, uint64_t now_ms)
{
    note_number(core, "schema_version", SCHEMA_VERSION);
    note_number(core, "created_ms", now_ms);
    return 0;
}

static int check_schema(struct core *core, uint64_t now_ms, struct reeve_error *ret_error)
{
    const struct store_key key = key_text("schema_version");
    struct reeve_str value;
    if (!store_get(core->store, TABLE_META, &key, &value))
        return make_schema(core, now_ms);
    const uint64_t version = value.size == 8 ? get_be64((const uint8_t *)value.data) : 0;
    if (version == 0)
        return error_set(ret_error, REEVE_ERROR_STORE_DAMAGED, NULL, "the schema version of the store is damaged");
    if (version > SCHEMA_VERSION)
        return error_set(ret_error, REEVE_ERROR_STORE_VERSION, NULL,
                         "the store has schema version %llu, this is reeve %s which knows up to %d: use a newer reeve",
                         (unsigned long long)version, REEVE_VERSION, SCHEMA_VERSION);
    if (version == SCHEMA_VERSION)
        return 0;
    const int r = migrate(core, version);
    if (r < 0)
        return error_set(ret_error, (enum reeve_error_code) - r, NULL,
                         "the store could not be brought from schema version %llu to %d: %s",
                         (unsigned long long)version, SCHEMA_VERSION, reeve_error_text(r));
    note_number(core, "schema_version", SCHEMA_VERSION);
    return 0;
}

/* No store comes as far: it would not go on from there. */
#define NUMBER_MAX (UINT64_MAX / 2)

static bool restore_sequence(struct core *core)
{
    struct store_item item;
    if (!store_last(core->store, TABLE_EVENTS, &item))
        return true;
    if (item.key_size != 8 || get_be64(item.key) > NUMBER_MAX)
        return false;
    core->next.sequence = get_be64(item.key);
    if (store_seek(core->store, TABLE_EVENTS, &(struct store_key){0}, &item) && item.key_size == 8)
        core->next.event_count = core->next.sequence - get_be64(item.key) + 1;
    return item.key_size == 8;
}

/* The newest place in the queue: the last row of each organization that has any. */
static bool restore_queue_number(struct core *core)
{
    struct store_key from = {0};
    struct store_item item;
    while (store_seek(core->store, TABLE_QUEUE, &from, &item)) {
        if (item.key_size != 24 || get_be64(item.key + 16) > NUMBER_MAX)
            return false;
        const struct reeve_uuid organization_id = uuid_at(item.key);
        const uint64_t number = get_be64(item.key + 16);
        core->flights.backlog = true;
        core->next.queue_number = number > core->next.queue_number ? number : core->next.queue_number;
        from = key_queue(&organization_id, number + 1);
    }
    return true;
}

/* The numbers that go on from what is stored. */
static int restore_counters(struct core *core, uint64_t now_ms, struct reeve_error *ret_error)
{
    core->opened_ms = now_ms;
    if (!restore_sequence(core) || !restore_queue_number(core))
        return error_set(ret_error, REEVE_ERROR_STORE_DAMAGED, NULL,
                         "an event or a place in the queue has a key that is none; `reeve check` tells more");
    return 0;
}

static int load_state_counts(struct core *core, struct reeve_error *ret_error)
{
    const int r = state_counts_load(core);
    if (r == 0)
        return 0;
    return error_set(ret_error, (enum reeve_error_code) - r, NULL,
                     "services and backups could not be counted: %s; `reeve check` tells more", reeve_error_text(r));
}

int core_init(struct core *core, uint64_t now_ms, struct reeve_error *ret_error)
{
    if (sodium_init() < 0)
        return error_set(ret_error, REEVE_ERROR_INTERNAL, NULL, "the random source of the system does not work");
    int r = store_begin(core->store);
    if (r < 0)
        return error_set(ret_error, (enum reeve_error_code) - r, NULL, "%s", store_failure(core->store));
    core->next = (struct core_counters){0};
    schedule_forget(core);
    r = check_schema(core, now_ms, ret_error);
    if (r == 0)
        r = load_state_counts(core, ret_error);
    if (r == 0)
        r = restore_counters(core, now_ms, ret_error);
    if (r < 0) {
        store_abort(core->store);
        return r;
    }
    crash_point(CRASH_OPENING);
    r = store_commit(core->store);
    if (r < 0)
        return error_set(ret_error, (enum reeve_error_code) - r, NULL, "%s", store_failure(core->store));
    core->sealed = core->durable = core->next;
    core->stats.last_sequence = core->durable.sequence;
    return 0;
}

void core_deinit(struct core *core)
{
    flights_deinit(core);
    buffer_deinit(&core->scratch);
    map_deinit(&core->organizations);
}

/* ---- Batches ---- */

int core_begin(struct core *core, struct arena *arena, uint64_t now_ms, uint64_t mono_ms,
               const uint8_t seed[CORE_SEED_SIZE])
{
    core->arena = arena;
    core->now_ms = now_ms;
    core->mono_ms = mono_ms;
    memcpy(core->seed, seed, CORE_SEED_SIZE);
    core->random_used = 0;
    core->random_left = 0;
    core->next = core->sealed;
    core->state_counts_changed = false;
    core->keys_changed = false;
    core->actions_first = core->actions_last = NULL;
    core->offers_first = core->offers_last = NULL;
    map_clear(&core->organizations);
    core->fault = 0;
    core->delta = (struct reeve_stats){0};
    return store_begin(core->store);
}

void core_probe(struct core *core)
{
    note_number(core, "recovered_ms", core->now_ms);
}

static void add_counters(struct core *core, const struct reeve_stats *delta)
{
#define SUM_COUNTER(c_name) core->stats.c_name += delta->c_name;
#define SUM_GAUGE(c_name)
#define COUNTER(c_name, name, kind, text) SUM_##kind(c_name)
#define COUNTER_BY(c_name, name, enum, text)                                                                           \
    for (unsigned i = 0; i < REEVE_##enum##_COUNT; i++)                                                                \
        core->stats.c_name[i] += delta->c_name[i];
#include "counters.def"
    core->stats.last_sequence = core->durable.sequence;
    core->stats.operations_inflight = core->flights.count;
}

/* Old events make room for new ones, two for one until the log is as short as it should be. Their numbers have no gaps.
 */
static void trim_events(struct core *core)
{
    uint64_t room = 2 * (core->next.sequence - core->sealed.sequence) + 8;
    while (core->next.event_count > core->limits.events_max && room-- > 0) {
        const struct store_key first = key_number(core->next.sequence - core->next.event_count + 1);
        store_delete(core->store, TABLE_EVENTS, &first);
        core->next.event_count--;
    }
}

int core_seal(struct core *core, bool wait, struct core_batch *ret_batch)
{
    organizations_flush(core);
    trim_events(core);
    state_counts_save(core);
    schedule_note_next(core);
    int r = core->fault;
    if (r < 0 && store_batch_error(core->store) == 0)
        store_abort(core->store);
    else
        r = store_seal(core->store, wait, &ret_batch->number);
    if (r < 0) {
        schedule_forget(core);
        return r;
    }
    core->sealed = core->next;
    ret_batch->counters = core->sealed;
    ret_batch->delta = core->delta;
    ret_batch->actions = core->actions_first;
    ret_batch->offers = core->offers_first;
    ret_batch->keys_changed = core->keys_changed;
    return 0;
}

void core_settle(struct core *core, const struct core_batch *batch)
{
    core->durable = batch->counters;
    add_counters(core, &batch->delta);
}

void core_roll_back(struct core *core)
{
    core->sealed = core->durable;
    schedule_forget(core);
    flights_roll_back(core);
}

int core_commit(struct core *core)
{
    uint64_t durable;
    core->committed = (struct core_batch){0};
    int r = core_seal(core, true, &core->committed);
    if (r == 0) {
        store_wait(core->store);
        r = store_settle(core->store, &durable);
    }
    if (r < 0)
        core_roll_back(core);
    else
        core_settle(core, &core->committed);
    return r;
}

void core_dispatch(struct core *core)
{
    core_dispatch_batch(core, &core->committed, core->committed.number);
    core->committed = (struct core_batch){0};
}

/* ---- Events ---- */

void event_append(struct core *core, struct reeve_event *event)
{
    event->sequence = ++core->next.sequence;
    event->at_ms = core->now_ms;
    core->next.event_count++;
    core->delta.events++;
    core->delta.transitions_by_type[event->type]++;
    const struct store_key key = key_number(event->sequence);
    if (encode(core, &record_type_event, event))
        store_append(core->store, TABLE_EVENTS, &key, core->scratch.data, core->scratch.size);
}
