/* From what a client sent to a command: the head, the query, the body, each checked before it is believed. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "codec.h"
#include "frontends/http/json.h"
#include "frontends/http/server_private.h"

#define QUERY_MAX 32

/* ---- Percent-encoding ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Into the arena. False: not well-formed, or not text. */
static bool decode_text(struct http_exchange *exchange, const char *text, size_t size, bool plus_is_space,
                        struct reeve_str *ret_text)
{
    char *out = arena_alloc(&exchange->arena, size + 1);
    size_t used = 0;
    if (!out)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '%') {
            const int high = i + 2 < size ? hex(text[i + 1]) : -1, low = i + 2 < size ? hex(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            out[used++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[used++] = plus_is_space && text[i] == '+' ? ' ' : text[i];
        }
    }
    out[used] = '\0';
    *ret_text = (struct reeve_str){out, used};
    return utf8_valid(out, used);
}

/* ---- Head ---- */

struct wanted_header {
    const char *name;
    size_t offset;
    bool once;
};

static const struct wanted_header wanted_headers[] = {
#define HEADER(c_name, name, once)                                                                                     \
    {                                                                                                                  \
        name, offsetof(struct http_head, c_name), once                                                                 \
    }
    HEADER(host, "Host", true),
    HEADER(authorization, "Authorization", true),
    HEADER(accept, "Accept", false),
    HEADER(accept_encoding, "Accept-Encoding", false),
    HEADER(content_type, "Content-Type", true),
    HEADER(content_length, "Content-Length", true),
    HEADER(transfer_encoding, "Transfer-Encoding", true),
    HEADER(if_match, "If-Match", true),
    HEADER(if_none_match, "If-None-Match", true),
    HEADER(prefer, "Prefer", false),
    HEADER(idempotency_key, "Idempotency-Key", true),
    HEADER(last_event_id, "Last-Event-ID", true),
    HEADER(request_id, "X-Request-Id", true),
#undef HEADER
};

static bool is_header_name(const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (name[i] <= ' ' || name[i] >= 0x7f)
            return false;
    }
    return size > 0;
}

