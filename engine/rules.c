#include "rules.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/network.h"

#define REPLICA_PRESET_MIN_GB 16
#define REPLICA_PRESET_MAX_GB 120

int rule_name(struct reeve_str name, const char *field, struct reeve_error *ret_error)
{
    size_t spaces = 0;
    for (size_t i = 0; i < name.size; i++) {
        const unsigned char c = (unsigned char)name.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
        if (!letter && !memchr(" -_.", c, 4))
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field,
                             "may have letters, digits, spaces and - _ . only, has '%c'", c);
        spaces += c == ' ';
    }
    if (spaces == name.size)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "must not be blank");
    return 0;
}

int rule_region(const struct catalogue *catalogue, struct reeve_str provider, struct reeve_str region,
                struct reeve_error *ret_error)
{
    char known[200];
    if (!catalogue_has_provider(catalogue, provider)) {
        catalogue_list_providers(catalogue, known, sizeof known);
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "provider", "must be one of %s <string:%.*s>", known,
                         (int)provider.size, provider.data);
    }
    if (!catalogue_has_region(catalogue, provider, region)) {
        catalogue_list_regions(catalogue, provider, known, sizeof known);
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "region",
                         "must be a region of %.*s, one of %s <string:%.*s>", (int)provider.size, provider.data, known,
                         (int)region.size, region.data);
    }
    return 0;
}

int rule_access_list(const struct reeve_access_entry_list *list, const char *field, uint64_t count_max,
                     struct reeve_error *ret_error)
{
    if (list->count > count_max)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "may have %llu entries at the most, has %zu",
                         (unsigned long long)count_max, list->count);
    for (size_t i = 0; i < list->count; i++) {
        char path[64];
        struct network network;
        const struct reeve_str source = list->items[i].source;
        if (network_parse(source.data, source.size, &network))
            continue;
        snprintf(path, sizeof path, "%s[%zu].source", field, i);
        if (source.size == 0)
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path, "is required");
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path,
                         "must be an IPv4 or IPv6 address or network like 10.0.0.0/8 <string:%.*s>",
                         (int)(source.size < 64 ? source.size : 64), source.data);
    }
    return 0;
}

int rule_password_hash(struct reeve_str hash, const char *field, uint8_t ret_sha256[32], struct reeve_error *ret_error)
{
    size_t size = 0;
    if (hash.size == 64 && sodium_hex2bin(ret_sha256, 32, hash.data, 64, NULL, &size, NULL) == 0 && size == 32)
        return 0;
    if (hash.size == 44 &&
        sodium_base642bin(ret_sha256, 32, hash.data, 44, NULL, &size, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
        size == 32)
        return 0;
    return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field,
                     "must be a SHA-256: 44 characters of base64 or 64 of hex, has %zu characters", hash.size);
}

int rule_double_sha1_hash(struct reeve_str hash, const char *field, uint8_t ret_sha1[20], struct reeve_error *ret_error)
{
    size_t size = 0;
    if (hash.size == 40 && sodium_hex2bin(ret_sha1, 20, hash.data, 40, NULL, &size, NULL) == 0 && size == 20)
        return 0;
    return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field,
                     "must be a SHA-1: 40 characters of hex, has %zu characters", hash.size);
}

/* One of the four memory settings, by how it is counted: totals are three times what one replica has. */
struct memory_unit {
    unsigned step_gb, min_gb, max_unpaid_gb, max_paid_gb;
};
static const struct memory_unit total_unit = {12, 24, 360, 720}, replica_unit = {4, 8, 120, 356};

static int check_memory(const struct memory_unit *unit, uint64_t gb, const char *field, bool paid,
                        struct reeve_error *ret_error)
{
    const unsigned max = paid ? unit->max_paid_gb : unit->max_unpaid_gb;
    const unsigned long long value = gb;
    if (gb % unit->step_gb != 0)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "must be a multiple of %u <number:%llu>",
                         unit->step_gb, value);
    if (gb < unit->min_gb)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "must be at least %u <number:%llu>", unit->min_gb,
                         value);
    if (gb > max)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field,
                         "must be at most %u for %s organizations <number:%llu>", max, paid ? "paid" : "unpaid", value);
    return 0;
}

/* A bound may be given as total or per replica, or both ways where they agree. Sets *gb, per replica, if given. */
static int take_bound(const struct memory_bound *bound, const char *total_field, const char *replica_field, bool paid,
                      uint64_t *gb, struct reeve_error *ret_error)
{
    int r = 0;
    if (bound->total_given)
        r = check_memory(&total_unit, bound->total_gb, total_field, paid, ret_error);
    if (r == 0 && bound->replica_given)
        r = check_memory(&replica_unit, bound->replica_gb, replica_field, paid, ret_error);
    if (r < 0)
        return r;
    if (bound->total_given && bound->replica_given && bound->total_gb != 3 * bound->replica_gb)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, replica_field,
                         "must be a third of %s, or be left out <number:%llu>", total_field,
                         (unsigned long long)bound->replica_gb);
    if (bound->total_given)
        *gb = bound->total_gb / 3;
    if (bound->replica_given)
        *gb = bound->replica_gb;
    return 0;
}

