#include "store.h"

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

struct store {
    MDB_env *env;
    MDB_dbi tables[TABLE_COUNT];
    char *directory;
    int lock_fd;
    uint64_t map_bytes, map_max_bytes;
    bool read_only;
    bool reopen_wanted; /* a commit failed in a way that LMDB does not recover from by itself */

    /* Readers hold it shared from begin to end; growing and reopening take it alone. */
    pthread_rwlock_t readers;

    /* the batch: the writer's thread only */
    MDB_txn *txn;
    MDB_cursor *cursors[TABLE_COUNT];
    int error; /* LMDB's code of the first failure */
    struct store_stats batch;
    char failure[256];

    /* sums over durable batches, read by any thread */
    atomic_uint_fast64_t puts, deletes, bytes, map_now, map_used;
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

static int make_directory(struct store *store, struct reeve_error *ret_error)
{
    if (mkdir(store->directory, 0700) != 0 && errno != EEXIST)
        return fail(ret_error, errno, "cannot make the data directory %s", store->directory);
    return 0;
}

/* One engine for a directory: a lock that ends with the process, however it ends. */
static int lock_directory(struct store *store, struct reeve_error *ret_error)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/reeve.lock", store->directory);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        return fail(ret_error, errno, "cannot open %s", path);
    char text[32] = "";
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        const ssize_t size = pread(store->lock_fd, text, sizeof text - 1, 0);
        if (size > 0)
            text[strcspn(text, "\n")] = '\0';
        *ret_error = (struct reeve_error){.code = REEVE_ERROR_STORE_LOCKED};
        snprintf(ret_error->message, sizeof ret_error->message, "%s is open in another engine (process %s)",
                 store->directory, text[0] ? text : "unknown");
        return -REEVE_ERROR_STORE_LOCKED;
    }
    const int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(store->lock_fd, 0) != 0 || pwrite(store->lock_fd, text, (size_t)size, 0) != size)
        return fail(ret_error, errno, "cannot write %s", path);
    return 0;
}

/* LMDB must not have one environment open twice in a process: closing the one would free the other's reader slots. */
static int refuse_own_directory(struct store *store, struct reeve_error *ret_error)
{
    char path[4200], text[32] = "";
    snprintf(path, sizeof path, "%s/reeve.lock", store->directory);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* no engine was ever here: a snapshot */
    const bool own = pread(fd, text, sizeof text - 1, 0) > 0 && strtol(text, NULL, 10) == (long)getpid() &&
                     flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    if (!own)
        return 0;
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_STORE_LOCKED};
    snprintf(ret_error->message, sizeof ret_error->message,
             "%s is open in an engine of this process: reeve_check_engine() checks that", store->directory);
    return -REEVE_ERROR_STORE_LOCKED;
}

