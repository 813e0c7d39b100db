/* Inputs that are the same in each run: with REEVE_FUZZ_SEED in the environment, the first inputs of REEVE_FUZZ_CORPUS,
 * in the order of their names, and then what is made of them from that seed. What the target did with those before does
 * not matter, as it does in a hunt, where threads, time and addresses lead each run elsewhere. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define CHANGES_MAX 4
#define RANGE_MAX 32

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);

struct seed {
    uint8_t *data;
    size_t size;
};

static struct {
    bool looked_up, wanted;
    uint64_t random;
    struct seed *seeds;
    size_t count, next;
} repeat;

static uint64_t draw(uint64_t below)
{
    repeat.random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t x = repeat.random;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (x ^ (x >> 31)) % below;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void read_seed(const char *directory, const char *name, struct seed *ret_seed)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    ret_seed->data = fuzz_read(path, &ret_seed->size);
}

static void look_up(void)
{
    const char *seed = getenv("REEVE_FUZZ_SEED"), *directory = getenv("REEVE_FUZZ_CORPUS");
    struct dirent **entries;
    repeat.looked_up = true;
    repeat.wanted = seed && directory;
    if (!repeat.wanted)
        return;
    const int count = scandir(directory, &entries, is_visible, alphasort);
    fuzz_require(count > 0, "there are no first inputs");
    repeat.random = strtoull(seed, NULL, 10);
    repeat.count = (size_t)count;
    repeat.seeds = calloc(repeat.count, sizeof *repeat.seeds);
    fuzz_require(repeat.seeds != NULL, "out of memory");
    for (size_t i = 0; i < repeat.count; i++) {
        read_seed(directory, entries[i]->d_name, &repeat.seeds[i]);
        free(entries[i]);
    }
    free(entries);
}

/* ---- Changes: each returns the new size ---- */

static size_t range_of(size_t size)
{
    return 1 + (size_t)draw(size < RANGE_MAX ? size : RANGE_MAX);
}

static size_t flip(uint8_t *data, size_t size)
{
    if (size)
        data[draw(size)] ^= (uint8_t)(1U << draw(8));
    return size;
}

static size_t overwrite(uint8_t *data, size_t size)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff, '0', '9', 'A', '\n', '"', '%'};
    if (size)
        data[draw(size)] = draw(2) ? edges[draw(sizeof edges)] : (uint8_t)draw(256);
    return size;
}

static size_t erase(uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const size_t at = (size_t)draw(size), range = range_of(size - at);
    memmove(data + at, data + at + range, size - at - range);
    return size - range;
}

/* A piece of any first input, also of this one. */
static size_t insert(uint8_t *data, size_t size, size_t size_max)
{
    const struct seed *other = &repeat.seeds[draw(repeat.count)];
    if (other->size == 0)
        return size;
    const size_t from = (size_t)draw(other->size), at = (size_t)draw(size + 1);
    const size_t range = range_of(other->size - from);
    if (size + range > size_max)
        return size;
    memmove(data + at + range, data + at, size - at);
    memcpy(data + at, other->data + from, range);
    return size + range;
}

static size_t replace(uint8_t *data, size_t size)
{
    const struct seed *other = &repeat.seeds[draw(repeat.count)];
    if (size == 0 || other->size == 0)
        return size;
    const size_t from = (size_t)draw(other->size), at = (size_t)draw(size);
    const size_t left = other->size - from, room = size - at;
    memcpy(data + at, other->data + from, range_of(left < room ? left : room));
    return size;
}

static size_t change(uint8_t *data, size_t size, size_t size_max)
{
    switch (draw(5)) {
    case 0:
        return flip(data, size);
    case 1:
        return overwrite(data, size);
    case 2:
        return erase(data, size);
    case 3:
        return insert(data, size, size_max);
    default:
        return replace(data, size);
    }
}

static size_t next_input(uint8_t *data, size_t size_max)
{
    const bool is_first = repeat.next < repeat.count;
    const struct seed *seed = &repeat.seeds[is_first ? repeat.next++ : draw(repeat.count)];
    size_t size = seed->size < size_max ? seed->size : size_max;
    if (size)
        memcpy(data, seed->data, size);
    for (uint64_t changes = is_first ? 0 : 1 + draw(CHANGES_MAX); changes > 0; changes--)
        size = change(data, size, size_max);
    return size ? size : 1; /* an empty one is tried anyway, and would be asked for again */
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    (void)seed;
    if (!repeat.looked_up)
        look_up();
    return repeat.wanted ? next_input(data, size_max) : LLVMFuzzerMutate(data, size, size_max);
}