static bool is_given(const struct memory_bound *bound)
{
    return bound->total_given || bound->replica_given;
}

static int scale_memory(const struct scaling *scaling, bool paid, struct reeve_service *service,
                        struct reeve_error *ret_error)
{
    uint64_t min = service->min_replica_memory_gb, max = service->max_replica_memory_gb;
    int r = take_bound(&scaling->min, "minTotalMemoryGb", "minReplicaMemoryGb", paid, &min, ret_error);
    if (r == 0)
        r = take_bound(&scaling->max, "maxTotalMemoryGb", "maxReplicaMemoryGb", paid, &max, ret_error);
    if (r < 0)
        return r;
    /* Presets of a new service give way to what was asked for. */
    if (max == 0)
        max = min > REPLICA_PRESET_MAX_GB ? min : REPLICA_PRESET_MAX_GB;
    if (min == 0)
        min = max < REPLICA_PRESET_MIN_GB ? max : REPLICA_PRESET_MIN_GB;
    if (min > max && (scaling->min.replica_given || scaling->max.replica_given))
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST,
                         scaling->max.replica_given ? "maxReplicaMemoryGb" : "minReplicaMemoryGb",
                         "the smallest memory of a replica (%llu) must not be above the largest (%llu)",
                         (unsigned long long)min, (unsigned long long)max);
    if (min > max)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST,
                         scaling->max.total_given ? "maxTotalMemoryGb" : "minTotalMemoryGb",
                         "the smallest total memory (%llu) must not be above the largest (%llu)",
                         (unsigned long long)(3 * min), (unsigned long long)(3 * max));
    service->min_replica_memory_gb = min;
    service->max_replica_memory_gb = max;
    return 0;
}

static int scale_development(const struct scaling *scaling, struct reeve_error *ret_error)
{
    const char *field = scaling->min.total_given     ? "minTotalMemoryGb"
                        : scaling->max.total_given   ? "maxTotalMemoryGb"
                        : scaling->min.replica_given ? "minReplicaMemoryGb"
                                                     : "maxReplicaMemoryGb";
    if (is_given(&scaling->min) || is_given(&scaling->max))
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field,
                         "is available only for 'production' services; this one is 'development'");
    if (scaling->num_replicas > 1)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "numReplicas",
                         "is always 1 for 'development' services <number:%llu>",
                         (unsigned long long)scaling->num_replicas);
    if (scaling->idle_given && !scaling->idle_scaling)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "idleScaling",
                         "is always true for 'development' services <boolean:false>");
    return 0;
}

int rule_scaling(const struct scaling *scaling, bool paid, struct reeve_service *service, struct reeve_error *ret_error)
{
    const int r = service->tier == REEVE_TIER_DEVELOPMENT ? scale_development(scaling, ret_error)
                                                          : scale_memory(scaling, paid, service, ret_error);
    if (r < 0)
        return r;
    if (scaling->num_replicas)
        service->num_replicas = scaling->num_replicas;
    if (scaling->autoscaling_mode)
        service->autoscaling_mode = scaling->autoscaling_mode;
    if (scaling->idle_given)
        service->idle_scaling = scaling->idle_scaling;
    if (scaling->idle_timeout_minutes)
        service->idle_timeout_minutes = scaling->idle_timeout_minutes;
    return 0;
}

/* ---- Tags ---- */

#define TAGS_MAX 50
#define TAG_KEY_MAX 128
#define TAG_VALUE_MAX 256

static bool is_tag_text(struct reeve_str text)
{
    for (size_t i = 0; i < text.size; i++) {
        const char c = text.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '-' && c != '_' && c != '.')
            return false;
    }
    return true;
}

int rule_tags(const struct reeve_tag_list *tags, const char *field, struct reeve_error *ret_error)
{
    if (tags->count > TAGS_MAX)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "may have %d tags at the most, has %zu", TAGS_MAX,
                         tags->count);
    for (size_t i = 0; i < tags->count; i++) {
        char path[64];
        const struct reeve_tag *tag = &tags->items[i];
        const bool key_fits = tag->key.size >= 1 && tag->key.size <= TAG_KEY_MAX && is_tag_text(tag->key);
        if (key_fits && tag->value.size <= TAG_VALUE_MAX && is_tag_text(tag->value))
            continue;
        snprintf(path, sizeof path, "%s[%zu].%s", field, i, key_fits ? "value" : "key");
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path,
                         "must have from %d to %d letters, digits, '-', '_' and '.' only", key_fits ? 0 : 1,
                         key_fits ? TAG_VALUE_MAX : TAG_KEY_MAX);
    }
    return 0;
}

