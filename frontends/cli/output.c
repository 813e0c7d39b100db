/* Records and tables for people; JSON for programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define COLUMNS_MAX 10

/* What a list shows of each kind of record; the whole is in --json and in `get`. */
static const struct table {
    const char *type;
    const char *columns[COLUMNS_MAX];
} tables[] = {
    {"organization", {"id", "name", "paid", "serviceCount", "keyCount", "createdAt"}},
    {"key", {"id", "name", "role", "state", "keySuffix", "createdAt", "expireAt"}},
    {"service", {"id", "name", "state", "provider", "region", "tier", "createdAt"}},
    {"backup", {"id", "status", "startedAt", "finishedAt", "sizeInBytes", "expiresAt"}},
    {"operation", {"id", "kind", "attempt", "serviceId", "backupId", "since", "retryAt"}},
    {"event", {"sequence", "at", "type", "serviceId", "from", "to", "actor", "code"}},
};

static const char *state_colour(const char *word)
{
    static const char *const colours[][2] = {
        {"running", "\033[32m"},     {"done", "\033[32m"},     {"enabled", "\033[32m"},  {"failed", "\033[31m"},
        {"error", "\033[31m"},       {"disabled", "\033[31m"}, {"degraded", "\033[33m"}, {"provisioning", "\033[33m"},
        {"starting", "\033[33m"},    {"stopping", "\033[33m"}, {"awaking", "\033[33m"},  {"deleting", "\033[33m"},
        {"in_progress", "\033[33m"}, {"idle", "\033[34m"},     {"stopped", "\033[34m"},  {"gone", "\033[2m"},
    };
    for (size_t i = 0; i < sizeof colours / sizeof colours[0]; i++) {
        if (strcmp(colours[i][0], word) == 0)
            return colours[i][1];
    }
    return NULL;
}

/* The caller frees. */
static char *text_of(const json_t *value)
{
    if (!value || json_is_null(value))
        return strdup("");
    if (json_is_string(value))
        return strdup(json_string_value(value));
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void put(const struct cli *cli, const char *text, int width)
{
    const char *colour = cli->colour ? state_colour(text) : NULL;
    printf("%s%s%s", colour ? colour : "", text, colour ? "\033[0m" : "");
    for (int left = width - (int)strlen(text); left > 0; left--)
        putchar(' ');
}

void output_json(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    puts(text ? text : "null");
    free(text);
}

/* ---- One record: a line for each field, what is inside indented ---- */

static int widest_key(const json_t *record)
{
    int width = 0;
    json_t *object = (json_t *)(uintptr_t)record; /* jansson's iterators take no const */
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const int size = (int)strlen(json_object_iter_key(at));
        width = size > width ? size : width;
    }
    return width;
}

static void put_fields(const struct cli *cli, const json_t *record, int indent);

static void put_list(const struct cli *cli, const json_t *list, int indent)
{
    if (json_array_size(list) == 0) {
        printf("none\n");
        return;
    }
    printf("\n");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        printf("%*s- ", indent + 2, "");
        json_t *object = (json_t *)(uintptr_t)item;
        const char *separator = "";
        for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
            char *text = text_of(json_object_iter_value(at));
            if (text && *text) {
                printf("%s%s", separator, text);
                separator = "  ";
            }
            free(text);
        }
        printf("\n");
    }
    (void)cli;
}

static void put_fields(const struct cli *cli, const json_t *record, int indent)
{
    const int width = widest_key(record) + 2;
    json_t *object = (json_t *)(uintptr_t)record;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const json_t *value = json_object_iter_value(at);
        printf("%*s%s%s%s%*s", indent, "", cli->colour ? "\033[2m" : "", json_object_iter_key(at),
               cli->colour ? "\033[0m" : "", width - (int)strlen(json_object_iter_key(at)), "");
        if (json_is_object(value)) {
            printf("\n");
            put_fields(cli, value, indent + 2);
        } else if (json_is_array(value)) {
            put_list(cli, value, indent);
        } else {
            char *text = text_of(value);
            put(cli, text ? text : "", 0);
            printf("\n");
            free(text);
        }
    }
}