static bool is_header_value(const char *value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)value[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* libmicrohttpd appends what follows on a folded line to the name: the header would be missed. A value lies behind its
 * name in what was received, only names that were made longer lie elsewhere. */
static bool is_folded(const char *name, size_t size, const char *value)
{
    return (uintptr_t)value <= (uintptr_t)(name + size);
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct http_head *head = cls;
    const size_t name_size = strlen(name), value_size = value ? strlen(value) : 0;
    (void)kind;
    head->bytes += name_size + value_size + 4;
    if (!is_header_name(name, name_size) || !is_header_value(value, value_size) ||
        (value && is_folded(name, name_size, value)))
        head->malformed = true;
    if (!value)
        return MHD_YES;
    for (size_t i = 0; i < sizeof wanted_headers / sizeof wanted_headers[0]; i++) {
        const struct wanted_header *wanted = &wanted_headers[i];
        if ((name[0] ^ wanted->name[0]) & 0xdf || strcasecmp(name, wanted->name) != 0)
            continue;
        const char **place = (const char **)(void *)((char *)head + wanted->offset);
        if (*place && wanted->once)
            head->twice = wanted->name;
        *place = value;
        break;
    }
    return MHD_YES;
}

/* The client's own id, where it is one that can be logged and sent back. */
static bool take_request_id(struct http_exchange *exchange)
{
    const char *id = exchange->head.request_id;
    if (!id || !*id)
        return true;
    const size_t size = strlen(id);
    for (size_t i = 0; i < size; i++) {
        if (id[i] <= ' ' || id[i] >= 0x7f || id[i] == '"' || id[i] == '\\' || size >= HTTP_REQUEST_ID_SIZE) {
            refuse_status(
                exchange, 400, "BAD_REQUEST",
                "request header.X-Request-Id: must have from 1 to %d visible ASCII characters other than quotes",
                HTTP_REQUEST_ID_SIZE - 1);
            return false;
        }
    }
    memcpy(exchange->request_id, id, size + 1);
    return true;
}

static bool is_digits(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19;
}

/* Two ways to say where a request ends are how requests are smuggled past whoever stands in front. Nothing that comes
 * behind such a head is believed to be a body or a request. */
static bool check_framing(struct http_exchange *exchange)
{
    const struct http_head *head = &exchange->head;
    const char *problem = NULL;
    exchange->framing_broken = true;
    if (head->twice) {
        refuse_status(exchange, 400, "BAD_REQUEST", "request header.%s: is given twice", head->twice);
        return false;
    }
    if (head->malformed)
        problem = "must be lines of NAME: VALUE without space before the colon, control characters or folding";
    else if (head->transfer_encoding && head->content_length)
        problem = "Content-Length and Transfer-Encoding must not be given together";
    else if (head->transfer_encoding && strcasecmp(head->transfer_encoding, "chunked") != 0)
        problem = "Transfer-Encoding must be chunked";
    else if (head->content_length && !is_digits(head->content_length))
        problem = "Content-Length must be a number";
    if (problem)
        refuse_status(exchange, 400, "BAD_REQUEST", "request header: %s", problem);
    else
        exchange->framing_broken = false;
    return !problem;
}

static bool check_sizes(struct http_exchange *exchange)
{
    const struct http_limits *limits = &exchange->server->limits;
    const char *length = exchange->head.content_length;
    if (exchange->uri.size > limits->uri_bytes_max)
        refuse_status(exchange, 414, "URI_TOO_LONG", "the path with its query may have %" PRIu64 " bytes",
                      limits->uri_bytes_max);
    else if (exchange->head.bytes > limits->head_bytes_max)
        refuse_status(exchange, 431, "HEADERS_TOO_LARGE", "the headers may have %" PRIu64 " bytes together",
                      limits->head_bytes_max);
    else if (length && strtoull(length, NULL, 10) > limits->body_bytes_max)
        refuse_status(exchange, 413, "TOO_LARGE", "the body may have %" PRIu64 " bytes", limits->body_bytes_max);
    return !exchange->response;
}

/* A target may have scheme and host in front (RFC 9112, 3.2.2), which say nothing here. */
static const char *path_of(const char *target)
{
    const size_t scheme = strncasecmp(target, "http://", 7) == 0 ? 7 : strncasecmp(target, "https://", 8) == 0 ? 8 : 0;
    return scheme ? target + scheme + strcspn(target + scheme, "/?#") : target;
}

static bool read_path(struct http_exchange *exchange)
{
    const char *at = path_of(exchange->uri.data);
    const size_t end = strcspn(at, "?#");
    struct route_path *path = &exchange->path;
    for (size_t i = 0; i < end;) {
        const size_t size = strcspn(at + i + 1, "/?#");
        if (at[i] != '/' || path->count == ROUTE_SEGMENTS_MAX)
            return true; /* longer than any there is */
        struct reeve_str *segment = &path->segments[path->count++];
        *segment = (struct reeve_str){at + i + 1, size};
        const bool plain = !memchr(segment->data, '%', size) && utf8_valid(segment->data, size);
        if (!plain && !decode_text(exchange, at + i + 1, size, false, segment)) {
            refuse_status(exchange, 400, "BAD_REQUEST", "request path: is not well-formed percent-encoded UTF-8");
            return false;
        }
        i += 1 + size;
    }
    return true;
}

static unsigned method_of(const char *method)
{
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {{"GET", METHOD_GET},
                   {"HEAD", METHOD_GET},
                   {"POST", METHOD_POST},
                   {"PATCH", METHOD_PATCH},
                   {"DELETE", METHOD_DELETE}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(method, methods[i].name) == 0)
            return methods[i].method;
    }
    return 0;
}

static bool find_route(struct http_exchange *exchange)
{
    if (exchange->path.count < ROUTE_SEGMENTS_MAX)
        route_find(&exchange->path, method_of(exchange->method), &exchange->match);
    exchange->route = exchange->match.route;
    exchange->allow = exchange->match.methods;
    if (strcmp(exchange->uri.data, "*") == 0 && strcmp(exchange->method, "OPTIONS") == 0) {
        exchange->allow = METHOD_GET | METHOD_POST | METHOD_PATCH | METHOD_DELETE;
        answer_bare(exchange, 204);
    } else if (exchange->match.methods == 0) {
        refuse_status(exchange, 404, "NOT_FOUND", "there is no such path; /docs lists those that there are");
    } else if (strcmp(exchange->method, "OPTIONS") == 0) {
        answer_bare(exchange, 204);
    } else if (!exchange->route) {
        char allowed[64];
        answer_allow(exchange->match.methods, allowed, sizeof allowed);
        refuse_status(exchange, 405, "METHOD_NOT_ALLOWED", "%.20s is not possible here, only %s", exchange->method,
                      allowed);
    }
    return exchange->route && !exchange->response;
}

