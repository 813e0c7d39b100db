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

static void move(uint64_t *counts, unsigned before, unsigned none, unsigned after, unsigned gone)
{
    if (before != none && counts[before] > 0)
        counts[before]--;
    if (after != gone)
        counts[after]++;
}

void state_counts_move_service(struct core *core, enum reeve_service_state before, enum reeve_service_state after)
{
    if (before == after)
        return;
    core->state_counts_changed = true;
    move(core->next.state_counts.services, before, REEVE_SERVICE_STATE_NONE, after, REEVE_SERVICE_STATE_GONE);
}

void state_counts_move_backup(struct core *core, enum reeve_backup_state before, enum reeve_backup_state after)
{
    if (before == after)
        return;
    core->state_counts_changed = true;
    move(core->next.state_counts.backups, before, REEVE_BACKUP_STATE_NONE, after, REEVE_BACKUP_STATE_GONE);
}

void state_counts_save(struct core *core)
{
    const struct store_key key = key_text(STATE_COUNTS_KEY);
    uint8_t bytes[STATE_COUNTS_SIZE], *at = bytes;
    if (!core->state_counts_changed)
        return;
    for (unsigned i = 0; i < REEVE_SERVICE_STATE_COUNT; i++, at += 8)
        put_be64(at, core->next.state_counts.services[i]);
    for (unsigned i = 0; i < REEVE_BACKUP_STATE_COUNT; i++, at += 8)
        put_be64(at, core->next.state_counts.backups[i]);
    store_put(core->store, TABLE_META, &key, bytes, sizeof bytes);
}

/* ---- Opening ---- */

/* The next item of a table whose keys are pairs of ids, behind the one at `from`; false at its end. */
static bool next_item(struct core *core, enum store_table table, struct store_key *from, struct store_item *ret_item)
{
    if (!store_seek(core->store, table, from, ret_item) || ret_item->key_size >= STORE_KEY_SIZE_MAX)
        return false;
    memcpy(from->bytes, ret_item->key, ret_item->key_size);
    from->size = ret_item->key_size;
    from->bytes[from->size++] = 0;
    return true;
}

static int count_services(struct core *core, struct arena *arena)
{
    struct store_key from = {0};
    struct store_item item;
    struct reeve_service service;
    int r = 0;
    for (; r == 0 && next_item(core, TABLE_SERVICES, &from, &item); arena_reset(arena)) {
        r = codec_decode_stored(&record_type_service, item.value, item.value_size, arena, &service);
        if (r == 0)
            state_counts_move_service(core, REEVE_SERVICE_STATE_NONE, service.state);
    }
    return r;
}

static int count_backups(struct core *core, struct arena *arena)
{
    struct store_key from = {0};
    struct store_item item;
    struct reeve_backup backup;
    int r = 0;
    for (; r == 0 && next_item(core, TABLE_BACKUPS, &from, &item); arena_reset(arena)) {
        r = codec_decode_stored(&record_type_backup, item.value, item.value_size, arena, &backup);
        if (r == 0)
            state_counts_move_backup(core, REEVE_BACKUP_STATE_NONE, backup.state);
    }
    return r;
}

int state_counts_make(struct core *core)
{
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    core->next.state_counts = (struct reeve_state_counts){0};
    int r = count_services(core, &arena);
    if (r == 0)
        r = count_backups(core, &arena);
    arena_deinit(&arena);
    if (r < 0)
        return r;
    core->state_counts_changed = true;
    state_counts_save(core);
    return store_batch_error(core->store);
}

int state_counts_load(struct core *core)
{
    const struct store_key key = key_text(STATE_COUNTS_KEY);
    struct reeve_str value;
    int r = 0;
    if (!store_get(core->store, TABLE_META, &key, &value) || !state_counts_decode(value, &core->next.state_counts))
        r = state_counts_make(core);
    return r;
}
