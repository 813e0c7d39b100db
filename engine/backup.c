#include "backup.h"

#include <assert.h>

#include "rules.h"
#include "state_counts.h"

#define HOUR_MS UINT64_C(3600000)

uint64_t backup_due_ms(const struct reeve_backup *backup)
{
    if (backup->operation.retry_at_ms)
        return backup->operation.retry_at_ms;
    return backup->state == REEVE_BACKUP_STATE_DONE || backup->state == REEVE_BACKUP_STATE_ERROR ? backup->expires_ms
                                                                                                 : 0;
}

const char *backup_check(const struct reeve_backup *backup)
{
    const bool busy = operation_exists(&backup->operation);
    const bool wants = backup->state == REEVE_BACKUP_STATE_IN_PROGRESS || backup->state == REEVE_BACKUP_STATE_DELETING;
    if (busy != wants)
        return wants ? "an operation must be under way in this state" : "no operation may be under way in this state";
    const char *problem = operation_check(&backup->operation);
    if (problem)
        return problem;
    if (busy &&
        backup->operation.kind != (backup->state == REEVE_BACKUP_STATE_DELETING ? REEVE_OPERATION_KIND_DELETE_BACKUP
                                                                                : REEVE_OPERATION_KIND_BACKUP))
        return "the operation under way is not that of its state";
    if (backup->generation == 0 || backup->generation == UINT64_MAX)
        return "changes are counted from 1, and there were never so many";
    if ((backup->finished_ms != 0) != (backup->state != REEVE_BACKUP_STATE_IN_PROGRESS))
        return "only a finished backup has the time it finished";
    if (!wants && backup->expires_ms == 0)
        return "a finished backup has an end of its retention";
    if (backup->state == REEVE_BACKUP_STATE_NONE || backup->state == REEVE_BACKUP_STATE_GONE)
        return "what is stored is in a state";
    return NULL;
}

static struct operation_owner owner_of(const struct reeve_backup *backup)
{
    return (struct operation_owner){backup->organization_id, backup->service_id, backup->id};
}

bool backup_load(struct core *core, const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id,
                 struct backup_edit *ret_edit)
{
    const struct store_key key = key_pair(service_id, backup_id);
    if (!core_load(core, TABLE_BACKUPS, &key, &record_type_backup, &ret_edit->record))
        return false;
    const char *problem = backup_check(&ret_edit->record);
    if (problem) {
        core_damaged(core, "backup", problem);
        return false;
    }
    ret_edit->record.service_id = *service_id;
    ret_edit->record.id = *backup_id;
    ret_edit->queued_before = ret_edit->record.operation.queued;
    ret_edit->state_before = ret_edit->record.state;
    ret_edit->due_before_ms = backup_due_ms(&ret_edit->record);
    return true;
}

void backup_save(struct core *core, struct backup_edit *edit)
{
    struct reeve_backup *backup = &edit->record;
    const struct store_key key = key_pair(&backup->service_id, &backup->id), index = key_uuid(&backup->id);
    const bool gone = backup->state == REEVE_BACKUP_STATE_GONE;
    struct reeve_str stored = {0};
    if (gone) {
        store_delete(core->store, TABLE_BACKUPS, &key);
        store_delete(core->store, TABLE_BACKUP_INDEX, &index);
    } else {
        assert(core->fault < 0 || backup_check(backup) == NULL);
        stored = core_save(core, TABLE_BACKUPS, &key, &record_type_backup, backup);
        if (backup->generation == 1)
            store_put(core->store, TABLE_BACKUP_INDEX, &index, &backup->service_id, sizeof backup->service_id);
    }
    const struct operation_owner owner = owner_of(backup);
    state_counts_move_backup(core, edit->state_before, backup->state);
    operation_move_queue(core, &owner, edit->queued_before, &backup->operation, stored);
    core_move_due(core, edit->due_before_ms, gone ? 0 : backup_due_ms(backup), DUE_BACKUP, &backup->service_id,
                  &backup->id);
}

/* ---- The step ---- */

struct backup_turn {
    enum backup_input input;
    struct reeve_str actor;
    const struct flight *flight;
    const struct reeve_outcome *outcome;
    struct reeve_failure reason; /* CANCEL */
};

static void finish(struct core *core, struct reeve_backup *backup)
{
    if (backup->finished_ms == 0)
        backup->finished_ms = core->now_ms;
    backup->expires_ms = core->now_ms + backup->retention_hours * HOUR_MS;
}

