#include "service.h"

#include <assert.h>
#include <stdio.h>

#include "backup.h"
#include "organization.h"
#include "rules.h"
#include "state_counts.h"

#define MINUTE_MS UINT64_C(60000)

void service_derive(struct reeve_service *service, const struct reeve_uuid *organization_id,
                    const struct reeve_uuid *service_id)
{
    service->organization_id = *organization_id;
    service->id = *service_id;
    /* The totals of the API are three times the memory of a replica, whatever their number. */
    service->min_total_memory_gb = 3 * service->min_replica_memory_gb;
    service->max_total_memory_gb = 3 * service->max_replica_memory_gb;
    service->is_primary = true;
    /* Records from before these fields were stored. */
    if (service->num_replicas == 0)
        service->num_replicas = service->tier == REEVE_TIER_DEVELOPMENT ? 1 : 3;
    if (service->release_channel == REEVE_RELEASE_CHANNEL_UNSET)
        service->release_channel = REEVE_RELEASE_CHANNEL_DEFAULT;
}

uint64_t service_due_ms(const struct reeve_service *service)
{
    uint64_t due = UINT64_MAX;
    if (service->operation.retry_at_ms)
        due = service->operation.retry_at_ms;
    if (service->state == REEVE_SERVICE_STATE_RUNNING) {
        if (service->idle_at_ms && service->idle_at_ms < due)
            due = service->idle_at_ms;
        if (service->backup_at_ms && service->backup_at_ms < due)
            due = service->backup_at_ms;
    }
    return due == UINT64_MAX ? 0 : due;
}

const char *service_check(const struct reeve_service *service)
{
    const struct reeve_operation *operation = &service->operation;
    const bool busy = operation_exists(operation);
    switch (lifecycle_class(service->state)) {
    case CLASS_BUSY:
        if (!busy)
            return "an operation must be under way in this state";
        break;
    case CLASS_REST:
        if (busy)
            return "no operation may be under way in this state";
        break;
    case CLASS_UP:
    case CLASS_IDLE:
        break;
    }
    const char *problem = operation_check(operation);
    if (problem)
        return problem;
    if (operation->kind == REEVE_OPERATION_KIND_BACKUP || operation->kind == REEVE_OPERATION_KIND_DELETE_BACKUP)
        return "the operation is of a backup";
    if (operation->desired > service->desired)
        return "an operation is for more than was asked for";
    if (service->state != REEVE_SERVICE_STATE_RUNNING && !reeve_uuid_is_nil(&service->current_backup))
        return "backups run only while the service is running";
    if (service->state != REEVE_SERVICE_STATE_RUNNING && service->idle_at_ms)
        return "the idle timer runs only while the service is running";
    if (service->state == REEVE_SERVICE_STATE_FAILED && service->failure.code.size == 0)
        return "a failed service has a reason";
    if (service->applied > service->desired)
        return "more was applied than was asked for";
    if (service->generation == 0 || service->created_ms == 0)
        return "generation and time of creation are required";
    if (service->generation == UINT64_MAX || service->desired == UINT64_MAX)
        return "changes are counted, and there were never so many";
    if (service->state == REEVE_SERVICE_STATE_NONE || service->state == REEVE_SERVICE_STATE_GONE)
        return "what is stored is in a state";
    struct reeve_error error;
    if (service->backup_configuration.start_time.size &&
        rule_backup_configuration(&service->backup_configuration, &error) < 0)
        return "its backups have a time that is none";
    return NULL;
}

bool service_load(struct core *core, const struct reeve_uuid *organization_id, const struct reeve_uuid *service_id,
                  struct service_edit *ret_edit)
{
    const struct store_key key = key_pair(organization_id, service_id);
    if (!core_load(core, TABLE_SERVICES, &key, &record_type_service, &ret_edit->record))
        return false;
    const char *problem = service_check(&ret_edit->record);
    if (problem) {
        core_damaged(core, "service", problem);
        return false;
    }
    service_derive(&ret_edit->record, organization_id, service_id);
    ret_edit->queued_before = ret_edit->record.operation.queued;
    ret_edit->state_before = ret_edit->record.state;
    ret_edit->due_before_ms = service_due_ms(&ret_edit->record);
    return true;
}

static struct operation_owner owner_of(const struct reeve_service *service)
{
    return (struct operation_owner){.organization_id = service->organization_id, .service_id = service->id};
}

