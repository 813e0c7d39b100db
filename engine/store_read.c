/* Reading the store: moments of it, from any thread. */
#include "error.h"
#include "store_state.h"

/* ---- Views ---- */

/* Under the lock: what is durable in the tables and a moment of the database belong together, because a table stays
 * until the database has it. */
int store_view_begin(struct store *store, uint64_t sequence, struct store_view *ret_view)
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

void store_view_end(struct store *store, struct store_view *view)
{
    database_read_end(&view->database);
    pthread_mutex_lock(&store->lock);
    store_unpin(store, view->tables);
    pthread_mutex_unlock(&store->lock);
}

/* ---- Reading ---- */

int store_read_begin(struct store *store, struct store_read *ret_read)
{
    *ret_read = (struct store_read){.store = store};
    pthread_mutex_lock(&store->lock);
    const int r = store_view_begin(store, store->durable, &ret_read->view);
    if (r == 0) {
        ret_read->number = ++store->reads_begun;
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
