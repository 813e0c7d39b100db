/* Keys: who may use an organization over HTTP. Of the secret only a hash is kept. */
#include <sodium.h>

#include "organization.h"
#include "password.h"
#include "rules.h"

#define SECRET_SIZE 43 /* 32 random bytes in unpadded base64 */

static int find_for(struct core *core, const struct reeve_request *request, const struct reeve_uuid *organization_id,
                    const struct reeve_uuid *key_id, struct reeve_key *ret_key, struct reeve_error *ret_error)
{
    const struct store_key key = key_pair(organization_id, key_id);
    if (!core_load(core, TABLE_KEYS, &key, &record_type_key, ret_key))
        return error_set(ret_error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such key");
    ret_key->organization_id = *organization_id;
    ret_key->id = *key_id;
    return check_generation(request, ret_key->generation, ret_error);
}

static void save(struct core *core, const struct reeve_key *key, uint64_t expires_before_ms)
{
    const struct store_key store_key = key_pair(&key->organization_id, &key->id), index = key_uuid(&key->id);
    core_save(core, TABLE_KEYS, &store_key, &record_type_key, key);
    if (key->generation == 1)
        store_put(core->store, TABLE_KEY_INDEX, &index, &key->organization_id, sizeof key->organization_id);
    core->keys_changed = true;
    core_move_due(core, expires_before_ms, key->expires_ms, DUE_KEY, &key->organization_id, &key->id);
}

/* The record and its rows. */
static void drop(struct core *core, const struct reeve_key *key)
{
    const struct store_key store_key = key_pair(&key->organization_id, &key->id), index = key_uuid(&key->id);
    store_delete(core->store, TABLE_KEYS, &store_key);
    store_delete(core->store, TABLE_KEY_INDEX, &index);
    core->keys_changed = true;
    core_move_due(core, key->expires_ms, 0, DUE_KEY, &key->organization_id, &key->id);
}

static void remove_key(struct core *core, const struct reeve_key *key)
{
    drop(core, key);
    struct reeve_organization *organization = organization_find(core, &key->organization_id);
    if (organization && organization->key_count > 0) {
        organization->key_count--;
        organization_touch(core, organization);
    }
}

static void append_event(struct core *core, const struct reeve_key *key, enum reeve_event_type type,
                         struct reeve_str actor)
{
    event_append(core, &(struct reeve_event){.type = type,
                                             .organization_id = key->organization_id,
                                             .object_id = key->id,
                                             .generation = key->generation,
                                             .actor = actor});
}

static int check_expiry(const struct core *core, uint64_t expires_ms, struct reeve_error *ret_error)
{
    if (expires_ms == 0 || expires_ms > core->now_ms)
        return 0;
    return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "expireAt", "must be in the future");
}

