/* This API, told by the tables it is made of, for people: one page that needs nothing from elsewhere. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "frontends/http/document.h"
#include "frontends/http/json.h"
#include "frontends/http/view.h"

#define PAGE_RECORDS_MAX 64

/* Records are told once, behind the endpoints; those that are named are remembered until then. */
struct page {
    struct buffer *out;
    enum http_dialect dialect;
    const struct record_type *records[PAGE_RECORDS_MAX];
    unsigned records_count;
};

static void put_html(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            json_put_text(out, "&lt;");
        else if (*text == '&')
            json_put_text(out, "&amp;");
        else
            buffer_append(out, text, 1);
    }
}

static void put_cell(struct buffer *out, const char *text)
{
    json_put_text(out, "<td>");
    put_html(out, text);
    json_put_text(out, "</td>");
}

/* ---- Fields ---- */

static void put_link(struct page *page, const struct record_type *type)
{
    unsigned i = 0;
    while (i < page->records_count && page->records[i] != type)
        i++;
    if (i == page->records_count && i < PAGE_RECORDS_MAX)
        page->records[page->records_count++] = type;
    json_put_format(page->out, "<a href=\"#%s-%s\">%s</a>", type->is_params ? "params" : "record", type->name,
                    type->name);
}

static void put_type(struct page *page, const struct field *field, bool is_list)
{
    static const char *const names[] = {
        [FIELD_BOOL] = "boolean", [FIELD_U64] = "integer", [FIELD_TIME] = "date-time", [FIELD_STAMP] = "date-time",
        [FIELD_UUID] = "uuid",    [FIELD_STR] = "string",  [FIELD_BIN] = "string",     [FIELD_ENUM] = "string",
        [FIELD_OBJ] = "object",   [FIELD_LIST] = "array",  [FIELD_WORDS] = "array"};
    json_put_text(page->out, "<td>");
    json_put_text(page->out, is_list ? "array of string" : names[field->kind]);
    if (field->kind == FIELD_OBJ || field->kind == FIELD_LIST) {
        json_put_text(page->out, field->kind == FIELD_LIST ? " of " : " ");
        put_link(page, field->record);
    }
    json_put_text(page->out, "</td>");
}

static void put_limits(struct buffer *out, const struct field *field)
{
    const char *unit = field->kind == FIELD_STR ? " characters" : "";
    if (field->max)
        json_put_format(out, "; %" PRIu64 " to %" PRIu64 "%s", field->min, field->max, unit);
    else if (field->min)
        json_put_format(out, "; from %" PRIu64 "%s", field->min, unit);
}

static void put_words(const struct page *page, const struct field *field)
{
    bool first = true;
    for (unsigned i = 0; i < field->words->count; i++) {
        const char *word = document_word(page->dialect, field, i);
        if (!word)
            continue;
        json_put_format(page->out, "%s<code>%s</code>", first ? ": " : ", ", word);
        first = false;
    }
}

static void put_row(struct page *page, const char *name, const struct field *field, bool is_list, const char *need)
{
    struct buffer *out = page->out;
    json_put_format(out, "<tr><td><code>%s</code></td>", name);
    put_type(page, field, is_list);
    put_cell(out, need);
    json_put_text(out, "<td>");
    put_html(out, field->text);
    put_limits(out, field);
    if ((field->kind == FIELD_ENUM && field->use < USE_REQUIRED) || field->kind == FIELD_WORDS)
        put_words(page, field);
    json_put_text(out, "</td></tr>\n");
}

static const char *need_of(const struct field *field)
{
    return field->use == USE_REQUIRED ? "required" : field->use == USE_NULLABLE ? "or null" : "";
}

/* ---- Endpoints ---- */

/* Parameters whose names are in the list. */
static void put_params(struct page *page, const struct record_type *params, const char *names)
{
    for (unsigned i = 0; i < params->count; i++) {
        const struct field *field = &params->fields[i];
        const bool role = strcmp(field->name, "role") == 0;
        const char *name = role ? "roles" : field->name;
        if (route_has_word(names, name, strlen(name)))
            put_row(page, name, field, role, need_of(field));
    }
}

static void put_query(struct page *page, const struct http_route *route)
{
    static const struct {
        const char *name, *text;
    } others[] = {
        {"filter", "tag:KEY=VALUE: only services with this tag; may be repeated, then all must hold"},
        {"from_date", "only what is not older"},
        {"to_date", "only what is older"},
        {"filtered_metrics", "true or false; makes no difference here"},
    };
    if (!route->query[0])
        return;
    json_put_text(page->out, "<h4>Query</h4><table>\n");
    put_params(page, document_params(route), route->query);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (!route_has_word(route->query, others[i].name, strlen(others[i].name)))
            continue;
        json_put_format(page->out, "<tr><td><code>%s</code></td><td>string</td><td></td>", others[i].name);
        put_cell(page->out, others[i].text);
        json_put_text(page->out, "</tr>\n");
    }
    json_put_text(page->out, "</table>\n");
}

static void put_body(struct page *page, const struct http_route *route)
{
    const char *names = route->bodies[page->dialect];
    if (!names[0])
        return;
    json_put_text(page->out, "<h4>Request body</h4><table>\n");
    if (route->id == ROUTE_SERVICE_STATE)
        json_put_text(page->out, "<tr><td><code>command</code></td><td>string</td><td>required</td>"
                                 "<td>start, stop or awake</td></tr>\n");
    else
        put_params(page, document_params(route), names);
    json_put_text(page->out, "</table>\n");
}

