/* What the engine has made of a batch beside what the model says: records, events, and what a reader sees. */
#include <string.h>

#include "backup.h"
#include "service.h"
#include "world.h"

static bool read_record(struct store_read *read, enum store_table table, const struct store_key *key,
                        const struct record_type *type, void *ret_record)
{
    struct reeve_str value;
    if (!store_read_get(read, table, key, &value))
        return false;
    SIM_REQUIRE(codec_decode_stored(type, value.data, value.size, &world.arena, ret_record) == 0,
                "a record cannot be read");
    return true;
}

/* What the engine has drawn is learned, after a look whether it could be. */
static void compare_operation(struct m_operation *wanted, const struct reeve_operation *found, const char *of)
{
    SIM_REQUIRE(wanted->kind == found->kind, "%s: its operation is '%s', not '%s'", of,
                found->kind ? reeve_operation_kind_name(found->kind) : "none",
                wanted->kind ? reeve_operation_kind_name(wanted->kind) : "none");
    if (wanted->kind == REEVE_OPERATION_KIND_UNSET)
        return;
    SIM_REQUIRE(wanted->attempt == found->attempt, "%s: attempt %llu, not %llu", of, (unsigned long long)found->attempt,
                (unsigned long long)wanted->attempt);
    SIM_REQUIRE(wanted->is_new != (memcmp(&wanted->id, &found->id, 16) == 0), "%s: %s", of,
                wanted->is_new ? "a new operation has the id of another one" : "its operation has another id now");
    SIM_REQUIRE(wanted->pauses == (found->retry_at_ms != 0), "%s: its operation %s", of,
                wanted->pauses ? "should wait" : "waits and should not");
    if (wanted->pauses && wanted->retry_at_ms == 0) {
        SIM_REQUIRE(found->retry_at_ms >= wanted->retry_low_ms && found->retry_at_ms <= wanted->retry_high_ms,
                    "%s: the pause ends at %llu, not from %llu to %llu", of, (unsigned long long)found->retry_at_ms,
                    (unsigned long long)wanted->retry_low_ms, (unsigned long long)wanted->retry_high_ms);
        wanted->retry_at_ms = found->retry_at_ms;
    }
    SIM_REQUIRE(!wanted->pauses || wanted->retry_at_ms == found->retry_at_ms, "%s: its pause has moved", of);
    wanted->id = found->id;
    wanted->is_new = false;
}

static void compare_lists(const struct m_service *wanted, const struct reeve_service *found, const char *of)
{
    char source[32];
    SIM_REQUIRE(wanted->sources_count == found->ip_access_list.count, "%s: %zu entries in its access list, not %u", of,
                found->ip_access_list.count, wanted->sources_count);
    for (unsigned i = 0; i < wanted->sources_count; i++) {
        const struct reeve_str text = found->ip_access_list.items[i].source;
        snprintf(source, sizeof source, "10.0.%u.0/24", wanted->sources[i]);
        SIM_REQUIRE(text.size == strlen(source) && memcmp(text.data, source, text.size) == 0,
                    "%s: entry %u of its access list is %.*s, not %s", of, i, (int)text.size, text.data, source);
    }
}

#define SAME(field, wanted_value, found_value)                                                                         \
    SIM_REQUIRE((uint64_t)(wanted_value) == (uint64_t)(found_value), "%s: " field " is %llu, not %llu", of,            \
                (unsigned long long)(found_value), (unsigned long long)(wanted_value))

static void compare_times(struct m_service *wanted, const struct reeve_service *found, const char *of)
{
    SAME("idleAt", wanted->idle_at_ms, found->idle_at_ms);
    if (wanted->backup_drawn) {
        SIM_REQUIRE(found->backup_at_ms >= wanted->backup_low_ms &&
                        found->backup_at_ms < wanted->backup_low_ms + 9 * UINT64_C(60000),
                    "%s: a backup that was missed is due at %llu", of, (unsigned long long)found->backup_at_ms);
        wanted->backup_at_ms = found->backup_at_ms;
        wanted->backup_drawn = false;
    }
    SAME("nextBackupAt", wanted->backup_at_ms, found->backup_at_ms);
}

