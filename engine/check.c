/* Verifies a store from one snapshot: every record decodes and keeps its own rules, every row of an index has its
 * record and every record its rows, and what is counted adds up. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backup.h"
#include "engine.h"
#include "service.h"
#include "state_counts.h"

struct checker {
    struct store_read read;
    struct arena arena;
    void (*on_finding)(void *arg, const char *line);
    void *arg;
    struct reeve_check_summary *summary;
    uint64_t previous_sequence;
    struct reeve_state_counts counts;
};

__attribute__((format(printf, 2, 3))) static void finding(struct checker *checker, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    checker->summary->findings++;
    if (checker->on_finding)
        checker->on_finding(checker->arg, line);
}

/* "services 0190…/0190…": table and key of an item. */
static const char *place(const char *table, const struct store_item *item, char text[160])
{
    size_t used = (size_t)snprintf(text, 160, "%s ", table);
    for (size_t i = 0; i < item->key_size && used + 3 < 160; i++)
        used += (size_t)snprintf(text + used, 160 - used, "%02x%s", item->key[i],
                                 (i + 1) % 16 == 0 && i + 1 < item->key_size ? "/" : "");
    return text;
}

static bool decode(struct checker *checker, const char *table, const struct store_item *item, size_t key_size,
                   const struct record_type *type, void *ret_record)
{
    char text[160];
    if (item->key_size != key_size) {
        finding(checker, "%s: the key has %zu bytes instead of %zu", place(table, item, text), item->key_size,
                key_size);
        return false;
    }
    const int r = codec_decode_stored(type, item->value, item->value_size, &checker->arena, ret_record);
    if (r < 0)
        finding(checker, "%s: %s", place(table, item, text), reeve_error_text(r));
    return r == 0;
}

/* Is the store new enough for what this schema version brought? An older one is migrated when it is opened. */
static bool since(const struct checker *checker, uint64_t schema_version)
{
    return checker->summary->schema_version >= schema_version;
}

static bool exists(struct checker *checker, enum store_table table, const struct store_key *key)
{
    struct reeve_str value;
    return store_read_get(&checker->read, table, key, &value);
}

static void check_due(struct checker *checker, const char *where, uint64_t due_ms, enum due_kind kind,
                      const struct reeve_uuid *first, const struct reeve_uuid *second)
{
    const struct store_key key = key_due(due_ms, kind, first, second);
    if (due_ms && !exists(checker, TABLE_DUE, &key))
        finding(checker, "%s: its timer is missing", where);
}

static void check_queued(struct checker *checker, const char *where, const struct reeve_uuid *organization_id,
                         const struct reeve_operation *operation)
{
    const struct store_key key = key_queue(organization_id, operation->queued);
    struct reeve_str value;
    if (!operation->queued)
        return;
    if (!store_read_get(&checker->read, TABLE_QUEUE, &key, &value))
        finding(checker, "%s: its operation is not in the queue", where);
    else if (value.size < 32 || memcmp(value.data, &operation->id, 16) != 0)
        finding(checker, "%s: its place in the queue belongs to another operation", where);
}

/* An index leads from an id to the one that its record is listed under. */
static void check_indexed(struct checker *checker, const char *where, enum store_table index,
                          const struct reeve_uuid *id, const struct reeve_uuid *owner)
{
    const struct store_key key = key_uuid(id);
    struct reeve_str value;
    if (!store_read_get(&checker->read, index, &key, &value) || value.size != 16 || memcmp(value.data, owner, 16) != 0)
        finding(checker, "%s: its entry in the index is missing or wrong", where);
}

/* ---- One visitor for each table ---- */

struct counter {
    struct checker *checker;
    struct store_key prefix;
    uint64_t count;
};

static bool count_item(void *arg, const struct store_item *item)
{
    struct counter *counter = arg;
    if (item->key_size < counter->prefix.size || memcmp(item->key, counter->prefix.bytes, counter->prefix.size) != 0)
        return false;
    counter->count++;
    return true;
}

static uint64_t count_prefix(struct checker *checker, enum store_table table, const struct reeve_uuid *id)
{
    struct counter counter = {.checker = checker, .prefix = key_uuid(id)};
    store_read_each(&checker->read, table, &counter.prefix, false, count_item, &counter);
    return counter.count;
}

