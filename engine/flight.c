#include "flight.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "operation.h"
#include "service.h"

#define ARENA_SIZE 2048 /* where a record does not fit into a flight */
#define RETRY_MS 500

/* What an organization has in flight. All its queue rows up to `place` are in flight or wait in a flight. */
struct org_flights {
    size_t count;
    uint64_t place;
};

/* An operation that might be launched. */
struct candidate {
    struct reeve_uuid organization_id, service_id, backup_id, operation_id;
    uint64_t number;
    struct reeve_str record; /* what waits for it as it is stored, or empty: it is read */
};

/* One round of launching: a read that is opened when first needed, the flights to start once it is closed. */
struct launch {
    struct core *core;
    bool is_newest; /* the batch: what it offers is wanted, and is as it says */
    struct store_read read;
    bool reading;
    bool unread; /* the candidate could not be looked at: nothing is known of it */
    struct flight *first, *last;
};

/* ---- The two lists, each in the order of its deadlines ---- */

/* Behind all whose deadline is not later: mostly the last ones, since what starts later ends later but for kinds of
 * operations that have limits of their own. */
static void list_insert(struct flight **first, struct flight **last, struct flight *flight)
{
    struct flight *before = *last;
    while (before && before->deadline_mono_ms > flight->deadline_mono_ms)
        before = before->previous;
    struct flight *after = before ? before->next : *first;
    flight->previous = before;
    flight->next = after;
    *(before ? &before->next : first) = flight;
    *(after ? &after->previous : last) = flight;
}

static void list_remove(struct flight **first, struct flight **last, struct flight *flight)
{
    if (flight->previous)
        flight->previous->next = flight->next;
    else
        *first = flight->next;
    if (flight->next)
        flight->next->previous = flight->previous;
    else
        *last = flight->previous;
    flight->previous = flight->next = NULL;
}

static void unlist(struct flights *flights, struct flight *flight)
{
    if (flight->cancelling)
        list_remove(&flights->cancelling_first, &flights->cancelling_last, flight);
    else if (!flight->paused)
        list_remove(&flights->flying_first, &flights->flying_last, flight);
}

void flight_release(struct flight *flight)
{
    if (atomic_fetch_sub(&flight->references, 1) > 1)
        return;
    arena_deinit(&flight->arena);
    free(flight);
}

uint64_t flight_started_ms(const struct flight *flight)
{
    return flight->started_ms;
}

void flights_deinit(struct core *core)
{
    struct flights *flights = &core->flights;
    for (size_t i = 0; i < flights->by_slot.capacity; i++) {
        if (flights->by_slot.slots[i].value)
            flight_release(flights->by_slot.slots[i].value);
    }
    for (size_t i = 0; i < flights->by_organization.capacity; i++)
        free(flights->by_organization.slots[i].value);
    map_deinit(&flights->by_operation);
    map_deinit(&flights->by_slot);
    map_deinit(&flights->by_organization);
}

/* ---- Launching ---- */

static bool begin_reading(struct launch *launch)
{
    if (!launch->reading)
        launch->reading = store_read_begin(launch->core->store, &launch->read) == 0;
    return launch->reading;
}

/* Damage stays; what cannot be read for another reason may be readable later. */
static bool may_pass(int error)
{
    return error == -REEVE_ERROR_NO_MEMORY || error == -REEVE_ERROR_UNAVAILABLE;
}

static bool read_stored(struct launch *launch, enum store_table table, const struct store_key *key,
                        struct reeve_str *ret_stored)
{
    const bool reading = begin_reading(launch);
    if (reading && store_read_get(&launch->read, table, key, ret_stored))
        return true;
    launch->unread |= !reading || may_pass(launch->read.error);
    return false;
}

/* From its stored form where that is known, else as the store has it now. */
static bool load_record(struct launch *launch, struct reeve_str stored, enum store_table table,
                        const struct store_key *key, const struct record_type *type, struct arena *arena,
                        void *ret_record)
{
    if (!stored.size && !read_stored(launch, table, key, &stored))
        return false;
    void *copy = arena_copy(arena, stored.data, stored.size);
    const int r = copy ? codec_decode_stored(type, copy, stored.size, arena, ret_record) : -REEVE_ERROR_NO_MEMORY;
    launch->unread |= may_pass(r);
    return r == 0;
}

