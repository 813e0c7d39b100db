/* The commands on services: values checked, desired state changed, the step taken. */
#include <sodium.h>
#include <stdio.h>

#include "backup.h"
#include "organization.h"
#include "rules.h"
#include "service.h"

#define IDLE_TIMEOUT_PRESET_MINUTES 15
#define PASSWORD_SIZE 24
#define NATIVE_PORT 9440
#define HTTPS_PORT 8443

static int not_found(struct reeve_error *ret_error, const char *what)
{
    return error_set(ret_error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such %s", what);
}

/* `given`, or a value that says so by itself. */
#define GIVEN(params, bit, value) (((params)->given & (bit)) != 0 || (value))

/* Characters that are told apart on paper. */
static struct reeve_str new_password(struct core *core)
{
    static const char alphabet[] = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    uint8_t random[PASSWORD_SIZE * 4];
    char *text = core_alloc(core, PASSWORD_SIZE);
    if (!text)
        return (struct reeve_str){0};
    core_random(core, random, sizeof random);
    for (size_t i = 0; i < PASSWORD_SIZE; i++) {
        uint32_t number;
        memcpy(&number, random + 4 * i, sizeof number);
        text[i] = alphabet[number % (sizeof alphabet - 1)];
    }
    sodium_memzero(random, sizeof random);
    return (struct reeve_str){text, PASSWORD_SIZE};
}

/* Sets the hash of the service; the password is filled in where it was generated. */
static int take_password(struct core *core, struct reeve_service *service, struct reeve_str hash, bool hash_given,
                         struct reeve_str *ret_password, struct reeve_error *ret_error)
{
    uint8_t *sha256 = core_alloc(core, crypto_hash_sha256_BYTES);
    if (!sha256)
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    *ret_password = (struct reeve_str){0};
    if (hash_given) {
        const int r = rule_password_hash(hash, "newPasswordHash", sha256, ret_error);
        if (r < 0)
            return r;
    } else {
        *ret_password = new_password(core);
        crypto_hash_sha256(sha256, (const unsigned char *)ret_password->data, ret_password->size);
    }
    service->password_sha256 = (struct reeve_str){(const char *)sha256, crypto_hash_sha256_BYTES};
    return 0;
}

/* <10 characters>.<region>.<provider>.<domain>, the same for all protocols and for the service's whole life. */
static void make_endpoints(struct core *core, struct reeve_service *service)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    char name[11] = "", host[256];
    uint64_t number;
    memcpy(&number, service->id.bytes + 8, sizeof number);
    for (int i = 0; i < 10; i++, number /= 36)
        name[i] = alphabet[number % 36];
    const int size = snprintf(host, sizeof host, "%s.%.*s.%.*s.%.*s", name, (int)service->region.size,
                              service->region.data, (int)service->provider.size, service->provider.data,
                              (int)core->endpoint_domain.size, core->endpoint_domain.data);
    struct reeve_endpoint *endpoints = core_alloc(core, 2 * sizeof *endpoints);
    const struct reeve_str copy = core_copy(
        core, (struct reeve_str){host, (size_t)size < sizeof host ? (size_t)size : sizeof host - 1});
    if (!endpoints)
        return;
    endpoints[0] = (struct reeve_endpoint){.protocol = reeve_str("nativesecure"), .host = copy, .port = NATIVE_PORT};
    endpoints[1] = (struct reeve_endpoint){.protocol = reeve_str("https"), .host = copy, .port = HTTPS_PORT};
    service->endpoints = (struct reeve_endpoint_list){endpoints, 2};
}

