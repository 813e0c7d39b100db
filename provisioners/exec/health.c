#include "health.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "answer.h"
#include "base/bytes.h"
#include "base/map.h"
#include "files.h"
#include "process.h"
#include "request.h"
#include "run.h"

#define TICK_MS 250
#define LOOK_TIMEOUT_MS 10000
#define AGAIN_MS 1000 /* after a look that found a service not running */

struct health {
    struct health_settings settings;
    struct exec_stats stats;
    struct reeve_client *client;
    struct reeve_watch watch;
    uv_timer_t tick;
    struct map services; /* service id -> struct watched */
    struct link all;     /* of them */
    struct link looks;   /* runs under way, also of services that are not watched any more */
    unsigned looks_count;
    unsigned handles_open;
    bool closing, client_closed;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* The end of a process; outlives what it was watched for. */
struct ending {
    uv_poll_t poll; /* first */
    struct health *health;
    struct watched *watched; /* NULL: nobody wants to know any more */
    int pidfd, pid;
};

/* A service that runs. */
struct watched {
    struct health *health;
    struct link link;
    struct reeve_uuid id, organization_id;
    uint64_t generation; /* of the record that says that it runs */
    bool busy;           /* an operation is under way */
    struct ending *ending;
    int pid;    /* of the process that was named; 0: none */
    bool ended; /* it has ended */
    struct run *look;
    uint64_t next_ms; /* loop time of the next look */
    uint64_t unhealthy;
    json_int_t activity; /* counter that the program told; -1: not yet */
    struct reeve_request lost_request, activity_request;
    bool untold;                /* its record had changed when its activity was told: told again */
    bool losing, telling, gone; /* the requests are with the engine; not watched any more, but for them */
    char message[512];
};

__attribute__((format(printf, 3, 4))) static void say(const struct health *health, enum reeve_log_level level,
                                                      const char *format, ...)
{
    char line[768];
    va_list arguments;
    if (!health->settings.log)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    health->settings.log(NULL, level, line);
}

static void finish_if_done(struct health *health)
{
    if (!health->closing || health->handles_open > 0 || !health->client_closed)
        return;
    void (*const on_closed)(void *arg) = health->on_closed;
    void *const arg = health->on_closed_arg;
    map_deinit(&health->services);
    free(health);
    if (on_closed)
        on_closed(arg);
}

/* ---- Processes ---- */

static void process_path(const struct exec_config *config, const struct reeve_uuid *service_id,
                         char ret_path[FILES_PATH_MAX])
{
    char id[37];
    reeve_uuid_format(service_id, id);
    files_path(ret_path, "%s/processes/%s.json", config->state, id);
}

void health_note_process(const struct exec_config *config, const struct log_owner *owner, int pid)
{
    char path[FILES_PATH_MAX];
    json_t *description = pid > 0 ? process_describe(pid) : NULL;
    process_path(config, &owner->service_id, path);
    if (description)
        files_write_json(path, description, true);
    else
        unlink(path); /* none was named, or it has ended already: the looks will tell */
    json_decref(description);
}

void health_forget_process(const struct exec_config *config, const struct log_owner *owner)
{
    health_note_process(config, owner, 0);
}

static void on_ending_closed(uv_handle_t *handle)
{
    struct ending *ending = (struct ending *)handle;
    struct health *health = ending->health;
    close(ending->pidfd);
    free(ending);
    health->handles_open--;
    finish_if_done(health);
}

static void leave_process(struct watched *watched)
{
    if (!watched->ending)
        return;
    watched->ending->watched = NULL;
    uv_close((uv_handle_t *)&watched->ending->poll, on_ending_closed);
    watched->ending = NULL;
}

static void judge_process(struct watched *watched);

static void on_ending(uv_poll_t *poll, int status, int events)
{
    struct watched *watched = ((struct ending *)poll)->watched;
    (void)status;
    (void)events;
    if (!watched)
        return;
    leave_process(watched);
    watched->ended = true;
    watched->health->stats.ended++;
    judge_process(watched);
}

/* False: it cannot be watched; the looks go on. */
static bool watch_pidfd(struct watched *watched, int pidfd)
{
    struct health *health = watched->health;
    struct ending *ending = calloc(1, sizeof *ending);
    if (!ending || uv_poll_init(health->settings.loop, &ending->poll, pidfd) < 0) {
        free(ending);
        close(pidfd);
        return false;
    }
    ending->health = health;
    ending->watched = watched;
    ending->pidfd = pidfd;
    ending->pid = watched->pid;
    health->handles_open++;
    watched->ending = ending;
    uv_unref((uv_handle_t *)&ending->poll);
    uv_poll_start(&ending->poll, UV_READABLE, on_ending);
    return true;
}

/* What is written down of the service's process is what is watched. */
static void find_process(struct watched *watched)
{
    char path[FILES_PATH_MAX];
    process_path(watched->health->settings.config, &watched->id, path);
    json_t *description = access(path, R_OK) == 0 ? files_read_json(path) : NULL;
    const int pid = (int)json_integer_value(json_object_get(description, "pid"));
    if (!watched->ending || watched->pid != pid) {
        leave_process(watched);
        const int pidfd = pid > 0 ? process_open(description) : -1;
        watched->pid = pid;
        watched->ended = pid > 0 && pidfd < 0;
        if (pidfd >= 0)
            watch_pidfd(watched, pidfd);
    }
    json_decref(description);
}

/* ---- Telling the engine ---- */

static void unwatch(struct watched *watched)
{
    struct health *health = watched->health;
    if (!watched->gone) {
        watched->gone = true;
        map_remove(&health->services, &watched->id);
        link_remove(&watched->link);
        health->stats.watched--;
        leave_process(watched);
        if (watched->look)
            watched->look->data = NULL; /* what it finds is of no use any more */
    }
    if (!watched->losing && !watched->telling)
        free(watched);
}

static void on_lost(struct reeve_request *request, const struct reeve_result *result)
{
    struct watched *watched = request->data;
    watched->losing = false;
    if (result->error.code == 0)
        watched->health->stats.lost++;
    if (watched->gone) /* else the event has come, or the next look tells it again */
        unwatch(watched);
}

__attribute__((format(printf, 3, 4))) static void lose(struct watched *watched, const char *code, const char *format,
                                                       ...)
{
    struct health *health = watched->health;
    char id[37], message[2048];
    if (watched->losing || health->closing)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    answer_clean(message, watched->message, sizeof watched->message);
    reeve_uuid_format(&watched->id, id);
    watched->lost_request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_HEALTH_LOST,
                                                   .actor = reeve_str("health"),
                                                   .on_done = on_lost,
                                                   .data = watched};
    watched->lost_request.params.service_health = (struct reeve_service_health_params){
        .organization_id = watched->organization_id,
        .service_id = watched->id,
        .code = reeve_str(code),
        .message = reeve_str(watched->message)};
    watched->losing = reeve_submit(health->client, &watched->lost_request) == 0;
    if (watched->losing)
        say(health, REEVE_LOG_WARNING, "health: service=%s is lost: %s", id, watched->message);
}

