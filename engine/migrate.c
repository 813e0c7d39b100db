#include "migrate.h"

#include "state_counts.h"

/* 1 to 2: an index from a backup to its service, so that a restore needs to name only the backup. */
static int index_backups(struct core *core)
{
    struct store_key from = {0};
    struct store_item item;
    while (store_seek(core->store, TABLE_BACKUPS, &from, &item)) {
        if (item.key_size != 32)
            return -REEVE_ERROR_STORE_DAMAGED;
        const struct reeve_uuid service_id = uuid_at(item.key), backup_id = uuid_at(item.key + 16);
        const struct store_key index = key_uuid(&backup_id);
        from = key_pair(&service_id, &backup_id);
        from.bytes[from.size++] = 0; /* the next one */
        store_put(core->store, TABLE_BACKUP_INDEX, &index, &service_id, sizeof service_id);
    }
    return store_batch_error(core->store);
}

/* The next item of a table behind the one at `from`; false at its end. */
static bool next_item(struct core *core, enum store_table table, struct store_key *from, struct store_item *ret_item)
{
    if (!store_seek(core->store, table, from, ret_item) || ret_item->key_size >= STORE_KEY_SIZE_MAX)
        return false;
    memcpy(from->bytes, ret_item->key, ret_item->key_size);
    from->size = ret_item->key_size;
    from->bytes[from->size++] = 0;
    return true;
}

static int index_keys(struct core *core)
{
    struct store_key from = {0};
    struct store_item item;
    while (next_item(core, TABLE_KEYS, &from, &item)) {
        if (item.key_size != 32)
            return -REEVE_ERROR_STORE_DAMAGED;
        const struct reeve_uuid organization_id = uuid_at(item.key), key_id = uuid_at(item.key + 16);
        const struct store_key index = key_uuid(&key_id);
        store_put(core->store, TABLE_KEY_INDEX, &index, &organization_id, sizeof organization_id);
    }
    return store_batch_error(core->store);
}

static int count_states(struct core *core)
{
    struct store_key from = {0};
    struct store_item item;
    struct reeve_service service;
    struct reeve_backup backup;
    struct arena arena;
    int r = 0;
    arena_init(&arena, 64 * 1024);
    core->next_state_counts = (struct reeve_state_counts){0};
    for (; r == 0 && next_item(core, TABLE_SERVICES, &from, &item); arena_reset(&arena)) {
        r = codec_decode_stored(&record_type_service, item.value, item.value_size, &arena, &service);
        if (r == 0)
            state_counts_move_service(core, REEVE_SERVICE_STATE_NONE, service.state);
    }
    from = (struct store_key){0};
    for (; r == 0 && next_item(core, TABLE_BACKUPS, &from, &item); arena_reset(&arena)) {
        r = codec_decode_stored(&record_type_backup, item.value, item.value_size, &arena, &backup);
        if (r == 0)
            state_counts_move_backup(core, REEVE_BACKUP_STATE_NONE, backup.state);
    }
    arena_deinit(&arena);
    state_counts_save(core);
    return r < 0 ? r : store_batch_error(core->store);
}

/* 2 to 3: an index from a key to its organization, and how many services and backups are in each state. */
static int index_keys_and_count(struct core *core)
{
    const int r = index_keys(core);
    return r < 0 ? r : count_states(core);
}

/* By the version they start from. */
static int (*const migrations[SCHEMA_VERSION])(struct core *core) = {
    [1] = index_backups,
    [2] = index_keys_and_count,
};

int migrate(struct core *core, uint64_t version)
{
    int r = 0;
    for (uint64_t from = version; from < SCHEMA_VERSION && r == 0; from++)
        r = migrations[from](core);
    if (r == 0)
        core_log(core, REEVE_LOG_INFO, "the store was brought from schema version %llu to %d",
                 (unsigned long long)version, SCHEMA_VERSION);
    return r;
}
