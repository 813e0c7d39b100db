/* This API, told by the tables it is made of, for programs: OpenAPI 3.1. */
#include "document.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "frontends/http/json.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

struct document {
    struct buffer *out;
    enum http_dialect dialect;
};

#define NUMBER_MAX UINT64_C(9007199254740991) /* what JSON numbers hold exactly in all programs */

static void put_string(struct buffer *out, const char *text)
{
    json_put_string(out, text, strlen(text));
}

/* ---- Schemas ---- */

/* What the engine's rules say beyond the tables; see engine/rules.c. */
static const char *rule_of(const char *name)
{
    static const struct {
        const char *name, *json;
    } rules[] = {
        {"name",
         ",\"pattern\":\"^ *[^\\\\x00- !-,/:-@\\\\[-^`{-\\\\x7f][^\\\\x00-\\\\x1f!-,/:-@\\\\[-^`{-\\\\x7f]*$\""},
        {"source",
         ",\"anyOf\":[{\"format\":\"ipv4\"},{\"format\":\"ipv6\"},{\"pattern\":\"^[0-9A-Fa-f.:]+/[0-9]{1,3}$\"}]"},
        {"description", ",\"maxLength\":1024,\"pattern\":\"^[^\\\\x00-\\\\x1f\\\\x7f]*$\""},
        {"minTotalMemoryGb", ",\"multipleOf\":12,\"minimum\":24,\"maximum\":720"},
        {"maxTotalMemoryGb", ",\"multipleOf\":12,\"minimum\":24,\"maximum\":720"},
        {"minReplicaMemoryGb", ",\"multipleOf\":4,\"minimum\":8,\"maximum\":356"},
        {"maxReplicaMemoryGb", ",\"multipleOf\":4,\"minimum\":8,\"maximum\":356"},
        {"isReadonly", ",\"const\":false"},
        {"newPasswordHash", ",\"pattern\":\"^([A-Za-z0-9+/]{43}=|[0-9A-Fa-f]{64})$\""},
        {"newDoubleSha1Hash", ",\"pattern\":\"^([0-9A-Fa-f]{40})?$\""},
        {"backupPeriodInHours", ",\"enum\":[6,8,12,16,20,24,36,48,null]"},
        {"backupRetentionPeriodInHours", ",\"multipleOf\":24,\"minimum\":24,\"maximum\":1080"},
        {"backupStartTime", ",\"pattern\":\"^([01][0-9]|2[0-3]):00$\""},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (strcmp(rules[i].name, name) == 0)
            return rules[i].json;
    }
    return "";
}

static void put_record(const struct document *document, const struct record_type *type);
static void put_params(const struct document *document, const struct record_type *type, const char *names);
static void put_entry(const struct document *document, const struct record_type *type);
static bool put_reference(const struct document *document, const struct record_type *type);

const char *document_word(enum http_dialect dialect, const struct field *field, unsigned index)
{
    const char *word = field->words->values[index].name;
    if (strcmp(word, "none") == 0 || strcmp(word, "gone") == 0)
        return NULL; /* before the beginning and after the end: never shown */
    if (strcmp(field->name, "status") == 0 && strcmp(word, "deleting") == 0)
        return NULL; /* a backup that is being deleted is not shown over HTTP */
    const bool cloud_state = dialect == HTTP_CLOUD && strcmp(field->words->name, "service_state") == 0;
    return cloud_state && strcmp(word, "deleting") == 0 ? "terminating" : word;
}

static void put_words(const struct document *document, const struct field *field)
{
    bool first = true;
    json_put_text(document->out, "\"type\":\"string\",\"enum\":[");
    for (unsigned i = 0; i < field->words->count; i++) {
        const char *word = document_word(document->dialect, field, i);
        if (!word)
            continue;
        json_put_text(document->out, first ? "" : ",");
        put_string(document->out, word);
        first = false;
    }
    json_put_text(document->out, "]");
}

static void put_text_limits(const struct document *document, const struct field *field)
{
    if (field->min)
        json_put_format(document->out, ",\"minLength\":%" PRIu64, field->min);
    if (field->max)
        json_put_format(document->out, ",\"maxLength\":%" PRIu64, field->max);
}

