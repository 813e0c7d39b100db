#include "store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "error.h"
#include "store_state.h"

enum { CHANGE_GONE = 1 };

static int fail_with(struct store *store, int code, const char *text)
{
    snprintf(store->failure, sizeof store->failure, "%s", text);
    return code;
}

/* From any thread: the lock is held while somebody is told. */
void store_mute(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    store->on_settled = NULL;
    pthread_mutex_unlock(&store->lock);
}

/* ---- Room, and what moves on to the database ---- */

bool store_freeze(struct store *store)
{
    struct memtable *fresh = store->spare;
    assert(!store->frozen);
    if (!fresh)
        fresh = memtable_new(store->table_max_bytes / 2);
    if (!fresh)
        return false;
    store->spare = NULL;
    store->active->last_sequence = store->position.sequence;
    store->active->last_chain = store->position.chain;
    store->frozen = store->active;
    store->active = fresh;
    store->active_since_ms = 0;
    reclaim_forget(&store->reclaim);
    pthread_cond_broadcast(&store->changed);
    return true;
}

static bool is_empty(const struct memtable *table)
{
    return atomic_load_explicit(&table->bytes, memory_order_relaxed) == 0;
}

/* What would take a while to make is made ahead by the thread of checkpoints. A table that is frozen will be the next
 * one. */
static void look_ahead(struct store *store, const struct journal_stats *journal)
{
    const bool wants_table = !store->spare && !store->frozen && !store->wants_table &&
                             atomic_load(&store->active->bytes) >= store->table_max_bytes / 8;
    const bool wants_file = journal->wants_file && !store->wants_file;
    if (!store->has_thread || (!wants_table && !wants_file))
        return;
    store->wants_table |= wants_table;
    store->wants_file |= wants_file;
    pthread_cond_broadcast(&store->changed);
}

/* Under the lock, between batches. */
static void freeze_when_due(struct store *store, const struct journal_stats *journal)
{
    if (store->frozen || is_empty(store->active))
        return;
    const bool is_old = !store->single_threaded && store->active_since_ms &&
                        clock_mono_ns() / 1000000 - store->active_since_ms >= store->checkpoint_ms;
    if (is_old || atomic_load(&store->active->bytes) >= store->table_max_bytes / 2 ||
        journal->held_bytes >= journal->max_bytes / 2 || journal->starved)
        store_freeze(store);
}

/* Under the lock. */
static int room(struct store *store)
{
    struct journal_stats journal;
    journal_get_stats(store->journal, &journal);
    look_ahead(store, &journal);
    freeze_when_due(store, &journal);
    const bool full = store->frozen && atomic_load(&store->active->bytes) >= store->table_max_bytes / 2;
    if (!full && journal.held_bytes < journal.max_bytes)
        return STORE_ROOM;
    return store->checkpoint_failure[0] ? -REEVE_ERROR_UNAVAILABLE : STORE_WAIT;
}

int store_room(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    const int r = room(store);
    pthread_mutex_unlock(&store->lock);
    return r;
}

/* Batches that are not durable keep a frozen table where it is: they have to be settled meanwhile. */
static int wait_for_room(struct store *store)
{
    uint64_t sequence;
    int r;
    pthread_mutex_lock(&store->lock);
    while ((r = room(store)) == STORE_WAIT) {
        if (store->single_threaded) {
            pthread_mutex_unlock(&store->lock);
            journal_wait(store->journal);
            store_settle(store, &sequence);
            pthread_mutex_lock(&store->lock);
            checkpoint_make(store);
        } else if (store->sealed_count) {
            pthread_mutex_unlock(&store->lock);
            journal_wait(store->journal);
            store_settle(store, &sequence);
            pthread_mutex_lock(&store->lock);
        } else {
            pthread_cond_wait(&store->changed, &store->lock);
        }
    }
    if (store->single_threaded && checkpoint_is_due(store) && checkpoint_make(store) == 0 && r < 0)
        r = room(store); /* of what had failed before */
    if (r < 0)
        fail_with(store, r, store->checkpoint_failure);
    pthread_mutex_unlock(&store->lock);
    return r;
}

void store_checkpoint_failure(struct store *store, char ret_text[256])
{
    pthread_mutex_lock(&store->lock);
    memcpy(ret_text, store->checkpoint_failure, sizeof store->checkpoint_failure);
    pthread_mutex_unlock(&store->lock);
}

