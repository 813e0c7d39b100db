/* What the slots do, one step after the other: by the answers and events that come, for each kind of work. */
#include "host.h"

static void on_done(struct reeve_request *request, const struct reeve_result *result);

static void submit(struct slot *slot, enum reeve_command command)
{
    struct host *host = slot->host;
    slot->request.command = command;
    slot->request.on_done = on_done;
    slot->request.data = slot;
    if (host->options->work != OPEN_LOOP)
        slot->sent_ns = bench_now_ns();
    slot->is_asked = true;
    const int r = reeve_submit(host->client, &slot->request);
    if (r < 0)
        host_fail(host, &(struct reeve_error){.code = (enum reeve_error_code) - r, .message = "not taken"});
}

static uint64_t stored_size(const struct record_type *type, const void *record)
{
    struct buffer bytes = {0};
    codec_encode_stored(type, record, &bytes);
    const size_t size = bytes.size;
    buffer_deinit(&bytes);
    return size;
}

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct slot *slot = request->data;
    struct host *host = slot->host;
    if (result->error.code) {
        host_fail(host, &result->error);
        return;
    }
    if (host->phase == HOST_MEASURING) {
        histogram_add(&host->result->latency, bench_now_ns() - slot->sent_ns);
        host->result->commands++;
    }
    slot->is_asked = false;
    host->steps->on_answer(slot, result);
    const struct reeve_event early = slot->early;
    slot->early = (struct reeve_event){0};
    if (early.type && !slot->is_asked)
        host->steps->on_event(slot, &early);
}

void host_event(struct host *host, const struct reeve_event *event)
{
    struct slot *slot = map_get(&host->by_service, &event->service_id);
    if (slot && !slot->is_asked) {
        if (event->type == REEVE_EVENT_TYPE_SERVICE_GONE || host->result->event_bytes == 0)
            host->result->event_bytes = stored_size(&record_type_event, event);
        host->steps->on_event(slot, event);
    } else if (slot) {
        slot->early = (struct reeve_event){
            .type = event->type, .service_id = event->service_id, .object_id = event->object_id};
    } else if (event->type == REEVE_EVENT_TYPE_SERVICE_RUNNING) {
        map_put(&host->early, &event->service_id, host);
    }
}

static void forget(struct slot *slot)
{
    map_remove(&slot->host->by_service, &slot->service_id);
    slot->owns_service = false;
}

static void command_on_service(struct slot *slot, enum reeve_command command)
{
    slot->request.params.service = (struct reeve_service_params){.organization_id = slot->host->organization_id,
                                                                 .service_id = slot->service_id};
    submit(slot, command);
}

void host_begin(struct slot *slot)
{
    slot->host->busy++;
    slot->host->steps->begin(slot);
}

void host_unit_done(struct slot *slot)
{
    struct host *host = slot->host;
    host->busy--;
    host->result->count += host->phase == HOST_MEASURING;
    if (host->options->work == OPEN_LOOP) {
        slot->next = host->free_slots;
        host->free_slots = slot;
    } else if (host->phase != HOST_DRAINING) {
        host_begin(slot);
    }
    if (host->phase == HOST_DRAINING && host->busy == 0)
        uv_stop(&host->loop);
}

/* ---- A service of the slot's own ---- */

static void create(struct slot *slot)
{
    host_create(slot->host, &slot->request);
    submit(slot, REEVE_COMMAND_SERVICE_CREATE);
}

static void on_created(struct slot *slot, const struct reeve_result *result)
{
    struct host *host = slot->host;
    if (slot->request.command != REEVE_COMMAND_SERVICE_CREATE)
        return;
    const struct reeve_service *service = &result->answer.service_created.service;
    slot->service_id = service->id;
    slot->owns_service = true;
    map_put(&host->by_service, &slot->service_id, slot);
    if (map_get(&host->early, &service->id))
        slot->early = (struct reeve_event){.type = REEVE_EVENT_TYPE_SERVICE_RUNNING, .service_id = service->id};
    map_remove(&host->early, &service->id);
    if (host->result->record_bytes == 0)
        host->result->record_bytes = stored_size(&record_type_service, service);
}

static void on_lifecycle_event(struct slot *slot, const struct reeve_event *event)
{
    if (event->type == REEVE_EVENT_TYPE_SERVICE_RUNNING) {
        command_on_service(slot, REEVE_COMMAND_SERVICE_STOP);
    } else if (event->type == REEVE_EVENT_TYPE_SERVICE_STOPPED) {
        command_on_service(slot, REEVE_COMMAND_SERVICE_DELETE);
    } else if (event->type == REEVE_EVENT_TYPE_SERVICE_GONE) {
        forget(slot);
        host_unit_done(slot);
    }
}

static void on_storm_event(struct slot *slot, const struct reeve_event *event)
{
    if (event->type != REEVE_EVENT_TYPE_SERVICE_RUNNING)
        return;
    forget(slot);
    host_unit_done(slot);
}

/* ---- Names that change ---- */

static void update(struct slot *slot)
{
    slot->odd = !slot->odd;
    slot->request.params.service_update = (struct reeve_service_update_params){
        .organization_id = slot->host->organization_id,
        .service_id = slot->service_id,
        .name = reeve_str(slot->odd ? "bench-a" : "bench-b")};
    submit(slot, REEVE_COMMAND_SERVICE_UPDATE);
}