static bool check_organization(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_organization organization;
    char text[160];
    checker->summary->organizations++;
    arena_reset(&checker->arena);
    if (!decode(checker, "organizations", item, 16, &record_type_organization, &organization))
        return true;
    const struct reeve_uuid id = uuid_at(item->key);
    const uint64_t services = count_prefix(checker, TABLE_SERVICES, &id), keys = count_prefix(checker, TABLE_KEYS, &id);
    if (services != organization.service_count)
        finding(checker, "%s: counts %llu services, has %llu", place("organizations", item, text),
                (unsigned long long)organization.service_count, (unsigned long long)services);
    if (keys != organization.key_count)
        finding(checker, "%s: counts %llu keys, has %llu", place("organizations", item, text),
                (unsigned long long)organization.key_count, (unsigned long long)keys);
    return true;
}

static bool check_key(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_key record;
    char text[160];
    checker->summary->keys++;
    arena_reset(&checker->arena);
    if (!decode(checker, "keys", item, 32, &record_type_key, &record))
        return true;
    const struct reeve_uuid organization_id = uuid_at(item->key), key_id = uuid_at(item->key + 16);
    const struct store_key owner = key_uuid(&organization_id);
    place("keys", item, text);
    if (!exists(checker, TABLE_ORGANIZATIONS, &owner))
        finding(checker, "%s: its organization is missing", text);
    if (record.secret_sha256.size != 32)
        finding(checker, "%s: its hash does not have 32 bytes", text);
    check_due(checker, text, record.expires_ms, DUE_KEY, &organization_id, &key_id);
    if (since(checker, 3))
        check_indexed(checker, text, TABLE_KEY_INDEX, &key_id, &organization_id);
    return true;
}

static bool check_service(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_service service;
    char text[160];
    checker->summary->services++;
    arena_reset(&checker->arena);
    if (!decode(checker, "services", item, 32, &record_type_service, &service))
        return true;
    const struct reeve_uuid organization_id = uuid_at(item->key), service_id = uuid_at(item->key + 16);
    const struct store_key owner = key_uuid(&organization_id);
    place("services", item, text);
    checker->counts.services[service.state < REEVE_SERVICE_STATE_COUNT ? service.state : 0]++;
    const char *problem = service_check(&service);
    if (problem)
        finding(checker, "%s: %s", text, problem);
    if (!exists(checker, TABLE_ORGANIZATIONS, &owner))
        finding(checker, "%s: its organization is missing", text);
    check_due(checker, text, service_due_ms(&service), DUE_SERVICE, &organization_id, &service_id);
    check_queued(checker, text, &organization_id, &service.operation);
    const struct store_key current = key_pair(&service_id, &service.current_backup);
    if (!reeve_uuid_is_nil(&service.current_backup) && !exists(checker, TABLE_BACKUPS, &current))
        finding(checker, "%s: its backup in progress is missing", text);
    const uint64_t backups = count_prefix(checker, TABLE_BACKUPS, &service_id);
    if (backups != service.backup_count)
        finding(checker, "%s: counts %llu backups, has %llu", text, (unsigned long long)service.backup_count,
                (unsigned long long)backups);
    return true;
}

static bool check_backup(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_backup backup;
    char text[160];
    checker->summary->backups++;
    arena_reset(&checker->arena);
    if (!decode(checker, "backups", item, 32, &record_type_backup, &backup))
        return true;
    const struct reeve_uuid service_id = uuid_at(item->key), backup_id = uuid_at(item->key + 16);
    place("backups", item, text);
    checker->counts.backups[backup.state < REEVE_BACKUP_STATE_COUNT ? backup.state : 0]++;
    const char *problem = backup_check(&backup);
    if (problem)
        finding(checker, "%s: %s", text, problem);
    check_due(checker, text, backup_due_ms(&backup), DUE_BACKUP, &service_id, &backup_id);
    check_queued(checker, text, &backup.organization_id, &backup.operation);
    if (since(checker, 2))
        check_indexed(checker, text, TABLE_BACKUP_INDEX, &backup_id, &service_id);
    return true;
}

/* Whether a row of an index has its record. */
static bool is_indexed(struct checker *checker, const struct store_item *item, enum store_table table)
{
    if (item->key_size != 16 || item->value_size != 16)
        return false;
    const struct reeve_uuid first = uuid_at(item->value), second = uuid_at(item->key);
    const struct store_key key = key_pair(&first, &second);
    return exists(checker, table, &key);
}

