/* The inside of a table in memory, for the files it is made of: the writer and who looks up in memtable.c, filling in
 * memtable_load.c. */
#ifndef REEVE_MEMTABLE_STATE_H
#define REEVE_MEMTABLE_STATE_H

#include <string.h>

#include "memtable.h"

/* Memory of the table; NULL when out of it. */
void *memtable_take(struct memtable *memtable, size_t size);
/* For what is there and what comes. */
void memtable_use_large_pages(struct memtable *memtable);

uint32_t memtable_hash(enum store_table table, const void *key, size_t size);
struct memtable_node *memtable_find_by_hash(const struct memtable *memtable, enum store_table table, const void *key,
                                            size_t size, uint32_t hash);
/* In no order and without its hash yet; NULL when out of memory. */
struct memtable_node *memtable_new_node(struct memtable *memtable, enum store_table table, const void *key, size_t size,
                                        bool fresh);
/* By the hash that it has. */
void memtable_add_to_hash(struct memtable *memtable, struct memtable_node *node);

static inline void memtable_fill_version(struct memtable_version *version, uint64_t sequence, const void *value,
                                         size_t size, bool gone)
{
    version->sequence = sequence;
    version->size = (uint32_t)size;
    version->gone = gone;
    if (size)
        memcpy(version->bytes, value, size);
}

#endif
