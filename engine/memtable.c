#include "memtable_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/pages.h"
#include "base/poison.h"

#define BLOCK_SIZE (PAGES_LARGE / 2) /* and what rounding adds */
#define BYTES_PER_BUCKET 128
#define BUCKET_BITS_MIN 8
#define POPULATE_MAX (128U << 20) /* what is larger fills up slowly */
#define QUIET_BYTES (1U << 20)    /* who held less gives its memory back */
#define FETCH_BYTES 384           /* of a version: the rest follows by itself once it is read */
#define PIECE_ROUND 16
#define PIECE_MAX (MEMTABLE_PIECES * PIECE_ROUND)

/* ---- Memory ---- */

/* What can be used again. */
struct memtable_piece {
    struct memtable_piece *next;
};

static size_t piece_size(size_t size)
{
    return (size + PIECE_ROUND - 1) & ~(size_t)(PIECE_ROUND - 1);
}

/* NULL: there is none of this size. */
static void *take_piece(struct memtable *memtable, size_t size)
{
    struct memtable_piece *piece = size < PIECE_MAX ? memtable->pieces[size / PIECE_ROUND] : NULL;
    if (!piece)
        return NULL;
    memory_unpoison(piece, size);
    memtable->pieces[size / PIECE_ROUND] = piece->next;
    __builtin_prefetch(piece->next, 1); /* given back long ago, and soon taken */
    return piece;
}

void *memtable_take(struct memtable *memtable, size_t size)
{
    size = piece_size(size);
    void *memory = take_piece(memtable, size);
    if (memory)
        return memory;
    memory = arena_alloc(&memtable->arena, size);
    if (memory)
        atomic_fetch_add_explicit(&memtable->bytes, size, memory_order_relaxed);
    return memory;
}

static void give(struct memtable *memtable, void *memory, size_t size)
{
    struct memtable_piece *piece = memory;
    size = piece_size(size);
    if (size >= PIECE_MAX)
        return; /* seldom: it stays until the table goes */
    piece->next = memtable->pieces[size / PIECE_ROUND];
    memtable->pieces[size / PIECE_ROUND] = piece;
    memory_poison(memory, size);
}

static size_t node_size(unsigned height, size_t key_size)
{
    return sizeof(struct memtable_node) + height * sizeof(_Atomic(struct memtable_node *)) + key_size;
}

static struct memtable_node *new_place(struct memtable *memtable, unsigned height, size_t key_size)
{
    struct memtable_node *node = memtable_take(memtable, node_size(height, key_size));
    if (!node)
        return NULL;
    atomic_init(&node->newest, NULL);
    atomic_init(&node->hash_next, NULL);
    for (unsigned i = 0; i < height; i++)
        atomic_init(&node->next[i], NULL);
    node->height = (uint8_t)height;
    node->key_size = (uint8_t)key_size;
    return node;
}

void memtable_reuse_version(struct memtable *memtable, struct memtable_version *version)
{
    give(memtable, version, sizeof *version + version->size);
}

void memtable_reuse_node(struct memtable *memtable, struct memtable_node *node, struct memtable_version *version)
{
    memtable_reuse_version(memtable, version);
    give(memtable, node, node_size(node->height, node->key_size));
}

/* ---- A table ---- */

struct memtable *memtable_new(uint64_t bytes_wanted)
{
    struct memtable *memtable = calloc(1, sizeof *memtable);
    if (!memtable)
        return NULL;
    memtable->bytes_wanted = bytes_wanted;
    memtable->bucket_bits = BUCKET_BITS_MIN;
    while (memtable->bucket_bits < 24 && (UINT64_C(1) << memtable->bucket_bits) * BYTES_PER_BUCKET < bytes_wanted)
        memtable->bucket_bits++;
    memtable->buckets = pages_alloc(sizeof *memtable->buckets << memtable->bucket_bits);
    arena_init(&memtable->arena, bytes_wanted < BLOCK_SIZE ? 64 * 1024 : BLOCK_SIZE);
    memtable->random = 2463534242;
    if (!memtable->buckets || !memtable_reset(memtable)) {
        memtable_free(memtable);
        return NULL;
    }
    return memtable;
}

