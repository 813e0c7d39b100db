/* Tables in memory against a model that is as simple as it can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memtable.h"
#include "reclaim.h"
#include "tests/lib/numbered_keys.h"

/* ---- One table ---- */

#define BATCHES 400

/* What each key was after each batch: 0 none, 1 gone, else a value. */
static uint64_t model[BATCHES + 1][KEYS];
static enum store_table model_of; /* some are found by a hash, some only in their order */

static void check_node(const struct memtable_node *node, uint64_t sequence, unsigned number)
{
    const struct memtable_version *version = memtable_at(node, sequence);
    uint64_t value;
    assert_int_equal(number_of(memtable_key(node)), number);
    assert_non_null(version);
    assert_int_equal(version->gone, model[sequence][number] == 1);
    if (version->gone)
        return;
    assert_int_equal(version->size, sizeof value);
    memcpy(&value, version->bytes, sizeof value);
    assert_int_equal(value, model[sequence][number]);
}

static struct memtable_node *seen_from(struct memtable_node *node, uint64_t sequence)
{
    while (node && !memtable_at(node, sequence))
        node = memtable_next(node);
    return node;
}

/* Forwards from any key, backwards from any key, and each key by itself, as of a batch. */
static void check_table(const struct memtable *table, uint64_t sequence)
{
    unsigned from = (unsigned)draw(KEYS);
    struct store_key key = key_of(from);
    struct memtable_node *node = memtable_from(table, model_of, key.bytes, key.size);
    for (unsigned number = from; number < KEYS; number++) {
        if (model[sequence][number] == 0)
            continue;
        node = seen_from(node, sequence);
        assert_non_null(node);
        check_node(node, sequence, number);
        node = memtable_next(node);
    }
    assert_null(seen_from(node, sequence));
    for (unsigned number = from; number-- > 0;) {
        node = memtable_before(table, model_of, key.bytes, key.size);
        while (node && !memtable_at(node, sequence))
            node = memtable_before(table, model_of, memtable_key(node), node->key_size);
        if (model[sequence][number] == 0)
            continue;
        assert_non_null(node);
        check_node(node, sequence, number);
        key = key_of(number);
    }
    for (unsigned number = 0; number < KEYS; number++) {
        key = key_of(number);
        node = memtable_find(table, model_of, key.bytes, key.size);
        assert_int_equal(node && memtable_at(node, sequence), model[sequence][number] != 0);
    }
}

static void change(struct memtable *table, struct reclaim *reclaim, uint64_t sequence, unsigned number,
                   struct memtable_node **nodes)
{
    const struct store_key key = key_of(number);
    const uint64_t value = 2 + draw(1 << 20);
    const bool gone = draw(3) == 0;
    struct memtable_node *node = memtable_find_near(table, model_of, key.bytes, key.size);
    if (!node)
        node = memtable_insert(table, model_of, key.bytes, key.size, true);
    assert_non_null(node);
    struct memtable_version *older;
    assert_true(memtable_write(table, node, sequence, &value, gone ? 0 : sizeof value, gone, &older));
    if (older)
        reclaim_version(reclaim, older, sequence);
    if (gone)
        reclaim_node(reclaim, node, sequence);
    model[sequence][number] = gone ? 1 : value;
    nodes[number] = node;
}

static void undo(struct memtable *table, struct reclaim *reclaim, uint64_t sequence, struct memtable_node **nodes)
{
    for (unsigned number = 0; number < KEYS; number++) {
        if (nodes[number])
            memtable_undo(table, nodes[number], sequence);
    }
    reclaim_undo(reclaim, sequence);
    memcpy(model[sequence], model[sequence - 1], sizeof model[0]);
}

/* Nobody looks at a batch before this one: what is gone is taken out, and memory is used again. */
static void collect(struct memtable *table, struct reclaim *reclaim, uint64_t sequence, uint64_t *oldest)
{
    reclaim_collect(reclaim, table, sequence, sequence, sequence);
    for (unsigned number = 0; number < KEYS; number++) {
        const struct store_key key = key_of(number);
        const struct memtable_node *node = memtable_find(table, model_of, key.bytes, key.size);
        if (model[sequence][number] == 1 && !node)
            model[sequence][number] = 0;
    }
    *oldest = sequence;
}