static void load_service(struct launch *launch, struct flight *flight, const struct candidate *candidate,
                         struct reeve_str stored)
{
    const struct store_key key = key_pair(&candidate->organization_id, &candidate->service_id);
    if (!load_record(launch, stored, TABLE_SERVICES, &key, &record_type_service, &flight->arena, &flight->service))
        return;
    service_derive(&flight->service, &candidate->organization_id, &candidate->service_id);
    flight->task.service = &flight->service;
}

static bool load_backup(struct launch *launch, struct flight *flight, const struct reeve_uuid *service_id,
                        const struct reeve_uuid *backup_id, struct reeve_str stored)
{
    const struct store_key key = key_pair(service_id, backup_id);
    if (!load_record(launch, stored, TABLE_BACKUPS, &key, &record_type_backup, &flight->arena, &flight->backup))
        return false;
    flight->backup.id = *backup_id;
    flight->backup.service_id = *service_id;
    flight->task.backup = &flight->backup;
    flight->task.backup_id = *backup_id;
    return true;
}

/* The records of an operation of a service: its own, and that of the backup it is made from. NULL: there are none. */
static const struct reeve_operation *load_for_service(struct launch *launch, struct flight *flight,
                                                      const struct candidate *candidate)
{
    const struct reeve_service *service = &flight->service;
    load_service(launch, flight, candidate, candidate->record);
    if (!flight->task.service)
        return NULL;
    if (service->operation.kind == REEVE_OPERATION_KIND_PROVISION && !reeve_uuid_is_nil(&service->restored_from) &&
        !load_backup(launch, flight, &service->restored_service, &service->restored_from, (struct reeve_str){0}))
        return NULL;
    return &service->operation;
}

/* Of a backup: its own, and that of its service, which may be gone. */
static const struct reeve_operation *load_for_backup(struct launch *launch, struct flight *flight,
                                                     const struct candidate *candidate)
{
    if (!load_backup(launch, flight, &candidate->service_id, &candidate->backup_id, candidate->record))
        return NULL;
    if (flight->backup.operation.kind != REEVE_OPERATION_KIND_DELETE_BACKUP)
        load_service(launch, flight, candidate, (struct reeve_str){0});
    return &flight->backup.operation;
}

/* False: the operation is no longer wanted. */
static bool load_flight(struct launch *launch, struct flight *flight, const struct candidate *candidate)
{
    struct reeve_task *task = &flight->task;
    const struct reeve_operation *operation =
        (reeve_uuid_is_nil(&candidate->backup_id) ? load_for_service : load_for_backup)(launch, flight, candidate);
    if (!operation)
        return false;
    /* Replaced meanwhile; or tried already, and in its pause: then it is offered again. */
    if (!uuid_equal(&operation->id, &candidate->operation_id) || operation->queued != candidate->number)
        return false;
    task->operation_id = operation->id;
    task->kind = operation->kind;
    task->attempt = operation->attempt;
    task->timeout_ms = operation_timeout_ms(launch->core, operation->kind);
    /* Not what the record has by now: the same attempt may run since before a restart, and knows of nothing newer. */
    task->desired = operation->desired;
    task->organization_id = candidate->organization_id;
    task->service_id = candidate->service_id;
    return true;
}

static struct org_flights *org_flights_of(struct flights *flights, const struct reeve_uuid *organization_id)
{
    struct org_flights *org = map_get(&flights->by_organization, organization_id);
    if (org)
        return org;
    org = calloc(1, sizeof *org);
    if (org && !map_put(&flights->by_organization, organization_id, org)) {
        free(org);
        org = NULL;
    }
    return org;
}

static bool register_flight(struct core *core, struct flight *flight, const struct candidate *candidate)
{
    struct flights *flights = &core->flights;
    struct org_flights *org = org_flights_of(flights, &candidate->organization_id);
    if (!org)
        return false;
    if (!map_put(&flights->by_operation, &flight->task.operation_id, flight))
        return false;
    if (!map_put(&flights->by_slot, &flight->slot_id, flight)) {
        map_remove(&flights->by_operation, &flight->task.operation_id);
        return false;
    }
    org->count++;
    flights->count++;
    return true;
}

