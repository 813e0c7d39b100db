/* --wait: the events are watched from before the command on, so that none is missed, until it has come to its end. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* What ends the waiting for each command. */
static const struct goal {
    enum reeve_command command;
    const char *key;  /* of an event */
    const char *done; /* its value when all is well */
    const char *failed;
} goals[] = {
    {REEVE_COMMAND_SERVICE_CREATE, "to", "running", "failed"},
    {REEVE_COMMAND_SERVICE_START, "to", "running", "failed"},
    {REEVE_COMMAND_SERVICE_AWAKE, "to", "running", "failed"},
    {REEVE_COMMAND_SERVICE_STOP, "to", "stopped", "failed"},
    {REEVE_COMMAND_SERVICE_DELETE, "to", "gone", "failed"},
    {REEVE_COMMAND_BACKUP_CREATE, "backupStatus", "done", "error"},
};

struct waiting {
    struct cli *cli;
    const struct goal *goal;
    char service_id[64], backup_id[64];
    bool terminal;
    uint64_t started_ms;
    char state[32];
};

static const struct goal *goal_of(enum reeve_command command)
{
    for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++) {
        if (goals[i].command == command)
            return &goals[i];
    }
    return NULL;
}

bool wait_is_possible(enum reeve_command command)
{
    return goal_of(command) != NULL;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static const char *text_at(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

static void show(struct waiting *waiting, const char *state, const char *reason)
{
    if (waiting->cli->json)
        return;
    const double seconds = (double)(now_ms() - waiting->started_ms) / 1000;
    if (waiting->terminal) {
        fprintf(stderr, "\r\033[K%6.1f s  %s%s%s", seconds, state, *reason ? ": " : "", reason);
        fflush(stderr);
    } else if (strcmp(state, waiting->state) != 0 || *reason) {
        fprintf(stderr, "%6.1f s  %s%s%s\n", seconds, state, *reason ? ": " : "", reason);
    }
    snprintf(waiting->state, sizeof waiting->state, "%s", state);
}

/* -1: not yet; else the exit code. */
static int look_at(struct waiting *waiting, const json_t *event)
{
    const struct goal *goal = waiting->goal;
    if (strcmp(text_at(event, "serviceId"), waiting->service_id) != 0)
        return -1;
    if (waiting->backup_id[0] && strcmp(text_at(event, "objectId"), waiting->backup_id) != 0)
        return -1;
    const char *value = text_at(event, goal->key);
    if (*value)
        show(waiting, value, text_at(event, "message"));
    if (strcmp(value, goal->done) == 0)
        return CLI_OK;
    return strcmp(value, goal->failed) == 0 ? CLI_FAILED : -1;
}

static int look_at_all(struct waiting *waiting, const msgpack_object *body)
{
    const msgpack_object *events = ipc_map_get(body, "events");
    int r = -1;
    if (!events || events->type != MSGPACK_OBJECT_ARRAY)
        return -1;
    for (uint32_t i = 0; i < events->via.array.size && r < 0; i++) {
        json_t *event = json_from_msgpack(&events->via.array.ptr[i]);
        r = look_at(waiting, event);
        json_decref(event);
    }
    return r;
}

static int follow(struct waiting *waiting)
{
    struct cli *cli = waiting->cli;
    const uint64_t until_ms = waiting->started_ms + cli->timeout_s * 1000;
    for (;;) {
        struct ipc_message message;
        const int r = ipc_client_receive(cli->client, 100, &message);
        if (r == 0 && message.is_notification) {
            const int code = look_at_all(waiting, &message.body);
            if (code >= 0)
                return code;
        } else if (r < 0 && r != -REEVE_ERROR_BUSY) {
            cli_print_error(cli, ipc_client_error(cli->client));
            return CLI_UNREACHABLE;
        }
        if (waiting->terminal)
            show(waiting, waiting->state, "");
        if (cli->timeout_s && now_ms() > until_ms)
            return CLI_TIMEOUT;
    }
}

/* The state an answer shows already, where nothing was left to do. */
static bool is_there(const struct waiting *waiting, const json_t *answer)
{
    const json_t *service = json_object_get(answer, "service");
    return strcmp(text_at(service ? service : answer, "state"), waiting->goal->done) == 0;
}

static void note_ids(struct waiting *waiting, const json_t *params, const json_t *answer)
{
    const json_t *service = json_object_get(answer, "service");
    const char *id = service ? text_at(service, "id") : text_at(params, "serviceId");
    snprintf(waiting->service_id, sizeof waiting->service_id, "%s", id);
    if (waiting->goal->command == REEVE_COMMAND_BACKUP_CREATE)
        snprintf(waiting->backup_id, sizeof waiting->backup_id, "%s", text_at(answer, "id"));
    snprintf(waiting->state, sizeof waiting->state, "%s",
             waiting->backup_id[0] ? text_at(answer, "status") : text_at(service ? service : answer, "state"));
}

/* What it came to: the record as it is now, with the secret of the first answer. */
static void show_end(struct waiting *waiting, const json_t *params, json_t *answer)
{
    json_t *fresh = NULL, *query = json_object();
    json_object_set(query, "organizationId", json_object_get(params, "organizationId"));
    json_object_set_new(query, "serviceId", json_string(waiting->service_id));
    if (waiting->backup_id[0])
        json_object_set_new(query, "backupId", json_string(waiting->backup_id));
    if (waiting->goal->command != REEVE_COMMAND_SERVICE_DELETE)
        cli_call(waiting->cli, waiting->backup_id[0] ? "backup.get" : "service.get", query, &fresh);
    json_decref(query);
    if (fresh && json_object_get(answer, "service"))
        json_object_set(answer, "service", fresh);
    output_record(waiting->cli, fresh && !json_object_get(answer, "service") ? fresh : answer);
    json_decref(fresh);
}

int wait_call(struct cli *cli, const struct command_type *command, const json_t *params)
{
    struct waiting waiting = {.cli = cli,
                              .goal = goal_of(command->id),
                              .terminal = isatty(STDERR_FILENO) != 0 && !cli->json,
                              .started_ms = now_ms()};
    json_t *watch = NULL, *answer = NULL, *filter = json_object();
    json_object_set(filter, "organizationId", json_object_get(params, "organizationId"));
    int r = cli_call(cli, "event.watch", filter, &watch);
    if (r == 0)
        r = cli_call(cli, command->name, params, &answer);
    int code = -r;
    if (r == 0) {
        note_ids(&waiting, params, answer);
        code = is_there(&waiting, answer) ? CLI_OK : follow(&waiting);
        if (waiting.terminal)
            fprintf(stderr, "\r\033[K");
        if (code == CLI_TIMEOUT)
            fprintf(stderr, "reeve: not there after %llu s, still '%s'; it goes on without us\n",
                    (unsigned long long)cli->timeout_s, waiting.state);
        show_end(&waiting, params, answer);
    }
    json_decref(filter);
    json_decref(watch);
    json_decref(answer);
    return code;
}