static struct reeve_str new_secret(struct core *core)
{
    uint8_t random[32];
    char *text = core_alloc(core, SECRET_SIZE + 1);
    if (!text)
        return (struct reeve_str){0};
    core_random(core, random, sizeof random);
    sodium_bin2base64(text, SECRET_SIZE + 1, random, sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(random, sizeof random);
    return (struct reeve_str){text, SECRET_SIZE};
}

/* Absent means from anywhere; an empty list means from nowhere. */
static struct reeve_access_entry_list anywhere(void)
{
    static const struct reeve_access_entry entries[] = {
        {.source = {"0.0.0.0/0", 9}, .description = {"Anywhere", 8}},
        {.source = {"::/0", 4}, .description = {"Anywhere", 8}},
    };
    return (struct reeve_access_entry_list){entries, 2};
}

int apikey_create(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_key_create_params *params = &request->params.key_create;
    struct reeve_organization *organization = organization_find(core, &params->organization_id);
    if (!organization)
        return error_set(&result->error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such organization");
    int r = rule_name(params->name, "name", &result->error);
    if (r == 0)
        r = rule_access_list(&params->ip_access_list, "ipAccessList", core->limits.ip_access_entries_max,
                             &result->error);
    if (r == 0)
        r = check_expiry(core, params->expires_ms, &result->error);
    if (r < 0)
        return r;
    if (organization->key_count >= core->limits.keys_per_org)
        return error_set(&result->error, REEVE_ERROR_QUOTA_EXCEEDED, NULL,
                         "the organization has %llu keys and may have %llu",
                         (unsigned long long)organization->key_count, (unsigned long long)core->limits.keys_per_org);
    const bool list_given = params->ip_access_list.count || params->given & REEVE_GIVEN_KEY_CREATE_IP_ACCESS_LIST;
    const struct reeve_str secret = new_secret(core);
    uint8_t *sha256 = core_alloc(core, PASSWORD_SHA256_SIZE);
    if (!sha256 || !secret.size)
        return error_plain(&result->error, -REEVE_ERROR_NO_MEMORY);
    password_sha256(secret, sha256);
    const struct reeve_key key = {
        .id = core_new_id(core),
        .organization_id = params->organization_id,
        .name = params->name,
        .role = params->role ? params->role : REEVE_ROLE_DEVELOPER,
        .state = params->state ? params->state : REEVE_KEY_STATE_ENABLED,
        .secret_suffix = {secret.data + secret.size - 4, 4},
        .secret_sha256 = {(const char *)sha256, PASSWORD_SHA256_SIZE},
        .created_ms = core->now_ms,
        .expires_ms = params->expires_ms,
        .ip_access_list = list_given ? params->ip_access_list : anywhere(),
        .generation = 1,
    };
    save(core, &key, 0);
    organization->key_count++;
    organization_touch(core, organization);
    append_event(core, &key, REEVE_EVENT_TYPE_KEY_CREATE, request->actor);
    result->answer.key_created = (struct reeve_key_created){.key = key, .key_id = key.id, .key_secret = secret};
    return 0;
}

int apikey_update(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_key_update_params *params = &request->params.key_update;
    struct reeve_key key;
    int r = find_for(core, request, &params->organization_id, &params->key_id, &key, &result->error);
    if (r == 0 && params->name.size)
        r = rule_name(params->name, "name", &result->error);
    if (r == 0)
        r = rule_access_list(&params->ip_access_list, "ipAccessList", core->limits.ip_access_entries_max,
                             &result->error);
    if (r == 0)
        r = check_expiry(core, params->expires_ms, &result->error);
    if (r < 0)
        return r;
    const uint64_t expires_before_ms = key.expires_ms;
    if (params->name.size)
        key.name = params->name;
    if (params->role)
        key.role = params->role;
    if (params->state)
        key.state = params->state;
    if (params->expires_ms || params->null & REEVE_GIVEN_KEY_UPDATE_EXPIRES_MS)
        key.expires_ms = params->expires_ms;
    if (params->ip_access_list.count || params->given & REEVE_GIVEN_KEY_UPDATE_IP_ACCESS_LIST)
        key.ip_access_list = params->ip_access_list;
    key.generation++;
    save(core, &key, expires_before_ms);
    append_event(core, &key, REEVE_EVENT_TYPE_KEY_UPDATE, request->actor);
    result->answer.key = key;
    return 0;
}

int apikey_revoke(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    struct reeve_key key;
    const int r = find_for(core, request, &request->params.key.organization_id, &request->params.key.key_id, &key,
                           &result->error);
    if (r < 0)
        return r;
    remove_key(core, &key);
    append_event(core, &key, REEVE_EVENT_TYPE_KEY_REVOKE, request->actor);
    return 0;
}

/* A key that has ended is removed: it would be refused anyway, and keys count. */
void apikey_due(struct core *core, const struct reeve_uuid *organization_id, const struct reeve_uuid *key_id,
                uint64_t due_ms)
{
    struct reeve_key key;
    const struct store_key store_key = key_pair(organization_id, key_id);
    if (!core_load(core, TABLE_KEYS, &store_key, &record_type_key, &key) || key.expires_ms != due_ms) {
        core_drop_due(core, "key", due_ms, DUE_KEY, organization_id, key_id);
        return;
    }
    key.organization_id = *organization_id;
    key.id = *key_id;
    remove_key(core, &key);
    append_event(core, &key, REEVE_EVENT_TYPE_KEY_EXPIRE, reeve_str("expiry"));
}

void apikeys_drop(struct core *core, const struct reeve_uuid *organization_id)
{
    const struct store_key prefix = key_uuid(organization_id);
    struct store_item item;
    while (store_seek(core->store, TABLE_KEYS, &prefix, &item) && item.key_size == 32 &&
           memcmp(item.key, organization_id, 16) == 0) {
        const struct reeve_uuid key_id = uuid_at(item.key + 16);
        const struct store_key store_key = key_pair(organization_id, &key_id);
        struct reeve_key key;
        if (!core_load(core, TABLE_KEYS, &store_key, &record_type_key, &key))
            return;
        key.organization_id = *organization_id;
        key.id = key_id;
        drop(core, &key);
    }
}
