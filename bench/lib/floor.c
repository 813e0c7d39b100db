/* The floor: the same records, events and index rows in batches of the same size, straight into LMDB, and nothing else.
 * One durable transaction per batch. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/uuid.h"
#include "bench/lib/run.h"

struct floor {
    MDB_env *env;
    MDB_dbi services, events, queue;
    MDB_txn *txn;
    uint64_t sequence;
    char record[4096], event[4096];
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

/* One transition: read the record, rewrite it, append an event; index row put with the first, removed with the last. */
static void transition(struct floor *floor, struct cell *cell)
{
    uint8_t sequence[8];
    MDB_val key = {sizeof cell->key, cell->key}, value;
    if (cell->phase == 0) {
        uint8_t random[10];
        for (size_t i = 0; i < sizeof random; i++)
            random[i] = (uint8_t)rand();
        const struct reeve_uuid id = uuid_v7(bench_now_ns() / 1000000, random);
        memcpy(cell->key + 16, &id, 16);
        put(floor, floor->queue, cell->key, sizeof cell->key, "", 0, 0);
    } else {
        check(mdb_get(floor->txn, floor->services, &key, &value), "get");
    }
    if (cell->phase == TRANSITIONS - 1) {
        check(mdb_del(floor->txn, floor->services, &key, NULL), "delete");
        check(mdb_del(floor->txn, floor->queue, &key, NULL), "delete");
    } else {
        put(floor, floor->services, cell->key, sizeof cell->key, floor->record, floor->options->record_bytes, 0);
    }
    put_be64(sequence, ++floor->sequence);
    put(floor, floor->events, sequence, sizeof sequence, floor->event, floor->options->event_bytes, MDB_APPEND);
    cell->phase = (cell->phase + 1) % TRANSITIONS;
}

static int open_tables(struct floor *floor, const char *directory)
{
    int rc = mdb_env_create(&floor->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(floor->env, 3);
    if (rc == 0)
        rc = mdb_env_set_mapsize(floor->env, (size_t)8 << 30);
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

int run_floor(const struct run_options *options, struct run_result *ret_result)
{
    struct floor floor = {.options = options};
    struct cell *cells = calloc(options->outstanding, sizeof *cells);
    *ret_result = (struct run_result){0};
    if (!cells || open_tables(&floor, options->directory) != 0) {
        free(cells);
        return -1;
    }
    memset(floor.record, 'r', sizeof floor.record);
    memset(floor.event, 'e', sizeof floor.event);
    const uint64_t started_ns = bench_now_ns(), length_ns = (uint64_t)(options->seconds * 1e9);
    uint64_t transitions = 0;
    double owed = 0;
    size_t next = 0;
    int rc = 0;
    while (rc == 0 && bench_now_ns() - started_ns < length_ns) {
        rc = check(mdb_txn_begin(floor.env, NULL, 0, &floor.txn), "begin");
        owed += options->inputs_per_batch;
        for (; rc == 0 && owed >= 1; owed -= 1, transitions++) {
            transition(&floor, &cells[next]);
            next = (next + 1) % options->outstanding;
        }
        if (rc == 0)
            rc = check(mdb_txn_commit(floor.txn), "commit");
        ret_result->batches++;
    }
    ret_result->seconds = (double)(bench_now_ns() - started_ns) / 1e9;
    ret_result->lifecycles = transitions / TRANSITIONS;
    ret_result->batch_inputs = transitions;
    mdb_env_close(floor.env);
    free(cells);
    return rc ? -1 : 0;
}
