#include "migrate.h"

#include "base/crash.h"
#include "state_counts.h"

#define ROWS_PER_BATCH 10000

/* So far is durable: making it once more does no harm. */
static int next_batch(struct core *core)
{
    const int r = store_commit(core->store);
    return r < 0 ? r : store_begin(core->store);
}

/* From a table whose keys are pairs of ids: from the second id to the first. */
static int index_pairs(struct core *core, enum store_table table, enum store_table index)
{
    struct store_key from = {0};
    struct store_item item;
    for (unsigned rows = 1; store_seek(core->store, table, &from, &item); rows++) {
        if (item.key_size != 32)
            return -REEVE_ERROR_STORE_DAMAGED;
        const struct reeve_uuid first = uuid_at(item.key), second = uuid_at(item.key + 16);
        const struct store_key key = key_uuid(&second);
        from = key_pair(&first, &second);
        from.bytes[from.size++] = 0; /* the next one */
        store_put(core->store, index, &key, &first, sizeof first);
        crash_point(CRASH_MIGRATING);
        const int r = rows % ROWS_PER_BATCH == 0 ? next_batch(core) : 0;
        if (r < 0)
            return r;
    }
    return store_batch_error(core->store);
}

/* 1 to 2: an index from a backup to its service, so that a restore needs to name only the backup. */
static int index_backups(struct core *core)
{
    return index_pairs(core, TABLE_BACKUPS, TABLE_BACKUP_INDEX);
}

/* 2 to 3: an index from a key to its organization, and how many services and backups are in each state. */
static int index_keys_and_count(struct core *core)
{
    const int r = index_pairs(core, TABLE_KEYS, TABLE_KEY_INDEX);
    return r < 0 ? r : state_counts_make(core);
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
