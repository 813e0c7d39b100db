#include "door.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "door_private.h"
#include "frontends/common/refuse.h"
#include "provisioners/exec/files.h"

#define TICK_MS 100
#define LISTEN_RETRY_TICKS 50

const struct option_type door_options[] = {
#define DOOR_LIMIT(c_name, flag, preset, min, max, unit, text)                                                         \
    {flag, offsetof(struct door_limits, c_name), preset, min, max, unit, text},
#include "limits.def"
};
const unsigned door_options_count = sizeof door_options / sizeof door_options[0];

#define KIND_COUNTER false
#define KIND_GAUGE true
const struct counter_type door_counters[] = {
#define DOOR_COUNTER(c_name, name, kind, text) {name, offsetof(struct door_stats, c_name), KIND_##kind, text},
#include "counters.def"
};
const unsigned door_counters_count = sizeof door_counters / sizeof door_counters[0];

void door_log(struct door *door, enum reeve_log_level level, const char *format, ...)
{
    char line[600];
    if (!door->log)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    door->log(door->log_arg, level, line);
}

/* ---- Services ---- */

struct door_service *service_new(struct door *door, const struct reeve_uuid *organization_id,
                                 const struct reeve_uuid *service_id)
{
    struct door_service *service = map_get(&door->services, service_id);
    if (service)
        return service;
    service = calloc(1, sizeof *service);
    if (!service || !map_put(&door->services, service_id, service)) {
        free(service);
        return NULL;
    }
    service->door = door;
    service->id = *service_id;
    service->organization_id = *organization_id;
    service->state = REEVE_SERVICE_STATE_PROVISIONING;
    link_init(&service->in_all);
    link_init(&service->in_moved);
    link_init(&service->held);
    link_init(&service->open);
    link_append(&door->all, &service->in_all);
    return service;
}

/* What still refers to it frees it when it is done. */
void service_free(struct door_service *service)
{
    if (!service->gone) {
        service->gone = true;
        map_remove(&service->door->services, &service->id);
        ports_close(service);
        link_remove(&service->in_all);
        link_remove(&service->in_moved);
        door_disconnect(service);
    }
    if (service->telling || link_used(&service->held) || link_used(&service->open))
        return;
    free(service->networks);
    free(service);
}

static void take_networks(struct door_service *service, const struct reeve_access_entry_list *list)
{
    struct network *networks = calloc(list->count + 1, sizeof *networks);
    if (!networks)
        return; /* the ones from before go on; the next change brings them again */
    free(service->networks);
    service->networks = networks;
    service->networks_count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (network_parse(list->items[i].source.data, list->items[i].source.size, &networks[service->networks_count]))
            service->networks_count++;
    }
}

static bool on_record(void *arg, const void *record)
{
    struct door_service *service = arg;
    const struct reeve_service *now = record;
    service->state = now->state;
    service->generation = now->generation;
    take_networks(service, &now->ip_access_list);
    return false;
}

bool service_refresh(struct door_service *service)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET};
    struct reeve_error error;
    request.params.service = (struct reeve_service_params){.organization_id = service->organization_id,
                                                           .service_id = service->id};
    const int r = reeve_read(service->door->engine, &request, on_record, service, &error);
    if (r == -REEVE_ERROR_NOT_FOUND)
        return false;
    if (r < 0)
        door_log(service->door, REEVE_LOG_WARNING, "door: a service could not be read: %s", error.message);
    return true;
}

static void forget(struct door_service *service)
{
    ports_release(service);
    service_free(service);
}

/* ---- Activity ---- */

bool service_is_up(const struct door_service *service)
{
    return service->state == REEVE_SERVICE_STATE_RUNNING || service->state == REEVE_SERVICE_STATE_DEGRADED;
}

static void on_told(struct reeve_request *request, const struct reeve_result *result)
{
    struct door_service *service = request->data;
    service->telling = false;
    if (service->gone)
        service_free(service);
    else if (result->error.code == REEVE_ERROR_STALE_GENERATION)
        service_moved(service); /* told again by and by, where it is up then; else an event tells what it is now */
}

static void tell_activity(struct door_service *service, uint64_t if_generation)
{
    struct door *door = service->door;
    link_remove(&service->in_moved);
    if (service->telling || door->closing || !door->started)
        return;
    service->activity = (struct reeve_request){
        .command = REEVE_COMMAND_SERVICE_ACTIVITY, .actor = reeve_str("door"), .on_done = on_told, .data = service};
    service->activity.params.service = (struct reeve_service_params){.organization_id = service->organization_id,
                                                                     .service_id = service->id};
    service->activity.meta.if_generation = if_generation;
    service->telling = reeve_submit(door->client, &service->activity) == 0;
    if (service->telling)
        service->told_ms = uv_now(door->loop);
}