void memtable_free(struct memtable *memtable)
{
    if (!memtable)
        return;
    arena_deinit(&memtable->arena);
    pages_free((void *)memtable->buckets, sizeof *memtable->buckets << memtable->bucket_bits);
    free(memtable);
}

bool memtable_reset(struct memtable *memtable)
{
    const size_t held = atomic_load(&memtable->bytes);
    if (held > 2 * memtable->bytes_wanted + QUIET_BYTES)
        return false;
    if (held > 0 && held < QUIET_BYTES) {
        const size_t block_size = memtable->arena.block_size;
        arena_deinit(&memtable->arena);
        arena_init(&memtable->arena, block_size);
    }
    arena_reset(&memtable->arena);
    memset(memtable->pieces, 0, sizeof memtable->pieces);
    if (held > 0)
        memset((void *)memtable->buckets, 0, sizeof *memtable->buckets << memtable->bucket_bits);
    atomic_store(&memtable->bytes, 0);
    memtable->last_sequence = 0;
    memtable->loaded = 0;
    memtable->stray_count = 0;
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        memtable->heads[table] = new_place(memtable, MEMTABLE_HEIGHT_MAX, 0);
        if (!memtable->heads[table])
            return false;
        for (unsigned i = 0; i < MEMTABLE_HEIGHT_MAX; i++)
            memtable->finger[table][i] = memtable->heads[table];
        memtable->sought[table] = memtable->heads[table];
    }
    atomic_store(&memtable->bytes, 0);
    return true;
}

void memtable_use_large_pages(struct memtable *memtable)
{
    memtable->arena.large_pages = true;
    pages_enlarge((void *)memtable->buckets, sizeof *memtable->buckets << memtable->bucket_bits);
}

bool memtable_populate(struct memtable *memtable)
{
    memtable_use_large_pages(memtable);
    pages_populate((void *)memtable->buckets, sizeof *memtable->buckets << memtable->bucket_bits);
    return arena_reserve(&memtable->arena,
                         memtable->bytes_wanted < POPULATE_MAX ? memtable->bytes_wanted : POPULATE_MAX);
}

/* ---- Looking up ---- */

