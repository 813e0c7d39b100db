/* The command line: a client of the daemon's socket. What commands and flags there are follows from the tables. */
#ifndef REEVE_CLI_H
#define REEVE_CLI_H

#include <jansson.h>

#include "frontends/ipc/client.h"
#include "schema.h"

/* Exit codes; also in `reeve help` and the manual. */
enum cli_exit {
    CLI_OK = 0,
    CLI_REFUSED = 1,     /* the engine said no */
    CLI_USAGE = 2,       /* the words are wrong */
    CLI_UNREACHABLE = 3, /* no daemon there */
    CLI_FAILED = 4,      /* waited for, and it ended in failure */
    CLI_TIMEOUT = 5,     /* waited for, and it took too long */
    CLI_DAMAGED = 6,     /* the check found something */
};

/* What holds for all commands. */
struct cli {
    const char *socket_path, *organization;
    bool json, colour, wait, help;
    uint64_t timeout_s; /* of --wait; 0: none */
    struct ipc_client *client;
};

int cli_main(int argc, char **argv);

/* ---- arguments.c ---- */

/* "minTotalMemoryGb" -> "min-total-memory-gb" */
void flag_name(const char *name, char ret_flag[64]);
/* Read the words of a command into cli and *ret_params (a JSON object the caller owns). Prints what is wrong. */
int arguments_read(struct cli *cli, const struct command_type *command, int argc, char **argv, json_t **ret_params);
/* A flag that all commands take (--json, --socket PATH ...): how many words it took, 0: it is none, negative: wrong. */
int arguments_take_global(struct cli *cli, int argc, char **argv, int index);
/* The position of a field among the words without flags, from 0; -1: it has a flag. */
int argument_position(const struct command_type *command, const struct field *field);
/* All commands in the order of the help; NULL behind the last. */
const struct command_type *command_at(unsigned index);
/* From "service", "set-password" to its row; NULL. */
const struct command_type *command_find(const char *noun, const char *verb);
bool noun_exists(const char *noun);
/* "service" and "set-password" of a command. */
void command_words(const struct command_type *command, char ret_noun[32], char ret_verb[32]);

/* ---- json.c ---- */

json_t *json_from_msgpack(const msgpack_object *object);
void json_to_msgpack(const json_t *json, msgpack_packer *packer);

/* ---- call.c ---- */

/* Connect if that was not done yet. Prints why not. */
int cli_connect(struct cli *cli);
/* Call a method and give its answer as JSON, which the caller owns. Prints refusals and failures. */
int cli_call(struct cli *cli, const char *method, const json_t *params, json_t **ret_answer);
void cli_print_error(const struct cli *cli, const struct reeve_error *error);

/* ---- output.c ---- */

void output_record(const struct cli *cli, const json_t *record);
void output_rows(const struct cli *cli, const char *type, const json_t *items, bool first);
void output_event(const struct cli *cli, const json_t *event);
void output_log(const struct cli *cli, const json_t *answer);
void output_json(const json_t *json);

/* ---- wait.c, watch.c, maintenance.c, help.c, completion.c ---- */

bool wait_is_possible(enum reeve_command command);
int wait_call(struct cli *cli, const struct command_type *command, const json_t *params);
int watch_main(struct cli *cli, int argc, char **argv);
int maintenance_stats(struct cli *cli);
int maintenance_snapshot(struct cli *cli, const char *path);
int maintenance_check(struct cli *cli, const char *directory);
void help_all(void);
void help_noun(const char *noun);
void help_command(const struct command_type *command);
int completion_print(const char *shell);

#endif