static void compare_service(struct store_read *read, struct m_service *wanted, int place)
{
    struct reeve_service record, *found = &record;
    char of[40];
    const struct store_key key = key_pair(&world.organizations[wanted->organization], &wanted->id);
    snprintf(of, sizeof of, "service %d", place);
    SIM_REQUIRE(read_record(read, TABLE_SERVICES, &key, &record_type_service, found), "%s is not there", of);
    SIM_REQUIRE(wanted->state == (unsigned)found->state, "%s is %s, not %s", of, reeve_service_state_name(found->state),
                reeve_service_state_name((enum reeve_service_state)wanted->state));
    SAME("generation", wanted->generation, found->generation);
    SAME("desired", wanted->desired, found->desired);
    SAME("applied", wanted->applied, found->applied);
    SAME("provisioned", wanted->provisioned, found->provisioned);
    SAME("the memory of a replica at least", wanted->min_gb, found->min_replica_memory_gb);
    SAME("the memory of a replica at most", wanted->max_gb, found->max_replica_memory_gb);
    SAME("idleScaling", wanted->idle_scaling, found->idle_scaling);
    SAME("idleTimeoutMinutes", wanted->idle_minutes, found->idle_timeout_minutes);
    SAME("backupCount", wanted->backup_count, found->backup_count);
    SAME("restarts", wanted->restarts, found->restarts);
    SAME("lostAt", wanted->lost_ms, found->lost_ms);
    SAME("name", strlen(world_name(wanted->name)), found->name.size);
    SIM_REQUIRE(memcmp(world_name(wanted->name), found->name.data, found->name.size) == 0, "%s has another name", of);
    SIM_REQUIRE((wanted->current_backup >= 0) != reeve_uuid_is_nil(&found->current_backup),
                "%s: whether a backup is in progress", of);
    compare_lists(wanted, found, of);
    compare_times(wanted, found, of);
    compare_operation(&wanted->operation, &found->operation, of);
}

static void compare_backup(struct store_read *read, struct m_backup *wanted, int place)
{
    struct reeve_backup record, *found = &record;
    char of[40];
    const struct store_key key = key_pair(&wanted->service_id, &wanted->id);
    snprintf(of, sizeof of, "backup %d", place);
    SIM_REQUIRE(read_record(read, TABLE_BACKUPS, &key, &record_type_backup, found), "%s is not there", of);
    SAME("state", wanted->state, found->state);
    SAME("generation", wanted->generation, found->generation);
    SAME("expiresAt", wanted->expires_ms, found->expires_ms);
    SAME("restores", wanted->restores, found->restores);
    compare_operation(&wanted->operation, &found->operation, of);
}

static bool is_of(const struct m_event *wanted, const struct reeve_event *found)
{
    if (wanted->backup >= 0)
        return memcmp(&world.next.backups[wanted->backup].id, &found->object_id, 16) == 0;
    return memcmp(&world.next.services[wanted->service].id, &found->service_id, 16) == 0 &&
           (found->type == REEVE_EVENT_TYPE_BACKUP_CREATE || reeve_uuid_is_nil(&found->object_id));
}

static bool on_event(void *arg, const struct store_item *item)
{
    struct reeve_event event;
    (void)arg;
    SIM_REQUIRE(get_be64(item->key) == world.sequence + 1, "event %llu is missing",
                (unsigned long long)world.sequence + 1);
    SIM_REQUIRE(codec_decode_stored(&record_type_event, item->value, item->value_size, &world.arena, &event) == 0,
                "an event cannot be read");
    world.sequence++;
    for (unsigned i = 0; i < world.next.events_count; i++) {
        struct m_event *wanted = &world.next.events[i];
        if (wanted->type == REEVE_EVENT_TYPE_UNSET || !is_of(wanted, &event))
            continue;
        SIM_REQUIRE(wanted->type == (unsigned)event.type, "the event is '%s', not '%s'",
                    reeve_event_type_name(event.type), reeve_event_type_name((enum reeve_event_type)wanted->type));
        SIM_REQUIRE(wanted->backup >= 0 || (wanted->from == (unsigned)event.from && wanted->to == (unsigned)event.to),
                    "the event '%s' is told from %s to %s", reeve_event_type_name(event.type),
                    reeve_service_state_name(event.from), reeve_service_state_name(event.to));
        wanted->type = REEVE_EVENT_TYPE_UNSET;
        return true;
    }
    sim_fail("an event that nothing explains: %s", reeve_event_type_name(event.type));
}

