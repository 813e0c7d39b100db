/* Deliberately naive: arrays, loops, no indexes, nothing of the engine's but the tables. */
#include <stddef.h>
#include <string.h>

#include "sim.h"

#define MINUTE_MS UINT64_C(60000)
#define HOUR_MS UINT64_C(3600000)

/* ---- The tables ---- */

enum {
#define STATE(id, number, name, class) S_##id = number,
#include "lifecycle.def"
};
enum {
    I_NONE,
#define INPUT(id, name, origin) I_##id,
#include "lifecycle.def"
};
enum {
    E_NONE,
    E_SAME,
#define EFFECT(id, text) E_##id,
#include "lifecycle.def"
};
enum {
#define BACKUP_STATE(id, number, name) B_##id = number,
#include "backup.def"
};
enum {
    BI_NONE,
#define BACKUP_INPUT(id, name, origin) BI_##id,
#include "backup.def"
};
enum {
    BE_NONE,
#define BACKUP_EFFECT(id, text) BE_##id,
#include "backup.def"
};
#define REST 0
#define OTHER 1
#define BUSY OTHER
#define UP OTHER
#define IDLE OTHER
static const unsigned classes[] = {
#define STATE(id, number, name, class) [number] = class,
#include "lifecycle.def"
};
#undef IDLE

