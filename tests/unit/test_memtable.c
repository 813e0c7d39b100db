/* Tables in memory against a model that is as simple as it can be, and the levels of the store as one: at random, over
 * checkpoints and openings, and with readers beside the writer. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "memtable.h"
#include "reclaim.h"
#include "store.h"
#include "tests/lib/directory.h"

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

/* ---- One table ---- */

#define KEYS 120
#define BATCHES 400

/* What each key was after each batch: 0 none, 1 gone, else a value. */
static uint64_t model[BATCHES + 1][KEYS];

static struct store_key key_of(unsigned number)
{
    struct store_key key = {.size = 2 + number % 3};
    memset(key.bytes, 'x', sizeof key.bytes);
    key.bytes[0] = (uint8_t)(number >> 4);
    key.bytes[1] = (uint8_t)(number << 4);
    return key;
}

static unsigned number_of(const uint8_t *key)
{
    return (unsigned)key[0] << 4 | key[1] >> 4;
}

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
    struct memtable_node *node = memtable_from(table, TABLE_DUE, key.bytes, key.size);
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
        node = memtable_before(table, TABLE_DUE, key.bytes, key.size);
        while (node && !memtable_at(node, sequence))
            node = memtable_before(table, TABLE_DUE, memtable_key(node), node->key_size);
        if (model[sequence][number] == 0)
            continue;
        assert_non_null(node);
        check_node(node, sequence, number);
        key = key_of(number);
    }
    for (unsigned number = 0; number < KEYS; number++) {
        key = key_of(number);
        node = memtable_find(table, TABLE_DUE, key.bytes, key.size);
        assert_int_equal(node && memtable_at(node, sequence), model[sequence][number] != 0);
    }
}

static void change(struct memtable *table, struct reclaim *reclaim, uint64_t sequence, unsigned number,
                   struct memtable_node **nodes)
{
    const struct store_key key = key_of(number);
    const uint64_t value = 2 + draw(1 << 20);
    const bool gone = draw(3) == 0;
    struct memtable_node *node = memtable_find(table, TABLE_DUE, key.bytes, key.size);
    if (!node)
        node = memtable_insert(table, TABLE_DUE, key.bytes, key.size, true);
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
        const struct memtable_node *node = memtable_find(table, TABLE_DUE, key.bytes, key.size);
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
            check_table(table, oldest + draw(sequence - oldest + 1));
        }
        assert_true(memtable_reset(table));
        reclaim_forget(&reclaim);
        assert_null(memtable_first(table, TABLE_DUE));
        assert_null(memtable_last(table, TABLE_DUE));
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
    reclaim_deinit(&reclaim);
    memtable_free(table);
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
    const size_t held = atomic_load(&table->bytes);
    reclaim_collect(&reclaim, table, 2, 7, 9);
    reclaim_collect(&reclaim, table, 2, 9, 10); /* 9 may have begun before it was taken out, for what is known */
    assert_int_equal(atomic_load(&table->bytes), held);
    reclaim_collect(&reclaim, table, 2, 10, 10);
    assert_true(atomic_load(&table->bytes) < held);
    assert_true(memtable_insert(table, TABLE_DUE, "yek", 3, true) == node);
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

/* ---- The store ---- */

struct world {
    char directory[DIRECTORY_PATH_MAX];
    struct store_options options;
    struct store *store;
    uint64_t values[KEYS], sealed[KEYS]; /* 0: none */
};

static void open_store(struct world *w)
{
    struct reeve_error error;
    const int r = store_open(&w->options, &w->store, &error);
    if (r < 0)
        fprintf(stderr, "%s\n", error.message);
    assert_int_equal(r, 0);
}

static int setup(void **state)
{
    static struct world world;
    world = (struct world){.options = {.map_initial_bytes = 1 << 18,
                                       .map_max_bytes = 1 << 28,
                                       .journal_segment_bytes = 256 << 10,
                                       .journal_max_bytes = 1 << 20,
                                       .table_max_bytes = 64 << 10}};
    directory_make("/dev/shm", world.directory);
    world.options.directory = world.directory;
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    store_close(w->store);
    directory_remove(w->directory);
    return 0;
}

static void check_item(const struct store_item *item, unsigned number, uint64_t value)
{
    assert_int_equal(number_of(item->key), number);
    assert_int_equal(item->value_size, sizeof value);
    assert_memory_equal(item->value, &value, sizeof value);
}

struct walk {
    const uint64_t *values;
    unsigned next;
    bool backwards;
};