/* A restore needs a finished backup of the same organization, provider, region and tier. */
static int take_backup(struct core *core, const struct reeve_service_create_params *params,
                       struct reeve_service *service, struct reeve_error *ret_error)
{
    if (reeve_uuid_is_nil(&params->backup_id))
        return 0;
    const struct store_key key = key_uuid(&params->backup_id);
    struct reeve_str value;
    struct backup_edit edit;
    if (!store_get(core->store, TABLE_BACKUP_INDEX, &key, &value) || value.size != 16)
        return error_set(ret_error, REEVE_ERROR_NOT_FOUND, "backupId", "there is no such backup");
    const struct reeve_uuid service_id = uuid_at((const uint8_t *)value.data);
    if (!backup_load(core, &service_id, &params->backup_id, &edit) ||
        !uuid_equal(&edit.record.organization_id, &params->organization_id))
        return error_set(ret_error, REEVE_ERROR_NOT_FOUND, "backupId", "there is no such backup");
    const struct reeve_backup *backup = &edit.record;
    if (backup->state != REEVE_BACKUP_STATE_DONE)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "backupId", "must be a finished backup, is '%s'",
                         reeve_backup_state_name(backup->state));
    if (!bytes_equal(backup->region.data, backup->region.size, params->region.data, params->region.size) ||
        !bytes_equal(backup->provider.data, backup->provider.size, params->provider.data, params->provider.size))
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "region", "must be that of the backup, %.*s of %.*s",
                         (int)backup->region.size, backup->region.data, (int)backup->provider.size,
                         backup->provider.data);
    if (backup->tier != params->tier)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "tier", "must be that of the backup, %s",
                         backup->tier ? reeve_tier_name(backup->tier) : "none");
    service->restored_from = params->backup_id;
    service->restored_service = service_id;
    backup_pin(core, &service_id, &params->backup_id, 1);
    return 0;
}

static int check_create(struct core *core, const struct reeve_service_create_params *params,
                        const struct reeve_organization *organization, struct reeve_service *service,
                        struct reeve_error *ret_error)
{
    const struct scaling scaling = {
        .min_given = GIVEN(params, REEVE_GIVEN_SERVICE_CREATE_MIN_TOTAL_MEMORY_GB, params->min_total_memory_gb),
        .max_given = GIVEN(params, REEVE_GIVEN_SERVICE_CREATE_MAX_TOTAL_MEMORY_GB, params->max_total_memory_gb),
        .idle_given = GIVEN(params, REEVE_GIVEN_SERVICE_CREATE_IDLE_SCALING, params->idle_scaling),
        .min_total_gb = params->min_total_memory_gb,
        .max_total_gb = params->max_total_memory_gb,
        .idle_scaling = params->idle_scaling,
    };
    int r = rule_name(params->name, "name", ret_error);
    if (r == 0)
        r = rule_region(core->catalogue, params->provider, params->region, ret_error);
    if (r == 0)
        r = rule_access_list(&params->ip_access_list, "ipAccessList", core->limits.ip_access_entries_max, ret_error);
    if (r == 0)
        r = rule_scaling(&scaling, organization->paid, service, ret_error);
    if (r < 0)
        return r;
    const uint64_t quota = organization->service_quota ? organization->service_quota : core->limits.services_per_org;
    if (organization->service_count >= quota)
        return error_set(ret_error, REEVE_ERROR_QUOTA_EXCEEDED, NULL,
                         "the organization has %llu services and may have %llu",
                         (unsigned long long)organization->service_count, (unsigned long long)quota);
    return take_backup(core, params, service, ret_error);
}

