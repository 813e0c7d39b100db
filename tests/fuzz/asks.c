#include "asks.h"

#include <string.h>

#include "codec.h"
#include "engine.h"
#include "fuzz.h"
#include "keys.h"
#include "password.h"

/* ---- What a payload says ---- */

const uint8_t *payload_change(const uint8_t *at, const uint8_t *end, struct change *ret_change)
{
    const size_t left = (size_t)(end - at);
    if (left < 8 || at[0] >= TABLE_COUNT || at[1] > 1 || at[2] == 0 || at[2] > STORE_KEY_SIZE_MAX)
        return NULL;
    const uint64_t size = at[4] + at[5] * UINT64_C(256) + at[6] * UINT64_C(65536) + at[7] * UINT64_C(16777216);
    if (left - 8 < at[2] || left - 8 - at[2] < size)
        return NULL;
    *ret_change = (struct change){.table = at[0], .gone = at[1] != 0, .key = {.size = at[2]}, .size = (size_t)size};
    memcpy(ret_change->key.bytes, at + 8, at[2]);
    ret_change->value = at + 8 + at[2];
    return ret_change->value + size;
}

uint32_t payload_chance(struct payload payload)
{
    uint32_t chance = 2166136261U;
    for (; payload.at < payload.end; payload.at++)
        chance = (chance ^ *payload.at) * 16777619U;
    return chance;
}

/* ---- Commands, to what the payload is about ---- */

static void to_organization(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->organization = (struct reeve_organization_params){.organization_id = id};
}

static void rename_organization(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->organization_update = (struct reeve_organization_update_params){
        .organization_id = id, .name = reeve_str("new"), .service_quota = 1};
}

static void list_keys(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->key_list = (struct reeve_key_list_params){.organization_id = id};
}

static void list_services(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->service_list = (struct reeve_service_list_params){.organization_id = id};
}

static void list_operations(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->operation_list = (struct reeve_operation_list_params){.organization_id = id};
}

static void list_events(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->event_list = (struct reeve_event_list_params){.organization_id = id};
}

static void list_backups(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->backup_list = (struct reeve_backup_list_params){.organization_id = organization_id, .service_id = id};
}

static void new_key(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->key_create = (struct reeve_key_create_params){.organization_id = id, .name = reeve_str("new")};
}

static void new_service(union reeve_params *params, struct reeve_uuid id, struct reeve_uuid none)
{
    (void)none;
    params->service_create = (struct reeve_service_create_params){.organization_id = id,
                                                                  .name = reeve_str("new"),
                                                                  .provider = reeve_str("aws"),
                                                                  .region = reeve_str("us-east-1"),
                                                                  .tier = REEVE_TIER_PRODUCTION};
}

static void to_key(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->key = (struct reeve_key_params){.organization_id = organization_id, .key_id = id};
}

static void rename_key(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->key_update = (struct reeve_key_update_params){
        .organization_id = organization_id, .key_id = id, .name = reeve_str("new")};
}

static void to_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service = (struct reeve_service_params){.organization_id = organization_id, .service_id = id};
}

static void rename_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service_update = (struct reeve_service_update_params){
        .organization_id = organization_id, .service_id = id, .name = reeve_str("new")};
}

static void scale_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service_scale = (struct reeve_service_scale_params){
        .organization_id = organization_id, .service_id = id, .max_total_memory_gb = 48, .idle_timeout_minutes = 5};
}

static void lose_service(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->service_health = (struct reeve_service_health_params){
        .organization_id = organization_id, .service_id = id, .code = reeve_str("lost")};
}

static void schedule_backups(union reeve_params *params, struct reeve_uuid organization_id, struct reeve_uuid id)
{
    params->backup_configuration_update = (struct reeve_backup_configuration_update_params){
        .organization_id = organization_id, .service_id = id, .period_hours = 24, .start_time = reeve_str("02:00")};
}