static bool check_backup_index(void *arg, const struct store_item *item)
{
    char text[160];
    if (!is_indexed(arg, item, TABLE_BACKUPS))
        finding(arg, "%s: there is no such backup", place("backup_index", item, text));
    return true;
}

static bool check_key_index(void *arg, const struct store_item *item)
{
    char text[160];
    if (!is_indexed(arg, item, TABLE_KEYS))
        finding(arg, "%s: there is no such key", place("key_index", item, text));
    return true;
}

static bool check_event(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_event event;
    char text[160];
    checker->summary->events++;
    arena_reset(&checker->arena);
    if (!decode(checker, "events", item, 8, &record_type_event, &event))
        return true;
    const uint64_t sequence = get_be64(item->key);
    if (checker->previous_sequence && sequence != checker->previous_sequence + 1)
        finding(checker, "%s: events before it are missing, the last is %llu", place("events", item, text),
                (unsigned long long)checker->previous_sequence);
    checker->previous_sequence = sequence;
    return true;
}

static bool check_queue(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_service service;
    struct reeve_backup backup;
    struct reeve_str value;
    char text[160];
    checker->summary->queued++;
    arena_reset(&checker->arena);
    place("queue", item, text);
    if (item->key_size != 24 || (item->value_size != 32 && item->value_size != 48)) {
        finding(checker, "%s: malformed", text);
        return true;
    }
    const uint8_t *bytes = item->value;
    const struct reeve_uuid organization_id = uuid_at(item->key), service_id = uuid_at(bytes + 16);
    const struct reeve_operation *operation = NULL;
    if (item->value_size == 32) {
        const struct store_key key = key_pair(&organization_id, &service_id);
        if (store_read_get(&checker->read, TABLE_SERVICES, &key, &value) &&
            codec_decode_stored(&record_type_service, value.data, value.size, &checker->arena, &service) == 0)
            operation = &service.operation;
    } else {
        const struct reeve_uuid backup_id = uuid_at(bytes + 32);
        const struct store_key key = key_pair(&service_id, &backup_id);
        if (store_read_get(&checker->read, TABLE_BACKUPS, &key, &value) &&
            codec_decode_stored(&record_type_backup, value.data, value.size, &checker->arena, &backup) == 0)
            operation = &backup.operation;
    }
    if (!operation || memcmp(&operation->id, bytes, 16) != 0 || operation->queued != get_be64(item->key + 16))
        finding(checker, "%s: no record has this operation in this place", text);
    return true;
}

/* The time at which the record of a due row says it is due; 0 where there is none. */
static uint64_t due_of(struct checker *checker, enum due_kind kind, const struct reeve_uuid *first,
                       const struct reeve_uuid *second)
{
    static const enum store_table tables[] = {[DUE_SERVICE] = TABLE_SERVICES,
                                              [DUE_BACKUP] = TABLE_BACKUPS,
                                              [DUE_KEY] = TABLE_KEYS,
                                              [DUE_IDEMPOTENCY] = TABLE_IDEMPOTENCY};
    static const struct record_type *const types[] = {[DUE_SERVICE] = &record_type_service,
                                                      [DUE_BACKUP] = &record_type_backup,
                                                      [DUE_KEY] = &record_type_key,
                                                      [DUE_IDEMPOTENCY] = &record_type_idempotency};
    union {
        struct reeve_service service;
        struct reeve_backup backup;
        struct reeve_key key;
        struct reeve_idempotency idempotency;
    } record;
    struct reeve_str value;
    const struct store_key key = key_pair(first, second);
    if (kind < DUE_SERVICE || kind > DUE_IDEMPOTENCY || !store_read_get(&checker->read, tables[kind], &key, &value) ||
        codec_decode_stored(types[kind], value.data, value.size, &checker->arena, &record) < 0)
        return 0;
    switch (kind) {
    case DUE_SERVICE:
        return service_due_ms(&record.service);
    case DUE_BACKUP:
        return backup_due_ms(&record.backup);
    case DUE_KEY:
        return record.key.expires_ms;
    case DUE_IDEMPOTENCY:
        return record.idempotency.expires_ms;
    }
    return 0;
}

