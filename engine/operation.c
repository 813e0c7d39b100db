#include "operation.h"

#include <assert.h>

/* Places in the queue grow with time, also over restarts. */
static uint64_t next_place(struct core *core)
{
    const uint64_t by_time = core->now_ms << 16;
    core->next.queue_number = by_time > core->next.queue_number ? by_time : core->next.queue_number + 1;
    return core->next.queue_number;
}

static void make_offer(struct core *core, const struct operation_owner *owner, const struct reeve_operation *operation,
                       struct reeve_str record)
{
    struct offer *offer = core_offer(core);
    if (!offer)
        return;
    offer->organization_id = owner->organization_id;
    offer->service_id = owner->service_id;
    offer->backup_id = owner->backup_id;
    offer->operation_id = operation->id;
    offer->number = operation->queued;
    offer->record = core_copy(core, record);
}

/* An operation that the same batch has made ready. */
static void withdraw_offer(struct core *core, uint64_t number)
{
    for (struct offer *offer = core->offers_first; offer; offer = offer->next) {
        if (offer->number == number)
            offer->number = 0;
    }
}

void operation_drop(struct core *core, struct reeve_operation *operation)
{
    if (operation_exists(operation)) {
        struct action *action = core_action(core, ACTION_CANCEL);
        if (action)
            action->operation_id = operation->id;
        if (operation->queued > core->sealed.queue_number)
            withdraw_offer(core, operation->queued);
    }
    *operation = (struct reeve_operation){0};
}

const char *operation_check(const struct reeve_operation *operation)
{
    if (!operation_exists(operation))
        return NULL;
    if ((operation->queued != 0) == (operation->retry_at_ms != 0))
        return "an operation is either in the queue or waits for its next attempt";
    if (operation->attempt == 0)
        return "attempts are counted from 1";
    return NULL;
}

void operation_begin(struct core *core, struct reeve_operation *operation, enum reeve_operation_kind kind,
                     uint64_t pause_ms)
{
    operation_drop(core, operation);
    *operation = (struct reeve_operation){
        .id = core_new_id(core),
        .kind = kind,
        .attempt = 1,
        .since_ms = core->now_ms,
    };
    if (pause_ms)
        operation->retry_at_ms = core->now_ms + pause_ms;
    else
        operation_requeue(core, operation);
}

void operation_requeue(struct core *core, struct reeve_operation *operation)
{
    assert(operation_exists(operation));
    operation->queued = next_place(core);
    operation->retry_at_ms = 0;
}

uint64_t operation_attempts_max(const struct core *core, enum reeve_operation_kind kind)
{
    const uint64_t own = core->limits.attempts_max_of[kind];
    return own ? own : core->limits.operation_attempts_max;
}

uint64_t operation_timeout_ms(const struct core *core, enum reeve_operation_kind kind)
{
    const uint64_t own = core->limits.timeout_ms_of[kind];
    return own ? own : core->limits.operation_timeout_ms;
}

uint64_t operation_total_ms(const struct core *core, enum reeve_operation_kind kind)
{
    const uint64_t own = core->limits.total_ms_of[kind];
    return own ? own : core->limits.operation_total_ms;
}

void operation_note_failure(struct core *core, struct reeve_operation *operation, const struct flight *flight,
                            const struct reeve_outcome *outcome)
{
    if (operation->started_ms == 0) {
        operation->started_ms = flight_started_ms(flight);
        operation->deadline_ms = operation->started_ms + operation_total_ms(core, operation->kind);
    }
    operation->last_error = (struct reeve_failure){
        .code = outcome->code.size ? outcome->code : reeve_str("unknown"),
        .message = outcome->message.size ? outcome->message : reeve_str("the provisioner gave no reason"),
        .at_ms = core->now_ms,
    };
}

bool operation_may_retry(const struct core *core, const struct reeve_operation *operation)
{
    return operation->attempt < operation_attempts_max(core, operation->kind) && core->now_ms < operation->deadline_ms;
}

#define RETRY_AFTER_MAX_MS UINT64_C(3600000)

uint64_t operation_pause_ms(struct core *core, uint64_t first_ms, uint64_t max_ms, uint64_t times)
{
    uint64_t pause_ms = first_ms, random;
    for (uint64_t i = 1; i < times && pause_ms < max_ms; i++)
        pause_ms *= 2;
    if (pause_ms > max_ms)
        pause_ms = max_ms;
    core_random(core, &random, sizeof random);
    return pause_ms / 2 + random % (pause_ms / 2 + 1);
}

void operation_back_off(struct core *core, struct reeve_operation *operation, uint64_t retry_after_ms)
{
    uint64_t pause_ms = operation_pause_ms(core, core->limits.retry_min_ms, core->limits.retry_max_ms,
                                           operation->attempt);
    if (retry_after_ms > pause_ms)
        pause_ms = retry_after_ms < RETRY_AFTER_MAX_MS ? retry_after_ms : RETRY_AFTER_MAX_MS;
    operation->attempt++;
    operation->queued = 0;
    operation->retry_at_ms = core->now_ms + (pause_ms ? pause_ms : 1);
    operation->progress = (struct reeve_progress){0};
}

void operation_move_queue(struct core *core, const struct operation_owner *owner, uint64_t queued_before,
                          const struct reeve_operation *operation, struct reeve_str record)
{
    if (queued_before == operation->queued)
        return;
    if (queued_before) {
        const struct store_key key = key_queue(&owner->organization_id, queued_before);
        store_delete(core->store, TABLE_QUEUE, &key);
    }
    if (operation->queued) {
        uint8_t value[48];
        memcpy(value, &operation->id, 16);
        memcpy(value + 16, &owner->service_id, 16);
        memcpy(value + 32, &owner->backup_id, 16);
        const struct store_key key = key_queue(&owner->organization_id, operation->queued);
        store_append(core->store, TABLE_QUEUE, &key, value, reeve_uuid_is_nil(&owner->backup_id) ? 32 : 48);
        make_offer(core, owner, operation, record);
    }
}
