#include "request.h"

#include <stdio.h>
#include <time.h>

#include "codec.h"

static json_t *text(struct reeve_str value)
{
    return value.size ? json_stringn(value.data, value.size) : json_string("");
}

static json_t *identity(const struct reeve_uuid *id)
{
    char word[37];
    if (reeve_uuid_is_nil(id))
        return json_null();
    reeve_uuid_format(id, word);
    return json_string(word);
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* A set of words has NULL for what is not set. */
static json_t *word(const char *name)
{
    return name ? json_string(name) : json_null();
}

static json_t *moment(uint64_t ms)
{
    char words[25];
    if (!ms)
        return json_null();
    codec_format_time(ms, true, words);
    return json_string(words);
}

static json_t *hexadecimal(struct reeve_str bytes)
{
    char words[129];
    if (!bytes.size || bytes.size > 64)
        return json_null();
    for (size_t i = 0; i < bytes.size; i++)
        snprintf(words + 2 * i, 3, "%02x", (unsigned)(unsigned char)bytes.data[i]);
    return json_string(words);
}

/* What another provisioner has left behind is none of ours. */
static json_t *handle_of(struct reeve_str handle)
{
    json_t *json = handle.size ? json_loadb(handle.data, handle.size, 0, NULL) : NULL;
    return json ? json : json_null();
}

/* ---- Lists ---- */

static json_t *access_list(const struct reeve_access_entry_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_pack("{s:o, s:o}", "source", text(list->items[i].source), "description",
                                               text(list->items[i].description)));
    return array;
}

static json_t *endpoints(const struct reeve_endpoint_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const struct reeve_endpoint *endpoint = &list->items[i];
        json_t *one = json_pack("{s:o, s:o, s:o}", "protocol", text(endpoint->protocol), "host", text(endpoint->host),
                                "port", number(endpoint->port));
        if (endpoint->username.size)
            json_object_set_new(one, "username", text(endpoint->username));
        json_array_append_new(array, one);
    }
    return array;
}

static json_t *tags(const struct reeve_tag_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(
            array, json_pack("{s:o, s:o}", "key", text(list->items[i].key), "value", text(list->items[i].value)));
    return array;
}

/* ---- Records ---- */

static void set_size(json_t *json, const struct reeve_service *service)
{
    json_object_set_new(json, "minReplicaMemoryGb", number(service->min_replica_memory_gb));
    json_object_set_new(json, "maxReplicaMemoryGb", number(service->max_replica_memory_gb));
    json_object_set_new(json, "minTotalMemoryGb", number(service->min_total_memory_gb));
    json_object_set_new(json, "maxTotalMemoryGb", number(service->max_total_memory_gb));
    json_object_set_new(json, "numReplicas", number(service->num_replicas));
    json_object_set_new(json, "autoscalingMode", word(reeve_autoscaling_mode_name(service->autoscaling_mode)));
    json_object_set_new(json, "idleScaling", json_boolean(service->idle_scaling));
    json_object_set_new(json, "idleTimeoutMinutes", number(service->idle_timeout_minutes));
}

static void set_access(json_t *json, const struct reeve_service *service)
{
    json_object_set_new(json, "ipAccessList", access_list(&service->ip_access_list));
    json_object_set_new(json, "endpoints", endpoints(&service->endpoints));
    json_object_set_new(json, "mysqlEnabled", json_boolean(service->mysql_enabled));
    json_object_set_new(json, "passwordSha256", hexadecimal(service->password_sha256));
    if (service->password_double_sha1.size)
        json_object_set_new(json, "passwordDoubleSha1", hexadecimal(service->password_double_sha1));
    if (service->password_scram.size)
        json_object_set_new(json, "passwordScram", text(service->password_scram));
}

static json_t *service_of(const struct reeve_service *service)
{
    json_t *json = json_object();
    json_object_set_new(json, "id", identity(&service->id));
    json_object_set_new(json, "name", text(service->name));
    json_object_set_new(json, "provider", text(service->provider));
    json_object_set_new(json, "region", text(service->region));
    json_object_set_new(json, "tier", word(reeve_tier_name(service->tier)));
    json_object_set_new(json, "state", word(reeve_service_state_name(service->state)));
    set_size(json, service);
    set_access(json, service);
    json_object_set_new(json, "tags", tags(&service->tags));
    json_object_set_new(json, "releaseChannel", word(reeve_release_channel_name(service->release_channel)));
    json_object_set_new(json, "provisioned", json_boolean(service->provisioned));
    json_object_set_new(json, "version", text(service->version));
    json_object_set_new(json, "restoredFrom", identity(&service->restored_from));
    json_object_set_new(json, "restoredService", identity(&service->restored_service));
    return json;
}

static json_t *backup_of(const struct reeve_backup *backup)
{
    json_t *json = json_object();
    json_object_set_new(json, "id", identity(&backup->id));
    json_object_set_new(json, "serviceId", identity(&backup->service_id));
    json_object_set_new(json, "provider", text(backup->provider));
    json_object_set_new(json, "region", text(backup->region));
    json_object_set_new(json, "tier", word(reeve_tier_name(backup->tier)));
    json_object_set_new(json, "status", word(reeve_backup_state_name(backup->state)));
    json_object_set_new(json, "scheduled", json_boolean(backup->scheduled));
    json_object_set_new(json, "startedAt", moment(backup->started_ms));
    json_object_set_new(json, "finishedAt", moment(backup->finished_ms));
    json_object_set_new(json, "sizeInBytes", number(backup->size_bytes));
    json_object_set_new(json, "handle", handle_of(backup->handle));
    return json;
}

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

json_t *request_of(const struct reeve_task *task, uint64_t timeout_ms)
{
    const bool is_deletion = task->kind == REEVE_OPERATION_KIND_DELETE_BACKUP;
    const struct reeve_str handle = is_deletion && task->backup ? task->backup->handle
                                    : task->service             ? task->service->handle
                                                                : (struct reeve_str){0};
    json_t *json = json_object();
    json_object_set_new(json, "api", json_integer(EXEC_API));
    json_object_set_new(json, "operation", word(reeve_operation_kind_name(task->kind)));
    json_object_set_new(json, "operationId", identity(&task->operation_id));
    json_object_set_new(json, "attempt", number(task->attempt));
    json_object_set_new(json, "deadlineMs", number(wall_ms() + timeout_ms));
    json_object_set_new(json, "organizationId", identity(&task->organization_id));
    json_object_set_new(json, "serviceId", identity(&task->service_id));
    json_object_set_new(json, "desired", number(task->desired));
    json_object_set_new(json, "service", task->service ? service_of(task->service) : json_null());
    json_object_set_new(json, "backup", task->backup ? backup_of(task->backup) : json_null());
    json_object_set_new(json, "handle", handle_of(handle));
    return json;
}