void output_record(const struct cli *cli, const json_t *record)
{
    if (cli->json)
        output_json(record);
    else if (json_object_size(record) == 0)
        printf("done\n");
    else
        put_fields(cli, record, 0);
}

/* One line of progress, which is JSON unless the program wrote something else. */
static void put_progress(const char *line, size_t size)
{
    json_t *json = json_loadb(line, size, 0, NULL);
    const char *text = json_string_value(json_object_get(json, "text"));
    if (json_is_object(json))
        printf("progress  %lld of %lld  %s\n", (long long)json_integer_value(json_object_get(json, "done")),
               (long long)json_integer_value(json_object_get(json, "total")), text ? text : "");
    else
        printf("progress  %.*s\n", (int)size, line);
    json_decref(json);
}

void output_log(const struct cli *cli, const json_t *answer)
{
    const char *log = json_string_value(json_object_get(answer, "log"));
    const char *at = json_string_value(json_object_get(answer, "progress"));
    if (cli->json) {
        output_json(answer);
        return;
    }
    printf("%s", log ? log : "");
    while (at && *at) {
        const size_t size = strcspn(at, "\n");
        put_progress(at, size);
        at += size + (at[size] != '\0');
    }
}

/* ---- Lists ---- */

static const struct table *find_table(const char *type)
{
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (strcmp(tables[i].type, type) == 0)
            return &tables[i];
    }
    return NULL;
}

static void measure(const struct table *table, const json_t *items, int ret_widths[COLUMNS_MAX])
{
    for (int c = 0; c < COLUMNS_MAX && table->columns[c]; c++) {
        ret_widths[c] = (int)strlen(table->columns[c]);
        for (size_t i = 0; i < json_array_size(items); i++) {
            char *text = text_of(json_object_get(json_array_get(items, i), table->columns[c]));
            const int size = text ? (int)strlen(text) : 0;
            ret_widths[c] = size > ret_widths[c] ? size : ret_widths[c];
            free(text);
        }
    }
}

void output_rows(const struct cli *cli, const char *type, const json_t *items, bool first)
{
    const struct table *table = find_table(type);
    int widths[COLUMNS_MAX];
    if (cli->json || !table) {
        for (size_t i = 0; i < json_array_size(items); i++)
            output_json(json_array_get(items, i));
        return;
    }
    measure(table, items, widths);
    if (first && json_array_size(items) > 0) {
        for (int c = 0; c < COLUMNS_MAX && table->columns[c]; c++)
            printf("%s%-*s%s  ", cli->colour ? "\033[1m" : "", widths[c], table->columns[c],
                   cli->colour ? "\033[0m" : "");
        printf("\n");
    }
    for (size_t i = 0; i < json_array_size(items); i++) {
        for (int c = 0; c < COLUMNS_MAX && table->columns[c]; c++) {
            char *text = text_of(json_object_get(json_array_get(items, i), table->columns[c]));
            put(cli, text ? text : "", widths[c] + 2);
            free(text);
        }
        printf("\n");
    }
}

/* ---- Events ---- */

static const char *field(const json_t *event, const char *name)
{
    const char *text = json_string_value(json_object_get(event, name));
    return text ? text : "";
}

void output_event(const struct cli *cli, const json_t *event)
{
    if (cli->json) {
        output_json(event);
        fflush(stdout);
        return;
    }
    const char *dim = cli->colour ? "\033[2m" : "", *off = cli->colour ? "\033[0m" : "";
    printf("%s%6lld  %.23s%s  ", dim, (long long)json_integer_value(json_object_get(event, "sequence")),
           field(event, "at"), off);
    put(cli, field(event, "type"), 24);
    printf(" %s", field(event, "serviceId"));
    if (*field(event, "to") && strcmp(field(event, "from"), field(event, "to")) != 0) {
        printf("  %s%s", field(event, "from"), *field(event, "from") ? " -> " : "");
        put(cli, field(event, "to"), 0);
    }
    if (*field(event, "backupStatus"))
        printf("  backup %s %s", field(event, "objectId"), field(event, "backupStatus"));
    if (*field(event, "code"))
        printf("  %s: %s", field(event, "code"), field(event, "message"));
    if (*field(event, "actor"))
        printf("  %sby %s%s", dim, field(event, "actor"), off);
    printf("\n");
    fflush(stdout);
}
