/* malloc() for a program whose state can be taken and put back: what the core allocates lies in one region, at the same
 * addresses after each return; everything else goes to the system's own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "states.h"

#define REGION_BYTES (4U << 20)
#define CLASSES 20 /* powers of two from 16 bytes on */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

struct block {
    size_t class;
    struct block *next; /* while it is free; else memory of its owner begins here */
};
#define HEAD_BYTES 16

static struct {
    size_t used;
    struct block *spare[CLASSES];
    _Alignas(16) uint8_t bytes[REGION_BYTES];
} region;
static bool inside;

void heap_enter(void)
{
    inside = true;
}

void heap_leave(void)
{
    inside = false;
}

static bool is_ours(const void *memory)
{
    return (const uint8_t *)memory >= region.bytes && (const uint8_t *)memory < region.bytes + REGION_BYTES;
}

static struct block *block_of(void *memory)
{
    return (struct block *)(void *)((uint8_t *)memory - HEAD_BYTES);
}

static void *take(size_t size)
{
    size_t class = 0;
    while (((size_t)16 << class) < size)
        class ++;
    struct block *block = class < CLASSES ? region.spare[class] : NULL;
    if (block) {
        region.spare[class] = block->next;
    } else {
        const size_t whole = HEAD_BYTES + ((size_t)16 << class);
        if (class >= CLASSES || region.used + whole > REGION_BYTES)
            abort();
        block = (struct block *)(void *)(region.bytes + region.used);
        region.used += whole;
    }
    block->class = class;
    return (uint8_t *)block + HEAD_BYTES;
}

void *malloc(size_t size)
{
    return inside ? take(size) : __libc_malloc(size);
}

void free(void *memory)
{
    if (!is_ours(memory)) {
        __libc_free(memory);
        return;
    }
    struct block *block = block_of(memory);
    memset(memory, 0, (size_t)16 << block->class); /* zeros cost nothing in an image */
    block->next = region.spare[block->class];
    region.spare[block->class] = block;
}

void *calloc(size_t count, size_t size)
{
    if (!inside)
        return __libc_calloc(count, size);
    void *memory = take(count * size);
    memset(memory, 0, count * size);
    return memory;
}

void *realloc(void *memory, size_t size)
{
    if (memory && !is_ours(memory))
        return __libc_realloc(memory, size);
    void *moved = malloc(size);
    if (memory && moved) {
        const size_t had = (size_t)16 << block_of(memory)->class;
        memcpy(moved, memory, had < size ? had : size);
        free(memory);
    }
    return moved;
}

/* ---- Images: words, with runs of zeros left out ---- */

struct image {
    size_t words;
    uint64_t data[];
};

/* A run: how many zeros, how many others, these. */
static size_t pack(const uint64_t *from, size_t count, uint64_t *to)
{
    size_t out = 0;
    for (size_t i = 0; i < count;) {
        const size_t start = i;
        while (i < count && from[i] == 0)
            i++;
        const size_t zeros = i - start, first = i;
        while (i < count && (from[i] != 0 || (i + 1 < count && from[i + 1] != 0)))
            i++;
        to[out++] = (uint64_t)zeros << 32 | (i - first);
        memcpy(to + out, from + first, (i - first) * sizeof *from);
        out += i - first;
    }
    return out;
}

static const uint64_t *unpack(const uint64_t *from, size_t count, uint64_t *to)
{
    for (size_t i = 0; i < count;) {
        const size_t zeros = (size_t)(*from >> 32), others = (size_t)(*from & UINT32_MAX);
        memset(to + i, 0, zeros * sizeof *to);
        memcpy(to + i + zeros, from + 1, others * sizeof *to);
        from += 1 + others;
        i += zeros + others;
    }
    return from;
}

static size_t region_words(void)
{
    return (offsetof(__typeof__(region), bytes) + region.used) / sizeof(uint64_t);
}

struct image *image_take(const void *more, size_t size)
{
    static uint64_t packed[2 * (REGION_BYTES / sizeof(uint64_t))];
    packed[0] = region_words();
    size_t words = 1 + pack((const uint64_t *)(const void *)&region, region_words(), packed + 1);
    words += pack(more, size / sizeof(uint64_t), packed + words);
    struct image *image = __libc_malloc(sizeof *image + words * sizeof(uint64_t));
    if (!image)
        abort();
    image->words = words;
    memcpy(image->data, packed, words * sizeof(uint64_t));
    return image;
}

void image_put_back(const struct image *image, void *more, size_t size)
{
    const uint64_t *rest = unpack(image->data + 1, (size_t)image->data[0], (uint64_t *)(void *)&region);
    unpack(rest, size / sizeof(uint64_t), more);
}

size_t image_bytes(const struct image *image)
{
    return sizeof *image + image->words * sizeof(uint64_t);
}

void image_free(struct image *image)
{
    __libc_free(image);
}