/* What went wrong has been noted before the look-up, see backup_ended(). */
static void fail(struct core *core, struct reeve_backup *backup)
{
    backup->failure = backup->operation.last_error;
    backup->operation = (struct reeve_operation){0};
    core->delta.operations_failed++;
    finish(core, backup);
}

static void apply_effect(struct core *core, struct reeve_backup *backup, enum backup_effect effect,
                         const struct backup_turn *turn)
{
    switch (effect) {
    case BACKUP_EFFECT_COPY:
        operation_begin(core, &backup->operation, REEVE_OPERATION_KIND_BACKUP, 0);
        break;
    case BACKUP_EFFECT_KEEP:
        backup->size_bytes = turn->outcome->size_bytes;
        backup->handle = turn->outcome->handle;
        backup->operation = (struct reeve_operation){0};
        core->delta.operations_done++;
        finish(core, backup);
        break;
    case BACKUP_EFFECT_FAIL:
        fail(core, backup);
        break;
    case BACKUP_EFFECT_ABORT:
        backup->failure = turn->reason;
        operation_drop(core, &backup->operation);
        finish(core, backup);
        break;
    case BACKUP_EFFECT_RETRY:
        operation_back_off(core, &backup->operation, turn->outcome->retry_after_ms);
        core->delta.operations_retried++;
        break;
    case BACKUP_EFFECT_DELETE:
        backup->expires_ms = 0;
        operation_begin(core, &backup->operation, REEVE_OPERATION_KIND_DELETE_BACKUP, 0);
        break;
    case BACKUP_EFFECT_REMOVE:
        backup->operation = (struct reeve_operation){0};
        core->delta.operations_done++;
        break;
    case BACKUP_EFFECT_NONE:
    case BACKUP_EFFECT_COUNT:
        break;
    }
}

static void append_event(struct core *core, const struct reeve_backup *backup, enum reeve_event_type type,
                         const struct backup_turn *turn)
{
    const struct reeve_operation *operation = &backup->operation;
    const struct reeve_failure *reason = turn->input == BACKUP_INPUT_OP_RETRY ? &operation->last_error
                                                                              : &backup->failure;
    struct reeve_event event = {
        .type = type,
        .organization_id = backup->organization_id,
        .service_id = backup->service_id,
        .object_id = backup->id,
        .backup_to = backup->state,
        .generation = backup->generation,
        .actor = turn->actor,
        .operation_kind = operation->kind,
        .operation_id = operation->id,
        .attempt = operation->attempt,
    };
    if (type == REEVE_EVENT_TYPE_BACKUP_ERROR || type == REEVE_EVENT_TYPE_BACKUP_RETRY) {
        event.code = reason->code;
        event.message = reason->message;
    }
    event_append(core, &event);
}

/* The only code that changes the state of a backup. A new one is announced by the step of its service. */
static int take_step(struct core *core, struct backup_edit *edit, const struct backup_turn *turn,
                     struct reeve_error *ret_error)
{
    struct reeve_backup *backup = &edit->record;
    const struct backup_rule *rule = backup_step(backup->state, turn->input);
    if (rule->effect == BACKUP_EFFECT_NONE) {
        if (ret_error)
            backup_conflict(backup->state, turn->input, ret_error);
        return -REEVE_ERROR_CONFLICT;
    }
    backup->state = rule->next;
    apply_effect(core, backup, rule->effect, turn);
    backup->generation++;
    core->delta.transitions++;
    if (turn->input != BACKUP_INPUT_CREATE)
        append_event(core, backup, rule->event, turn);
    return 0;
}

/* ---- With its service ---- */

/* The service learns that its job has ended, or that one backup is less. `self`: it is in the caller's hands. */
static void tell_service(struct core *core, const struct reeve_backup *backup, struct reeve_service *self)
{
    struct service_edit edit;
    struct reeve_service *service = self;
    if (!self) {
        if (!service_load(core, &backup->organization_id, &backup->service_id, &edit))
            return; /* gone: its backups outlive it */
        service = &edit.record;
    }
    bool changed = false;
    if (uuid_equal(&service->current_backup, &backup->id) && backup->state != REEVE_BACKUP_STATE_IN_PROGRESS) {
        service->current_backup = (struct reeve_uuid){0};
        changed = true;
    }
    if (backup->state == REEVE_BACKUP_STATE_GONE && service->backup_count > 0) {
        service->backup_count--;
        changed = true;
    }
    if (!self && changed)
        service_save(core, &edit);
}

