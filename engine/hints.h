/* Where nothing is: what is due, or queued, is deleted at the head of its table, and looked for there again and again.
 * Stretches of a table without a key, as the batch sees it. */
#ifndef REEVE_HINTS_H
#define REEVE_HINTS_H

#include <stdbool.h>

#include "tables.h"

#define HINTS_PER_TABLE 4

/* There is no key from `from` on and before `to`. */
struct hint {
    bool valid, endless;
    struct store_key from, to;
};

struct hints {
    struct hint items[TABLE_COUNT][HINTS_PER_TABLE];
    unsigned next[TABLE_COUNT];
};

/* Of the stretch that has this key in it; NULL: none is known. */
const struct hint *hints_find(const struct hints *hints, enum store_table table, const struct store_key *key);
/* There is nothing from a key up to an item; NULL: to the end. */
void hints_note(struct hints *hints, enum store_table table, const struct store_key *from, const struct store_item *to);
/* Now there is something. */
void hints_put(struct hints *hints, enum store_table table, const struct store_key *key);
void hints_forget(struct hints *hints);

#endif
