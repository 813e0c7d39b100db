/* The database follows the journal: a frozen table is written in transactions that are durable one after the other, the
 * last of which says how far the database has come; then the journal may forget. Several changes of one key have become
 * one by then. On a thread of its own, or, in a store without threads, where the engine's thread asks for it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "error.h"
#include "store_state.h"

#define RETRY_MS 500
#define PAGE_BYTES 4096
/* What a transaction of a checkpoint takes, so that the journal's flushes do not wait long behind its own: more where
 * the disk is done sooner, since keys that lie together share pages. */
#define PART_PAGES_MIN 32
#define PART_PAGES_OF_SMALL 16 /* which takes several, too */
#define SMALL_TABLE_BYTES (UINT64_C(4) << 20)
#define PART_PAGES_PRESSED 512
#define PART_PAGES_MAX 2048
#define PART_PAGES_HURRIED 16384 /* 64 MiB of memory while it is made; smaller ones cost the disk and LMDB more */
#define PART_NS UINT64_C(500000)
#define RECORD_KEY "journal"
#define RECORD_SIZE (16 + 8 + 8 + 8 + 1)

/* ---- What the database says about the journal ---- */

void journal_record_put(struct database *database, const struct journal_record *record)
{
    uint8_t bytes[RECORD_SIZE];
    memcpy(bytes, &record->store_id, 16);
    put_be64(bytes + 16, record->position.sequence);
    put_be64(bytes + 24, record->position.chain);
    put_be64(bytes + 32, record->segments);
    bytes[40] = record->closed;
    database_put(database, TABLE_META, RECORD_KEY, sizeof RECORD_KEY - 1, bytes, sizeof bytes);
}

int journal_record_read(struct database_read *read, struct journal_record *ret_record, bool *ret_exists)
{
    struct reeve_str value;
    *ret_exists = database_get(read, TABLE_META, RECORD_KEY, sizeof RECORD_KEY - 1, &value);
    if (!*ret_exists)
        return read->error;
    if (value.size != RECORD_SIZE)
        return -REEVE_ERROR_STORE_DAMAGED;
    const uint8_t *bytes = (const uint8_t *)value.data;
    *ret_record = (struct journal_record){.position = {get_be64(bytes + 16), (uint32_t)get_be64(bytes + 24)},
                                          .segments = (unsigned)get_be64(bytes + 32),
                                          .closed = bytes[40] != 0};
    memcpy(&ret_record->store_id, bytes, 16);
    return 0;
}

int journal_record_write(struct database *database, const struct journal_record *record)
{
    int r;
    do {
        r = database_write_begin(database);
        if (r < 0)
            return r;
        journal_record_put(database, record);
        r = database_commit(database);
    } while (r == DATABASE_GROWN);
    return r;
}

/* ---- Writing a table ---- */

/* How far a table is written: `next` is the first node of its own table that is not; NULL: none of it is. */
struct progress {
    enum store_table table;
    struct memtable_node *next;
    uint64_t puts;
    uint64_t commit_ns; /* of the part that was written last */
};

static bool is_complete(const struct progress *progress)
{
    return progress->table == TABLE_COUNT;
}

/* The newest version up to a batch; returns about how many pages that takes. What came and went above the database is
 * not its business. */
static uint64_t write_node(struct database *database, const struct memtable_node *node, uint64_t sequence)
{
    const struct memtable_version *version = memtable_at(node, sequence);
    if (!version || (version->gone && node->fresh))
        return 0;
    if (version->gone)
        database_delete(database, node->table, memtable_key(node), node->key_size);
    else
        database_put(database, node->table, memtable_key(node), node->key_size, version->bytes, version->size);
    return 1 + version->size / PAGE_BYTES;
}

/* In the order of the keys, from where it was left and until so many pages are reached. */
static void write_nodes(struct database *database, const struct memtable *memtable, uint64_t sequence, uint64_t pages,
                        struct progress *progress)
{
    uint64_t written = 0;
    for (; !is_complete(progress); progress->table++) {
        struct memtable_node *node = progress->next ? progress->next : memtable_first(memtable, progress->table);
        for (; node && written < pages; node = memtable_next(node)) {
            const uint64_t took = write_node(database, node, sequence);
            written += took;
            progress->puts += took > 0;
        }
        progress->next = node;
        if (node)
            return;
    }
}

/* One transaction. The last one says how far the database has come. */
static int write_part(struct database *database, const struct memtable *table, const struct journal_record *record,
                      uint64_t pages, struct progress *progress)
{
    const struct progress begun = *progress;
    int r;
    do {
        *progress = begun;
        r = database_write_begin(database);
        if (r < 0)
            return r;
        write_nodes(database, table, record->position.sequence, pages, progress);
        if (is_complete(progress)) {
            journal_record_put(database, record);
            crash_point(CRASH_CHECKPOINT_WRITTEN);
        }
        const uint64_t begun_ns = clock_mono_ns();
        r = is_complete(progress) ? database_commit(database) : database_commit_part(database);
        progress->commit_ns = clock_mono_ns() - begun_ns;
    } while (r == DATABASE_GROWN);
    return r;
}