/* What moved before it fell asleep does not wake it: it is told of the record that is known to be up, or not at all. */
static void tell_moved(struct door_service *service)
{
    if (service_is_up(service))
        tell_activity(service, service->generation);
    else
        link_remove(&service->in_moved);
}

void service_moved(struct door_service *service)
{
    struct door *door = service->door;
    if (!service->told_ms || uv_now(door->loop) - service->told_ms >= door->limits.activity_ms)
        tell_moved(service);
    else if (!link_used(&service->in_moved))
        link_append(&door->moved, &service->in_moved);
}

void service_wake(struct door_service *service)
{
    if (service->state != REEVE_SERVICE_STATE_IDLE) { /* it is on its way already */
        service_moved(service);
        return;
    }
    if (!service->telling)
        service->door->stats.wakes++;
    tell_activity(service, 0);
}

/* ---- What the engine tells ---- */

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct door *door = watch->data;
    struct door_service *service = map_get(&door->services, &event->service_id);
    if (!service)
        return;
    if (!service_refresh(service))
        forget(service);
    else
        door_go_on(service);
}

/* Events are gone: look at everything. */
static void on_lagged(struct reeve_watch *watch, uint64_t resume_sequence)
{
    struct door *door = watch->data;
    struct link *next;
    (void)resume_sequence;
    for (struct link *link = door->all.next; link != &door->all; link = next) {
        struct door_service *service = link_owner(link, struct door_service, in_all);
        next = link->next;
        if (!service_refresh(service))
            forget(service);
        else
            door_go_on(service);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct door *door = timer->data;
    const uint64_t now_ms = uv_now(door->loop);
    struct link *next;
    for (struct link *link = door->moved.next; link != &door->moved; link = next) {
        struct door_service *service = link_owner(link, struct door_service, in_moved);
        next = link->next;
        if (now_ms - service->told_ms >= door->limits.activity_ms)
            tell_moved(service);
    }
    for (struct link *link = door->all.next; link != &door->all; link = link->next) {
        struct door_service *service = link_owner(link, struct door_service, in_all);
        if (service->held_count)
            door_tick(service, now_ms);
        if (door->ticks % LISTEN_RETRY_TICKS == 0)
            ports_listen(service);
    }
    door->ticks++;
}

/* ---- Outcomes of the provisioner ---- */

static void show(struct door_service *service, struct reeve_outcome *outcome)
{
    struct door *door = service->door;
    for (unsigned i = 0; i < service->ports_count; i++) {
        const struct door_port *port = &service->ports[i];
        service->shown[i] = (struct reeve_endpoint){.protocol = reeve_str(port->protocol),
                                                    .host = reeve_str(door->host),
                                                    .port = port->port,
                                                    .username = reeve_str(port->username)};
    }
    outcome->endpoints = (struct reeve_endpoint_list){service->shown, service->ports_count};
}

void door_outcome(void *arg, const struct reeve_uuid *organization_id, const struct reeve_uuid *service_id,
                  enum reeve_operation_kind kind, struct reeve_outcome *outcome)
{
    struct door *door = arg;
    if (outcome->status != REEVE_OUTCOME_STATUS_DONE)
        return;
    if (door->closing) { /* it is told again to the next daemon, which can give it ports */
        *outcome = (struct reeve_outcome){.status = REEVE_OUTCOME_STATUS_RETRY,
                                          .code = reeve_str("closing"),
                                          .message = reeve_str("the daemon is closing")};
        return;
    }
    if (kind == REEVE_OPERATION_KIND_DELETE) {
        struct door_service *service = map_get(&door->services, service_id);
        if (service)
            forget(service);
        return;
    }
    if (outcome->endpoints.count == 0)
        return;
    const char *problem = "out of memory";
    struct door_service *service = service_new(door, organization_id, service_id);
    if (service && ports_assign(service, &outcome->endpoints, &problem)) {
        service_refresh(service);
        show(service, outcome);
        return;
    }
    *outcome = (struct reeve_outcome){
        .status = REEVE_OUTCOME_STATUS_RETRY, .code = reeve_str("door"), .message = reeve_str(problem)};
}

/* ---- Opening ---- */

static bool is_port(const char *text, char end, unsigned *ret_port)
{
    char *rest;
    const unsigned long port = strtoul(text, &rest, 10);
    *ret_port = (unsigned)port;
    return rest != text && *rest == end && port > 0 && port <= 65535;
}

/* "127.0.0.1:20000-20999", "[::1]:20000-20999" */
static int read_ports(struct door *door, const char *text, struct reeve_error *ret_error)
{
    const char *colon = strrchr(text, ':'), *dash = colon ? strchr(colon, '-') : NULL;
    const bool brackets = text[0] == '[' && colon && colon > text + 1 && colon[-1] == ']';
    const size_t size = colon ? (size_t)(colon - text) - (brackets ? 2 : 0) : 0;
    struct network network;
    if (!colon || !dash || size == 0 || size >= sizeof door->address || !is_port(colon + 1, '-', &door->port_first) ||
        !is_port(dash + 1, '\0', &door->port_last) || door->port_last < door->port_first)
        return refuse_field(ret_error, "door", "must be ADDRESS:FIRST-LAST like 127.0.0.1:20000-20999, not '%s'", text);
    memcpy(door->address, text + (brackets ? 1 : 0), size);
    door->port_next = door->port_first;
    if (!network_parse(door->address, size, &network) || memchr(door->address, '/', size))
        return refuse_field(ret_error, "door", "must have a numeric address, not '%s'", door->address);
    return 0;
}

static void set_limits(struct door_limits *limits, const struct door_limits *given)
{
    *limits = *given;
    for (unsigned i = 0; i < door_options_count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)limits + door_options[i].offset, sizeof value);
        if (value == 0)
            memcpy((char *)limits + door_options[i].offset, &door_options[i].preset, sizeof value);
    }
}

