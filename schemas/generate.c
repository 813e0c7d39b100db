/* Prints what follows from the tables in schemas/. Run by the Makefile:
 *   generate header   the part of reeve.h between its fixed beginning and end: enums, records, parameters
 *   generate tables   the fields of records and parameters as arrays, which engine/schema.c includes
 *   generate dot      the lifecycle as a graph, docs/lifecycle.dot
 *   generate markdown all tables for readers, docs/reference.md */
#include <stdio.h>
#include <string.h>

static void upper(const char *text)
{
    for (; *text; text++)
        putchar(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
}

/* The C type of a field, by its kind. */
#define TYPE_BOOL(sub) "bool"
#define TYPE_U64(sub) "uint64_t"
#define TYPE_TIME(sub) "uint64_t"
#define TYPE_STAMP(sub) "uint64_t"
#define TYPE_UUID(sub) "struct reeve_uuid"
#define TYPE_STR(sub) "struct reeve_str"
#define TYPE_BIN(sub) "struct reeve_str"
#define TYPE_ENUM(sub) "enum reeve_" #sub
#define TYPE_WORDS(sub) "uint64_t"
#define TYPE_OBJ(sub) "struct reeve_" #sub
#define TYPE_LIST(sub) "struct reeve_" #sub "_list"

static void enumerator(const char *prefix, const char *type, const char *id, int number)
{
    printf("    REEVE_");
    upper(prefix);
    upper(type);
    printf("_%s = %d,\n", id, number);
}

static void enums(void)
{
    int largest = 0;
    printf(
        "/* What a state, word or number means is said in the tables in schemas/. Each REEVE_…_COUNT is one more than\n"
        " * the largest number of its enum: room for what is indexed by it. */\n");
#define ENUM(type)                                                                                                     \
    printf("enum reeve_" #type " {\n");                                                                                \
    enumerator("", #type, "UNSET", 0);
#define VALUE(type, id, number, name)                                                                                  \
    enumerator("", #type, #id, number);                                                                                \
    largest = number;
#define ENUM_END(type)                                                                                                 \
    printf("};\n#define REEVE_");                                                                                      \
    upper(#type);                                                                                                      \
    printf("_COUNT %d\n\n", largest + 1);
#include "enums.def"
    printf("enum reeve_service_state {\n");
#define STATE(id, number, name, class) enumerator("", "service_state", #id, number);
#include "lifecycle.def"
    printf("    REEVE_SERVICE_STATE_COUNT,\n};\n\nenum reeve_backup_state {\n");
#define BACKUP_STATE(id, number, name) enumerator("", "backup_state", #id, number);
#include "backup.def"
    printf("    REEVE_BACKUP_STATE_COUNT,\n};\n\nenum reeve_error_code {\n    REEVE_OK = 0,\n");
#define ERROR(id, number, name, http, retryable, text) printf("    REEVE_ERROR_%s = %d, /* %s */\n", #id, number, text);
#include "errors.def"
    printf("};\n\nenum reeve_command {\n    REEVE_COMMAND_NONE = 0,\n");
#define COMMAND(id, number, name, mode, params, answer, input, help)                                                   \
    printf("    REEVE_COMMAND_%s = %d, /* %s: %s */\n", #id, number, name, help);
#include "commands.def"
    printf("};\n\n");
}

static void names(void)
{
#define NAMES(type)                                                                                                    \
    printf("REEVE_API const char *reeve_%s_name(enum reeve_%s value); /* NULL if there is none */\n", type, type);     \
    printf("REEVE_API enum reeve_%s reeve_%s_parse(const char *name, size_t size); /* 0 if there is none */\n", type,  \
           type);
#define ENUM(type) NAMES(#type)
#include "enums.def"
    NAMES("service_state")
    NAMES("backup_state")
    printf("\n");
}

static void records(void)
{
#define RECORD(name) printf("struct reeve_" #name " {\n");
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    printf("    %s %s; /* %s: %s */\n", TYPE_##kind(sub), #c_name, name, text);
#define RECORD_END(name)                                                                                               \
    printf("};\nstruct reeve_" #name "_list {\n    const struct reeve_" #name " *items;\n    size_t count;\n};\n\n");
#include "records.def"
}

static void params(void)
{
    printf(
        "/* Parameters. A value that is not zero, false or absent counts as given; to give one that is, set its bit\n"
        " * (REEVE_GIVEN_…) in `given`; to give null (where that resets to a default), set it in `null`. */\n");
    const char *record = "";
    unsigned bit = 0;
#define PARAMS(name)                                                                                                   \
    record = #name;                                                                                                    \
    bit = 0;                                                                                                           \
    printf("struct reeve_" #name "_params {\n    uint64_t given, null;\n");
#define PARAM(kind, sub, c_name, name, need, min, max, text)                                                           \
    printf("    %s%s %s; /* %s: %s */\n", TYPE_##kind(sub), #kind[0] == 'O' ? "_params" : "", #c_name, name, text);
#define PARAMS_END(name) printf("};\n");
#include "params.def"
    printf("\n");
#define PARAMS(name)                                                                                                   \
    record = #name;                                                                                                    \
    bit = 0;
#define PARAM(kind, sub, c_name, name, need, min, max, text)                                                           \
    printf("#define REEVE_GIVEN_");                                                                                    \
    upper(record);                                                                                                     \
    putchar('_');                                                                                                      \
    upper(#c_name);                                                                                                    \
    printf(" (UINT64_C(1) << %u)\n", bit++);
#include "params.def"
    printf("\nunion reeve_params {\n");
#define PARAMS(name) printf("    struct reeve_" #name "_params " #name ";\n");
#include "params.def"
    printf("};\n\nunion reeve_answer {\n");
#define RECORD(name) printf("    struct reeve_" #name " " #name ";\n");
#include "records.def"
    printf("};\n\n");
}

static void numbers(void)
{
    printf("/* 0 means the default. */\nstruct reeve_limits {\n");
#define OPTION(c_name, flag, preset, min, max, unit, text)                                                             \
    printf("    uint64_t %s; /* %s; default %llu %s */\n", #c_name, text, preset##ULL, unit);
#define OPTION_OF_KIND(c_name, flag, max, unit, text)                                                                  \
    printf("    uint64_t %s[REEVE_OPERATION_KIND_COUNT]; /* %s; 0: as for all kinds */\n", #c_name, text);
#include "options.def"
    printf("};\n\n/* How often a value was measured: bucket i counts those that are above 2^(i-1) and not above 2^i,\n"
           " * the last one all that are larger. */\n#define REEVE_HISTOGRAM_BUCKETS 24\nstruct reeve_histogram {\n"
           "    uint64_t count, sum;\n    uint64_t buckets[REEVE_HISTOGRAM_BUCKETS];\n};\n\nstruct reeve_stats {\n");
#define COUNTER(c_name, name, kind, text) printf("    uint64_t %s; /* %s */\n", #c_name, text);
#define COUNTER_BY(c_name, name, enum, text)                                                                           \
    printf("    uint64_t %s[REEVE_%s_COUNT]; /* %s */\n", #c_name, #enum, text);
#define HISTOGRAM(c_name, name, unit, text)                                                                            \
    printf("    struct reeve_histogram %s; /* %s: %s */\n", #c_name, unit, text);
#include "counters.def"
    printf("};\n");
}

/* The columns of a field that only some kinds have: the record it holds, the words it chooses from. */
#define RECORD_OF(prefix, sub) "&" prefix "_type_" #sub
#define SUB_BOOL(prefix, sub) "NULL, NULL"
#define SUB_U64(prefix, sub) "NULL, NULL"
#define SUB_TIME(prefix, sub) "NULL, NULL"
#define SUB_STAMP(prefix, sub) "NULL, NULL"
#define SUB_UUID(prefix, sub) "NULL, NULL"
#define SUB_STR(prefix, sub) "NULL, NULL"
#define SUB_BIN(prefix, sub) "NULL, NULL"
#define SUB_ENUM(prefix, sub) "NULL, &words_" #sub
#define SUB_WORDS(prefix, sub) "NULL, &words_" #sub
#define SUB_OBJ(prefix, sub) RECORD_OF(prefix, sub) ", NULL"
#define SUB_LIST(prefix, sub) RECORD_OF("record", sub) ", NULL"

static void type_row(const char *prefix, const char *suffix, const char *name, unsigned tag_max)
{
    const int stored = prefix[0] == 'r' && tag_max > 0;
    printf("};\nconst struct record_type %s_type_%s = {\"%s\", sizeof(struct reeve_%s%s), %s_%s_fields,\n"
           "    sizeof %s_%s_fields / sizeof %s_%s_fields[0], %u, %d, %s%s, %s%s, %s};\n\n",
           prefix, name, name, name, suffix, prefix, name, prefix, name, prefix, name, tag_max, stored,
           stored ? "&stored_form_" : "NULL", stored ? name : "", prefix[0] == 'r' ? "codec_wire_" : "NULL",
           prefix[0] == 'r' ? name : "", suffix[0] ? "true" : "false");
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

static void tables(void)
{
    const char *record = "";
    unsigned number = 0;
#define RECORD(name)                                                                                                   \
    record = #name;                                                                                                    \
    number = 0;                                                                                                        \
    printf("static const struct field record_%s_fields[] = {\n", record);
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    number = larger(tag, number);                                                                                      \
    printf("    {%d, FIELD_%s, USE_%s, \"%s\", \"%s\", \"%s\", offsetof(struct reeve_%s, %s), 0, 0, %s},\n", tag,      \
           #kind, #where, name, #c_name, text, record, #c_name, SUB_##kind("record", sub));
#define RECORD_END(name) type_row("record", "", record, number);
#include "records.def"
#define PARAMS(name)                                                                                                   \
    record = #name;                                                                                                    \
    number = 0;                                                                                                        \
    printf("static const struct field params_%s_fields[] = {\n", record);
#define PARAM(kind, sub, c_name, name, need, min, max, text)                                                           \
    printf(                                                                                                            \
        "    {%u, FIELD_%s, USE_%s, \"%s\", \"%s\", \"%s\", offsetof(struct reeve_%s_params, %s), %llu, %llu, %s},\n", \
        number++, #kind, #need, name, #c_name, text, record, #c_name, min##ULL, max##ULL, SUB_##kind("params", sub));
#define PARAMS_END(name) type_row("params", "_params", record, 0);
#include "params.def"
}

/* ---- Documents ---- */

static const char *const class_colours[][2] = {
    {"BUSY", "#ffe8b8"}, {"UP", "#cdeccd"}, {"IDLE", "#d5e4f7"}, {"REST", "#ececec"}};

static const char *colour_of(const char *class)
{
    for (size_t i = 0; i < sizeof class_colours / sizeof class_colours[0]; i++) {
        if (strcmp(class_colours[i][0], class) == 0)
            return class_colours[i][1];
    }
    return "white";
}

/* Words of a table as they are read: "HEALTH_LOST" -> "health lost". */
static void words(const char *text)
{
    for (; *text; text++)
        putchar(*text == '_' ? ' ' : *text >= 'A' && *text <= 'Z' ? *text - 'A' + 'a' : *text);
}

static void edge(const char *prefix, const char *from, const char *input, const char *to)
{
    printf("    %s%s -> %s%s [label=\"", prefix, from, prefix, to);
    words(input);
    printf("\"];\n");
}

/* Steps that change the state; those that stay are in the table of docs/reference.md. */
static void dot(void)
{
    printf("digraph lifecycle {\n    rankdir=LR;\n    fontname=\"Helvetica\";\n"
           "    node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\"];\n"
           "    edge [fontname=\"Helvetica\", fontsize=10, color=\"#666666\"];\n");
#define STATE(id, number, name, class)                                                                                 \
    printf("    S_" #id " [label=\"%s\", fillcolor=\"%s\"];\n", name, colour_of(#class));
#include "lifecycle.def"
#define RULE(state, input, next, effect, event)                                                                        \
    if (strcmp(#state, #next) != 0)                                                                                    \
        edge("S_", #state, #input, #next);
#include "lifecycle.def"
    printf("    subgraph cluster_backup {\n    label=\"backup job\";\n    color=\"#bbbbbb\";\n");
#define BACKUP_STATE(id, number, name) printf("    B_" #id " [label=\"%s\", fillcolor=\"white\"];\n", name);
#include "backup.def"
#define BACKUP_RULE(state, input, next, effect, event)                                                                 \
    if (strcmp(#state, #next) != 0)                                                                                    \
        edge("B_", #state, #input, #next);
#include "backup.def"
    printf("    }\n}\n");
}

static void row(const char *state, const char *input, const char *next, const char *effect, const char *event)
{
    printf("| ");
    words(state);
    printf(" | ");
    words(input);
    printf(" | ");
    words(next);
    printf(" | ");
    words(effect);
    printf(" | ");
    words(event);
    printf(" |\n");
}

static void markdown(void)
{
    printf("# Reference\n\nPrinted from the tables in `schemas/` by `make docs`; a test keeps it equal to them.\n\n"
           "## Life of a service\n\nWhat has no row is refused with `CONFLICT` (commands) or ignored and counted "
           "(signals).\n\n| state | input | next | effect | event |\n| --- | --- | --- | --- | --- |\n");
#define RULE(state, input, next, effect, event) row(#state, #input, #next, #effect, #event);
#define SAME(state, input) row(#state, #input, #state, "already so", "none");
#include "lifecycle.def"
    printf("\n## Life of a backup\n\n| state | input | next | effect | event |\n| --- | --- | --- | --- | --- |\n");
#define BACKUP_RULE(state, input, next, effect, event) row(#state, #input, #next, #effect, #event);
#include "backup.def"
    printf("\n## Commands\n\n| method | kind | what it does |\n| --- | --- | --- |\n");
#define COMMAND(id, number, name, mode, params, answer, input, help) printf("| `%s` | %s | %s |\n", name, #mode, help);
#include "commands.def"
    printf("\n## Parameters\n");
#define PARAMS(name) printf("\n`%s`\n\n| field | kind | need | meaning |\n| --- | --- | --- | --- |\n", #name);
#define PARAM(kind, sub, c_name, name, need, min, max, text)                                                           \
    printf("| `%s` | ", name);                                                                                         \
    words(#kind);                                                                                                      \
    printf(" | ");                                                                                                     \
    words(#need);                                                                                                      \
    printf(" | %s |\n", text);
#include "params.def"
    printf("\n## Records\n");
#define RECORD(name) printf("\n`%s`\n\n| field | kind | where | meaning |\n| --- | --- | --- | --- |\n", #name);
#define FIELD(tag, kind, sub, c_name, name, where, text)                                                               \
    printf("| `%s` | ", name);                                                                                         \
    words(#kind);                                                                                                      \
    printf(" | ");                                                                                                     \
    words(#where);                                                                                                     \
    printf(" | %s |\n", text);
#include "records.def"
    printf("\n## Errors\n\n| name | HTTP | try again | meaning |\n| --- | --- | --- | --- |\n");
#define ERROR(id, number, name, http, retryable, text)                                                                 \
    printf("| `%s` | %d | %s | %s |\n", name, http, retryable ? "yes" : "no", text);
#include "errors.def"
    printf("\n## Options\n\n| flag and key | default | from | to | unit | meaning |\n| --- | --- | --- | --- | --- | "
           "--- |\n");
#define OPTION(c_name, flag, preset, min, max, unit, text)                                                             \
    printf("| `%s` | %llu | %llu | %llu | %s | %s |\n", flag, preset##ULL, min##ULL, max##ULL, unit, text);
#define OPTION_OF_KIND(c_name, flag, max, unit, text)                                                                  \
    printf("| `KIND.%s` | as for all | 0 | %llu | %s | %s |\n", flag, max##ULL, unit, text);
#include "options.def"
    printf("\n## Counters\n\n| name | kind | meaning |\n| --- | --- | --- |\n");
#define COUNTER(c_name, name, kind, text)                                                                              \
    printf("| `%s` | ", name);                                                                                         \
    words(#kind);                                                                                                      \
    printf(" | %s |\n", text);
#define COUNTER_BY(c_name, name, enum, text) printf("| `%s` | counters | %s |\n", name, text);
#define HISTOGRAM(c_name, name, unit, text) printf("| `%s` | histogram of %s | %s |\n", name, unit, text);
#include "counters.def"
}

static void header(void)
{
    enums();
    names();
    records();
    params();
    numbers();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } parts[] = {{"header", header}, {"tables", tables}, {"dot", dot}, {"markdown", markdown}};
    for (size_t i = 0; argc == 2 && i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) == 0) {
            parts[i].print();
            return 0;
        }
    }
    fprintf(stderr, "usage: generate header|tables|dot|markdown\n");
    return 2;
}
