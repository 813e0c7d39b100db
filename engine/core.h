/* The deterministic heart: one ordered stream of turns (requests, reports of provisioners, due timers) is applied to
 * the store in batches. Time and randomness come in as arguments; nothing here reads a clock, a socket or a file, so
 * that a simulator can drive the very same code.
 *
 *     core_begin -> core_request / core_report / core_due ... -> core_seal -> core_settle -> core_dispatch
 *
 * A sealed batch is what the next one is built on, while it is being flushed. It is settled once it is durable; what
 * could not be made durable has not happened: core_roll_back() goes back to what is, and it can be made again.
 */
#ifndef REEVE_CORE_H
#define REEVE_CORE_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/map.h"
#include "base/uuid.h"
#include "codec.h"
#include "error.h"
#include "keys.h"
#include "lifecycle.h"
#include "store.h"

#define CORE_SEED_SIZE 32

struct flight;
struct catalogue;

/* What a provisioner reported of an attempt, copied. */
enum report_kind {
    REPORT_OUTCOME,
    REPORT_PROGRESS,
    REPORT_PAUSE,  /* nobody is at work on it: its time stands still */
    REPORT_RESUME, /* now somebody is: its time starts */
};

struct report {
    struct report *next;
    struct reeve_uuid operation_id;
    uint64_t attempt;
    enum report_kind kind;
    struct reeve_outcome outcome; /* points into this allocation */
    struct reeve_progress progress;
    struct flight *flight; /* the flight it was accepted for, so that making a batch again accepts it again */
};

/* What is to be done once the batch is durable. */
struct action {
    struct action *next;
    enum {
        ACTION_CANCEL, /* an operation in flight is not wanted any more */
        ACTION_LAND,   /* a flight has ended */
    } kind;
    struct reeve_uuid operation_id; /* CANCEL */
    struct flight *flight;          /* LAND */
};

/* An operation that has become ready, to be started once the batch is durable. */
struct offer {
    struct offer *next;
    struct reeve_uuid organization_id, service_id, backup_id, operation_id;
    uint64_t number;         /* place in the queue */
    struct reeve_str record; /* stored form of the service, or of the backup, that waits for it */
};

/* What the core asks of the world after a commit. */
struct core_hooks {
    void *arg;
    bool has_provisioner;
    uint32_t password_forms; /* what it can set passwords from, bits by enum reeve_password_form */
    void (*start)(void *arg, struct flight *flight);
    void (*cancel)(void *arg, struct flight *flight);
    void (*log)(void *arg, enum reeve_log_level level, const char *line);
};

struct flights {
    struct map by_operation, by_slot;                  /* operation id, slot id -> struct flight */
    struct map by_organization;                        /* organization id -> struct org_flights */
    struct flight *flying_first, *flying_last;         /* in the order of their deadlines */
    struct flight *cancelling_first, *cancelling_last; /* the same */
    size_t count;
    bool backlog;           /* the queue table may hold operations that are not in flight */
    struct reeve_uuid turn; /* the organization served last */
    uint64_t retry_mono_ms; /* when what could not be launched for want of memory is tried again; 0: nothing */
};

/* Numbers that go on from batch to batch. */
struct core_counters {
    uint64_t sequence;     /* newest event */
    uint64_t queue_number; /* newest place in the dispatch queue */
    uint64_t event_count;
    struct reeve_state_counts state_counts;
    uint64_t overdue_mono_ms; /* when timers from before the start last fired */
    uint64_t id_ms;           /* time of the newest id, and how many had that time before it */
    uint32_t id_count;
};

/* A batch on its way to disk. */
struct core_batch {
    uint64_t number; /* of the store's batch that must be durable */
    struct core_counters counters;
    struct reeve_stats delta;
    struct action *actions;
    struct offer *offers;
    bool keys_changed; /* what is remembered of keys no longer counts */
};

struct core {
    struct store *store;
    struct reeve_limits limits;
    const struct catalogue *catalogue;
    struct reeve_str endpoint_domain;
    enum reeve_log_level log_level;
    struct core_hooks hooks;

    struct core_counters sealed, durable; /* as of the newest batch that is so */
    uint64_t opened_ms;

    /* this batch */
    struct arena *arena;
    struct buffer scratch;
    uint64_t now_ms, mono_ms;
    uint8_t seed[CORE_SEED_SIZE];
    uint32_t random_used;
    uint8_t random[512]; /* made at once: an id needs ten of them */
    size_t random_left;
    struct core_counters next; /* `sealed`, with this batch */
    bool state_counts_changed, keys_changed;
    struct action *actions_first, *actions_last; /* to do once this batch is durable */
    struct offer *offers_first, *offers_last;    /* and after all of those */
    struct map organizations; /* organization id -> struct reeve_organization in the arena, read or changed */
    int fault;                /* the first fault (not refusal) in this batch */
    struct reeve_stats delta; /* counters of this batch */