void backup_begin(struct core *core, struct reeve_service *service, bool scheduled, struct reeve_str actor,
                  struct reeve_backup *ret_backup)
{
    struct backup_edit edit = {.record = {.id = core_new_id(core),
                                          .service_id = service->id,
                                          .organization_id = service->organization_id,
                                          .started_ms = core->now_ms,
                                          .provider = service->provider,
                                          .region = service->region,
                                          .tier = service->tier,
                                          .scheduled = scheduled,
                                          .retention_hours = service->backup_configuration.retention_hours}};
    take_step(core, &edit, &(struct backup_turn){.input = BACKUP_INPUT_CREATE, .actor = actor}, NULL);
    backup_save(core, &edit);
    service->current_backup = edit.record.id;
    service->backup_count++;
    *ret_backup = edit.record;
}

void backup_cancel(struct core *core, struct reeve_service *service, const char *code, const char *message)
{
    struct backup_edit edit;
    if (reeve_uuid_is_nil(&service->current_backup))
        return;
    if (!backup_load(core, &service->id, &service->current_backup, &edit)) {
        core_fault(core, -REEVE_ERROR_STORE_DAMAGED);
        return;
    }
    const struct backup_turn turn = {
        .input = BACKUP_INPUT_CANCEL,
        .reason = {.code = reeve_str(code), .message = reeve_str(message), .at_ms = core->now_ms},
    };
    if (take_step(core, &edit, &turn, NULL) == 0)
        backup_save(core, &edit);
    tell_service(core, &edit.record, service);
}

void backup_pin(struct core *core, const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id, int by)
{
    struct backup_edit edit;
    if (!backup_load(core, service_id, backup_id, &edit))
        return;
    if (by > 0)
        edit.record.restores++;
    else if (edit.record.restores > 0)
        edit.record.restores--;
    backup_save(core, &edit);
}

/* ---- Signals ---- */

void backup_ended(struct core *core, const struct flight *flight, const struct reeve_outcome *outcome)
{
    struct backup_edit edit;
    if (!backup_load(core, &flight->task.service_id, &flight->task.backup_id, &edit) ||
        !uuid_equal(&edit.record.operation.id, &flight->task.operation_id) ||
        edit.record.operation.attempt != flight->task.attempt) {
        core->delta.operations_late++;
        return;
    }
    struct backup_turn turn = {.input = BACKUP_INPUT_OP_DONE, .flight = flight, .outcome = outcome};
    if (outcome->status != REEVE_OUTCOME_STATUS_DONE) {
        operation_note_failure(core, &edit.record.operation, flight, outcome);
        turn.input = outcome->status == REEVE_OUTCOME_STATUS_FAILED ||
                             !operation_may_retry(core, &edit.record.operation)
                         ? BACKUP_INPUT_OP_FAILED
                         : BACKUP_INPUT_OP_RETRY;
    }
    if (take_step(core, &edit, &turn, NULL) < 0)
        return;
    backup_save(core, &edit);
    tell_service(core, &edit.record, NULL);
}

void backup_due(struct core *core, const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id,
                uint64_t due_ms)
{
    struct backup_edit edit;
    if (!backup_load(core, service_id, backup_id, &edit) || edit.due_before_ms != due_ms) {
        core_drop_due(core, "backup", due_ms, DUE_BACKUP, service_id, backup_id);
        return;
    }
    struct reeve_backup *backup = &edit.record;
    if (backup->operation.retry_at_ms)
        operation_requeue(core, &backup->operation);
    else if (backup->restores)
        backup->expires_ms = core->now_ms + HOUR_MS; /* a restore still needs it */
    else
        take_step(core, &edit, &(struct backup_turn){.input = BACKUP_INPUT_EXPIRE, .actor = reeve_str("retention")},
                  NULL);
    backup_save(core, &edit);
}

/* ---- Commands ---- */

