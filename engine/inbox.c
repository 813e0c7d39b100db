#include "inbox.h"

void inbox_init(struct inbox *inbox, uv_async_t *wake, size_t request_max, size_t report_max)
{
    *inbox = (struct inbox){.wake = wake, .request_max = request_max, .report_max = report_max};
    pthread_mutex_init(&inbox->lock, NULL);
}

void inbox_deinit(struct inbox *inbox)
{
    pthread_mutex_destroy(&inbox->lock);
}

/* Called with the lock held, so that the wake-up handle cannot be closed in between. */
static void signal_engine(struct inbox *inbox)
{
    if (inbox->awake || inbox->closed)
        return;
    inbox->awake = true;
    uv_async_send(inbox->wake);
}

void inbox_wake(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    if (!inbox->closed)
        uv_async_send(inbox->wake);
    pthread_mutex_unlock(&inbox->lock);
}

static bool is_empty(const struct inbox *inbox)
{
    return inbox->request_count == 0 && inbox->report_count == 0;
}

bool inbox_sleep(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    const bool empty = is_empty(inbox);
    inbox->awake = !empty;
    pthread_mutex_unlock(&inbox->lock);
    return empty;
}

bool inbox_close(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    const bool empty = is_empty(inbox);
    inbox->closed |= empty;
    pthread_mutex_unlock(&inbox->lock);
    return empty;
}

bool inbox_is_empty(struct inbox *inbox)
{
    return atomic_load(&inbox->waiting) == 0;
}

int inbox_push_request(struct inbox *inbox, struct reeve_request *request)
{
    int r = 0;
    request->internal.next = NULL;
    pthread_mutex_lock(&inbox->lock);
    if (inbox->request_count >= inbox->request_max) {
        inbox->refused++;
        r = -REEVE_ERROR_BUSY;
    } else {
        if (inbox->request_last)
            inbox->request_last->internal.next = request;
        else
            inbox->request_first = request;
        inbox->request_last = request;
        inbox->request_count++;
        atomic_fetch_add(&inbox->waiting, 1);
        signal_engine(inbox);
    }
    pthread_mutex_unlock(&inbox->lock);
    return r;
}

int inbox_push_report(struct inbox *inbox, struct report *report)
{
    int r = 0;
    report->next = NULL;
    pthread_mutex_lock(&inbox->lock);
    if (inbox->report_count >= inbox->report_max) {
        r = -REEVE_ERROR_BUSY;
    } else {
        if (inbox->report_last)
            inbox->report_last->next = report;
        else
            inbox->report_first = report;
        inbox->report_last = report;
        inbox->report_count++;
        atomic_fetch_add(&inbox->waiting, 1);
        signal_engine(inbox);
    }
    pthread_mutex_unlock(&inbox->lock);
    return r;
}

void inbox_take(struct inbox *inbox, size_t request_max, struct inbox_items *ret_items)
{
    pthread_mutex_lock(&inbox->lock);
    *ret_items = (struct inbox_items){.requests = inbox->request_first, .reports = inbox->report_first};
    ret_items->report_count = inbox->report_count;
    inbox->report_first = inbox->report_last = NULL;
    inbox->report_count = 0;
    if (inbox->request_count <= request_max) {
        ret_items->request_count = inbox->request_count;
        inbox->request_first = inbox->request_last = NULL;
    } else {
        struct reeve_request *last = inbox->request_first;
        for (size_t i = 1; i < request_max; i++)
            last = last->internal.next;
        inbox->request_first = last->internal.next;
        last->internal.next = NULL;
        ret_items->request_count = request_max;
    }
    inbox->request_count -= ret_items->request_count;
    atomic_store(&inbox->waiting, inbox->request_count);
    pthread_mutex_unlock(&inbox->lock);
}