static void judge_process(struct watched *watched)
{
    if (watched->ended && !watched->busy)
        lose(watched, "process_ended", "the server's process %d has ended", watched->pid);
}

static void on_told(struct reeve_request *request, const struct reeve_result *result)
{
    struct watched *watched = request->data;
    watched->telling = false;
    if (watched->gone)
        unwatch(watched);
    else
        watched->untold = result->error.code == REEVE_ERROR_STALE_GENERATION;
}

/* What was seen while the service ran must not wake it when it sleeps. */
static void tell_activity(struct watched *watched)
{
    struct health *health = watched->health;
    if (watched->telling || health->closing)
        return;
    watched->activity_request = (struct reeve_request){
        .command = REEVE_COMMAND_SERVICE_ACTIVITY, .actor = reeve_str("health"), .on_done = on_told, .data = watched};
    watched->activity_request.params.service = (struct reeve_service_params){
        .organization_id = watched->organization_id, .service_id = watched->id};
    watched->activity_request.meta.if_generation = watched->generation;
    watched->untold = false;
    watched->telling = reeve_submit(health->client, &watched->activity_request) == 0;
}

/* ---- Looks ---- */

/* Is it in use: does something run, or has its counter moved since the last look? */
static bool is_active(struct watched *watched, const json_t *json)
{
    const json_t *activity = json_object_get(json, "activity");
    const json_int_t before = watched->activity;
    watched->activity = json_is_integer(activity) ? json_integer_value(activity) : -1;
    return json_integer_value(json_object_get(json, "queries")) > 0 ||
           (before >= 0 && watched->activity >= 0 && before != watched->activity);
}

