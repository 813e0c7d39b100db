#include "database.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/crash.h"

#define READERS_MAX 1024
#define MAP_STEP_MAX (UINT64_C(1) << 30)
#define NO_TABLE 0 /* LMDB's own, never one of ours */
#define READ_TRIES 8

static const char *const table_names[TABLE_COUNT] = {
    [TABLE_META] = "meta",
    [TABLE_ORGANIZATIONS] = "organizations",
    [TABLE_KEYS] = "keys",
    [TABLE_KEY_INDEX] = "key_index",
    [TABLE_SERVICES] = "services",
    [TABLE_BACKUPS] = "backups",
    [TABLE_EVENTS] = "events",
    [TABLE_QUEUE] = "queue",
    [TABLE_DUE] = "due",
    [TABLE_IDEMPOTENCY] = "idempotency",
    [TABLE_BACKUP_INDEX] = "backup_index",
};

/* Tables that schema 1 did not have: made when they are missing. Any other that is missing has been lost. */
static const bool is_later[TABLE_COUNT] = {[TABLE_KEY_INDEX] = true, [TABLE_BACKUP_INDEX] = true};

struct database {
    MDB_env *env;
    MDB_dbi tables[TABLE_COUNT];
    char *directory;
    uint64_t map_bytes, map_max_bytes;
    bool read_only;
    bool reopen_wanted; /* a commit failed in a way that LMDB does not recover from by itself */
    bool meta_flushed;  /* since it was opened, a commit has; what was opened may be in the page cache alone */

    /* Readers hold it shared from begin to end; growing and reopening take it alone. */
    pthread_rwlock_t readers;
    /* The writer's, while a transaction ends: what failed may leave an environment that refuses reads until it is
     * opened again. */
    pthread_mutex_t ending;

    /* the transaction: the writer's thread only */
    MDB_txn *txn;
    MDB_cursor *cursors[TABLE_COUNT];
    int error; /* LMDB's code of the first failure */
    char failure[256];

    atomic_uint_fast64_t map_now, map_used; /* any thread */
};

/* The one place where LMDB's codes become ours. */
static int translate(int rc)
{
    switch (rc) {
    case 0:
        return 0;
    case ENOMEM:
        return -REEVE_ERROR_NO_MEMORY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_BAD_VALSIZE:
    case MDB_INCOMPATIBLE:
        return -REEVE_ERROR_STORE_DAMAGED;
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case EEXIST:
    case ENOTDIR:
        return -REEVE_ERROR_STORE_ACCESS;
    default:
        return -REEVE_ERROR_UNAVAILABLE;
    }
}

static const char *explain(int rc)
{
    return rc == MDB_MAP_FULL ? "the memory map has reached its largest size (map-max-bytes)" : mdb_strerror(rc);
}