/* By words: keys are short, and a call for each is what looking for a place would cost. */
static inline int compare(const void *a, size_t a_size, const void *b, size_t b_size)
{
    const uint8_t *a_bytes = a, *b_bytes = b;
    size_t size = a_size < b_size ? a_size : b_size;
    for (; size >= 8; size -= 8, a_bytes += 8, b_bytes += 8) {
        const uint64_t a_word = get_be64(a_bytes), b_word = get_be64(b_bytes);
        if (a_word != b_word)
            return a_word < b_word ? -1 : 1;
    }
    const int order = size ? memcmp(a_bytes, b_bytes, size) : 0;
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

int memtable_compare(const void *a, size_t a_size, const void *b, size_t b_size)
{
    return compare(a, a_size, b, b_size);
}

uint32_t memtable_hash(enum store_table table, const void *key, size_t size)
{
    const uint8_t *bytes = key;
    uint64_t hash = (uint64_t)table * 64 + size, word;
    for (; size >= 8; size -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    word = 0;
    memcpy(&word, bytes, size);
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 32);
}

static _Atomic(struct memtable_node *) *bucket_of(const struct memtable *memtable, uint32_t hash)
{
    return &memtable->buckets[hash >> (32 - memtable->bucket_bits)];
}

/* What is written much and seldom asked for by its key is found in order: a look into the hash would cost more, since
 * its place is in no cache. */
static bool is_hashed(enum store_table table)
{
    return table != TABLE_EVENTS && table != TABLE_QUEUE;
}

/* Is this the key of a node that may not be there? */
static bool has_key(const struct memtable_node *node, const void *key, size_t size)
{
    return node && compare(memtable_key(node), node->key_size, key, size) == 0;
}

static struct memtable_node *find_in_order(const struct memtable *memtable, enum store_table table, const void *key,
                                           size_t size)
{
    struct memtable_node *node = memtable_from(memtable, table, key, size);
    return has_key(node, key, size) ? node : NULL;
}

struct memtable_node *memtable_find_by_hash(const struct memtable *memtable, enum store_table table, const void *key,
                                            size_t size, uint32_t hash)
{
    struct memtable_node *node = atomic_load_explicit(bucket_of(memtable, hash), memory_order_acquire);
    while (node && (node->hash != hash || node->table != table || node->key_size != size ||
                    memcmp(memtable_key(node), key, size) != 0))
        node = atomic_load_explicit(&node->hash_next, memory_order_acquire);
    return node;
}

struct memtable_node *memtable_find(const struct memtable *memtable, enum store_table table, const void *key,
                                    size_t size)
{
    return is_hashed(table) ? memtable_find_by_hash(memtable, table, key, size, memtable_hash(table, key, size))
                            : find_in_order(memtable, table, key, size);
}

/* Three steps, each for all of them: what one waits for, the others wait for meanwhile. */
void memtable_fetch(const struct memtable *memtable, enum store_table table, const struct store_key *keys, size_t count)
{
    _Atomic(struct memtable_node *) *buckets[STORE_FETCH_MAX];
    const struct memtable_node *nodes[STORE_FETCH_MAX];
    assert(count <= STORE_FETCH_MAX && is_hashed(table));
    for (size_t i = 0; i < count; i++) {
        buckets[i] = bucket_of(memtable, memtable_hash(table, keys[i].bytes, keys[i].size));
        __builtin_prefetch((const void *)buckets[i]);
    }
    for (size_t i = 0; i < count; i++) {
        nodes[i] = atomic_load_explicit(buckets[i], memory_order_acquire);
        __builtin_prefetch(nodes[i]);
    }
    for (size_t i = 0; i < count; i++) {
        const char *version = nodes[i] ? (const char *)memtable_at(nodes[i], UINT64_MAX) : NULL;
        for (size_t at = 0; version && at < FETCH_BYTES; at += 64)
            __builtin_prefetch(version + at);
    }
}

static struct memtable_node *next_at(const struct memtable_node *node, unsigned level)
{
    return atomic_load_explicit(&node->next[level], memory_order_acquire);
}

static bool is_less(const struct memtable_node *node, const void *key, size_t size)
{
    return compare(memtable_key(node), node->key_size, key, size) < 0;
}

/* The last nodes before a key, level by level down from `level`, starting at `node` which is before it. */
static void descend(struct memtable_node *node, unsigned level, const void *key, size_t size,
                    struct memtable_node *ret_before[MEMTABLE_HEIGHT_MAX])
{
    while (level-- > 0) {
        for (struct memtable_node *next; (next = next_at(node, level)); node = next) {
            if (level > 0) /* the next to look at, unless this one is less: in no cache, either */
                __builtin_prefetch(next_at(node, level - 1));
            if (!is_less(next, key, size))
                break;
        }
        ret_before[level] = node;
    }
}

struct memtable_node *memtable_from(const struct memtable *memtable, enum store_table table, const void *key,
                                    size_t size)
{
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX];
    if (size == 0)
        return memtable_first(memtable, table);
    descend(memtable->heads[table], MEMTABLE_HEIGHT_MAX, key, size, before);
    return memtable_next(before[0]);
}

struct memtable_node *memtable_before(const struct memtable *memtable, enum store_table table, const void *key,
                                      size_t size)
{
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX];
    if (size == 0)
        return memtable_last(memtable, table);
    descend(memtable->heads[table], MEMTABLE_HEIGHT_MAX, key, size, before);
    return before[0] == memtable->heads[table] ? NULL : before[0];
}

struct memtable_node *memtable_last(const struct memtable *memtable, enum store_table table)
{
    struct memtable_node *node = memtable->heads[table];
    for (unsigned level = MEMTABLE_HEIGHT_MAX; level-- > 0;) {
        for (struct memtable_node *next; (next = next_at(node, level));)
            node = next;
    }
    return node == memtable->heads[table] ? NULL : node;
}

/* ---- Changing ---- */

/* One level in four goes on to the next. Only the shape depends on it, and it is the same in each run. */
static unsigned draw_height(struct memtable *memtable)
{
    uint32_t x = memtable->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    memtable->random = x;
    unsigned height = 1;
    while (height < MEMTABLE_HEIGHT_MAX && (x & 3) == 0) {
        height++;
        x >>= 2;
    }
    return height;
}

struct memtable_node *memtable_new_node(struct memtable *memtable, enum store_table table, const void *key, size_t size,
                                        bool fresh)
{
    assert(size > 0 && size <= STORE_KEY_SIZE_MAX);
    struct memtable_node *node = new_place(memtable, draw_height(memtable), size);
    if (!node)
        return NULL;
    node->table = (uint8_t)table;
    node->fresh = fresh;
    memcpy(node->next + node->height, key, size);
    return node;
}