    uint64_t next_due_ms;        /* when the next timer of the store is due; UINT64_MAX: none */
    uint64_t first_due_ms;       /* no row of the due table is earlier */
    bool first_due_known;        /* and one is that early, or there is none */
    struct core_batch committed; /* by core_commit() */

    struct flights flights;
    struct reeve_stats stats; /* sums over durable batches */
};

/* Returns 0 or a negative code with ret_error filled. The store must be open; its schema is made or migrated here. */
int core_init(struct core *core, uint64_t now_ms, struct reeve_error *ret_error);
void core_deinit(struct core *core);

int core_begin(struct core *core, struct arena *arena, uint64_t now_ms, uint64_t mono_ms,
               const uint8_t seed[CORE_SEED_SIZE]);
/* The answer is in the batch's arena. Never NULL but when out of memory. */
const struct reeve_result *core_request(struct core *core, const struct reeve_request *request);
void core_report(struct core *core, struct report *report);
/* What the next STORE_FETCH_MAX of a list will look for is fetched into the caches. */
void core_fetch_requests(struct core *core, const struct reeve_request *requests);
void core_fetch_reports(struct core *core, const struct report *reports);
/* Timers of the store, deadlines of attempts. */
void core_due(struct core *core);
/* Write something in any case: a batch that has nothing to write proves nothing about a store that could not. */
void core_probe(struct core *core);
/* The batch is complete and on its way to disk: `wait` as for store_seal(). Negative: it has not happened. */
int core_seal(struct core *core, bool wait, struct core_batch *ret_batch);
/* It is durable. In the order they were sealed in. */
void core_settle(struct core *core, const struct core_batch *batch);
/* Start what may be started, cancel what is not wanted; once the batch is settled. `durable`: number of the newest
 * batch that is durable; what an older one offers may be no longer wanted. */
void core_dispatch_batch(struct core *core, const struct core_batch *batch, uint64_t durable);
/* What has been sealed and not settled has not happened. */
void core_roll_back(struct core *core);
/* Seal, wait, settle: 0, or a negative code (nothing has happened); and what follows from it. */
int core_commit(struct core *core);
void core_dispatch(struct core *core);
/* Monotonic time of the next deadline of an attempt and engine time of the next due row; UINT64_MAX: none. */
void core_next_due(const struct core *core, uint64_t *ret_mono_ms, uint64_t *ret_now_ms);

/* ---- Between the files of the core ---- */

__attribute__((format(printf, 3, 4))) void core_log(struct core *core, enum reeve_log_level level, const char *format,
                                                    ...);
/* Bytes that follow from the batch's seed alone. */
void core_random(struct core *core, void *bytes, size_t size);
struct reeve_uuid core_new_id(struct core *core);
/* Memory of the batch; running out is a fault of the batch. */
void *core_alloc(struct core *core, size_t size);
struct reeve_str core_copy(struct core *core, struct reeve_str text);
void core_fault(struct core *core, int code);
/* A record that decodes and does not keep its own rules. */
void core_damaged(struct core *core, const char *what, const char *problem);
/* Bytes from the store, copied, decoded: false where there is none, or on a fault. */
bool core_load(struct core *core, enum store_table table, const struct store_key *key, const struct record_type *type,
               void *ret_record);
/* Returned is the stored form, valid until the next one is made. */
struct reeve_str core_save(struct core *core, enum store_table table, const struct store_key *key,
                           const struct record_type *type, const void *record);
/* The same for a key that is new. */
struct reeve_str core_insert(struct core *core, enum store_table table, const struct store_key *key,
                             const struct record_type *type, const void *record);
struct action *core_action(struct core *core, int kind);
struct offer *core_offer(struct core *core);
/* Move a row of the due table or the queue from one place to another; 0 is no place. */
void core_move_due(struct core *core, uint64_t before_ms, uint64_t after_ms, enum due_kind kind,
                   const struct reeve_uuid *first, const struct reeve_uuid *second);

/* A row whose record is not there, or is due at another time. Not possible unless the store is damaged; it must not
 * come up for ever. Where the record could not be read, nothing is known of it. */
void core_drop_due(struct core *core, const char *what, uint64_t due_ms, enum due_kind kind,
                   const struct reeve_uuid *first, const struct reeve_uuid *second);

/* Find out when the next timer is due; at the end of a batch. */
void schedule_note_next(struct core *core);
/* A row of the due table goes from one time to another; 0: there was none, or is none any more. */
void schedule_note_move(struct core *core, uint64_t before_ms, uint64_t after_ms);
/* What is known of the table counts no more: a batch has not happened. */
void schedule_forget(struct core *core);

/* Append an event; sequence and time are filled in. */
void event_append(struct core *core, struct reeve_event *event);

#endif