/* `params`: of a request; else of an answer. */
static void put_type(const struct document *document, const struct field *field, bool params)
{
    struct buffer *out = document->out;
    const bool null = params && field->use == USE_NULLABLE;
    switch (field->kind) {
    case FIELD_BOOL:
        json_put_text(out, "\"type\":\"boolean\"");
        return;
    case FIELD_U64:
        json_put_text(out, null ? "\"type\":[\"integer\",\"null\"]" : "\"type\":\"integer\"");
        if (params && !strstr(rule_of(field->name), "minimum"))
            json_put_format(out, ",\"minimum\":%" PRIu64 ",\"maximum\":%" PRIu64, field->min,
                            field->max ? field->max : NUMBER_MAX);
        return;
    case FIELD_TIME:
    case FIELD_STAMP:
        json_put_text(out, null ? "\"type\":[\"string\",\"null\"],\"format\":\"date-time\""
                                : "\"type\":\"string\",\"format\":\"date-time\"");
        return;
    case FIELD_UUID:
        json_put_text(out, "\"type\":\"string\",\"format\":\"uuid\"");
        return;
    case FIELD_STR:
    case FIELD_BIN:
        json_put_text(out, null ? "\"type\":[\"string\",\"null\"]" : "\"type\":\"string\"");
        if (params)
            put_text_limits(document, field);
        return;
    case FIELD_ENUM:
        put_words(document, field);
        return;
    case FIELD_WORDS:
        json_put_text(out, "\"type\":\"array\",\"items\":{");
        put_words(document, field);
        json_put_text(out, "}");
        return;
    case FIELD_OBJ:
        if (params)
            put_params(document, field->record, NULL);
        else if (!put_reference(document, field->record))
            put_record(document, field->record);
        return;
    case FIELD_LIST:
        json_put_text(out, "\"type\":\"array\",\"items\":{");
        if (params)
            put_entry(document, field->record);
        else
            put_record(document, field->record);
        json_put_text(out, "}");
        return;
    }
}

/* An entry of a list that is given: only its first field, which it is found by, is needed. */
static void put_entry(const struct document *document, const struct record_type *type)
{
    struct buffer *out = document->out;
    json_put_text(out, "\"type\":\"object\",\"properties\":{");
    for (unsigned i = 0; i < type->count; i++) {
        json_put_name(out, type->fields[i].name, i == 0);
        json_put_text(out, "{");
        if (i > 0 && type->fields[i].kind == FIELD_STR)
            json_put_text(out, "\"type\":[\"string\",\"null\"]");
        else
            put_type(document, &type->fields[i], false);
        json_put_text(out, rule_of(type->fields[i].name));
        json_put_text(out, ",\"description\":");
        put_string(out, type->fields[i].text);
        json_put_text(out, "}");
    }
    json_put_format(out, "},\"required\":[\"%s\"],\"additionalProperties\":%s", type->fields[0].name,
                    document->dialect == HTTP_PLAIN ? "false" : "true");
}

static const struct record_type *const viewed[] = {
#define VIEW(record, plain, cloud) &record_type_##record,
#include "views.def"
};
#define VIEWED_COUNT (sizeof viewed / sizeof viewed[0])

/* Records that have a view stand in the components, once. */
static bool put_reference(const struct document *document, const struct record_type *type)
{
    for (size_t i = 0; i < VIEWED_COUNT; i++) {
        if (viewed[i] != type)
            continue;
        json_put_format(document->out, "\"$ref\":\"#/components/schemas/%s\"", type->name);
        return true;
    }
    return false;
}