static const struct wish {
    enum reeve_command command;
    enum store_table table;
    size_t key_size; /* one id, or two */
    void (*about)(union reeve_params *params, struct reeve_uuid first, struct reeve_uuid second);
} asks[] = {
    {REEVE_COMMAND_ORGANIZATION_UPDATE, TABLE_ORGANIZATIONS, 16, rename_organization},
    {REEVE_COMMAND_ORGANIZATION_DELETE, TABLE_ORGANIZATIONS, 16, to_organization},
    {REEVE_COMMAND_KEY_CREATE, TABLE_ORGANIZATIONS, 16, new_key},
    {REEVE_COMMAND_KEY_UPDATE, TABLE_KEYS, 32, rename_key},
    {REEVE_COMMAND_KEY_REVOKE, TABLE_KEYS, 32, to_key},
    {REEVE_COMMAND_SERVICE_CREATE, TABLE_ORGANIZATIONS, 16, new_service},
    {REEVE_COMMAND_SERVICE_UPDATE, TABLE_SERVICES, 32, rename_service},
    {REEVE_COMMAND_SERVICE_SCALE, TABLE_SERVICES, 32, scale_service},
    {REEVE_COMMAND_SERVICE_START, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_STOP, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_AWAKE, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_DELETE, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_ACTIVITY, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_SERVICE_HEALTH_LOST, TABLE_SERVICES, 32, lose_service},
    {REEVE_COMMAND_BACKUP_CREATE, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_BACKUP_CONFIGURATION_UPDATE, TABLE_SERVICES, 32, schedule_backups},
};
static const struct wish looks[] = {
    {REEVE_COMMAND_ORGANIZATION_GET, TABLE_ORGANIZATIONS, 16, to_organization},
    {REEVE_COMMAND_KEY_LIST, TABLE_ORGANIZATIONS, 16, list_keys},
    {REEVE_COMMAND_KEY_GET, TABLE_KEYS, 32, to_key},
    {REEVE_COMMAND_SERVICE_LIST, TABLE_ORGANIZATIONS, 16, list_services},
    {REEVE_COMMAND_SERVICE_GET, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_BACKUP_LIST, TABLE_SERVICES, 32, list_backups},
    {REEVE_COMMAND_BACKUP_CONFIGURATION_GET, TABLE_SERVICES, 32, to_service},
    {REEVE_COMMAND_OPERATION_LIST, TABLE_ORGANIZATIONS, 16, list_operations},
    {REEVE_COMMAND_EVENT_LIST, TABLE_ORGANIZATIONS, 16, list_events},
};
#define COUNT(items) (sizeof(items) / sizeof((items)[0]))

/* One for each change that it fits. */
static unsigned make_requests(const struct wish *wish, struct payload payload, struct reeve_request requests[ASKED_MAX])
{
    struct change change;
    unsigned count = 0;
    while (payload.at < payload.end && count < ASKED_MAX) {
        payload.at = payload_change(payload.at, payload.end, &change);
        if (change.table != wish->table || change.key.size != wish->key_size)
            continue;
        struct reeve_request *request = &requests[count++];
        *request = (struct reeve_request){.command = wish->command, .actor = reeve_str("fuzz")};
        wish->about(&request->params, uuid_at(change.key.bytes), uuid_at(change.key.bytes + wish->key_size - 16));
    }
    return count;
}

void ask(struct core *core, uint32_t chance, struct payload payload, struct reeve_request requests[ASKED_MAX])
{
    const unsigned count = make_requests(&asks[(chance >> 16) % COUNT(asks)], payload, requests);
    for (unsigned i = 0; i < count; i++) {
        password_prepare(&requests[i], 1U << REEVE_PASSWORD_FORM_SHA_256);
        core_request(core, &requests[i]);
    }
}

static bool on_seen(void *arg, const void *record)
{
    const struct command_type *command = arg;
    struct buffer wire = {0};
    codec_encode_wire(command->answer, record, &wire);
    fuzz_require(wire.size > 0, "what was read cannot be told");
    buffer_deinit(&wire);
    return true;
}

/* What reads has no need of an engine, but for its store. */
void look(struct store *store, struct payload payload)
{
    static struct reeve_engine engine;
    struct reeve_request requests[ASKED_MAX];
    struct reeve_error error;
    engine.store = store;
    for (unsigned i = 0; i < COUNT(looks); i++) {
        const unsigned count = make_requests(&looks[i], payload, requests);
        for (unsigned j = 0; j < count; j++)
            reeve_read(&engine, &requests[j], on_seen, (void *)(uintptr_t)schema_command(looks[i].command), &error);
    }
}