int service_create(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_create_params *params = &request->params.service_create;
    struct reeve_organization *organization = organization_find(core, &params->organization_id);
    if (!organization)
        return not_found(&result->error, "organization");
    struct service_edit edit = {
        .record = {.organization_id = params->organization_id,
                   .id = core_new_id(core),
                   .name = params->name,
                   .provider = params->provider,
                   .region = params->region,
                   .tier = params->tier,
                   .idle_scaling = true,
                   .idle_timeout_minutes = params->idle_timeout_minutes ? params->idle_timeout_minutes
                                                                        : IDLE_TIMEOUT_PRESET_MINUTES,
                   .created_ms = core->now_ms,
                   .desired = 1,
                   .backup_configuration = {.period_hours = 24,
                                            .retention_hours = params->tier == REEVE_TIER_PRODUCTION ? 48 : 24}},
    };
    struct reeve_service *service = &edit.record;
    int r = check_create(core, params, organization, service, &result->error);
    struct reeve_str password = {0};
    if (r == 0)
        r = take_password(core, service, params->password_hash,
                          GIVEN(params, REEVE_GIVEN_SERVICE_CREATE_PASSWORD_HASH, params->password_hash.size),
                          &password, &result->error);
    if (r == 0)
        r = access_list_patch(core, &(struct reeve_access_entry_list){0}, &(struct reeve_access_entry_list){0},
                              &params->ip_access_list, &service->ip_access_list);
    if (r < 0)
        return r;
    make_endpoints(core, service);
    bool changed;
    r = service_step(core, &edit, &(struct step){.input = INPUT_CREATE, .actor = request->actor}, &changed,
                     &result->error);
    if (r < 0)
        return r;
    organization->service_count++;
    organization_touch(core, organization);
    service_save(core, &edit);
    service_derive(service, &service->organization_id, &service->id);
    result->answer.service_created.service = *service;
    result->answer.service_created.password = password;
    return 0;
}

/* Load the service a CHANGE command names and check the generation it may name. */
static int load_for(struct core *core, const struct reeve_request *request, const struct reeve_uuid *organization_id,
                    const struct reeve_uuid *service_id, struct service_edit *ret_edit, struct reeve_error *ret_error)
{
    if (!service_load(core, organization_id, service_id, ret_edit))
        return not_found(ret_error, "service");
    const uint64_t generation = request->meta.if_generation;
    if (generation && generation != ret_edit->record.generation)
        return error_set(ret_error, REEVE_ERROR_STALE_GENERATION, "ifGeneration", "the generation is %llu, not %llu",
                         (unsigned long long)ret_edit->record.generation, (unsigned long long)generation);
    return 0;
}

/* A change of what is asked for, and the step that brings it about. */
static int change_desired(struct core *core, const struct reeve_request *request, struct service_edit *edit,
                          enum lifecycle_input input, struct reeve_error *ret_error)
{
    bool changed;
    edit->record.desired++;
    const int r = service_step(core, edit, &(struct step){.input = input, .actor = request->actor}, &changed,
                               ret_error);
    if (r == 0)
        service_save(core, edit);
    service_derive(&edit->record, &edit->record.organization_id, &edit->record.id);
    return r;
}

/* Refuse before anything else where the state does not allow the command, so that the reason is the state. */
static int check_state(const struct service_edit *edit, enum lifecycle_input input, struct reeve_error *ret_error)
{
    if (lifecycle_step(edit->record.state, input)->effect != EFFECT_NONE)
        return 0;
    lifecycle_conflict(edit->record.state, input, ret_error);
    return -REEVE_ERROR_CONFLICT;
}

int service_update(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_update_params *params = &request->params.service_update;
    const struct reeve_access_patch_params *patch = &params->ip_access_list;
    struct service_edit edit;
    int r = load_for(core, request, &params->organization_id, &params->service_id, &edit, &result->error);
    if (r == 0 && GIVEN(params, REEVE_GIVEN_SERVICE_UPDATE_NAME, params->name.size))
        r = rule_name(params->name, "name", &result->error);
    if (r == 0)
        r = rule_access_list(&patch->add, "ipAccessList.add", core->limits.ip_access_entries_max, &result->error);
    if (r == 0)
        r = check_state(&edit, INPUT_UPDATE, &result->error);
    if (r < 0)
        return r;
    struct reeve_service *service = &edit.record;
    const bool has_patch = patch->add.count || patch->remove.count;
    if (!params->name.size && !has_patch) { /* an empty update is fine and changes nothing */
        result->answer.service = *service;
        return 0;
    }
    if (params->name.size)
        service->name = params->name;
    if (has_patch)
        r = access_list_patch(core, &service->ip_access_list, &patch->remove, &patch->add, &service->ip_access_list);
    if (r == 0)
        r = rule_access_list(&service->ip_access_list, "ipAccessList", core->limits.ip_access_entries_max,
                             &result->error);
    if (r == 0)
        r = change_desired(core, request, &edit, INPUT_UPDATE, &result->error);
    result->answer.service = *service;
    return r;
}