void memtable_add_to_hash(struct memtable *memtable, struct memtable_node *node)
{
    _Atomic(struct memtable_node *) *bucket = bucket_of(memtable, node->hash);
    atomic_store_explicit(&node->hash_next, atomic_load_explicit(bucket, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(bucket, node, memory_order_release);
}

/* At each level behind the last node before it, from the lowest on: who reads finds it there or does not. Others may
 * have come in between since that was looked for. */
static void link_node(struct memtable_node *node, struct memtable_node *const before[MEMTABLE_HEIGHT_MAX])
{
    for (unsigned level = 0; level < node->height; level++) {
        struct memtable_node *last = before[level], *next;
        while ((next = next_at(last, level)) && is_less(next, memtable_key(node), node->key_size))
            last = next;
        atomic_store_explicit(&node->next[level], next, memory_order_relaxed);
        atomic_store_explicit(&last->next[level], node, memory_order_release);
    }
}

#define NEAR_STEPS 8

struct memtable_node *memtable_find_near(struct memtable *memtable, enum store_table table, const void *key,
                                         size_t size)
{
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX], *head = memtable->heads[table], *last = memtable->sought[table];
    if (is_hashed(table))
        return memtable_find(memtable, table, key, size);
    bool near = last == head || is_less(last, key, size);
    unsigned steps = 0;
    for (struct memtable_node *next; near && (next = memtable_next(last)) && is_less(next, key, size); last = next)
        near = ++steps < NEAR_STEPS;
    if (!near) {
        descend(head, MEMTABLE_HEIGHT_MAX, key, size, before);
        last = before[0];
    }
    memtable->sought[table] = last;
    return has_key(memtable_next(last), key, size) ? memtable_next(last) : NULL;
}

/* Does a key belong between this node, or head, and the next one of its level? */
static bool is_around(const struct memtable_node *node, const struct memtable_node *head, unsigned level,
                      const void *key, size_t size)
{
    const struct memtable_node *next = next_at(node, level);
    return (node == head || is_less(node, key, size)) && (!next || !is_less(next, key, size));
}

/* How far up to go from where the last one went in, to stand around a key. */
static unsigned finger_level(const struct memtable *memtable, enum store_table table, const void *key, size_t size)
{
    unsigned level = 0;
    while (level < MEMTABLE_HEIGHT_MAX &&
           !is_around(memtable->finger[table][level], memtable->heads[table], level, key, size))
        level++;
    return level;
}

#define NEAR_LEVEL 3 /* what is farther away takes many steps, through memory that is in no cache */

/* Most keys come near the one before: look from there. Those that do not, like the first of many that go, leave that
 * where it is for the rest, unless they are the last of all. */
static void link_from_finger(struct memtable *memtable, struct memtable_node *node, unsigned level)
{
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX], **finger = memtable->finger[node->table];
    for (unsigned i = level; i < MEMTABLE_HEIGHT_MAX; i++)
        before[i] = finger[i];
    descend(level < MEMTABLE_HEIGHT_MAX ? finger[level] : memtable->heads[node->table], level, memtable_key(node),
            node->key_size, before);
    link_node(node, before);
    if (level >= NEAR_LEVEL && memtable_next(node))
        return;
    for (unsigned i = 0; i < MEMTABLE_HEIGHT_MAX; i++)
        finger[i] = i < node->height ? node : before[i];
}

/* ---- Strays ---- */

/* Looking for the place of one of them. */
struct search {
    struct memtable_node *node, *at;
    unsigned level;
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX];
};

static void prefetch_node(const struct memtable_node *node)
{
    if (!node)
        return;
    __builtin_prefetch(node);
    __builtin_prefetch((const uint8_t *)node + 64); /* its key is there as often as not */
}

/* One step, and what the next one will look at is on its way from memory. False: there is none. */
static bool search_on(struct search *search)
{
    struct memtable_node *next = next_at(search->at, search->level - 1);
    if (next && is_less(next, memtable_key(search->node), search->node->key_size))
        search->at = next;
    else
        search->before[--search->level] = search->at;
    if (search->level == 0)
        return false;
    prefetch_node(next_at(search->at, search->level - 1));
    return true;
}

