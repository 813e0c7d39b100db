#include "schema.h"

#include <string.h>

#include "lifecycle.h"

/* Rows of schema_commands[] by position. */
enum {
#define COMMAND(id, number, name, mode, params, answer, input, help) COMMAND_ROW_##id,
#include "commands.def"
};

#define REEVE_COMMAND_NUMBER_MAX 128

/* ---- Enums ---- */

#define ENUM(type) static const struct enum_value type##_values[] = {
#define VALUE(type, id, number, name) {number, name},
#define ENUM_END(type)                                                                                                 \
    }                                                                                                                  \
    ;
#include "enums.def"

static const struct enum_value service_state_values[] = {
#define STATE(id, number, name, class) {number, name},
#include "lifecycle.def"
};

static const struct enum_value backup_state_values[] = {
#define BACKUP_STATE(id, number, name) {number, name},
#include "backup.def"
};

#define WORDS(type)                                                                                                    \
    static const struct enum_type words_##type = {#type, type##_values,                                                \
                                                  sizeof type##_values / sizeof type##_values[0]};                     \
    const char *reeve_##type##_name(enum reeve_##type value)                                                           \
    {                                                                                                                  \
        return enum_name(&words_##type, (unsigned)value);                                                              \
    }                                                                                                                  \
    enum reeve_##type reeve_##type##_parse(const char *name, size_t size)                                              \
    {                                                                                                                  \
        return (enum reeve_##type)enum_parse(&words_##type, name, size);                                               \
    }
#define ENUM(type) WORDS(type)
#include "enums.def"
WORDS(service_state)
WORDS(backup_state)

const char *enum_name(const struct enum_type *type, unsigned number)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (type->values[i].number == number)
            return type->values[i].name;
    }
    return NULL;
}

unsigned enum_parse(const struct enum_type *type, const char *name, size_t size)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (strlen(type->values[i].name) == size && memcmp(type->values[i].name, name, size) == 0)
            return type->values[i].number;
    }
    return 0;
}

/* ---- Records and parameters: arrays of fields and their types, printed by schemas/generate.c ---- */

#include "schema_tables.inc"

static const struct record_type *const records[] = {
#define RECORD(name) &record_type_##name,
#include "records.def"
};

static const struct record_type *const params[] = {
#define PARAMS(name) &params_type_##name,
#include "params.def"
};

const struct record_type *schema_record(const char *name, bool is_params)
{
    const struct record_type *const *types = is_params ? params : records;
    const size_t count = is_params ? sizeof params / sizeof *params : sizeof records / sizeof *records;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    }
    return NULL;
}

/* ---- Commands ---- */

const struct command_type schema_commands[] = {
#define COMMAND(id, number, name, mode, params, answer, input, help)                                                   \
    {REEVE_COMMAND_##id, name, REEVE_MODE_##mode, &params_type_##params, &record_type_##answer, INPUT_##input, help},
#include "commands.def"
};
const unsigned schema_commands_count = sizeof schema_commands / sizeof schema_commands[0];

/* From number to row. A number used twice does not compile. */
static const uint8_t command_rows[REEVE_COMMAND_NUMBER_MAX] = {
#define COMMAND(id, number, name, mode, params, answer, input, help) [number] = 1 + COMMAND_ROW_##id,
#include "commands.def"
};

const struct command_type *schema_command(enum reeve_command id)
{
    const unsigned number = (unsigned)id;
    if (number >= REEVE_COMMAND_NUMBER_MAX || command_rows[number] == 0)
        return NULL;
    return &schema_commands[command_rows[number] - 1];
}

const char *reeve_command_name(enum reeve_command command)
{
    const struct command_type *row = schema_command(command);
    return row ? row->name : NULL;
}

enum reeve_command reeve_command_parse(const char *name, size_t size)
{
    for (unsigned i = 0; i < schema_commands_count; i++) {
        if (strlen(schema_commands[i].name) == size && memcmp(schema_commands[i].name, name, size) == 0)
            return schema_commands[i].id;
    }
    return REEVE_COMMAND_NONE;
}

enum reeve_command_mode reeve_command_mode(enum reeve_command command)
{
    const struct command_type *row = schema_command(command);
    return row ? row->mode : (enum reeve_command_mode)0;
}

/* ---- Numbers ---- */

enum {
    OPERATION_KIND_provision = REEVE_OPERATION_KIND_PROVISION,
    OPERATION_KIND_start = REEVE_OPERATION_KIND_START,
    OPERATION_KIND_stop = REEVE_OPERATION_KIND_STOP,
    OPERATION_KIND_suspend = REEVE_OPERATION_KIND_SUSPEND,
    OPERATION_KIND_configure = REEVE_OPERATION_KIND_CONFIGURE,
    OPERATION_KIND_delete = REEVE_OPERATION_KIND_DELETE,
    OPERATION_KIND_backup = REEVE_OPERATION_KIND_BACKUP,
    OPERATION_KIND_delete_backup = REEVE_OPERATION_KIND_DELETE_BACKUP,
};

const struct option_type schema_options[] = {
#define OPTION(c_name, flag, preset, min, max, unit, text)                                                             \
    {flag, offsetof(struct reeve_limits, c_name), preset, min, max, unit, text},
#define OF_KIND(kind, c_name, flag, max, unit, text)                                                                   \
    {#kind "." flag,                                                                                                   \
     offsetof(struct reeve_limits, c_name) + OPERATION_KIND_##kind * sizeof(uint64_t),                                 \
     0,                                                                                                                \
     0,                                                                                                                \
     max,                                                                                                              \
     unit,                                                                                                             \
     text},
#define OPTION_OF_KIND(c_name, flag, max, unit, text)                                                                  \
    OF_KIND(provision, c_name, flag, max, unit, text)                                                                  \
    OF_KIND(start, c_name, flag, max, unit, text)                                                                      \
    OF_KIND(stop, c_name, flag, max, unit, text)                                                                       \
    OF_KIND(suspend, c_name, flag, max, unit, text)                                                                    \
    OF_KIND(configure, c_name, flag, max, unit, text)                                                                  \
    OF_KIND(delete, c_name, flag, max, unit, text)                                                                     \
    OF_KIND(backup, c_name, flag, max, unit, text)                                                                     \
    OF_KIND(delete_backup, c_name, flag, max, unit, text)
#include "options.def"
};
_Static_assert(REEVE_OPERATION_KIND_COUNT == 9, "a new kind of operation needs its line above");
const unsigned schema_options_count = sizeof schema_options / sizeof schema_options[0];

#define KIND_COUNTER false
#define KIND_GAUGE true
const struct counter_type schema_counters[] = {
#define COUNTER(c_name, name, kind, text) {name, offsetof(struct reeve_stats, c_name), KIND_##kind, text},
#include "counters.def"
};
const unsigned schema_counters_count = sizeof schema_counters / sizeof schema_counters[0];
