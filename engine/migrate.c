#include "migrate.h"

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

/* By the version they start from. */
static int (*const migrations[SCHEMA_VERSION])(struct core *core) = {
    [1] = index_backups,
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
