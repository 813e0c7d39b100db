#include "scenario.h"

#include <string.h>

#define MANY 10000

const struct subject bench_subjects[] = {
    {"embedded", SUBJECT_ENGINE, "reeve", run_embedded, 1000000, NULL, NULL},
    {"guest", SUBJECT_ENGINE, "reeve", run_guest, 1000000, NULL, NULL},
    {"ipc", SUBJECT_ENGINE, "reeve", run_ipc, MANY, NULL, NULL},
    {"http", SUBJECT_ENGINE, "reeve", run_http, 1000, NULL, NULL},
    {"journal", SUBJECT_FLOOR, "journal", run_floor_journal, MANY, NULL, NULL},
    {"journal-sync", SUBJECT_FLOOR, "journal", run_floor_journal_sync, MANY, NULL, NULL},
    {"lmdb", SUBJECT_FLOOR, "lmdb", run_floor_lmdb, MANY, NULL, NULL},
    {"fdatasync", SUBJECT_FLOOR, "journal", run_floor_fdatasync, 1, NULL, NULL},
    {"msgpack", SUBJECT_FLOOR, "journal", run_floor_msgpack, 1, NULL, NULL},
    {"hop", SUBJECT_FLOOR, "journal", run_floor_hop, MANY, NULL, NULL},
    {"echo", SUBJECT_FLOOR, "journal", run_floor_echo, MANY, NULL, NULL},
    {"sqlite", SUBJECT_PEER, "sqlite", run_sqlite, MANY, missing_sqlite, about_sqlite},
    {"postgresql", SUBJECT_PEER, "postgresql", run_postgresql, MANY, missing_postgresql, about_postgresql},
    {"redis", SUBJECT_PEER, "redis", run_redis, MANY, missing_redis, about_redis},
    {"etcd", SUBJECT_PEER, "etcd", run_etcd, 1000, missing_etcd, about_etcd},
};
const unsigned bench_subjects_count = sizeof bench_subjects / sizeof bench_subjects[0];

#define HUNDRED_THOUSAND                                                                                               \
    {                                                                                                                  \
        100000                                                                                                         \
    }
#define UP_TO_FIVE_MILLION                                                                                             \
    {                                                                                                                  \
        10000, 100000, 1000000, 5000000                                                                                \
    }

