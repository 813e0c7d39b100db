/* The commands on services: values checked, desired state changed, the step taken. */
#include <assert.h>
#include <stdio.h>

#include "backup.h"
#include "organization.h"
#include "password.h"
#include "rules.h"
#include "service.h"

#define IDLE_TIMEOUT_PRESET_MINUTES 15
#define NATIVE_PORT 9440
#define HTTPS_PORT 8443
#define MYSQL_PORT 3306
#define DOUBLE_SHA1_SIZE 20

static int not_found(struct reeve_error *ret_error, const char *what)
{
    return error_set(ret_error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such %s", what);
}

/* `given`, or a value that says so by itself. */
#define GIVEN(params, bit, value) (((params)->given & (bit)) != 0 || (value))

/* A password that came with the command, see password.h, or hashes of one; the latter may be absent. */
struct password_wish {
    const struct reeve_request *request;
    struct reeve_str sha256, double_sha1;
};

static int take_hash(const struct core *core, struct reeve_str given, uint8_t ret_sha256[32],
                     struct reeve_error *ret_error)
{
    if (core->hooks.password_forms & 1U << REEVE_PASSWORD_FORM_SHA_256)
        return rule_password_hash(given, "newPasswordHash", ret_sha256, ret_error);
    return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "newPasswordHash",
                     "must be absent: the servers here cannot take a password from its SHA-256; without it, one is "
                     "generated");
}

static void take_generated(struct core *core, const struct reeve_request *request, struct reeve_service *service,
                           uint8_t ret_sha256[32], struct reeve_str *ret_password)
{
    const struct reeve_str password = {request->internal.password, REEVE_PASSWORD_SIZE};
    assert(*password.data); /* password_prepare() has made it */
    password_sha256(password, ret_sha256);
    service->password_scram = core_copy(core, reeve_str(request->internal.scram));
    *ret_password = core_copy(core, password);
}

/* Sets the hashes of the service; the password is filled in where it was generated. A hash for the MySQL protocol
 * counts only beside the other one: alone it would belong to no password anybody knows. */
static int take_password(struct core *core, struct reeve_service *service, const struct password_wish *wish,
                         struct reeve_str *ret_password, struct reeve_error *ret_error)
{
    const bool generated = password_is_wanted(wish->request);
    uint8_t *sha256 = core_alloc(core, PASSWORD_SHA256_SIZE), *sha1 = core_alloc(core, DOUBLE_SHA1_SIZE);
    int r = 0;
    if (!sha256 || !sha1)
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    if (!generated)
        r = take_hash(core, wish->sha256, sha256, ret_error);
    if (r == 0 && wish->double_sha1.size)
        r = rule_double_sha1_hash(wish->double_sha1, "newDoubleSha1Hash", sha1, ret_error);
    if (r < 0)
        return r;
    const bool has_sha1 = !generated && wish->double_sha1.size;
    service->password_scram = *ret_password = (struct reeve_str){0};
    service->password_sha256 = (struct reeve_str){(const char *)sha256, PASSWORD_SHA256_SIZE};
    service->password_double_sha1 = has_sha1 ? (struct reeve_str){(const char *)sha1, DOUBLE_SHA1_SIZE}
                                             : (struct reeve_str){0};
    if (generated)
        take_generated(core, wish->request, service, sha256, ret_password);
    return 0;
}

/* <10 characters>.<region>.<provider>.<domain>, the same for all protocols and for the service's whole life. */
static struct reeve_str make_host(struct core *core, const struct reeve_service *service)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    const struct reeve_str behind[] = {service->region, service->provider, core->endpoint_domain};
    char *host = core_alloc(core, 10 + 3 + service->region.size + service->provider.size + core->endpoint_domain.size);
    size_t size = 0;
    uint64_t number;
    if (!host)
        return (struct reeve_str){0};
    memcpy(&number, service->id.bytes + 8, sizeof number);
    for (; size < 10; number /= 36)
        host[size++] = alphabet[number % 36];
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
        host[size++] = '.';
        memcpy(host + size, behind[i].data, behind[i].size);
        size += behind[i].size;
    }
    return (struct reeve_str){host, size};
}

