#include "describe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "answer.h"
#include "files.h"
#include "request.h"
#include "wrapper.h"

__attribute__((format(printf, 3, 4))) static int refuse(struct reeve_error *ret_error, const struct exec_config *config,
                                                        const char *format, ...)
{
    char problem[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST, .field = "exec"};
    const char *slash = strrchr(config->program, '/');
    snprintf(ret_error->message, sizeof ret_error->message, "%.40s describe: %s", slash ? slash + 1 : config->program,
             problem);
    return -REEVE_ERROR_BAD_REQUEST;
}

static int take_operations(const struct exec_config *config, struct description *description,
                           struct reeve_error *ret_error)
{
    const json_t *list = json_object_get(description->json, "operations");
    if (!json_is_array(list) || json_array_size(list) == 0)
        return refuse(ret_error, config, "its answer has no list of operations");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const enum reeve_operation_kind kind = name ? reeve_operation_kind_parse(name, strlen(name)) : 0;
        if (kind)
            description->operations |= 1U << kind;
        description->health |= name && strcmp(name, "health") == 0;
    }
    return 0;
}

/* Of later versions there may be forms that are not known here. */
static int take_passwords(const struct exec_config *config, struct description *description,
                          struct reeve_error *ret_error)
{
    const json_t *list = json_object_get(description->json, "passwords");
    if (!list)
        return 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const enum reeve_password_form form = name ? reeve_password_form_parse(name, strlen(name)) : 0;
        if (form)
            description->passwords |= 1U << form;
    }
    if (!description->passwords)
        return refuse(ret_error, config, "its passwords must be a list of sha-256, scram-sha-256 or both");
    return 0;
}

static int take(const struct exec_config *config, const struct answer *answer, struct description *description,
                struct reeve_error *ret_error)
{
    const json_t *api = json_object_get(answer->json, "api");
    const char *name = json_string_value(json_object_get(answer->json, "name"));
    if (answer->outcome.status != REEVE_OUTCOME_STATUS_DONE)
        return refuse(ret_error, config, "%.150s", answer->message);
    if (!json_is_integer(api) || json_integer_value(api) != EXEC_API)
        return refuse(ret_error, config, "it speaks api %lld, this version of reeve speaks api %d",
                      (long long)json_integer_value(api), EXEC_API);
    if (!name || !*name || strlen(name) >= sizeof description->name)
        return refuse(ret_error, config, "its answer has no name of 1 to 50 bytes");
    snprintf(description->name, sizeof description->name, "%s", name);
    description->json = json_incref(answer->json);
    const int r = take_operations(config, description, ret_error);
    return r < 0 ? r : take_passwords(config, description, ret_error);
}

int describe_program(const struct exec_config *config, struct description *ret_description,
                     struct reeve_error *ret_error)
{
    char directory[FILES_PATH_MAX];
    struct answer answer;
    int status;
    *ret_description = (struct description){0};
    files_path(directory, "%s/runs/describe-%d", config->state, (int)getpid());
    files_remove(directory);
    const int made = files_make_directories(directory);
    const pid_t pid = made == 0 ? wrapper_start(config, directory, "describe", DESCRIBE_TIMEOUT_MS) : -1;
    if (pid < 0)
        return refuse(ret_error, config, "cannot be run: %s", strerror(made < 0 ? -made : errno));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    answer_read(&answer, directory);
    const int r = take(config, &answer, ret_description, ret_error);
    answer_free(&answer);
    files_remove(directory);
    if (r < 0)
        description_free(ret_description);
    return r;
}

void description_free(struct description *description)
{
    json_decref(description->json);
    *description = (struct description){0};
}