const struct scenario bench_scenarios[] = {
    {.name = "floors",
     .title = "What there is to have: a flush alone, records decoded and encoded alone, a hop to a thread and back "
              "alone, bytes over a socket and back alone",
     .unit = "of them",
     .work = LIFECYCLES,
     .subjects = {"fdatasync", "msgpack", "hop", "echo"},
     .floor = "",
     .outstanding = {{1, 64, 1000}, {1, 8, 64, 1000, 10000}},
     .existing = {HUNDRED_THOUSAND, HUNDRED_THOUSAND}},
    {.name = "lifecycles",
     .title = "Full lifecycles of fresh services: create, running, stop, stopped, delete, gone",
     .unit = "lifecycles",
     .work = LIFECYCLES,
     .subjects = {"embedded", "guest", "ipc", "http", "journal", "journal-sync", "lmdb", "sqlite", "postgresql",
                  "redis", "etcd"},
     .floor = "journal",
     .outstanding = {{1, 64, 1000}, {1, 8, 64, 1000, 10000}},
     .existing = {HUNDRED_THOUSAND, HUNDRED_THOUSAND}},
    {.name = "growth",
     .title = "The same, among more and more services that exist",
     .unit = "lifecycles",
     .work = LIFECYCLES,
     .subjects = {"embedded", "journal", "lmdb", "sqlite"},
     .floor = "journal",
     .outstanding = {{64}, {64, 1000}},
     .existing = {{10000, 100000}, UP_TO_FIVE_MILLION}},
    {.name = "start-stop",
     .title = "Services that exist, at random: stop one that runs, start one that stopped",
     .unit = "commands",
     .work = START_STOP,
     .subjects = {"embedded", "guest", "journal", "lmdb", "sqlite"},
     .floor = "journal",
     .outstanding = {{64}, {64, 1000}},
     .existing = {HUNDRED_THOUSAND, {100000, 1000000}},
     .seconds = {0, 60}},
    {.name = "creates",
     .title = "A storm of creates: create, running, in an empty store",
     .unit = "services",
     .work = CREATES,
     .subjects = {"embedded", "journal"},
     .floor = "journal",
     .outstanding = {{1000}, {64, 1000, 10000}},
     .existing = {{0}, {0}},
     .is_fresh = true},
    {.name = "updates",
     .title = "The name of a stopped service is changed: one durable command that starts nothing",
     .unit = "commands",
     .work = UPDATES,
     .subjects = {"embedded", "guest", "http", "journal"},
     .floor = "journal",
     .outstanding = {{64}, {1, 64, 1000}},
     .existing = {HUNDRED_THOUSAND, HUNDRED_THOUSAND}},
    {.name = "read-mix",
     .title = "95 of 100 get a service at random, 5 start or stop one",
     .unit = "operations",
     .work = READ_MIX,
     .subjects = {"embedded", "lmdb", "sqlite"},
     .floor = "lmdb",
     .outstanding = {{64}, {64, 1000}},
     .existing = {HUNDRED_THOUSAND, {10000, 100000, 1000000}}},
    {.name = "list",
     .title = "All services of a big organization",
     .unit = "services",
     .work = LISTS,
     .subjects = {"embedded", "msgpack"},
     .floor = "msgpack",
     .outstanding = {{1}, {1}},
     .existing = {HUNDRED_THOUSAND, {10000, 100000, 1000000}}},
    {.name = "watchers",
     .title = "Full lifecycles while 1,000 watchers are told of everything (embedded: on one other loop; ipc: on a "
              "connection each)",
     .unit = "lifecycles",
     .work = LIFECYCLES,
     .subjects = {"embedded", "ipc", "journal"},
     .floor = "journal",
     .outstanding = {{64}, {64, 1000}},
     .existing = {HUNDRED_THOUSAND, HUNDRED_THOUSAND},
     .watchers = 1000},
    {.name = "backups",
     .title = "Backup jobs of running services: create, done, delete, gone",
     .unit = "backups",
     .work = BACKUPS,
     .subjects = {"embedded", "journal"},
     .floor = "journal",
     .outstanding = {{64}, {1, 64, 1000}},
     .existing = {HUNDRED_THOUSAND, HUNDRED_THOUSAND}},
    {.name = "open-loop",
     .title = "Start and stop at half of the highest rate, each command at its own time: latency from when it was due, "
              "ratios of the p99",
     .unit = "commands",
     .work = OPEN_LOOP,
     .subjects = {"embedded", "guest", "journal", "sqlite"},
     .floor = "journal",
     .outstanding = {{64}, {64, 1000}},
     .existing = {HUNDRED_THOUSAND, {100000, 1000000}},
     .seconds = {0, 30},
     .is_paced = true},
    {.name = "opening",
     .title = "Opening a store that was closed in order, until a first create is durable",
     .unit = "openings",
     .work = OPENING,
     .subjects = {"embedded", "lmdb"},
     .floor = "lmdb",
     .outstanding = {{1}, {1}},
     .existing = {HUNDRED_THOUSAND, UP_TO_FIVE_MILLION},
     .is_time = true},
    {.name = "recovery",
     .title = "Opening with so many operations under way, until the first of them is started",
     .unit = "openings",
     .work = RECOVERY,
     .subjects = {"embedded", "lmdb"},
     .floor = "lmdb",
     .outstanding = {{10000}, {100000}},
     .existing = {HUNDRED_THOUSAND, {1000000}},
     .is_time = true},
};
const unsigned bench_scenarios_count = sizeof bench_scenarios / sizeof bench_scenarios[0];

const struct subject *bench_subject(const char *name)
{
    for (unsigned i = 0; i < bench_subjects_count; i++) {
        if (strcmp(bench_subjects[i].name, name) == 0)
            return &bench_subjects[i];
    }
    return NULL;
}