#define EVENT_NONE 0
#define EVENT_OF(event) EVENT_##event
static const struct {
    unsigned state, input, next, effect, event;
} rules[] = {
#define REEVE_EVENT_TYPE_NONE 0
#define RULE(state, input, next, effect, event) {S_##state, I_##input, S_##next, E_##effect, REEVE_EVENT_TYPE_##event},
#define SAME(state, input) {S_##state, I_##input, S_##state, E_SAME, 0},
#include "lifecycle.def"
};
static const struct {
    unsigned state, input, next, effect, event;
} backup_rules[] = {
#define BACKUP_RULE(state, input, next, effect, event)                                                                 \
    {B_##state, BI_##input, B_##next, BE_##effect, REEVE_EVENT_TYPE_##event},
#include "backup.def"
};

/* ---- Small things ---- */

static bool is(const struct reeve_uuid *a, const struct reeve_uuid *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void expect(struct model *model, int service, int backup, unsigned type, unsigned from, unsigned to)
{
    SIM_REQUIRE(model->events_count < SIM_EVENTS_MAX, "more events in a batch than the model has room for");
    model->events[model->events_count++] = (struct m_event){
        .service = service, .backup = backup, .type = type, .from = from, .to = to};
}

static void begin(struct m_operation *operation, enum reeve_operation_kind kind)
{
    *operation = (struct m_operation){.kind = kind, .is_new = true, .attempt = 1};
}

/* Half of a pause is drawn. */
static void pause_for(struct model *model, struct m_operation *operation, uint64_t first_ms, uint64_t max_ms,
                      uint64_t times)
{
    uint64_t pause_ms = first_ms;
    for (uint64_t i = 1; i < times; i++)
        pause_ms = pause_ms * 2 < max_ms ? pause_ms * 2 : max_ms;
    operation->pauses = true;
    operation->retry_at_ms = 0;
    operation->retry_low_ms = model->now_ms + pause_ms / 2;
    operation->retry_high_ms = model->now_ms + pause_ms;
}

static void try_again(struct model *model, struct m_operation *operation)
{
    pause_for(model, operation, SIM_RETRY_MIN_MS, SIM_RETRY_MAX_MS, operation->attempt);
    operation->attempt++;
}

void model_init(struct model *model)
{
    memset(model, 0, sizeof *model);
}

void model_copy(struct model *to, const struct model *from)
{
    memcpy(to, from, offsetof(struct model, events) + from->events_count * sizeof from->events[0]);
}

bool model_is_full(const struct model *model)
{
    unsigned services = 0, backups = 0;
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++)
        services += model->services[i].exists;
    for (unsigned i = 0; i < SIM_BACKUPS_MAX; i++)
        backups += model->backups[i].exists;
    return services + 2 >= SIM_SERVICES_MAX || backups + 10 >= SIM_BACKUPS_MAX;
}

/* ---- Backups ---- */

/* What went in this batch is still to be told of. */
static bool is_told_of(const struct model *model, int service, int backup)
{
    for (unsigned i = 0; i < model->events_count; i++) {
        if (backup >= 0 ? model->events[i].backup == backup : model->events[i].service == service)
            return true;
    }
    return false;
}

static int free_backup(const struct model *model)
{
    for (int i = 0; i < SIM_BACKUPS_MAX; i++) {
        if (!model->backups[i].exists && !is_told_of(model, -1, i))
            return i;
    }
    sim_fail("more backups than the model has room for");
}

static void unlist_backup(struct model *model, int place)
{
    struct m_backup *backup = &model->backups[place];
    struct m_service *service = backup->service >= 0 ? &model->services[backup->service] : NULL;
    if (!service)
        return;
    if (service->current_backup == place && backup->state != B_IN_PROGRESS)
        service->current_backup = -1;
    if (backup->state == B_GONE && service->backup_count > 0)
        service->backup_count--;
}

/* 0, or CONFLICT. */
static int backup_step(struct model *model, int place, unsigned input)
{
    struct m_backup *backup = &model->backups[place];
    for (unsigned i = 0; i < sizeof backup_rules / sizeof backup_rules[0]; i++) {
        if (backup_rules[i].state != backup->state || backup_rules[i].input != input)
            continue;
        coverage->backup_rules[backup->state][input]++;
        backup->state = backup_rules[i].next;
        backup->generation++;
        switch (backup_rules[i].effect) {
        case BE_COPY:
            begin(&backup->operation, REEVE_OPERATION_KIND_BACKUP);
            break;
        case BE_KEEP:
        case BE_FAIL:
        case BE_ABORT:
            backup->operation = (struct m_operation){0};
            backup->expires_ms = model->now_ms + backup->retention_hours * HOUR_MS;
            break;
        case BE_RETRY:
            try_again(model, &backup->operation);
            break;
        case BE_DELETE:
            backup->expires_ms = 0;
            begin(&backup->operation, REEVE_OPERATION_KIND_DELETE_BACKUP);
            break;
        case BE_REMOVE:
            backup->operation = (struct m_operation){0};
            break;
        default:
            break;
        }
        if (input != BI_CREATE) /* that one is told by its service */
            expect(model, backup->service, place, backup_rules[i].event, 0, backup->state);
        unlist_backup(model, place);
        if (backup->state == B_GONE)
            backup->exists = false;
        return 0;
    }
    return REEVE_ERROR_CONFLICT;
}

static int make_backup(struct model *model, int service_place)
{
    const struct m_service *service = &model->services[service_place];
    const int place = free_backup(model);
    model->backups[place] = (struct m_backup){.exists = true,
                                              .service = service_place,
                                              .service_id = service->id,
                                              .organization = service->organization,
                                              .region = service->region,
                                              .tier = service->tier,
                                              .retention_hours = service->tier == REEVE_TIER_PRODUCTION ? 48 : 24};
    backup_step(model, place, BI_CREATE);
    return place;
}

static void cancel_backup(struct model *model, struct m_service *service)
{
    if (service->current_backup >= 0)
        backup_step(model, service->current_backup, BI_CANCEL);
}

static void unpin(struct model *model, const struct m_service *service)
{
    if (service->provisioned || service->restored_from < 0)
        return;
    struct m_backup *backup = &model->backups[service->restored_from];
    if (backup->exists && backup->restores > 0)
        backup->restores--;
}

/* ---- Services ---- */

static void configure(struct m_service *service)
{
    if (service->operation.kind == REEVE_OPERATION_KIND_UNSET && service->desired > service->applied)
        begin(&service->operation, REEVE_OPERATION_KIND_CONFIGURE);
}

static void take_result(struct m_service *service, uint64_t desired)
{
    const enum reeve_operation_kind kind = service->operation.kind;
    if (kind == REEVE_OPERATION_KIND_PROVISION || kind == REEVE_OPERATION_KIND_START ||
        kind == REEVE_OPERATION_KIND_CONFIGURE)
        service->applied = desired;
    service->operation = (struct m_operation){0};
}

static void arm_idle(const struct model *model, struct m_service *service)
{
    service->idle_at_ms = service->idle_scaling ? model->now_ms + service->idle_minutes * MINUTE_MS : 0;
}

static void arm(struct model *model, struct m_service *service)
{
    if (!service->provisioned) {
        unpin(model, service);
        service->provisioned = true;
    }
    arm_idle(model, service);
    if (service->backup_at_ms == 0) {
        service->backup_at_ms = model->now_ms + 24 * HOUR_MS;
    } else if (service->backup_at_ms <= model->now_ms) {
        service->backup_drawn = true;
        service->backup_low_ms = model->now_ms + MINUTE_MS;
    }
    configure(service);
}

static bool touch(const struct model *model, struct m_service *service)
{
    const uint64_t timeout_ms = service->idle_minutes * MINUTE_MS;
    if (!service->idle_scaling || service->idle_at_ms >= model->now_ms + timeout_ms)
        return false;
    service->idle_at_ms = model->now_ms + timeout_ms + timeout_ms / 16;
    return true;
}

static void start_again(struct model *model, struct m_service *service)
{
    cancel_backup(model, service);
    service->idle_at_ms = 0;
    if (model->now_ms - service->lost_ms >= SIM_RESTART_RESET_MS)
        service->restarts = 0;
    begin(&service->operation, REEVE_OPERATION_KIND_START);
    if (service->restarts)
        pause_for(model, &service->operation, SIM_RESTART_MIN_MS, SIM_RESTART_MAX_MS, service->restarts);
    service->restarts++;
    service->lost_ms = model->now_ms;
}

static bool apply(struct model *model, struct m_service *service, unsigned effect, uint64_t desired)
{
    switch (effect) {
    case E_PROVISION:
        begin(&service->operation, REEVE_OPERATION_KIND_PROVISION);
        break;
    case E_START:
        service->restarts = 0;
        begin(&service->operation, service->provisioned ? REEVE_OPERATION_KIND_START : REEVE_OPERATION_KIND_PROVISION);
        break;
    case E_START_AGAIN:
        start_again(model, service);
        break;
    case E_STOP:
        cancel_backup(model, service);
        service->idle_at_ms = 0;
        service->restarts = 0;
        begin(&service->operation, REEVE_OPERATION_KIND_STOP);
        break;
    case E_SUSPEND:
        service->idle_at_ms = 0;
        begin(&service->operation, REEVE_OPERATION_KIND_SUSPEND);
        break;
    case E_DELETE:
        begin(&service->operation, REEVE_OPERATION_KIND_DELETE);
        break;
    case E_CONFIGURE:
        configure(service);
        break;
    case E_RETRY:
        try_again(model, &service->operation);
        break;
    case E_ARM:
        take_result(service, desired);
        arm(model, service);
        break;
    case E_SETTLE:
        take_result(service, desired);
        if (classes[service->state] != REST)
            configure(service);
        break;
    case E_TOUCH:
        return touch(model, service);
    case E_FAIL:
        service->operation = (struct m_operation){0};
        cancel_backup(model, service);
        service->idle_at_ms = 0;
        break;
    case E_REMOVE:
        take_result(service, desired);
        unpin(model, service);
        model->service_counts[service->organization]--;
        break;
    default:
        break;
    }
    return true;
}

static void forget(struct model *model, int place)
{
    model->services[place].exists = false;
    for (unsigned i = 0; i < SIM_BACKUPS_MAX; i++) {
        if (model->backups[i].exists && model->backups[i].service == place)
            model->backups[i].service = -1; /* they outlive it */
    }
}

/* 0, or CONFLICT. */
static int step(struct model *model, int place, unsigned input, uint64_t desired)
{
    struct m_service *service = &model->services[place];
    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].state != service->state || rules[i].input != input)
            continue;
        const unsigned from = service->state;
        coverage->rules[from][input]++;
        if (rules[i].effect == E_SAME)
            return 0;
        service->state = rules[i].next;
        if (!apply(model, service, rules[i].effect, desired) || !rules[i].event)
            return 0;
        service->generation++;
        expect(model, place, -1, rules[i].event, from, service->state);
        if (service->state == S_GONE)
            forget(model, place);
        return 0;
    }
    return REEVE_ERROR_CONFLICT;
}