/* Memory is short, or the store cannot be read: it is tried again soon, also where nothing else happens by then. */
static bool not_now(struct core *core)
{
    core->flights.retry_mono_ms = core->mono_ms + RETRY_MS;
    return false;
}

/* Put an operation in flight whose slot is free. False: not now; a candidate that is no longer wanted is passed over
 * with true. */
static bool launch_one(struct launch *launch, const struct candidate *candidate)
{
    struct core *core = launch->core;
    struct flight *flight = malloc(sizeof *flight);
    if (!flight)
        return not_now(core);
    memset(flight, 0, offsetof(struct flight, service));
    atomic_init(&flight->references, 1);
    arena_init_on(&flight->arena, flight->memory, sizeof flight->memory, ARENA_SIZE);
    launch->unread = false;
    const bool wanted = load_flight(launch, flight, candidate);
    if (!wanted || launch->unread) {
        flight_release(flight);
        return !launch->unread || not_now(core);
    }
    const bool of_backup_alone = flight->task.kind == REEVE_OPERATION_KIND_DELETE_BACKUP;
    flight->slot_id = of_backup_alone ? candidate->backup_id : candidate->service_id;
    flight->started_ms = core->now_ms;
    flight->deadline_mono_ms = core->mono_ms + flight->task.timeout_ms;
    if (!register_flight(core, flight, candidate)) {
        flight_release(flight);
        return not_now(core);
    }
    list_insert(&core->flights.flying_first, &core->flights.flying_last, flight);
    atomic_fetch_add(&flight->references, 1); /* until it has been started, whatever happens meanwhile */
    if (launch->last)
        launch->last->task.data = flight;
    else
        launch->first = flight;
    launch->last = flight;
    return true;
}

/* Start outside the read: a provisioner may answer from within. task.data links the flights until then. */
static void launch_finish(struct launch *launch)
{
    if (launch->reading)
        store_read_end(&launch->read);
    for (struct flight *flight = launch->first, *next; flight; flight = next) {
        next = flight == launch->last ? NULL : flight->task.data;
        flight->task.data = NULL;
        launch->core->stats.operations_started++;
        launch->core->hooks.start(launch->core->hooks.arg, flight);
        flight_release(flight);
    }
}

/* The rows up to this one are in flight or wait in one. What waited may not say so: others may still be looked for that
 * stand before it. */
static void pass_row(struct flights *flights, const struct candidate *candidate)
{
    struct org_flights *org = map_get(&flights->by_organization, &candidate->organization_id);
    if (org && candidate->number > org->place)
        org->place = candidate->number;
}

/* ---- Waiting for a slot ---- */

static struct flight *slot_holder(struct flights *flights, const struct candidate *candidate)
{
    struct flight *holder = map_get(&flights->by_slot, &candidate->service_id);
    if (!holder && !reeve_uuid_is_nil(&candidate->backup_id))
        holder = map_get(&flights->by_slot, &candidate->backup_id);
    return holder;
}

/* The newer operation of a service, or of the same backup, takes the place of the older. */
static void wait_in(struct flight *holder, const struct candidate *candidate)
{
    struct waiting *waiting = &holder->waiting[reeve_uuid_is_nil(&candidate->backup_id) ? 0 : 1];
    holder->others_wait |= waiting->number != 0 && !uuid_equal(&waiting->backup_id, &candidate->backup_id);
    if (waiting->number < candidate->number)
        *waiting = (struct waiting){candidate->operation_id, candidate->backup_id, candidate->number};
}

/* False: the slot is free. It may be the operation itself that has it: looked through, the queue has what a batch
 * brings that is told of later. */
static bool wait_for_slot(struct flights *flights, const struct candidate *candidate)
{
    struct flight *holder = slot_holder(flights, candidate);
    const struct flight *itself = map_get(&flights->by_operation, &candidate->operation_id);
    if (holder && (!itself || itself->cancelling))
        wait_in(holder, candidate);
    return holder != NULL;
}

