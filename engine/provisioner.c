/* Between the core and a provisioner: straight calls on the engine's thread, or messages to the provisioner's loop;
 * and the way back, reports, from any thread. */
#include <stdlib.h>

#include "base/crash.h"
#include "engine.h"

struct message {
    struct message *next;
    struct flight *flight;
    bool is_cancel;
};

struct mailbox {
    pthread_mutex_t lock;
    struct message *first, *last;
    struct reeve_provisioner provisioner;
    uv_async_t async;
};

/* ---- To the provisioner ---- */

static void post(struct mailbox *mailbox, struct flight *flight, bool is_cancel)
{
    struct message *message = malloc(sizeof *message);
    if (!message)
        return; /* as if the attempt hung: its deadline sees to it */
    atomic_fetch_add(&flight->references, 1);
    *message = (struct message){.flight = flight, .is_cancel = is_cancel};
    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->last)
        mailbox->last->next = message;
    else
        mailbox->first = message;
    mailbox->last = message;
    pthread_mutex_unlock(&mailbox->lock);
    uv_async_send(&mailbox->async);
}

static struct message *take_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct message *first = mailbox->first;
    mailbox->first = mailbox->last = NULL;
    pthread_mutex_unlock(&mailbox->lock);
    return first;
}

static void on_messages(uv_async_t *async)
{
    struct mailbox *mailbox = async->data;
    for (struct message *message = take_all(mailbox), *next; message; message = next) {
        next = message->next;
        const struct reeve_provisioner *provisioner = &mailbox->provisioner;
        if (message->is_cancel)
            provisioner->cancel(provisioner->arg, &message->flight->task);
        else
            provisioner->start(provisioner->arg, &message->flight->task);
        flight_release(message->flight);
        free(message);
    }
}

int provisioner_open(struct reeve_engine *engine, const struct reeve_provisioner *provisioner)
{
    if (!provisioner)
        return 0;
    engine->provisioner = *provisioner;
    if (!provisioner->loop)
        return 0;
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (!mailbox)
        return -REEVE_ERROR_NO_MEMORY;
    mailbox->provisioner = *provisioner;
    mailbox->async.data = mailbox;
    if (uv_async_init(provisioner->loop, &mailbox->async, on_messages) != 0) {
        free(mailbox);
        return -REEVE_ERROR_NO_MEMORY;
    }
    /* The host's loop lives as long as the host has something to do, not as long as the engine is open. */
    uv_unref((uv_handle_t *)&mailbox->async);
    pthread_mutex_init(&mailbox->lock, NULL);
    engine->mailbox = mailbox;
    return 0;
}

void provisioner_start(void *arg, struct flight *flight)
{
    struct reeve_engine *engine = arg;
    if (engine->mailbox)
        post(engine->mailbox, flight, false);
    else
        engine->provisioner.start(engine->provisioner.arg, &flight->task);
}

void provisioner_cancel(void *arg, struct flight *flight)
{
    struct reeve_engine *engine = arg;
    if (engine->mailbox)
        post(engine->mailbox, flight, true);
    else
        engine->provisioner.cancel(engine->provisioner.arg, &flight->task);
}