void service_save(struct core *core, struct service_edit *edit)
{
    struct reeve_service *service = &edit->record;
    const struct store_key key = key_pair(&service->organization_id, &service->id);
    const bool gone = service->state == REEVE_SERVICE_STATE_GONE;
    struct reeve_str stored = {0};
    if (gone) {
        store_delete(core->store, TABLE_SERVICES, &key);
    } else {
        assert(core->fault < 0 || service_check(service) == NULL); /* with a fault the batch does not happen */
        const bool is_new = edit->state_before == REEVE_SERVICE_STATE_NONE;
        stored = (is_new ? core_insert : core_save)(core, TABLE_SERVICES, &key, &record_type_service, service);
    }
    const struct operation_owner owner = owner_of(service);
    state_counts_move_service(core, edit->state_before, service->state);
    operation_move_queue(core, &owner, edit->queued_before, &service->operation, stored);
    core_move_due(core, edit->due_before_ms, gone ? 0 : service_due_ms(service), DUE_SERVICE, &service->organization_id,
                  &service->id);
}

/* ---- Effects ---- */

static void begin_later(struct core *core, struct reeve_service *service, enum reeve_operation_kind kind,
                        uint64_t pause_ms)
{
    operation_begin(core, &service->operation, kind, pause_ms);
    service->operation.desired = service->desired;
}

static void begin(struct core *core, struct reeve_service *service, enum reeve_operation_kind kind)
{
    begin_later(core, service, kind, 0);
}

/* The next attempt is told what is wanted by now. */
static void requeue(struct core *core, struct reeve_service *service)
{
    operation_requeue(core, &service->operation);
    service->operation.desired = service->desired;
}

static void configure(struct core *core, struct reeve_service *service)
{
    if (!operation_exists(&service->operation) && service->desired > service->applied)
        begin(core, service, REEVE_OPERATION_KIND_CONFIGURE);
}

static void take_result(struct core *core, struct reeve_service *service, const struct step *step)
{
    const struct reeve_outcome *outcome = step->outcome;
    const enum reeve_operation_kind kind = service->operation.kind;
    if (kind == REEVE_OPERATION_KIND_PROVISION || kind == REEVE_OPERATION_KIND_START ||
        kind == REEVE_OPERATION_KIND_CONFIGURE)
        service->applied = step->flight->task.desired;
    if (outcome->endpoints.count)
        service->endpoints = outcome->endpoints;
    if (outcome->handle.size)
        service->handle = outcome->handle;
    if (outcome->version.size)
        service->version = outcome->version;
    service->operation = (struct reeve_operation){0};
    core->delta.operations_done++;
}

static void release_restore(struct core *core, struct reeve_service *service)
{
    if (service->provisioned || reeve_uuid_is_nil(&service->restored_from))
        return;
    backup_pin(core, &service->restored_service, &service->restored_from, -1);
}

static void arm_idle(struct core *core, struct reeve_service *service)
{
    service->idle_at_ms = service->idle_scaling ? core->now_ms + service->idle_timeout_minutes * MINUTE_MS : 0;
}

static void arm(struct core *core, struct reeve_service *service)
{
    if (!service->provisioned) {
        release_restore(core, service);
        service->provisioned = true;
    }
    service->failure = (struct reeve_failure){0};
    arm_idle(core, service);
    /* What came due while the service was not running is made up for soon, but not at once for everybody. */
    if (service->backup_at_ms == 0) {
        service->backup_at_ms = backup_next_ms(&service->backup_configuration, core->now_ms);
    } else if (service->backup_at_ms <= core->now_ms) {
        uint16_t random;
        core_random(core, &random, sizeof random);
        service->backup_at_ms = core->now_ms + MINUTE_MS + random % (9 * MINUTE_MS);
    }
    configure(core, service);
}

/* An idle timer that is pushed back at every activity would be a write each time: it is set a sixteenth later than it
 * must be, and moved only when that much is used up. Never early, late by that at most. */
static bool touch(struct core *core, struct reeve_service *service)
{
    if (!service->idle_scaling)
        return false;
    const uint64_t timeout_ms = service->idle_timeout_minutes * MINUTE_MS;
    if (service->idle_at_ms >= core->now_ms + timeout_ms)
        return false;
    service->idle_at_ms = core->now_ms + timeout_ms + timeout_ms / 16;
    return true;
}

