/* From a UUID to a pointer, in memory: open addressing, at most half full. */
#ifndef REEVE_BASE_MAP_H
#define REEVE_BASE_MAP_H

#include <reeve.h>

struct map_slot {
    struct reeve_uuid key;
    void *value; /* NULL: free */
};

struct map {
    struct map_slot *slots;
    size_t capacity, count; /* capacity is 0 or a power of two */
};

void map_deinit(struct map *map);
void map_clear(struct map *map); /* keeps the memory */
void *map_get(const struct map *map, const struct reeve_uuid *key);
/* It is asked for soon: its slot is fetched ahead. */
void map_fetch(const struct map *map, const struct reeve_uuid *key);
/* Replaces. False when out of memory: nothing has changed. */
bool map_put(struct map *map, const struct reeve_uuid *key, void *value);
void map_remove(struct map *map, const struct reeve_uuid *key);

#endif