/* A record as it is answered. */
static void put_record(const struct document *document, const struct record_type *type)
{
    struct buffer *out = document->out;
    struct view_name name;
    bool first = true;
    json_put_text(out, "\"type\":\"object\",\"properties\":{");
    for (unsigned i = 0; view_name_at(document->dialect, type, i, &name); i++) {
        json_put_name(out, name.name, i == 0);
        json_put_text(out, "{");
        if (name.is_list)
            json_put_text(out, "\"type\":\"array\",\"items\":{");
        if (name.field)
            put_type(document, name.field, false);
        if (name.is_list)
            json_put_text(out, "}");
        if (name.field && name.field->kind != FIELD_OBJ) {
            json_put_text(out, ",\"description\":");
            put_string(out, name.field->text);
        }
        json_put_text(out, "}");
    }
    json_put_text(out, "},\"required\":[");
    for (unsigned i = 0; view_name_at(document->dialect, type, i, &name); i++) {
        if (!name.always)
            continue;
        json_put_text(out, first ? "" : ",");
        put_string(out, name.name);
        first = false;
    }
    json_put_text(out, "],\"additionalProperties\":false");
}

static void put_params(const struct document *document, const struct record_type *type, const char *names)
{
    struct buffer *out = document->out;
    bool first = true;
    json_put_text(out, "\"type\":\"object\",\"properties\":{");
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        const bool role = strcmp(field->name, "role") == 0;
        const char *name = role ? "roles" : field->name;
        if (names && !route_has_word(names, name, strlen(name)))
            continue;
        json_put_name(out, name, first);
        first = false;
        json_put_text(out, role ? "{\"type\":\"array\",\"minItems\":1,\"items\":{" : "{");
        put_type(document, field, true);
        json_put_text(out, rule_of(name));
        json_put_text(out, role ? "},\"description\":" : ",\"description\":");
        put_string(out, field->text);
        json_put_text(out, "}");
    }
    json_put_text(out, "},\"required\":[");
    first = true;
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (field->use != USE_REQUIRED || (names && !route_has_word(names, field->name, strlen(field->name))))
            continue;
        json_put_text(out, first ? "" : ",");
        put_string(out, field->name);
        first = false;
    }
    json_put_format(out, "],\"additionalProperties\":%s", document->dialect == HTTP_PLAIN ? "false" : "true");
}

/* ---- Routes ---- */

static const struct field *find_field(const struct record_type *type, const char *name, size_t size)
{
    for (unsigned i = 0; type && i < type->count; i++) {
        if (bytes_equal(type->fields[i].name, strlen(type->fields[i].name), name, size))
            return &type->fields[i];
    }
    return NULL;
}

const struct record_type *document_params(const struct http_route *route)
{
    const struct command_type *command = schema_command(route->command);
    return command ? command->params : NULL;
}

/* What stands in the tables of no command. */
static const char *parameter_schema(const char *name)
{
    if (strcmp(name, "filter") == 0)
        return "\"type\":\"array\",\"maxItems\":30,\"items\":{\"type\":\"string\",\"maxLength\":400,\"pattern\":\"^tag:"
               "[^\\\\x00-\\\\x1f\\\\x7f]+$\"}";
    if (strcmp(name, "from_date") == 0 || strcmp(name, "to_date") == 0)
        return "\"type\":\"string\",\"anyOf\":[{\"format\":\"date\"},{\"format\":\"date-time\"}]";
    if (strcmp(name, "serviceId") == 0 || strcmp(name, "operationId") == 0)
        return "\"type\":\"string\",\"format\":\"uuid\"";
    return "\"type\":\"string\"";
}

static void put_parameter(const struct document *document, const struct http_route *route, const char *name,
                          size_t size, bool path)
{
    struct buffer *out = document->out;
    char text[64];
    const struct field *field = find_field(document_params(route), name, size);
    snprintf(text, sizeof text, "%.*s", (int)size, name);
    json_put_text(out, "{\"name\":");
    put_string(out, text);
    json_put_format(out, ",\"in\":\"%s\",\"required\":%s,\"schema\":{", path ? "path" : "query",
                    path ? "true" : "false");
    if (field)
        put_type(document, field, true);
    else
        json_put_text(out, parameter_schema(text));
    json_put_text(out, "}}");
}

static bool has_generation(const struct http_route *route)
{
    return route->view == &record_type_service || route->view == &record_type_service_created ||
           route->view == &record_type_backup || route->view == &record_type_organization ||
           route->view == &record_type_key;
}

/* Can what follows from the command be waited for? See waiting.c. */
static bool can_wait(const struct http_route *route)
{
    return route->method != METHOD_GET && strstr(route->path, "/services") &&
           route->id != ROUTE_BACKUP_CONFIGURATION_UPDATE;
}

