/* SQLite in this process doing the same durable work: a batch is one transaction of as many transitions as are
 * outstanding, each checks the state, rewrites the record and appends an event. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/floor.h"

#ifndef BENCH_SQLITE

const char *missing_sqlite(void)
{
    return "built without SQLite (libsqlite3-dev)";
}

const char *about_sqlite(void)
{
    return "";
}

int run_sqlite(const struct run_options *options, struct run_result *ret_result)
{
    (void)options, (void)ret_result;
    return -1;
}

#else

#include <sqlite3.h>

#include "base/bytes.h"
#include "base/uuid.h"

const char *missing_sqlite(void)
{
    return NULL;
}

const char *about_sqlite(void)
{
    static char text[300];
    snprintf(text, sizeof text,
             "%s, in process, one thread, prepared statements\njournal_mode=WAL\nsynchronous=FULL\n"
             "wal_autocheckpoint=1000 (preset)\ncache_size=-65536\npage_size=4096 (preset)\n"
             "services WITHOUT ROWID by time-ordered 16-byte ids; events by INTEGER PRIMARY KEY",
             sqlite3_libversion());
    return text;
}

enum statement { BEGIN, COMMIT, INSERT, CHANGE, DELETE, EVENT, READ, STATEMENT_COUNT };
static const char *const texts[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [INSERT] = "INSERT INTO services (id, state, record) VALUES (?1, ?2, ?3)",
    [CHANGE] = "UPDATE services SET state = ?2, record = ?3 WHERE id = ?1 AND state = ?4",
    [DELETE] = "DELETE FROM services WHERE id = ?1 AND state = ?4",
    [EVENT] = "INSERT INTO events (record) VALUES (?1)",
    [READ] = "SELECT record FROM services WHERE id = ?1",
};

/* A service goes through its states by number; 0: there is none. */
enum { NONE, CREATING, RUNNING, STOPPING, STOPPED, DELETING, STARTING };

struct cell {
    struct reeve_uuid id;
    int state;
};

struct database {
    sqlite3 *handle;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    struct floor_batches batches;
    const struct run_options *options;
    struct run_result *result;
    struct cell *cells; /* those that exist, or one for each that is outstanding */
    uint64_t count;
    struct bench_chance chance;
    uint64_t *batch; /* which of the cells */
    char record[4096], event[4096];
};

static int complain(struct database *database)
{
    return bench_complain("sqlite", sqlite3_errmsg(database->handle));
}

static int execute(struct database *database, enum statement statement)
{
    sqlite3_stmt *prepared = database->statements[statement];
    const int rc = sqlite3_step(prepared);
    sqlite3_reset(prepared);
    return rc == SQLITE_DONE ? 0 : complain(database);
}

static void make_id(struct database *database, struct cell *cell, uint64_t now_ms)
{
    uint8_t random[10];
    bench_fill(&database->chance, random, sizeof random);
    cell->id = uuid_v7(now_ms, random);
}

/* Refused where it is not in the state that is expected. */
static int change(struct database *database, enum statement statement, struct cell *cell, int to)
{
    sqlite3_stmt *prepared = database->statements[statement];
    sqlite3_bind_blob(prepared, 1, &cell->id, sizeof cell->id, SQLITE_STATIC);
    if (statement != DELETE) {
        sqlite3_bind_int(prepared, 2, to);
        sqlite3_bind_blob(prepared, 3, database->record, (int)database->batches.record_bytes, SQLITE_STATIC);
    }
    if (statement != INSERT)
        sqlite3_bind_int(prepared, 4, cell->state);
    if (execute(database, statement) < 0)
        return -1;
    if (sqlite3_changes(database->handle) != 1)
        return bench_complain("sqlite", "a service is not in the state that was expected");
    cell->state = to;
    prepared = database->statements[EVENT];
    sqlite3_bind_blob(prepared, 1, database->event, (int)database->batches.event_bytes, SQLITE_STATIC);
    return execute(database, EVENT);
}

static int next_of_lifecycle(struct database *database, struct cell *cell)
{
    if (cell->state == NONE)
        make_id(database, cell, bench_now_ns() / 1000000 + 1000000000);
    if (cell->state == NONE)
        return change(database, INSERT, cell, CREATING);
    if (cell->state == DELETING)
        return change(database, DELETE, cell, NONE);
    return change(database, CHANGE, cell, cell->state + 1);
}

static int start_or_stop(struct database *database, struct cell *cell)
{
    static const int next[] = {[RUNNING] = STOPPING, [STOPPING] = STOPPED, [STOPPED] = STARTING, [STARTING] = RUNNING};
    return change(database, CHANGE, cell, next[cell->state]);
}

/* ---- Opening, filling ---- */

static int prepare(struct database *database)
{
    static const char set_up[] =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;"
        "CREATE TABLE IF NOT EXISTS services (id BLOB PRIMARY KEY, state INTEGER NOT NULL, record BLOB NOT NULL)"
        " WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, record BLOB NOT NULL)";
    char path[4200];
    snprintf(path, sizeof path, "%s/sqlite.db", database->options->directory);
    if (sqlite3_open(path, &database->handle) != SQLITE_OK ||
        sqlite3_exec(database->handle, set_up, NULL, NULL, NULL) != SQLITE_OK)
        return complain(database);
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        if (sqlite3_prepare_v2(database->handle, texts[i], -1, &database->statements[i], NULL) != SQLITE_OK)
            return complain(database);
    }
    return 0;
}