static bool check_due_row(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    char text[160];
    checker->summary->due++;
    arena_reset(&checker->arena);
    if (item->key_size == 41) {
        const struct reeve_uuid first = uuid_at(item->key + 9), second = uuid_at(item->key + 25);
        if (due_of(checker, (enum due_kind)item->key[8], &first, &second) == get_be64(item->key))
            return true;
    }
    finding(checker, "%s: no record is due at that time", place("due", item, text));
    return true;
}

static bool check_idempotency(void *arg, const struct store_item *item)
{
    struct checker *checker = arg;
    struct reeve_idempotency record;
    char text[160];
    checker->summary->idempotency++;
    arena_reset(&checker->arena);
    if (!decode(checker, "idempotency", item, 32, &record_type_idempotency, &record))
        return true;
    const struct reeve_uuid first = uuid_at(item->key), second = uuid_at(item->key + 16);
    check_due(checker, place("idempotency", item, text), record.expires_ms, DUE_IDEMPOTENCY, &first, &second);
    return true;
}

static void check_meta(struct checker *checker)
{
    const struct store_key key = key_text("schema_version");
    struct reeve_str value;
    if (!store_read_get(&checker->read, TABLE_META, &key, &value) || value.size != 8)
        finding(checker, "meta: the schema version is missing");
    else
        checker->summary->schema_version = get_be64((const uint8_t *)value.data);
}

/* After all services and backups have been counted. */
static void check_counts(struct checker *checker)
{
    const struct store_key key = key_text(STATE_COUNTS_KEY);
    struct reeve_state_counts stored;
    struct reeve_str value;
    if (!since(checker, 3))
        return;
    if (!store_read_get(&checker->read, TABLE_META, &key, &value) || !state_counts_decode(value, &stored))
        finding(checker, "meta: the numbers of services and backups by state are missing or malformed");
    else if (memcmp(&stored, &checker->counts, sizeof stored) != 0)
        finding(checker, "meta: the numbers of services and backups by state are not what there is");
}

static void check_all(struct checker *checker)
{
    static const struct {
        enum store_table table;
        store_visit visit;
    } visits[] = {
        {TABLE_ORGANIZATIONS, check_organization},
        {TABLE_KEYS, check_key},
        {TABLE_KEY_INDEX, check_key_index},
        {TABLE_SERVICES, check_service},
        {TABLE_BACKUPS, check_backup},
        {TABLE_BACKUP_INDEX, check_backup_index},
        {TABLE_EVENTS, check_event},
        {TABLE_QUEUE, check_queue},
        {TABLE_DUE, check_due_row},
        {TABLE_IDEMPOTENCY, check_idempotency},
    };
    check_meta(checker);
    for (size_t i = 0; i < sizeof visits / sizeof visits[0]; i++)
        store_read_each(&checker->read, visits[i].table, &(struct store_key){0}, false, visits[i].visit, checker);
    check_counts(checker);
    checker->summary->last_sequence = checker->previous_sequence;
    if (checker->read.error < 0)
        finding(checker, "the store could not be read to its end: %s", reeve_error_text(checker->read.error));
}

static int check_store(struct store *store, void (*on_finding)(void *arg, const char *line), void *arg,
                       struct reeve_check_summary *ret_summary, struct reeve_error *ret_error)
{
    struct checker checker = {.on_finding = on_finding, .arg = arg, .summary = ret_summary};
    *ret_summary = (struct reeve_check_summary){0};
    const int r = store_read_begin(store, &checker.read);
    if (r < 0)
        return error_plain(ret_error, r);
    arena_init(&checker.arena, 64 * 1024);
    check_all(&checker);
    store_read_end(&checker.read);
    arena_deinit(&checker.arena);
    return 0;
}

int reeve_check_engine(struct reeve_engine *engine, void (*on_finding)(void *arg, const char *line), void *arg,
                       struct reeve_check_summary *ret_summary, struct reeve_error *ret_error)
{
    return check_store(engine->store, on_finding, arg, ret_summary, ret_error);
}

int reeve_check(const char *data_dir, void (*on_finding)(void *arg, const char *line), void *arg,
                struct reeve_check_summary *ret_summary, struct reeve_error *ret_error)
{
    struct store *store;
    int r = store_open(&(struct store_options){.directory = data_dir, .read_only = true}, &store, ret_error);
    if (r < 0)
        return r;
    r = check_store(store, on_finding, arg, ret_summary, ret_error);
    store_close(store);
    return r;
}