/* What went wrong has been noted before the look-up, see service_ended(). */
static void retry(struct core *core, struct reeve_service *service, const struct step *step)
{
    operation_back_off(core, &service->operation, step->outcome->retry_after_ms);
    core->delta.operations_retried++;
}

static void fail(struct core *core, struct reeve_service *service)
{
    service->failure = service->operation.last_error;
    service->operation = (struct reeve_operation){0};
    backup_cancel(core, service, "service_failed", "the service has failed");
    service->idle_at_ms = 0;
    core->delta.operations_failed++;
}

static void leave_running(struct core *core, struct reeve_service *service, const char *code, const char *message)
{
    backup_cancel(core, service, code, message);
    service->idle_at_ms = 0;
}

static void start(struct core *core, struct reeve_service *service)
{
    service->failure = (struct reeve_failure){0};
    service->restarts = 0;
    begin(core, service, service->provisioned ? REEVE_OPERATION_KIND_START : REEVE_OPERATION_KIND_PROVISION);
}

/* At once for the first time; a server that stops working again and again is not to keep its host busy. */
static void start_again(struct core *core, struct reeve_service *service, const struct step *step)
{
    const struct reeve_limits *limits = &core->limits;
    leave_running(core, service, "service_lost", "the service stopped working");
    if (core->now_ms - service->lost_ms >= limits->restart_reset_ms)
        service->restarts = 0;
    const uint64_t pause_ms = service->restarts ? operation_pause_ms(core, limits->restart_min_ms,
                                                                     limits->restart_max_ms, service->restarts)
                                                : 0;
    service->restarts++;
    service->lost_ms = core->now_ms;
    service->failure = step->reason;
    begin_later(core, service, REEVE_OPERATION_KIND_START, pause_ms);
}

static void stop(struct core *core, struct reeve_service *service)
{
    leave_running(core, service, "service_stopped", "the service was stopped");
    service->failure = (struct reeve_failure){0};
    service->restarts = 0;
    begin(core, service, REEVE_OPERATION_KIND_STOP);
}

static void remove_service(struct core *core, struct reeve_service *service)
{
    release_restore(core, service);
    struct reeve_organization *organization = organization_find(core, &service->organization_id);
    if (organization && organization->service_count > 0) {
        organization->service_count--;
        organization_touch(core, organization);
    }
}

/* Returns false where, after all, nothing has changed. */
static bool apply_effect(struct core *core, struct reeve_service *service, enum lifecycle_effect effect,
                         const struct step *step)
{
    switch (effect) {
    case EFFECT_PROVISION:
        begin(core, service, REEVE_OPERATION_KIND_PROVISION);
        break;
    case EFFECT_START:
        start(core, service);
        break;
    case EFFECT_START_AGAIN:
        start_again(core, service, step);
        break;
    case EFFECT_STOP:
        stop(core, service);
        break;
    case EFFECT_SUSPEND:
        service->idle_at_ms = 0;
        begin(core, service, REEVE_OPERATION_KIND_SUSPEND);
        break;
    case EFFECT_DELETE:
        begin(core, service, REEVE_OPERATION_KIND_DELETE);
        break;
    case EFFECT_CONFIGURE:
        configure(core, service);
        break;
    case EFFECT_RETRY:
        retry(core, service, step);
        break;
    case EFFECT_ARM:
        take_result(core, service, step);
        arm(core, service);
        break;
    case EFFECT_SETTLE:
        take_result(core, service, step);
        if (lifecycle_class(service->state) != CLASS_REST)
            configure(core, service);
        break;
    case EFFECT_TOUCH:
        return touch(core, service);
    case EFFECT_FAIL:
        fail(core, service);
        break;
    case EFFECT_REMOVE:
        take_result(core, service, step);
        remove_service(core, service);
        break;
    case EFFECT_NONE:
    case EFFECT_SAME:
    case EFFECT_NOTHING:
    case EFFECT_BACKUP: /* begun by the caller, who wants the new record */
    case EFFECT_COUNT:
        break;
    }
    return true;
}

static struct reeve_str cut(struct reeve_str text, size_t size_max)
{
    return (struct reeve_str){text.data, utf8_cut(text.data, text.size, size_max)};
}

