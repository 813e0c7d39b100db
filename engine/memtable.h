/* What is durable in the journal and not in the database yet: ordered tables in memory, each key with its versions.
 *
 * One thread writes (the engine's). Any thread reads, without a lock: a reader has the number of a batch and sees of
 * each key the newest version up to it. What was taken out of the order is not seen by those who come later, and leads
 * those who stand on it back into it; the writer is told when nobody can see a version or a node any more, and uses its
 * memory again. The system gets all of it back at once, when nobody reads the table.
 */
#ifndef REEVE_MEMTABLE_H
#define REEVE_MEMTABLE_H

#include <stdatomic.h>

#include "base/arena.h"
#include "tables.h"

#define MEMTABLE_HEIGHT_MAX 12
#define MEMTABLE_PIECES 128 /* sizes of memory that is used again */
#define MEMTABLE_STRAYS_MAX 32

struct memtable_version {
    struct memtable_version *previous; /* the one before it */
    uint64_t sequence;                 /* of the batch that wrote it */
    uint32_t size;
    bool gone; /* the key is deleted */
    uint8_t bytes[];
};

struct memtable_node {
    _Atomic(struct memtable_version *) newest;
    _Atomic(struct memtable_node *) hash_next;
    uint32_t hash;
    uint8_t table, height, key_size;
    bool fresh;                             /* nothing below has this key: where it is gone, nothing has to be hidden */
    _Atomic(struct memtable_node *) next[]; /* by level; behind them the key, so that most lie in one line of a cache */
};

struct memtable_piece;

struct memtable {
    struct arena arena;
    struct memtable_piece *pieces[MEMTABLE_PIECES]; /* to be used again, by their size */
    uint64_t bytes_wanted;
    _Atomic(struct memtable_node *) *buckets;
    unsigned bucket_bits;
    uint32_t random;
    size_t loaded;                                                  /* nodes that memtable_load() has made */
    struct memtable_node *heads[TABLE_COUNT];                       /* before the first key of each table */
    struct memtable_node *finger[TABLE_COUNT][MEMTABLE_HEIGHT_MAX]; /* where the last one was put in */
    struct memtable_node *sought[TABLE_COUNT];                      /* before the last one that was looked for */
    struct memtable_node *strays[MEMTABLE_STRAYS_MAX];              /* inserted, and not in the order yet */
    unsigned stray_count;
    atomic_size_t bytes;   /* of memory that it has taken; what can be used again is among them */
    struct memtable *next; /* the store's lists */
    unsigned readers;      /* the store's lock */
    uint64_t last_sequence;
    uint32_t last_chain;
};

/* For about this many bytes of changes. NULL when out of memory. */
struct memtable *memtable_new(uint64_t bytes_wanted);
void memtable_free(struct memtable *memtable);
/* Empty again. False when out of memory, or where it has become much larger than was wanted: it can only be freed. */
bool memtable_reset(struct memtable *memtable);

/* Takes the memory of a new one from the system at once, in large pages, which would else hold up the writer bit by
 * bit. False when out of memory. */
bool memtable_populate(struct memtable *memtable);

/* ---- Filling a new one, before anybody reads: what is not asked for by its order until all is there need not be put
 * in order one by one ---- */

/* The newest version replaces the one before. False when out of memory. */
bool memtable_load(struct memtable *memtable, enum store_table table, const void *key, size_t size, uint64_t sequence,
                   const void *value, size_t value_size, bool gone);
/* All is there. False when out of memory. */
bool memtable_order(struct memtable *memtable);

/* ---- The writer ---- */

/* For a key that memtable_find() does not find, and finds from now on; in the order it may be seen only after
 * memtable_arrange(). NULL when out of memory. */
struct memtable_node *memtable_insert(struct memtable *memtable, enum store_table table, const void *key, size_t size,
                                      bool fresh);
/* As memtable_find(), and sooner where the key is near the one that was looked for before. */
struct memtable_node *memtable_find_near(struct memtable *memtable, enum store_table table, const void *key,
                                         size_t size);
/* What was inserted takes its place in the order: before the writer looks at any order, and before others may see the
 * batch. */
void memtable_arrange(struct memtable *memtable);
/* A new version replaces one that the same batch wrote before. Where one of an older batch was the newest, that is
 * *ret_older: to be given to memtable_reuse_version() once nobody sees it any more. False when out of memory. */
bool memtable_write(struct memtable *memtable, struct memtable_node *node, uint64_t sequence, const void *value,
                    size_t size, bool gone, struct memtable_version **ret_older);
/* Forget the versions from this batch on; a node that has none left is taken out. */
void memtable_undo(struct memtable *memtable, struct memtable_node *node, uint64_t from_sequence);
/* Out of the order, with its versions, of which the newest is returned: for memtable_reuse_node(). */
struct memtable_version *memtable_unlink(struct memtable *memtable, struct memtable_node *node);
/* Nobody sees an older batch than the one that wrote what came after this version. */
void memtable_reuse_version(struct memtable *memtable, struct memtable_version *version);
/* Nobody who reads began before the node was taken out. */
void memtable_reuse_node(struct memtable *memtable, struct memtable_node *node, struct memtable_version *version);

/* ---- Any thread ---- */

static inline const uint8_t *memtable_key(const struct memtable_node *node)
{
    return (const uint8_t *)(node->next + node->height);
}

struct memtable_node *memtable_find(const struct memtable *memtable, enum store_table table, const void *key,
                                    size_t size);
/* As store_fetch(); the writer only. */
void memtable_fetch(const struct memtable *memtable, enum store_table table, const struct store_key *keys,
                    size_t count);
/* The newest version up to this batch; NULL: there was none by then. */
static inline const struct memtable_version *memtable_at(const struct memtable_node *node, uint64_t sequence)
{
    const struct memtable_version *version = atomic_load_explicit(&node->newest, memory_order_acquire);
    while (version && version->sequence > sequence)
        version = version->previous;
    return version;
}
static inline struct memtable_node *memtable_next(const struct memtable_node *node)
{
    return atomic_load_explicit(&node->next[0], memory_order_acquire);
}
static inline struct memtable_node *memtable_first(const struct memtable *memtable, enum store_table table)
{
    return memtable_next(memtable->heads[table]);
}
/* The first whose key is not less; the last whose key is less, or of all where there is no key. */
struct memtable_node *memtable_from(const struct memtable *memtable, enum store_table table, const void *key,
                                    size_t size);
struct memtable_node *memtable_before(const struct memtable *memtable, enum store_table table, const void *key,
                                      size_t size);
struct memtable_node *memtable_last(const struct memtable *memtable, enum store_table table);

/* How keys are ordered, here and in the database. */
int memtable_compare(const void *a, size_t a_size, const void *b, size_t b_size);

#endif