static bool check_next(void *arg, const struct store_item *item)
{
    struct walk *walk = arg;
    if (walk->backwards) {
        while (walk->next > 0 && walk->values[walk->next - 1] == 0)
            walk->next--;
        assert_true(walk->next > 0);
        check_item(item, walk->next - 1, walk->values[walk->next - 1]);
        walk->next--;
    } else {
        while (walk->next < KEYS && walk->values[walk->next] == 0)
            walk->next++;
        assert_true(walk->next < KEYS);
        check_item(item, walk->next, walk->values[walk->next]);
        walk->next++;
    }
    return true;
}

static void check_walk(struct store_read *read, const uint64_t *values, bool backwards)
{
    const unsigned from = (unsigned)draw(KEYS);
    const struct store_key key = key_of(from);
    struct walk walk = {values, from, backwards};
    store_read_each(read, TABLE_DUE, &key, backwards, check_next, &walk);
    while (backwards ? walk.next > 0 : walk.next < KEYS)
        assert_int_equal(values[backwards ? --walk.next : walk.next++], 0);
}

static void check_store(struct world *w)
{
    struct store_read read;
    struct reeve_str value;
    assert_int_equal(store_read_begin(w->store, &read), 0);
    check_walk(&read, w->values, false);
    check_walk(&read, w->values, true);
    for (unsigned number = 0; number < KEYS; number++) {
        const struct store_key key = key_of(number);
        const bool found = store_read_get(&read, TABLE_DUE, &key, &value);
        assert_int_equal(found, w->values[number] != 0);
        assert_true(!found || memcmp(value.data, &w->values[number], sizeof w->values[number]) == 0);
    }
    assert_int_equal(read.error, 0);
    store_read_end(&read);
}

static void seek(struct world *w)
{
    struct store_item item;
    unsigned from = (unsigned)draw(KEYS), last = KEYS;
    const struct store_key key = key_of(from);
    const bool found = store_seek(w->store, TABLE_DUE, &key, &item);
    while (from < KEYS && w->sealed[from] == 0)
        from++;
    assert_int_equal(found, from < KEYS);
    if (found)
        check_item(&item, from, w->sealed[from]);
    while (last > 0 && w->sealed[last - 1] == 0)
        last--;
    assert_int_equal(store_last(w->store, TABLE_DUE, &item), last > 0);
    if (last > 0)
        check_item(&item, last - 1, w->sealed[last - 1]);
}

static void change_store(struct world *w)
{
    /* Mostly at the head, as what is due: there hints are worth while. */
    const unsigned number = (unsigned)(draw(2) ? draw(KEYS) : draw(20));
    const struct store_key key = key_of(number);
    const uint64_t value = 1 + draw(UINT64_C(1) << 40);
    if (draw(5) < 3) {
        store_delete(w->store, TABLE_DUE, &key);
        w->sealed[number] = 0;
        return;
    }
    if (w->sealed[number] || draw(2))
        store_put(w->store, TABLE_DUE, &key, &value, sizeof value);
    else
        store_insert(w->store, TABLE_DUE, &key, &value, sizeof value);
    w->sealed[number] = value;
}

static void run_batch(struct world *w)
{
    assert_int_equal(store_begin(w->store), 0);
    memcpy(w->sealed, w->values, sizeof w->sealed);
    for (uint64_t steps = draw(30); steps > 0; steps--) {
        if (draw(3))
            change_store(w);
        else
            seek(w);
    }
    if (draw(10) == 0) {
        store_abort(w->store);
        return;
    }
    assert_int_equal(store_commit(w->store), 0);
    memcpy(w->values, w->sealed, sizeof w->values);
}

static void live(struct world *w, uint64_t first)
{
    seed = first;
    open_store(w);
    for (int i = 0; i < 2000; i++) {
        run_batch(w);
        if (draw(10) == 0)
            assert_int_equal(store_checkpoint(w->store), 0);
        if (draw(40) == 0) {
            (draw(2) ? store_close : store_abandon)(w->store);
            open_store(w);
        }
        check_store(w);
    }
}

static void test_the_store_is_what_the_model_is(void **state)
{
    struct world *w = *state;
    w->options.single_threaded = true;
    live(w, 4711);
}

static void test_the_store_with_threads_is_what_the_model_is(void **state)
{
    struct world *w = *state;
    live(w, 815);
}

/* ---- Readers beside the writer ---- */

#define ACCOUNTS 16
#define TOTAL 1000

struct beside {
    struct world *world;
    atomic_bool stop;
    atomic_uint_fast64_t rounds, bad;
};

struct sums {
    uint64_t total, count, first, last, gaps, due;
};

static bool add(void *arg, const struct store_item *item)
{
    struct sums *sums = arg;
    uint64_t value;
    memcpy(&value, item->value, sizeof value);
    sums->total += value;
    return true;
}

