/* What is due: rows of one table in the order of their time, so a million timers cost no memory and a restart forgets
 * none. What came due while the engine was down is paced. */
#include "backup.h"
#include "flight.h"
#include "idempotency.h"
#include "organization.h"
#include "service.h"

#define ROWS_PER_BATCH 256

static void fire(struct core *core, uint64_t due_ms, enum due_kind kind, const struct reeve_uuid *first,
                 const struct reeve_uuid *second)
{
    switch (kind) {
    case DUE_SERVICE:
        service_due(core, first, second, due_ms);
        return;
    case DUE_BACKUP:
        backup_due(core, first, second, due_ms);
        return;
    case DUE_KEY:
        apikey_due(core, first, second, due_ms);
        return;
    case DUE_IDEMPOTENCY:
        idempotency_due(core, first, second, due_ms);
        return;
    }
    core_log(core, REEVE_LOG_ERROR, "a timer of unknown kind %d was dropped", (int)kind);
    core_move_due(core, due_ms, 0, kind, first, second);
}

/* How many timers from before the start may fire now: so many a second, at most a second's worth at once. */
static uint64_t overdue_allowance(const struct core *core)
{
    const uint64_t per_second = core->limits.overdue_per_second;
    const uint64_t elapsed_ms = core->mono_ms - core->sealed.overdue_mono_ms;
    return elapsed_ms >= 1000 ? per_second : per_second * elapsed_ms / 1000;
}

static bool first_row(struct core *core, uint64_t from_ms, struct store_item *ret_item)
{
    const struct store_key from = key_number(from_ms);
    return store_seek(core->store, TABLE_DUE, &from, ret_item) && ret_item->key_size == 41;
}

/* Fire rows from from_ms up to now, before until_ms; of those that start work no more than `work`. */
static uint64_t fire_between(struct core *core, uint64_t from_ms, uint64_t until_ms, uint64_t work)
{
    uint64_t worked = 0;
    struct store_item item;
    for (unsigned fired = 0; fired < ROWS_PER_BATCH && first_row(core, from_ms, &item); fired++) {
        const uint64_t due_ms = get_be64(item.key);
        if (due_ms > core->now_ms || due_ms >= until_ms)
            break;
        const enum due_kind kind = (enum due_kind)item.key[8];
        if (kind == DUE_SERVICE || kind == DUE_BACKUP) {
            if (worked == work)
                break;
            worked++;
        }
        const struct reeve_uuid first = uuid_at(item.key + 9), second = uuid_at(item.key + 25);
        fire(core, due_ms, kind, &first, &second);
        core->delta.timers_fired++;
        if (core->fault < 0 || store_batch_error(core->store) < 0)
            break;
    }
    return worked;
}

void schedule_note_move(struct core *core, uint64_t before_ms, uint64_t after_ms)
{
    if (before_ms == core->first_due_ms)
        core->first_due_known = false;
    if (after_ms && after_ms <= core->first_due_ms) {
        core->first_due_ms = after_ms;
        core->first_due_known = true;
    }
}

void schedule_forget(struct core *core)
{
    core->first_due_ms = 0;
    core->first_due_known = false;
}

void core_due(struct core *core)
{
    flights_due(core);
    if (core->now_ms < core->first_due_ms)
        return;
    if (fire_between(core, 0, core->opened_ms, overdue_allowance(core)) > 0)
        core->next.overdue_mono_ms = core->mono_ms;
    fire_between(core, core->opened_ms, UINT64_MAX, UINT64_MAX);
}

#define OVERDUE_TICK_MS 50

void schedule_note_next(struct core *core)
{
    struct store_item item;
    if (!core->first_due_known)
        core->first_due_ms = first_row(core, 0, &item) ? get_be64(item.key) : UINT64_MAX;
    core->first_due_known = true;
    core->next_due_ms = core->first_due_ms;
    if (core->next_due_ms >= core->opened_ms)
        return;
    core->next_due_ms = core->now_ms + OVERDUE_TICK_MS;
    if (first_row(core, core->opened_ms, &item) && get_be64(item.key) < core->next_due_ms)
        core->next_due_ms = get_be64(item.key);
}

void core_next_due(const struct core *core, uint64_t *ret_mono_ms, uint64_t *ret_now_ms)
{
    *ret_mono_ms = flights_next_deadline(core);
    *ret_now_ms = core->next_due_ms;
}