/* In turn, so that all of them wait for memory at once. */
void memtable_arrange(struct memtable *memtable)
{
    struct search searches[MEMTABLE_STRAYS_MAX];
    const unsigned count = memtable->stray_count;
    for (unsigned i = 0; i < count; i++)
        searches[i] = (struct search){.node = memtable->strays[i],
                                      .at = memtable->heads[memtable->strays[i]->table],
                                      .level = MEMTABLE_HEIGHT_MAX};
    for (bool more = count > 0; more;) {
        more = false;
        for (unsigned i = 0; i < count; i++)
            more |= searches[i].level > 0 && search_on(&searches[i]);
    }
    for (unsigned i = 0; i < count; i++)
        link_node(searches[i].node, searches[i].before);
    memtable->stray_count = 0;
}

struct memtable_node *memtable_insert(struct memtable *memtable, enum store_table table, const void *key, size_t size,
                                      bool fresh)
{
    struct memtable_node *node = memtable_new_node(memtable, table, key, size, fresh);
    if (!node)
        return NULL;
    const unsigned level = finger_level(memtable, table, key, size);
    if (is_hashed(table)) {
        node->hash = memtable_hash(table, key, size);
        memtable_add_to_hash(memtable, node);
    }
    if (level < NEAR_LEVEL || !is_hashed(table)) {
        link_from_finger(memtable, node, level);
        return node;
    }
    memtable->strays[memtable->stray_count++] = node;
    if (memtable->stray_count == MEMTABLE_STRAYS_MAX)
        memtable_arrange(memtable);
    return node;
}

bool memtable_write(struct memtable *memtable, struct memtable_node *node, uint64_t sequence, const void *value,
                    size_t size, bool gone, struct memtable_version **ret_older)
{
    struct memtable_version *version = memtable_take(memtable, sizeof *version + size);
    struct memtable_version *newest = atomic_load_explicit(&node->newest, memory_order_relaxed);
    const bool replaces = newest && newest->sequence == sequence;
    *ret_older = version && !replaces ? newest : NULL;
    if (!version)
        return false;
    version->previous = replaces ? newest->previous : newest;
    memtable_fill_version(version, sequence, value, size, gone);
    atomic_store_explicit(&node->newest, version, memory_order_release);
    return true;
}

static void take_out_of_hash(struct memtable *memtable, const struct memtable_node *node)
{
    _Atomic(struct memtable_node *) *link = bucket_of(memtable, node->hash);
    for (struct memtable_node *at; (at = atomic_load_explicit(link, memory_order_relaxed)) != node;)
        link = &at->hash_next;
    atomic_store_explicit(link, atomic_load_explicit(&node->hash_next, memory_order_relaxed), memory_order_release);
}

struct memtable_version *memtable_unlink(struct memtable *memtable, struct memtable_node *node)
{
    struct memtable_node *before[MEMTABLE_HEIGHT_MAX];
    struct memtable_version *newest = atomic_load_explicit(&node->newest, memory_order_relaxed);
    memtable_arrange(memtable);
    atomic_store_explicit(&node->newest, NULL, memory_order_release);
    descend(memtable->heads[node->table], MEMTABLE_HEIGHT_MAX, memtable_key(node), node->key_size, before);
    for (unsigned level = 0; level < node->height; level++) {
        assert(next_at(before[level], level) == node);
        atomic_store_explicit(&before[level]->next[level], next_at(node, level), memory_order_release);
        if (memtable->finger[node->table][level] == node)
            memtable->finger[node->table][level] = before[level];
    }
    if (memtable->sought[node->table] == node)
        memtable->sought[node->table] = before[0];
    if (is_hashed(node->table))
        take_out_of_hash(memtable, node);
    return newest;
}

void memtable_undo(struct memtable *memtable, struct memtable_node *node, uint64_t from_sequence)
{
    struct memtable_version *version = atomic_load_explicit(&node->newest, memory_order_relaxed);
    if (!version)
        return; /* undone already */
    while (version && version->sequence >= from_sequence)
        version = version->previous;
    atomic_store_explicit(&node->newest, version, memory_order_release);
    if (!version)
        (void)memtable_unlink(memtable, node);
}