bool request_read_head(struct http_exchange *exchange)
{
    MHD_get_connection_values(exchange->mhd, MHD_HEADER_KIND, on_header, &exchange->head);
    return check_framing(exchange) && take_request_id(exchange) && check_sizes(exchange) && read_path(exchange) &&
           find_route(exchange) && request_read_query(exchange);
}

/* ---- What the client can read ---- */

/* Is there a media range in Accept that covers the type, and not with q=0? */
bool request_accepts(const struct http_exchange *exchange, const char *type)
{
    const char *at = exchange->head.accept;
    const size_t family = strcspn(type, "/") + 1;
    if (!at)
        return true;
    while (*at) {
        at += strspn(at, " \t,");
        const size_t size = strcspn(at, ","), name = strcspn(at, ";, \t");
        const char *quality = memmem(at, size, "q=0", 3);
        const bool none = quality && strspn(quality + 2, "0.") >= (size_t)(at + size - quality - 2);
        const bool covers = (name == 3 && strncmp(at, "*/*", 3) == 0) ||
                            (name == strlen(type) && strncasecmp(at, type, name) == 0) ||
                            (name == family + 1 && strncasecmp(at, type, family) == 0 && at[family] == '*');
        if (covers && !none)
            return true;
        at += size;
    }
    return false;
}

bool request_accepts_gzip(const struct http_exchange *exchange)
{
    const char *at = exchange->head.accept_encoding ? strcasestr(exchange->head.accept_encoding, "gzip") : NULL;
    return at && strncmp(at + 4, ";q=0", 4) != 0;
}

static bool check_accept(struct http_exchange *exchange)
{
    const enum route_id id = exchange->route->id;
    const bool text = id == ROUTE_METRICS || id == ROUTE_ORGANIZATION_PROMETHEUS || id == ROUTE_SERVICE_PROMETHEUS;
    const char *type = text ? "text/plain" : id == ROUTE_DOCS ? "text/html" : "application/json";
    const bool stream = (id == ROUTE_SERVICE_EVENTS || id == ROUTE_ORGANIZATION_EVENTS) &&
                        request_accepts(exchange, "text/event-stream");
    /* What scrapes metrics asks for formats of its own first, and takes text all the same. */
    if (stream || request_accepts(exchange, type) ||
        (text && request_accepts(exchange, "application/openmetrics-text")))
        return true;
    refuse_status(exchange, 406, "NOT_ACCEPTABLE", "request header.Accept: must allow %s", type);
    return false;
}

/* ---- Conditions and wishes ---- */

/* "7" or W/"7", as ETag has it; * is any. */
static bool read_generation(const char *text, uint64_t *ret_generation, bool *ret_any)
{
    char *end;
    *ret_generation = 0;
    *ret_any = strcmp(text, "*") == 0;
    if (*ret_any)
        return true;
    if (strncmp(text, "W/", 2) == 0)
        text += 2;
    if (*text != '"' || text[1] < '0' || text[1] > '9')
        return false;
    *ret_generation = strtoull(text + 1, &end, 10);
    return strcmp(end, "\"") == 0 && *ret_generation > 0;
}

static bool takes_body(const struct http_exchange *exchange)
{
    return exchange->route->bodies[exchange->listener->dialect][0] != '\0';
}