static void judge(struct watched *watched, const struct answer *answer)
{
    struct health *health = watched->health;
    const json_t *running = json_object_get(answer->json, "running");
    const char *message = json_string_value(json_object_get(answer->json, "message"));
    const bool told = answer->outcome.status == REEVE_OUTCOME_STATUS_DONE && json_is_boolean(running);
    if (!told) {
        health->stats.unknown++;
        say(health, REEVE_LOG_DEBUG, "health: a look told nothing: %s",
            answer->outcome.status == REEVE_OUTCOME_STATUS_DONE ? "no \"running\" in its answer" : answer->message);
    } else if (json_is_true(running)) {
        watched->unhealthy = 0;
        if (is_active(watched, answer->json))
            tell_activity(watched);
    } else if (!watched->busy) {
        health->stats.unhealthy++;
        watched->next_ms = uv_now(health->settings.loop) + AGAIN_MS;
        if (++watched->unhealthy >= health->settings.limits->health_failures)
            lose(watched, "unhealthy", "%.400s", message && *message ? message : "the server does not run");
    }
}

static void on_looked(struct run *run)
{
    struct health *health = run->owner_data;
    struct watched *watched = run->data;
    struct answer answer;
    health->looks_count--;
    if (watched) {
        watched->look = NULL;
        answer_read(&answer, run->directory);
        judge(watched, &answer);
        answer_free(&answer);
    }
    files_remove(run->directory);
    run_free(run);
    exec_reap(health->settings.exec);
}

static bool take_request(void *arg, const void *record)
{
    const struct reeve_service *service = record;
    struct reeve_task task = {.kind = REEVE_OPERATION_KIND_START,
                              .attempt = 1,
                              .organization_id = service->organization_id,
                              .service_id = service->id,
                              .desired = service->desired,
                              .service = service};
    json_t **ret_request = arg;
    uv_random(NULL, NULL, &task.operation_id, sizeof task.operation_id, 0, NULL);
    *ret_request = request_of(&task, LOOK_TIMEOUT_MS);
    json_object_set_new(*ret_request, "operation", json_string("health"));
    return false;
}

static struct reeve_request about(const struct watched *watched)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET};
    request.params.service = (struct reeve_service_params){.organization_id = watched->organization_id,
                                                           .service_id = watched->id};
    return request;
}