static int open_tables(struct store *store)
{
    MDB_txn *txn;
    MDB_envinfo info;
    int rc = mdb_env_info(store->env, &info);
    if (rc == 0)
        rc = mdb_txn_begin(store->env, NULL, store->read_only ? MDB_RDONLY : 0, &txn);
    if (rc)
        return rc;
    const bool is_new = info.me_last_txnid == 0;
    for (int i = 0; i < TABLE_COUNT && rc == 0; i++) {
        const bool create = !store->read_only && (is_new || is_later[i]);
        rc = mdb_dbi_open(txn, table_names[i], create ? MDB_CREATE : 0, &store->tables[i]);
        if (rc == MDB_NOTFOUND && !store->read_only)
            rc = MDB_CORRUPTED;
        /* A store of an older schema that is only looked at. */
        if (rc == MDB_NOTFOUND && i != TABLE_META) {
            store->tables[i] = NO_TABLE;
            rc = 0;
        }
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static void note_map(struct store *store)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(store->env, &info) != 0 || mdb_env_stat(store->env, &stat) != 0)
        return;
    store->map_bytes = info.me_mapsize;
    atomic_store(&store->map_now, info.me_mapsize);
    atomic_store(&store->map_used, (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize);
}

static int open_environment(struct store *store)
{
    int rc = mdb_env_create(&store->env);
    if (rc)
        return rc;
    rc = mdb_env_set_maxdbs(store->env, TABLE_COUNT);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(store->env, READERS_MAX);
    /* LMDB takes the larger of this and what the file already uses. */
    if (rc == 0 && !store->read_only)
        rc = mdb_env_set_mapsize(store->env, store->map_bytes);
    if (rc == 0)
        rc = mdb_env_open(store->env, store->directory, MDB_NOTLS | (store->read_only ? MDB_RDONLY : 0), 0600);
    if (rc == 0)
        rc = open_tables(store);
    if (rc) {
        mdb_env_close(store->env);
        store->env = NULL;
        return rc;
    }
    note_map(store);
    return 0;
}

int store_open(const struct store_options *options, struct store **ret_store, struct reeve_error *ret_error)
{
    *ret_store = NULL;
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return fail(ret_error, ENOMEM, "cannot open the store");
    store->lock_fd = -1;
    store->read_only = options->read_only;
    store->map_bytes = options->map_initial_bytes;
    store->map_max_bytes = options->map_max_bytes;
    store->directory = strdup(options->directory);
    pthread_rwlock_init(&store->readers, NULL);
    int r = store->directory ? 0 : fail(ret_error, ENOMEM, "cannot open the store");
    if (r == 0 && !store->read_only)
        r = make_directory(store, ret_error);
    if (r == 0 && !store->read_only)
        r = lock_directory(store, ret_error);
    if (r == 0 && store->read_only)
        r = refuse_own_directory(store, ret_error);
    if (r == 0) {
        const int rc = open_environment(store);
        if (rc == MDB_NOTFOUND)
            r = fail(ret_error, MDB_INVALID, "%s has no reeve store", store->directory);
        else if (rc)
            r = fail(ret_error, rc, "cannot open the store in %s", store->directory);
    }
    if (r < 0) {
        store_close(store);
        return r;
    }
    *ret_store = store;
    return 0;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    assert(!store->txn);
    if (store->env)
        mdb_env_close(store->env);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_rwlock_destroy(&store->readers);
    free(store->directory);
    free(store);
}

void store_get_stats(struct store *store, struct store_stats *ret_stats)
{
    *ret_stats = (struct store_stats){
        .puts = atomic_load(&store->puts),
        .deletes = atomic_load(&store->deletes),
        .bytes = atomic_load(&store->bytes),
        .map_bytes = atomic_load(&store->map_now),
        .map_used_bytes = atomic_load(&store->map_used),
    };
}

int store_copy(struct store *store, const char *directory, struct reeve_error *ret_error)
{
    if (mkdir(directory, 0700) != 0)
        return fail(ret_error, errno, "cannot make the directory %s", directory);
    crash_point(CRASH_SNAPSHOT_BEGUN);
    pthread_rwlock_rdlock(&store->readers);
    const int rc = mdb_env_copy2(store->env, directory, MDB_CP_COMPACT);
    pthread_rwlock_unlock(&store->readers);
    crash_point(CRASH_SNAPSHOT_MADE);
    if (rc == 0)
        return 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/data.mdb", directory);
    unlink(path);
    rmdir(directory);
    return fail(ret_error, rc, "cannot copy the store to %s", directory);
}

/* ---- Batches ---- */

/* LMDB calls a write that was cut short an error of the disk; most often the disk is full. */
static int reason_of(const struct store *store, int rc)
{
    struct statvfs disk;
    return rc == EIO && statvfs(store->directory, &disk) == 0 && disk.f_bavail == 0 ? ENOSPC : rc;
}

static int failed(struct store *store, const char *what, int rc)
{
    rc = reason_of(store, rc);
    snprintf(store->failure, sizeof store->failure, "%s: %s", what, explain(rc));
    return translate(rc);
}

/* With the readers' lock held alone. */
static int reopen_alone(struct store *store)
{
    if (store->env)
        mdb_env_close(store->env);
    store->env = NULL;
    const int rc = open_environment(store);
    store->reopen_wanted = rc != 0;
    return rc;
}

/* After a failed write of LMDB's meta page the environment refuses everything, reads too; only opening it again helps,
 * which also looks at what is really on disk. */
static int reopen(struct store *store)
{
    pthread_rwlock_wrlock(&store->readers);
    const int rc = reopen_alone(store);
    pthread_rwlock_unlock(&store->readers);
    return rc;
}

/* With no reader under way: LMDB moves the map and does not check. When it cannot, the map of before is gone as well,
 * and only opening again brings it back. */
static int remap(struct store *store, uint64_t bytes)
{
    pthread_rwlock_wrlock(&store->readers);
    const int rc = mdb_env_set_mapsize(store->env, bytes);
    if (rc == 0)
        note_map(store);
    else
        reopen_alone(store);
    pthread_rwlock_unlock(&store->readers);
    return rc;
}

int store_begin(struct store *store)
{
    assert(!store->txn);
    store->error = 0;
    store->batch = (struct store_stats){0};
    memset(store->cursors, 0, sizeof store->cursors);
    int rc = store->reopen_wanted ? reopen(store) : 0;
    if (rc == 0)
        rc = mdb_txn_begin(store->env, NULL, 0, &store->txn);
    if (rc == MDB_PANIC)
        store->reopen_wanted = true;
    if (rc) {
        store->txn = NULL;
        return failed(store, "the store cannot begin a batch", rc);
    }
    return 0;
}

static bool keep_error(struct store *store, int rc)
{
    if (rc && rc != MDB_NOTFOUND && store->error == 0)
        store->error = rc;
    return rc == 0;
}

bool store_get(struct store *store, enum store_table table, const struct store_key *key, struct reeve_str *ret_value)
{
    if (store->error)
        return false;
    MDB_val k = {key->size, (void *)(uintptr_t)key->bytes}, v;
    if (!keep_error(store, mdb_get(store->txn, store->tables[table], &k, &v)))
        return false;
    *ret_value = (struct reeve_str){v.mv_data, v.mv_size};
    return true;
}

static bool move(struct store *store, enum store_table table, MDB_val *key, MDB_cursor_op op,
                 struct store_item *ret_item)
{
    if (store->error)
        return false;
    MDB_cursor **cursor = &store->cursors[table];
    if (!*cursor && !keep_error(store, mdb_cursor_open(store->txn, store->tables[table], cursor)))
        return false;
    MDB_val value;
    if (!keep_error(store, mdb_cursor_get(*cursor, key, &value, op)))
        return false;
    *ret_item = (struct store_item){key->mv_data, key->mv_size, value.mv_data, value.mv_size};
    return true;
}

bool store_seek(struct store *store, enum store_table table, const struct store_key *from, struct store_item *ret_item)
{
    MDB_val key = {from->size, (void *)(uintptr_t)from->bytes};
    return move(store, table, &key, from->size ? MDB_SET_RANGE : MDB_FIRST, ret_item);
}

bool store_last(struct store *store, enum store_table table, struct store_item *ret_item)
{
    MDB_val key = {0};
    return move(store, table, &key, MDB_LAST, ret_item);
}

static void put(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                size_t size, unsigned flags)
{
    if (store->error)
        return;
    MDB_val k = {key->size, (void *)(uintptr_t)key->bytes}, v = {size, (void *)(uintptr_t)value};
    keep_error(store, mdb_put(store->txn, store->tables[table], &k, &v, flags));
    store->batch.puts++;
    store->batch.bytes += key->size + size;
}

void store_put(struct store *store, enum store_table table, const struct store_key *key, const void *value, size_t size)
{
    put(store, table, key, value, size, 0);
}

void store_append(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    put(store, table, key, value, size, MDB_APPEND);
}

void store_delete(struct store *store, enum store_table table, const struct store_key *key)
{
    if (store->error)
        return;
    MDB_val k = {key->size, (void *)(uintptr_t)key->bytes};
    keep_error(store, mdb_del(store->txn, store->tables[table], &k, NULL));
    store->batch.deletes++;
    store->batch.bytes += key->size;
}

int store_batch_error(const struct store *store)
{
    return translate(store->error);
}

void store_abort(struct store *store)
{
    if (store->txn)
        mdb_txn_abort(store->txn);
    store->txn = NULL;
}

/* Only between batches. */
static int grow(struct store *store)
{
    const uint64_t step = store->map_bytes < MAP_STEP_MAX ? store->map_bytes : MAP_STEP_MAX;
    if (store->map_bytes >= store->map_max_bytes)
        return MDB_MAP_FULL;
    const uint64_t wanted = store->map_max_bytes - store->map_bytes < step ? store->map_max_bytes
                                                                           : store->map_bytes + step;
    crash_point(CRASH_GROWING);
    const int rc = remap(store, wanted);
    crash_point(CRASH_GROWN);
    return rc;
}

int store_commit(struct store *store)
{
    assert(store->txn);
    int rc = store->error;
    const bool written = rc == 0;
    if (written)
        rc = mdb_txn_commit(store->txn);
    else
        mdb_txn_abort(store->txn);
    store->txn = NULL;
    if (rc == MDB_MAP_FULL) {
        rc = grow(store);
        if (rc == 0)
            return STORE_GROWN;
    }
    if (rc) {
        const int r = failed(store, "the store cannot write", rc);
        /* What a failed flush left in memory is not to be trusted: look again at what is on disk. Now, for the readers.
         */
        if (written && store->env && rc != MDB_MAP_FULL)
            reopen(store);
        return r;
    }
    atomic_fetch_add(&store->puts, store->batch.puts);
    atomic_fetch_add(&store->deletes, store->batch.deletes);
    atomic_fetch_add(&store->bytes, store->batch.bytes);
    note_map(store);
    return 0;
}

const char *store_failure(const struct store *store)
{
    return store->failure;
}

/* ---- Reading ---- */

static int begin_reading(struct store *store, MDB_txn **ret_txn)
{
    if (!store->env)
        return EIO;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, ret_txn);
    if (rc == MDB_READERS_FULL) {
        int dead = 0; /* slots of readers that were killed */
        mdb_reader_check(store->env, &dead);
        if (dead > 0)
            rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, ret_txn);
    }
    return rc;
}