static bool check_content(struct http_exchange *exchange)
{
    const struct http_head *head = &exchange->head;
    const size_t size = head->content_type ? strcspn(head->content_type, "; \t") : 0;
    const bool json = size == 16 && strncasecmp(head->content_type, "application/json", 16) == 0;
    const bool has_body = head->transfer_encoding || (head->content_length && strcmp(head->content_length, "0") != 0);
    if (has_body && takes_body(exchange) && head->content_type && !json) {
        refuse_status(exchange, 415, "UNSUPPORTED_MEDIA_TYPE",
                      "request header.Content-Type: must be application/json <string:%.40s>", head->content_type);
        return false;
    }
    const bool needs_body = exchange->route->id == ROUTE_SERVICE_CREATE || exchange->route->id == ROUTE_SERVICE_STATE ||
                            exchange->route->id == ROUTE_KEY_CREATE;
    if (needs_body && !head->content_length && !head->transfer_encoding) {
        refuse_status(exchange, 411, "LENGTH_REQUIRED",
                      "request header.Content-Length: is required, and a body with it");
        return false;
    }
    return true;
}

/* Prefer: wait=10, perhaps among others. */
static void read_wait(struct http_exchange *exchange)
{
    const char *at = exchange->head.prefer ? strcasestr(exchange->head.prefer, "wait=") : NULL;
    if (!at)
        return;
    at += 5;
    at += *at == '"';
    const uint64_t seconds = *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : 0;
    const uint64_t max_ms = exchange->server->limits.wait_max_ms;
    exchange->wait_ms = seconds > max_ms / 1000 ? max_ms : seconds * 1000;
}

bool request_read_conditions(struct http_exchange *exchange)
{
    const struct http_head *head = &exchange->head;
    bool any;
    if (!check_accept(exchange))
        return false;
    if (exchange->route->method == METHOD_GET)
        return true;
    if (!check_content(exchange))
        return false;
    if (head->if_match && !read_generation(head->if_match, &exchange->base.meta.if_generation, &any)) {
        refuse_status(exchange, 400, "BAD_REQUEST",
                      "request header.If-Match: must be one ETag as it was answered, like \"7\"");
        return false;
    }
    if (head->idempotency_key) {
        const size_t size = strlen(head->idempotency_key);
        if (size == 0 || size > 255 || !utf8_valid(head->idempotency_key, size)) {
            refuse_status(exchange, 400, "BAD_REQUEST",
                          "request header.Idempotency-Key: must have from 1 to 255 bytes");
            return false;
        }
        exchange->base.meta.idempotency_key = (struct reeve_str){head->idempotency_key, size};
    }
    read_wait(exchange);
    return true;
}

/* ---- Query ---- */

bool request_read_query(struct http_exchange *exchange)
{
    const char *at = strchr(exchange->uri.data, '?');
    struct route_param *query = NULL;
    if (!at || !at[1])
        return true;
    query = arena_zalloc(&exchange->arena, QUERY_MAX * sizeof *query);
    exchange->query = query;
    for (at++; query && *at && *at != '#'; at += *at == '&') {
        const size_t size = strcspn(at, "&#"), name = strcspn(at, "=&#");
        struct reeve_str key, value = {0};
        if (exchange->query_count == QUERY_MAX || !decode_text(exchange, at, name, true, &key) ||
            (name < size && !decode_text(exchange, at + name + 1, size - name - 1, true, &value))) {
            refuse_status(exchange, 400, "BAD_REQUEST",
                          "request query: must be well-formed percent-encoded UTF-8 with at most %d parameters",
                          QUERY_MAX);
            return false;
        }
        const bool known = route_has_word(exchange->route->query, key.data, key.size);
        if (!known && exchange->listener->dialect == HTTP_PLAIN && key.size + value.size > 0) {
            refuse_status(exchange, 400, "BAD_REQUEST", "request query.%.40s: is not known here%s%s", key.data,
                          *exchange->route->query ? "; known are " : "", exchange->route->query);
            return false;
        }
        if (known && key.size < sizeof query->name) {
            memcpy(query[exchange->query_count].name, key.data, key.size);
            query[exchange->query_count++].value = value;
        }
        at += size;
    }
    return true;
}

static struct reeve_str find_param(const struct route_param *params, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(params[i].name, name) == 0)
            return params[i].value;
    }
    return (struct reeve_str){0};
}

struct reeve_str request_query(const struct http_exchange *exchange, const char *name)
{
    return find_param(exchange->query, exchange->query_count, name);
}

struct reeve_str request_param(const struct http_exchange *exchange, const char *name)
{
    return find_param(exchange->match.params, exchange->match.params_count, name);
}