static void put_header_parameters(const struct document *document, const struct http_route *route, bool first)
{
    const struct {
        const char *name;
        bool applies;
    } headers[] = {
        {"IdempotencyKey", route->method != METHOD_GET},
        {"IfMatch", route->method == METHOD_PATCH || route->method == METHOD_DELETE},
        {"IfNoneMatch", route->method == METHOD_GET && has_generation(route) && !document_is_list(route)},
        {"PreferWait", can_wait(route)},
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        if (!headers[i].applies)
            continue;
        json_put_format(document->out, "%s{\"$ref\":\"#/components/parameters/%s\"}", first ? "" : ",",
                        headers[i].name);
        first = false;
    }
}

static void put_parameters(const struct document *document, const struct http_route *route)
{
    bool first = true;
    json_put_text(document->out, "\"parameters\":[");
    for (const char *at = route->path; (at = strchr(at, '{')); at++) {
        json_put_text(document->out, first ? "" : ",");
        put_parameter(document, route, at + 1, strcspn(at + 1, "}"), true);
        first = false;
    }
    for (const char *at = route->query; *at;) {
        const size_t size = strcspn(at, " ");
        json_put_text(document->out, first ? "" : ",");
        put_parameter(document, route, at, size, false);
        first = false;
        at += size + (at[size] == ' ');
    }
    put_header_parameters(document, route, first);
    json_put_text(document->out, "]");
}

static void put_body(const struct document *document, const struct http_route *route)
{
    const char *names = route->bodies[document->dialect];
    if (!names[0])
        return;
    json_put_text(document->out, ",\"requestBody\":{\"required\":");
    const bool state = route->id == ROUTE_SERVICE_STATE;
    json_put_text(document->out,
                  state || route->id == ROUTE_SERVICE_CREATE || route->id == ROUTE_KEY_CREATE ? "true" : "false");
    json_put_text(document->out, ",\"content\":{\"application/json\":{\"schema\":{");
    if (state)
        json_put_format(
            document->out,
            "\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\",\"enum\":[\"start\",\"stop\","
            "\"awake\"]}},"
            "\"required\":[\"command\"],\"additionalProperties\":%s",
            document->dialect == HTTP_PLAIN ? "false" : "true");
    else
        put_params(document, document_params(route), names);
    json_put_text(document->out, "}}}}");
}

bool document_is_list(const struct http_route *route)
{
    switch ((int)route->id) {
    case ROUTE_ORGANIZATION_LIST:
    case ROUTE_QUOTA_LIST:
        return true;
    case ROUTE_ACTIVITY_GET:
        return false;
    default:
        return reeve_command_mode(route->command) == REEVE_MODE_LIST;
    }
}

/* Of routes whose answer is no record. */
static void put_local_result(const struct document *document, const struct http_route *route)
{
    const char *schema = "";
    switch ((int)route->id) {
    case ROUTE_ACTIVITY_LIST:
    case ROUTE_ACTIVITY_GET:
        schema = "\"type\":\"object\",\"required\":[\"id\",\"createdAt\",\"type\",\"actorType\"],\"properties\":{"
                 "\"id\":{\"type\":\"string\"},\"createdAt\":{\"type\":\"string\",\"format\":\"date-time\"},"
                 "\"type\":{\"type\":\"string\"},\"actorType\":{\"enum\":[\"api\",\"system\"]},"
                 "\"actorId\":{\"type\":\"string\"},\"organizationId\":{\"type\":\"string\",\"format\":\"uuid\"},"
                 "\"serviceId\":{\"type\":\"string\",\"format\":\"uuid\"}},\"additionalProperties\":false";
        break;
    case ROUTE_QUOTA_LIST:
    case ROUTE_QUOTA_GET:
        schema =
            "\"type\":\"object\",\"required\":[\"quotaCode\",\"value\"],\"properties\":{"
            "\"quotaCode\":{\"type\":\"string\"},\"name\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"},"
            "\"scope\":{\"type\":\"string\"},\"value\":{\"type\":\"integer\"},\"usage\":{\"type\":\"integer\"},"
            "\"adjustable\":{\"type\":\"boolean\"}},\"additionalProperties\":false";
        break;
    case ROUTE_USAGE_COST:
        schema =
            "\"type\":\"object\",\"required\":[\"grandTotalCHC\",\"costs\"],\"properties\":{"
            "\"grandTotalCHC\":{\"type\":\"number\"},\"costs\":{\"type\":\"array\"}},\"additionalProperties\":false";
        break;
    case ROUTE_OPERATION_LOG:
        schema =
            "\"type\":\"object\",\"required\":[\"log\",\"progress\"],\"properties\":{\"log\":{\"type\":\"string\"},"
            "\"progress\":{\"type\":\"string\"}},\"additionalProperties\":false";
        break;
    case ROUTE_PRIVATE_ENDPOINT_CONFIG:
        schema = "\"type\":\"object\",\"properties\":{\"endpointServiceId\":{\"type\":\"string\"},"
                 "\"privateDnsHostname\":{\"type\":\"string\"}},\"additionalProperties\":false";
        break;
    default:
        break;
    }
    json_put_text(document->out, schema);
}

