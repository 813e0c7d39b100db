/* The floor: the same records, events and index rows in batches of the same size, straight into LMDB, and nothing else.
 * One durable transaction per batch. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/uuid.h"
#include "bench/lib/floor.h"

struct floor {
    MDB_env *env;
    MDB_dbi services, events, queue;
    MDB_txn *txn;
    MDB_txn *reader; /* reset: to be renewed for each read */
    uint64_t sequence, next;
    char record[4096], event[4096];
    struct floor_batches batches;
    struct bench_chance chance;
    const struct run_options *options;
};

struct cell {
    uint8_t key[32];
    unsigned phase;
};

static int check(int rc, const char *what)
{
    if (rc)
        fprintf(stderr, "bench: floor: %s: %s\n", what, mdb_strerror(rc));
    return rc;
}

static void put(struct floor *floor, MDB_dbi table, const void *key, size_t key_size, const void *value, size_t size,
                unsigned flags)
{
    MDB_val k = {key_size, (void *)(uintptr_t)key}, v = {size, (void *)(uintptr_t)value};
    check(mdb_put(floor->txn, table, &k, &v, flags), "put");
}

/* Of this moment, or of so many ms after the beginning of time: in order. */
static void make_key(struct floor *floor, struct cell *cell, uint64_t now_ms)
{
    uint8_t random[10];
    bench_fill(&floor->chance, random, sizeof random);
    const struct reeve_uuid id = uuid_v7(now_ms, random);
    memcpy(cell->key + 16, &id, 16);
}

/* One transition: read the record, rewrite it, append an event; index row put with the first, removed with the last. */
static void transition(struct floor *floor, struct cell *cell)
{
    uint8_t sequence[8];
    MDB_val key = {sizeof cell->key, cell->key}, value;
    if (cell->phase == 0) {
        make_key(floor, cell, bench_now_ns() / 1000000 + 1000000000);
        put(floor, floor->queue, cell->key, sizeof cell->key, "", 0, 0);
    } else {
        check(mdb_get(floor->txn, floor->services, &key, &value), "get");
    }
    if (cell->phase == TRANSITIONS - 1) {
        check(mdb_del(floor->txn, floor->services, &key, NULL), "delete");
        check(mdb_del(floor->txn, floor->queue, &key, NULL), "delete");
    } else {
        put(floor, floor->services, cell->key, sizeof cell->key, floor->record, floor->batches.record_bytes, 0);
    }
    put_be64(sequence, ++floor->sequence);
    put(floor, floor->events, sequence, sizeof sequence, floor->event, floor->batches.event_bytes, MDB_APPEND);
    cell->phase = (cell->phase + 1) % TRANSITIONS;
}