static void compare_events(struct store_read *read)
{
    const struct store_key from = key_number(world.sequence + 1);
    store_read_each(read, TABLE_EVENTS, &from, false, on_event, NULL);
    for (unsigned i = 0; i < world.next.events_count; i++)
        SIM_REQUIRE(world.next.events[i].type == REEVE_EVENT_TYPE_UNSET, "the event '%s' was not told",
                    reeve_event_type_name((enum reeve_event_type)world.next.events[i].type));
    world.next.events_count = 0;
}

/* Backups that the schedule made: nobody was told their ids but by the record of their service. */
static void learn_backups(struct store_read *read)
{
    struct reeve_service record;
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++) {
        const struct m_service *service = &world.next.services[i];
        struct m_backup *backup = service->exists && service->current_backup >= 0
                                      ? &world.next.backups[service->current_backup]
                                      : NULL;
        const struct store_key key = key_pair(&world.organizations[service->organization], &service->id);
        if (backup && reeve_uuid_is_nil(&backup->id) &&
            read_record(read, TABLE_SERVICES, &key, &record_type_service, &record))
            backup->id = record.current_backup;
    }
}

static bool on_last_event(void *arg, const struct store_item *item)
{
    *(uint64_t *)arg = get_be64(item->key);
    return false;
}

/* Readers see what is durable and nothing of what is on its way; the next batch sees that, too, and so do we. */
void world_compare(void)
{
    struct store_read *read = &world.read;
    uint64_t last = 0;
    arena_reset(&world.arena);
    SIM_REQUIRE(store_read_begin(world.store, read) == 0, "the store cannot be read");
    world.reading = true;
    store_read_each(read, TABLE_EVENTS, &(struct store_key){0}, true, on_last_event, &last);
    SIM_REQUIRE(last >= world.durable_sequence, "event %llu is durable, and %llu is the last that is seen",
                (unsigned long long)world.durable_sequence, (unsigned long long)last);
    SIM_REQUIRE(last <= world.sequence, "an event is seen that is not durable");
    read->view.sequence = UINT64_MAX;
    learn_backups(read);
    compare_events(read);
    uint64_t services = 0, backups = 0;
    for (int i = 0; i < SIM_SERVICES_MAX; i++) {
        services += world.next.services[i].exists;
        if (world.next.services[i].exists)
            compare_service(read, &world.next.services[i], i);
    }
    for (int i = 0; i < SIM_BACKUPS_MAX; i++) {
        backups += world.next.backups[i].exists;
        if (world.next.backups[i].exists)
            compare_backup(read, &world.next.backups[i], i);
    }
    SIM_REQUIRE(store_read_count(read, TABLE_SERVICES) == services, "%llu services are stored, not %llu",
                (unsigned long long)store_read_count(read, TABLE_SERVICES), (unsigned long long)services);
    SIM_REQUIRE(store_read_count(read, TABLE_BACKUPS) == backups, "%llu backups are stored, not %llu",
                (unsigned long long)store_read_count(read, TABLE_BACKUPS), (unsigned long long)backups);
    SIM_REQUIRE(store_read_count(read, TABLE_IDEMPOTENCY) == world.next.keys_count,
                "%llu idempotency keys are stored, not %u",
                (unsigned long long)store_read_count(read, TABLE_IDEMPOTENCY), world.next.keys_count);
    store_read_end(read);
    world.reading = false;
}