static bool allows(const struct m_service *service, unsigned input)
{
    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].state == service->state && rules[i].input == input)
            return true;
    }
    return false;
}

/* ---- Commands ---- */

/* Totals, in GiB: multiples of 12 from 24 to 720, to 360 where nobody pays. 0: not given. */
static bool is_memory(unsigned gb, bool paid)
{
    return gb == 0 || (gb % 12 == 0 && gb >= 24 && gb <= (paid ? 720 : 360));
}

static int scale(const struct command *command, struct m_service *service)
{
    const bool paid = command->organization > 0;
    unsigned min = service->min_gb, max = service->max_gb;
    if (service->tier == REEVE_TIER_DEVELOPMENT) {
        if (command->min_gb || command->max_gb || command->idle == 1)
            return REEVE_ERROR_BAD_REQUEST;
    } else {
        if (!is_memory(command->min_gb, paid) || !is_memory(command->max_gb, paid))
            return REEVE_ERROR_BAD_REQUEST;
        if (command->min_gb)
            min = command->min_gb / 3;
        if (command->max_gb)
            max = command->max_gb / 3;
        if (max == 0)
            max = min > 120 ? min : 120;
        if (min == 0)
            min = max < 16 ? max : 16;
        if (min > max)
            return REEVE_ERROR_BAD_REQUEST;
        service->min_gb = min;
        service->max_gb = max;
    }
    if (command->idle)
        service->idle_scaling = command->idle == 2;
    if (command->idle_minutes)
        service->idle_minutes = command->idle_minutes;
    return 0;
}

