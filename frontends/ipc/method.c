#include "method.h"

#include <stdlib.h>
#include <string.h>

/* What local.def calls `nothing`. */
static const struct record_type params_type_nothing = {
    .name = "nothing",
    .size = 2 * sizeof(uint64_t), /* the masks `given` and `null` */
    .is_params = true,
};

static const struct command_type local_rows[] = {
#define LOCAL(id, name, params, help)                                                                                  \
    {REEVE_COMMAND_NONE, name, REEVE_MODE_READ, &params_type_##params, &record_type_none, 0, help},
#include "local.def"
};

static const enum method_local local_ids[] = {
#define LOCAL(id, name, params, help) METHOD_##id,
#include "local.def"
};

/* Short names first: most look-ups need no look at the characters. */
static int compare(const char *a, size_t a_size, const char *b, size_t b_size)
{
    if (a_size != b_size)
        return a_size < b_size ? -1 : 1;
    return memcmp(a, b, a_size);
}

static int compare_rows(const void *a, const void *b)
{
    const struct method *first = a, *second = b;
    return compare(first->name, first->name_size, second->name, second->name_size);
}

static size_t offset_of(const struct record_type *type, const char *name, enum field_kind kind)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (type->fields[i].kind == kind && strcmp(type->fields[i].name, name) == 0)
            return type->fields[i].offset;
    }
    return METHOD_NO_FIELD;
}

static void fill(struct method *row, const struct command_type *command, enum method_local local)
{
    *row = (struct method){
        .name = command->name,
        .name_size = strlen(command->name),
        .local = local,
        .command = command,
        .limit_offset = offset_of(command->params, "limit", FIELD_U64),
        .cursor_offset = offset_of(command->params, "cursor", FIELD_UUID),
        .from_offset = offset_of(command->params, "from", FIELD_U64),
        .id_offset = offset_of(command->answer, "id", FIELD_UUID),
    };
}

void method_table_init(struct method_table *table)
{
    unsigned count = 0;
    for (unsigned i = 0; i < schema_commands_count; i++)
        fill(&table->rows[count++], &schema_commands[i], METHOD_COMMAND);
    for (unsigned i = 0; i < sizeof local_rows / sizeof local_rows[0]; i++)
        fill(&table->rows[count++], &local_rows[i], local_ids[i]);
    qsort(table->rows, METHOD_COUNT, sizeof table->rows[0], compare_rows);
}

const struct method *method_find(const struct method_table *table, const char *name, size_t size)
{
    size_t low = 0, high = METHOD_COUNT;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct method *row = &table->rows[middle];
        const int order = compare(name, size, row->name, row->name_size);
        if (order == 0)
            return row;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
