#include "asks.h"

#include <string.h>

#include "codec.h"
#include "engine.h"
#include "fuzz.h"
#include "keys.h"
#include "password.h"

#define COUNT(items) (sizeof(items) / sizeof((items)[0]))

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

/* Texts and numbers by the name of their parameter; what is not here is left out. */
static const struct {
    const char *name, *text;
    uint64_t number;
} values[] = {
    {.name = "name", .text = "new"},
    {.name = "provider", .text = "aws"},
    {.name = "region", .text = "us-east-1"},
    {.name = "tier", .number = REEVE_TIER_PRODUCTION},
    {.name = "serviceQuota", .number = 1},
    {.name = "maxTotalMemoryGb", .number = 48},
    {.name = "idleTimeoutMinutes", .number = 5},
    {.name = "code", .text = "lost"},
    {.name = "backupPeriodInHours", .number = 24},
    {.name = "backupStartTime", .text = "02:00"},
};

static void set_value(const struct field *field, void *at)
{
    for (unsigned i = 0; i < COUNT(values); i++) {
        if (strcmp(field->name, values[i].name) != 0)
            continue;
        if (field->kind == FIELD_STR)
            *(struct reeve_str *)at = reeve_str(values[i].text);
        else if (field->kind == FIELD_U64)
            *(uint64_t *)at = values[i].number;
        else if (field->kind == FIELD_ENUM)
            *(unsigned *)at = (unsigned)values[i].number;
    }
}

/* The ids of the key, in the order in which the command takes them, and values for the rest. */
static void set_params(const struct record_type *type, const struct store_key *key, union reeve_params *params)
{
    size_t used = 0;
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        void *at = (char *)params + field->offset;
        if (field->kind != FIELD_UUID) {
            set_value(field, at);
        } else if (used + 16 <= key->size) {
            *(struct reeve_uuid *)at = uuid_at(key->bytes + used);
            used += 16;
        }
    }
}

static const struct wish {
    enum reeve_command command;
    enum store_table table;
    size_t key_size; /* one id, or two */
} asks[] = {
    {REEVE_COMMAND_ORGANIZATION_UPDATE, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_ORGANIZATION_DELETE, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_KEY_CREATE, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_KEY_UPDATE, TABLE_KEYS, 32},
    {REEVE_COMMAND_KEY_REVOKE, TABLE_KEYS, 32},
    {REEVE_COMMAND_SERVICE_CREATE, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_SERVICE_UPDATE, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_SCALE, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_START, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_STOP, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_AWAKE, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_DELETE, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_ACTIVITY, TABLE_SERVICES, 32},
    {REEVE_COMMAND_SERVICE_HEALTH_LOST, TABLE_SERVICES, 32},
    {REEVE_COMMAND_BACKUP_CREATE, TABLE_SERVICES, 32},
    {REEVE_COMMAND_BACKUP_CONFIGURATION_UPDATE, TABLE_SERVICES, 32},
};
static const struct wish looks[] = {
    {REEVE_COMMAND_ORGANIZATION_GET, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_KEY_LIST, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_KEY_GET, TABLE_KEYS, 32},
    {REEVE_COMMAND_SERVICE_LIST, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_SERVICE_GET, TABLE_SERVICES, 32},
    {REEVE_COMMAND_BACKUP_LIST, TABLE_SERVICES, 32},
    {REEVE_COMMAND_BACKUP_CONFIGURATION_GET, TABLE_SERVICES, 32},
    {REEVE_COMMAND_OPERATION_LIST, TABLE_ORGANIZATIONS, 16},
    {REEVE_COMMAND_EVENT_LIST, TABLE_ORGANIZATIONS, 16},
};

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
        set_params(schema_command(wish->command)->params, &change.key, &request->params);
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