static int open_tables(struct floor *floor, const char *directory)
{
    int rc = mdb_env_create(&floor->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(floor->env, 3);
    if (rc == 0)
        rc = mdb_env_set_mapsize(floor->env, (size_t)64 << 30);
    if (rc == 0)
        rc = mdb_env_open(floor->env, directory, MDB_NOTLS, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(floor->env, NULL, 0, &floor->txn);
    if (rc)
        return check(rc, "open");
    mdb_dbi_open(floor->txn, "services", MDB_CREATE, &floor->services);
    mdb_dbi_open(floor->txn, "events", MDB_CREATE, &floor->events);
    mdb_dbi_open(floor->txn, "queue", MDB_CREATE, &floor->queue);
    return check(mdb_txn_commit(floor->txn), "open");
}

/* ---- Services that exist ---- */

static int fill(struct floor *floor, const struct run_options *options)
{
    int rc = 0;
    struct cell cell = {0};
    for (uint64_t i = 0; rc == 0 && i < options->existing;) {
        rc = check(mdb_txn_begin(floor->env, NULL, 0, &floor->txn), "begin");
        for (unsigned n = 0; rc == 0 && n < 10000 && i < options->existing; n++, i++) {
            make_key(floor, &cell, i / 64);
            put(floor, floor->services, cell.key, sizeof cell.key, floor->record, floor->batches.record_bytes, 0);
        }
        if (rc == 0)
            rc = check(mdb_txn_commit(floor->txn), "commit");
    }
    return rc ? -1 : bench_mark_filled(options->directory);
}

static int read_keys(struct floor *floor, struct cell *cells, uint64_t count)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t i = 0;
    int rc = check(mdb_txn_begin(floor->env, NULL, MDB_RDONLY, &floor->txn), "begin");
    if (rc)
        return -1;
    rc = check(mdb_cursor_open(floor->txn, floor->services, &cursor), "cursor");
    while (rc == 0 && i < count && mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        cells[i].phase = 1;
        memcpy(cells[i++].key, key.mv_data, sizeof cells[0].key);
    }
    if (rc == 0)
        mdb_cursor_close(cursor);
    mdb_txn_abort(floor->txn);
    return i == count ? 0 : -1;
}

/* A service that exists never comes to its last phase. */
static void change_existing(struct floor *floor, struct cell *cell)
{
    transition(floor, cell);
    cell->phase = 1 + cell->phase % 2;
}

/* ---- The run ---- */

/* Each in a transaction of its own. The record is taken over, as whoever asks for it would: all have the same bytes. */
static int read_some(struct floor *floor, struct cell *cells, uint64_t count, unsigned reads, struct run_result *result)
{
    int rc = 0;
    for (unsigned i = 0; i < reads && rc == 0; i++) {
        const uint64_t started_ns = bench_now_ns();
        MDB_val key = {sizeof cells->key, cells[bench_draw(&floor->chance, count)].key}, value;
        rc = check(mdb_txn_renew(floor->reader), "renew");
        if (rc == 0)
            rc = check(mdb_get(floor->reader, floor->services, &key, &value), "get");
        if (rc == 0)
            memcpy(floor->record, value.mv_data, value.mv_size);
        mdb_txn_reset(floor->reader);
        histogram_add(&result->latency, bench_now_ns() - started_ns);
    }
    return rc;
}

static int change_some(struct floor *floor, struct cell *cells, uint64_t count, unsigned inputs)
{
    const bool is_random = floor->options->work != LIFECYCLES;
    int rc = check(mdb_txn_begin(floor->env, NULL, 0, &floor->txn), "begin");
    for (unsigned i = 0; rc == 0 && i < inputs; i++) {
        if (is_random)
            change_existing(floor, &cells[bench_draw(&floor->chance, count)]);
        else
            transition(floor, &cells[floor->next++ % count]);
    }
    return rc ? rc : check(mdb_txn_commit(floor->txn), "commit");
}

static int loop(struct floor *floor, struct cell *cells, uint64_t count, struct run_result *result)
{
    int rc = check(mdb_txn_begin(floor->env, NULL, MDB_RDONLY, &floor->reader), "begin");
    mdb_txn_reset(floor->reader);
    for (unsigned inputs; rc == 0 && (inputs = floor_next(&floor->batches, result)) > 0;) {
        rc = read_some(floor, cells, count, floor_reads(&floor->batches, floor->options, inputs), result);
        const uint64_t started_ns = bench_now_ns();
        if (rc == 0)
            rc = change_some(floor, cells, count, inputs);
        const uint64_t taken_ns = bench_now_ns() - started_ns;
        for (unsigned i = 0; i < inputs; i++)
            histogram_add(&result->latency, taken_ns);
    }
    floor_end(&floor->batches, floor->options, result);
    mdb_txn_abort(floor->reader);
    return rc;
}

static int run(struct floor *floor, struct run_result *result)
{
    const struct run_options *options = floor->options;
    const bool is_random = options->work != LIFECYCLES;
    const uint64_t count = is_random ? options->existing : options->outstanding;
    struct cell *cells = calloc(count, sizeof *cells);
    int r = cells && (!is_random || read_keys(floor, cells, count) == 0) ? 0 : -1;
    floor_begin(&floor->batches, options);
    if (r == 0)
        r = loop(floor, cells, count, result) ? -1 : 0;
    free(cells);
    return r;
}

/* Where the events ended the last time. */
static void find_last(struct floor *floor)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    if (mdb_txn_begin(floor->env, NULL, MDB_RDONLY, &floor->txn) != 0)
        return;
    if (mdb_cursor_open(floor->txn, floor->events, &cursor) == 0) {
        if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == 0)
            floor->sequence = get_be64(key.mv_data);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(floor->txn);
}

/* ---- Opening ---- */

/* OPENING: until a first create is durable; RECOVERY: until the first that was found there is changed. */
static int reopen(struct floor *floor, struct run_result *result)
{
    const struct run_options *options = floor->options;
    struct cell cell = {0};
    mdb_env_close(floor->env);
    const uint64_t started_ns = bench_now_ns();
    int r = open_tables(floor, options->directory) ? -1 : 0;
    if (r == 0 && options->work == RECOVERY)
        r = read_keys(floor, &cell, 1);
    if (r == 0)
        r = change_some(floor, &cell, 1, 1) ? -1 : 0;
    result->seconds = (double)(bench_now_ns() - started_ns) / 1e9;
    result->count = 1;
    result->file_bytes = bench_blocks(options->directory);
    return r;
}

int run_floor_lmdb(const struct run_options *options, struct run_result *ret_result)
{
    struct floor floor = {.options = options, .chance = {bench_now_ns()}};
    const bool is_filled = bench_is_filled(options->directory);
    *ret_result = (struct run_result){0};
    if (!is_filled && bench_make_fresh(options->directory) < 0)
        return -1;
    memset(floor.record, 'r', sizeof floor.record);
    memset(floor.event, 'e', sizeof floor.event);
    floor_begin(&floor.batches, options);
    int r = open_tables(&floor, options->directory) ? -1 : 0;
    if (r == 0 && !is_filled)
        r = fill(&floor, options);
    if (r == 0)
        find_last(&floor);
    if (r == 0)
        r = options->work == OPENING || options->work == RECOVERY ? reopen(&floor, ret_result)
                                                                  : run(&floor, ret_result);
    mdb_env_close(floor.env);
    return r;
}
