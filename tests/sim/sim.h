/* The simulator: the engine's core, on a real store, with time, randomness, provisioner, faults and crashes in the
 * hands of a seed; and a naive model that predicts what it answers and what it becomes. One thread, no waiting.
 *
 * A run is a list of steps. Each step is made of random words that mean something whatever was before it, so that any
 * part of a history is a history too: what fails is cut down to the few steps that matter.
 */
#ifndef REEVE_SIM_H
#define REEVE_SIM_H

#include <reeve.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_ORGANIZATIONS 3
#define SIM_SERVICES_MAX 40
#define SIM_BACKUPS_MAX 60
#define SIM_KEYS_MAX 64
#define SIM_SOURCES 6 /* of access lists */
#define SIM_WORDS 6

/* ---- Limits that make things happen often ---- */

#define SIM_ATTEMPTS_MAX 3
#define SIM_TIMEOUT_MS 600000
#define SIM_GRACE_MS 5000
#define SIM_RETRY_MIN_MS 200
#define SIM_RETRY_MAX_MS 4000
#define SIM_RESTART_MIN_MS 1000
#define SIM_RESTART_MAX_MS 8000
#define SIM_RESTART_RESET_MS 600000
#define SIM_BACKUPS_PER_SERVICE 4
#define SIM_SERVICE_QUOTA 8 /* of the first organization; the others have none of their own */
#define SIM_IDEMPOTENCY_MS 3600000

/* ---- Steps ---- */

enum step_kind {
    STEP_COMMAND,
    STEP_OUTCOME,
    STEP_PASS,  /* time passes */
    STEP_CRASH, /* the process dies in the next batch, at a point of its own */
    STEP_FAULT, /* the next batch, or all that is sealed by then, cannot be made durable; or a checkpoint fails */
    STEP_KINDS,
};

struct sim_step {
    uint32_t words[SIM_WORDS];
    uint8_t kind;
    bool joins; /* the batch of the step before */
};

enum crash_point {
    CRASH_NONE,
    CRASH_BEFORE_BATCH,    /* queued, not looked at */
    CRASH_IN_BATCH,        /* applied, not committed */
    CRASH_BEFORE_REPLY,    /* durable, nobody was told */
    CRASH_BEFORE_DISPATCH, /* told, nothing was started */
    CRASH_AFTER_DISPATCH,
    CRASH_SEALED, /* on its way to disk: it is there, or not */
    CRASH_POINTS,
};

/* ---- Commands, as the model and the world understand them ---- */

struct command {
    enum reeve_command kind;
    unsigned organization; /* SIM_ORGANIZATIONS: one that does not exist */
    int service, backup;   /* places in the model; -1: one that does not exist */
    unsigned name;         /* 0: none given; 1 to 5; 6: one that is not allowed */
    unsigned min_gb, max_gb;
    unsigned idle; /* 0: not given, 1: false, 2: true */
    unsigned idle_minutes;
    unsigned region, tier; /* region 2: unknown */
    unsigned add[3], add_count, remove[3], remove_count;
    unsigned password; /* 0: generated, 1: a hash, 2: no hash */
    unsigned key;      /* idempotency: 0: none */
    uint64_t generation;
    uint64_t fingerprint; /* of all of the above but the generation */
};

/* ---- The model: what is, by the naive reading of the tables ---- */

struct m_operation {
    enum reeve_operation_kind kind; /* UNSET: none */
    struct reeve_uuid id;
    bool is_new; /* begun in this batch: its id is learned, and must be another one than before */
    uint64_t attempt;
    bool pauses;                          /* waits for the time that the engine has drawn, */
    uint64_t retry_low_ms, retry_high_ms; /* which must lie here, */
    uint64_t retry_at_ms;                 /* and is learned */
};

struct m_service {
    bool exists;
    struct reeve_uuid id;
    unsigned organization, name, region, tier;
    unsigned state;
    uint64_t generation, desired, applied;
    bool provisioned;
    unsigned min_gb, max_gb; /* of a replica */
    bool idle_scaling;
    uint64_t idle_minutes, idle_at_ms;
    uint64_t backup_at_ms, backup_low_ms; /* backup_low_ms: drawn, between this and nine minutes later */
    bool backup_drawn;
    unsigned sources[SIM_SOURCES], sources_count;
    int current_backup; /* -1: none */
    unsigned backup_count;
    uint64_t restarts, lost_ms;
    int restored_from; /* -1: none */
    struct m_operation operation;
};

struct m_backup {
    bool exists;
    struct reeve_uuid id, service_id;
    int service; /* -1: gone */
    unsigned organization, region, tier, state;
    uint64_t generation, expires_ms, retention_hours, restores;
    struct m_operation operation;
};

struct m_key {
    unsigned organization, key;
    uint64_t fingerprint, expires_ms;
    struct reeve_uuid object; /* of what was created */
    int object_place;
};

/* What watchers must be told of one thing, in this order. */
struct m_event {
    struct reeve_uuid object; /* of a backup, or else a service; nil: made in this batch, see place */
    int service, backup;      /* places */
    unsigned type, from, to;
};

#define SIM_EVENTS_MAX 512

struct model {
    uint64_t now_ms;
    unsigned service_counts[SIM_ORGANIZATIONS];
    struct m_service services[SIM_SERVICES_MAX];
    struct m_backup backups[SIM_BACKUPS_MAX];
    struct m_key keys[SIM_KEYS_MAX];
    unsigned keys_count;
    int created; /* place of what the last command made; -1: nothing */
    bool replayed;
    struct reeve_uuid replayed_object;
    unsigned events_count;
    struct m_event events[SIM_EVENTS_MAX]; /* of this batch */
};

void model_init(struct model *model);
/* Without the room for events that there are not: a quarter of a run would be that. */
void model_copy(struct model *to, const struct model *from);
/* What the engine must answer: 0, or the number of an error. */
int model_command(struct model *model, const struct command *command);
/* The provisioner's answer to an attempt; `desired` is what it was given. */
void model_outcome(struct model *model, const struct reeve_uuid *operation_id, uint64_t attempt, uint64_t desired,
                   enum reeve_outcome_status status);
/* All timers up to now. */
void model_due(struct model *model);
/* The operation with this id, or NULL. */
const struct m_operation *model_operation(const struct model *model, const struct reeve_uuid *id);
bool model_is_full(const struct model *model);

/* ---- What was seen, over all runs ---- */

struct coverage {
    uint64_t steps, commands, batches, restarts, faults, runs;
    uint64_t stacked, roll_backs, checkpoints, checkpoint_failures, full;
    uint64_t rules[16][32]; /* state, input of lifecycle.def */
    uint64_t backup_rules[8][16];
    uint64_t errors[32], crashes[CRASH_POINTS];
    uint64_t tasks, stale_outcomes, replays, checks;
};

extern struct coverage *coverage;

/* Are all rows reached? Prints the figures, and the rows that were not. */
bool coverage_report(const struct coverage *coverage, FILE *out);

/* ---- Running ---- */

struct failure {
    bool failed;
    size_t step;
    char text[600];
};

extern bool sim_trace; /* tell each input, and what was started */

/* Run a history from an empty store to its quiet end. */
void world_run(const struct sim_step *steps, size_t count, uint64_t seed, struct failure *ret_failure);
/* Ends the run; does not return. */
__attribute__((format(printf, 1, 2), noreturn)) void sim_fail(const char *format, ...);
#define SIM_REQUIRE(condition, ...)                                                                                    \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            sim_fail(__VA_ARGS__);                                                                                     \
    } while (0)

uint64_t sim_random(uint64_t *state);

#endif
