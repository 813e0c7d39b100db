/* Server-sent events: a stream that tells events as they become durable, and goes on where a client left off. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "frontends/http/json.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

#define HEARTBEAT_MS 15000 /* something to send, by which a client that has gone is noticed */

static void wake(struct http_exchange *exchange)
{
    if (!exchange->suspended)
        return;
    exchange->suspended = false;
    MHD_resume_connection(exchange->mhd);
    exchange->listener->dirty = true;
}

/* ---- In ---- */

static void put_event(struct buffer *out, enum http_dialect dialect, const struct reeve_event *event)
{
    char head[96];
    snprintf(head, sizeof head, "id: %" PRIu64 "\nevent: %s\ndata: ", event->sequence,
             reeve_event_type_name(event->type));
    json_put_text(out, head);
    view_put(out, dialect, &record_type_event, event);
    json_put_text(out, "\n\n");
}

/* The events as text: made for the first stream, used for the next ones that want the same of this run. */
static const struct buffer *encode(struct http_exchange *exchange, const struct reeve_event *const *events,
                                   size_t count)
{
    struct http_encoded *run = &exchange->server->encoded;
    const struct reeve_watch *watch = &exchange->watching.watch;
    const enum http_dialect dialect = exchange->listener->dialect;
    if (!run->text.failed && run->first == events[0]->sequence && run->count == count && run->dialect == dialect &&
        uuid_equal(&run->organization_id, &watch->organization_id) && uuid_equal(&run->service_id, &watch->service_id))
        return &run->text;
    run->first = events[0]->sequence;
    run->count = count;
    run->dialect = dialect;
    run->organization_id = watch->organization_id;
    run->service_id = watch->service_id;
    buffer_reset(&run->text);
    for (size_t i = 0; i < count; i++)
        put_event(&run->text, dialect, events[i]);
    return &run->text;
}

static void on_events(struct reeve_watch *watch, const struct reeve_event *const *events, size_t count)
{
    struct http_exchange *exchange = watch->data;
    struct buffer *out = &exchange->watching.out;
    const struct buffer *text = encode(exchange, events, count);
    buffer_append(out, text->data, text->size);
    out->failed |= text->failed;
    exchange->server->stats.events += count;
    if (out->size - exchange->watching.sent >= exchange->server->limits.stream_bytes) {
        reeve_watch_pause(watch);
        wake(exchange);
    }
}

static void on_caught_up(struct reeve_watch *watch)
{
    struct http_exchange *exchange = watch->data;
    if (exchange->watching.out.size > exchange->watching.sent)
        wake(exchange);
}

/* Events are gone that the client has not seen. It is told, and goes on with what there is. */
static void on_lagged(struct reeve_watch *watch, uint64_t resume_sequence)
{
    struct http_exchange *exchange = watch->data;
    char text[96];
    snprintf(text, sizeof text, "event: lagged\ndata: {\"from\":%" PRIu64 "}\n\n", resume_sequence);
    json_put_text(&exchange->watching.out, text);
}

/* ---- Out ---- */

static ssize_t on_read(void *cls, uint64_t position, char *data, size_t size_max)
{
    struct http_exchange *exchange = cls;
    struct http_watching *watching = &exchange->watching;
    (void)position;
    const size_t left = watching->out.size - watching->sent;
    if (left == 0 && (watching->ended || watching->out.failed))
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (left == 0) {
        buffer_reset(&watching->out);
        watching->sent = 0;
        reeve_watch_resume(&watching->watch);
        exchange->suspended = true;
        MHD_suspend_connection(exchange->mhd);
        return 0;
    }
    const size_t size = left < size_max ? left : size_max;
    memcpy(data, watching->out.data + watching->sent, size);
    watching->sent += size;
    watching->told_ms = uv_now(exchange->server->loop);
    return (ssize_t)size;
}

void stream_tick(struct http_server *server)
{
    const uint64_t now_ms = uv_now(server->loop);
    for (struct link *link = server->streams.next; link != &server->streams; link = link->next) {
        struct http_exchange *exchange = link_owner(link, struct http_exchange, watching.link);
        if (now_ms - exchange->watching.told_ms < HEARTBEAT_MS || !exchange->suspended)
            continue;
        exchange->watching.told_ms = now_ms;
        json_put_text(&exchange->watching.out, ":\n\n");
        wake(exchange);
    }
}

void stream_end_all(struct http_server *server)
{
    for (struct link *link = server->streams.next; link != &server->streams; link = link->next) {
        struct http_exchange *exchange = link_owner(link, struct http_exchange, watching.link);
        exchange->watching.ended = true;
        reeve_watch_stop(&exchange->watching.watch);
        wake(exchange);
    }
}

void stream_release(struct http_exchange *exchange)
{
    struct http_watching *watching = &exchange->watching;
    if (!watching->active)
        return;
    watching->active = false;
    reeve_watch_stop(&watching->watch);
    link_remove(&watching->link);
    buffer_deinit(&watching->out);
    exchange->server->stats.streams--;
}

/* ---- Start ---- */

/* From the event behind Last-Event-ID, from `from`, or from now on. */
static bool read_from(struct http_exchange *exchange, uint64_t *ret_from)
{
    const char *last = exchange->head.last_event_id;
    char *end;
    *ret_from = exchange->base.params.event_list.from;
    if (!last || !*last)
        return true;
    *ret_from = strtoull(last, &end, 10) + 1;
    if (*last >= '0' && *last <= '9' && *end == '\0' && strlen(last) < 19)
        return true;
    refuse_status(exchange, 400, "BAD_REQUEST", "request header.Last-Event-ID: must be the number of an event");
    return false;
}

void stream_run(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct http_watching *watching = &exchange->watching;
    struct reeve_error error;
    watching->watch = (struct reeve_watch){.organization_id = exchange->identity.organization_id,
                                           .service_id = exchange->base.params.event_list.service_id,
                                           .on_events = on_events,
                                           .on_caught_up = on_caught_up,
                                           .on_lagged = on_lagged,
                                           .data = exchange};
    if (!read_from(exchange, &watching->watch.from_sequence))
        return;
    if (server->closing || server->stats.streams >= server->limits.streams_max) {
        exchange->retry_after_s = 5;
        refuse(exchange, REEVE_ERROR_BUSY, "", "%llu event streams are open, and more are not allowed",
               (unsigned long long)server->stats.streams);
        return;
    }
    if (reeve_watch_start(server->client, &watching->watch, &error) < 0) {
        refuse_error(exchange, &error);
        return;
    }
    watching->active = true;
    watching->told_ms = uv_now(server->loop);
    server->stats.streams++;
    link_append(&server->streams, &watching->link);
    json_put_text(&watching->out, "retry: 1000\n\n");
    answer_response(exchange, 200, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, on_read, exchange, NULL),
                    "text/event-stream");
}
