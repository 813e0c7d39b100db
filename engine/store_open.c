/* Opening and closing the store: its directory, its database, and what the journal has that the database has not. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_lock.h"
#include "error.h"
#include "store_state.h"

#define LOOK_AGAIN_MS 10000 /* at a store that changes meanwhile */
#define CHANGE_HEAD_SIZE 8
#define LOCK_PATIENCE_MS 1000 /* with what is left of an owner that was killed */

/* For what who opens it leaves 0. */
static const struct reeve_limits presets = {
#define OPTION(c_name, flag, preset, min, max, unit, text) .c_name = preset,
#include "options.def"
};

static int fail(struct reeve_error *ret_error, int error, const char *what, const char *path)
{
    const enum reeve_error_code code = error == ENOMEM ? REEVE_ERROR_NO_MEMORY : REEVE_ERROR_STORE_ACCESS;
    return error_set(ret_error, code, NULL, "%s %s: %s", what, path, strerror(error));
}

/* ---- The directory ---- */

static int make_directory(const struct store *store, struct reeve_error *ret_error)
{
    if (mkdir(store->directory, 0700) != 0 && errno != EEXIST)
        return fail(ret_error, errno, "cannot make the data directory", store->directory);
    return 0;
}

/* One engine for a directory: a lock that ends with the process, however it ends. */
static int lock_directory(struct store *store, struct reeve_error *ret_error)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/reeve.lock", store->directory);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0)
        return fail(ret_error, errno, "cannot open", path);
    char text[32] = "";
    if (pread(store->lock_fd, text, sizeof text - 1, 0) > 0)
        text[strcspn(text, "\n")] = '\0';
    const pid_t owner = (pid_t)strtol(text, NULL, 10);
    if (file_lock(store->lock_fd, owner > 0 && kill(owner, 0) != 0 && errno == ESRCH ? LOCK_PATIENCE_MS : 0) != 0) {
        return error_set(ret_error, REEVE_ERROR_STORE_LOCKED, NULL, "%s is open in another engine (process %s)",
                         store->directory, text[0] ? text : "unknown");
    }
    const int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(store->lock_fd, 0) != 0 || pwrite(store->lock_fd, text, (size_t)size, 0) != size)
        return fail(ret_error, errno, "cannot write", path);
    return 0;
}

/* Has an engine of any process this directory open? */
static bool is_in_use(const struct store *store)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/reeve.lock", store->directory);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool is_locked = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return is_locked;
}

/* LMDB must not have one environment open twice in a process: closing the one would free the other's reader slots. */
static int refuse_own_directory(const struct store *store, struct reeve_error *ret_error)
{
    char path[4200], text[32] = "";
    snprintf(path, sizeof path, "%s/reeve.lock", store->directory);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* no engine was ever here: a snapshot */
    const bool is_own = pread(fd, text, sizeof text - 1, 0) > 0 && strtol(text, NULL, 10) == (long)getpid();
    close(fd);
    if (!is_own || !is_in_use(store))
        return 0;
    return error_set(ret_error, REEVE_ERROR_STORE_LOCKED, NULL,
                     "%s is open in an engine of this process: reeve_check_engine() checks that", store->directory);
}

/* ---- What the journal has ---- */

/* One change of a batch, as encode_change() in store.c wrote it; false where it is none. */
static bool replay_change(struct store *store, uint64_t sequence, const uint8_t **at, const uint8_t *end,
                          int *ret_error)
{
    const uint8_t *head = *at;
    if (end - head < CHANGE_HEAD_SIZE)
        return false;
    const size_t key_size = head[2];
    const uint32_t size = head[4] | (uint32_t)head[5] << 8 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 24;
    const uint8_t *key = head + CHANGE_HEAD_SIZE;
    if (head[0] >= TABLE_COUNT || head[1] > 1 || key_size == 0 || key_size > STORE_KEY_SIZE_MAX ||
        (uint64_t)(end - key) < key_size + size)
        return false;
    if (!memtable_load(store->active, head[0], key, key_size, sequence, key + key_size, size, head[1] != 0))
        *ret_error = -REEVE_ERROR_NO_MEMORY;
    *at = key + key_size + size;
    return true;
}

static int replay_batch(void *arg, const struct journal_position *position, const void *payload, size_t size)
{
    struct store *store = arg;
    const uint8_t *at = payload, *end = at + size;
    int error = 0;
    while (at < end && error == 0) {
        if (!replay_change(store, position->sequence, &at, end, &error))
            return -REEVE_ERROR_STORE_DAMAGED;
    }
    store->position = *position;
    return error;
}

