#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

__attribute__((format(printf, 3, 4))) static int refuse(struct reeve_error *ret_error, const char *key,
                                                        const char *format, ...)
{
    va_list arguments;
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST};
    snprintf(ret_error->field, sizeof ret_error->field, "exec%s%.60s", *key ? ":" : "", key);
    va_start(arguments, format);
    vsnprintf(ret_error->message, sizeof ret_error->message, format, arguments);
    va_end(arguments);
    return -REEVE_ERROR_BAD_REQUEST;
}

static int refuse_memory(struct reeve_error *ret_error)
{
    refuse(ret_error, "", "out of memory");
    ret_error->code = REEVE_ERROR_NO_MEMORY;
    return -REEVE_ERROR_NO_MEMORY;
}

/* NULL when out of memory or there is no working directory. */
static char *make_absolute(const char *path)
{
    char *directory = NULL, *whole = NULL;
    if (*path == '/')
        return strdup(path);
    if (strncmp(path, "./", 2) == 0)
        path += 2;
    directory = getcwd(NULL, 0);
    if (!directory || asprintf(&whole, "%s/%s", directory, path) < 0)
        whole = NULL;
    free(directory);
    return whole;
}

/* ---- The spec ---- */

static bool is_variable_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    for (; *name; name++) {
        if (!isalnum((unsigned char)*name) && *name != '_')
            return false;
    }
    return true;
}

static int take_variable(struct exec_config *config, const char *key, const char *value, struct reeve_error *ret_error)
{
    const char *name = key + strlen("env.");
    if (!is_variable_name(name))
        return refuse(ret_error, key, "is no name of an environment variable");
    if (strncmp(name, "REEVE_", 6) == 0)
        return refuse(ret_error, key, "cannot be set: names that start with REEVE_ are ours");
    if (config->variables_count == CONFIG_VARIABLES_MAX)
        return refuse(ret_error, key, "is one too many: %d variables at the most", CONFIG_VARIABLES_MAX);
    char *variable;
    if (asprintf(&variable, "%s=%s", name, value) < 0)
        return refuse_memory(ret_error);
    config->variables[config->variables_count++] = variable;
    return 0;
}

static int take_directory(char **target, const char *key, const char *value, struct reeve_error *ret_error)
{
    if (!*value)
        return refuse(ret_error, key, "needs a directory");
    free(*target);
    *target = make_absolute(value);
    return *target ? 0 : refuse_memory(ret_error);
}

static int take_pair(struct exec_config *config, char *pair, struct reeve_error *ret_error)
{
    char *value = strchr(pair, '=');
    if (!value)
        return refuse(ret_error, pair, "needs a value: key=value");
    *value++ = '\0';
    if (strcmp(pair, "state") == 0)
        return take_directory(&config->state, pair, value, ret_error);
    if (strcmp(pair, "backups") == 0)
        return take_directory(&config->backups, pair, value, ret_error);
    if (strncmp(pair, "env.", 4) == 0)
        return take_variable(config, pair, value, ret_error);
    return refuse(ret_error, pair, "is not known; known are state=DIR, backups=DIR and env.NAME=VALUE");
}

static int parse(struct exec_config *config, char *spec, struct reeve_error *ret_error)
{
    char *rest = spec, *pair = strsep(&rest, ",");
    if (!*pair)
        return refuse(ret_error, "", "needs a program: exec:PROGRAM[,state=DIR][,backups=DIR][,env.NAME=VALUE]");
    config->program = make_absolute(pair);
    int r = config->program ? 0 : refuse_memory(ret_error);
    while (r == 0 && (pair = strsep(&rest, ",")))
        r = *pair ? take_pair(config, pair, ret_error) : 0;
    return r;
}

/* ---- What follows ---- */

static int check_program(const struct exec_config *config, struct reeve_error *ret_error)
{
    struct stat status;
    if (stat(config->program, &status) < 0)
        return refuse(ret_error, "", "the program %.150s is not there: %s", config->program, strerror(errno));
    if (!S_ISREG(status.st_mode) || access(config->program, X_OK) < 0)
        return refuse(ret_error, "", "the program %.150s cannot be executed", config->program);
    return 0;
}

