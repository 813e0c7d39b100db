#include "hints.h"

#include <string.h>

#include "memtable.h"

static int compare_keys(const struct store_key *a, const struct store_key *b)
{
    return memtable_compare(a->bytes, a->size, b->bytes, b->size);
}

static bool covers(const struct hint *hint, const struct store_key *key)
{
    return hint->valid && compare_keys(&hint->from, key) <= 0 && (hint->endless || compare_keys(key, &hint->to) < 0);
}

const struct hint *hints_find(const struct hints *hints, enum store_table table, const struct store_key *key)
{
    for (unsigned i = 0; i < HINTS_PER_TABLE; i++) {
        if (covers(&hints->items[table][i], key))
            return &hints->items[table][i];
    }
    return NULL;
}

void hints_note(struct hints *hints, enum store_table table, const struct store_key *from, const struct store_item *to)
{
    struct hint *hint = &hints->items[table][hints->next[table]++ % HINTS_PER_TABLE];
    if (to && to->key_size > sizeof hint->to.bytes)
        return;
    *hint = (struct hint){.valid = true, .endless = !to, .from = *from};
    if (to) {
        hint->to.size = to->key_size;
        memcpy(hint->to.bytes, to->key, to->key_size);
    }
}

void hints_put(struct hints *hints, enum store_table table, const struct store_key *key)
{
    for (unsigned i = 0; i < HINTS_PER_TABLE; i++) {
        struct hint *hint = &hints->items[table][i];
        if (!covers(hint, key))
            continue;
        hint->endless = false;
        hint->to = *key;
    }
}

void hints_forget(struct hints *hints)
{
    memset(hints->items, 0, sizeof hints->items);
}