static bool has(const unsigned *list, unsigned count, unsigned source)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i] == source)
            return true;
    }
    return false;
}

/* Remove, then add at the end; who is added again moves there. */
static void patch(struct m_service *service, const struct command *command)
{
    unsigned list[2 * SIM_SOURCES], count = 0;
    for (unsigned i = 0; i < service->sources_count; i++) {
        if (!has(command->remove, command->remove_count, service->sources[i]) &&
            !has(command->add, command->add_count, service->sources[i]))
            list[count++] = service->sources[i];
    }
    for (unsigned i = 0; i < command->add_count; i++) {
        if (!has(command->add + i + 1, command->add_count - i - 1, command->add[i]))
            list[count++] = command->add[i];
    }
    memcpy(service->sources, list, count * sizeof list[0]);
    service->sources_count = count;
}

static int create(struct model *model, const struct command *command)
{
    struct m_service service = {.exists = true,
                                .organization = command->organization,
                                .name = command->name,
                                .region = command->region,
                                .tier = command->tier,
                                .desired = 1,
                                .idle_scaling = true,
                                .idle_minutes = 15,
                                .current_backup = -1,
                                .restored_from = -1};
    int place = 0;
    if (command->organization >= SIM_ORGANIZATIONS)
        return REEVE_ERROR_NOT_FOUND;
    if (command->name == 0 || command->name > 5 || command->region > 1 || scale(command, &service) != 0)
        return REEVE_ERROR_BAD_REQUEST;
    if (command->organization == 0 && model->service_counts[0] >= SIM_SERVICE_QUOTA)
        return REEVE_ERROR_QUOTA_EXCEEDED;
    if (command->backup != -2) { /* -2: not a restore */
        const struct m_backup *backup = command->backup >= 0 ? &model->backups[command->backup] : NULL;
        if (!backup || !backup->exists || backup->organization != command->organization)
            return REEVE_ERROR_NOT_FOUND;
        if (backup->state != B_DONE || backup->region != command->region || backup->tier != command->tier)
            return REEVE_ERROR_BAD_REQUEST;
        service.restored_from = command->backup;
    }
    if (command->password == 2)
        return REEVE_ERROR_BAD_REQUEST;
    if (service.restored_from >= 0)
        model->backups[service.restored_from].restores++;
    patch(&service, command);
    while (place < SIM_SERVICES_MAX && (model->services[place].exists || is_told_of(model, place, -1)))
        place++;
    SIM_REQUIRE(place < SIM_SERVICES_MAX, "more services than the model has room for");
    model->services[place] = service;
    model->service_counts[command->organization]++;
    model->created = place;
    return step(model, place, I_CREATE, 0);
}

static int update(struct model *model, int place, const struct command *command)
{
    struct m_service *service = &model->services[place];
    if (command->name > 5)
        return REEVE_ERROR_BAD_REQUEST;
    if (!allows(service, I_UPDATE))
        return REEVE_ERROR_CONFLICT;
    if (command->name == 0 && command->add_count == 0 && command->remove_count == 0)
        return 0;
    if (command->name)
        service->name = command->name;
    patch(service, command);
    service->desired++;
    return step(model, place, I_UPDATE, 0);
}