static void on_mailbox_closed(uv_handle_t *handle)
{
    struct mailbox *mailbox = handle->data;
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

void provisioner_close(struct reeve_engine *engine)
{
    if (engine->mailbox) {
        for (struct message *message = take_all(engine->mailbox), *next; message; message = next) {
            next = message->next;
            flight_release(message->flight);
            free(message);
        }
        uv_close((uv_handle_t *)&engine->mailbox->async, on_mailbox_closed);
        engine->mailbox = NULL;
    }
    if (engine->provisioner.closed)
        engine->provisioner.closed(engine->provisioner.arg);
}

/* ---- Back ---- */

static size_t outcome_size(const struct reeve_outcome *outcome)
{
    size_t size = outcome->code.size + outcome->message.size + outcome->handle.size + outcome->version.size;
    size += outcome->endpoints.count * sizeof(struct reeve_endpoint);
    for (size_t i = 0; i < outcome->endpoints.count; i++) {
        const struct reeve_endpoint *endpoint = &outcome->endpoints.items[i];
        size += endpoint->protocol.size + endpoint->host.size + endpoint->username.size;
    }
    return size;
}

static struct reeve_str copy_text(char **at, struct reeve_str text)
{
    const struct reeve_str copy = {text.size ? *at : NULL, text.size};
    if (text.size)
        memcpy(*at, text.data, text.size);
    *at += text.size;
    return copy;
}

static void copy_outcome(struct reeve_outcome *copy, const struct reeve_outcome *outcome, void *memory)
{
    struct reeve_endpoint *endpoints = memory;
    const size_t count = outcome->endpoints.count;
    char *at = (char *)(endpoints + count);
    *copy = *outcome;
    copy->endpoints.items = endpoints;
    for (size_t i = 0; i < count; i++) {
        const struct reeve_endpoint *endpoint = &outcome->endpoints.items[i];
        endpoints[i] = *endpoint;
        endpoints[i].protocol = copy_text(&at, endpoint->protocol);
        endpoints[i].host = copy_text(&at, endpoint->host);
        endpoints[i].username = copy_text(&at, endpoint->username);
    }
    copy->code = copy_text(&at, outcome->code);
    copy->message = copy_text(&at, outcome->message);
    copy->handle = copy_text(&at, outcome->handle);
    copy->version = copy_text(&at, outcome->version);
}

/* What a provisioner returns is input from outside: too much or not text becomes a failure that says so. */
static struct reeve_outcome checked(const struct reeve_outcome *outcome)
{
    struct reeve_outcome result = *outcome;
    const char *problem = NULL;
    if (outcome->handle.size > REEVE_HANDLE_SIZE_MAX)
        problem = "the provisioner returned a handle of more than 4096 bytes";
    else if (outcome->endpoints.count > REEVE_ENDPOINTS_MAX)
        problem = "the provisioner returned more than 16 endpoints";
    else if (outcome->version.size > 50 || !utf8_valid(outcome->version.data, outcome->version.size))
        problem = "the provisioner returned a version of more than 50 bytes, or one that is not text";
    for (size_t i = 0; !problem && i < outcome->endpoints.count; i++) {
        const struct reeve_endpoint *endpoint = &outcome->endpoints.items[i];
        if (endpoint->port == 0 || endpoint->port > 65535)
            problem = "the provisioner returned an endpoint whose port is not from 1 to 65535";
        else if (endpoint->host.size == 0 || endpoint->host.size > 255 || endpoint->protocol.size == 0 ||
                 endpoint->protocol.size > 50 || endpoint->username.size > 255 ||
                 !utf8_valid(endpoint->host.data, endpoint->host.size) ||
                 !utf8_valid(endpoint->protocol.data, endpoint->protocol.size) ||
                 !utf8_valid(endpoint->username.data, endpoint->username.size))
            problem =
                "the provisioner returned an endpoint whose protocol, host or user name is empty, too long or not text";
    }
    if (outcome->status < REEVE_OUTCOME_STATUS_DONE || outcome->status > REEVE_OUTCOME_STATUS_CANCELLED)
        problem = "the provisioner returned an unknown status";
    if (problem)
        return (struct reeve_outcome){
            .status = REEVE_OUTCOME_STATUS_RETRY, .code = reeve_str("bad_outcome"), .message = reeve_str(problem)};
    if (!utf8_valid(result.code.data, result.code.size))
        result.code = reeve_str("unreadable");
    if (!utf8_valid(result.message.data, result.message.size))
        result.message = reeve_str("the provisioner's message is not valid UTF-8 or has control characters");
    result.code.size = utf8_cut(result.code.data, result.code.size, 50);
    result.message.size = utf8_cut(result.message.data, result.message.size, 500);
    return result;
}

int reeve_operation_finish(struct reeve_engine *engine, const struct reeve_uuid *operation_id, uint64_t attempt,
                           const struct reeve_outcome *outcome)
{
    const struct reeve_outcome result = checked(outcome);
    struct report *report = malloc(sizeof *report + outcome_size(&result));
    if (!report)
        return -REEVE_ERROR_NO_MEMORY;
    *report = (struct report){.operation_id = *operation_id, .attempt = attempt};
    copy_outcome(&report->outcome, &result, report + 1);
    crash_point(CRASH_REPORTING);
    const int r = inbox_push_report(&engine->inbox, report);
    if (r < 0)
        free(report);
    return r;
}

int reeve_operation_progress(struct reeve_engine *engine, const struct reeve_uuid *operation_id, uint64_t attempt,
                             uint64_t done, uint64_t total, struct reeve_str text)
{
    if (!utf8_valid(text.data, text.size))
        text = (struct reeve_str){0};
    text.size = utf8_cut(text.data, text.size, 200);
    struct report *report = malloc(sizeof *report + text.size);
    if (!report)
        return -REEVE_ERROR_NO_MEMORY;
    char *at = (char *)(report + 1);
    *report = (struct report){.operation_id = *operation_id, .attempt = attempt, .kind = REPORT_PROGRESS};
    report->progress = (struct reeve_progress){.done = done, .total = total, .text = copy_text(&at, text)};
    const int r = inbox_push_report(&engine->inbox, report);
    if (r < 0)
        free(report);
    return r;
}

int reeve_operation_pause(struct reeve_engine *engine, const struct reeve_uuid *operation_id, uint64_t attempt,
                          bool paused)
{
    struct report *report = malloc(sizeof *report);
    if (!report)
        return -REEVE_ERROR_NO_MEMORY;
    *report = (struct report){
        .operation_id = *operation_id, .attempt = attempt, .kind = paused ? REPORT_PAUSE : REPORT_RESUME};
    const int r = inbox_push_report(&engine->inbox, report);
    if (r < 0)
        free(report);
    return r;
}