/* What waited for the slot gets it: the first that is still wanted; the other goes on waiting in its flight. False: one
 * could not be launched, and waits in none. */
static bool launch_waiting(struct launch *launch, const struct flight *landed)
{
    bool all = true;
    for (int i = 0; i < 2; i++) {
        const struct waiting *waiting = &landed->waiting[i];
        if (waiting->number == 0)
            continue;
        const struct candidate candidate = {landed->task.organization_id, landed->task.service_id, waiting->backup_id,
                                            waiting->operation_id,        waiting->number,         {0}};
        if (!wait_for_slot(&launch->core->flights, &candidate))
            all &= launch_one(launch, &candidate);
    }
    return all;
}

static void land(struct launch *launch, struct flight *flight)
{
    struct flights *flights = &launch->core->flights;
    unlist(flights, flight);
    map_remove(&flights->by_operation, &flight->task.operation_id);
    map_remove(&flights->by_slot, &flight->slot_id);
    flights->count--;
    const bool others_wait = !launch_waiting(launch, flight) || flight->others_wait;
    struct org_flights *org = map_get(&flights->by_organization, &flight->task.organization_id);
    assert(org && org->count > 0);
    if (--org->count == 0) {
        map_remove(&flights->by_organization, &flight->task.organization_id);
        free(org);
    } else if (others_wait) {
        org->place = 0;
    }
    flights->backlog |= others_wait;
    flight_release(flight);
}

static void cancel(struct core *core, struct flight *flight)
{
    if (flight->cancelling)
        return;
    unlist(&core->flights, flight);
    flight->cancelling = true;
    flight->overdue = false;
    flight->deadline_mono_ms = core->mono_ms + core->limits.cancel_grace_ms;
    list_insert(&core->flights.cancelling_first, &core->flights.cancelling_last, flight);
    core->hooks.cancel(core->hooks.arg, flight);
}

/* An operation that this batch made ready: straight into flight where nobody waits before it. */
static void take_offer(struct launch *launch, const struct offer *offer)
{
    struct core *core = launch->core;
    struct flights *flights = &core->flights;
    const struct candidate candidate = {
        offer->organization_id, offer->service_id, offer->backup_id,
        offer->operation_id,    offer->number,     launch->is_newest ? offer->record : (struct reeve_str){0}};
    if (flights->backlog || !core->hooks.has_provisioner) {
        flights->backlog = true;
        return;
    }
    if (wait_for_slot(flights, &candidate))
        return;
    const struct org_flights *org = map_get(&flights->by_organization, &offer->organization_id);
    if (flights->count >= core->limits.operations_max || (org && org->count >= core->limits.operations_per_org_max) ||
        !launch_one(launch, &candidate))
        flights->backlog = true;
    else
        pass_row(flights, &candidate);
}

/* ---- The backlog: round the organizations ---- */

static bool first_item(void *arg, const struct store_item *item)
{
    *(struct store_item *)arg = *item;
    return false;
}

/* The first queue row from a key on. */
static bool queue_seek(struct launch *launch, const struct store_key *from, struct candidate *ret)
{
    struct store_item item = {0};
    if (!begin_reading(launch))
        return false;
    store_read_each(&launch->read, TABLE_QUEUE, from, false, first_item, &item);
    if (!item.key || item.key_size != 24 || (item.value_size != 32 && item.value_size != 48))
        return false;
    const uint8_t *value = item.value;
    *ret = (struct candidate){.organization_id = uuid_at(item.key),
                              .service_id = uuid_at(value + 16),
                              .operation_id = uuid_at(value),
                              .number = get_be64(item.key + 16)};
    if (item.value_size == 48)
        ret->backup_id = uuid_at(value + 32);
    return true;
}

/* The organization after this one that has rows in the queue; round to the first. */
static bool next_organization(struct launch *launch, const struct reeve_uuid *after, struct candidate *ret)
{
    const struct store_key from = key_after_prefix(key_uuid(after));
    return (from.size > 0 && queue_seek(launch, &from, ret)) || queue_seek(launch, &(struct store_key){0}, ret);
}

