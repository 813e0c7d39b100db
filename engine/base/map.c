#include "map.h"

#include <stdlib.h>
#include <string.h>

#include "uuid.h"

void map_deinit(struct map *map)
{
    free(map->slots);
    *map = (struct map){0};
}

void map_clear(struct map *map)
{
    if (map->count)
        memset(map->slots, 0, map->capacity * sizeof *map->slots);
    map->count = 0;
}

/* The last bytes of every UUID version in use are random. */
static size_t home_of(const struct map *map, const struct reeve_uuid *key)
{
    uint64_t hash;
    memcpy(&hash, key->bytes + 8, sizeof hash);
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 32) & (map->capacity - 1);
}

static struct map_slot *find(const struct map *map, const struct reeve_uuid *key)
{
    size_t i = home_of(map, key);
    while (map->slots[i].value && !uuid_equal(&map->slots[i].key, key))
        i = (i + 1) & (map->capacity - 1);
    return &map->slots[i];
}

void *map_get(const struct map *map, const struct reeve_uuid *key)
{
    return map->count ? find(map, key)->value : NULL;
}

void map_fetch(const struct map *map, const struct reeve_uuid *key)
{
    if (map->count)
        __builtin_prefetch(&map->slots[home_of(map, key)]);
}

static bool grow(struct map *map)
{
    struct map larger = {.capacity = map->capacity ? map->capacity * 2 : 64};
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].value)
            *find(&larger, &map->slots[i].key) = map->slots[i];
    }
    larger.count = map->count;
    free(map->slots);
    *map = larger;
    return true;
}

bool map_put(struct map *map, const struct reeve_uuid *key, void *value)
{
    if (map->count * 2 >= map->capacity && !grow(map))
        return false;
    struct map_slot *slot = find(map, key);
    if (!slot->value)
        map->count++;
    *slot = (struct map_slot){*key, value};
    return true;
}

void map_remove(struct map *map, const struct reeve_uuid *key)
{
    if (map->count == 0)
        return;
    struct map_slot *slot = find(map, key);
    if (!slot->value)
        return;
    map->count--;
    /* Move up what stands behind, so that no search ends at the hole. */
    size_t hole = (size_t)(slot - map->slots);
    for (size_t i = (hole + 1) & (map->capacity - 1); map->slots[i].value; i = (i + 1) & (map->capacity - 1)) {
        const size_t home = home_of(map, &map->slots[i].key);
        if (((i - home) & (map->capacity - 1)) >= ((i - hole) & (map->capacity - 1))) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = NULL;
}