static int rescale(struct model *model, int place, const struct command *command)
{
    struct m_service *service = &model->services[place];
    if (!allows(service, I_SCALE))
        return REEVE_ERROR_CONFLICT;
    const int r = scale(command, service);
    if (r != 0 || (!command->min_gb && !command->max_gb && !command->idle && !command->idle_minutes))
        return r;
    if ((command->idle || command->idle_minutes) && service->state == S_RUNNING)
        arm_idle(model, service);
    service->desired++;
    return step(model, place, I_SCALE, 0);
}

static int set_password(struct model *model, int place, const struct command *command)
{
    if (command->password == 2)
        return REEVE_ERROR_BAD_REQUEST;
    if (!allows(&model->services[place], I_SET_PASSWORD))
        return REEVE_ERROR_CONFLICT;
    model->services[place].desired++;
    return step(model, place, I_SET_PASSWORD, 0);
}

static int back_up(struct model *model, int place)
{
    struct m_service *service = &model->services[place];
    if (!allows(service, I_BACKUP) || service->current_backup >= 0)
        return REEVE_ERROR_CONFLICT;
    if (service->backup_count >= SIM_BACKUPS_PER_SERVICE)
        return REEVE_ERROR_QUOTA_EXCEEDED;
    service->current_backup = make_backup(model, place);
    service->backup_count++;
    model->created = service->current_backup;
    return step(model, place, I_BACKUP, 0);
}

static int delete_backup(struct model *model, const struct command *command)
{
    const struct m_backup *backup = command->backup >= 0 ? &model->backups[command->backup] : NULL;
    if (!backup || !backup->exists || backup->organization != command->organization)
        return REEVE_ERROR_NOT_FOUND;
    if (command->generation && command->generation != backup->generation)
        return REEVE_ERROR_STALE_GENERATION;
    if (backup->restores)
        return REEVE_ERROR_CONFLICT;
    return backup_step(model, command->backup, BI_DELETE);
}

static int change(struct model *model, const struct command *command)
{
    const struct m_service *service = command->service >= 0 ? &model->services[command->service] : NULL;
    if (!service || !service->exists || service->organization != command->organization)
        return REEVE_ERROR_NOT_FOUND;
    if (command->generation && command->generation != service->generation &&
        command->kind != REEVE_COMMAND_BACKUP_CREATE)
        return REEVE_ERROR_STALE_GENERATION;
    switch ((int)command->kind) {
    case REEVE_COMMAND_SERVICE_UPDATE:
        return update(model, command->service, command);
    case REEVE_COMMAND_SERVICE_SCALE:
        return rescale(model, command->service, command);
    case REEVE_COMMAND_SERVICE_SET_PASSWORD:
        return set_password(model, command->service, command);
    case REEVE_COMMAND_SERVICE_START:
        return step(model, command->service, I_START, 0);
    case REEVE_COMMAND_SERVICE_STOP:
        return step(model, command->service, I_STOP, 0);
    case REEVE_COMMAND_SERVICE_AWAKE:
        return step(model, command->service, I_AWAKE, 0);
    case REEVE_COMMAND_SERVICE_DELETE:
        return step(model, command->service, I_DELETE, 0);
    case REEVE_COMMAND_SERVICE_ACTIVITY:
        return step(model, command->service, I_ACTIVITY, 0);
    case REEVE_COMMAND_SERVICE_HEALTH_LOST:
        return step(model, command->service, I_HEALTH_LOST, 0);
    default:
        return back_up(model, command->service);
    }
}

static int do_command(struct model *model, const struct command *command)
{
    if (command->kind == REEVE_COMMAND_SERVICE_CREATE)
        return create(model, command);
    if (command->kind == REEVE_COMMAND_BACKUP_DELETE)
        return delete_backup(model, command);
    return change(model, command);
}

