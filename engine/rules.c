#include "rules.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define TOTAL_STEP_GB 12
#define TOTAL_MIN_GB 24
#define TOTAL_MAX_FREE_GB 360
#define TOTAL_MAX_PAID_GB 720
#define TOTAL_PRESET_MIN_GB 48
#define TOTAL_PRESET_MAX_GB 360

int rule_name(struct reeve_str name, const char *field, struct reeve_error *ret_error)
{
    size_t spaces = 0;
    for (size_t i = 0; i < name.size; i++) {
        const unsigned char c = (unsigned char)name.data[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
        if (!letter && !strchr(" -_.", c))
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

/* An address, or an address with a prefix length that fits it. */
static bool is_source(struct reeve_str source)
{
    char address[INET6_ADDRSTRLEN + 1];
    unsigned char binary[16];
    const char *slash = memchr(source.data, '/', source.size);
    const size_t size = slash ? (size_t)(slash - source.data) : source.size;
    if (size == 0 || size >= sizeof address)
        return false;
    memcpy(address, source.data, size);
    address[size] = '\0';
    const bool v4 = inet_pton(AF_INET, address, binary) == 1;
    if (!v4 && inet_pton(AF_INET6, address, binary) != 1)
        return false;
    if (!slash)
        return true;
    const size_t digits = source.size - size - 1;
    unsigned prefix = 0;
    for (size_t i = 0; i < digits; i++) {
        if (slash[1 + i] < '0' || slash[1 + i] > '9')
            return false;
        prefix = prefix * 10 + (unsigned)(slash[1 + i] - '0');
    }
    return digits > 0 && digits <= 3 && prefix <= (v4 ? 32U : 128U);
}

int rule_access_list(const struct reeve_access_entry_list *list, const char *field, uint64_t count_max,
                     struct reeve_error *ret_error)
{
    if (list->count > count_max)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "may have %llu entries at the most, has %zu",
                         (unsigned long long)count_max, list->count);
    for (size_t i = 0; i < list->count; i++) {
        char path[64];
        const struct reeve_str source = list->items[i].source;
        snprintf(path, sizeof path, "%s[%zu].source", field, i);
        if (source.size == 0)
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, path, "is required");
        if (!is_source(source))
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

static int check_total(uint64_t gb, const char *field, bool paid, struct reeve_error *ret_error)
{
    const unsigned total_max = paid ? TOTAL_MAX_PAID_GB : TOTAL_MAX_FREE_GB;
    const unsigned long long value = gb;
    if (gb % TOTAL_STEP_GB != 0)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "must be a multiple of %d <number:%llu>",
                         TOTAL_STEP_GB, value);
    if (gb < TOTAL_MIN_GB)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "must be at least %d <number:%llu>", TOTAL_MIN_GB,
                         value);
    if (gb > total_max)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field,
                         "must be at most %u for %s organizations <number:%llu>", total_max, paid ? "paid" : "unpaid",
                         value);
    return 0;
}

static int scale_memory(const struct scaling *scaling, bool paid, struct reeve_service *service,
                        struct reeve_error *ret_error)
{
    uint64_t min = scaling->min_given ? scaling->min_total_gb : 3 * service->min_replica_memory_gb;
    uint64_t max = scaling->max_given ? scaling->max_total_gb : 3 * service->max_replica_memory_gb;
    int r = scaling->min_given ? check_total(min, "minTotalMemoryGb", paid, ret_error) : 0;
    if (r == 0 && scaling->max_given)
        r = check_total(max, "maxTotalMemoryGb", paid, ret_error);
    if (r < 0)
        return r;
    /* Presets of a new service give way to what was asked for. */
    if (max == 0)
        max = min > TOTAL_PRESET_MAX_GB ? min : TOTAL_PRESET_MAX_GB;
    if (min == 0)
        min = max < TOTAL_PRESET_MIN_GB ? max : TOTAL_PRESET_MIN_GB;
    if (min > max)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST,
                         scaling->max_given ? "maxTotalMemoryGb" : "minTotalMemoryGb",
                         "the smallest total memory (%llu) must not be above the largest (%llu)",
                         (unsigned long long)min, (unsigned long long)max);
    service->min_replica_memory_gb = min / 3;
    service->max_replica_memory_gb = max / 3;
    return 0;
}

int rule_scaling(const struct scaling *scaling, bool paid, struct reeve_service *service, struct reeve_error *ret_error)
{
    if (service->tier == REEVE_TIER_DEVELOPMENT) {
        if (scaling->min_given || scaling->max_given)
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST,
                             scaling->min_given ? "minTotalMemoryGb" : "maxTotalMemoryGb",
                             "is available only for 'production' services; this one is 'development'");
        if (scaling->idle_given && !scaling->idle_scaling)
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "idleScaling",
                             "is always true for 'development' services <boolean:false>");
    } else {
        const int r = scale_memory(scaling, paid, service, ret_error);
        if (r < 0)
            return r;
    }
    if (scaling->idle_given)
        service->idle_scaling = scaling->idle_scaling;
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