static bool has_key(const struct reeve_tag_list *tags, size_t from, struct reeve_str key)
{
    for (size_t i = from; i < tags->count; i++) {
        if (bytes_equal(tags->items[i].key.data, tags->items[i].key.size, key.data, key.size))
            return true;
    }
    return false;
}

int tags_patch(struct core *core, const struct reeve_tag_list *tags, const struct reeve_tag_list *remove,
               const struct reeve_tag_list *add, struct reeve_tag_list *ret_tags)
{
    struct reeve_tag *items = core_alloc(core, (tags->count + add->count) * sizeof *items + 1);
    if (!items)
        return -REEVE_ERROR_NO_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < tags->count; i++) {
        if (!has_key(remove, 0, tags->items[i].key) && !has_key(add, 0, tags->items[i].key))
            items[count++] = tags->items[i];
    }
    for (size_t i = 0; i < add->count; i++) {
        if (!has_key(add, i + 1, add->items[i].key))
            items[count++] = add->items[i];
    }
    *ret_tags = (struct reeve_tag_list){items, count};
    return 0;
}

int rule_backup_configuration(const struct reeve_backup_configuration *configuration, struct reeve_error *ret_error)
{
    static const uint64_t periods[] = {6, 8, 12, 16, 20, 24, 36, 48};
    const unsigned long long period = configuration->period_hours, retention = configuration->retention_hours;
    bool known = false;
    for (size_t i = 0; i < sizeof periods / sizeof periods[0]; i++)
        known |= periods[i] == period;
    if (!known)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "backupPeriodInHours",
                         "must be one of 6, 8, 12, 16, 20, 24, 36, 48 <number:%llu>", period);
    if (retention % 24 != 0 || retention < 24 || retention > 1080)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "backupRetentionPeriodInHours",
                         "must be a multiple of 24 from 24 to 1080 <number:%llu>", retention);
    const struct reeve_str start = configuration->start_time;
    if (start.size == 0)
        return 0;
    unsigned hour = 24;
    if (start.size == 5 && memcmp(start.data + 2, ":00", 3) == 0 && start.data[0] >= '0' && start.data[0] <= '2' &&
        start.data[1] >= '0' && start.data[1] <= '9')
        hour = (unsigned)((start.data[0] - '0') * 10 + (start.data[1] - '0'));
    if (hour > 23)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "backupStartTime",
                         "must be a full hour in UTC like 03:00 <string:%.*s>", (int)start.size, start.data);
    if (period != 24 && period != 48)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "backupPeriodInHours",
                         "must be 24 or 48 when backupStartTime is set <number:%llu>", period);
    return 0;
}

static bool has_source(const struct reeve_access_entry_list *list, size_t from, struct reeve_str source)
{
    for (size_t i = from; i < list->count; i++) {
        if (bytes_equal(list->items[i].source.data, list->items[i].source.size, source.data, source.size))
            return true;
    }
    return false;
}

int rule_removed(const struct reeve_access_entry_list *entries, const struct reeve_tag_list *tags,
                 struct reeve_error *ret_error)
{
    char path[64];
    for (size_t i = 0; i < entries->count; i++) {
        if (entries->items[i].source.size > 0)
            continue;
        snprintf(path, sizeof path, "ipAccessList.remove[%zu].source", i);
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path, "is required");
    }
    for (size_t i = 0; i < tags->count; i++) {
        if (tags->items[i].key.size > 0)
            continue;
        snprintf(path, sizeof path, "tags.remove[%zu].key", i);
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path, "is required");
    }
    return 0;
}

int access_list_patch(struct core *core, const struct reeve_access_entry_list *list,
                      const struct reeve_access_entry_list *remove, const struct reeve_access_entry_list *add,
                      struct reeve_access_entry_list *ret_list)
{
    struct reeve_access_entry *items = core_alloc(core, (list->count + add->count) * sizeof *items + 1);
    if (!items)
        return -REEVE_ERROR_NO_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (!has_source(remove, 0, list->items[i].source) && !has_source(add, 0, list->items[i].source))
            items[count++] = list->items[i];
    }
    for (size_t i = 0; i < add->count; i++) {
        if (!has_source(add, i + 1, add->items[i].source))
            items[count++] = add->items[i];
    }
    *ret_list = (struct reeve_access_entry_list){items, count};
    return 0;
}