int store_read_begin(struct store *store, struct store_read *ret_read)
{
    MDB_txn *txn = NULL;
    pthread_rwlock_rdlock(&store->readers);
    int rc = begin_reading(store, &txn);
    if (rc == MDB_MAP_RESIZED) {
        /* Another process, which has the store open for writing, made the map larger. */
        pthread_rwlock_unlock(&store->readers);
        remap(store, 0);
        pthread_rwlock_rdlock(&store->readers);
        rc = begin_reading(store, &txn);
    }
    if (rc) {
        pthread_rwlock_unlock(&store->readers);
        return translate(rc);
    }
    *ret_read = (struct store_read){.store = store, .txn = txn};
    return 0;
}

void store_read_end(struct store_read *read)
{
    mdb_txn_abort(read->txn);
    read->txn = NULL;
    pthread_rwlock_unlock(&read->store->readers);
}

static bool keep_read_error(struct store_read *read, int rc)
{
    if (rc && rc != MDB_NOTFOUND && read->error == 0)
        read->error = translate(rc);
    return rc == 0;
}

bool store_read_get(struct store_read *read, enum store_table table, const struct store_key *key,
                    struct reeve_str *ret_value)
{
    MDB_val k = {key->size, (void *)(uintptr_t)key->bytes}, v;
    if (read->store->tables[table] == NO_TABLE)
        return false;
    if (!keep_read_error(read, mdb_get(read->txn, read->store->tables[table], &k, &v)))
        return false;
    *ret_value = (struct reeve_str){v.mv_data, v.mv_size};
    return true;
}

