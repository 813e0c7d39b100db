/* The levels of the store as one. */
#ifndef REEVE_STORE_VIEW_H
#define REEVE_STORE_VIEW_H

#include "memtable.h"
#include "store.h"

bool view_get(struct store_view *view, enum store_table table, const struct store_key *key,
              struct reeve_str *ret_value);

/* A walk over the items of a table, in order. */
struct view_cursor {
    struct store_view *view;
    enum store_table table;
    bool backwards;
    struct memtable_node *nodes[2];
    const struct memtable_version *versions[2]; /* of them: a node that the writer takes out has none any more */
    struct database_cursor below;
    struct store_item item; /* where `below` is */
    bool has_item;
    unsigned skipped; /* keys that are gone */
};

void view_cursor_open(struct store_view *view, enum store_table table, const struct store_key *from, bool backwards,
                      struct view_cursor *ret_cursor);
bool view_cursor_next(struct view_cursor *cursor, struct store_item *ret_item);
void view_cursor_close(struct view_cursor *cursor);

#endif
