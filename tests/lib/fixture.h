/* The core on a store in a throw-away directory, with time, randomness and provisioner in the hands of the test: the
 * same code that runs in the engine's thread, without the thread. */
#ifndef REEVE_TESTS_FIXTURE_H
#define REEVE_TESTS_FIXTURE_H

#include "backup.h"
#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "service.h"
#include "tests/lib/directory.h"

#define FIXTURE_TASKS_MAX 1024

/* An attempt that the core started and that has not been finished by the test. */
struct fixture_task {
    struct reeve_uuid operation_id, service_id, organization_id, backup_id;
    enum reeve_operation_kind kind;
    uint64_t attempt, desired;
    bool cancelled;
};

struct fixture {
    char directory[DIRECTORY_PATH_MAX];
    struct core core;
    struct store *store;
    struct catalogue *catalogue;
    struct arena arena;
    uint64_t now_ms, mono_ms;
    uint8_t seed;
    uint32_t password_forms; /* of the provisioner; taken when it is opened */

    struct fixture_task tasks[FIXTURE_TASKS_MAX]; /* in the order they were started */
    size_t task_count;
    size_t started; /* ever */

    struct reeve_uuid organization_id, service_id; /* of the helpers below */
    struct reeve_result result;                    /* the last answer; its strings are in the arena */
};

void fixture_open(struct fixture *fixture);
/* With a memory map of this size, which may grow to that. */
void fixture_open_sized(struct fixture *fixture, uint64_t map_initial_bytes, uint64_t map_max_bytes);
void fixture_close(struct fixture *fixture);
/* As after kill -9: what is in memory is gone, what is durable is opened again, at the same time or later. */
void fixture_restart(struct fixture *fixture, uint64_t down_ms);

/* One batch with one request; returns the error code of the answer, 0 on success. */
int fixture_submit(struct fixture *fixture, struct reeve_request *request);
/* Let time pass and run one batch for the timers. */
void fixture_advance(struct fixture *fixture, uint64_t ms);

/* The newest open task of a service; NULL if there is none. */
struct fixture_task *fixture_task(struct fixture *fixture, const struct reeve_uuid *service_id);
/* Finish it with an outcome, in a batch of its own. */
void fixture_finish(struct fixture *fixture, struct fixture_task *task, enum reeve_outcome_status status);
void fixture_report(struct fixture *fixture, const struct fixture_task *task, const struct reeve_outcome *outcome);
/* Say that nobody is at work on it, or that now somebody is. */
void fixture_pause(struct fixture *fixture, const struct fixture_task *task, bool paused);

/* An organization, a service in it (provisioning), one that runs. The ids are kept in the fixture. */
struct reeve_uuid fixture_organization(struct fixture *fixture, bool paid);
struct reeve_uuid fixture_service(struct fixture *fixture);
struct reeve_uuid fixture_running(struct fixture *fixture);
/* A key of the fixture's organization that ends at a time of the engine, 0 for never; its secret is in the answer. */
struct reeve_uuid fixture_key(struct fixture *fixture, uint64_t expires_ms);
/* A command on the fixture's service: start, stop, ... */
int fixture_command(struct fixture *fixture, enum reeve_command command);

/* What is stored now. False: there is none. */
bool fixture_load_service(struct fixture *fixture, const struct reeve_uuid *service_id, struct reeve_service *ret);
bool fixture_load_backup(struct fixture *fixture, const struct reeve_uuid *backup_id, struct reeve_backup *ret);
/* The event with this sequence number. */
bool fixture_load_event(struct fixture *fixture, uint64_t sequence, struct reeve_event *ret);
/* Runs reeve_check() on a copy; the number of findings, each printed. */
uint64_t fixture_check(struct fixture *fixture);

#endif
