/* Answers: the body in the shape of the dialect, the headers that all have, and refusals. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "frontends/http/json.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

/* ---- Headers ---- */

/* The number between two short texts. */
static void add_header(struct MHD_Response *response, const char *name, const char *before, uint64_t number,
                       const char *after)
{
    char text[48];
    char *at = stpcpy(text, before);
    at += decimal_format(number, at);
    stpcpy(at, after);
    MHD_add_response_header(response, name, text);
}

void answer_allow(unsigned methods, char *ret_text, size_t size)
{
    snprintf(ret_text, size, "%s%s%s%sOPTIONS", methods & METHOD_GET ? "GET, HEAD, " : "",
             methods & METHOD_POST ? "POST, " : "", methods & METHOD_PATCH ? "PATCH, " : "",
             methods & METHOD_DELETE ? "DELETE, " : "");
}

static void add_allow(struct MHD_Response *response, unsigned methods)
{
    char text[64];
    answer_allow(methods, text, sizeof text);
    MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, text);
}

void answer_response(struct http_exchange *exchange, unsigned status, struct MHD_Response *response,
                     const char *content_type)
{
    exchange->status = status;
    exchange->response = response;
    if (!response)
        return;
    if (content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(response, "X-Request-Id", exchange->request_id);
    if (exchange->generation)
        add_header(response, MHD_HTTP_HEADER_ETAG, "\"", exchange->generation, "\"");
    if (exchange->replayed)
        MHD_add_response_header(response, "Idempotency-Replayed", "true");
    if (status == 401)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"reeve\", charset=\"UTF-8\"");
    if ((status == 405 || status == 204) && exchange->allow)
        add_allow(response, exchange->allow);
    if (status == 503 && !exchange->retry_after_s)
        exchange->retry_after_s = 1;
    if (exchange->retry_after_s)
        add_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "", exchange->retry_after_s, "");
    if (exchange->rate_reset_s)
        add_header(response, "X-RateLimit-Reset", "", exchange->rate_reset_s, "");
    if (exchange->status < 300 && exchange->wait_ms)
        add_header(response, "Preference-Applied", "wait=", exchange->wait_ms / 1000, "");
}

/* ---- Success ---- */

struct buffer *answer_begin(struct http_exchange *exchange)
{
    struct buffer *out = &exchange->out;
    buffer_reset(out);
    if (exchange->listener->dialect == HTTP_CLOUD) {
        json_put_text(out, "{\"status\":200,\"requestId\":\"");
        json_put_text(out, exchange->request_id);
        json_put_text(out, "\",\"result\":");
    }
    return out;
}

static void make_response(struct http_exchange *exchange, unsigned status)
{
    struct buffer *out = &exchange->out;
    buffer_append(out, "\n", 1);
    exchange->server->stats.bytes_out += out->size;
    if (out->failed) {
        exchange->status = 503;
        return;
    }
    answer_response(exchange, status, MHD_create_response_from_buffer(out->size, out->data, MHD_RESPMEM_PERSISTENT),
                    "application/json");
}

void answer_end(struct http_exchange *exchange)
{
    if (exchange->listener->dialect == HTTP_CLOUD)
        buffer_append(&exchange->out, "}", 1);
    make_response(exchange, 200);
}

/* The generation that an ETag is made of. */
static uint64_t generation_of(const struct record_type *type, const void *record)
{
    if (type == &record_type_service)
        return ((const struct reeve_service *)record)->generation;
    if (type == &record_type_service_created)
        return ((const struct reeve_service_created *)record)->service.generation;
    if (type == &record_type_backup)
        return ((const struct reeve_backup *)record)->generation;
    if (type == &record_type_organization)
        return ((const struct reeve_organization *)record)->generation;
    return type == &record_type_key ? ((const struct reeve_key *)record)->generation : 0;
}

static bool is_unchanged(const struct http_exchange *exchange)
{
    const char *text = exchange->head.if_none_match;
    char tag[32];
    if (!text || !exchange->generation || exchange->route->method != METHOD_GET)
        return false;
    snprintf(tag, sizeof tag, "\"%" PRIu64 "\"", exchange->generation);
    return strcmp(text, "*") == 0 || strstr(text, tag);
}

void answer_record(struct http_exchange *exchange, const struct record_type *type, const void *record)
{
    exchange->generation = generation_of(type, record);
    if (is_unchanged(exchange)) {
        answer_bare(exchange, 304);
        return;
    }
    struct buffer *out = answer_begin(exchange);
    view_put(out, exchange->listener->dialect, type, record);
    answer_end(exchange);
}

void answer_nothing(struct http_exchange *exchange)
{
    struct buffer *out = &exchange->out;
    buffer_reset(out);
    if (exchange->listener->dialect == HTTP_PLAIN) {
        json_put_text(out, "{}");
    } else {
        json_put_text(out, "{\"status\":200,\"requestId\":\"");
        json_put_text(out, exchange->request_id);
        json_put_text(out, "\"}");
    }
    make_response(exchange, 200);
}

