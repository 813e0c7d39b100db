/* A small host daemon: its own loop, its own provisioner and its own timer, with the engine in between.
 *
 *     host DIRECTORY
 *
 * It takes one service through a life (create, backup, stop, start, stop, delete), prints every event, counts time with
 * a timer of its own meanwhile, and ends. Everything of the host happens on the one thread of its loop: completions,
 * events, and the work itself, because the provisioner names that loop.
 */
#include <reeve.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define WORK_MS 20 /* how long an operation takes here */

static uv_loop_t loop;
static uv_timer_t heartbeat;
static unsigned heartbeats;
static struct reeve_engine *engine;
static struct reeve_client *client;
static struct reeve_watch watch;
static struct reeve_request request;
static struct reeve_uuid organization_id, service_id;
static unsigned step;
static int exit_code;

/* ---- The provisioner: a timer stands for the work ---- */

struct work {
    uv_timer_t timer;
    struct reeve_task *task;
};

static void on_work_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_work_done(uv_timer_t *timer)
{
    struct work *work = timer->data;
    struct reeve_task *task = work->task;
    const struct reeve_endpoint endpoints[] = {
        {.protocol = reeve_str("native"), .host = reeve_str("127.0.0.1"), .port = 9000}};
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE,
                                       .endpoints = {endpoints, 1},
                                       .handle = reeve_str("what the host wants to be reminded of"),
                                       .size_bytes = 4096};
    printf("    %s is done\n", reeve_operation_kind_name(task->kind));
    task->data = NULL; /* through with it */
    reeve_operation_finish(engine, &task->operation_id, task->attempt, &done);
    uv_close((uv_handle_t *)timer, on_work_closed);
}

static void on_start(void *arg, struct reeve_task *task)
{
    (void)arg;
    struct work *work = calloc(1, sizeof *work);
    if (!work)
        return; /* the engine's deadline sees to it */
    printf("    %s of %.*s, attempt %d\n", reeve_operation_kind_name(task->kind),
           task->service ? (int)task->service->name.size : 6, task->service ? task->service->name.data : "backup",
           (int)task->attempt);
    work->task = task;
    task->data = work;
    uv_timer_init(&loop, &work->timer);
    work->timer.data = work;
    uv_timer_start(&work->timer, on_work_done, WORK_MS, 0);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    (void)arg;
    struct work *work = task->data;
    const struct reeve_outcome cancelled = {.status = REEVE_OUTCOME_STATUS_CANCELLED};
    if (!work)
        return; /* it crossed with our answer */
    reeve_operation_finish(engine, &task->operation_id, task->attempt, &cancelled);
    uv_timer_stop(&work->timer);
    uv_close((uv_handle_t *)&work->timer, on_work_closed);
}

/* ---- The story ---- */

static void finish(int code)
{
    exit_code = code;
    reeve_watch_stop(&watch);
    reeve_client_close(client, NULL, NULL);
    uv_close((uv_handle_t *)&heartbeat, NULL);
}

static void on_done(struct reeve_request *done, const struct reeve_result *result)
{
    if (result->error.code) {
        fprintf(stderr, "%s: %s %s\n", reeve_command_name(done->command), reeve_error_name((int)result->error.code),
                result->error.message);
        finish(1);
        return;
    }
    if (done->command == REEVE_COMMAND_SERVICE_CREATE)
        service_id = result->answer.service_created.service.id;
}

static void submit(enum reeve_command command)
{
    request.command = command;
    request.on_done = on_done;
    request.actor = reeve_str("host");
    if (command != REEVE_COMMAND_SERVICE_CREATE)
        request.params.service = (struct reeve_service_params){.organization_id = organization_id,
                                                               .service_id = service_id};
    if (reeve_submit(client, &request) < 0)
        finish(1);
}

static void on_organization(struct reeve_request *done, const struct reeve_result *result)
{
    if (result->error.code) {
        on_done(done, result);
        return;
    }
    organization_id = result->answer.organization.id;
    request.params.service_create = (struct reeve_service_create_params){.organization_id = organization_id,
                                                                         .name = reeve_str("orders"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("eu-west-1"),
                                                                         .tier = REEVE_TIER_DEVELOPMENT};
    submit(REEVE_COMMAND_SERVICE_CREATE);
}

/* Each step waits for the event that ends the one before. */
static void on_event(struct reeve_watch *self, const struct reeve_event *event)
{
    static const struct {
        enum reeve_event_type after;
        enum reeve_command command;
    } story[] = {
        {REEVE_EVENT_TYPE_SERVICE_RUNNING, REEVE_COMMAND_BACKUP_CREATE},
        {REEVE_EVENT_TYPE_BACKUP_DONE, REEVE_COMMAND_SERVICE_STOP},
        {REEVE_EVENT_TYPE_SERVICE_STOPPED, REEVE_COMMAND_SERVICE_START},
        {REEVE_EVENT_TYPE_SERVICE_RUNNING, REEVE_COMMAND_SERVICE_STOP},
        {REEVE_EVENT_TYPE_SERVICE_STOPPED, REEVE_COMMAND_SERVICE_DELETE},
        {REEVE_EVENT_TYPE_SERVICE_GONE, REEVE_COMMAND_NONE},
    };
    (void)self;
    printf("%3d %s\n", (int)event->sequence, reeve_event_type_name(event->type));
    if (event->type != story[step].after)
        return;
    if (story[step].command == REEVE_COMMAND_NONE)
        finish(0);
    else
        submit(story[step++].command);
}

static void on_heartbeat(uv_timer_t *timer)
{
    (void)timer;
    heartbeats++;
}

int main(int argc, char **argv)
{
    const struct reeve_provisioner provisioner = {
        .version = REEVE_PROVISIONER_VERSION, .name = "host", .loop = &loop, .start = on_start, .cancel = on_cancel};
    const struct reeve_options options = {.data_dir = argc > 1 ? argv[1] : "./host-data", .provisioner = &provisioner};
    struct reeve_error error;
    uv_loop_init(&loop);
    if (reeve_open(&options, &engine, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    uv_timer_init(&loop, &heartbeat);
    uv_timer_start(&heartbeat, on_heartbeat, 5, 5);
    reeve_client_open(engine, &loop, &client);
    watch.on_event = on_event;
    reeve_watch_start(client, &watch, &error);

    request.command = REEVE_COMMAND_ORGANIZATION_CREATE;
    request.params.organization_create.name = reeve_str("acme");
    request.on_done = on_organization;
    reeve_submit(client, &request);
    uv_run(&loop, UV_RUN_DEFAULT);

    reeve_close(engine);
    uv_run(&loop, UV_RUN_DEFAULT); /* lets the engine's handle on this loop close */
    printf("ended after %u beats of the host's own timer\n", heartbeats);
    return uv_loop_close(&loop) == 0 ? exit_code : 1;
}
