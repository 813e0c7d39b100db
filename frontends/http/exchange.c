#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "frontends/http/server_private.h"

#define ARENA_BYTES 2048
#define BODY_KEPT_BYTES 16384 /* of longer bodies and answers the memory is not kept */
#define PAUSED_MAX 1024
#define PAUSE_TICK_MS 20

/* ---- Memory ---- */

struct http_exchange *exchange_new(struct http_listener *listener, struct MHD_Connection *mhd, const char *uri)
{
    struct http_server *server = listener->server;
    struct http_exchange *exchange = server->spare;
    if (exchange) {
        server->spare = exchange->next_spare;
        server->spare_count--;
    } else {
        exchange = calloc(1, sizeof *exchange);
        if (!exchange)
            return NULL;
        arena_init(&exchange->arena, ARENA_BYTES);
    }
    exchange->server = server;
    exchange->listener = listener;
    exchange->mhd = mhd;
    exchange->state = EXCHANGE_HEAD;
    exchange->started_ns = clock_mono_ns();
    link_init(&exchange->paused);
    link_init(&exchange->watching.link);
    server->exchanges_count++;
    server->stats.requests++;
    const size_t size = strlen(uri);
    const char *copy = arena_copy(&exchange->arena, uri, size + 1);
    exchange->uri = (struct reeve_str){copy, copy ? size : 0};
    return exchange;
}

static void exchange_free(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct arena arena = exchange->arena;
    struct buffer body = exchange->body, out = exchange->out;
    server->exchanges_count--;
    json_decref(exchange->json);
    if (server->spare_count == HTTP_SPARE_EXCHANGES_MAX || body.capacity > BODY_KEPT_BYTES ||
        out.capacity > BODY_KEPT_BYTES) {
        arena_deinit(&arena);
        buffer_deinit(&body);
        buffer_deinit(&out);
        free(exchange);
        return;
    }
    arena_reset(&arena);
    buffer_reset(&body);
    buffer_reset(&out);
    body.failed = out.failed = false;
    *exchange = (struct http_exchange){.arena = arena, .body = body, .out = out, .next_spare = server->spare};
    server->spare = exchange;
    server->spare_count++;
}

void exchange_free_spare(struct http_server *server)
{
    struct http_exchange *next;
    for (struct http_exchange *exchange = server->spare; exchange; exchange = next) {
        next = exchange->next_spare;
        arena_deinit(&exchange->arena);
        buffer_deinit(&exchange->body);
        buffer_deinit(&exchange->out);
        free(exchange);
    }
    server->spare = NULL;
    server->spare_count = 0;
}

/* ---- Log ---- */

/* Changes are worth a line, reads only for those who look closely. */
static void log_exchange(const struct http_exchange *exchange)
{
    const bool changes = exchange->route && exchange->route->method != METHOD_GET;
    const enum reeve_log_level level = exchange->status >= 500 ? REEVE_LOG_WARNING
                                       : changes               ? REEVE_LOG_INFO
                                                               : REEVE_LOG_DEBUG;
    if (level > exchange->server->log_level)
        return;
    const uint64_t us = (clock_mono_ns() - exchange->started_ns) / 1000;
    http_log(exchange->server, level, "http request=%s method=%s path=%.*s status=%u us=%" PRIu64 " actor=%s client=%s",
             exchange->request_id, exchange->method, (int)strcspn(exchange->uri.data, "?"), exchange->uri.data,
             exchange->status, us, exchange->actor[0] ? exchange->actor : "none", exchange->connection->address);
}

/* ---- The end ---- */

void exchange_over(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct http_connection *connection = exchange->connection;
    const size_t route = exchange->route ? (size_t)exchange->route->id : ROUTE_COUNT;
    if (exchange->status) {
        server->answers[route][exchange->status < 600 ? exchange->status : 599]++;
        if (exchange->uri.data && exchange->method)
            log_exchange(exchange);
    }
    if (exchange->response)
        MHD_destroy_response(exchange->response);
    link_remove(&exchange->paused);
    waiting_release(exchange);
    stream_release(exchange);
    listing_release(exchange);
    if (connection) {
        connection->exchange = NULL;
        connection->since_ms = uv_now(server->loop);
        connection->deadline_ms = connection->since_ms + server->limits.head_ms;
        link_append(&server->heads, &connection->phase);
    }
    exchange_free(exchange);
}

/* ---- Waiting ---- */

void exchange_resume(struct http_exchange *exchange)
{
    exchange->state = EXCHANGE_ANSWERED;
    if (!exchange->suspended)
        return;
    exchange->suspended = false;
    MHD_resume_connection(exchange->mhd);
    exchange->listener->dirty = true;
}

static void on_pause(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    struct link *next;
    for (struct link *link = server->paused.next; link != &server->paused; link = next) {
        struct http_exchange *exchange = link_owner(link, struct http_exchange, paused);
        next = link->next;
        if (exchange->paused_until_ms > uv_now(server->loop))
            continue;
        link_remove(&exchange->paused);
        exchange_resume(exchange);
    }
    if (!link_used(&server->paused))
        uv_timer_stop(timer);
}

/* The response is made; only its going out waits. */
static void pause_answer(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    exchange->state = EXCHANGE_WAITING;
    link_append(&server->paused, &exchange->paused);
    if (!uv_is_active((uv_handle_t *)&server->pause_timer))
        uv_timer_start(&server->pause_timer, on_pause, PAUSE_TICK_MS, PAUSE_TICK_MS);
}

