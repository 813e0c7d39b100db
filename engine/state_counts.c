#include "state_counts.h"

bool state_counts_decode(struct reeve_str value, struct reeve_state_counts *ret_counts)
{
    const uint8_t *at = (const uint8_t *)value.data;
    if (value.size != STATE_COUNTS_SIZE)
        return false;
    for (unsigned i = 0; i < REEVE_SERVICE_STATE_COUNT; i++, at += 8)
        ret_counts->services[i] = get_be64(at);
    for (unsigned i = 0; i < REEVE_BACKUP_STATE_COUNT; i++, at += 8)
        ret_counts->backups[i] = get_be64(at);
    return true;
}

void state_counts_load(struct core *core)
{
    const struct store_key key = key_text(STATE_COUNTS_KEY);
    struct reeve_str value;
    core->state_counts = (struct reeve_state_counts){0};
    if (store_get(core->store, TABLE_META, &key, &value))
        state_counts_decode(value, &core->state_counts);
}

void state_counts_move_service(struct core *core, enum reeve_service_state before, enum reeve_service_state after)
{
    if (before == after)
        return;
    core->next_state_counts_changed = true;
    if (before != REEVE_SERVICE_STATE_NONE)
        core->next_state_counts.services[before]--;
    if (after != REEVE_SERVICE_STATE_GONE)
        core->next_state_counts.services[after]++;
}

void state_counts_move_backup(struct core *core, enum reeve_backup_state before, enum reeve_backup_state after)
{
    if (before == after)
        return;
    core->next_state_counts_changed = true;
    if (before != REEVE_BACKUP_STATE_NONE)
        core->next_state_counts.backups[before]--;
    if (after != REEVE_BACKUP_STATE_GONE)
        core->next_state_counts.backups[after]++;
}

void state_counts_save(struct core *core)
{
    const struct store_key key = key_text(STATE_COUNTS_KEY);
    uint8_t bytes[STATE_COUNTS_SIZE], *at = bytes;
    if (!core->next_state_counts_changed)
        return;
    for (unsigned i = 0; i < REEVE_SERVICE_STATE_COUNT; i++, at += 8)
        put_be64(at, core->next_state_counts.services[i]);
    for (unsigned i = 0; i < REEVE_BACKUP_STATE_COUNT; i++, at += 8)
        put_be64(at, core->next_state_counts.backups[i]);
    store_put(core->store, TABLE_META, &key, bytes, sizeof bytes);
}