#define ACTOR_SIZE_MAX 100
#define MESSAGE_SIZE_MAX 500

static void step_event(struct core *core, const struct reeve_service *service, enum reeve_service_state from,
                       enum reeve_event_type type, const struct step *step)
{
    const struct reeve_operation *operation = &service->operation;
    struct reeve_event event = {
        .type = type,
        .organization_id = service->organization_id,
        .service_id = service->id,
        .object_id = step->input == INPUT_BACKUP ? service->current_backup : (struct reeve_uuid){{0}},
        .from = from,
        .to = service->state,
        .generation = service->generation,
        .actor = cut(step->actor, ACTOR_SIZE_MAX),
        .changed = step->changed,
    };
    if (step->input == INPUT_BACKUP)
        event.backup_to = REEVE_BACKUP_STATE_IN_PROGRESS;
    else if (operation_exists(operation)) {
        event.operation_kind = operation->kind;
        event.operation_id = operation->id;
        event.attempt = operation->attempt;
    }
    const struct reeve_failure *reason = step->input == INPUT_OP_RETRY ? &operation->last_error
                                         : step->input == INPUT_OP_FAILED || step->input == INPUT_HEALTH_LOST
                                             ? &service->failure
                                             : NULL;
    if (reason) {
        event.code = reason->code;
        event.message = cut(reason->message, MESSAGE_SIZE_MAX);
    }
    event_append(core, &event);
}

void service_event(struct core *core, const struct reeve_service *service, enum reeve_event_type type,
                   struct reeve_str actor)
{
    event_append(core, &(struct reeve_event){.type = type,
                                             .organization_id = service->organization_id,
                                             .service_id = service->id,
                                             .from = service->state,
                                             .to = service->state,
                                             .generation = service->generation,
                                             .actor = cut(actor, ACTOR_SIZE_MAX)});
}

static void log_step(struct core *core, const struct reeve_service *service, enum reeve_service_state from,
                     const struct step *step)
{
    if (core->log_level < REEVE_LOG_DEBUG)
        return;
    char id[37], operation[37];
    reeve_uuid_format(&service->id, id);
    reeve_uuid_format(&service->operation.id, operation);
    core_log(core, REEVE_LOG_DEBUG, "service=%s from=%s input=%s to=%s op=%s", id, reeve_service_state_name(from),
             lifecycle_input_name(step->input), reeve_service_state_name(service->state), operation);
}

int service_step(struct core *core, struct service_edit *edit, const struct step *step, bool *ret_changed,
                 struct reeve_error *ret_error)
{
    struct reeve_service *service = &edit->record;
    const enum reeve_service_state from = service->state;
    const struct lifecycle_rule *rule = lifecycle_step(from, step->input);
    *ret_changed = false;
    if (rule->effect == EFFECT_NONE) {
        core->delta.signals_ignored += !lifecycle_is_command(step->input);
        if (ret_error)
            lifecycle_conflict(from, step->input, ret_error);
        return -REEVE_ERROR_CONFLICT;
    }
    if (rule->effect == EFFECT_SAME)
        return 0;
    service->state = rule->next;
    if (service->state != from)
        service->changed_ms = core->now_ms;
    if (!apply_effect(core, service, rule->effect, step))
        return 0;
    *ret_changed = true;
    if (!rule->event)
        return 0; /* what nobody is told is no new generation either */
    service->generation++;
    core->delta.transitions++;
    step_event(core, service, from, rule->event, step);
    log_step(core, service, from, step);
    return 0;
}

/* ---- Ends of attempts, timers ---- */

static bool ends_attempt(enum reeve_outcome_status status, const struct core *core,
                         const struct reeve_operation *operation)
{
    return status == REEVE_OUTCOME_STATUS_FAILED || !operation_may_retry(core, operation);
}