int store_checkpoint(struct store *store)
{
    uint64_t sequence;
    assert(!store->in_batch);
    journal_wait(store->journal);
    store_settle(store, &sequence);
    pthread_mutex_lock(&store->lock);
    int r = 0;
    while (r == 0 && (store->frozen || !is_empty(store->active))) {
        if (!store->frozen && !store_freeze(store))
            r = -REEVE_ERROR_NO_MEMORY;
        else if (store->checkpointing)
            pthread_cond_wait(&store->changed, &store->lock);
        else
            r = checkpoint_make(store);
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

/* ---- A batch ---- */

static int recover(struct store *store)
{
    const int r = journal_reopen(store->journal);
    if (r < 0)
        journal_failure(store->journal, store->failure);
    else
        store->recovering = false;
    return r;
}

int store_begin(struct store *store)
{
    assert(!store->in_batch && store->sealed_count < STORE_SEALED_MAX);
    int r = store->recovering ? recover(store) : 0;
    if (r == 0)
        r = wait_for_room(store);
    if (r < 0)
        return r;
    pthread_mutex_lock(&store->lock);
    r = store_view_begin(store, UINT64_MAX, &store->view);
    pthread_mutex_unlock(&store->lock);
    if (r < 0)
        return fail_with(store, r, "the store cannot be read");
    store->in_batch = true;
    store->error = 0;
    store->failure[0] = 0;
    store->batch = (struct sealed){.sequence = store->position.sequence + 1, .table = store->active};
    return 0;
}

static void set_error(struct store *store, int code)
{
    if (store->error == 0)
        store->error = code;
}

static bool keep_view_error(struct store *store, bool found)
{
    if (!found && store->view.database.error < 0)
        set_error(store, store->view.database.error);
    return found;
}

bool store_get(struct store *store, enum store_table table, const struct store_key *key, struct reeve_str *ret_value)
{
    return store->error == 0 && keep_view_error(store, view_get(&store->view, table, key, ret_value));
}

void store_fetch(struct store *store, enum store_table table, const struct store_key *keys, size_t count)
{
    for (int i = 0; i < 2 && store->view.tables[i]; i++)
        memtable_fetch(store->view.tables[i], table, keys, count);
}

/* ---- Looking for what comes next ---- */

#define SKIPPED_WORTH 8 /* a hint */

bool store_seek(struct store *store, enum store_table table, const struct store_key *from, struct store_item *ret_item)
{
    struct view_cursor cursor;
    if (store->error)
        return false;
    const struct hint *hint = hints_find(&store->hints, table, from);
    if (hint && hint->endless)
        return false;
    const struct store_key start = hint ? hint->to : *from;
    memtable_arrange(store->active);
    view_cursor_open(&store->view, table, &start, false, &cursor);
    const bool found = view_cursor_next(&cursor, ret_item);
    view_cursor_close(&cursor);
    if (cursor.skipped >= SKIPPED_WORTH && store->view.database.error == 0)
        hints_note(&store->hints, table, from, found ? ret_item : NULL);
    return keep_view_error(store, found);
}

bool store_last(struct store *store, enum store_table table, struct store_item *ret_item)
{
    struct view_cursor cursor;
    if (store->error)
        return false;
    memtable_arrange(store->active);
    view_cursor_open(&store->view, table, &(struct store_key){0}, true, &cursor);
    const bool found = view_cursor_next(&cursor, ret_item);
    view_cursor_close(&cursor);
    return keep_view_error(store, found);
}

/* ---- Changes ---- */

enum newness { KEY_OLD, KEY_FRESH, KEY_UNIQUE }; /* not known; not in the table; never was */

/* The node of a key, noted as one of this batch's. NULL after an error. */
static struct memtable_node *touch(struct store *store, enum store_table table, const struct store_key *key,
                                   enum newness newness)
{
    struct memtable_node *node = NULL;
    if (newness != KEY_UNIQUE)
        node = memtable_find_near(store->active, table, key->bytes, key->size);
    const struct memtable_version *newest = node ? memtable_at(node, UINT64_MAX) : NULL;
    if (!node)
        node = memtable_insert(store->active, table, key->bytes, key->size, newness != KEY_OLD);
    if (node && newest && newest->sequence == store->batch.sequence)
        return node;
    struct memtable_node **touched = node ? fifo_push(&store->touched) : NULL;
    if (!touched) {
        set_error(store, -REEVE_ERROR_NO_MEMORY);
        return NULL;
    }
    *touched = node;
    store->batch.touched++;
    return node;
}

static void write_node(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                       size_t size, enum newness newness, bool gone)
{
    if (store->error)
        return;
    const uint64_t sequence = store->batch.sequence;
    struct memtable_version *older = NULL;
    struct memtable_node *node = touch(store, table, key, newness);
    if (node && !memtable_write(store->active, node, sequence, value, size, gone, &older))
        set_error(store, -REEVE_ERROR_NO_MEMORY);
    if (older)
        reclaim_version(&store->reclaim, older, sequence);
    if (node && gone && node->fresh) /* what hides nothing in the database need not stay to say that it is gone */
        reclaim_node(&store->reclaim, node, sequence);
    store->batch.bytes += key->size + size;
}

void store_put(struct store *store, enum store_table table, const struct store_key *key, const void *value, size_t size)
{
    hints_put(&store->hints, table, key);
    write_node(store, table, key, value, size, KEY_OLD, false);
    store->batch.puts++;
}

void store_insert(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    hints_put(&store->hints, table, key);
    write_node(store, table, key, value, size, KEY_FRESH, false);
    store->batch.puts++;
}

void store_append(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    hints_put(&store->hints, table, key);
    write_node(store, table, key, value, size, KEY_UNIQUE, false);
    store->batch.puts++;
}

void store_delete(struct store *store, enum store_table table, const struct store_key *key)
{
    write_node(store, table, key, NULL, 0, KEY_OLD, true);
    store->batch.deletes++;
}

int store_batch_error(const struct store *store)
{
    return store->error;
}

/* The newest batch has not happened. */
static void undo(struct store *store, const struct sealed *batch)
{
    for (size_t i = 1; i <= batch->touched; i++) {
        struct memtable_node **node = fifo_at(&store->touched, store->touched.count - i);
        memtable_undo(batch->table, *node, batch->sequence);
    }
    fifo_take_back(&store->touched, batch->touched);
    reclaim_undo(&store->reclaim, batch->sequence);
}

static void end_batch(struct store *store)
{
    store->in_batch = false;
    store_view_end(store, &store->view);
}

void store_abort(struct store *store)
{
    if (!store->in_batch)
        return;
    undo(store, &store->batch);
    hints_forget(&store->hints);
    end_batch(store);
}

/* ---- Sealing ---- */

/* As the journal has it: table, flags, size of the key and of the value (little-endian), key, value. */
static void encode_change(struct buffer *payload, const struct memtable_node *node)
{
    const struct memtable_version *version = memtable_at(node, UINT64_MAX);
    const uint8_t head[8] = {node->table,
                             version->gone ? CHANGE_GONE : 0,
                             node->key_size,
                             0,
                             (uint8_t)version->size,
                             (uint8_t)(version->size >> 8),
                             (uint8_t)(version->size >> 16),
                             (uint8_t)(version->size >> 24)};
    char *at = buffer_reserve(payload, sizeof head + node->key_size + version->size);
    if (!at)
        return;
    memcpy(at, head, sizeof head);
    memcpy(at + sizeof head, memtable_key(node), node->key_size);
    memcpy(at + sizeof head + node->key_size, version->bytes, version->size);
    payload->size += sizeof head + node->key_size + version->size;
}

static struct memtable_node *touched_at(const struct store *store, size_t number)
{
    return *(struct memtable_node **)fifo_at(&store->touched, number);
}

#define FETCH_AHEAD 4

/* A large batch has left the caches by now: what comes soon is fetched ahead, the node before its version. */
static void fetch_ahead(const struct store *store, size_t number)
{
    if (number + 2 * FETCH_AHEAD < store->touched.count)
        __builtin_prefetch(touched_at(store, number + 2 * FETCH_AHEAD));
    if (number + FETCH_AHEAD < store->touched.count)
        __builtin_prefetch(memtable_at(touched_at(store, number + FETCH_AHEAD), UINT64_MAX));
}

static int encode_batch(struct store *store)
{
    buffer_reset(&store->payload);
    for (size_t i = store->touched.count - store->batch.touched; i < store->touched.count; i++) {
        struct memtable_node *node = touched_at(store, i);
        fetch_ahead(store, i);
        /* Came and went within the batch. */
        if (reclaim_is_gone(node, store->batch.sequence) && !memtable_at(node, store->batch.sequence - 1)) {
            memtable_undo(store->active, node, store->batch.sequence);
            continue;
        }
        encode_change(&store->payload, node);
    }
    return store->payload.failed ? -REEVE_ERROR_NO_MEMORY : 0;
}

int store_seal(struct store *store, bool wait, uint64_t *ret_sequence)
{
    assert(store->in_batch);
    int r = store->error;
    memtable_arrange(store->active);
    if (r == 0)
        r = encode_batch(store);
    if (r == 0 && store->payload.size) {
        r = journal_append(store->journal, store->payload.data, store->payload.size, wait, &store->position);
        if (r < 0)
            journal_failure(store->journal, store->failure);
    } else if (r < 0) {
        fail_with(store, r, reeve_error_text(r));
    }
    if (r < 0) {
        store_abort(store);
        pthread_mutex_lock(&store->lock);
        (void)room(store); /* a checkpoint, for want of a file, perhaps */
        pthread_mutex_unlock(&store->lock);
        return r;
    }
    if (store->payload.size) {
        assert(store->position.sequence == store->batch.sequence);
        store->sealed[store->sealed_count++] = store->batch;
        if (!store->active_since_ms)
            store->active_since_ms = clock_mono_ns() / 1000000;
    } else {
        undo(store, &store->batch); /* what it wrote came and went in it */
    }
    *ret_sequence = store->position.sequence;
    end_batch(store);
    return 0;
}

/* ---- Settling ---- */

static void settle_batch(struct store *store, const struct sealed *batch)
{
    store->stats.puts += batch->puts;
    store->stats.deletes += batch->deletes;
    store->stats.bytes += batch->bytes;
    fifo_drop(&store->touched, batch->touched);
}

static void drop_sealed(struct store *store, unsigned count)
{
    store->sealed_count -= count;
    memmove(store->sealed, store->sealed + count, store->sealed_count * sizeof store->sealed[0]);
}

/* What is behind the last durable batch has not happened. */
static void roll_back(struct store *store, const struct journal_position *durable)
{
    for (unsigned i = store->sealed_count; i-- > 0;)
        undo(store, &store->sealed[i]);
    store->sealed_count = 0;
    store->position = *durable;
    hints_forget(&store->hints);
    journal_failure(store->journal, store->failure);
    /* At once: before anybody is told that it has not happened it should not be on disk any more. */
    store->recovering = journal_reopen(store->journal) < 0;
    pthread_mutex_lock(&store->lock);
    if (store->frozen && store->frozen->last_sequence > durable->sequence) {
        store->frozen->last_sequence = durable->sequence;
        store->frozen->last_chain = durable->chain;
        pthread_cond_broadcast(&store->changed);
    }
    pthread_mutex_unlock(&store->lock);
}

int store_settle(struct store *store, uint64_t *ret_sequence)
{
    assert(!store->in_batch);
    struct journal_position durable;
    const int r = journal_durable(store->journal, &durable);
    unsigned settled = 0;
    pthread_mutex_lock(&store->lock);
    const bool more = durable.sequence > store->durable;
    store->durable = durable.sequence;
    while (settled < store->sealed_count && store->sealed[settled].sequence <= durable.sequence)
        settle_batch(store, &store->sealed[settled++]);
    const struct store_read *first = store->reads_first;
    const uint64_t reads_begun = store->reads_begun, oldest_read = first ? first->number : reads_begun + 1;
    const uint64_t oldest = first ? first->view.sequence : durable.sequence;
    if (more && checkpoint_is_due(store))
        pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
    reclaim_collect(&store->reclaim, store->active, oldest, oldest_read, reads_begun);
    drop_sealed(store, settled);
    if (r < 0)
        roll_back(store, &durable);
    assert(store->sealed_count || !store->touched.count);
    *ret_sequence = durable.sequence;
    return r;
}

bool store_is_in_doubt(const struct store *store)
{
    return store->recovering;
}

void store_wait(struct store *store)
{
    journal_wait(store->journal);
}

int store_commit(struct store *store)
{
    uint64_t sequence, durable;
    int r = store_seal(store, true, &sequence);
    if (r < 0)
        return r;
    store_wait(store);
    r = store_settle(store, &durable);
    return durable >= sequence ? 0 : r;
}

const char *store_failure(const struct store *store)
{
    return store->failure;
}