static uint64_t least_part(const struct store *store)
{
    return store->table_max_bytes < SMALL_TABLE_BYTES ? PART_PAGES_OF_SMALL : PART_PAGES_MIN;
}

/* By what the part before took. Without threads nobody waits, and what is done does not depend on time. */
static void adapt_part(struct store *store, uint64_t commit_ns)
{
    if (store->single_threaded)
        return;
    if (commit_ns < PART_NS / 2 && store->part_pages < PART_PAGES_MAX)
        store->part_pages *= 2;
    else if (commit_ns > PART_NS && store->part_pages > least_part(store))
        store->part_pages /= 2;
}

/* How full the table is that fills meanwhile, in eighths. */
static unsigned eighths_filled(const struct store *store)
{
    return (unsigned)(atomic_load(&store->active->bytes) * 16 / store->table_max_bytes);
}

/* Small parts spare the journal's flushes, large ones the disk. The fuller the next table, the larger they are, since
 * writers wait when it is full; where that was close the last time all are as large as is of use.
 * Who copies the database must not find a part of what came after the moment that is copied: what begins meanwhile is
 * whole. What has begun before is of that moment, and the copy takes it from the table. */
static uint64_t pages_of_part(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    const unsigned filled = eighths_filled(store);
    const bool is_copied = store->copies > 0;
    const bool hurried = filled >= 4 || store->hurried || store->closing;
    pthread_mutex_unlock(&store->lock);
    if (is_copied)
        return UINT64_MAX;
    if (hurried)
        return PART_PAGES_HURRIED;
    return filled >= 3 && store->part_pages < PART_PAGES_PRESSED ? PART_PAGES_PRESSED : store->part_pages;
}

/* What the engine's thread will soon need and would have to wait for. */
static void prepare(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    const bool wants_file = store->wants_file, wants_table = store->wants_table && !store->spare;
    store->wants_file = false;
    store->wants_table = wants_table;
    pthread_mutex_unlock(&store->lock);
    if (wants_file)
        journal_prepare(store->journal);
    if (!wants_table)
        return;
    struct memtable *table = memtable_new(store->table_max_bytes / 2);
    if (table && !memtable_populate(table)) {
        memtable_free(table);
        table = NULL;
    }
    pthread_mutex_lock(&store->lock);
    store->wants_table = false;
    if (!store->spare) {
        store->spare = table;
        table = NULL;
    }
    pthread_mutex_unlock(&store->lock);
    memtable_free(table);
}

/* A part hides behind the table that it is of, and whoever opens the store after a crash has that table again, because
 * the database does not say that it has it. */
static int write_checkpoint(struct store *store, const struct memtable *table, const struct journal_record *record,
                            struct progress *ret_progress)
{
    *ret_progress = (struct progress){0};
    if (!store->part_pages)
        store->part_pages = least_part(store);
    crash_point(CRASH_CHECKPOINT_BEGUN);
    for (;;) {
        const int r = write_part(store->database, table, record, pages_of_part(store), ret_progress);
        if (r < 0)
            return r;
        if (is_complete(ret_progress))
            break;
        crash_point(CRASH_CHECKPOINT_PARTLY);
        adapt_part(store, ret_progress->commit_ns);
        prepare(store);
    }
    crash_point(CRASH_CHECKPOINT_DURABLE);
    return 0;
}

bool checkpoint_is_due(const struct store *store)
{
    return store->frozen && !store->checkpointing && store->frozen->last_sequence <= store->durable;
}

/* The frozen table is in the database: its place is free. */
static void finish(struct store *store, struct memtable *table)
{
    struct memtable *tables[2] = {table, NULL};
    store->frozen = NULL;
    store->checkpoint_sequence = table->last_sequence;
    table->next = store->retired;
    store->retired = table;
    table->readers++;
    store_unpin(store, tables);
}

int checkpoint_make(struct store *store)
{
    struct memtable *table = store->frozen;
    if (!checkpoint_is_due(store))
        return 0;
    struct journal_stats journal;
    struct progress progress;
    store->checkpointing = true;
    pthread_mutex_unlock(&store->lock);
    journal_get_stats(store->journal, &journal);
    const uint64_t begun_ns = clock_mono_ns();
    const struct journal_record record = {
        .store_id = store->id, .position = {table->last_sequence, table->last_chain}, .segments = journal.segments};
    const int r = write_checkpoint(store, table, &record, &progress);
    pthread_mutex_lock(&store->lock);
    store->checkpointing = false;
    if (r < 0) {
        store->stats.checkpoint_failures++;
        snprintf(store->checkpoint_failure, sizeof store->checkpoint_failure, "%s", database_failure(store->database));
    } else {
        store->stats.checkpoints++;
        store->stats.checkpoint_puts += progress.puts;
        store->stats.checkpoint_ns += clock_mono_ns() - begun_ns;
        store->checkpoint_failure[0] = '\0';
        store->hurried = eighths_filled(store) >= (store->hurried ? 3 : 5); /* one that hurries is done sooner */
        finish(store, table);
        journal_release(store->journal, record.position.sequence);
        crash_point(CRASH_CHECKPOINT_RELEASED);
    }
    pthread_cond_broadcast(&store->changed);
    return r;
}

