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

/* ---- Views ---- */

/* Under the lock: what is durable in the tables and a moment of the database belong together, because a table stays
 * until the database has it. */
static int pin(struct store *store, uint64_t sequence, struct store_view *ret_view)
{
    *ret_view = (struct store_view){.tables = {store->active, store->frozen}, .sequence = sequence};
    int r = 0;
    if (store->holds_moment)
        ret_view->database = store->view.database;
    else
        r = database_read_begin(store->database, &ret_view->database);
    if (r < 0)
        return r;
    store->active->readers++;
    if (store->frozen)
        store->frozen->readers++;
    return 0;
}

/* A table that the database has, and that nobody reads any more. */
static void retire(struct store *store, struct memtable *table)
{
    struct memtable **link = &store->retired;
    while (*link && *link != table)
        link = &(*link)->next;
    if (!*link || table->readers > 0)
        return;
    *link = table->next;
    if (store->spare || !memtable_reset(table))
        memtable_free(table);
    else
        store->spare = table;
}

void store_unpin(struct store *store, struct memtable *tables[2])
{
    for (int i = 0; i < 2 && tables[i]; i++) {
        tables[i]->readers--;
        retire(store, tables[i]);
    }
}

static void unpin(struct store *store, struct store_view *view)
{
    database_read_end(&view->database);
    pthread_mutex_lock(&store->lock);
    store_unpin(store, view->tables);
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
    store->dead.first = store->dead.count = 0;
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
    r = pin(store, UINT64_MAX, &store->view);
    pthread_mutex_unlock(&store->lock);
    if (r < 0)
        return fail_with(store, r, "the store cannot be read");
    store->in_batch = true;
    store->error = 0;
    store->failure[0] = 0;
    store->last_touch = NULL;
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

/* ---- Where nothing is: what is due, or queued, is deleted at the head of its table, and looked for there again and
 * again ---- */

static int compare_keys(const struct store_key *a, const struct store_key *b)
{
    return memtable_compare(a->bytes, a->size, b->bytes, b->size);
}

static bool covers(const struct hint *hint, const struct store_key *key)
{
    return hint->valid && compare_keys(&hint->from, key) <= 0 && (hint->endless || compare_keys(key, &hint->to) < 0);
}

static const struct hint *hint_at(const struct store *store, enum store_table table, const struct store_key *from)
{
    for (unsigned i = 0; i < STORE_HINTS; i++) {
        if (covers(&store->hints[table][i], from))
            return &store->hints[table][i];
    }
    return NULL;
}

static void note_hint(struct store *store, enum store_table table, const struct store_key *from,
                      const struct store_item *to)
{
    struct hint *hint = &store->hints[table][store->next_hint[table]++ % STORE_HINTS];
    if (to && to->key_size > sizeof hint->to.bytes)
        return;
    *hint = (struct hint){.valid = true, .endless = !to, .from = *from};
    if (to) {
        hint->to.size = to->key_size;
        memcpy(hint->to.bytes, to->key, to->key_size);
    }
}

static void hint_put(struct store *store, enum store_table table, const struct store_key *key)
{
    for (unsigned i = 0; i < STORE_HINTS; i++) {
        struct hint *hint = &store->hints[table][i];
        if (!covers(hint, key))
            continue;
        hint->endless = false;
        hint->to = *key;
    }
}

static void forget_hints(struct store *store)
{
    memset(store->hints, 0, sizeof store->hints);
}

#define SKIPPED_WORTH 8

bool store_seek(struct store *store, enum store_table table, const struct store_key *from, struct store_item *ret_item)
{
    struct view_cursor cursor;
    if (store->error)
        return false;
    const struct hint *hint = hint_at(store, table, from);
    if (hint && hint->endless)
        return false;
    const struct store_key start = hint ? hint->to : *from;
    view_cursor_open(&store->view, table, &start, false, &cursor);
    const bool found = view_cursor_next(&cursor, ret_item);
    view_cursor_close(&cursor);
    if (cursor.skipped >= SKIPPED_WORTH && store->view.database.error == 0)
        note_hint(store, table, from, found ? ret_item : NULL);
    return keep_view_error(store, found);
}

bool store_last(struct store *store, enum store_table table, struct store_item *ret_item)
{
    struct view_cursor cursor;
    if (store->error)
        return false;
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
        node = memtable_find(store->active, table, key->bytes, key->size);
    const struct memtable_version *newest = node ? memtable_at(node, UINT64_MAX) : NULL;
    if (!node)
        node = memtable_insert(store->active, table, key->bytes, key->size, newness != KEY_OLD);
    if (node && newest && newest->sequence == store->batch.sequence)
        return node;
    struct touch *touch = node ? arena_alloc(&store->active->arena, sizeof *touch) : NULL;
    if (!touch) {
        set_error(store, -REEVE_ERROR_NO_MEMORY);
        return NULL;
    }
    *touch = (struct touch){.node = node};
    if (store->last_touch)
        store->last_touch->next = touch;
    else
        store->batch.touches = touch;
    store->last_touch = touch;
    return node;
}

/* What hides nothing in the database need not stay to say that it is gone. */
static void note_deleted(struct store *store, struct memtable_node *node)
{
    struct touch *touch = arena_alloc(&store->active->arena, sizeof *touch);
    if (!touch)
        return; /* it stays where it is until the table goes */
    *touch = (struct touch){.node = node, .next = store->batch.deleted};
    store->batch.deleted = touch;
}

static void write_node(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                       size_t size, enum newness newness, bool gone)
{
    if (store->error)
        return;
    struct memtable_node *node = touch(store, table, key, newness);
    if (node && !memtable_write(store->active, node, store->batch.sequence, value, size, gone))
        set_error(store, -REEVE_ERROR_NO_MEMORY);
    else if (node && gone && node->fresh)
        note_deleted(store, node);
    store->batch.bytes += key->size + size;
}

void store_put(struct store *store, enum store_table table, const struct store_key *key, const void *value, size_t size)
{
    hint_put(store, table, key);
    write_node(store, table, key, value, size, KEY_OLD, false);
    store->batch.puts++;
}

void store_insert(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    hint_put(store, table, key);
    write_node(store, table, key, value, size, KEY_FRESH, false);
    store->batch.puts++;
}

void store_append(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    hint_put(store, table, key);
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

static void undo(const struct sealed *batch)
{
    for (struct touch *touch = batch->touches; touch; touch = touch->next)
        memtable_undo(batch->table, touch->node, batch->sequence);
}

static void end_batch(struct store *store)
{
    store->in_batch = false;
    unpin(store, &store->view);
}

void store_abort(struct store *store)
{
    if (!store->in_batch)
        return;
    undo(&store->batch);
    forget_hints(store);
    end_batch(store);
}

/* ---- Sealing ---- */

static bool is_gone_for_good(const struct memtable_node *node, uint64_t sequence)
{
    const struct memtable_version *newest = memtable_at(node, UINT64_MAX);
    return newest && newest->gone && node->fresh && newest->sequence == sequence;
}

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
    memcpy(at + sizeof head, node->key, node->key_size);
    memcpy(at + sizeof head + node->key_size, version->bytes, version->size);
    payload->size += sizeof head + node->key_size + version->size;
}

static int encode_batch(struct store *store)
{
    buffer_reset(&store->payload);
    for (struct touch *touch = store->batch.touches; touch; touch = touch->next) {
        struct memtable_node *node = touch->node;
        /* Came and went within the batch. */
        if (is_gone_for_good(node, store->batch.sequence) && !memtable_at(node, store->batch.sequence - 1)) {
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
    }
    *ret_sequence = store->position.sequence;
    end_batch(store);
    return 0;
}

/* ---- Settling ---- */

static void note_dead(struct store *store, struct memtable_node *node, uint64_t sequence)
{
    struct dead_list *dead = &store->dead;
    if (dead->first + dead->count == dead->capacity) {
        if (dead->first > dead->capacity / 2) {
            memmove(dead->items, dead->items + dead->first, dead->count * sizeof *dead->items);
        } else {
            const size_t capacity = dead->capacity ? dead->capacity * 2 : 1024;
            struct dead *larger = realloc(dead->items, capacity * sizeof *larger);
            if (!larger)
                return; /* it stays where it is until the table goes */
            memmove(larger, larger + dead->first, dead->count * sizeof *larger);
            dead->items = larger;
            dead->capacity = capacity;
        }
        dead->first = 0;
    }
    dead->items[dead->first + dead->count++] = (struct dead){node, sequence};
}

/* Take out what nobody can see any more. */
static void bury(struct store *store, uint64_t oldest)
{
    struct dead_list *dead = &store->dead;
    while (dead->count && dead->items[dead->first].sequence <= oldest) {
        const struct dead item = dead->items[dead->first++];
        dead->count--;
        if (is_gone_for_good(item.node, item.sequence))
            memtable_undo(store->active, item.node, 0);
    }
    if (dead->count == 0)
        dead->first = 0;
}

static void settle_batch(struct store *store, const struct sealed *batch)
{
    store->stats.puts += batch->puts;
    store->stats.deletes += batch->deletes;
    store->stats.bytes += batch->bytes;
    if (batch->table != store->active)
        return;
    for (const struct touch *touch = batch->deleted; touch; touch = touch->next) {
        if (is_gone_for_good(touch->node, batch->sequence))
            note_dead(store, touch->node, batch->sequence);
    }
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
        undo(&store->sealed[i]);
    store->sealed_count = 0;
    store->position = *durable;
    forget_hints(store);
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
    const uint64_t oldest = store->reads_first ? store->reads_first->view.sequence : durable.sequence;
    if (more && checkpoint_is_due(store))
        pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
    bury(store, oldest);
    drop_sealed(store, settled);
    if (r < 0)
        roll_back(store, &durable);
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

/* ---- Reading ---- */

int store_read_begin(struct store *store, struct store_read *ret_read)
{
    *ret_read = (struct store_read){.store = store};
    pthread_mutex_lock(&store->lock);
    const int r = pin(store, store->durable, &ret_read->view);
    if (r == 0) {
        ret_read->previous = store->reads_last;
        *(store->reads_last ? &store->reads_last->next : &store->reads_first) = ret_read;
        store->reads_last = ret_read;
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

void store_read_forget(struct store_read *read)
{
    struct store *store = read->store;
    pthread_mutex_lock(&store->lock);
    *(read->previous ? &read->previous->next : &store->reads_first) = read->next;
    *(read->next ? &read->next->previous : &store->reads_last) = read->previous;
    store_unpin(store, read->view.tables);
    pthread_mutex_unlock(&store->lock);
}

void store_read_end(struct store_read *read)
{
    if (!read->store->holds_moment)
        database_read_end(&read->view.database);
    store_read_forget(read);
}

static void keep_read_error(struct store_read *read)
{
    if (read->error == 0)
        read->error = read->view.database.error;
}

bool store_read_get(struct store_read *read, enum store_table table, const struct store_key *key,
                    struct reeve_str *ret_value)
{
    const bool found = view_get(&read->view, table, key, ret_value);
    keep_read_error(read);
    return found;
}

void store_read_each(struct store_read *read, enum store_table table, const struct store_key *from, bool backwards,
                     store_visit visit, void *arg)
{
    struct view_cursor cursor;
    struct store_item item;
    view_cursor_open(&read->view, table, from, backwards, &cursor);
    while (view_cursor_next(&cursor, &item) && visit(arg, &item))
        ;
    view_cursor_close(&cursor);
    keep_read_error(read);
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

static bool count_item(void *arg, const struct store_item *item)
{
    (void)item;
    ++*(uint64_t *)arg;
    return true;
}

uint64_t store_read_count(struct store_read *read, enum store_table table)
{
    uint64_t count = 0;
    store_read_each(read, table, &(struct store_key){0}, false, count_item, &count);
    return count;
}