static bool follow(void *arg, const struct store_item *item)
{
    struct sums *sums = arg;
    const uint64_t number = get_be64(item->key);
    sums->gaps += sums->count && number != sums->last + 1;
    sums->last = number;
    sums->count++;
    return true;
}

static bool count_back(void *arg, const struct store_item *item)
{
    struct sums *sums = arg;
    (void)item;
    sums->due++;
    return true;
}

/* Each batch moves between accounts, adds an event and drops one, and replaces what is due. */
static bool is_consistent(struct store_read *read)
{
    struct sums sums = {0};
    const struct store_key all = {0};
    store_read_each(read, TABLE_SERVICES, &all, false, add, &sums);
    store_read_each(read, TABLE_EVENTS, &all, false, follow, &sums);
    store_read_each(read, TABLE_DUE, &all, true, count_back, &sums);
    const bool good = sums.total == TOTAL * ACCOUNTS && sums.gaps == 0 && sums.count <= 51 && sums.due == 4;
    if (!good || read->error)
        fprintf(stderr, "total %llu, gaps %llu, events %llu, due %llu, error %d\n", (unsigned long long)sums.total,
                (unsigned long long)sums.gaps, (unsigned long long)sums.count, (unsigned long long)sums.due,
                read->error);
    return good && read->error == 0;
}

static void *read_on(void *arg)
{
    struct beside *beside = arg;
    struct store_read read;
    while (!atomic_load(&beside->stop)) {
        if (store_read_begin(beside->world->store, &read) < 0) {
            atomic_fetch_add(&beside->bad, 1);
            break;
        }
        if (!is_consistent(&read))
            atomic_fetch_add(&beside->bad, 1);
        store_read_end(&read);
        atomic_fetch_add(&beside->rounds, 1);
    }
    return NULL;
}

static bool is_good_store(const char *directory)
{
    struct store *store;
    struct store_read read;
    struct reeve_error error;
    if (store_open(&(struct store_options){.directory = directory, .read_only = true}, &store, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return false;
    }
    bool good = store_read_begin(store, &read) == 0;
    if (good) {
        good = is_consistent(&read);
        store_read_end(&read);
    }
    store_close(store);
    return good;
}

static void *copy_on(void *arg)
{
    struct beside *beside = arg;
    struct reeve_error error;
    char path[96];
    while (!atomic_load(&beside->stop)) {
        snprintf(path, sizeof path, "%s/copy", beside->world->directory);
        if (store_copy(beside->world->store, path, &error) < 0 || !is_good_store(path))
            atomic_fetch_add(&beside->bad, 1);
        directory_remove(path);
        atomic_fetch_add(&beside->rounds, 1);
    }
    return NULL;
}

static struct store_key number_key(uint64_t number)
{
    struct store_key key = {.size = 8};
    put_be64(key.bytes, number);
    return key;
}

static uint64_t get_account(struct store *store, uint64_t number)
{
    struct reeve_str value;
    uint64_t amount = 0;
    const struct store_key key = number_key(number);
    if (store_get(store, TABLE_SERVICES, &key, &value))
        memcpy(&amount, value.data, sizeof amount);
    return amount;
}

static void put_account(struct store *store, uint64_t number, uint64_t amount)
{
    const struct store_key key = number_key(number);
    store_put(store, TABLE_SERVICES, &key, &amount, sizeof amount);
}

static void begin_life(struct store *store)
{
    assert_int_equal(store_begin(store), 0);
    for (uint64_t i = 0; i < ACCOUNTS; i++)
        put_account(store, i, TOTAL);
    for (uint64_t i = 0; i < 4; i++) {
        const struct store_key key = number_key(i);
        store_insert(store, TABLE_DUE, &key, "", 0);
    }
    assert_int_equal(store_commit(store), 0);
}

static void go_on(struct store *store, uint64_t number, bool grow)
{
    static const char ballast[3000];
    const uint64_t from = draw(ACCOUNTS), to = draw(ACCOUNTS);
    struct store_item item;
    struct store_key key = number_key(number);
    const uint64_t moved = draw(get_account(store, from) + 1);
    put_account(store, from, get_account(store, from) - moved);
    put_account(store, to, get_account(store, to) + moved);
    store_insert(store, TABLE_EVENTS, &key, ballast, draw(400));
    if (grow)
        store_insert(store, TABLE_IDEMPOTENCY, &key, ballast, sizeof ballast);
    key = number_key(number - 50);
    if (number > 50)
        store_delete(store, TABLE_EVENTS, &key);
    key = (struct store_key){0};
    if (store_seek(store, TABLE_DUE, &key, &item)) {
        key = (struct store_key){.size = item.key_size};
        memcpy(key.bytes, item.key, item.key_size);
        store_delete(store, TABLE_DUE, &key);
        key = number_key(number + 3);
        store_insert(store, TABLE_DUE, &key, "", 0);
    }
}

static void test_readers_see_one_moment_while_all_goes_on(void **state)
{
    struct world *w = *state;
    struct beside beside = {.world = w}, copying = {.world = w};
    pthread_t threads[3];
    uint64_t sequence, number = 0;
    struct store_stats stats;
    seed = 99;
    open_store(w);
    begin_life(w->store);
    pthread_create(&threads[0], NULL, read_on, &beside);
    pthread_create(&threads[1], NULL, read_on, &beside);
    pthread_create(&threads[2], NULL, copy_on, &copying);
    while (number < 4000 || atomic_load(&beside.rounds) < 200 || atomic_load(&copying.rounds) < 20) {
        assert_int_equal(store_begin(w->store), 0);
        number++;
        go_on(w->store, number, number < 4000);
        assert_int_equal(store_seal(w->store, false, &sequence), 0);
        if (number % 3 == 0)
            store_wait(w->store);
        assert_int_equal(store_settle(w->store, &sequence), 0);
        if (number % 3 == 0)
            assert_true(sequence > 0);
        while (number % 3 == 2 && sequence + 4 < number)
            assert_int_equal(store_settle(w->store, &sequence), 0);
    }
    atomic_store(&beside.stop, true);
    atomic_store(&copying.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&beside.bad), 0);
    assert_int_equal(atomic_load(&copying.bad), 0);
    store_get_stats(w->store, &stats);
    assert_true(stats.checkpoints > 50);
    assert_true(stats.map_bytes > w->options.map_initial_bytes);
}

