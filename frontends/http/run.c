/* What is done for a route: a command goes to the engine or is read from the store. */
#include <stdio.h>
#include <string.h>

#include "frontends/http/server_private.h"

/* ---- Reading ---- */

struct reading {
    struct http_exchange *exchange;
    bool found;
};

/* A backup that is being deleted is gone for those who only know the API: it names three states. */
static bool is_hidden(const struct http_exchange *exchange, const void *record)
{
    return exchange->route->view == &record_type_backup &&
           ((const struct reeve_backup *)record)->state == REEVE_BACKUP_STATE_DELETING;
}

static bool on_record(void *arg, const void *record)
{
    struct reading *reading = arg;
    if (is_hidden(reading->exchange, record))
        return false;
    reading->found = true;
    answer_record(reading->exchange, reading->exchange->route->view, record);
    return false;
}

bool run_read(struct http_exchange *exchange, reeve_item_cb on_item, void *arg)
{
    struct reeve_error error = {0};
    const int r = reeve_read(exchange->server->engine, &exchange->base, on_item, arg, &error);
    if (r < 0)
        refuse_error(exchange, &error);
    return r == 0;
}

static void read_one(struct http_exchange *exchange)
{
    struct reading reading = {.exchange = exchange};
    if (run_read(exchange, on_record, &reading) && !reading.found)
        refuse(exchange, REEVE_ERROR_NOT_FOUND, "", "there is no such backup");
}

/* ---- Writing ---- */

static void on_done(struct reeve_request *base, const struct reeve_result *result)
{
    struct http_exchange *exchange = (struct http_exchange *)base;
    exchange->replayed = result->replayed;
    if (result->error.code != REEVE_OK) {
        refuse_error(exchange, &result->error);
    } else if (exchange->wait_ms && waiting_start(exchange, result)) {
        return;
    } else if (exchange->route->view == &record_type_none) {
        answer_nothing(exchange);
    } else {
        answer_record(exchange, exchange->route->view, &result->answer);
    }
    exchange_resume(exchange);
}

static void submit(struct http_exchange *exchange)
{
    exchange->base.actor = reeve_str(exchange->actor);
    exchange->base.on_done = on_done;
    exchange->state = EXCHANGE_WAITING;
    link_append(&exchange->server->submitting, &exchange->paused);
}

/* What came in the same turn of the loop is handed over together, and is one batch. */
void run_submit_all(struct http_server *server)
{
    while (link_used(&server->submitting)) {
        struct http_exchange *exchange = link_owner(server->submitting.next, struct http_exchange, paused);
        link_remove(&exchange->paused);
        const int r = reeve_submit(server->client, &exchange->base);
        if (r == 0)
            continue;
        refuse(exchange, (enum reeve_error_code)(-r), "", "%s", reeve_error_text(r));
        exchange_resume(exchange);
    }
}

/* ---- Routes ---- */

void run_command(struct http_exchange *exchange)
{
    if (!request_decode(exchange))
        return;
    switch (reeve_command_mode(exchange->base.command)) {
    case REEVE_MODE_WRITE:
    case REEVE_MODE_CHANGE:
        if (exchange->server->closing)
            refuse(exchange, REEVE_ERROR_CANCELLED, "", "%s", reeve_error_text(REEVE_ERROR_CANCELLED));
        else
            submit(exchange);
        return;
    case REEVE_MODE_READ:
        read_one(exchange);
        return;
    case REEVE_MODE_LIST:
        listing_run(exchange);
        return;
    }
}

void run_exchange(struct http_exchange *exchange)
{
    exchange->base.command = exchange->route->command;
    if (exchange->route->kind == ROUTE_KIND_COMMAND)
        run_command(exchange);
    else
        local_run(exchange);
}
