/* The engine's side of a run, for the files it is made of: what a step asks for in steps.c, a batch from its inputs to
 * its end in batch.c, what is compared with the model in compare.c, the provisioner and the whole run in world.c. */
#ifndef REEVE_SIM_WORLD_H
#define REEVE_SIM_WORLD_H

#include "core.h"
#include "flight.h"
#include "sim.h"
#include "tests/lib/directory.h"

#define TASKS_MAX 256
#define PAST_MAX 64
#define INPUTS_MAX 8
#define SEALED_MAX 2
#define KEPT_MAX (2 * INPUTS_MAX)

/* An attempt that the provisioner has. */
struct task {
    struct reeve_uuid operation_id, slot_id;
    enum reeve_operation_kind kind;
    uint64_t attempt, desired, started_mono_ms;
    bool cancelled;
    uint64_t cancelled_mono_ms;
};

/* One batch: reports come first, then requests, as in the engine. */
struct inputs {
    struct report reports[4 * INPUTS_MAX];
    uint64_t desired[4 * INPUTS_MAX];
    bool counts[4 * INPUTS_MAX]; /* the engine has that attempt in flight: else it asks for it (again) later */
    unsigned reports_count;
    struct command commands[INPUTS_MAX];
    struct reeve_request requests[INPUTS_MAX];
    unsigned requests_count;
    /* memory of the requests */
    char texts[INPUTS_MAX][4][64];
    struct reeve_access_entry entries[INPUTS_MAX][2][3];
    char sources[INPUTS_MAX][2][3][32];
};

/* A batch that is sealed, and not settled yet. */
struct sealed_batch {
    struct inputs inputs;
    struct core_batch batch;
    struct model model; /* with it */
    uint64_t sequence;  /* of its last event */
    struct arena arena;
};

enum fault { FAULT_NONE, FAULT_BATCH, FAULT_FLUSH, FAULT_CHECKPOINT, FAULTS };

struct world {
    char directory[DIRECTORY_PATH_MAX];
    struct core core;
    struct store *store;
    struct catalogue *catalogue;
    struct arena arena;
    uint64_t now_ms, mono_ms, random;
    struct reeve_uuid organizations[SIM_ORGANIZATIONS + 1]; /* the last one does not exist */
    struct model durable, model, next; /* as of the last durable batch; of the last sealed one; with this one */
    struct sealed_batch sealed[SEALED_MAX];
    unsigned sealed_count;
    struct task tasks[TASKS_MAX];
    unsigned tasks_count;
    struct task past[PAST_MAX]; /* of which an answer may still come */
    unsigned past_count;
    uint64_t sequence, durable_sequence; /* of the last event that was compared, and that is durable */
    struct report kept[KEPT_MAX];        /* reports of a batch that failed: they come again */
    uint64_t kept_desired[KEPT_MAX];
    bool kept_counts[KEPT_MAX];
    unsigned kept_count;
    enum crash_point crash;
    enum fault fault;
    unsigned failing_checkpoints; /* those of so many batches more */
    bool in_batch, reading;
    struct store_read read;
};

extern struct world world;

/* Tells what happens, where it is asked for. */
__attribute__((format(printf, 1, 2))) void world_trace(const char *format, ...);

/* world.c */
void world_open_core(void);
void world_close_core(void); /* as a crash does */
/* An attempt is not the provisioner's any more; an answer may still come. */
void world_drop_task(unsigned index);
void world_remember(const struct task *task);

/* steps.c: one more command of a batch, made of random words; what became of an attempt. */
void world_add_command(struct inputs *inputs, const uint32_t *words);
void world_add_outcome(struct inputs *inputs, const uint32_t *words);
void world_add_report(struct inputs *inputs, const struct task *task, enum reeve_outcome_status status, bool counts);
const char *world_name(unsigned name); /* of a service, as the model knows it */

/* compare.c: all that is stored with all that the model says. */
void world_compare(void);

/* batch.c */
void world_run_batch(struct inputs *inputs);
/* Until nothing is on its way; false where the process dies of it. */
bool world_settle_all(void);
/* Writes fail, whoever makes them. */
void world_spoil_writes(bool spoilt);

#endif