static void make_endpoints(struct core *core, struct reeve_service *service)
{
    struct reeve_endpoint *endpoints = core_alloc(core, 2 * sizeof *endpoints);
    const struct reeve_str host = make_host(core, service);
    if (!endpoints)
        return;
    endpoints[0] = (struct reeve_endpoint){.protocol = reeve_str("nativesecure"), .host = host, .port = NATIVE_PORT};
    endpoints[1] = (struct reeve_endpoint){.protocol = reeve_str("https"), .host = host, .port = HTTPS_PORT};
    service->endpoints = (struct reeve_endpoint_list){endpoints, 2};
}

static bool is_mysql(struct reeve_str protocol)
{
    return bytes_equal(protocol.data, protocol.size, "mysql", 5);
}

/* The endpoint of the MySQL protocol stands last, with a user of its own; the others keep their places. */
static void show_mysql(struct core *core, struct reeve_service *service)
{
    const struct reeve_endpoint_list *before = &service->endpoints;
    struct reeve_endpoint *endpoints = core_alloc(core, (before->count + 1) * sizeof *endpoints);
    size_t count = 0;
    char user[32];
    if (!endpoints || before->count == 0)
        return;
    for (size_t i = 0; i < before->count; i++) {
        if (!is_mysql(before->items[i].protocol))
            endpoints[count++] = before->items[i];
    }
    const struct reeve_str host = before->items[0].host;
    const char *dot = host.size ? memchr(host.data, '.', host.size) : NULL;
    const size_t name_size = dot ? (size_t)(dot - host.data) : host.size;
    snprintf(user, sizeof user, "mysql4%.*s", (int)(name_size < 20 ? name_size : 20), host.data);
    if (service->mysql_enabled)
        endpoints[count++] = (struct reeve_endpoint){.protocol = reeve_str("mysql"),
                                                     .host = host,
                                                     .port = MYSQL_PORT,
                                                     .username = core_copy(core, reeve_str(user))};
    service->endpoints = (struct reeve_endpoint_list){endpoints, count};
}

static int take_switches(const struct reeve_endpoint_switch_list *switches, struct reeve_service *service,
                         struct reeve_error *ret_error)
{
    for (size_t i = 0; i < switches->count; i++) {
        char path[64];
        const struct reeve_str protocol = switches->items[i].protocol;
        snprintf(path, sizeof path, "endpoints[%zu].protocol", i);
        if (!is_mysql(protocol))
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path,
                             "must be 'mysql', the others are always on <string:%.*s>",
                             (int)utf8_cut(protocol.data, protocol.size, 40), protocol.data);
        service->mysql_enabled = switches->items[i].enabled;
    }
    return 0;
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
    return 0;
}