static void look(struct watched *watched)
{
    struct health *health = watched->health;
    struct reeve_error error;
    const struct reeve_request request = about(watched);
    struct log_owner owner = {.organization_id = watched->organization_id, .service_id = watched->id};
    json_t *json = NULL;
    watched->next_ms = uv_now(health->settings.loop) + health->settings.limits->health_ms;
    if (reeve_read(health->settings.engine, &request, take_request, &json, &error) < 0 || !json)
        return;
    const char *operation_id = json_string_value(json_object_get(json, "operationId"));
    reeve_uuid_parse(operation_id, strlen(operation_id), &owner.operation_id);
    struct run *run = run_new(health->settings.exec, &owner, REEVE_OPERATION_KIND_UNSET, 1);
    if (run) {
        run->data = watched;
        run->owner_data = health;
        run_start(run, health->settings.loop, health->settings.config, "health", json, LOOK_TIMEOUT_MS, on_looked);
    }
    json_decref(json);
    if (!run || run->code) {
        say(health, REEVE_LOG_WARNING, "health: %s", run ? run->problem : "out of memory");
        health->stats.unknown++;
        if (run)
            run_free(run);
        return;
    }
    link_append(&health->looks, &run->link);
    watched->look = run;
    health->looks_count++;
    health->stats.looks++;
}

static void on_tick(uv_timer_t *timer)
{
    struct health *health = timer->data;
    const uint64_t now_ms = uv_now(health->settings.loop);
    struct link *next;
    for (struct link *link = health->all.next; link != &health->all; link = next) {
        struct watched *watched = link_owner(link, struct watched, link);
        next = link->next;
        judge_process(watched); /* the engine may have had no room for it */
        if (watched->untold)
            tell_activity(watched);
        if (watched->next_ms <= now_ms && !watched->busy && !watched->look && health->settings.can_look &&
            health->looks_count < health->settings.limits->health_at_once) {
            look(watched);
            link_append(&health->all, &watched->link); /* whose turn was longest ago comes first */
        }
    }
}

bool health_is_child(const struct health *health, int pid)
{
    if (!health)
        return false;
    for (const struct link *link = health->looks.next; link != &health->looks; link = link->next) {
        const struct run *run = link_owner(link, const struct run, link);
        if (run->alive && run->process.pid == pid)
            return true;
    }
    return false;
}

/* ---- What runs ---- */

/* The first looks at services that were found together are spread over the time between two. */
static uint64_t first_look_ms(const struct health *health, const struct reeve_uuid *id)
{
    return uv_now(health->settings.loop) + get_be64(id->bytes + 8) % health->settings.limits->health_ms;
}

static struct watched *watch(struct health *health, const struct reeve_service *service)
{
    struct watched *watched = map_get(&health->services, &service->id);
    if (watched)
        return watched;
    watched = calloc(1, sizeof *watched);
    if (!watched || !map_put(&health->services, &service->id, watched)) {
        free(watched);
        return NULL;
    }
    watched->health = health;
    watched->id = service->id;
    watched->organization_id = service->organization_id;
    watched->activity = -1;
    watched->next_ms = first_look_ms(health, &service->id);
    link_init(&watched->link);
    link_append(&health->all, &watched->link);
    health->stats.watched++;
    return watched;
}

static bool on_service(void *arg, const void *record)
{
    struct health *health = arg;
    const struct reeve_service *service = record;
    struct watched *watched = map_get(&health->services, &service->id);
    if (service->state != REEVE_SERVICE_STATE_RUNNING) {
        if (watched)
            unwatch(watched);
        return true;
    }
    watched = watch(health, service);
    if (!watched)
        return true; /* the next event brings it again */
    watched->generation = service->generation;
    watched->busy = service->operation.kind != REEVE_OPERATION_KIND_UNSET;
    if (!watched->busy) {
        find_process(watched);
        judge_process(watched);
    }
    return true;
}

static void on_event(struct reeve_watch *watch_, const struct reeve_event *event)
{
    struct health *health = watch_->data;
    const struct watched *watched = map_get(&health->services, &event->service_id);
    struct reeve_error error;
    if (reeve_uuid_is_nil(&event->service_id) || (!watched && event->to != REEVE_SERVICE_STATE_RUNNING))
        return;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET};
    request.params.service = (struct reeve_service_params){.organization_id = event->organization_id,
                                                           .service_id = event->service_id};
    if (reeve_read(health->settings.engine, &request, on_service, health, &error) == -REEVE_ERROR_NOT_FOUND && watched)
        unwatch(map_get(&health->services, &event->service_id));
}

