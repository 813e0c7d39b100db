/* Prefer: wait=N. A change is durable when it is answered; who wants to can be answered when what follows from it is
 * done: a service or backup has come to rest. */
#include <stdlib.h>
#include <string.h>

#include "frontends/http/server_private.h"

struct look {
    struct http_exchange *exchange;
    bool at_rest; /* and then it has been answered */
    bool answer;  /* now, whatever it is doing */
};

static void answer_service(struct http_exchange *exchange, const struct reeve_service *service)
{
    const struct record_type *view = exchange->route->view;
    if (view == &record_type_service_created) {
        const struct reeve_service_created created = {.service = *service, .password = exchange->watching.password};
        answer_record(exchange, view, &created);
    } else if (view == &record_type_password) {
        const struct reeve_password password = {.password = exchange->watching.password};
        answer_record(exchange, view, &password);
    } else if (view == &record_type_service) {
        answer_record(exchange, view, service);
    } else {
        answer_nothing(exchange);
    }
}

static bool on_service(void *arg, const void *record)
{
    struct look *look = arg;
    const struct reeve_service *service = record;
    look->at_rest = service->operation.kind == REEVE_OPERATION_KIND_UNSET;
    if (look->at_rest || look->answer)
        answer_service(look->exchange, service);
    return false;
}

static bool on_backup(void *arg, const void *record)
{
    struct look *look = arg;
    const struct reeve_backup *backup = record;
    look->at_rest = backup->operation.kind == REEVE_OPERATION_KIND_UNSET;
    if ((look->at_rest || look->answer) && look->exchange->route->view == &record_type_backup)
        answer_record(look->exchange, &record_type_backup, backup);
    else if (look->at_rest || look->answer)
        answer_nothing(look->exchange);
    return false;
}

/* Look at what is waited for; true: it is answered. What is gone has come to rest, too. */
static bool look(struct http_exchange *exchange, bool answer)
{
    struct http_watching *watching = &exchange->watching;
    struct look look = {.exchange = exchange, .answer = answer};
    struct reeve_error error;
    const bool backup = !reeve_uuid_is_nil(&watching->backup_id);
    struct reeve_request request = {.command = backup ? REEVE_COMMAND_BACKUP_GET : REEVE_COMMAND_SERVICE_GET};
    if (backup)
        request.params.backup = (struct reeve_backup_params){.organization_id = exchange->identity.organization_id,
                                                             .service_id = watching->service_id,
                                                             .backup_id = watching->backup_id};
    else
        request.params.service = (struct reeve_service_params){.organization_id = exchange->identity.organization_id,
                                                               .service_id = watching->service_id};
    const int r = reeve_read(exchange->server->engine, &request, backup ? on_backup : on_service, &look, &error);
    if (r == 0)
        return look.at_rest || answer;
    if (r == -REEVE_ERROR_NOT_FOUND && exchange->route->view == &record_type_none)
        answer_nothing(exchange);
    else
        refuse_error(exchange, &error);
    return true;
}

static void finish(struct http_exchange *exchange, bool answer)
{
    if (!look(exchange, answer))
        return;
    waiting_release(exchange);
    exchange_resume(exchange);
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    (void)event;
    finish(watch->data, false);
}

static void on_late(uv_timer_t *timer)
{
    finish(timer->data, true);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

void waiting_release(struct http_exchange *exchange)
{
    struct http_watching *watching = &exchange->watching;
    if (!watching->timer)
        return;
    reeve_watch_stop(&watching->watch);
    uv_close((uv_handle_t *)watching->timer, on_timer_closed);
    watching->timer = NULL;
    link_remove(&watching->link);
    exchange->server->stats.streams--;
}

/* What the command was about. False: nothing that can be waited for. */
static bool find_target(struct http_exchange *exchange, const struct reeve_result *result)
{
    struct http_watching *watching = &exchange->watching;
    const struct record_type *answer = schema_command(exchange->base.command)->answer;
    if (answer == &record_type_service_created) {
        const struct reeve_str password = result->answer.service_created.password;
        watching->service_id = result->answer.service_created.service.id;
        watching->password.data = arena_copy(&exchange->arena, password.data, password.size);
        watching->password.size = watching->password.data ? password.size : 0;
    } else if (answer == &record_type_password) {
        const struct reeve_str password = result->answer.password.password;
        watching->service_id = exchange->base.params.service_set_password.service_id;
        watching->password.data = password.size ? arena_copy(&exchange->arena, password.data, password.size) : NULL;
        watching->password.size = watching->password.data ? password.size : 0;
    } else if (answer == &record_type_backup) {
        watching->service_id = result->answer.backup.service_id;
        watching->backup_id = result->answer.backup.id;
    } else if (exchange->base.command == REEVE_COMMAND_BACKUP_DELETE) {
        watching->service_id = exchange->base.params.backup.service_id;
        watching->backup_id = exchange->base.params.backup.backup_id;
    } else if (answer == &record_type_service) {
        watching->service_id = result->answer.service.id;
    } else if (exchange->base.command == REEVE_COMMAND_SERVICE_DELETE) {
        watching->service_id = exchange->base.params.service.service_id;
    }
    return !reeve_uuid_is_nil(&watching->service_id);
}

bool waiting_start(struct http_exchange *exchange, const struct reeve_result *result)
{
    struct http_server *server = exchange->server;
    struct http_watching *watching = &exchange->watching;
    struct reeve_error error;
    if (server->closing || server->stats.streams >= server->limits.streams_max || !find_target(exchange, result)) {
        exchange->wait_ms = 0; /* the preference is not applied, and the answer does not say so */
        return false;
    }
    watching->watch = (struct reeve_watch){.organization_id = exchange->identity.organization_id,
                                           .service_id = watching->service_id,
                                           .on_event = on_event,
                                           .data = exchange};
    watching->timer = malloc(sizeof *watching->timer);
    if (!watching->timer)
        return false;
    if (reeve_watch_start(server->client, &watching->watch, &error) < 0) {
        free(watching->timer);
        watching->timer = NULL;
        return false;
    }
    uv_timer_init(server->loop, watching->timer);
    watching->timer->data = exchange;
    link_append(&server->waiting, &watching->link);
    server->stats.streams++;
    uv_timer_start(watching->timer, on_late, exchange->wait_ms, 0);
    if (look(exchange, false)) { /* it may have come to rest before the watch began */
        waiting_release(exchange);
        exchange_resume(exchange);
    }
    return true;
}

void waiting_end_all(struct http_server *server)
{
    while (link_used(&server->waiting))
        finish(link_owner(server->waiting.next, struct http_exchange, watching.link), true);
}