int service_scale(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_scale_params *params = &request->params.service_scale;
    const struct scaling scaling = {
        .min_given = GIVEN(params, REEVE_GIVEN_SERVICE_SCALE_MIN_TOTAL_MEMORY_GB, params->min_total_memory_gb),
        .max_given = GIVEN(params, REEVE_GIVEN_SERVICE_SCALE_MAX_TOTAL_MEMORY_GB, params->max_total_memory_gb),
        .idle_given = GIVEN(params, REEVE_GIVEN_SERVICE_SCALE_IDLE_SCALING, params->idle_scaling),
        .min_total_gb = params->min_total_memory_gb,
        .max_total_gb = params->max_total_memory_gb,
        .idle_scaling = params->idle_scaling,
    };
    struct service_edit edit;
    int r = load_for(core, request, &params->organization_id, &params->service_id, &edit, &result->error);
    if (r < 0)
        return r;
    const struct reeve_organization *organization = organization_find(core, &params->organization_id);
    if (!organization)
        return not_found(&result->error, "organization");
    struct reeve_service *service = &edit.record;
    r = check_state(&edit, INPUT_SCALE, &result->error);
    if (r == 0)
        r = rule_scaling(&scaling, organization->paid, service, &result->error);
    if (r < 0)
        return r;
    if (params->idle_timeout_minutes)
        service->idle_timeout_minutes = params->idle_timeout_minutes;
    else if (!scaling.min_given && !scaling.max_given && !scaling.idle_given) {
        result->answer.service = *service;
        return 0;
    }
    if (service->state == REEVE_SERVICE_STATE_RUNNING)
        service->idle_at_ms = service->idle_scaling ? core->now_ms + service->idle_timeout_minutes * UINT64_C(60000)
                                                    : 0;
    r = change_desired(core, request, &edit, INPUT_SCALE, &result->error);
    result->answer.service = *service;
    return r;
}

int service_set_password(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_set_password_params *params = &request->params.service_set_password;
    struct service_edit edit;
    int r = load_for(core, request, &params->organization_id, &params->service_id, &edit, &result->error);
    struct reeve_str password = {0};
    if (r == 0)
        r = take_password(core, &edit.record, params->password_hash,
                          GIVEN(params, REEVE_GIVEN_SERVICE_SET_PASSWORD_PASSWORD_HASH, params->password_hash.size),
                          &password, &result->error);
    if (r == 0)
        r = change_desired(core, request, &edit, INPUT_SET_PASSWORD, &result->error);
    if (r == 0)
        result->answer.password.password = password;
    return r;
}

int service_command(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct command_type *command = schema_command(request->command);
    struct step step = {.input = (enum lifecycle_input)command->input, .actor = request->actor};
    const struct reeve_uuid *organization_id = &request->params.service.organization_id;
    const struct reeve_uuid *service_id = &request->params.service.service_id;
    if (request->command == REEVE_COMMAND_SERVICE_HEALTH_LOST) {
        const struct reeve_service_health_params *params = &request->params.service_health;
        organization_id = &params->organization_id;
        service_id = &params->service_id;
        step.reason = (struct reeve_failure){
            .code = params->code.size ? params->code : reeve_str("health_lost"),
            .message = params->message.size ? params->message : reeve_str("the service was reported as not working"),
            .at_ms = core->now_ms,
        };
    }
    struct service_edit edit;
    int r = load_for(core, request, organization_id, service_id, &edit, &result->error);
    bool changed = false;
    if (r == 0)
        r = service_step(core, &edit, &step, &changed, &result->error);
    if (r == 0 && changed)
        service_save(core, &edit);
    if (r == 0 && command->answer == &record_type_service)
        result->answer.service = edit.record;
    return r;
}
