/* Memory that nobody should touch until it is used again: AddressSanitizer tells of whoever does. Else nothing. */
#ifndef REEVE_BASE_POISON_H
#define REEVE_BASE_POISON_H

#include <stddef.h>

#if defined __has_feature /* clang's way to ask */
#if __has_feature(address_sanitizer)
#define POISON_WORKS
#endif
#elif defined __SANITIZE_ADDRESS__ /* gcc's */
#define POISON_WORKS
#endif

#ifdef POISON_WORKS
#include <sanitizer/asan_interface.h>
#endif

static inline void memory_poison(void *memory, size_t size)
{
#ifdef POISON_WORKS
    __asan_poison_memory_region(memory, size);
#else
    (void)memory, (void)size;
#endif
}

static inline void memory_unpoison(void *memory, size_t size)
{
#ifdef POISON_WORKS
    __asan_unpoison_memory_region(memory, size);
#else
    (void)memory, (void)size;
#endif
}

#endif