/* The parameters of create and scale have the same names. */
#define BOUND(params, COMMAND, WHICH, which)                                                                           \
    {                                                                                                                  \
        .total_given = GIVEN(params, REEVE_GIVEN_##COMMAND##_##WHICH##_TOTAL_MEMORY_GB,                                \
                             (params)->which##_total_memory_gb),                                                       \
        .total_gb = (params)->which##_total_memory_gb,                                                                 \
        .replica_given = GIVEN(params, REEVE_GIVEN_##COMMAND##_##WHICH##_REPLICA_MEMORY_GB,                            \
                               (params)->which##_replica_memory_gb),                                                   \
        .replica_gb = (params)->which##_replica_memory_gb,                                                             \
    }
#define SCALING(params, COMMAND)                                                                                       \
    {                                                                                                                  \
        .min = BOUND(params, COMMAND, MIN, min), .max = BOUND(params, COMMAND, MAX, max),                              \
        .idle_given = GIVEN(params, REEVE_GIVEN_##COMMAND##_IDLE_SCALING, (params)->idle_scaling),                     \
        .idle_scaling = (params)->idle_scaling, .idle_timeout_minutes = (params)->idle_timeout_minutes,                \
        .num_replicas = (params)->num_replicas, .autoscaling_mode = (params)->autoscaling_mode,                        \
    }

static int check_create(struct core *core, const struct reeve_service_create_params *params,
                        const struct reeve_organization *organization, struct reeve_service *service,
                        struct reeve_error *ret_error)
{
    const struct scaling scaling = SCALING(params, SERVICE_CREATE);
    int r = rule_name(params->name, "name", ret_error);
    if (r == 0)
        r = rule_region(core->catalogue, params->provider, params->region, ret_error);
    if (r == 0)
        r = rule_access_list(&params->ip_access_list, "ipAccessList", core->limits.ip_access_entries_max, ret_error);
    if (r == 0)
        r = rule_scaling(&scaling, organization->paid, service, ret_error);
    if (r == 0)
        r = rule_tags(&params->tags, "tags", ret_error);
    if (r == 0)
        r = take_switches(&params->endpoints, service, ret_error);
    if (r == 0 && params->is_readonly)
        r = error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "isReadonly",
                      "must be false: services share no storage <boolean:true>");
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
                   .idle_timeout_minutes = IDLE_TIMEOUT_PRESET_MINUTES,
                   .num_replicas = params->tier == REEVE_TIER_DEVELOPMENT ? 1 : 3,
                   .release_channel = params->release_channel ? params->release_channel : REEVE_RELEASE_CHANNEL_DEFAULT,
                   .created_ms = core->now_ms,
                   .desired = 1,
                   .backup_configuration = {.period_hours = 24,
                                            .retention_hours = params->tier == REEVE_TIER_PRODUCTION ? 48 : 24}},
    };
    struct reeve_service *service = &edit.record;
    int r = check_create(core, params, organization, service, &result->error);
    struct reeve_str password = {0};
    if (r == 0)
        r = take_password(core, service,
                          &(struct password_wish){request, params->password_hash, params->double_sha1_hash}, &password,
                          &result->error);
    if (r == 0)
        r = access_list_patch(core, &(struct reeve_access_entry_list){0}, &(struct reeve_access_entry_list){0},
                              &params->ip_access_list, &service->ip_access_list);
    if (r == 0)
        r = tags_patch(core, &(struct reeve_tag_list){0}, &(struct reeve_tag_list){0}, &params->tags, &service->tags);
    if (r < 0)
        return r;
    if (!reeve_uuid_is_nil(&service->restored_from)) /* a refusal must not hold it */
        backup_pin(core, &service->restored_service, &service->restored_from, 1);
    make_endpoints(core, service);
    show_mysql(core, service);
    bool changed;
    const struct step step = {
        .input = INPUT_CREATE,
        .actor = request->actor,
        .changed = reeve_str(reeve_uuid_is_nil(&params->backup_id) ? NULL : "backup"),
    };
    r = service_step(core, &edit, &step, &changed, &result->error);
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
    return check_generation(request, ret_edit->record.generation, ret_error);
}