static void put_result(const struct document *document, const struct http_route *route)
{
    const bool list = document_is_list(route);
    json_put_text(document->out, list ? "{\"type\":\"array\",\"items\":{" : "{");
    if (!put_reference(document, route->view))
        put_local_result(document, route);
    json_put_text(document->out, list ? "}}" : "}");
}

static const char *text_type(const struct http_route *route)
{
    switch ((int)route->id) {
    case ROUTE_METRICS:
    case ROUTE_HEALTHZ:
    case ROUTE_READYZ:
    case ROUTE_ORGANIZATION_PROMETHEUS:
    case ROUTE_SERVICE_PROMETHEUS:
        return "text/plain";
    case ROUTE_DOCS:
        return "text/html";
    default:
        return NULL;
    }
}

static void put_success(const struct document *document, const struct http_route *route)
{
    struct buffer *out = document->out;
    const char *text = text_type(route);
    const bool nothing = route->method == METHOD_DELETE;
    json_put_format(
        out,
        "\"200\":{\"description\":\"done\",\"headers\":{\"X-Request-Id\":{\"$ref\":\"#/components/headers/"
        "RequestId\"}%s%s%s},"
        "\"content\":{\"%s\":{\"schema\":",
        has_generation(route) && !document_is_list(route) ? ",\"ETag\":{\"$ref\":\"#/components/headers/ETag\"}" : "",
        route->method != METHOD_GET ? ",\"Idempotency-Replayed\":{\"$ref\":\"#/components/headers/Replayed\"}" : "",
        can_wait(route) ? ",\"Preference-Applied\":{\"$ref\":\"#/components/headers/Applied\"}" : "",
        text ? text : "application/json");
    if (text) {
        json_put_text(out, "{\"type\":\"string\"}");
    } else if (route->id == ROUTE_OPENAPI) {
        json_put_text(out, "{\"type\":\"object\"}");
    } else if (document->dialect == HTTP_PLAIN && nothing) {
        json_put_text(out, "{\"type\":\"object\",\"additionalProperties\":false}");
    } else if (document->dialect == HTTP_PLAIN) {
        put_result(document, route);
    } else {
        json_put_format(
            out,
            "{\"type\":\"object\",\"required\":[\"status\",\"requestId\"%s],\"properties\":{\"status\":{\"const\":200},"
            "\"requestId\":{\"type\":\"string\"}",
            nothing ? "" : ",\"result\"");
        if (!nothing) {
            json_put_text(out, ",\"result\":");
            put_result(document, route);
        }
        json_put_text(out, "},\"additionalProperties\":false}");
    }
    json_put_text(out, "}");
    if (route->id == ROUTE_SERVICE_EVENTS || route->id == ROUTE_ORGANIZATION_EVENTS)
        json_put_text(out, ",\"text/event-stream\":{\"schema\":{\"type\":\"string\"}}");
    json_put_text(out, "}}");
}

