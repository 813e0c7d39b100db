/* Filling a table that nobody reads yet: keys are found by their hash, what is superseded is written over, and all of
 * it is put in order at the end. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/pages.h"
#include "memtable_state.h"

#define BUCKET_BITS_MAX 28
#define LOADED_MUCH 4096 /* nodes; there will be many more, and nobody waits for a single one */

/* ---- Coming in ---- */

/* As many buckets as nodes: how many there will be is not known before. */
static bool grow_hash(struct memtable *memtable)
{
    _Atomic(struct memtable_node *) *before = memtable->buckets;
    const size_t count = (size_t)1 << memtable->bucket_bits;
    if (memtable->loaded < count || memtable->bucket_bits + 2 > BUCKET_BITS_MAX)
        return true;
    memtable->buckets = pages_alloc(4 * count * sizeof *memtable->buckets);
    if (!memtable->buckets) {
        memtable->buckets = before;
        return false;
    }
    memtable->bucket_bits += 2;
    memtable_use_large_pages(memtable);
    for (size_t i = 0; i < count; i++) {
        struct memtable_node *node = atomic_load_explicit(&before[i], memory_order_relaxed);
        for (struct memtable_node *next; node; node = next) {
            next = atomic_load_explicit(&node->hash_next, memory_order_relaxed);
            memtable_add_to_hash(memtable, node);
        }
    }
    pages_free((void *)before, count * sizeof *before);
    return true;
}

/* Found by its hash, in every table; in a list of its table, in the order of their coming. */
static struct memtable_node *load_node(struct memtable *memtable, enum store_table table, const void *key, size_t size)
{
    const uint32_t hash = memtable_hash(table, key, size);
    struct memtable_node *node = memtable_find_by_hash(memtable, table, key, size, hash);
    if (node)
        return node;
    node = grow_hash(memtable) ? memtable_new_node(memtable, table, key, size, false) : NULL;
    if (!node)
        return NULL;
    node->hash = hash;
    memtable_add_to_hash(memtable, node);
    atomic_store_explicit(&memtable->finger[table][0]->next[0], node, memory_order_relaxed);
    memtable->finger[table][0] = node;
    if (++memtable->loaded == LOADED_MUCH)
        memtable_use_large_pages(memtable);
    return node;
}

bool memtable_load(struct memtable *memtable, enum store_table table, const void *key, size_t size, uint64_t sequence,
                   const void *value, size_t value_size, bool gone)
{
    struct memtable_node *node = load_node(memtable, table, key, size);
    if (!node)
        return false;
    struct memtable_version *version = atomic_load_explicit(&node->newest, memory_order_relaxed);
    if (!version || version->size < value_size) {
        struct memtable_version *larger = memtable_take(memtable, sizeof *larger + value_size);
        if (!larger)
            return false;
        if (version)
            memtable_reuse_version(memtable, version);
        version = larger;
        version->previous = NULL;
        atomic_store_explicit(&node->newest, version, memory_order_relaxed);
    }
    memtable_fill_version(version, sequence, value, value_size, gone);
    return true;
}

/* ---- In order ---- */

/* A node, and eight bytes of its key as a number. */
struct item {
    uint64_t word;
    struct memtable_node *node;
};

static int by_word(const void *left, const void *right)
{
    const struct item *a = left, *b = right;
    return (a->word > b->word) - (a->word < b->word);
}

/* Zeros behind the end of a key; keys that differ in nothing else are in the order of their sizes. */
static uint64_t word_at(const struct memtable_node *node, size_t at)
{
    uint8_t bytes[8] = {0};
    if (at >= STORE_KEY_SIZE_MAX)
        return node->key_size;
    if (at < node->key_size)
        memcpy(bytes, memtable_key(node) + at, node->key_size - at < sizeof bytes ? node->key_size - at : sizeof bytes);
    return get_be64(bytes);
}

/* Those that are the same up to here. True: some still are. */
static bool sort_run(struct item *items, size_t count, size_t at, bool *are_same)
{
    bool is_sorted = true, same = false;
    for (size_t i = 0; i < count; i++) {
        items[i].word = word_at(items[i].node, at);
        is_sorted &= i == 0 || items[i - 1].word <= items[i].word;
    }
    if (!is_sorted)
        qsort(items, count, sizeof *items, by_word);
    for (size_t i = 1; i < count; i++) {
        are_same[i] = items[i - 1].word == items[i].word;
        same |= are_same[i];
    }
    return same;
}

/* Word by word, so that comparing two does not mean to look at both: they are in no cache. `are_same[i]` says whether
 * an item is the same as the one before it. */
static void sort_items(struct item *items, size_t count, bool *are_same)
{
    bool same = count > 1;
    for (size_t i = 0; i < count; i++)
        are_same[i] = i > 0;
    for (size_t at = 0; same && at <= STORE_KEY_SIZE_MAX; at += sizeof items->word) {
        same = false;
        for (size_t first = 0, end; first < count; first = end) {
            for (end = first + 1; end < count && are_same[end];)
                end++;
            if (end - first > 1)
                same |= sort_run(items + first, end - first, at, are_same + first);
        }
    }
}

static void link_items(struct memtable *memtable, enum store_table table, const struct item *items, size_t count)
{
    struct memtable_node **before = memtable->finger[table];
    for (unsigned level = 0; level < MEMTABLE_HEIGHT_MAX; level++)
        before[level] = memtable->heads[table];
    for (size_t i = 0; i < count; i++) {
        struct memtable_node *node = items[i].node;
        for (unsigned level = 0; level < node->height; level++) {
            atomic_store_explicit(&before[level]->next[level], node, memory_order_relaxed);
            before[level] = node;
        }
    }
    for (unsigned level = 0; level < MEMTABLE_HEIGHT_MAX; level++)
        atomic_store_explicit(&before[level]->next[level], NULL, memory_order_relaxed);
}

bool memtable_order(struct memtable *memtable)
{
    if (memtable->loaded == 0)
        return true;
    struct item *items = malloc(memtable->loaded * sizeof *items);
    bool *are_same = malloc(memtable->loaded);
    for (enum store_table table = 0; table < TABLE_COUNT && items && are_same; table++) {
        size_t count = 0;
        for (struct memtable_node *node = memtable_first(memtable, table); node; node = memtable_next(node))
            items[count++].node = node;
        sort_items(items, count, are_same);
        link_items(memtable, table, items, count);
    }
    const bool done = items && are_same;
    free(items);
    free(are_same);
    return done;
}
