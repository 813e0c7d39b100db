/* A host of the engine, as the benches need one: a client on a loop in this thread, a provisioner that is done at once,
 * one organization, and the services that exist in it. */
#ifndef REEVE_BENCH_HOST_H
#define REEVE_BENCH_HOST_H

#include <time.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/map.h"
#include "bench/lib/common.h"
#include "bench/lib/pace.h"
#include "bench/lib/watching.h"
#include "codec.h"

enum host_phase { HOST_WARMING, HOST_MEASURING, HOST_DRAINING };

struct host;

/* One command after the other, for as long as the host runs. */
struct slot {
    struct reeve_request request;
    struct reeve_uuid service_id, backup_id;
    uint64_t index;           /* of the service among those that exist */
    uint64_t sent_ns;         /* or when it was to be sent */
    bool owns_service;        /* made by this slot: to be deleted at the end */
    bool is_asked;            /* a command is under way */
    struct reeve_event early; /* told before that was answered: the last of them */
    bool odd;                 /* which of two names the next update gives */
    struct host *host;
    struct slot *next; /* among those that are free */
};

struct host {
    const struct run_options *options;
    struct run_result *result;
    const struct work_steps *steps;
    uv_loop_t loop;
    uv_timer_t timer, look;
    struct pace pace; /* OPEN_LOOP */
    uv_poll_t poll;   /* of its timer */
    struct reeve_engine *engine;
    struct reeve_client *client;
    struct reeve_watch watch;
    struct watching *watching; /* NULL: nobody else watches */
    struct reeve_uuid organization_id;
    struct reeve_uuid *ids; /* services that exist */
    bool *are_running, *are_busy;
    uint64_t count, capacity;
    struct slot *slots, *free_slots;
    struct map by_service; /* service -> struct slot */
    struct map early;      /* services that ran before their create was answered */
    unsigned busy;         /* slots with something under way */
    struct bench_chance chance;
    enum host_phase phase;
    bool failed, holds;      /* holds: what is started stays under way */
    uint64_t first_start_ns; /* when the provisioner was first called */
    bool has_engine_clock;
    clockid_t engine_clock; /* of the thread that calls the provisioner */
    struct reeve_stats before;
    uint64_t engine_before_ns, measured_ns;
};

/* Engine, loop and client on the directory of the options; 0 or -1. */
int host_open(struct host *host);
void host_close(struct host *host);
/* The organization of the bench: found or made. */
int host_organization(struct host *host);
/* Until all that was started is done; 0 or -1. */
int host_settle(struct host *host);
/* Reads which services there are. */
int host_read_services(struct host *host);
/* The bench's organization with so many services that run, in a directory that is made where it is not yet. */
int host_fill(const char *directory, uint64_t services, struct reeve_uuid *ret_organization_id);

void host_create(struct host *host, struct reeve_request *request);
/* Complains, once, and ends the run. */
void host_fail(struct host *host, const struct reeve_error *error);
void host_start_measuring(struct host *host);
void host_stop_measuring(struct host *host);

/* ---- What the slots do ---- */

struct work_steps {
    void (*begin)(struct slot *slot);
    void (*on_answer)(struct slot *slot, const struct reeve_result *result);
    void (*on_event)(struct slot *slot, const struct reeve_event *event);
};

extern const struct work_steps host_steps[]; /* by enum work */
void host_begin(struct slot *slot);
/* Events are read from the store: they may come before the answer of the command that made them. */
void host_event(struct host *host, const struct reeve_event *event);
/* One of what the scenario counts is done: on with the next. */
void host_unit_done(struct slot *slot);

/* ---- Work without slots ---- */

int host_run_lists(const struct run_options *options, struct run_result *ret_result);
int host_run_openings(const struct run_options *options, struct run_result *ret_result);

#endif