int model_command(struct model *model, const struct command *command)
{
    model->created = -1;
    model->replayed = false;
    for (unsigned i = 0; command->key && i < model->keys_count; i++) {
        const struct m_key *key = &model->keys[i];
        if (key->organization != command->organization || key->key != command->key)
            continue;
        if (key->fingerprint != command->fingerprint)
            return REEVE_ERROR_IDEMPOTENCY_MISMATCH;
        model->replayed = true;
        model->replayed_object = key->object;
        return 0;
    }
    /* A refusal changes nothing: it is tried on a copy. */
    static struct model before;
    before = *model;
    const int r = do_command(model, command);
    if (r != 0) {
        *model = before;
        return r;
    }
    if (command->key) {
        SIM_REQUIRE(model->keys_count < SIM_KEYS_MAX, "more idempotency keys than the model has room for");
        model->keys[model->keys_count++] = (struct m_key){.organization = command->organization,
                                                          .key = command->key,
                                                          .fingerprint = command->fingerprint,
                                                          .expires_ms = model->now_ms + SIM_IDEMPOTENCY_MS,
                                                          .object_place = model->created};
    }
    return 0;
}

/* ---- What the provisioner says ---- */

static unsigned input_of(const struct m_operation *operation, enum reeve_outcome_status status, unsigned done,
                         unsigned retry, unsigned failed)
{
    if (status == REEVE_OUTCOME_STATUS_DONE)
        return done;
    return status == REEVE_OUTCOME_STATUS_FAILED || operation->attempt >= SIM_ATTEMPTS_MAX ? failed : retry;
}

static bool waits_for(const struct m_operation *operation, const struct reeve_uuid *id, uint64_t attempt)
{
    return operation->kind != REEVE_OPERATION_KIND_UNSET && !operation->is_new && is(&operation->id, id) &&
           operation->attempt == attempt;
}

void model_outcome(struct model *model, const struct reeve_uuid *operation_id, uint64_t attempt, uint64_t desired,
                   enum reeve_outcome_status status)
{
    for (int i = 0; i < SIM_SERVICES_MAX; i++) {
        const struct m_service *service = &model->services[i];
        if (!service->exists || !waits_for(&service->operation, operation_id, attempt))
            continue;
        step(model, i, input_of(&service->operation, status, I_OP_DONE, I_OP_RETRY, I_OP_FAILED), desired);
        return;
    }
    for (int i = 0; i < SIM_BACKUPS_MAX; i++) {
        const struct m_backup *backup = &model->backups[i];
        if (!backup->exists || !waits_for(&backup->operation, operation_id, attempt))
            continue;
        backup_step(model, i, input_of(&backup->operation, status, BI_OP_DONE, BI_OP_RETRY, BI_OP_FAILED));
        return;
    }
    coverage->stale_outcomes++;
}

const struct m_operation *model_operation(const struct model *model, const struct reeve_uuid *id)
{
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++) {
        if (model->services[i].exists && model->services[i].operation.kind && is(&model->services[i].operation.id, id))
            return &model->services[i].operation;
    }
    for (unsigned i = 0; i < SIM_BACKUPS_MAX; i++) {
        if (model->backups[i].exists && model->backups[i].operation.kind && is(&model->backups[i].operation.id, id))
            return &model->backups[i].operation;
    }
    return NULL;
}

/* ---- Timers ---- */

static void end_pause(const struct model *model, struct m_operation *operation)
{
    if (operation->kind && operation->pauses && operation->retry_at_ms && operation->retry_at_ms <= model->now_ms)
        operation->pauses = false;
}

static void due_service(struct model *model, int place)
{
    struct m_service *service = &model->services[place];
    end_pause(model, &service->operation);
    if (service->state == S_RUNNING && !service->backup_drawn && service->backup_at_ms &&
        service->backup_at_ms <= model->now_ms) {
        service->backup_at_ms = model->now_ms + 24 * HOUR_MS;
        if (service->current_backup < 0 && service->backup_count < SIM_BACKUPS_PER_SERVICE) {
            service->current_backup = make_backup(model, place);
            service->backup_count++;
            step(model, place, I_BACKUP, 0);
        }
    }
    if (service->state == S_RUNNING && service->idle_at_ms && service->idle_at_ms <= model->now_ms) {
        if (service->operation.kind || service->current_backup >= 0)
            arm_idle(model, service);
        else
            step(model, place, I_IDLE_DUE, 0);
    }
}

static void due_backup(struct model *model, int place)
{
    struct m_backup *backup = &model->backups[place];
    if (backup->operation.kind) {
        end_pause(model, &backup->operation);
    } else if ((backup->state == B_DONE || backup->state == B_ERROR) && backup->expires_ms <= model->now_ms) {
        if (backup->restores)
            backup->expires_ms = model->now_ms + HOUR_MS;
        else
            backup_step(model, place, BI_EXPIRE);
    }
}

