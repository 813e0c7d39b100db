/* How long it takes to be there again after a crash: a store is opened whose journal is full of what its database does
 * not have. `recovery [MIB] [ROUNDS] [DIR]`; bench/README.md tells what is measured. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/lib/common.h"
#include "journal_format.h"
#include "keys.h"

#define SERVICES 100000
#define COMMANDS 3 /* of a batch; four changes each */
#define RECORD_BYTES 300
#define EVENT_BYTES 120
#define TOGETHER 8 /* batches in a flush */

struct filling {
    struct store *store;
    struct bench_chance chance;
    struct reeve_uuid organization_id;
    uint64_t events, queued, now_ms;
};

static void add_numbered(struct reeve_uuid *id, uint64_t number)
{
    put_be64(id->bytes, number);
    put_be64(id->bytes + 8, number * UINT64_C(0x9e3779b97f4a7c15));
}

/* A service at random changes: its record, an event, a place in the queue or one that is left, a time when it is due.
 */
static void put_command(struct filling *filling)
{
    uint8_t bytes[RECORD_BYTES];
    struct reeve_uuid service_id;
    struct store_key key;
    add_numbered(&service_id, bench_draw(&filling->chance, SERVICES));
    bench_fill(&filling->chance, bytes, sizeof bytes);
    key = key_pair(&filling->organization_id, &service_id);
    store_put(filling->store, TABLE_SERVICES, &key, bytes, sizeof bytes);
    key = key_number(++filling->events);
    store_append(filling->store, TABLE_EVENTS, &key, bytes, EVENT_BYTES);
    if (filling->events % 2) {
        key = key_queue(&filling->organization_id, ++filling->queued);
        store_append(filling->store, TABLE_QUEUE, &key, bytes, 32);
    } else {
        key = key_queue(&filling->organization_id, filling->queued);
        store_delete(filling->store, TABLE_QUEUE, &key);
    }
    key = key_due(++filling->now_ms + bench_draw(&filling->chance, 3600000), DUE_SERVICE, &filling->organization_id,
                  &service_id);
    store_put(filling->store, TABLE_DUE, &key, NULL, 0);
}

static int put_batches(struct filling *filling)
{
    uint64_t sequence;
    int r = 0;
    for (int i = 0; i < TOGETHER && r == 0; i++) {
        r = store_begin(filling->store);
        if (r < 0)
            break;
        for (int command = 0; command < COMMANDS; command++)
            put_command(filling);
        r = store_seal(filling->store, false, &sequence);
    }
    store_wait(filling->store);
    if (r == 0)
        r = store_settle(filling->store, &sequence);
    return r < 0 ? bench_complain("a batch", store_failure(filling->store)) : 0;
}

/* Nothing goes into the database. */
static int fill_journal(const char *directory, uint64_t bytes)
{
    struct reeve_error error;
    struct store_stats stats;
    const struct store_options options = {.directory = directory,
                                          .journal_max_bytes = 4 * bytes,
                                          .table_max_bytes = UINT64_C(1) << 40,
                                          .single_threaded = true};
    struct filling filling = {.now_ms = UINT64_C(1700000000000)};
    int r = store_open(&options, &filling.store, &error);
    if (r < 0)
        return bench_complain(directory, error.message);
    do {
        r = put_batches(&filling);
        store_get_stats(filling.store, &stats);
    } while (r == 0 && stats.journal_bytes + (16U << 20) < bytes);
    printf("%llu changes in %llu batches, %llu MiB of journal\n", (unsigned long long)(stats.puts + stats.deletes),
           (unsigned long long)stats.checkpoint_lag, (unsigned long long)stats.journal_file_bytes >> 20);
    store_abandon(filling.store);
    return r;
}

static double milliseconds(struct timeval time)
{
    return (double)time.tv_sec * 1e3 + (double)time.tv_usec / 1e3;
}

static int open_once(const char *directory, uint64_t bytes, double *ret_ms)
{
    struct reeve_error error;
    struct rusage before, after;
    struct store *store;
    const struct store_options options = {.directory = directory, .journal_max_bytes = bytes, .single_threaded = true};
    getrusage(RUSAGE_SELF, &before);
    const uint64_t started_ns = bench_now_ns();
    if (store_open(&options, &store, &error) < 0)
        return bench_complain(directory, error.message);
    const uint64_t ended_ns = bench_now_ns();
    getrusage(RUSAGE_SELF, &after);
    *ret_ms = (double)(ended_ns - started_ns) / 1e6;
    printf("%.0f ms; of processor time %.0f ms its own, %.0f ms the system's; at most %ld MiB of memory\n", *ret_ms,
           milliseconds(after.ru_utime) - milliseconds(before.ru_utime),
           milliseconds(after.ru_stime) - milliseconds(before.ru_stime), after.ru_maxrss >> 10);
    store_abandon(store);
    return 0;
}

/* The floor: the journal's bytes are read, in pieces of the size that the engine reads. */
static int read_once(const char *directory, double opening_ms)
{
    static char bytes[JOURNAL_PART_MAX];
    char path[4300];
    ssize_t got = 0;
    const uint64_t started_ns = bench_now_ns();
    for (unsigned number = 1; got >= 0; number++) {
        snprintf(path, sizeof path, JOURNAL_NAME_FORMAT, directory, number);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            break;
        while ((got = read(fd, bytes, sizeof bytes)) > 0)
            ;
        close(fd);
    }
    const double ms = (double)(bench_now_ns() - started_ns) / 1e6;
    if (got < 0)
        return bench_complain(path, "cannot be read");
    printf("  %.0f ms for reading the journal alone: x floor %.2f\n", ms, opening_ms / ms);
    return 0;
}

static int run_round(const char *directory, uint64_t bytes)
{
    double opening_ms = 0;
    return open_once(directory, bytes, &opening_ms) < 0 ? -1 : read_once(directory, opening_ms);
}

int main(int argc, char **argv)
{
    struct bench_paths paths;
    char directory[4200];
    const uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 512) << 20;
    const unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 5;
    if (bytes < 32 << 20 || rounds == 0 || argc > 4) {
        fprintf(stderr, "usage: recovery [MIB] [ROUNDS] [DIR]\n");
        return 2;
    }
    bench_find_paths(&paths);
    snprintf(directory, sizeof directory, "%s/reeve-recovery", argc > 3 ? argv[3] : paths.directory);
    if ((argc <= 3 && bench_make_directory(paths.directory) < 0) || bench_make_fresh(directory) < 0)
        return 1;
    int r = fill_journal(directory, bytes);
    for (unsigned i = 0; i < rounds && r == 0; i++)
        r = run_round(directory, bytes);
    bench_remove_tree(directory);
    return r < 0 ? 1 : 0;
}