static void test_a_table_is_what_the_model_is(void **state)
{
    (void)state;
    struct memtable *table = memtable_new(1 << 16);
    struct reclaim reclaim;
    assert_non_null(table);
    reclaim_init(&reclaim);
    for (uint64_t run = 1; run <= 40; run++) {
        seed = run * 7919;
        model_of = run % 2 ? TABLE_DUE : TABLE_QUEUE;
        memset(model, 0, sizeof model);
        uint64_t oldest = 0;
        for (uint64_t sequence = 1; sequence <= BATCHES; sequence++) {
            struct memtable_node *nodes[KEYS] = {NULL};
            memcpy(model[sequence], model[sequence - 1], sizeof model[0]);
            for (uint64_t changes = draw(12); changes > 0; changes--)
                change(table, &reclaim, sequence, (unsigned)draw(KEYS), nodes);
            if (draw(5) == 0)
                undo(table, &reclaim, sequence, nodes);
            if (draw(20) == 0)
                collect(table, &reclaim, sequence, &oldest);
            memtable_arrange(table);
            check_table(table, oldest + draw(sequence - oldest + 1));
        }
        assert_true(memtable_reset(table));
        reclaim_forget(&reclaim);
        assert_null(memtable_first(table, model_of));
        assert_null(memtable_last(table, model_of));
    }
    reclaim_deinit(&reclaim);
    memtable_free(table);
}

/* The same keys again and again, made, changed and deleted, take no more memory than the first block has. */
static void test_memory_of_what_nobody_sees_is_used_again(void **state)
{
    (void)state;
    static const char value[64];
    struct memtable *table = memtable_new(1 << 16);
    struct reclaim reclaim;
    struct memtable_version *older;
    assert_non_null(table);
    reclaim_init(&reclaim);
    for (uint64_t sequence = 1; sequence <= 40000; sequence++) {
        const struct store_key key = key_of((unsigned)draw(KEYS));
        const bool gone = draw(3) == 0;
        struct memtable_node *node = memtable_find(table, TABLE_DUE, key.bytes, key.size);
        if (!node)
            node = memtable_insert(table, TABLE_DUE, key.bytes, key.size, true);
        assert_true(memtable_write(table, node, sequence, value, gone ? 0 : sizeof value, gone, &older));
        if (older)
            reclaim_version(&reclaim, older, sequence);
        if (gone)
            reclaim_node(&reclaim, node, sequence);
        reclaim_collect(&reclaim, table, sequence, sequence + 1, sequence);
    }
    assert_ptr_equal(table->arena.current, table->arena.first);
    assert_in_range(atomic_load(&table->bytes), 1, 1 << 16);
    reclaim_deinit(&reclaim);
    memtable_free(table);
}

/* By one of those that are put in now, of which some are as large. */
static bool is_used_again(struct memtable *table, const struct memtable_node *node, char first)
{
    bool found = false;
    for (char second = 'a'; second <= 'z'; second++) {
        const char key[] = {first, second, 'x'};
        found |= memtable_insert(table, TABLE_DUE, key, sizeof key, true) == node;
    }
    return found;
}

/* A node that was taken out stays for who may stand on it. */
static void test_a_node_stays_until_who_may_stand_on_it_has_ended(void **state)
{
    (void)state;
    struct memtable *table = memtable_new(1 << 16);
    struct reclaim reclaim;
    struct memtable_version *older;
    assert_non_null(table);
    reclaim_init(&reclaim);
    struct memtable_node *node = memtable_insert(table, TABLE_DUE, "key", 3, true);
    assert_true(memtable_write(table, node, 1, NULL, 0, true, &older));
    reclaim_node(&reclaim, node, 1);
    reclaim_collect(&reclaim, table, 1, 7, 8); /* readers 7 and 8 see the batch */
    assert_null(memtable_find(table, TABLE_DUE, "key", 3));
    reclaim_collect(&reclaim, table, 2, 7, 9);
    reclaim_collect(&reclaim, table, 2, 9, 10); /* 9 may have begun before it was taken out, for what is known */
    assert_false(is_used_again(table, node, 'a'));
    reclaim_collect(&reclaim, table, 2, 10, 10);
    assert_true(is_used_again(table, node, 'b'));
    reclaim_deinit(&reclaim);
    memtable_free(table);
}

/* ---- Filling one, as recovery does ---- */

#define LOADED_KEYS 4000

/* Keys of all sizes that have much in common: one often is the beginning of another, or differs from it in zeros only.
 */
static struct store_key draw_key(void)
{
    struct store_key key = {.size = 1 + draw(STORE_KEY_SIZE_MAX)};
    const uint64_t plain = draw(key.size + 1);
    for (size_t i = 0; i < key.size; i++)
        key.bytes[i] = i < plain ? 0 : (uint8_t)(draw(3) * 127);
    return key;
}

static unsigned check_in_order(const struct memtable *table, enum store_table which)
{
    struct memtable_node *node = memtable_first(table, which), *last = NULL;
    unsigned count = 0;
    for (; node; node = memtable_next(node), count++) {
        assert_true(!last ||
                    memtable_compare(memtable_key(last), last->key_size, memtable_key(node), node->key_size) < 0);
        assert_ptr_equal(memtable_before(table, which, memtable_key(node), node->key_size), last);
        assert_ptr_equal(memtable_from(table, which, memtable_key(node), node->key_size), node);
        assert_ptr_equal(memtable_find(table, which, memtable_key(node), node->key_size), node);
        last = node;
    }
    assert_ptr_equal(memtable_last(table, which), last);
    return count;
}

