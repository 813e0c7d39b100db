#include "arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"
#include "poison.h"

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    max_align_t data[];
};

void arena_init(struct arena *arena, size_t block_size)
{
    *arena = (struct arena){.block_size = block_size};
}

void arena_init_on(struct arena *arena, void *memory, size_t size, size_t block_size)
{
    struct arena_block *block = memory;
    *block = (struct arena_block){.size = size - sizeof *block};
    *arena = (struct arena){.first = block, .current = block, .block_size = block_size, .borrowed = true};
}

void arena_deinit(struct arena *arena)
{
    struct arena_block *next;
    for (struct arena_block *block = arena->borrowed ? arena->first->next : arena->first; block; block = next) {
        next = block->next;
        pages_free(block, sizeof *block + block->size);
    }
    if (arena->borrowed)
        arena->first->next = NULL;
    else
        arena->first = NULL;
    arena->current = arena->first;
}

/* Find or make a block with room behind the current one. */
static struct arena_block *arena_grow(struct arena *arena, size_t size)
{
    struct arena_block *current = arena->current;
    while (current && current->next) {
        current = current->next;
        current->used = 0;
        if (current->size >= size) {
            arena->current = current;
            return current;
        }
    }
    const size_t block_size = size > arena->block_size ? size : arena->block_size;
    if (block_size > SIZE_MAX - sizeof(struct arena_block))
        return NULL;
    const size_t whole = pages_round(sizeof(struct arena_block) + block_size);
    struct arena_block *block = pages_are_worth_it(whole) ? pages_alloc(whole) : malloc(whole);
    if (!block)
        return NULL;
    if (arena->large_pages)
        pages_enlarge(block, whole);
    *block = (struct arena_block){.size = whole - sizeof *block};
    if (current)
        current->next = block;
    else
        arena->first = block;
    arena->current = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    const size_t alignment = alignof(max_align_t);
    if (size > SIZE_MAX - alignment)
        return NULL;
    size = (size + alignment - 1) / alignment * alignment;
    struct arena_block *block = arena->current;
    if (!block || block->size - block->used < size) {
        block = arena_grow(arena, size);
        if (!block)
            return NULL;
    }
    void *memory = (char *)block->data + block->used;
    block->used += size;
    memory_unpoison(memory, size);
    return memory;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    void *memory = arena_alloc(arena, size);
    return memory ? memset(memory, 0, size) : NULL;
}

void *arena_copy(struct arena *arena, const void *data, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (memory && size)
        memcpy(memory, data, size);
    return memory;
}

bool arena_reserve(struct arena *arena, size_t size)
{
    struct arena_block *const current = arena->current;
    size_t reserved = 0;
    while (reserved < size && arena_grow(arena, 0)) {
        pages_populate(arena->current->data, arena->current->size);
        reserved += arena->current->size;
    }
    arena->current = current ? current : arena->first;
    return reserved >= size;
}

void arena_reset(struct arena *arena)
{
    arena->current = arena->first;
    if (arena->first)
        arena->first->used = 0;
}