void exchange_unpause_all(struct http_server *server)
{
    while (link_used(&server->paused)) {
        struct http_exchange *exchange = link_owner(server->paused.next, struct http_exchange, paused);
        link_remove(&exchange->paused);
        exchange_resume(exchange);
    }
}

/* ---- Steps ---- */

static bool has_body(const struct http_exchange *exchange)
{
    const char *length = exchange->head.content_length;
    return exchange->head.transfer_encoding || (length && strcmp(length, "0") != 0);
}

/* The connection has a time limit while a body is waited for, and none while we are at work. */
static void expect_body(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    connection->since_ms = uv_now(exchange->server->loop);
    connection->deadline_ms = connection->since_ms + exchange->server->limits.body_ms;
    link_append(&exchange->server->bodies, &connection->phase);
    exchange->state = EXCHANGE_BODY;
}

static void give_id(struct http_exchange *exchange)
{
    struct reeve_uuid id;
    http_random(exchange->server, &id, sizeof id);
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40); /* version 4 */
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    reeve_uuid_format(&id, exchange->request_id);
}

/* Goes on with the answer, or with waiting for it. */
static enum MHD_Result answer_or_suspend(struct http_exchange *exchange)
{
    if (exchange->response && exchange->paused_until_ms > uv_now(exchange->server->loop) && !exchange->server->closing)
        pause_answer(exchange);
    if (exchange->state == EXCHANGE_WAITING) {
        exchange->suspended = true;
        MHD_suspend_connection(exchange->mhd);
        return MHD_YES;
    }
    if (!exchange->response)
        return MHD_NO; /* out of memory: there is nothing to answer with */
    crash_point(CRASH_ANSWERING);
    return MHD_queue_response(exchange->mhd, exchange->status, exchange->response);
}

static void finish_state(struct http_exchange *exchange)
{
    if (exchange->response && exchange->state != EXCHANGE_WAITING)
        exchange->state = EXCHANGE_ANSWERED;
}

/* A refusal by the head: where a body of decent size is under way, it is read and dropped, so that the client reads the
 * answer and may use the connection again. Otherwise the answer is the last of its connection. */
static enum MHD_Result refuse_head(struct http_exchange *exchange)
{
    const char *length = exchange->head.content_length;
    const bool decent = !length || strtoull(length, NULL, 10) <= exchange->server->limits.body_bytes_max;
    if (!exchange->framing_broken && !has_body(exchange))
        return MHD_YES;
    if (!exchange->framing_broken && decent) {
        expect_body(exchange);
        return MHD_YES;
    }
    if (exchange->response)
        MHD_add_response_header(exchange->response, MHD_HTTP_HEADER_CONNECTION, "close");
    finish_state(exchange);
    return answer_or_suspend(exchange);
}

/* The head is there. */
static enum MHD_Result step_head(struct http_exchange *exchange, const char *method)
{
    struct http_connection *connection = exchange->connection;
    exchange->method = arena_copy(&exchange->arena, method, strlen(method) + 1);
    give_id(exchange);
    link_remove(&connection->phase);
    if (!exchange->uri.data || !exchange->method)
        return MHD_NO;
    exchange->state = EXCHANGE_BODY;
    if (!request_read_head(exchange) || !auth_check(exchange) || !request_read_conditions(exchange))
        return refuse_head(exchange);
    if (has_body(exchange))
        expect_body(exchange);
    return MHD_YES; /* comes again at once; answered now, the connection would be closed */
}

static enum MHD_Result step_body(struct http_exchange *exchange, const char *data, size_t *size)
{
    const uint64_t size_max = exchange->server->limits.body_bytes_max;
    exchange->body_bytes += *size;
    exchange->server->stats.bytes_in += *size;
    if (exchange->body_bytes > 4 * size_max)
        return MHD_NO; /* without a length, and without an end in sight */
    if (exchange->body_bytes <= size_max && !exchange->response)
        buffer_append(&exchange->body, data, *size);
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result step_all(struct http_exchange *exchange)
{
    link_remove(&exchange->connection->phase);
    if (exchange->response) /* refused by its head */
        exchange->state = EXCHANGE_ANSWERED;
    else if (exchange->body_bytes > exchange->server->limits.body_bytes_max)
        refuse_status(exchange, 413, "TOO_LARGE", "the body may have %" PRIu64 " bytes",
                      exchange->server->limits.body_bytes_max);
    else if (exchange->body.failed)
        refuse(exchange, REEVE_ERROR_NO_MEMORY, "", "out of memory");
    else
        run_exchange(exchange);
    finish_state(exchange);
    return answer_or_suspend(exchange);
}

enum MHD_Result exchange_step(struct http_exchange *exchange, const char *method, const char *data, size_t *size)
{
    switch (exchange->state) {
    case EXCHANGE_HEAD:
        return step_head(exchange, method);
    case EXCHANGE_BODY:
        return *size ? step_body(exchange, data, size) : step_all(exchange);
    case EXCHANGE_WAITING:
        return MHD_YES;
    case EXCHANGE_ANSWERED:
        return answer_or_suspend(exchange);
    }
    return MHD_NO;
}
