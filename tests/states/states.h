/* An exhaustive search: the engine's core with two services, from the first state on, by every input there is, until
 * nothing new is reached. A state is all of the core's memory and its store, taken and put back as a whole; two states
 * are the same when nothing that matters tells them apart (life_key()).
 *
 * What matters are states, operations, attempts in flight and the order in which timers are due; not ids, generations,
 * nor how far ahead a timer is.
 */
#ifndef REEVE_STATES_H
#define REEVE_STATES_H

#include <reeve.h>
#include <stdio.h>

#include "lifecycle.h"

/* ---- Memory that can be taken and put back (heap.c) ---- */

struct image;

/* What is allocated in between belongs to the state. */
void heap_enter(void);
void heap_leave(void);
/* A copy of it, and of `size` bytes at `more`. */
struct image *image_take(const void *more, size_t size);
void image_put_back(const struct image *image, void *more, size_t size);
size_t image_bytes(const struct image *image);
void image_free(struct image *image);

/* ---- The store, in memory (store.c) ---- */

/* Called for each event that becomes durable; they are not kept. */
extern void (*store_on_event)(const void *value, size_t size);

/* ---- Lives (life.c) ---- */

#define SERVICES_MAX 2
#define KEY_BYTES 96

enum input_kind {
    /* commands */
    DO_CREATE,
    DO_UPDATE,
    DO_SCALE,
    DO_SET_PASSWORD,
    DO_START,
    DO_STOP,
    DO_AWAKE,
    DO_DELETE,
    DO_BACKUP,
    DO_BACKUP_DELETE,
    DO_ACTIVITY,
    DO_HEALTH_LOST,
    /* what an attempt in flight comes to: at the service, at the deletion of its backup */
    END_DONE,
    END_RETRY,
    END_FAILED,
    BACKUP_END_DONE,
    BACKUP_END_RETRY,
    BACKUP_END_FAILED,
    /* time passes until this is due */
    DUE_RETRY,
    DUE_IDLE,
    DUE_SCHEDULE,
    DUE_BACKUP_RETRY,
    DUE_EXPIRY,
    DUE_DEADLINE, /* of the attempt at the service, or the end of the time it has for giving up */
    DUE_BACKUP_DEADLINE,
    /* what must change nothing: the end of the attempt before comes again */
    END_AGAIN,
    /* kill -9, and a start on what was durable; of no service */
    CRASH,
    INPUT_KINDS,
};

struct life_options {
    unsigned services, operations;
    bool backups;
};

struct life_view {
    enum reeve_service_state states[SERVICES_MAX]; /* NONE: not made yet; GONE: deleted */
    bool busy;                                     /* an operation is under way */
};

extern const char *const input_names[INPUT_KINDS];
extern uint64_t rows_taken[REEVE_SERVICE_STATE_COUNT][INPUT_COUNT];

/* The first state. */
void life_begin(const struct life_options *options);
struct image *life_take(void);
void life_put_back(const struct image *image);
/* False: there is no such input now. Otherwise it has been one batch. Ends the process where something is wrong. */
bool life_apply(enum input_kind kind, unsigned service);
/* The same for states that nothing tells apart, whichever of the services is which. */
void life_key(uint8_t ret_key[KEY_BYTES]);
struct life_view life_view(void);
/* One line. */
void life_tell(FILE *out);
/* What is told first where something is wrong. */
extern void (*life_on_failure)(void);

#endif