void model_due(struct model *model)
{
    for (int i = 0; i < SIM_SERVICES_MAX; i++) {
        if (model->services[i].exists)
            due_service(model, i);
    }
    for (int i = 0; i < SIM_BACKUPS_MAX; i++) {
        if (model->backups[i].exists)
            due_backup(model, i);
    }
    for (unsigned i = 0; i < model->keys_count;) {
        if (model->keys[i].expires_ms <= model->now_ms)
            model->keys[i] = model->keys[--model->keys_count];
        else
            i++;
    }
}

/* ---- Coverage ---- */

static bool report_rules(const struct coverage *seen, FILE *out)
{
    unsigned reached = 0, count = sizeof rules / sizeof rules[0];
    for (unsigned i = 0; i < count; i++) {
        reached += seen->rules[rules[i].state][rules[i].input] > 0;
        if (!seen->rules[rules[i].state][rules[i].input])
            fprintf(out, "  NOT REACHED: %s, input %u\n",
                    reeve_service_state_name((enum reeve_service_state)rules[i].state), rules[i].input);
    }
    fprintf(out, "rows of the lifecycle reached: %u of %u\n", reached, count);
    return reached == count;
}

static bool report_backup_rules(const struct coverage *seen, FILE *out)
{
    unsigned reached = 0, count = sizeof backup_rules / sizeof backup_rules[0];
    for (unsigned i = 0; i < count; i++) {
        reached += seen->backup_rules[backup_rules[i].state][backup_rules[i].input] > 0;
        if (!seen->backup_rules[backup_rules[i].state][backup_rules[i].input])
            fprintf(out, "  NOT REACHED: backup in state %u, input %u\n", backup_rules[i].state, backup_rules[i].input);
    }
    fprintf(out, "rows of the life of backups reached: %u of %u\n", reached, count);
    return reached == count;
}

bool coverage_report(const struct coverage *seen, FILE *out)
{
    static const char *const points[] = {"",
                                         "before a batch",
                                         "in a batch",
                                         "before the replies",
                                         "before the dispatch",
                                         "after the dispatch",
                                         "on the way to disk"};
    static const int errors[] = {REEVE_ERROR_BAD_REQUEST,      REEVE_ERROR_NOT_FOUND,
                                 REEVE_ERROR_CONFLICT,         REEVE_ERROR_QUOTA_EXCEEDED,
                                 REEVE_ERROR_STALE_GENERATION, REEVE_ERROR_IDEMPOTENCY_MISMATCH};
    bool all = true;
    fprintf(
        out, "%llu runs, %llu steps, %llu commands, %llu batches, %llu attempts, %llu outcomes that came too late\n",
        (unsigned long long)seen->runs, (unsigned long long)seen->steps, (unsigned long long)seen->commands,
        (unsigned long long)seen->batches, (unsigned long long)seen->tasks, (unsigned long long)seen->stale_outcomes);
    fprintf(out, "%llu answers given again, %llu batches that could not be made durable, %llu stores checked\n",
            (unsigned long long)seen->replays, (unsigned long long)seen->faults, (unsigned long long)seen->checks);
    fprintf(out,
            "%llu batches on top of one that was not durable, %llu flushes that failed, %llu checkpoints, %llu that "
            "failed, %llu times until nothing more fitted\n",
            (unsigned long long)seen->stacked, (unsigned long long)seen->roll_backs,
            (unsigned long long)seen->checkpoints, (unsigned long long)seen->checkpoint_failures,
            (unsigned long long)seen->full);
    all = all && seen->stacked && seen->roll_backs && seen->checkpoints && seen->checkpoint_failures && seen->full;
    for (int i = 1; i < CRASH_POINTS; i++) {
        fprintf(out, "died %s: %llu\n", points[i], (unsigned long long)seen->crashes[i]);
        all = all && seen->crashes[i];
    }
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        fprintf(out, "refused with %s: %llu\n", reeve_error_name(errors[i]),
                (unsigned long long)seen->errors[errors[i]]);
        all = all && seen->errors[errors[i]];
    }
    all = report_rules(seen, out) && all;
    return report_backup_rules(seen, out) && all;
}