static int fill(struct database *database)
{
    for (uint64_t i = 0; i < database->options->existing;) {
        if (execute(database, BEGIN) < 0)
            return -1;
        for (unsigned n = 0; n < 10000 && i < database->options->existing; n++, i++) {
            struct cell cell = {0};
            make_id(database, &cell, i / 64);
            if (change(database, INSERT, &cell, RUNNING) < 0)
                return -1;
        }
        if (execute(database, COMMIT) < 0)
            return -1;
    }
    return bench_mark_filled(database->options->directory);
}

static int read_existing(struct database *database)
{
    sqlite3_stmt *prepared;
    uint64_t i = 0;
    if (sqlite3_prepare_v2(database->handle, "SELECT id, state FROM services", -1, &prepared, NULL) != SQLITE_OK)
        return complain(database);
    for (; i < database->count && sqlite3_step(prepared) == SQLITE_ROW; i++) {
        memcpy(&database->cells[i].id, sqlite3_column_blob(prepared, 0), sizeof database->cells[i].id);
        database->cells[i].state = sqlite3_column_int(prepared, 1);
    }
    sqlite3_finalize(prepared);
    return i == database->count ? 0 : bench_complain("sqlite", "services are missing");
}

/* ---- Batches ---- */

/* The record is taken over, as whoever asks for it would: all have the same bytes. */
static int read_one(struct database *database, const struct cell *cell)
{
    sqlite3_stmt *prepared = database->statements[READ];
    sqlite3_bind_blob(prepared, 1, &cell->id, sizeof cell->id, SQLITE_STATIC);
    const bool is_found = sqlite3_step(prepared) == SQLITE_ROW;
    if (is_found)
        memcpy(database->record, sqlite3_column_blob(prepared, 0), (size_t)sqlite3_column_bytes(prepared, 0));
    sqlite3_reset(prepared);
    return is_found ? 0 : bench_complain("sqlite", "a service is missing");
}

static int read_some(struct database *database, unsigned reads)
{
    int r = 0;
    for (unsigned i = 0; i < reads && r == 0; i++) {
        const uint64_t started_ns = bench_now_ns();
        r = read_one(database, &database->cells[bench_draw(&database->chance, database->count)]);
        histogram_add(&database->result->latency, bench_now_ns() - started_ns);
    }
    return r;
}

static void draw(struct database *database, unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++)
        database->batch[i] = bench_draw(&database->chance, database->count);
}

static int run_batch(struct database *database, unsigned inputs)
{
    const bool is_random = database->options->work != LIFECYCLES;
    if (execute(database, BEGIN) < 0)
        return -1;
    for (unsigned i = 0; i < inputs; i++) {
        struct cell *cell = &database->cells[is_random ? database->batch[i] : i];
        if ((is_random ? start_or_stop(database, cell) : next_of_lifecycle(database, cell)) < 0)
            return -1;
    }
    return execute(database, COMMIT);
}

/* Those of a closed loop begin when the one before has ended. A service takes two steps, in two batches; a batch has as
 * many as are outstanding. */
static int run_closed(struct database *database)
{
    const unsigned outstanding = database->options->outstanding;
    struct run_result *result = database->result;
    int r = 0;
    bool begins = true;
    database->batches.inputs_per_batch = outstanding;
    while (r == 0 && floor_next(&database->batches, result) > 0) {
        if (begins)
            draw(database, 0, outstanding);
        begins = !begins;
        r = read_some(database, floor_reads(&database->batches, database->options, outstanding));
        const uint64_t started_ns = bench_now_ns();
        if (r == 0)
            r = run_batch(database, outstanding);
        const uint64_t taken_ns = bench_now_ns() - started_ns;
        for (unsigned i = 0; i < outstanding; i++)
            histogram_add(&result->latency, taken_ns);
    }
    return r;
}

/* What began here is in the next batch, too. */
static int run_due(void *arg, unsigned second, unsigned first)
{
    struct database *database = arg;
    draw(database, second, first);
    const int r = run_batch(database, second + first);
    memmove(database->batch, database->batch + second, first * sizeof database->batch[0]);
    return r;
}

static int work(struct database *database)
{
    const struct run_options *options = database->options;
    const bool is_random = options->work != LIFECYCLES, is_paced = options->work == OPEN_LOOP;
    database->count = is_random ? options->existing : options->outstanding;
    database->cells = calloc(database->count, sizeof *database->cells);
    database->batch = calloc(is_paced ? (size_t)2 * FLOOR_DUE_MAX : options->outstanding, sizeof *database->batch);
    if (!database->cells || !database->batch || (is_random && read_existing(database) < 0))
        return -1;
    floor_begin(&database->batches, options);
    const int r = is_paced ? floor_run_paced(&database->batches, options, database->result, run_due, database)
                           : run_closed(database);
    floor_end(&database->batches, options, database->result);
    return r;
}

int run_sqlite(const struct run_options *options, struct run_result *ret_result)
{
    struct database *database = calloc(1, sizeof *database);
    *ret_result = (struct run_result){0};
    if (!database || (!bench_is_filled(options->directory) && bench_make_fresh(options->directory) < 0)) {
        free(database);
        return -1;
    }
    database->options = options;
    database->result = ret_result;
    database->chance.state = bench_now_ns();
    floor_begin(&database->batches, options);
    int r = prepare(database);
    if (r == 0 && !bench_is_filled(options->directory))
        r = fill(database);
    if (r == 0)
        r = work(database);
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(database->statements[i]);
    sqlite3_close(database->handle);
    free(database->cells);
    free(database->batch);
    free(database);
    return r;
}

#endif