bool request_param_uuid(struct http_exchange *exchange, const char *name, struct reeve_uuid *ret_id)
{
    const struct reeve_str text = request_param(exchange, name);
    if (reeve_uuid_parse(text.data, text.size, ret_id))
        return true;
    refuse(exchange, REEVE_ERROR_BAD_REQUEST, name, "must be a UUID <string:%.*s>",
           (int)utf8_cut(text.data, text.size, 40), text.data);
    return false;
}

/* ---- Body ---- */

static bool parse_body(struct http_exchange *exchange)
{
    json_error_t error;
    if (exchange->body.size == 0 || exchange->json)
        return true;
    exchange->json = json_loadb(exchange->body.data, exchange->body.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
                                &error);
    if (!exchange->json) {
        refuse_status(exchange, 400, "BAD_REQUEST", "request body: is not JSON: %.120s (line %d, column %d)",
                      error.text, error.line, error.column);
        return false;
    }
    if (!json_is_object(exchange->json)) {
        refuse_status(exchange, 400, "BAD_REQUEST", "request body: must be an object");
        return false;
    }
    return true;
}

bool request_body_word(struct http_exchange *exchange, const char *name, struct reeve_str *ret_word)
{
    const char *list = exchange->route->bodies[exchange->listener->dialect];
    const char *key;
    json_t *value;
    if (!parse_body(exchange))
        return false;
    json_object_foreach(exchange->json, key, value)
    {
        if (exchange->listener->dialect == HTTP_PLAIN && !route_has_word(list, key, strlen(key))) {
            refuse(exchange, REEVE_ERROR_BAD_REQUEST, key, "is not known here; known are %s", list);
            return false;
        }
    }
    value = json_object_get(exchange->json, name);
    if (!value) {
        refuse(exchange, REEVE_ERROR_BAD_REQUEST, name, "is required");
        return false;
    }
    const bool is_text = json_is_string(value);
    *ret_word = (struct reeve_str){is_text ? json_string_value(value) : "", is_text ? json_string_length(value) : 0};
    return true;
}

/* Clients of this API name roles in a list; a key here has one, the greatest of them. */
static bool take_roles(struct http_exchange *exchange, msgpack_object_kv *pair)
{
    static const char *const roles[] = {"admin", "developer", "viewer"};
    const msgpack_object *list = &pair->val;
    size_t best = 3;
    bool fine = list->type == MSGPACK_OBJECT_ARRAY && list->via.array.size > 0;
    for (size_t i = 0; fine && i < list->via.array.size; i++) {
        const msgpack_object *word = &list->via.array.ptr[i];
        size_t found = 0;
        while (found < 3 && !(word->type == MSGPACK_OBJECT_STR &&
                              bytes_equal(word->via.str.ptr, word->via.str.size, roles[found], strlen(roles[found]))))
            found++;
        fine = found < 3;
        best = found < best ? found : best;
    }
    if (!fine) {
        refuse(exchange, REEVE_ERROR_BAD_REQUEST, "roles", "must be a list of 'admin', 'developer' or 'viewer'");
        return false;
    }
    pair->key.via.str.ptr = "role";
    pair->key.via.str.size = 4;
    pair->val = (msgpack_object){.type = MSGPACK_OBJECT_STR};
    pair->val.via.str.ptr = roles[best];
    pair->val.via.str.size = (uint32_t)strlen(roles[best]);
    return true;
}

static bool is_key(const msgpack_object_kv *pair, const char *name)
{
    return bytes_equal(pair->key.via.str.ptr, pair->key.via.str.size, name, strlen(name));
}

/* Leave what the route takes in this dialect; the rest is refused or dropped. */
static bool filter_body(struct http_exchange *exchange, msgpack_object_map *map)
{
    const char *list = exchange->route->bodies[exchange->listener->dialect];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < map->size; i++) {
        msgpack_object_kv *pair = &map->ptr[i];
        if (!route_has_word(list, pair->key.via.str.ptr, pair->key.via.str.size)) {
            if (exchange->listener->dialect == HTTP_CLOUD)
                continue;
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)utf8_cut(pair->key.via.str.ptr, pair->key.via.str.size, 60),
                     pair->key.via.str.ptr);
            refuse(exchange, REEVE_ERROR_BAD_REQUEST, name, "is not known here; %s%s",
                   *list ? "known are " : "nothing is", list);
            return false;
        }
        if (is_key(pair, "hashData") && pair->val.type != MSGPACK_OBJECT_NIL) {
            refuse(exchange, REEVE_ERROR_BAD_REQUEST, "hashData",
                   "is not possible here: leave it out, and id and secret are made and shown once");
            return false;
        }
        if (is_key(pair, "roles") && pair->val.type != MSGPACK_OBJECT_NIL && !take_roles(exchange, pair))
            return false;
        if (!is_key(pair, "hashData") && !is_key(pair, "roles"))
            map->ptr[kept++] = *pair;
    }
    map->size = kept;
    return true;
}