static void tell(void *arg)
{
    struct store *store = arg;
    pthread_mutex_lock(&store->lock);
    if (store->on_settled)
        store->on_settled(store->on_settled_arg);
    pthread_mutex_unlock(&store->lock);
}

static int open_journal(struct store *store, const struct store_options *options, const struct journal_record *record,
                        struct reeve_error *ret_error)
{
    const struct journal_options journal = {
        .directory = store->directory,
        .store_id = record->store_id,
        .segment_bytes = options->journal_segment_bytes ? options->journal_segment_bytes
                                                        : presets.journal_segment_bytes,
        .max_bytes = store->journal_max_bytes,
        .after = record->position,
        .segments_expected = record->closed ? 0 : record->segments,
        .read_only = store->read_only,
        .threaded = !store->single_threaded,
        .on_settled = tell,
        .arg = store,
    };
    store->position = record->position;
    const int r = journal_open(&journal, replay_batch, store, &store->journal, ret_error);
    return r == 0 && !memtable_order(store->active) ? error_plain(ret_error, -REEVE_ERROR_NO_MEMORY) : r;
}

/* ---- For writing ---- */

static int cannot_open(const struct store *store, int code, struct reeve_error *ret_error)
{
    const char *why = code == -REEVE_ERROR_STORE_DAMAGED ? "what it says about its journal is damaged"
                                                         : reeve_error_text(code);
    return error_set(ret_error, (enum reeve_error_code) - code, NULL, "cannot open the store in %s: %s",
                     store->directory, why);
}

static int read_record(struct store *store, struct journal_record *ret_record, bool *ret_exists,
                       struct reeve_error *ret_error)
{
    struct database_read read;
    int r = database_read_begin(store->database, &read);
    if (r == 0) {
        r = journal_record_read(&read, ret_record, ret_exists);
        database_read_end(&read);
    }
    return r < 0 ? cannot_open(store, r, ret_error) : 0;
}

static int write_record(struct store *store, const struct journal_record *record, struct reeve_error *ret_error)
{
    const int r = journal_record_write(store->database, record);
    if (r < 0)
        return error_set(ret_error, (enum reeve_error_code) - r, NULL, "cannot open the store in %s: %s",
                         store->directory, database_failure(store->database));
    return 0;
}

/* The database says whose journal it is before there is one, and how many files before anything is in them. */
static int open_both(struct store *store, const struct store_options *options, struct reeve_error *ret_error)
{
    struct journal_record record = {0};
    struct journal_stats journal;
    bool exists;
    int r = read_record(store, &record, &exists, ret_error);
    if (r == 0 && !exists) {
        randombytes_buf(&record.store_id, sizeof record.store_id);
        r = write_record(store, &record, ret_error);
    }
    if (r == 0)
        r = open_journal(store, options, &record, ret_error);
    if (r < 0)
        return r;
    store->id = record.store_id;
    store->durable = store->position.sequence;
    store->checkpoint_sequence = record.position.sequence;
    journal_get_stats(store->journal, &journal);
    if (!record.closed && record.segments == journal.segments)
        return 0;
    record.closed = false;
    record.segments = journal.segments;
    return write_record(store, &record, ret_error);
}

static int open_for_writing(struct store *store, const struct store_options *options,
                            const struct database_options *database, struct reeve_error *ret_error)
{
    if (sodium_init() < 0)
        return error_set(ret_error, REEVE_ERROR_INTERNAL, NULL, "the random source of the system does not work");
    int r = make_directory(store, ret_error);
    if (r == 0)
        r = lock_directory(store, ret_error);
    if (r == 0)
        r = database_open(database, &store->database, ret_error);
    if (r == 0)
        r = open_both(store, options, ret_error);
    if (r < 0)
        return r;
    if (store->position.sequence > store->checkpoint_sequence && !store_freeze(store))
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    if (!store->single_threaded && checkpoint_start(store) < 0)
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    return 0;
}

/* ---- For reading ---- */

/* What another process goes on writing is looked at as of one moment of its database, which is kept; what the journal
 * had behind that moment may be gone meanwhile. */
static int look(struct store *store, const struct store_options *options, struct reeve_error *ret_error)
{
    struct journal_record record;
    bool exists;
    int r = database_read_begin(store->database, &store->view.database);
    if (r < 0)
        return cannot_open(store, r, ret_error);
    r = journal_record_read(&store->view.database, &record, &exists);
    if (r < 0)
        r = cannot_open(store, r, ret_error);
    else if (exists)
        r = open_journal(store, options, &record, ret_error);
    if (r < 0)
        database_read_end(&store->view.database);
    return r;
}

