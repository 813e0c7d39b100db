/* What waits for the engine's thread: commands, bounded, and reports of provisioners. Any thread pushes; the engine
 * takes all there is, which is the next batch. Pushing is a lock, an append and, only where the engine sleeps and was
 * not told before, a wake-up. */
#ifndef REEVE_INBOX_H
#define REEVE_INBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "core.h"

struct inbox {
    pthread_mutex_t lock;
    struct reeve_request *request_first, *request_last;
    struct report *report_first, *report_last;
    size_t request_count, report_count;
    size_t request_max, report_max;
    atomic_size_t waiting; /* both counts, to be looked at without the lock */
    bool awake;            /* the engine is, or has been told to be: it looks here before it sleeps */
    bool closed;           /* there is nobody to wake any more */
    uint64_t refused;
    uv_async_t *wake;
};

struct inbox_items {
    struct reeve_request *requests;
    struct report *reports;
    size_t request_count, report_count;
};

void inbox_init(struct inbox *inbox, uv_async_t *wake, size_t request_max, size_t report_max);
void inbox_deinit(struct inbox *inbox);
int inbox_push_request(struct inbox *inbox, struct reeve_request *request);
int inbox_push_report(struct inbox *inbox, struct report *report);
/* Wake the engine for another reason; any thread. */
void inbox_wake(struct inbox *inbox);
/* From here on nobody is woken, unless something is left to be taken: then false. */
bool inbox_close(struct inbox *inbox);
bool inbox_is_empty(struct inbox *inbox);
/* From here on who pushes wakes the engine, unless something is left to be taken: then false. */
bool inbox_sleep(struct inbox *inbox);
/* Up to request_max commands and all reports. */
void inbox_take(struct inbox *inbox, size_t request_max, struct inbox_items *ret_items);

#endif