static bool read_body(struct http_exchange *exchange, msgpack_object *ret_object)
{
    struct json_converted converted = {.object = {.type = MSGPACK_OBJECT_MAP}};
    if (!parse_body(exchange))
        return false;
    if (exchange->json && !json_convert(exchange->json, &exchange->arena, &converted)) {
        if (converted.too_deep)
            refuse_status(exchange, 400, "BAD_REQUEST", "request body: is nested deeper than %d levels",
                          JSON_DEPTH_MAX);
        else
            refuse(exchange, REEVE_ERROR_NO_MEMORY, "", "out of memory");
        return false;
    }
    *ret_object = converted.object;
    return filter_body(exchange, &ret_object->via.map);
}

/* ---- All of it as one map ---- */

static const struct field *find_field(const struct record_type *type, const char *name)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (strcmp(type->fields[i].name, name) == 0)
            return &type->fields[i];
    }
    return NULL;
}

static msgpack_object text_object(struct reeve_str text)
{
    msgpack_object object = {.type = MSGPACK_OBJECT_STR};
    object.via.str.ptr = text.data ? text.data : "";
    object.via.str.size = (uint32_t)text.size;
    return object;
}

/* Text of a path or query as the kind that the field wants. */
static msgpack_object value_of(const struct field *field, struct reeve_str text)
{
    char digits[24];
    if (field->kind == FIELD_U64 && text.size > 0 && text.size < 20) {
        snprintf(digits, sizeof digits, "%.*s", (int)text.size, text.data);
        if (is_digits(digits))
            return (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = strtoull(digits, NULL, 10)};
    }
    return text_object(text);
}

static void add_pairs(const struct record_type *type, const struct route_param *params, unsigned count,
                      msgpack_object_map *map)
{
    for (unsigned i = 0; i < count; i++) {
        const struct field *field = find_field(type, params[i].name);
        if (!field)
            continue;
        map->ptr[map->size].key = text_object(reeve_str(params[i].name));
        map->ptr[map->size++].val = value_of(field, params[i].value);
    }
}

bool request_decode(struct http_exchange *exchange)
{
    const struct command_type *command = schema_command(exchange->base.command);
    const struct reeve_meta_params meta = exchange->base.meta;
    struct reeve_error error;
    msgpack_object body, all = {.type = MSGPACK_OBJECT_MAP};
    if (!read_body(exchange, &body))
        return false;
    const size_t count = body.via.map.size + exchange->match.params_count + exchange->query_count;
    all.via.map.ptr = arena_alloc(&exchange->arena, (count + 1) * sizeof(msgpack_object_kv));
    if (!all.via.map.ptr) {
        refuse(exchange, REEVE_ERROR_NO_MEMORY, "", "out of memory");
        return false;
    }
    add_pairs(command->params, exchange->match.params, exchange->match.params_count, &all.via.map);
    add_pairs(command->params, exchange->query, exchange->query_count, &all.via.map);
    if (body.via.map.size)
        memcpy(all.via.map.ptr + all.via.map.size, body.via.map.ptr, body.via.map.size * sizeof(msgpack_object_kv));
    all.via.map.size += body.via.map.size;
    const int r = codec_decode_request(
        command, &all, exchange->listener->dialect == HTTP_CLOUD ? CODEC_UNKNOWN_IGNORE : CODEC_UNKNOWN_REFUSE,
        &exchange->arena, &exchange->base.params, &exchange->base.meta, &error);
    exchange->base.meta = meta;
    if (r < 0)
        refuse_error(exchange, &error);
    return r == 0;
}
