/* What "exec:PROGRAM[,state=DIR][,backups=DIR][,env.NAME=VALUE]..." says, and what follows from it. */
#ifndef REEVE_EXEC_CONFIG_H
#define REEVE_EXEC_CONFIG_H

#include <reeve.h>
#include <stdbool.h>

#define CONFIG_VARIABLES_MAX 64

struct exec_config {
    char *program, *state, *backups;       /* absolute */
    char *variables[CONFIG_VARIABLES_MAX]; /* "NAME=VALUE", of env.NAME=VALUE */
    unsigned variables_count;
    bool behind_door; /* programs are told: clients come through reeve's door */
};

/* data_dir: where the state directory is by default. Makes the directories. ret_error names what is wrong. */
int config_read(struct exec_config *config, const char *spec, const char *data_dir, struct reeve_error *ret_error);
void config_free(struct exec_config *config);

/* The whole environment of a program, ended by NULL: nothing of the daemon's own but PATH. Of one piece of memory;
 * free() it. NULL when out of memory. */
char **config_environment(const struct exec_config *config, const char *run_directory);

#endif