static void put_answer(struct page *page, const struct http_route *route)
{
    json_put_text(page->out, "<p>Answer: ");
    if (route->view != &record_type_none) {
        json_put_text(page->out, document_is_list(route) ? "a list of " : "");
        put_link(page, route->view);
    } else if (route->method == METHOD_DELETE) {
        json_put_text(page->out, page->dialect == HTTP_PLAIN ? "<code>{}</code>" : "no <code>result</code>");
    } else {
        json_put_text(page->out, "see <a href=\"/openapi.json\">openapi.json</a>");
    }
    json_put_text(page->out, ".</p>\n");
}

static void put_route(struct page *page, const struct http_route *route)
{
    struct buffer *out = page->out;
    json_put_format(out, "<section id=\"%s\"><h3><b>%s</b> <code>", route->name, route_method_name(route->method));
    put_html(out, route->path);
    json_put_text(out, "</code></h3><p>");
    put_html(out, route->text);
    json_put_format(out, ". Key: %s.</p>\n", route->role ? reeve_role_name(route->role) : "none");
    put_query(page, route);
    put_body(page, route);
    put_answer(page, route);
    json_put_text(out, "</section>\n");
}

/* ---- Records, refusals ---- */

static void put_record(struct page *page, const struct record_type *type)
{
    struct view_name name;
    json_put_format(page->out, "<section id=\"%s-%s\"><h3><code>%s</code></h3><table>\n",
                    type->is_params ? "params" : "record", type->name, type->name);
    for (unsigned i = 0; type->is_params && i < type->count; i++)
        put_row(page, type->fields[i].name, &type->fields[i], false, need_of(&type->fields[i]));
    for (unsigned i = 0; !type->is_params && view_name_at(page->dialect, type, i, &name); i++) {
        if (name.field)
            put_row(page, name.name, name.field, name.is_list, name.always ? "always" : "");
        else
            json_put_format(page->out, "<tr><td><code>%s</code></td><td></td><td>always</td><td>the same</td></tr>\n",
                            name.name);
    }
    json_put_text(page->out, "</table></section>\n");
}

static void put_errors(struct buffer *out)
{
    static const struct {
        const char *name, *status, *again, *text;
    } errors[] = {
#define ERROR(id, number, name, http, retryable, text) {name, #http, (retryable) ? "try again" : "", text},
#include "errors.def"
    };
    json_put_text(out, "<h2 id=\"errors\">Refusals</h2><p>Both dialects: <code>{\"status\", \"error\": \"CODE: text\", "
                       "\"requestId\", \"details\"}</code>.</p><table>\n");
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        json_put_format(out, "<tr><td><code>%s</code></td>", errors[i].name);
        put_cell(out, errors[i].status);
        put_cell(out, errors[i].again);
        put_cell(out, errors[i].text);
        json_put_text(out, "</tr>\n");
    }
    json_put_text(out, "</table>\n");
}

static void put_head(const struct page *page)
{
    json_put_text(page->out,
                  "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>reeve: services API</title>"
                  "<meta name=\"viewport\" content=\"width=device-width\"><style>"
                  ":root{color-scheme:light dark}"
                  "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
                  "code{font-size:.9em}table{border-collapse:collapse;width:100%}"
                  "td{border-top:1px solid #8884;padding:.2rem .5rem;vertical-align:top}section{margin:2rem 0}"
                  "h3 b{color:#07a;display:inline-block;min-width:4.5rem}h4{margin:.8rem 0 .2rem}"
                  "</style></head><body>");
    json_put_format(page->out, "<h1>reeve: services API, %s dialect</h1>\n",
                    page->dialect == HTTP_PLAIN ? "plain" : "cloud");
    json_put_text(page->out,
                  "<p>HTTP Basic with id and secret of a key: <code>curl --user $REEVE_KEY_ID:$REEVE_KEY_SECRET "
                  "$REEVE_URL/v1/organizations/$REEVE_ORG_ID/services</code>. Bodies are JSON. Every success is 200");
    json_put_text(page->out, page->dialect == HTTP_PLAIN
                                 ? ". "
                                 : ", in an envelope <code>{\"status\", \"requestId\", \"result\"}</code>. ");
    json_put_text(page->out,
                  "Headers that are understood: <code>Idempotency-Key</code>, <code>If-Match</code>, "
                  "<code>If-None-Match</code>, <code>Prefer: wait=N</code>, <code>Accept-Encoding: gzip</code>, "
                  "<code>X-Request-Id</code>. The same for programs: <a href=\"/openapi.json\">openapi.json</a>. "
                  "<a href=\"#records\">Records</a>, <a href=\"#errors\">refusals</a>.</p>\n");
}

void document_page(struct buffer *out, enum http_dialect dialect)
{
    struct page page = {.out = out, .dialect = dialect};
    buffer_reset(out);
    put_head(&page);
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        put_route(&page, &http_routes[i]);
    json_put_text(out, "<h2 id=\"records\">Records</h2>\n");
    for (unsigned i = 0; i < page.records_count; i++) /* grows by what the records name */
        put_record(&page, page.records[i]);
    put_errors(out);
    json_put_text(out, "</body></html>\n");
}