enum take { TAKE_LAUNCHED, TAKE_NOTHING, TAKE_LIMITED };

/* The next operation of one organization that is neither in flight nor waiting in one. */
static enum take take_from(struct launch *launch, const struct reeve_uuid *organization_id)
{
    struct flights *flights = &launch->core->flights;
    struct candidate candidate;
    for (uint64_t place = 0;;) {
        const struct org_flights *org = map_get(&flights->by_organization, organization_id);
        place = org && org->place > place ? org->place : place;
        const struct store_key from = key_queue(organization_id, place + 1);
        if (!queue_seek(launch, &from, &candidate) || !uuid_equal(&candidate.organization_id, organization_id))
            return TAKE_NOTHING;
        if (org && org->count >= launch->core->limits.operations_per_org_max)
            return TAKE_LIMITED;
        if (!wait_for_slot(flights, &candidate)) {
            const size_t before = flights->count;
            if (!launch_one(launch, &candidate))
                return TAKE_LIMITED;
            pass_row(flights, &candidate);
            if (flights->count > before)
                return TAKE_LAUNCHED;
        }
        place = candidate.number;
        pass_row(flights, &candidate);
    }
}

/* There may be rows that could not be read. */
static bool is_cut_short(const struct launch *launch)
{
    const int error = launch->reading ? launch->read.error : -REEVE_ERROR_UNAVAILABLE;
    if (may_pass(error))
        not_now(launch->core);
    return error < 0;
}

/* One operation of each organization in turn, until the places are taken or nobody has any left. */
static void work_off_backlog(struct launch *launch)
{
    struct flights *flights = &launch->core->flights;
    struct candidate row;
    bool limited = false, launched = false;
    struct reeve_uuid round_start = {0};
    bool started = false;
    while (flights->count < launch->core->limits.operations_max) {
        if (!next_organization(launch, &flights->turn, &row)) {
            flights->backlog = is_cut_short(launch);
            return;
        }
        flights->turn = row.organization_id;
        if (started && uuid_equal(&row.organization_id, &round_start)) {
            if (!launched) {
                flights->backlog = limited || is_cut_short(launch);
                return;
            }
            launched = limited = false;
        }
        if (!started)
            round_start = row.organization_id;
        started = true;
        const enum take take = take_from(launch, &row.organization_id);
        launched |= take == TAKE_LAUNCHED;
        limited |= take == TAKE_LIMITED;
    }
}

void core_dispatch_batch(struct core *core, const struct core_batch *batch, uint64_t durable)
{
    struct launch launch = {.core = core, .is_newest = batch->number == durable};
    core->flights.retry_mono_ms = 0;
    for (struct action *action = batch->actions; action; action = action->next) {
        if (action->kind == ACTION_LAND) {
            land(&launch, action->flight);
        } else if (action->kind == ACTION_CANCEL) {
            struct flight *flight = map_get(&core->flights.by_operation, &action->operation_id);
            if (flight)
                cancel(core, flight);
        }
    }
    for (const struct offer *offer = batch->offers; offer; offer = offer->next) {
        if (offer->number) /* not withdrawn */
            take_offer(&launch, offer);
    }
    if (core->flights.backlog && core->hooks.has_provisioner)
        work_off_backlog(&launch);
    launch_finish(&launch);
    core->stats.operations_inflight = core->flights.count;
}

/* ---- Deadlines ---- */

static void land_later(struct core *core, struct flight *flight)
{
    struct action *action = core_action(core, ACTION_LAND);
    if (action)
        action->flight = flight;
}

void flights_due(struct core *core)
{
    struct flight *flight = core->flights.flying_first;
    for (; flight && flight->deadline_mono_ms <= core->mono_ms; flight = flight->next) {
        if (flight->reported || flight->overdue)
            continue;
        flight->overdue = true;
        core->delta.operations_timeout++;
        const struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_RETRY,
                                              .code = reeve_str("timeout"),
                                              .message = reeve_str("the attempt took longer than it may")};
        struct action *action = core_action(core, ACTION_CANCEL);
        if (action)
            action->operation_id = flight->task.operation_id;
        operation_ended(core, flight, &outcome);
    }
    flight = core->flights.cancelling_first;
    for (; flight && flight->deadline_mono_ms <= core->mono_ms; flight = flight->next) {
        if (flight->reported || flight->overdue)
            continue;
        flight->overdue = true;
        core_log(core, REEVE_LOG_WARNING, "a cancelled attempt did not end in time and is given up");
        land_later(core, flight);
    }
}