static bool on_organization(void *arg, const void *record)
{
    struct health *health = arg;
    struct reeve_error error;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_LIST};
    request.params.service_list.organization_id = ((const struct reeve_organization *)record)->id;
    reeve_read(health->settings.engine, &request, on_service, health, &error);
    return true;
}

static int find_all(struct health *health, struct reeve_error *ret_error)
{
    const struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_LIST};
    return reeve_read(health->settings.engine, &request, on_organization, health, ret_error);
}

/* Events are gone: look at everything. Those that run no more are found by reading each. */
static void on_lagged(struct reeve_watch *watch_, uint64_t resume_sequence)
{
    struct health *health = watch_->data;
    struct reeve_error error;
    struct link *next;
    (void)resume_sequence;
    for (struct link *link = health->all.next; link != &health->all; link = next) {
        struct watched *watched = link_owner(link, struct watched, link);
        const struct reeve_request request = about(watched);
        next = link->next;
        if (reeve_read(health->settings.engine, &request, on_service, health, &error) == -REEVE_ERROR_NOT_FOUND)
            unwatch(watched);
    }
    if (find_all(health, &error) < 0)
        say(health, REEVE_LOG_WARNING, "health: services could not be read: %s", error.message);
}

/* ---- Opening, closing ---- */

int health_open(const struct health_settings *settings, struct health **ret_health, struct reeve_error *ret_error)
{
    struct health *health = calloc(1, sizeof *health);
    *ret_health = health;
    int r = health ? reeve_client_open(settings->engine, settings->loop, &health->client) : -REEVE_ERROR_NO_MEMORY;
    if (r < 0) {
        *ret_error = (struct reeve_error){.code = (enum reeve_error_code) - r, .field = "health"};
        snprintf(ret_error->message, sizeof ret_error->message, "%s", reeve_error_text(r));
        free(health);
        *ret_health = NULL;
        return r;
    }
    health->settings = *settings;
    link_init(&health->all);
    link_init(&health->looks);
    uv_timer_init(settings->loop, &health->tick);
    health->tick.data = health;
    health->handles_open = 1;
    uv_timer_start(&health->tick, on_tick, TICK_MS, TICK_MS);
    uv_unref((uv_handle_t *)&health->tick);
    health->watch = (struct reeve_watch){.on_event = on_event, .on_lagged = on_lagged, .data = health};
    r = reeve_watch_start(health->client, &health->watch, ret_error);
    return r == 0 ? find_all(health, ret_error) : r;
}

static void on_tick_closed(uv_handle_t *handle)
{
    struct health *health = handle->data;
    health->handles_open--;
    finish_if_done(health);
}

static void on_client_closed(void *arg)
{
    struct health *health = arg;
    health->client_closed = true;
    finish_if_done(health);
}

/* Looks that are under way end by themselves; the next daemon clears up after them. */
static void drop_looks(struct health *health)
{
    while (link_used(&health->looks)) {
        struct run *run = link_owner(health->looks.next, struct run, link);
        run->on_ended = NULL;
        run_free(run);
    }
}

void health_close(struct health *health, void (*on_closed)(void *arg), void *arg)
{
    health->closing = true;
    health->on_closed = on_closed;
    health->on_closed_arg = arg;
    drop_looks(health);
    while (link_used(&health->all)) {
        struct watched *watched = link_owner(health->all.next, struct watched, link);
        watched->look = NULL;
        unwatch(watched);
    }
    uv_close((uv_handle_t *)&health->tick, on_tick_closed);
    reeve_client_close(health->client, on_client_closed, health);
}

void health_get_stats(const struct health *health, struct exec_stats *ret_stats)
{
    *ret_stats = health ? health->stats : (struct exec_stats){0};
}