int door_new(const struct door_settings *settings, struct uv_loop_s *loop, struct door **ret_door,
             struct reeve_error *ret_error)
{
    struct door *door = calloc(1, sizeof *door);
    *ret_door = NULL;
    if (!door)
        return refuse_field(ret_error, "door", "out of memory");
    link_init(&door->all);
    link_init(&door->moved);
    door->loop = loop;
    door->log = settings->log;
    door->log_arg = settings->log_arg;
    door->state_dir = strdup(settings->state_dir);
    door->buffer = malloc(DOOR_BUFFER_BYTES);
    if (!door->state_dir || !door->buffer) {
        door_free(door);
        return refuse_field(ret_error, "door", "out of memory");
    }
    set_limits(&door->limits, &settings->limits);
    int r = read_ports(door, settings->ports, ret_error);
    snprintf(door->host, sizeof door->host, "%s", settings->host ? settings->host : door->address);
    const int made = r == 0 ? files_make_directories(door->state_dir) : 0;
    if (made < 0)
        r = refuse_field(ret_error, "door", "cannot make %.150s: %s", door->state_dir, strerror(-made));
    if (r == 0 && !ports_read_all(door, ret_error))
        r = -(int)ret_error->code;
    if (r < 0) {
        door_free(door);
        return r;
    }
    *ret_door = door;
    return 0;
}

int door_start(struct door *door, struct reeve_engine *engine, struct reeve_error *ret_error)
{
    door->engine = engine;
    const int r = reeve_client_open(engine, door->loop, &door->client);
    if (r < 0)
        return refuse_field(ret_error, "door", "%s", reeve_error_text(r));
    uv_timer_init(door->loop, &door->tick);
    door->tick.data = door;
    door->handles_open++;
    uv_timer_start(&door->tick, on_tick, TICK_MS, TICK_MS);
    door->started = true;
    door->watch = (struct reeve_watch){.on_event = on_event, .on_lagged = on_lagged, .data = door};
    if (reeve_watch_start(door->client, &door->watch, ret_error) < 0)
        return -(int)ret_error->code;
    on_lagged(&door->watch, 0);
    for (struct link *link = door->all.next; link != &door->all; link = link->next)
        ports_listen(link_owner(link, struct door_service, in_all));
    return 0;
}

void door_reload(struct door *door, const struct door_limits *limits)
{
    set_limits(&door->limits, limits);
}

void door_get_stats(const struct door *door, struct door_stats *ret_stats)
{
    *ret_stats = door->stats;
}

/* ---- Closing ---- */

static void finish_if_done(struct door *door)
{
    if (!door->closing || door->closed || door->handles_open > 0 || !door->client_closed)
        return;
    door->closed = true;
    if (door->on_closed)
        door->on_closed(door->on_closed_arg);
}

void door_handle_closed(struct door *door)
{
    door->handles_open--;
    finish_if_done(door);
}

static void on_tick_closed(uv_handle_t *handle)
{
    door_handle_closed(handle->data);
}

static void on_client_closed(void *arg)
{
    struct door *door = arg;
    door->client_closed = true;
    finish_if_done(door);
}

void door_close(struct door *door, void (*on_closed)(void *arg), void *arg)
{
    door->closing = true;
    door->on_closed = on_closed;
    door->on_closed_arg = arg;
    for (struct link *link = door->all.next; link != &door->all; link = link->next) {
        struct door_service *service = link_owner(link, struct door_service, in_all);
        ports_close(service);
        door_disconnect(service);
    }
    if (door->started)
        uv_close((uv_handle_t *)&door->tick, on_tick_closed);
    if (door->client)
        reeve_client_close(door->client, on_client_closed, door);
    else
        on_client_closed(door);
}

void door_free(struct door *door)
{
    if (!door)
        return;
    while (link_used(&door->all)) {
        struct door_service *service = link_owner(door->all.next, struct door_service, in_all);
        service->telling = false;
        service_free(service);
    }
    map_deinit(&door->services);
    free(door->state_dir);
    free(door->buffer);
    free(door);
}
