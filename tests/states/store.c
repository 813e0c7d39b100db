/* store.h in memory: a sorted list. Nothing fails here, and a batch is never given up. */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "states.h"

#define ITEMS_MAX 96

struct item {
    enum store_table table;
    struct store_key key;
    void *value;
    size_t size;
};

struct store {
    size_t count;
    struct item items[ITEMS_MAX];
};

void (*store_on_event)(const void *value, size_t size);

static int compare(const struct item *item, enum store_table table, const struct store_key *key)
{
    if (item->table != table)
        return item->table < table ? -1 : 1;
    const size_t size = item->key.size < key->size ? item->key.size : key->size;
    const int order = memcmp(item->key.bytes, key->bytes, size);
    return order ? order : item->key.size < key->size ? -1 : item->key.size > key->size;
}

/* The first one that is not before the key. */
static size_t find(const struct store *store, enum store_table table, const struct store_key *key)
{
    size_t low = 0, high = store->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (compare(&store->items[middle], table, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct item *get(const struct store *store, enum store_table table, const struct store_key *key)
{
    const size_t at = find(store, table, key);
    return at < store->count && compare(&store->items[at], table, key) == 0 ? &store->items[at] : NULL;
}

static void show(const struct item *item, struct store_item *ret_item)
{
    *ret_item = (struct store_item){item->key.bytes, item->key.size, item->value, item->size};
}

int store_open(const struct store_options *options, struct store **ret_store, struct reeve_error *ret_error)
{
    (void)options, (void)ret_error;
    *ret_store = calloc(1, sizeof **ret_store);
    return 0;
}

void store_close(struct store *store)
{
    for (size_t i = 0; i < store->count; i++)
        free(store->items[i].value);
    free(store);
}

int store_begin(struct store *store)
{
    (void)store;
    return 0;
}

bool store_get(struct store *store, enum store_table table, const struct store_key *key, struct reeve_str *ret_value)
{
    const struct item *item = get(store, table, key);
    if (item)
        *ret_value = (struct reeve_str){item->value, item->size};
    return item != NULL;
}

void store_fetch(struct store *store, enum store_table table, const struct store_key *keys, size_t count)
{
    (void)store;
    (void)table;
    (void)keys;
    (void)count;
}

bool store_seek(struct store *store, enum store_table table, const struct store_key *from, struct store_item *ret_item)
{
    const size_t at = find(store, table, from);
    if (at == store->count || store->items[at].table != table)
        return false;
    show(&store->items[at], ret_item);
    return true;
}

bool store_last(struct store *store, enum store_table table, struct store_item *ret_item)
{
    const size_t behind = find(store, table + 1, &(struct store_key){0});
    if (behind == 0 || store->items[behind - 1].table != table)
        return false;
    show(&store->items[behind - 1], ret_item);
    return true;
}

void store_put(struct store *store, enum store_table table, const struct store_key *key, const void *value, size_t size)
{
    const size_t at = find(store, table, key);
    struct item *item = &store->items[at];
    if (at == store->count || compare(item, table, key) != 0) {
        if (store->count == ITEMS_MAX)
            abort();
        memmove(item + 1, item, (store->count++ - at) * sizeof *item);
        *item = (struct item){.table = table, .key = *key};
    }
    free(item->value);
    item->value = size ? malloc(size) : NULL;
    item->size = size;
    if (size)
        memcpy(item->value, value, size);
}

/* Of the events only the key of the last one is kept. */
static void append_event(struct store *store, const struct store_key *key, const void *value, size_t size)
{
    struct store_item last;
    if (store_last(store, TABLE_EVENTS, &last)) {
        struct store_key before = {.size = last.key_size};
        memcpy(before.bytes, last.key, last.key_size);
        store_delete(store, TABLE_EVENTS, &before);
    }
    store_put(store, TABLE_EVENTS, key, NULL, 0);
    store_on_event(value, size);
}

void store_insert(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    if (table == TABLE_EVENTS)
        append_event(store, key, value, size);
    else
        store_put(store, table, key, value, size);
}

void store_delete(struct store *store, enum store_table table, const struct store_key *key)
{
    const size_t at = find(store, table, key);
    struct item *item = &store->items[at];
    if (at == store->count || compare(item, table, key) != 0)
        return;
    free(item->value);
    memmove(item, item + 1, (--store->count - at) * sizeof *item);
    store->items[store->count] = (struct item){0};
}

void store_append(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size)
{
    store_insert(store, table, key, value, size);
}

int store_batch_error(const struct store *store)
{
    (void)store;
    return 0;
}

/* Everything is durable at once, so there is one number for all batches. */
int store_seal(struct store *store, bool wait, uint64_t *ret_sequence)
{
    (void)store, (void)wait;
    *ret_sequence = 1;
    return 0;
}

void store_wait(struct store *store)
{
    (void)store;
}

int store_settle(struct store *store, uint64_t *ret_sequence)
{
    (void)store;
    *ret_sequence = 1;
    return 0;
}

int store_commit(struct store *store)
{
    (void)store;
    return 0;
}

void store_abort(struct store *store)
{
    (void)store;
    abort(); /* a fault, and nothing here fails */
}

const char *store_failure(const struct store *store)
{
    (void)store;
    return "nothing fails here";
}

int store_read_begin(struct store *store, struct store_read *ret_read)
{
    *ret_read = (struct store_read){.store = store};
    return 0;
}

void store_read_end(struct store_read *read)
{
    (void)read;
}

bool store_read_get(struct store_read *read, enum store_table table, const struct store_key *key,
                    struct reeve_str *ret_value)
{
    return store_get(read->store, table, key, ret_value);
}

void store_read_each(struct store_read *read, enum store_table table, const struct store_key *from, bool backwards,
                     store_visit visit, void *arg)
{
    const struct store *store = read->store;
    struct store_item item;
    if (backwards)
        abort(); /* nobody does, here */
    for (size_t at = find(store, table, from); at < store->count && store->items[at].table == table; at++) {
        show(&store->items[at], &item);
        if (!visit(arg, &item))
            return;
    }
}

bool store_read_last(struct store_read *read, enum store_table table, struct store_item *ret_item)
{
    return store_last(read->store, table, ret_item);
}

uint64_t store_read_count(struct store_read *read, enum store_table table)
{
    return find(read->store, table + 1, &(struct store_key){0}) - find(read->store, table, &(struct store_key){0});
}