/* Place a cursor on the first item to visit. */
static int place(MDB_cursor *cursor, const struct store_key *from, bool backwards, MDB_val *key, MDB_val *value)
{
    *key = (MDB_val){from->size, (void *)(uintptr_t)from->bytes};
    if (!backwards)
        return mdb_cursor_get(cursor, key, value, from->size ? MDB_SET_RANGE : MDB_FIRST);
    if (from->size == 0)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    const int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    return rc ? rc : mdb_cursor_get(cursor, key, value, MDB_PREV);
}

void store_read_each(struct store_read *read, enum store_table table, const struct store_key *from, bool backwards,
                     store_visit visit, void *arg)
{
    MDB_cursor *cursor;
    if (read->store->tables[table] == NO_TABLE)
        return;
    if (!keep_read_error(read, mdb_cursor_open(read->txn, read->store->tables[table], &cursor)))
        return;
    MDB_val key, value;
    int rc = place(cursor, from, backwards, &key, &value);
    while (keep_read_error(read, rc)) {
        if (!visit(arg, &(struct store_item){key.mv_data, key.mv_size, value.mv_data, value.mv_size}))
            break;
        rc = mdb_cursor_get(cursor, &key, &value, backwards ? MDB_PREV : MDB_NEXT);
    }
    mdb_cursor_close(cursor);
}

static bool take_first(void *arg, const struct store_item *item)
{
    *(struct store_item *)arg = *item;
    return false;
}

bool store_read_last(struct store_read *read, enum store_table table, struct store_item *ret_item)
{
    struct store_item item = {0};
    store_read_each(read, table, &(struct store_key){0}, true, take_first, &item);
    if (!item.key)
        return false;
    *ret_item = item;
    return true;
}

uint64_t store_read_count(struct store_read *read, enum store_table table)
{
    MDB_stat stat;
    if (read->store->tables[table] == NO_TABLE)
        return 0;
    return keep_read_error(read, mdb_stat(read->txn, read->store->tables[table], &stat)) ? stat.ms_entries : 0;
}