/* ---- The thread ---- */

/* Until something has changed; after a failure not for long. */
static void wait_for_work(struct store *store)
{
    struct timespec until;
    if (!store->checkpoint_failure[0]) {
        pthread_cond_wait(&store->changed, &store->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += RETRY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!store->stopping && pthread_cond_timedwait(&store->changed, &store->lock, &until) == 0)
        ;
}

static void *run_thread(void *arg)
{
    struct store *store = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* signals are the host's */
    pthread_setname_np(pthread_self(), "reeve-checkpt");
    pthread_mutex_lock(&store->lock);
    while (!store->stopping) {
        const bool is_due = checkpoint_is_due(store);
        if (!is_due && !store->wants_file && !store->wants_table) {
            pthread_cond_wait(&store->changed, &store->lock);
            continue;
        }
        const int r = is_due ? checkpoint_make(store) : 0;
        if (is_due && store->on_settled)
            store->on_settled(store->on_settled_arg);
        store->wants_file |= is_due; /* there may have been no room for one before */
        pthread_mutex_unlock(&store->lock);
        prepare(store);
        pthread_mutex_lock(&store->lock);
        if (r < 0 && !store->stopping)
            wait_for_work(store);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

int checkpoint_start(struct store *store)
{
    store->stopping = false;
    if (pthread_create(&store->thread, NULL, run_thread, store) != 0)
        return -REEVE_ERROR_NO_MEMORY;
    store->has_thread = true;
    return 0;
}

void checkpoint_stop(struct store *store)
{
    if (!store->has_thread)
        return;
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
    pthread_join(store->thread, NULL);
    store->has_thread = false;
}

/* ---- Snapshots ---- */

static int copy_failed(struct reeve_error *ret_error, int code, const char *directory, const char *why)
{
    return error_set(ret_error, (enum reeve_error_code) - code, NULL, "cannot copy the store to %s: %s", directory,
                     why);
}

/* What is above the database, into the copy of it; unless a checkpoint has been there first. */
static int complete_copy(struct database *copy, struct store_view *view)
{
    struct database_read read;
    struct journal_record record = {0};
    bool exists;
    int r = database_read_begin(copy, &read);
    if (r < 0)
        return r;
    r = journal_record_read(&read, &record, &exists);
    database_read_end(&read);
    do {
        if (r >= 0)
            r = database_write_begin(copy);
        if (r < 0)
            return r;
        for (int i = 2; i-- > 0;) {
            struct progress progress = {0};
            if (view->tables[i] && record.position.sequence < view->sequence)
                write_nodes(copy, view->tables[i], view->sequence, UINT64_MAX, &progress);
        }
        database_delete(copy, TABLE_META, RECORD_KEY, sizeof RECORD_KEY - 1);
        r = database_commit(copy);
    } while (r == DATABASE_GROWN);
    return r;
}

static int make_copy(struct store *store, struct store_view *view, const char *directory, struct reeve_error *ret_error)
{
    struct database *copy;
    uint64_t map_bytes, used_bytes;
    int r = database_copy(store->database, directory, ret_error);
    if (r < 0)
        return r;
    crash_point(CRASH_SNAPSHOT_COPIED);
    database_get_size(store->database, &map_bytes, &used_bytes);
    const struct database_options options = {
        .directory = directory, .map_initial_bytes = map_bytes, .map_max_bytes = UINT64_MAX};
    r = database_open(&options, &copy, ret_error);
    if (r < 0)
        return r;
    r = complete_copy(copy, view);
    if (r < 0)
        copy_failed(ret_error, r, directory, database_failure(copy));
    database_close(copy);
    return r;
}

static void note_copies(struct store *store, int more)
{
    pthread_mutex_lock(&store->lock);
    store->copies += more;
    pthread_mutex_unlock(&store->lock);
}

static void remove_file(const char *directory, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
}

int store_copy(struct store *store, const char *directory, struct reeve_error *ret_error)
{
    struct store_read read;
    if (mkdir(directory, 0700) != 0)
        return copy_failed(ret_error, errno == ENOMEM ? -REEVE_ERROR_NO_MEMORY : -REEVE_ERROR_STORE_ACCESS, directory,
                           strerror(errno));
    crash_point(CRASH_SNAPSHOT_BEGUN);
    note_copies(store, 1);
    int r = store_read_begin(store, &read);
    if (r < 0) {
        copy_failed(ret_error, r, directory, "the store cannot be read");
    } else {
        /* The tables are what must stay. The moment of the database is not needed, and would keep its map from growing.
         */
        database_read_end(&read.view.database);
        r = make_copy(store, &read.view, directory, ret_error);
        store_read_forget(&read);
    }
    note_copies(store, -1);
    remove_file(directory, "lock.mdb");
    crash_point(CRASH_SNAPSHOT_MADE);
    if (r < 0) {
        remove_file(directory, "data.mdb");
        rmdir(directory);
    }
    return r;
}
