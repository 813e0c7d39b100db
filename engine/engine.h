/* The engine around the core: its thread and loop, the inbox, the clients, the clock. */
#ifndef REEVE_ENGINE_H
#define REEVE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/clock.h"
#include "core.h"
#include "flight.h"
#include "inbox.h"

/* One batch and its memory. Answers live in it until the last client has seen them. */
struct batch {
    struct arena arena;
    atomic_int references;
    struct batch *next; /* of the spare ones, or of those on their way to disk */
    struct reeve_engine *engine;

    /* the engine's thread, until it is durable or has failed */
    struct inbox_items items;
    struct core_batch core;
    uint64_t sealed_ns;
};

struct mailbox;

/* What a loop calls the engine by. They end when the loop has closed both, which may be after the engine. */
struct handles {
    uv_async_t wake;
    uv_timer_t timer;
    unsigned closed;
};

struct reeve_engine {
    /* any thread */
    struct store *store;
    struct inbox inbox;
    pthread_mutex_t clients_lock;
    struct reeve_client *clients;
    atomic_uint_fast64_t published; /* newest event that may be read */
    atomic_uint_fast64_t told;      /* newest event whose batch has been answered */
    atomic_uint_fast64_t key_epoch; /* grows with each batch that changed a key */
    struct key_cache *key_cache;
    atomic_bool refusing;       /* the last batch could not be made durable */
    pthread_mutex_t state_lock; /* down to spare_batches */
    struct reeve_stats stats;
    struct reeve_state_counts state_counts;
    struct steady_clock shown_clock; /* as of the last batch: from there on everybody can tell the engine's time */
    struct reeve_limits limits;      /* of the core, as they hold now */
    struct reeve_limits pending_limits;
    struct catalogue *pending_catalogue;
    bool reload_wanted;
    struct batch *spare_batches;
    pthread_mutex_t log_lock;
    reeve_log_cb log;
    void *log_arg;
    _Atomic(enum reeve_log_level) log_level;
    char *data_dir, *endpoint_domain;

    /* the engine's thread */
    struct core core;
    struct catalogue *catalogue;
    struct steady_clock clock;
    struct report *kept_reports;                    /* of a batch that could not be made durable: they come again */
    struct batch *unsettled_first, *unsettled_last; /* on their way to disk, in order */
    unsigned unsettled_count;
    bool due; /* a timer has fired, or something else is to be looked at */
    bool failing, checkpoints_fail;
    bool many_processors;
    unsigned polls_spared, poll_after; /* so many chances to poll have been let pass, of so many */
    bool more_to_tell;                 /* a client on the engine's loop has not been told of all that is there */
    uv_loop_t *loop, own_loop;         /* the host's, or one of its own, which `thread` runs */
    struct handles *handles;
    uv_thread_t thread;
    atomic_bool closing, listening;

    struct reeve_provisioner provisioner;
    struct mailbox *mailbox; /* to the provisioner's loop; NULL: it is called on the engine's thread */
};

void engine_log(struct reeve_engine *engine, enum reeve_log_level level, const char *line);
/* The engine's time; any thread. */
uint64_t engine_now_ms(struct reeve_engine *engine);

/* client.c: hand over the answered requests of a batch; wake those that have answers or may have events. */
void clients_deliver(struct reeve_engine *engine, struct batch *batch, struct reeve_request *requests);
void clients_wake(struct reeve_engine *engine);

/* Is it a guest on the host's loop, whose thread is the engine's then? */
static inline bool engine_is_guest(const struct reeve_engine *engine)
{
    return engine->loop != &engine->own_loop;
}
/* The engine's loop has to close them yet. */
void engine_close_handles(struct reeve_engine *engine);

/* turns.c: what the engine's thread does, from its start to its end. */
void turns_run(void *engine);
void turns_on_wake(uv_async_t *wake);
/* What is queued is finished, and nobody wakes the engine any more. */
void turns_end(struct reeve_engine *engine);
void turns_on_settled(void *engine); /* the store has news; any thread */
void engine_publish_stats(struct reeve_engine *engine);
void batch_release(struct batch *batch); /* any thread */
void batches_free(struct reeve_engine *engine);
void reports_free(struct report *report); /* and those behind it */

/* authenticate.c */
struct key_cache *key_cache_new(void);
void key_cache_free(struct key_cache *cache);

/* provisioner.c: the core's hooks. */
int provisioner_open(struct reeve_engine *engine, const struct reeve_provisioner *provisioner);
void provisioner_start(void *engine, struct flight *flight);
void provisioner_cancel(void *engine, struct flight *flight);
void provisioner_close(struct reeve_engine *engine);

#endif
