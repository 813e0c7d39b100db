/* Large pieces of memory straight from the system. To look around in many small pages costs a walk through the page
 * tables for each look; the first touch of a large one takes as long as that of 512 small ones, at once: they are for
 * what is touched before anybody waits for it. What is small comes from the heap. */
#ifndef REEVE_BASE_PAGES_H
#define REEVE_BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "poison.h"

#define PAGES_LARGE ((size_t)2 << 20)
#define PAGES_SMALL ((size_t)4 << 10)

static inline bool pages_are_worth_it(size_t size)
{
    return size >= PAGES_LARGE / 2;
}

/* The size that is really taken. */
static inline size_t pages_round(size_t size)
{
    return pages_are_worth_it(size) && size <= SIZE_MAX - PAGES_LARGE ? (size + PAGES_LARGE - 1) & ~(PAGES_LARGE - 1)
                                                                      : size;
}

/* Cleared. NULL when out of memory. */
static inline void *pages_alloc(size_t size)
{
    if (!pages_are_worth_it(size))
        return calloc(1, size);
    /* cppcheck-suppress invalidFunctionArg ; no file, says mmap(2), is -1 */
    void *memory = mmap(NULL, pages_round(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    return memory;
}

/* What pages_alloc() gave: what is touched from here on comes in large pages, where the system has any. */
static inline void pages_enlarge(void *memory, size_t size)
{
    if (pages_are_worth_it(size))
        (void)madvise(memory, pages_round(size), MADV_HUGEPAGE);
}

/* Touches each page, so that nobody has to wait for it later; what is in them stays. */
static inline void pages_populate(void *memory, size_t size)
{
    volatile char *bytes = memory;
    for (size_t at = 0; at < size; at += PAGES_SMALL) {
        const char byte = bytes[at];
        bytes[at] = byte;
    }
}

/* What pages_alloc() gave, or malloc() where it would not be worth it; `size` as asked for, or as it was rounded. */
static inline void pages_free(void *memory, size_t size)
{
    if (!pages_are_worth_it(size)) {
        free(memory);
    } else if (memory) {
        memory_unpoison(memory, pages_round(size)); /* whoever gets these addresses next */
        munmap(memory, pages_round(size));
    }
}

#endif
