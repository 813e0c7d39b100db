/* The levels of the store as one, against a model: at random, over checkpoints and openings, and with readers beside
 * the writer. */
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
#include "store.h"
#include "tests/lib/directory.h"
#include "tests/lib/numbered_keys.h"

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
    unsigned from = (unsigned)draw(KEYS);
    const struct store_key key = key_of(from);
    const bool found = store_seek(w->store, TABLE_DUE, &key, &item);
    while (from < KEYS && w->sealed[from] == 0)
        from++;
    assert_int_equal(found, from < KEYS);
    if (found)
        check_item(&item, from, w->sealed[from]);
}

static void look_at_last(struct world *w)
{
    struct store_item item;
    unsigned last = KEYS;
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
            (draw(2) ? seek : look_at_last)(w);
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

/* Nothing is written of such a batch, and the ones before and after it are undone and settled as ever. */
static void test_what_comes_and_goes_within_a_batch_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct store_read read;
    struct reeve_str value;
    const struct store_key key = key_of(1), other = key_of(2);
    open_store(w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(store_begin(w->store), 0);
        store_insert(w->store, TABLE_DUE, &key, "value", 5);
        store_delete(w->store, TABLE_DUE, &key);
        assert_int_equal(store_commit(w->store), 0);
        assert_int_equal(store_begin(w->store), 0);
        store_insert(w->store, TABLE_DUE, &other, "other", 5);
        if (i == 1)
            store_delete(w->store, TABLE_DUE, &key); /* which is not there */
        store_abort(w->store);
    }
    assert_int_equal(store_read_begin(w->store, &read), 0);
    assert_false(store_read_get(&read, TABLE_DUE, &key, &value));
    assert_false(store_read_get(&read, TABLE_DUE, &other, &value));
    store_read_end(&read);
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
        STORY(test_what_comes_and_goes_within_a_batch_leaves_nothing),
        STORY(test_the_store_is_what_the_model_is),
        STORY(test_the_store_with_threads_is_what_the_model_is),
        STORY(test_looking_at_a_store_in_use_finds_no_damage),
        STORY(test_the_next_file_is_made_ahead),
        STORY(test_readers_see_one_moment_while_all_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