static void begin_update(struct slot *slot)
{
    if (slot->owns_service)
        update(slot);
    else
        create(slot);
}

static void on_update_answer(struct slot *slot, const struct reeve_result *result)
{
    on_created(slot, result);
    if (slot->request.command != REEVE_COMMAND_SERVICE_UPDATE)
        return;
    if (slot->host->phase == HOST_DRAINING)
        command_on_service(slot, REEVE_COMMAND_SERVICE_DELETE);
    else
        host_unit_done(slot);
}

static void on_update_event(struct slot *slot, const struct reeve_event *event)
{
    if (event->type == REEVE_EVENT_TYPE_SERVICE_STOPPED && slot->host->phase != HOST_DRAINING)
        update(slot);
    else
        on_lifecycle_event(slot, event);
}

/* ---- Services that exist ---- */

static void start_or_stop(struct slot *slot)
{
    struct host *host = slot->host;
    do
        slot->index = bench_draw(&host->chance, host->count);
    while (host->are_busy[slot->index]);
    host->are_busy[slot->index] = true;
    slot->service_id = host->ids[slot->index];
    map_put(&host->by_service, &slot->service_id, slot);
    command_on_service(slot, host->are_running[slot->index] ? REEVE_COMMAND_SERVICE_STOP : REEVE_COMMAND_SERVICE_START);
}

static void on_start_stop_event(struct slot *slot, const struct reeve_event *event)
{
    struct host *host = slot->host;
    if (event->type != REEVE_EVENT_TYPE_SERVICE_STOPPED && event->type != REEVE_EVENT_TYPE_SERVICE_RUNNING)
        return;
    host->are_running[slot->index] = event->type == REEVE_EVENT_TYPE_SERVICE_RUNNING;
    host->are_busy[slot->index] = false;
    forget(slot);
    host_unit_done(slot);
}

/* Where nothing is to be done, no event comes, and the slot would wait for ever. */
static void on_start_stop_answer(struct slot *slot, const struct reeve_result *result)
{
    const struct reeve_service *service = &result->answer.service;
    if (slot->host->result->record_bytes == 0)
        slot->host->result->record_bytes = stored_size(&record_type_service, service);
    if (service->state != REEVE_SERVICE_STATE_STARTING && service->state != REEVE_SERVICE_STATE_STOPPING)
        host_fail(slot->host, &(struct reeve_error){.code = REEVE_ERROR_CONFLICT,
                                                    .message = "a service was neither running nor stopped"});
}

static bool is_found(void *arg, const void *record)
{
    (void)record;
    *(bool *)arg = true;
    return true;
}

static void read_then_change(struct slot *slot)
{
    struct host *host = slot->host;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET};
    struct reeve_error error;
    for (int i = 0; i < READS; i++) {
        bool found = false;
        const uint64_t started_ns = bench_now_ns();
        request.params.service = (struct reeve_service_params){
            .organization_id = host->organization_id, .service_id = host->ids[bench_draw(&host->chance, host->count)]};
        if (reeve_read(host->engine, &request, is_found, &found, &error) < 0 || !found)
            host_fail(host, &error);
        if (host->phase == HOST_MEASURING) {
            histogram_add(&host->result->latency, bench_now_ns() - started_ns);
            host->result->count++;
        }
    }
    start_or_stop(slot);
}

/* ---- Backups of a running service of the slot's own ---- */

static void begin_backup(struct slot *slot)
{
    if (slot->owns_service)
        command_on_service(slot, REEVE_COMMAND_BACKUP_CREATE);
    else
        create(slot);
}

static void on_backup_event(struct slot *slot, const struct reeve_event *event)
{
    struct host *host = slot->host;
    if (event->type == REEVE_EVENT_TYPE_BACKUP_DONE) {
        slot->request.params.backup = (struct reeve_backup_params){
            .organization_id = host->organization_id, .service_id = slot->service_id, .backup_id = event->object_id};
        submit(slot, REEVE_COMMAND_BACKUP_DELETE);
    } else if (event->type == REEVE_EVENT_TYPE_BACKUP_GONE && host->phase != HOST_DRAINING) {
        host_unit_done(slot);
    } else if (event->type == REEVE_EVENT_TYPE_BACKUP_GONE) {
        command_on_service(slot, REEVE_COMMAND_SERVICE_STOP);
    } else if (event->type == REEVE_EVENT_TYPE_SERVICE_RUNNING && host->phase != HOST_DRAINING) {
        begin_backup(slot);
    } else {
        on_lifecycle_event(slot, event);
    }
}

const struct work_steps host_steps[] = {
    [LIFECYCLES] = {create, on_created, on_lifecycle_event},
    [START_STOP] = {start_or_stop, on_start_stop_answer, on_start_stop_event},
    [CREATES] = {create, on_created, on_storm_event},
    [UPDATES] = {begin_update, on_update_answer, on_update_event},
    [READ_MIX] = {read_then_change, on_start_stop_answer, on_start_stop_event},
    [BACKUPS] = {begin_backup, on_created, on_backup_event},
    [OPEN_LOOP] = {start_or_stop, on_start_stop_answer, on_start_stop_event},
};