static int open_for_reading(struct store *store, const struct store_options *options,
                            const struct database_options *database, struct reeve_error *ret_error)
{
    int r = refuse_own_directory(store, ret_error);
    if (r == 0)
        r = database_open(database, &store->database, ret_error);
    if (r < 0)
        return r;
    const uint64_t until_ns = clock_mono_ns() + LOOK_AGAIN_MS * UINT64_C(1000000);
    /* What is in use may change in every look; what is not does not. */
    while ((r = look(store, options, ret_error)) == -REEVE_ERROR_STORE_DAMAGED && is_in_use(store) &&
           clock_mono_ns() < until_ns) {
        memtable_free(store->active);
        store->active = memtable_new(store->table_max_bytes / 2);
        if (!store->active)
            return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    }
    if (r < 0)
        return r;
    store->holds_moment = true;
    store->durable = store->position.sequence;
    return 0;
}

/* ---- Both ---- */

static struct store *new_store(const struct store_options *options)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    store->lock_fd = -1;
    store->read_only = options->read_only;
    store->single_threaded = options->single_threaded || options->read_only;
    store->table_max_bytes = options->table_max_bytes ? options->table_max_bytes : presets.table_max_bytes;
    store->journal_max_bytes = options->journal_max_bytes ? options->journal_max_bytes : presets.journal_max_bytes;
    store->checkpoint_ms = options->checkpoint_ms ? options->checkpoint_ms : presets.checkpoint_ms;
    store->on_settled = options->on_settled;
    store->on_settled_arg = options->arg;
    store->directory = strdup(options->directory);
    store->active = memtable_new(store->table_max_bytes / 2);
    store->touched.item_size = sizeof(struct memtable_node *);
    reclaim_init(&store->reclaim);
    return store;
}

static void free_store(struct store *store)
{
    checkpoint_stop(store);
    journal_close(store->journal);
    if (store->holds_moment)
        database_read_end(&store->view.database);
    database_close(store->database);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    memtable_free(store->active);
    memtable_free(store->frozen);
    memtable_free(store->spare);
    assert(!store->retired && !store->reads_first);
    fifo_deinit(&store->touched);
    reclaim_deinit(&store->reclaim);
    buffer_deinit(&store->payload);
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->changed);
    free(store->directory);
    free(store);
}

int store_open(const struct store_options *options, struct store **ret_store, struct reeve_error *ret_error)
{
    *ret_store = NULL;
    struct store *store = new_store(options);
    if (!store)
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    const struct database_options database = {
        .directory = store->directory,
        .map_initial_bytes = options->map_initial_bytes ? options->map_initial_bytes : presets.map_initial_bytes,
        .map_max_bytes = options->map_max_bytes ? options->map_max_bytes : UINT64_MAX,
        .read_only = options->read_only,
    };
    int r = store->directory && store->active ? 0 : error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    if (r == 0)
        r = options->read_only ? open_for_reading(store, options, &database, ret_error)
                               : open_for_writing(store, options, &database, ret_error);
    if (r < 0) {
        free_store(store);
        return r;
    }
    *ret_store = store;
    return 0;
}

void store_abandon(struct store *store)
{
    if (store)
        free_store(store);
}

/* Once the database has everything, the journal's files may be lost: nothing that is in them follows any more. */
static void close_record(struct store *store)
{
    struct journal_record record = {.store_id = store->id, .position = store->position, .closed = true};
    randombytes_buf(&record.position.chain, sizeof record.position.chain);
    journal_record_write(store->database, &record);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    if (!store->read_only) {
        pthread_mutex_lock(&store->lock);
        store->closing = true;
        pthread_mutex_unlock(&store->lock);
        const int r = store_checkpoint(store);
        checkpoint_stop(store);
        if (r == 0 && !store->recovering)
            close_record(store);
    }
    free_store(store);
}

void store_get_stats(struct store *store, struct store_stats *ret_stats)
{
    struct journal_stats journal = {0};
    pthread_mutex_lock(&store->lock);
    *ret_stats = store->stats;
    ret_stats->checkpoint_failing = store->checkpoint_failure[0] != '\0';
    ret_stats->checkpoint_lag = store->durable - store->checkpoint_sequence;
    ret_stats->table_bytes = atomic_load(&store->active->bytes);
    if (store->frozen)
        ret_stats->table_bytes += atomic_load(&store->frozen->bytes);
    pthread_mutex_unlock(&store->lock);
    if (store->journal)
        journal_get_stats(store->journal, &journal);
    ret_stats->journal_bytes = journal.bytes;
    ret_stats->flushes = journal.flushes;
    ret_stats->flush_ns = journal.flush_ns;
    ret_stats->journal_held_bytes = journal.held_bytes;
    ret_stats->journal_file_bytes = journal.file_bytes;
    database_get_size(store->database, &ret_stats->map_bytes, &ret_stats->map_used_bytes);
}