/* What is overdue comes to its end with a batch that is on its way. */
static uint64_t next_deadline(const struct flight *flight)
{
    while (flight && flight->overdue)
        flight = flight->next;
    return flight ? flight->deadline_mono_ms : UINT64_MAX;
}

uint64_t flights_next_deadline(const struct core *core)
{
    const uint64_t flying = next_deadline(core->flights.flying_first);
    const uint64_t cancelling = next_deadline(core->flights.cancelling_first);
    const uint64_t ends = flying < cancelling ? flying : cancelling, retry = core->flights.retry_mono_ms;
    return retry && retry < ends ? retry : ends;
}

void flights_roll_back(struct core *core)
{
    for (struct flight *flight = core->flights.flying_first; flight; flight = flight->next)
        flight->overdue = false;
    for (struct flight *flight = core->flights.cancelling_first; flight; flight = flight->next)
        flight->overdue = false;
}

static void take_progress(struct core *core, struct flight *flight, const struct report *report)
{
    if (flight->cancelling || flight->reported ||
        (flight->progress_mono_ms && core->mono_ms - flight->progress_mono_ms < 1000))
        return;
    flight->progress_mono_ms = core->mono_ms ? core->mono_ms : 1;
    operation_progressed(core, flight, &report->progress);
}

/* Time that passed while nobody was there to do the work does not count, neither for the attempt nor for all of them
 * together. Doing this twice, as when a batch is made again, does no more than doing it once. */
static void take_pause(struct core *core, struct flight *flight, bool paused)
{
    if (flight->cancelling || flight->reported || flight->paused == paused)
        return;
    unlist(&core->flights, flight);
    flight->paused = paused;
    if (paused)
        return;
    flight->started_ms = core->now_ms;
    flight->deadline_mono_ms = core->mono_ms + flight->task.timeout_ms;
    list_insert(&core->flights.flying_first, &core->flights.flying_last, flight);
}

void core_fetch_reports(struct core *core, const struct report *reports)
{
    const struct flight *flights[STORE_FETCH_MAX];
    struct store_key keys[STORE_FETCH_MAX];
    size_t count = 0, found = 0;
    for (const struct report *report = reports; report && count < STORE_FETCH_MAX; report = report->next, count++)
        map_fetch(&core->flights.by_operation, &report->operation_id);
    for (; count > 0; reports = reports->next, count--) {
        flights[found] = map_get(&core->flights.by_operation, &reports->operation_id);
        __builtin_prefetch(flights[found]);
        found += flights[found] != NULL;
    }
    for (size_t i = 0; i < found; i++)
        keys[i] = key_pair(&flights[i]->task.organization_id, &flights[i]->task.service_id);
    store_fetch(core->store, TABLE_SERVICES, keys, found);
}

void core_report(struct core *core, struct report *report)
{
    struct flight *flight = map_get(&core->flights.by_operation, &report->operation_id);
    /* Given up by a batch that is on its way: it lands with that one, and only once. */
    const bool given_up = flight && flight->cancelling && flight->overdue;
    if (!flight || flight->task.attempt != report->attempt || (flight->reported && report->flight != flight) ||
        given_up) {
        core->delta.operations_late += report->kind == REPORT_OUTCOME;
        return;
    }
    if (report->kind == REPORT_PROGRESS) {
        take_progress(core, flight, report);
        return;
    }
    if (report->kind != REPORT_OUTCOME) {
        take_pause(core, flight, report->kind == REPORT_PAUSE);
        return;
    }
    flight->reported = true;
    report->flight = flight;
    land_later(core, flight);
    if (flight->cancelling)
        core->delta.operations_late++;
    else
        operation_ended(core, flight, &report->outcome);
}
