/* Prints what follows from the tables in schemas/. Run by the Makefile:
 *   generate header   the part of reeve.h between its fixed beginning and end: enums, records, parameters
 *   generate tables   the fields of records and parameters as arrays, which engine/schema.c includes */
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
    printf("/* What a state, word or number means is said in the tables in schemas/. */\n");
#define ENUM(type) printf("enum reeve_" #type " {\n"); enumerator("", #type, "UNSET", 0);
#define VALUE(type, id, number, name) enumerator("", #type, #id, number);
#define ENUM_END(type) printf("};\n\n");
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
#define COMMAND(id, number, name, mode, params, answer, input, help)                                                  \
    printf("    REEVE_COMMAND_%s = %d, /* %s: %s */\n", #id, number, name, help);
#include "commands.def"
    printf("};\n\n");
}

static void names(void)
{
#define NAMES(type)                                                                                                    \
    printf("REEVE_API const char *reeve_%s_name(enum reeve_%s value); /* NULL if there is none */\n", type, type);      \
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
    printf("/* Parameters. A value that is not zero, false or absent counts as given; to give one that is, set its bit\n"
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
#include "options.def"
    printf("};\n\nstruct reeve_stats {\n");
#define COUNTER(c_name, name, kind, text) printf("    uint64_t %s; /* %s */\n", #c_name, text);
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
#define SUB_OBJ(prefix, sub) RECORD_OF(prefix, sub) ", NULL"
#define SUB_LIST(prefix, sub) RECORD_OF("record", sub) ", NULL"

static void type_row(const char *prefix, const char *suffix, const char *name, unsigned tag_max)
{
    const int stored = prefix[0] == 'r' && tag_max > 0;
    printf("};\nconst struct record_type %s_type_%s = {\"%s\", sizeof(struct reeve_%s%s), %s_%s_fields,\n"
           "    sizeof %s_%s_fields / sizeof %s_%s_fields[0], %u, %d, %s};\n\n",
           prefix, name, name, name, suffix, prefix, name, prefix, name, prefix, name, tag_max, stored,
           suffix[0] ? "true" : "false");
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
    printf("    {%d, FIELD_%s, USE_%s, \"%s\", \"%s\", \"%s\", offsetof(struct reeve_%s, %s), 0, 0, %s},\n", tag, #kind,   \
           #where, name, #c_name, text, record, #c_name, SUB_##kind("record", sub));
#define RECORD_END(name) type_row("record", "", record, number);
#include "records.def"
#define PARAMS(name)                                                                                                   \
    record = #name;                                                                                                    \
    number = 0;                                                                                                        \
    printf("static const struct field params_%s_fields[] = {\n", record);
#define PARAM(kind, sub, c_name, name, need, min, max, text)                                                           \
    printf("    {%u, FIELD_%s, USE_%s, \"%s\", \"%s\", \"%s\", offsetof(struct reeve_%s_params, %s), %llu, %llu, %s},\n",   \
           number++, #kind, #need, name, #c_name, text, record, #c_name, min##ULL, max##ULL, SUB_##kind("params", sub));
#define PARAMS_END(name) type_row("params", "_params", record, 0);
#include "params.def"
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "tables") == 0) {
        tables();
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "header") != 0) {
        fprintf(stderr, "usage: generate header|tables\n");
        return 2;
    }
    enums();
    names();
    records();
    params();
    numbers();
    return 0;
}