static void service_ended(struct core *core, const struct flight *flight, const struct reeve_outcome *outcome)
{
    struct service_edit edit;
    if (!service_load(core, &flight->task.organization_id, &flight->task.service_id, &edit) ||
        !uuid_equal(&edit.record.operation.id, &flight->task.operation_id) ||
        edit.record.operation.attempt != flight->task.attempt) {
        core->delta.operations_late++;
        return;
    }
    struct step step = {.input = INPUT_OP_DONE, .flight = flight, .outcome = outcome};
    if (outcome->status != REEVE_OUTCOME_STATUS_DONE) {
        /* The time of all attempts counts from the first: known from here on. */
        operation_note_failure(core, &edit.record.operation, flight, outcome);
        step.input = ends_attempt(outcome->status, core, &edit.record.operation) ? INPUT_OP_FAILED : INPUT_OP_RETRY;
    }
    bool changed;
    if (service_step(core, &edit, &step, &changed, NULL) == 0 && changed)
        service_save(core, &edit);
}

void operation_ended(struct core *core, const struct flight *flight, const struct reeve_outcome *outcome)
{
    if (flight->task.kind == REEVE_OPERATION_KIND_BACKUP || flight->task.kind == REEVE_OPERATION_KIND_DELETE_BACKUP)
        backup_ended(core, flight, outcome);
    else
        service_ended(core, flight, outcome);
}

static void note_progress(struct core *core, struct reeve_operation *operation, const struct flight *flight,
                          const struct reeve_progress *progress)
{
    operation->progress = *progress;
    operation->progress.at_ms = core->now_ms;
    if (operation->started_ms == 0) {
        operation->started_ms = flight->started_ms;
        operation->deadline_ms = flight->started_ms + operation_total_ms(core, operation->kind);
    }
}

void operation_progressed(struct core *core, const struct flight *flight, const struct reeve_progress *progress)
{
    const struct reeve_task *task = &flight->task;
    if (task->kind == REEVE_OPERATION_KIND_BACKUP || task->kind == REEVE_OPERATION_KIND_DELETE_BACKUP) {
        struct backup_edit edit;
        if (backup_load(core, &task->service_id, &task->backup_id, &edit) &&
            uuid_equal(&edit.record.operation.id, &task->operation_id)) {
            note_progress(core, &edit.record.operation, flight, progress);
            backup_save(core, &edit);
        }
        return;
    }
    struct service_edit edit;
    if (service_load(core, &task->organization_id, &task->service_id, &edit) &&
        uuid_equal(&edit.record.operation.id, &task->operation_id)) {
        note_progress(core, &edit.record.operation, flight, progress);
        service_save(core, &edit);
    }
}

static bool scheduled_backup(struct core *core, struct service_edit *edit)
{
    struct reeve_service *service = &edit->record;
    service->backup_at_ms = backup_next_ms(&service->backup_configuration, core->now_ms);
    if (!reeve_uuid_is_nil(&service->current_backup) || service->backup_count >= core->limits.backups_per_service)
        return true; /* this time is left out */
    struct reeve_backup backup;
    bool changed;
    backup_begin(core, service, true, reeve_str("schedule"), &backup);
    const struct step step = {.input = INPUT_BACKUP, .actor = reeve_str("schedule")};
    return service_step(core, edit, &step, &changed, NULL) == 0;
}

/* Idle means: nothing is under way either. Otherwise it is looked at again a while later. */
static void idle_or_later(struct core *core, struct service_edit *edit)
{
    struct reeve_service *service = &edit->record;
    if (operation_exists(&service->operation) || !reeve_uuid_is_nil(&service->current_backup)) {
        arm_idle(core, service);
        return;
    }
    bool changed;
    service_step(core, edit, &(struct step){.input = INPUT_IDLE_DUE, .actor = reeve_str("idle timer")}, &changed, NULL);
}

void service_due(struct core *core, const struct reeve_uuid *organization_id, const struct reeve_uuid *service_id,
                 uint64_t due_ms)
{
    struct service_edit edit;
    if (!service_load(core, organization_id, service_id, &edit) || edit.due_before_ms != due_ms) {
        core_drop_due(core, "service", due_ms, DUE_SERVICE, organization_id, service_id);
        return;
    }
    struct reeve_service *service = &edit.record;
    if (service->operation.retry_at_ms && service->operation.retry_at_ms <= core->now_ms)
        requeue(core, service);
    if (service->state == REEVE_SERVICE_STATE_RUNNING && service->backup_at_ms && service->backup_at_ms <= core->now_ms)
        scheduled_backup(core, &edit);
    if (service->state == REEVE_SERVICE_STATE_RUNNING && service->idle_at_ms && service->idle_at_ms <= core->now_ms)
        idle_or_later(core, &edit);
    service_save(core, &edit);
}