__attribute__((format(printf, 3, 4))) static int fail(struct reeve_error *ret_error, int rc, const char *format, ...)
{
    char what[192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    *ret_error = (struct reeve_error){.code = (enum reeve_error_code) - translate(rc)};
    snprintf(ret_error->message, sizeof ret_error->message, "%s: %s", what, explain(rc));
    return translate(rc);
}

/* ---- Opening ---- */

static int open_tables(struct database *database)
{
    MDB_txn *txn;
    MDB_envinfo info;
    int rc = mdb_env_info(database->env, &info);
    if (rc == 0)
        rc = mdb_txn_begin(database->env, NULL, database->read_only ? MDB_RDONLY : 0, &txn);
    if (rc)
        return rc;
    const bool is_new = info.me_last_txnid == 0;
    for (int i = 0; i < TABLE_COUNT && rc == 0; i++) {
        const bool create = !database->read_only && (is_new || is_later[i]);
        rc = mdb_dbi_open(txn, table_names[i], create ? MDB_CREATE : 0, &database->tables[i]);
        if (rc == MDB_NOTFOUND && !database->read_only)
            rc = MDB_CORRUPTED;
        /* A store of an older schema that is only looked at. */
        if (rc == MDB_NOTFOUND && i != TABLE_META) {
            database->tables[i] = NO_TABLE;
            rc = 0;
        }
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static void note_map(struct database *database)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(database->env, &info) != 0 || mdb_env_stat(database->env, &stat) != 0)
        return;
    database->map_bytes = info.me_mapsize;
    atomic_store(&database->map_now, info.me_mapsize);
    atomic_store(&database->map_used, (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize);
}

static int open_environment(struct database *database)
{
    int rc = mdb_env_create(&database->env);
    if (rc)
        return rc;
    rc = mdb_env_set_maxdbs(database->env, TABLE_COUNT);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(database->env, READERS_MAX);
    /* LMDB takes the larger of this and what the file already uses. */
    if (rc == 0 && !database->read_only)
        rc = mdb_env_set_mapsize(database->env, database->map_bytes);
    if (rc == 0)
        rc = mdb_env_open(database->env, database->directory, MDB_NOTLS | (database->read_only ? MDB_RDONLY : 0), 0600);
    if (rc == 0)
        rc = open_tables(database);
    if (rc) {
        mdb_env_close(database->env);
        database->env = NULL;
        return rc;
    }
    note_map(database);
    return 0;
}

int database_open(const struct database_options *options, struct database **ret_database, struct reeve_error *ret_error)
{
    *ret_database = NULL;
    struct database *database = calloc(1, sizeof *database);
    if (!database)
        return fail(ret_error, ENOMEM, "cannot open the store");
    database->read_only = options->read_only;
    database->map_bytes = options->map_initial_bytes;
    database->map_max_bytes = options->map_max_bytes;
    database->directory = strdup(options->directory);
    pthread_rwlock_init(&database->readers, NULL);
    pthread_mutex_init(&database->ending, NULL);
    const int rc = database->directory ? open_environment(database) : ENOMEM;
    if (rc == 0) {
        *ret_database = database;
        return 0;
    }
    const int r = rc == MDB_NOTFOUND ? fail(ret_error, MDB_INVALID, "%s has no reeve store", options->directory)
                                     : fail(ret_error, rc, "cannot open the store in %s", options->directory);
    database_close(database);
    return r;
}

void database_close(struct database *database)
{
    if (!database)
        return;
    assert(!database->txn);
    if (database->env)
        mdb_env_close(database->env);
    pthread_rwlock_destroy(&database->readers);
    pthread_mutex_destroy(&database->ending);
    free(database->directory);
    free(database);
}

void database_get_size(struct database *database, uint64_t *ret_map_bytes, uint64_t *ret_used_bytes)
{
    *ret_map_bytes = atomic_load(&database->map_now);
    *ret_used_bytes = atomic_load(&database->map_used);
}

int database_copy(struct database *database, const char *directory, struct reeve_error *ret_error)
{
    pthread_rwlock_rdlock(&database->readers);
    const int rc = database->env ? mdb_env_copy2(database->env, directory, MDB_CP_COMPACT) : EIO;
    pthread_rwlock_unlock(&database->readers);
    return rc ? fail(ret_error, rc, "cannot copy the store to %s", directory) : 0;
}

/* ---- Writing ---- */

/* LMDB calls a write that was cut short an error of the disk; most often the disk is full. */
static int reason_of(const struct database *database, int rc)
{
    struct statvfs disk;
    return rc == EIO && statvfs(database->directory, &disk) == 0 && disk.f_bavail == 0 ? ENOSPC : rc;
}

static int failed(struct database *database, const char *what, int rc)
{
    rc = reason_of(database, rc);
    snprintf(database->failure, sizeof database->failure, "%s: %s", what, explain(rc));
    return translate(rc);
}

/* With the readers' lock held alone. */
static int reopen_alone(struct database *database)
{
    if (database->env)
        mdb_env_close(database->env);
    database->env = NULL;
    database->meta_flushed = false;
    const int rc = open_environment(database);
    database->reopen_wanted = rc != 0;
    return rc;
}

/* After a failed write of LMDB's meta page the environment refuses everything, reads too; only opening it again helps,
 * which also looks at what is really on disk. */
static int reopen(struct database *database)
{
    pthread_rwlock_wrlock(&database->readers);
    const int rc = reopen_alone(database);
    pthread_rwlock_unlock(&database->readers);
    return rc;
}

/* With no reader under way: LMDB moves the map and does not check. When it cannot, the map of before is gone as well,
 * and only opening again brings it back. */
static int remap(struct database *database, uint64_t bytes)
{
    pthread_rwlock_wrlock(&database->readers);
    const int rc = mdb_env_set_mapsize(database->env, bytes);
    if (rc == 0)
        note_map(database);
    else
        reopen_alone(database);
    pthread_rwlock_unlock(&database->readers);
    return rc;
}

int database_write_begin(struct database *database)
{
    assert(!database->txn);
    database->error = 0;
    memset(database->cursors, 0, sizeof database->cursors);
    int rc = database->reopen_wanted ? reopen(database) : 0;
    if (rc == 0)
        rc = mdb_txn_begin(database->env, NULL, 0, &database->txn);
    if (rc == MDB_PANIC)
        database->reopen_wanted = true;
    if (rc) {
        database->txn = NULL;
        return failed(database, "the store cannot begin to write", rc);
    }
    return 0;
}

/* A cursor of the transaction; NULL after an error. */
static MDB_cursor *cursor_of(struct database *database, enum store_table table)
{
    if (database->error == 0 && !database->cursors[table])
        database->error = mdb_cursor_open(database->txn, database->tables[table], &database->cursors[table]);
    return database->error ? NULL : database->cursors[table];
}

void database_put(struct database *database, enum store_table table, const void *key, size_t key_size,
                  const void *value, size_t size)
{
    MDB_cursor *cursor = cursor_of(database, table);
    MDB_val k = {key_size, (void *)(uintptr_t)key}, v = {size, (void *)(uintptr_t)value};
    if (!cursor)
        return;
    /* Events come one behind the other: their pages are filled, and not split in the middle. */
    int rc = table == TABLE_EVENTS ? mdb_cursor_put(cursor, &k, &v, MDB_APPEND) : MDB_KEYEXIST;
    if (rc == MDB_KEYEXIST)
        rc = mdb_cursor_put(cursor, &k, &v, 0);
    database->error = rc;
}

void database_delete(struct database *database, enum store_table table, const void *key, size_t key_size)
{
    MDB_cursor *cursor = cursor_of(database, table);
    MDB_val k = {key_size, (void *)(uintptr_t)key}, v;
    if (!cursor)
        return;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET);
    if (rc == 0)
        rc = mdb_cursor_del(cursor, 0);
    if (rc != MDB_NOTFOUND)
        database->error = rc;
}

/* Only between transactions. */
static int grow(struct database *database)
{
    const uint64_t step = database->map_bytes < MAP_STEP_MAX ? database->map_bytes : MAP_STEP_MAX;
    if (database->map_bytes >= database->map_max_bytes)
        return MDB_MAP_FULL;
    const uint64_t wanted = database->map_max_bytes - database->map_bytes < step ? database->map_max_bytes
                                                                                 : database->map_bytes + step;
    crash_point(CRASH_GROWING);
    const int rc = remap(database, wanted);
    crash_point(CRASH_GROWN);
    return rc;
}

/* A meta page that is not flushed is by the next flush of data, before any page is used again that the one before it
 * has: at any time one of the two on disk is whole. But not where the flush of an older one failed, which the page
 * cache does not remember: so the first commit flushes its own. */
static int commit(struct database *database, bool flush_meta)
{
    MDB_envinfo info;
    flush_meta |= !database->meta_flushed;
    int rc = mdb_env_set_flags(database->env, MDB_NOMETASYNC, !flush_meta);
    if (rc) {
        mdb_txn_abort(database->txn);
        return rc;
    }
    const size_t id = mdb_txn_id(database->txn);
    rc = mdb_txn_commit(database->txn);
    const bool written = rc == 0 && mdb_env_info(database->env, &info) == 0 && info.me_last_txnid == id;
    database->meta_flushed |= flush_meta && written; /* where nothing changed, nothing is */
    return rc;
}

static int end_alone(struct database *database, bool flush_meta)
{
    int rc = database->error;
    const bool written = rc == 0;
    if (written)
        rc = commit(database, flush_meta);
    else
        mdb_txn_abort(database->txn);
    database->txn = NULL;
    if (rc == MDB_MAP_FULL) {
        rc = grow(database);
        if (rc == 0)
            return DATABASE_GROWN;
    }
    if (rc) {
        const int r = failed(database, "the store cannot write", rc);
        /* What a failed flush left in memory is not to be trusted: look again at what is on disk. Now, for the readers.
         */
        if (written && database->env && rc != MDB_MAP_FULL)
            reopen(database);
        return r;
    }
    note_map(database);
    return 0;
}

static int end_transaction(struct database *database, bool flush_meta)
{
    assert(database->txn);
    pthread_mutex_lock(&database->ending);
    const int r = end_alone(database, flush_meta);
    pthread_mutex_unlock(&database->ending);
    return r;
}

int database_commit(struct database *database)
{
    return end_transaction(database, true);
}

int database_commit_part(struct database *database)
{
    return end_transaction(database, false);
}

const char *database_failure(const struct database *database)
{
    return database->failure;
}

/* ---- Reading ---- */

static int begin_reading(struct database *database, MDB_txn **ret_txn)
{
    if (!database->env)
        return EIO;
    int rc = mdb_txn_begin(database->env, NULL, MDB_RDONLY, ret_txn);
    if (rc == MDB_READERS_FULL) {
        int dead = 0; /* slots of readers that were killed */
        mdb_reader_check(database->env, &dead);
        if (dead > 0)
            rc = mdb_txn_begin(database->env, NULL, MDB_RDONLY, ret_txn);
    }
    return rc;
}

/* What keeps LMDB from reading now and may not a moment later. True: it is worth another try. */
static bool clear_the_way(struct database *database, int rc)
{
    if (rc == MDB_MAP_RESIZED) { /* another process, which has the store open for writing, made the map larger */
        remap(database, 0);
        return true;
    }
    if (rc != MDB_PANIC)
        return false;
    pthread_mutex_lock(&database->ending); /* until the writer has opened it again, or given up */
    pthread_mutex_unlock(&database->ending);
    return true;
}

int database_read_begin(struct database *database, struct database_read *ret_read)
{
    MDB_txn *txn = NULL;
    int rc, tries = 0;
    do {
        pthread_rwlock_rdlock(&database->readers);
        rc = begin_reading(database, &txn);
        if (rc == 0) {
            *ret_read = (struct database_read){.database = database, .txn = txn};
            return 0;
        }
        pthread_rwlock_unlock(&database->readers);
    } while (tries++ < READ_TRIES && clear_the_way(database, rc));
    return translate(rc);
}

void database_read_end(struct database_read *read)
{
    mdb_txn_abort(read->txn);
    read->txn = NULL;
    pthread_rwlock_unlock(&read->database->readers);
}

static bool keep_error(struct database_read *read, int rc)
{
    if (rc && rc != MDB_NOTFOUND && read->error == 0)
        read->error = translate(rc);
    return rc == 0;
}

bool database_get(struct database_read *read, enum store_table table, const void *key, size_t size,
                  struct reeve_str *ret_value)
{
    MDB_val k = {size, (void *)(uintptr_t)key}, v;
    const MDB_dbi dbi = read->database->tables[table];
    if (dbi == NO_TABLE || read->error || !keep_error(read, mdb_get(read->txn, dbi, &k, &v)))
        return false;
    *ret_value = (struct reeve_str){v.mv_data, v.mv_size};
    return true;
}

void database_cursor_open(struct database_read *read, enum store_table table, struct database_cursor *ret_cursor)
{
    MDB_cursor *cursor = NULL;
    const MDB_dbi dbi = read->database->tables[table];
    if (dbi != NO_TABLE && read->error == 0)
        keep_error(read, mdb_cursor_open(read->txn, dbi, &cursor));
    *ret_cursor = (struct database_cursor){read, cursor};
}

void database_cursor_close(struct database_cursor *cursor)
{
    if (cursor->cursor)
        mdb_cursor_close(cursor->cursor);
    cursor->cursor = NULL;
}

static bool take_item(struct database_cursor *cursor, int rc, const MDB_val *key, const MDB_val *value,
                      struct store_item *ret_item)
{
    if (!keep_error(cursor->read, rc))
        return false;
    *ret_item = (struct store_item){key->mv_data, key->mv_size, value->mv_data, value->mv_size};
    return true;
}

bool database_cursor_seek(struct database_cursor *cursor, const struct store_key *from, bool backwards,
                          struct store_item *ret_item)
{
    MDB_val key = {from->size, (void *)(uintptr_t)from->bytes}, value;
    if (!cursor->cursor)
        return false;
    int rc = from->size ? mdb_cursor_get(cursor->cursor, &key, &value, MDB_SET_RANGE) : MDB_NOTFOUND;
    if (from->size == 0)
        rc = mdb_cursor_get(cursor->cursor, &key, &value, backwards ? MDB_LAST : MDB_FIRST);
    else if (backwards)
        rc = rc && rc != MDB_NOTFOUND ? rc : mdb_cursor_get(cursor->cursor, &key, &value, rc ? MDB_LAST : MDB_PREV);
    return take_item(cursor, rc, &key, &value, ret_item);
}

bool database_cursor_step(struct database_cursor *cursor, bool backwards, struct store_item *ret_item)
{
    MDB_val key, value;
    if (!cursor->cursor)
        return false;
    const int rc = mdb_cursor_get(cursor->cursor, &key, &value, backwards ? MDB_PREV : MDB_NEXT);
    return take_item(cursor, rc, &key, &value, ret_item);
}