static int make_directory(const char *key, const char *path, struct reeve_error *ret_error)
{
    if (strlen(path) > FILES_STATE_MAX)
        return refuse(ret_error, key, "is too long");
    const int r = files_make_directories(path);
    return r < 0 ? refuse(ret_error, key, "cannot make %.150s: %s", path, strerror(-r)) : 0;
}

static int make_directories(struct exec_config *config, const char *data_dir, struct reeve_error *ret_error)
{
    char path[FILES_PATH_MAX];
    if (!config->state) {
        char *data = make_absolute(data_dir);
        if (!data || asprintf(&config->state, "%s/provisioner", data) < 0)
            config->state = NULL;
        free(data);
    }
    if (!config->state ||
        (!config->backups && asprintf(&config->backups, "%s/backups", config->state) < 0 && !(config->backups = NULL)))
        return refuse_memory(ret_error);
    int r = make_directory("state", config->state, ret_error);
    if (r == 0)
        r = make_directory("backups", config->backups, ret_error);
    files_path(path, "%s/runs", config->state);
    if (r == 0)
        r = make_directory("state", path, ret_error);
    files_path(path, "%s/logs", config->state);
    return r == 0 ? make_directory("state", path, ret_error) : r;
}

int config_read(struct exec_config *config, const char *spec, const char *data_dir, struct reeve_error *ret_error)
{
    *config = (struct exec_config){0};
    char *copy = strdup(spec);
    int r = copy ? parse(config, copy, ret_error) : refuse_memory(ret_error);
    free(copy);
    if (r == 0)
        r = check_program(config, ret_error);
    if (r == 0)
        r = make_directories(config, data_dir, ret_error);
    if (r < 0)
        config_free(config);
    return r;
}

void config_free(struct exec_config *config)
{
    free(config->program);
    free(config->state);
    free(config->backups);
    for (unsigned i = 0; i < config->variables_count; i++)
        free(config->variables[i]);
    *config = (struct exec_config){0};
}

/* ---- The environment ---- */

struct environment {
    char **list; /* NULL: only measuring */
    char *at;
    size_t count, bytes;
};

static void add(struct environment *environment, const char *name, const char *value)
{
    const size_t size = strlen(name) + strlen(value) + 1;
    if (environment->list) {
        environment->list[environment->count] = environment->at;
        snprintf(environment->at, size, "%s%s", name, value);
        environment->at += size;
    }
    environment->count++;
    environment->bytes += size;
}

static bool is_given(const struct exec_config *config, const char *name)
{
    for (unsigned i = 0; i < config->variables_count; i++) {
        if (strncmp(config->variables[i], name, strlen(name)) == 0)
            return true;
    }
    return false;
}

static void add_all(struct environment *environment, const struct exec_config *config, const char *run_directory)
{
    const char *path = getenv("PATH");
    const char *const pairs[][2] = {{"PATH=", path && *path ? path : PATH_DEFAULT},
                                    {"LANG=", "C.UTF-8"},
                                    {"TZ=", "UTC"},
                                    {"REEVE_STATE_DIR=", config->state},
                                    {"REEVE_BACKUP_DIR=", config->backups},
                                    {"REEVE_RUN_DIR=", run_directory}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (!is_given(config, pairs[i][0]))
            add(environment, pairs[i][0], pairs[i][1]);
    }
    if (config->behind_door)
        add(environment, "REEVE_DOOR=", "1");
    for (unsigned i = 0; i < config->variables_count; i++)
        add(environment, "", config->variables[i]);
}

char **config_environment(const struct exec_config *config, const char *run_directory)
{
    struct environment environment = {0};
    add_all(&environment, config, run_directory);
    char **list = malloc((environment.count + 1) * sizeof(char *) + environment.bytes);
    if (!list)
        return NULL;
    environment = (struct environment){.list = list, .at = (char *)(list + environment.count + 1)};
    add_all(&environment, config, run_directory);
    list[environment.count] = NULL;
    return list;
}
