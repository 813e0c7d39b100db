/* Memory that is given back all at once: blocks in a list, bump allocation, reset keeps the first block. */
#ifndef REEVE_BASE_ARENA_H
#define REEVE_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *first, *current;
    size_t block_size;
    bool borrowed;    /* the first block is not ours to free */
    bool large_pages; /* for the blocks that are taken from here on, see pages.h */
};

void arena_init(struct arena *arena, size_t block_size);
/* The first block is in `memory`, which must stay until arena_deinit() and be aligned for anything: for those who
 * mostly need no more than fits on the stack. */
void arena_init_on(struct arena *arena, void *memory, size_t size, size_t block_size);
void arena_deinit(struct arena *arena);
/* Aligned for anything, not cleared. NULL when out of memory. */
void *arena_alloc(struct arena *arena, size_t size);
/* The same, cleared. */
void *arena_zalloc(struct arena *arena, size_t size);
/* A copy of size bytes. */
void *arena_copy(struct arena *arena, const void *data, size_t size);
/* Room for about so much more, taken from the system now. False when out of memory. */
bool arena_reserve(struct arena *arena, size_t size);
void arena_reset(struct arena *arena);

#endif
