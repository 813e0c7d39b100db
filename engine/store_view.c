#include "store_view.h"

bool view_get(struct store_view *view, enum store_table table, const struct store_key *key, struct reeve_str *ret_value)
{
    for (int i = 0; i < 2 && view->tables[i]; i++) {
        const struct memtable_node *node = memtable_find(view->tables[i], table, key->bytes, key->size);
        const struct memtable_version *version = node ? memtable_at(node, view->sequence) : NULL;
        if (!version)
            continue;
        *ret_value = (struct reeve_str){(const char *)version->bytes, version->size};
        return !version->gone;
    }
    return database_get(&view->database, table, key->bytes, key->size, ret_value);
}

/* From this node on, in the direction of the walk, the first that the view sees a version of. */
static void settle_on(struct view_cursor *cursor, int level, struct memtable_node *node)
{
    const struct memtable_version *version = NULL;
    while (node && !(version = memtable_at(node, cursor->view->sequence)))
        node = cursor->backwards
                   ? memtable_before(cursor->view->tables[level], cursor->table, memtable_key(node), node->key_size)
                   : memtable_next(node);
    cursor->nodes[level] = node;
    cursor->versions[level] = version;
}

static void step_node(struct view_cursor *cursor, int level)
{
    struct memtable_node *node = cursor->nodes[level];
    settle_on(cursor, level,
              cursor->backwards
                  ? memtable_before(cursor->view->tables[level], cursor->table, memtable_key(node), node->key_size)
                  : memtable_next(node));
}

void view_cursor_open(struct store_view *view, enum store_table table, const struct store_key *from, bool backwards,
                      struct view_cursor *ret_cursor)
{
    *ret_cursor = (struct view_cursor){.view = view, .table = table, .backwards = backwards};
    for (int i = 0; i < 2 && view->tables[i]; i++)
        settle_on(ret_cursor, i,
                  backwards ? memtable_before(view->tables[i], table, from->bytes, from->size)
                            : memtable_from(view->tables[i], table, from->bytes, from->size));
    database_cursor_open(&view->database, table, &ret_cursor->below);
    ret_cursor->has_item = database_cursor_seek(&ret_cursor->below, from, backwards, &ret_cursor->item);
}

void view_cursor_close(struct view_cursor *cursor)
{
    database_cursor_close(&cursor->below);
}

/* Does a key come before another one in this walk? */
static int order(const struct view_cursor *cursor, const void *a, size_t a_size, const void *b, size_t b_size)
{
    const int order = memtable_compare(a, a_size, b, b_size);
    return cursor->backwards ? -order : order;
}

/* The level whose key is next, the newest of those that have it: 2 is the database, -1 the end. */
static int next_level(const struct view_cursor *cursor)
{
    const uint8_t *key = NULL;
    size_t size = 0;
    int level = -1;
    for (int i = 0; i < 2; i++) {
        const struct memtable_node *node = cursor->nodes[i];
        if (!node || (key && order(cursor, memtable_key(node), node->key_size, key, size) >= 0))
            continue;
        key = memtable_key(node);
        size = node->key_size;
        level = i;
    }
    if (cursor->has_item && (!key || order(cursor, cursor->item.key, cursor->item.key_size, key, size) < 0))
        level = 2;
    return level;
}

static bool stands_on(const struct memtable_node *node, const struct store_item *item)
{
    return node && memtable_compare(memtable_key(node), node->key_size, item->key, item->key_size) == 0;
}

static void step_below(struct view_cursor *cursor)
{
    cursor->has_item = database_cursor_step(&cursor->below, cursor->backwards, &cursor->item);
}

/* Take the item of a level, and pass over the same key in older ones. False: it is gone. */
static bool take(struct view_cursor *cursor, int level, struct store_item *ret_item)
{
    if (level == 2) {
        *ret_item = cursor->item;
        step_below(cursor);
        return true;
    }
    const struct memtable_node *node = cursor->nodes[level];
    const struct memtable_version *version = cursor->versions[level];
    *ret_item = (struct store_item){memtable_key(node), node->key_size, version->bytes, version->size};
    for (int i = level; i < 2; i++) {
        if (stands_on(cursor->nodes[i], ret_item))
            step_node(cursor, i);
    }
    if (cursor->has_item &&
        memtable_compare(cursor->item.key, cursor->item.key_size, ret_item->key, ret_item->key_size) == 0)
        step_below(cursor);
    return !version->gone;
}

bool view_cursor_next(struct view_cursor *cursor, struct store_item *ret_item)
{
    struct store_item item;
    for (int level; (level = next_level(cursor)) >= 0; cursor->skipped++) {
        if (!take(cursor, level, &item))
            continue;
        *ret_item = item;
        return true;
    }
    return false;
}