/* ---- Ahead of its use ---- */

/* Without a checkpoint, and long before it has to go on in another file. */
static void test_the_next_file_is_made_ahead(void **state)
{
    struct world *w = *state;
    struct store_stats stats = {0};
    uint64_t number = 50;
    seed = 3;
    w->options.table_max_bytes = 64 << 20;
    open_store(w);
    begin_life(w->store);
    while (stats.journal_held_bytes <= w->options.journal_segment_bytes / 2) {
        assert_int_equal(store_begin(w->store), 0);
        go_on(w->store, ++number, true);
        assert_int_equal(store_commit(w->store), 0);
        store_get_stats(w->store, &stats);
    }
    const uint64_t until_ns = clock_mono_ns() + UINT64_C(60000000000);
    while (stats.journal_file_bytes < 2 * w->options.journal_segment_bytes) {
        assert_true(clock_mono_ns() < until_ns);
        assert_int_equal(store_begin(w->store), 0); /* it notices before a batch */
        store_abort(w->store);
        sched_yield();
        store_get_stats(w->store, &stats);
    }
    assert_true(stats.journal_held_bytes < w->options.journal_segment_bytes);
    assert_int_equal(stats.checkpoints, 0);
}

/* ---- Another process looks ---- */

static void write_on(struct world *w, int ready, int stop)
{
    uint64_t number = 0;
    char byte = 0;
    open_store(w);
    begin_life(w->store);
    while (read(stop, &byte, 1) < 0) {
        assert_int_equal(store_begin(w->store), 0);
        go_on(w->store, ++number, false);
        assert_int_equal(store_commit(w->store), 0);
        if (number == 10 && write(ready, "", 1) != 1)
            _exit(2);
    }
    store_abandon(w->store);
    _exit(0);
}

static void test_looking_at_a_store_in_use_finds_no_damage(void **state)
{
    struct world *w = *state;
    int ready[2], stop[2], status, bad = 0;
    char byte;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe2(stop, O_NONBLOCK), 0);
    const pid_t child = fork();
    if (child == 0) {
        seed = 5;
        close(stop[1]);
        write_on(w, ready[1], stop[0]);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < 300; i++)
        bad += !is_good_store(w->directory);
    close(stop[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(bad, 0);
    assert_true(is_good_store(w->directory));
    close(ready[0]);
    close(ready[1]);
    close(stop[0]);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_table_is_what_the_model_is),
        cmocka_unit_test(test_memory_of_what_nobody_sees_is_used_again),
        cmocka_unit_test(test_a_node_stays_until_who_may_stand_on_it_has_ended),
        cmocka_unit_test(test_what_is_loaded_comes_into_order),
        cmocka_unit_test(test_a_table_that_was_populated_is_empty),
        cmocka_unit_test(test_what_has_grown_much_is_not_used_again),
        STORY(test_the_store_is_what_the_model_is),
        STORY(test_the_store_with_threads_is_what_the_model_is),
        STORY(test_looking_at_a_store_in_use_finds_no_damage),
        STORY(test_the_next_file_is_made_ahead),
        STORY(test_readers_see_one_moment_while_all_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
