#include <reeve.h>
#include <stdio.h>
#include <uv.h>

static struct reeve_engine *engine;
static struct reeve_client *client;
static struct reeve_request request;

/* The provisioner: what makes a service real. This one has nothing to do. */
static void start(void *arg, struct reeve_task *task)
{
    const struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_DONE};
    reeve_operation_finish(*(struct reeve_engine **)arg, &task->operation_id, task->attempt, &outcome);
}

static void cancel(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    printf("%s: %s\n", reeve_event_type_name(event->type), reeve_service_state_name(event->to));
    if (event->to == REEVE_SERVICE_STATE_RUNNING) {
        reeve_watch_stop(watch);
        reeve_client_close(client, NULL, NULL);
    }
}

static void on_service(struct reeve_request *done, const struct reeve_result *result)
{
    (void)done; /* durable by now, or refused */
    printf("create: %s %s\n", reeve_error_name((int)result->error.code), result->error.message);
}

static void on_organization(struct reeve_request *done, const struct reeve_result *result)
{
    done->command = REEVE_COMMAND_SERVICE_CREATE;
    done->params.service_create = (struct reeve_service_create_params){
        .organization_id = result->answer.organization.id,
        .name = reeve_str("first"),
        .provider = reeve_str("aws"),
        .region = reeve_str("us-east-1")};
    done->on_done = on_service;
    reeve_submit(client, done);
}

int main(int argc, char **argv)
{
    const struct reeve_provisioner provisioner = {
        .version = REEVE_PROVISIONER_VERSION, .arg = &engine, .start = start, .cancel = cancel};
    const struct reeve_options options = {.data_dir = argc > 1 ? argv[1] : "./reeve-data", .provisioner = &provisioner};
    struct reeve_watch watch = {.on_event = on_event};
    struct reeve_error error;
    if (reeve_open(&options, &engine, &error) < 0)
        return fprintf(stderr, "%s\n", error.message), 1;
    reeve_client_open(engine, uv_default_loop(), &client);
    reeve_watch_start(client, &watch, &error);
    request.command = REEVE_COMMAND_ORGANIZATION_CREATE;
    request.params.organization_create.name = reeve_str("acme");
    request.on_done = on_organization;
    reeve_submit(client, &request);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    reeve_close(engine);
    return 0;
}
