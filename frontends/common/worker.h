/* Between those who offer to do operations (a frontend knows them) and the one who hands operations out (a provisioner
 * that does nothing by itself). Neither knows the other but by these two structs.
 *
 * A worker has an operation under a lease, which is a number that is never used again. It ends when the worker
 * finishes the operation, when it was not renewed for lease_ms, or when the worker leaves; in the last two cases the
 * operation goes to another one, and what comes later under that number is refused.
 *
 * All of it is to be called on one thread. No callback of a worker may call back into the source.
 */
#ifndef REEVE_WORKER_H
#define REEVE_WORKER_H

#include <reeve.h>

#include "frontends/common/link.h"

/* Filled by the frontend, which owns it from subscribe() to unsubscribe(). */
struct worker {
    const void *owner;                 /* only who has the same one may report under its leases */
    uint64_t kinds;                    /* a bit for each operation kind, by number; 0: all */
    struct reeve_uuid organization_id; /* nil: of all */
    uint64_t max;                      /* operations at once */
    /* Here is one; the task may be read until this returns, and remaining_ms is what is left of the attempt's time.
     * False: not now; offer() when it is possible again. */
    bool (*on_operation)(struct worker *worker, uint64_t lease, const struct reeve_task *task, uint64_t remaining_ms);
    /* An operation it has is not wanted any more: it should stop, and finish with any status. */
    void (*on_cancelled)(struct worker *worker, uint64_t lease);
    struct { /* the source's own */
        struct link link, jobs;
        uint64_t count;
        bool silent; /* let a lease run out and was not heard of since: gets nothing */
    } internal;
};

struct worker_source {
    void *arg;
    uint64_t lease_ms;
    void (*subscribe)(void *arg, struct worker *worker);
    /* What it has goes to others. */
    void (*unsubscribe)(void *arg, struct worker *worker);
    /* It is there: hand it what waits, as far as it has room. After subscribe(), after it reported anything, and when
     * it has refused some and could take more. */
    void (*offer)(void *arg, struct worker *worker);
    /* Renew a lease, and pass on progress unless that is NULL. NOT_FOUND: there is no such lease, or no longer. BUSY:
     * renewed, but the progress was not taken. */
    int (*progress)(void *arg, const void *owner, uint64_t lease, const struct reeve_progress *progress);
    /* NOT_FOUND as above; BAD_REQUEST: CANCELLED is no answer to an operation that was not cancelled; BUSY: not taken,
     * the lease goes on. */
    int (*finish)(void *arg, const void *owner, uint64_t lease, const struct reeve_outcome *outcome);
};

#endif