/* A change of what is asked for, and the step that brings it about. */
static int change_desired(struct core *core, const struct reeve_request *request, struct service_edit *edit,
                          enum lifecycle_input input, const char *fields, struct reeve_error *ret_error)
{
    bool changed;
    edit->record.desired++;
    const struct step step = {.input = input, .actor = request->actor, .changed = core_copy(core, reeve_str(fields))};
    const int r = service_step(core, edit, &step, &changed, ret_error);
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

static void append_word(char *words, size_t size, bool wanted, const char *word)
{
    const size_t used = strlen(words);
    if (wanted)
        snprintf(words + used, size - used, "%s%s", used ? "," : "", word);
}

static int check_update(struct core *core, const struct reeve_service_update_params *params,
                        const struct service_edit *edit, struct reeve_error *ret_error)
{
    int r = 0;
    if (GIVEN(params, REEVE_GIVEN_SERVICE_UPDATE_NAME, params->name.size))
        r = rule_name(params->name, "name", ret_error);
    if (r == 0)
        r = rule_access_list(&params->ip_access_list.add, "ipAccessList.add", core->limits.ip_access_entries_max,
                             ret_error);
    if (r == 0)
        r = rule_tags(&params->tags.add, "tags.add", ret_error);
    if (r == 0)
        r = rule_removed(&params->ip_access_list.remove, &params->tags.remove, ret_error);
    if (r == 0)
        r = check_state(edit, INPUT_UPDATE, ret_error);
    return r;
}

/* Take over what was given; *ret_fields says what that was. */
static int apply_update(struct core *core, const struct reeve_service_update_params *params,
                        struct reeve_service *service, char ret_fields[64], struct reeve_error *ret_error)
{
    const struct reeve_access_patch_params *access = &params->ip_access_list;
    const struct reeve_tag_patch_params *tags = &params->tags;
    const bool has_access = access->add.count || access->remove.count, has_tags = tags->add.count || tags->remove.count;
    ret_fields[0] = '\0';
    append_word(ret_fields, 64, params->name.size, "name");
    append_word(ret_fields, 64, has_access, "ip_access_list");
    append_word(ret_fields, 64, has_tags, "tags");
    append_word(ret_fields, 64, params->release_channel, "release_channel");
    append_word(ret_fields, 64, params->endpoints.count, "mysql");
    if (params->name.size)
        service->name = params->name;
    if (params->release_channel)
        service->release_channel = params->release_channel;
    int r = take_switches(&params->endpoints, service, ret_error);
    if (r == 0 && params->endpoints.count)
        show_mysql(core, service);
    if (r == 0 && has_access)
        r = access_list_patch(core, &service->ip_access_list, &access->remove, &access->add, &service->ip_access_list);
    if (r == 0 && has_tags)
        r = tags_patch(core, &service->tags, &tags->remove, &tags->add, &service->tags);
    if (r == 0)
        r = rule_access_list(&service->ip_access_list, "ipAccessList", core->limits.ip_access_entries_max, ret_error);
    if (r == 0)
        r = rule_tags(&service->tags, "tags", ret_error);
    return r;
}

int service_update(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_update_params *params = &request->params.service_update;
    struct service_edit edit;
    char fields[64];
    int r = load_for(core, request, &params->organization_id, &params->service_id, &edit, &result->error);
    if (r == 0)
        r = check_update(core, params, &edit, &result->error);
    if (r == 0)
        r = apply_update(core, params, &edit.record, fields, &result->error);
    if (r == 0 && fields[0]) /* an empty update is fine and changes nothing */
        r = change_desired(core, request, &edit, INPUT_UPDATE, fields, &result->error);
    result->answer.service = edit.record;
    return r;
}

int service_scale(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_scale_params *params = &request->params.service_scale;
    const struct scaling scaling = SCALING(params, SERVICE_SCALE);
    const bool memory = scaling.min.total_given || scaling.min.replica_given || scaling.max.total_given ||
                        scaling.max.replica_given;
    const bool idling = scaling.idle_given || scaling.idle_timeout_minutes;
    struct service_edit edit;
    char fields[64] = "";
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
    append_word(fields, sizeof fields, memory, "memory");
    append_word(fields, sizeof fields, idling, "idling");
    append_word(fields, sizeof fields, scaling.num_replicas || scaling.autoscaling_mode, "replicas");
    if (r == 0 && idling && service->state == REEVE_SERVICE_STATE_RUNNING)
        service->idle_at_ms = service->idle_scaling ? core->now_ms + service->idle_timeout_minutes * UINT64_C(60000)
                                                    : 0;
    if (r == 0 && fields[0])
        r = change_desired(core, request, &edit, INPUT_SCALE, fields, &result->error);
    result->answer.service = *service;
    return r;
}

int service_set_password(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_service_set_password_params *params = &request->params.service_set_password;
    const struct password_wish wish = {request, params->password_hash, params->double_sha1_hash};
    struct service_edit edit;
    int r = load_for(core, request, &params->organization_id, &params->service_id, &edit, &result->error);
    struct reeve_str password = {0};
    if (r == 0)
        r = take_password(core, &edit.record, &wish, &password, &result->error);
    if (r == 0)
        r = change_desired(core, request, &edit, INPUT_SET_PASSWORD, "password", &result->error);
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