/* What was loaded last of a key, found by looking through all that was loaded. */
static void load_some(struct memtable *table, enum store_table which, bool ascending, unsigned *ret_distinct)
{
    static struct store_key keys[LOADED_KEYS];
    static uint64_t values[LOADED_KEYS], sizes[LOADED_KEYS];
    unsigned count = 0;
    for (uint64_t sequence = 1; sequence <= LOADED_KEYS; sequence++) {
        struct store_key key = ascending ? (struct store_key){.size = 8} : draw_key();
        if (ascending)
            put_be64(key.bytes, sequence - draw(2));
        unsigned i = 0;
        while (i < count && memtable_compare(keys[i].bytes, keys[i].size, key.bytes, key.size) != 0)
            i++;
        count += i == count;
        keys[i] = key;
        values[i] = sequence * 31;
        sizes[i] = draw(9);
        assert_true(memtable_load(table, which, key.bytes, key.size, sequence, &values[i], sizes[i], sizes[i] == 0));
    }
    assert_true(memtable_order(table));
    for (unsigned i = 0; i < count; i++) {
        const struct memtable_node *node = memtable_find(table, which, keys[i].bytes, keys[i].size);
        assert_non_null(node);
        const struct memtable_version *version = memtable_at(node, UINT64_MAX);
        assert_int_equal(version->sequence * 31, values[i]);
        assert_int_equal(version->size, sizes[i]);
        assert_int_equal(version->gone, sizes[i] == 0);
        assert_memory_equal(version->bytes, &values[i], sizes[i]);
        assert_null(version->previous);
    }
    *ret_distinct = count;
}

static void test_what_is_loaded_comes_into_order(void **state)
{
    (void)state;
    static const enum store_table tables[] = {TABLE_SERVICES, TABLE_EVENTS, TABLE_DUE};
    for (unsigned run = 0; run < 6; run++) {
        const enum store_table which = tables[run % 3];
        struct memtable *table = memtable_new(1 << 10); /* buckets for a few */
        unsigned count;
        seed = 7919 + run;
        assert_non_null(table);
        assert_true(memtable_order(table));
        load_some(table, which, run >= 3, &count);
        assert_int_equal(check_in_order(table, which), count);
        assert_null(memtable_first(table, TABLE_QUEUE));
        for (unsigned i = 0; i < 1000; i++) { /* and goes on like any other */
            const struct store_key key = draw_key();
            struct memtable_node *node = memtable_find(table, which, key.bytes, key.size);
            if (node && draw(2))
                memtable_unlink(table, node);
            else if (!node)
                assert_non_null(memtable_insert(table, which, key.bytes, key.size, true));
        }
        memtable_arrange(table);
        check_in_order(table, which);
        memtable_free(table);
    }
}

static void test_a_table_that_was_populated_is_empty(void **state)
{
    (void)state;
    struct memtable *table = memtable_new(8 << 20);
    assert_non_null(table);
    const size_t bytes = atomic_load(&table->bytes);
    assert_true(memtable_populate(table));
    assert_int_equal(atomic_load(&table->bytes), bytes);
    for (enum store_table i = 0; i < TABLE_COUNT; i++)
        assert_null(memtable_first(table, i));
    struct memtable_node *node = memtable_insert(table, TABLE_DUE, "key", 3, true);
    assert_non_null(node);
    assert_ptr_equal(memtable_find(table, TABLE_DUE, "key", 3), node);
    assert_true(memtable_reset(table));
    assert_null(memtable_find(table, TABLE_DUE, "key", 3));
    memtable_free(table);
}

static void test_what_has_grown_much_is_not_used_again(void **state)
{
    (void)state;
    static const char value[1 << 16];
    struct memtable *table = memtable_new(1 << 10);
    assert_non_null(table);
    for (uint64_t i = 1; i <= 20; i++)
        assert_true(memtable_load(table, TABLE_DUE, &i, sizeof i, i, value, sizeof value, false));
    assert_false(memtable_reset(table));
    memtable_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_table_is_what_the_model_is),
        cmocka_unit_test(test_memory_of_what_nobody_sees_is_used_again),
        cmocka_unit_test(test_a_node_stays_until_who_may_stand_on_it_has_ended),
        cmocka_unit_test(test_what_is_loaded_comes_into_order),
        cmocka_unit_test(test_a_table_that_was_populated_is_empty),
        cmocka_unit_test(test_what_has_grown_much_is_not_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
