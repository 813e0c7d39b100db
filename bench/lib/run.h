/* One run of one cell of the bench, and what came out of it. A cell is a scenario, a subject (the engine in one of its
 * modes, a floor, a peer), a number of outstanding commands and a number of services that exist already. */
#ifndef REEVE_BENCH_RUN_H
#define REEVE_BENCH_RUN_H

#include <reeve.h>

#include "bench/lib/histogram.h"

#define TRANSITIONS 6 /* of one lifecycle: create, running, stop, stopped, delete, gone */
#define READS 19      /* of READ_MIX, before each start or stop */

enum work {
    LIFECYCLES, /* create, running, stop, stopped, delete, gone; fresh services among those that exist */
    START_STOP, /* services that exist, at random: stop one that runs, start one that stopped */
    CREATES,    /* a storm: nothing but create, running */
    UPDATES,    /* names of stopped services are changed */
    READ_MIX,   /* 95 of 100 get a service, 5 start or stop one */
    LISTS,      /* all services of an organization */
    BACKUPS,    /* of a running service: create, done, delete, gone */
    OPEN_LOOP,  /* START_STOP, each command at its own time, whatever became of those before */
    OPENING,    /* open what was closed in order, until a first create is durable */
    RECOVERY,   /* open with so many operations under way, until the first of them is started */
};

struct run_result;

struct run_options {
    const char *directory; /* what the subject has stored in it stays for the next cell with as many services */
    const char *binary;    /* build/reeve, for IPC and HTTP */
    enum work work;
    unsigned outstanding, watchers;
    bool is_guest; /* embedded: the engine is on the client's loop */
    uint64_t existing;
    double warm_seconds, seconds;
    uint64_t limit;                 /* IPC and HTTP: end after so many; 0: after the time */
    double rate;                    /* OPEN_LOOP: commands per second */
    const struct run_result *model; /* for floors and peers: what the engine, embedded, did in the same column */
};

struct run_result {
    double seconds;
    uint64_t from_ns, until_ns; /* of what was measured, by CLOCK_MONOTONIC: a profile looks at nothing else */
    uint64_t count;             /* of what the scenario counts: lifecycles, commands, services */
    uint64_t commands;          /* answered; over HTTP: requests */
    double rate;                /* OPEN_LOOP: that was asked for, commands per second */
    uint64_t batches, batch_inputs, puts, bytes, commit_ns;
    uint64_t record_bytes, event_bytes; /* as stored */
    uint64_t written_bytes;             /* handed to write calls by the subject's processes */
    uint64_t dirtied_bytes;             /* that the kernel counted for the disk: whole folios, however large */
    uint64_t cpu_ns, engine_cpu_ns;     /* of the subject's processes; of the engine's thread, where that can be told */
    uint64_t resident_bytes;            /* anonymous memory: beside what is mapped from files */
    uint64_t file_bytes;                /* blocks of the files in the directory, at the end */
    uint64_t events_behind;             /* of the watcher that is behind most, at the end; over IPC what it came to */
    uint64_t events, events_told;       /* made; told to watchers over IPC, all together */
    struct histogram latency;           /* of commands, from sending to the durable answer */
};

/* Each returns 0, or -1 after it has said on standard error what went wrong. */
typedef int (*run_function)(const struct run_options *options, struct run_result *ret_result);

int run_embedded(const struct run_options *options, struct run_result *ret_result);
int run_guest(const struct run_options *options, struct run_result *ret_result);
int run_ipc(const struct run_options *options, struct run_result *ret_result);
int run_http(const struct run_options *options, struct run_result *ret_result);

int run_floor_lmdb(const struct run_options *options, struct run_result *ret_result);
int run_floor_journal(const struct run_options *options, struct run_result *ret_result);
int run_floor_journal_sync(const struct run_options *options, struct run_result *ret_result);
int run_floor_fdatasync(const struct run_options *options, struct run_result *ret_result);
int run_floor_msgpack(const struct run_options *options, struct run_result *ret_result);
int run_floor_hop(const struct run_options *options, struct run_result *ret_result);
int run_floor_echo(const struct run_options *options, struct run_result *ret_result);

int run_sqlite(const struct run_options *options, struct run_result *ret_result);
int run_postgresql(const struct run_options *options, struct run_result *ret_result);
int run_redis(const struct run_options *options, struct run_result *ret_result);
int run_etcd(const struct run_options *options, struct run_result *ret_result);

/* NULL, or why it cannot run here. */
const char *missing_sqlite(void);
const char *missing_postgresql(void);
const char *missing_redis(void);
const char *missing_etcd(void);
/* Version and settings, in lines. */
const char *about_sqlite(void);
const char *about_postgresql(void);
const char *about_redis(void);
const char *about_etcd(void);

uint64_t bench_now_ns(void);
/* Limits that let the bench be the limit. */
struct reeve_limits bench_limits(void);

#endif