void answer_bare(struct http_exchange *exchange, unsigned status)
{
    answer_response(exchange, status,
                    MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT), NULL);
}

void answer_text(struct http_exchange *exchange, const char *content_type, const char *data, size_t size)
{
    exchange->server->stats.bytes_out += size;
    answer_response(exchange, 200,
                    MHD_create_response_from_buffer(size, (void *)(uintptr_t)data, MHD_RESPMEM_PERSISTENT),
                    content_type);
}

/* ---- Refusals ---- */

static void put_allowed(struct buffer *out, const struct reeve_error *error)
{
    const char *name;
    json_put_text(out, "{\"state\":\"");
    json_put_text(out, reeve_service_state_name(error->state));
    json_put_text(out, "\",\"allowed\":[");
    for (unsigned i = 0; (name = reeve_allowed_name(error, i)); i++) {
        json_put_text(out, i ? ",\"" : "\"");
        json_put_text(out, name);
        json_put_text(out, "\"");
    }
    json_put_text(out, "]}");
}

/* Refusals quote what clients sent, which need not be text, or is cut within a character. */
static void put_message(struct buffer *out, const char *text)
{
    char clean[600];
    size_t used = 0;
    for (size_t left = strlen(text), size; left > 0 && used < sizeof clean - 4; text += size, left -= size) {
        for (size = 1; size < 4 && size < left && !utf8_valid(text, size); size++)
            continue;
        const bool plain = utf8_valid(text, size);
        if (!plain)
            size = 1;
        memcpy(clean + used, plain ? text : "?", size);
        used += size;
    }
    json_put_string(out, clean, used);
}

static void put_details(struct buffer *out, const char *field, const char *message, const struct reeve_error *error)
{
    json_put_text(out, ",\"details\":[");
    if (field[0]) {
        json_put_text(out, "{\"field\":");
        put_message(out, field);
        json_put_text(out, ",\"message\":");
        put_message(out, message);
        if (error && error->code == REEVE_ERROR_LAGGED) {
            json_put_text(out, ",\"resume\":");
            json_put_u64(out, error->resume_sequence);
        }
        json_put_text(out, "}");
    } else if (error && error->code == REEVE_ERROR_CONFLICT && error->state) {
        put_allowed(out, error);
    }
    json_put_text(out, "]}");
}

static void put_refusal(struct http_exchange *exchange, unsigned status, const char *code, const char *text)
{
    struct buffer *out = &exchange->out;
    buffer_reset(out);
    json_put_text(out, "{\"status\":");
    json_put_u64(out, status);
    json_put_text(out, ",\"error\":");
    char line[600];
    snprintf(line, sizeof line, "%s: %s", code, text);
    put_message(out, line);
    json_put_text(out, ",\"requestId\":\"");
    json_put_text(out, exchange->request_id);
    json_put_text(out, "\"");
}

/* What the field is part of: the path, the query, a header or the body. */
static void full_field(const struct http_exchange *exchange, const char *field, char *ret_text, size_t size)
{
    const char *where = "request body.";
    if (strcmp(field, "ifGeneration") == 0) {
        snprintf(ret_text, size, "request header.If-Match");
        return;
    }
    if (strcmp(field, "idempotencyKey") == 0) {
        snprintf(ret_text, size, "request header.Idempotency-Key");
        return;
    }
    if (request_param(exchange, field).data)
        where = "request path.";
    else if (exchange->query && request_query(exchange, field).data)
        where = "request query.";
    if (strcmp(field, "role") == 0)
        field = "roles";
    snprintf(ret_text, size, "%s%s", where, field);
}

void refuse_error(struct http_exchange *exchange, const struct reeve_error *error)
{
    char field[128] = "", text[420];
    if (error->field[0])
        full_field(exchange, error->field, field, sizeof field);
    const char *message = error->message[0] ? error->message : reeve_error_text((int)error->code);
    if (field[0])
        snprintf(text, sizeof text, "%s: %s", field, message);
    else
        snprintf(text, sizeof text, "%s", message);
    const unsigned status = (unsigned)reeve_error_http_status((int)error->code);
    exchange->generation = 0;
    put_refusal(exchange, status, reeve_error_name((int)error->code), text);
    put_details(&exchange->out, field, message, error);
    make_response(exchange, status);
}

void refuse(struct http_exchange *exchange, enum reeve_error_code code, const char *field, const char *format, ...)
{
    struct reeve_error error = {.code = code};
    snprintf(error.field, sizeof error.field, "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.message, sizeof error.message, format, arguments);
    va_end(arguments);
    refuse_error(exchange, &error);
}

void refuse_status(struct http_exchange *exchange, unsigned status, const char *code, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_refusal(exchange, status, code, text);
    put_details(&exchange->out, "", "", NULL);
    make_response(exchange, status);
}