int backup_create(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_params *params = &request->params.service;
    struct service_edit edit;
    if (!service_load(core, &params->organization_id, &params->service_id, &edit))
        return error_set(&result->error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such service");
    struct reeve_service *service = &edit.record;
    if (lifecycle_step(service->state, INPUT_BACKUP)->effect == EFFECT_NONE) {
        lifecycle_conflict(service->state, INPUT_BACKUP, &result->error);
        return -REEVE_ERROR_CONFLICT;
    }
    if (!reeve_uuid_is_nil(&service->current_backup)) {
        char id[37];
        reeve_uuid_format(&service->current_backup, id);
        error_set(&result->error, REEVE_ERROR_CONFLICT, NULL, "backup %s of this service is in progress", id);
        result->error.state = service->state;
        result->error.allowed = lifecycle_allowed(service->state) & ~(UINT64_C(1) << INPUT_BACKUP);
        return -REEVE_ERROR_CONFLICT;
    }
    if (service->backup_count >= core->limits.backups_per_service)
        return error_set(&result->error, REEVE_ERROR_QUOTA_EXCEEDED, NULL,
                         "the service has %llu backups and may have %llu", (unsigned long long)service->backup_count,
                         (unsigned long long)core->limits.backups_per_service);
    bool changed;
    backup_begin(core, service, false, request->actor, &result->answer.backup);
    const int r = service_step(core, &edit, &(struct step){.input = INPUT_BACKUP, .actor = request->actor}, &changed,
                               &result->error);
    if (r == 0)
        service_save(core, &edit);
    return r;
}

int backup_delete(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_backup_params *params = &request->params.backup;
    struct backup_edit edit;
    if (!backup_load(core, &params->service_id, &params->backup_id, &edit) ||
        !uuid_equal(&edit.record.organization_id, &params->organization_id))
        return error_set(&result->error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such backup");
    int r = check_generation(request, edit.record.generation, &result->error);
    if (r < 0)
        return r;
    if (edit.record.restores)
        return error_set(&result->error, REEVE_ERROR_CONFLICT, NULL,
                         "%llu services are being provisioned from this backup",
                         (unsigned long long)edit.record.restores);
    r = take_step(core, &edit, &(struct backup_turn){.input = BACKUP_INPUT_DELETE, .actor = request->actor},
                  &result->error);
    if (r == 0)
        backup_save(core, &edit);
    return r;
}

uint64_t backup_next_ms(const struct reeve_backup_configuration *configuration, uint64_t now_ms)
{
    const uint64_t period_ms = configuration->period_hours * HOUR_MS;
    if (configuration->start_time.size == 0)
        return now_ms + period_ms;
    const char *text = configuration->start_time.data;
    const uint64_t start_ms = (uint64_t)((text[0] - '0') * 10 + (text[1] - '0')) * HOUR_MS;
    /* Whole periods since 1970, so that every second day stays the same day for all. */
    return now_ms < start_ms ? start_ms : start_ms + ((now_ms - start_ms) / period_ms + 1) * period_ms;
}

int backup_configure(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_backup_configuration_update_params *params = &request->params.backup_configuration_update;
    struct service_edit edit;
    if (!service_load(core, &params->organization_id, &params->service_id, &edit))
        return error_set(&result->error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such service");
    int r = check_generation(request, edit.record.generation, &result->error);
    if (r < 0)
        return r;
    struct reeve_backup_configuration *configuration = &edit.record.backup_configuration;
    if (params->null & REEVE_GIVEN_BACKUP_CONFIGURATION_UPDATE_PERIOD_HOURS)
        configuration->period_hours = 24;
    else if (params->period_hours || params->given & REEVE_GIVEN_BACKUP_CONFIGURATION_UPDATE_PERIOD_HOURS)
        configuration->period_hours = params->period_hours;
    if (params->null & REEVE_GIVEN_BACKUP_CONFIGURATION_UPDATE_RETENTION_HOURS)
        configuration->retention_hours = edit.record.tier == REEVE_TIER_PRODUCTION ? 48 : 24;
    else if (params->retention_hours || params->given & REEVE_GIVEN_BACKUP_CONFIGURATION_UPDATE_RETENTION_HOURS)
        configuration->retention_hours = params->retention_hours;
    if (params->null & REEVE_GIVEN_BACKUP_CONFIGURATION_UPDATE_START_TIME)
        configuration->start_time = (struct reeve_str){0};
    else if (params->start_time.size)
        configuration->start_time = params->start_time;
    else if (params->given & REEVE_GIVEN_BACKUP_CONFIGURATION_UPDATE_START_TIME)
        return error_set(&result->error, REEVE_ERROR_BAD_REQUEST, "backupStartTime",
                         "must be a full hour in UTC like 03:00; null unsets it");
    r = rule_backup_configuration(configuration, &result->error);
    if (r < 0)
        return r;
    if (edit.record.backup_at_ms)
        edit.record.backup_at_ms = backup_next_ms(configuration, core->now_ms);
    edit.record.generation++;
    service_event(core, &edit.record, REEVE_EVENT_TYPE_SERVICE_UPDATE_BACKUP_CONFIGURATION, request->actor);
    service_save(core, &edit);
    result->answer.backup_configuration = *configuration;
    return 0;
}