/* The refusals that have headers of their own. */
static const struct {
    const char *status, *name, *text, *headers;
} refusals[] = {
    {"401", "Unauthorized", "no key, or a wrong one",
     "\"WWW-Authenticate\":{\"required\":true,\"schema\":{\"type\":\"string\"}}"},
    {"405", "NotAllowed", "the path has other methods",
     "\"Allow\":{\"required\":true,\"schema\":{\"type\":\"string\"}}"},
    {"429", "TooMany", "the key has made too many requests",
     "\"Retry-After\":{\"$ref\":\"#/components/headers/RetryAfter\"},\"X-RateLimit-Reset\":{\"$ref\":\"#/components/"
     "headers/RetryAfter\"}"},
    {"503", "TryAgain", "not now; nothing was changed, unless the message says that this is not known",
     "\"Retry-After\":{\"$ref\":\"#/components/headers/RetryAfter\"}"},
    {"", "Refusal", "what is at fault, in words and for programs", ""},
};
#define REFUSAL_COUNT (sizeof refusals / sizeof refusals[0])

static const char *refusal_of(const char *status)
{
    size_t i = 0;
    while (refusals[i].status[0] && strncmp(refusals[i].status, status, 3) != 0)
        i++;
    return refusals[i].name;
}

static void put_responses(const struct document *document, const struct http_route *route)
{
    static const char *const always = "400 405 406 408 413 414 431 500 503", *const known = "401 403 404 429",
                             *const changing = "409 411 412 415 422", *const streams = "410";
    const char *lists[] = {always, route->role ? known : "", route->method != METHOD_GET ? changing : "",
                           route->command == REEVE_COMMAND_EVENT_LIST ? streams : ""};
    json_put_text(document->out, ",\"responses\":{");
    put_success(document, route);
    if (route->method == METHOD_GET)
        json_put_text(document->out, ",\"304\":{\"description\":\"the ETag named in If-None-Match is still right\"}");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (const char *at = lists[i]; *at; at += at[3] ? 4 : 3)
            json_put_format(document->out, ",\"%.3s\":{\"$ref\":\"#/components/responses/%s\"}", at, refusal_of(at));
    }
    json_put_text(document->out, "}");
}

/* SERVICE_GET -> serviceGet */
static void put_operation_id(struct buffer *out, const char *name)
{
    char text[64];
    size_t used = 0;
    for (bool upper = false; *name && used < sizeof text - 1; name++) {
        if (*name != '_')
            text[used++] = upper || *name < 'A' || *name > 'Z' ? *name : (char)(*name - 'A' + 'a');
        upper = *name == '_';
    }
    text[used] = '\0';
    put_string(out, text);
}

/* "GET" -> "get", in quotes */
static void put_lower(struct buffer *out, const char *text)
{
    buffer_append(out, "\"", 1);
    for (; *text; text++)
        buffer_append(out, &(char){(char)(*text - 'A' + 'a')}, 1);
    buffer_append(out, "\"", 1);
}

static void put_operation(const struct document *document, const struct http_route *route)
{
    struct buffer *out = document->out;
    put_lower(out, route_method_name(route->method));
    json_put_text(out, ":{\"operationId\":");
    put_operation_id(out, route->name);
    json_put_text(out, ",\"summary\":");
    put_string(out, route->text);
    json_put_text(out, route->role ? "," : ",\"security\":[],");
    put_parameters(document, route);
    put_body(document, route);
    put_responses(document, route);
    json_put_text(out, "}");
}

static void put_paths(const struct document *document)
{
    bool first = true;
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        bool seen = false, first_method = true;
        for (size_t j = 0; j < i; j++)
            seen |= strcmp(http_routes[j].path, http_routes[i].path) == 0;
        if (seen)
            continue;
        json_put_name(document->out, http_routes[i].path, first);
        first = false;
        json_put_text(document->out, "{");
        for (size_t j = i; j < ROUTE_COUNT; j++) {
            if (strcmp(http_routes[j].path, http_routes[i].path) != 0)
                continue;
            json_put_text(document->out, first_method ? "" : ",");
            put_operation(document, &http_routes[j]);
            first_method = false;
        }
        json_put_text(document->out, "}");
    }
}

