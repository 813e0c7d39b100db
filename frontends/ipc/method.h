/* All methods by name: the rows of commands.def and of local.def. */
#ifndef REEVE_IPC_METHOD_H
#define REEVE_IPC_METHOD_H

#include "schema.h"

enum method_local {
    METHOD_COMMAND, /* no local method */
#define LOCAL(id, name, params, help) METHOD_##id,
#include "local.def"
};

#define METHOD_NO_FIELD SIZE_MAX

struct method {
    const char *name;
    size_t name_size;
    enum method_local local;
    const struct command_type *command; /* of a local method: a row of its own, only to decode the params */
    /* Where the params of a list have their page, in union reeve_params; METHOD_NO_FIELD where they have none. */
    size_t limit_offset, cursor_offset, from_offset;
    size_t id_offset; /* of what a list answers */
};

enum {
    METHOD_COUNT = 0
#define LOCAL(id, name, params, help) +1
#include "local.def"
#define COMMAND(id, number, name, mode, params, answer, input, help) +1
#include "commands.def"
};

struct method_table {
    struct method rows[METHOD_COUNT]; /* sorted by name */
};

void method_table_init(struct method_table *table);
/* NULL if there is none. */
const struct method *method_find(const struct method_table *table, const char *name, size_t size);

#endif