static void put_schemas(const struct document *document)
{
    for (size_t i = 0; i < VIEWED_COUNT; i++) {
        json_put_name(document->out, viewed[i]->name, i == 0);
        json_put_text(document->out, "{");
        put_record(document, viewed[i]);
        json_put_text(document->out, "}");
    }
}

/* What the operations have in common. */
static void put_shared(struct buffer *out)
{
    json_put_text(out,
                  ",\"refusal\":{\"type\":\"object\",\"required\":[\"status\",\"error\",\"requestId\",\"details\"],"
                  "\"properties\":{\"status\":{\"type\":\"integer\"},\"error\":{\"type\":\"string\","
                  "\"pattern\":\"^[A-Z_]+: \"},\"requestId\":{\"type\":\"string\"},\"details\":{\"type\":\"array\","
                  "\"items\":{\"type\":\"object\"}}},\"additionalProperties\":false}}");
    json_put_text(out, ",\"parameters\":{\"IdempotencyKey\":{\"name\":\"Idempotency-Key\",\"in\":\"header\","
                       "\"description\":\"the same key with the same request gets the first answer again\","
                       "\"schema\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":255}},"
                       "\"IfMatch\":{\"name\":\"If-Match\",\"in\":\"header\","
                       "\"description\":\"change only what still has this ETag\","
                       "\"schema\":{\"type\":\"string\",\"pattern\":\"^([*]|\\\"[1-9][0-9]{0,17}\\\")$\"}},");
    json_put_text(out,
                  "\"IfNoneMatch\":{\"name\":\"If-None-Match\",\"in\":\"header\","
                  "\"description\":\"304 where what is shown still has this ETag\",\"schema\":{\"type\":\"string\"}},"
                  "\"PreferWait\":{\"name\":\"Prefer\",\"in\":\"header\","
                  "\"description\":\"wait=N: answer when what was asked for has come about, or after N seconds\","
                  "\"schema\":{\"type\":\"string\",\"examples\":[\"wait=30\"]}}}");
    json_put_text(
        out, ",\"headers\":{\"RequestId\":{\"required\":true,\"schema\":{\"type\":\"string\",\"minLength\":1}},"
             "\"ETag\":{\"required\":true,\"description\":\"generation of what is shown\","
             "\"schema\":{\"type\":\"string\",\"pattern\":\"^\\\"[0-9]+\\\"$\"}},"
             "\"Replayed\":{\"description\":\"true: the answer to an earlier request with this Idempotency-Key\","
             "\"schema\":{\"type\":\"string\"}},"
             "\"Applied\":{\"description\":\"the wait that was heeded\",\"schema\":{\"type\":\"string\"}},"
             "\"RetryAfter\":{\"required\":true,\"description\":\"in seconds\",\"schema\":{\"type\":\"integer\"}}}");
    json_put_text(out, ",\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":\"basic\","
                       "\"description\":\"id and secret of a key\"}},\"responses\":{");
    for (size_t i = 0; i < REFUSAL_COUNT; i++) {
        json_put_name(out, refusals[i].name, i == 0);
        json_put_text(out, "{\"description\":");
        put_string(out, refusals[i].text);
        json_put_format(
            out,
            ",\"headers\":{\"X-Request-Id\":{\"$ref\":\"#/components/headers/RequestId\"}%s%s},\"content\":{"
            "\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/refusal\"}}}}",
            refusals[i].headers[0] ? "," : "", refusals[i].headers);
    }
    json_put_text(out, "}}}\n");
}

void document_openapi(struct buffer *out, enum http_dialect dialect)
{
    const struct document document = {.out = out, .dialect = dialect};
    buffer_reset(out);
    json_put_format(out,
                    "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"reeve services API (%s dialect)\",\"version\":\"%s\","
                    "\"description\":\"Looks after fleets of managed services, from creation to deletion.\"},"
                    "\"security\":[{\"key\":[]}],\"paths\":{",
                    dialect == HTTP_PLAIN ? "plain" : "cloud", reeve_version());
    put_paths(&document);
    json_put_text(out, "},\"components\":{\"schemas\":{");
    put_schemas(&document);
    put_shared(out);
}
