/* The rules for values, at their edges: what is taken, and which field is named where it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rules.h"

static struct reeve_error error;
static const char nothing[] = "";

static void assert_refused(int r, const char *field, const char *why)
{
    assert_int_equal(r, -REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(error.field, field);
    if (!strstr(error.message, why))
        fail_msg("'%s' has no '%s'", error.message, why);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(rule_name(reeve_str("azAZ09 -_."), "name", &error), 0);
    assert_int_equal(rule_name(reeve_str("ä€😀"), "name", &error), 0);
    assert_refused(rule_name(reeve_str("   "), "name", &error), "name", "must not be blank");
    assert_refused(rule_name(reeve_str(nothing), "name", &error), "name", "must not be blank");
    static const char *const bad[] = {"a/b", "a@b", "a[b", "a`b", "a{b", "a:b", "a\tb"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(rule_name(reeve_str(bad[i]), "name", &error), "name", "may have letters");
    assert_refused(rule_name((struct reeve_str){"a\0b", 3}, "name", &error), "name", "may have letters");
}

static void test_regions(void **state)
{
    (void)state;
    struct catalogue *catalogue;
    assert_int_equal(catalogue_new("p: a b", &catalogue, &error), 0);
    assert_int_equal(rule_region(catalogue, reeve_str("p"), reeve_str("b"), &error), 0);
    assert_refused(rule_region(catalogue, reeve_str("q"), reeve_str("b"), &error), "provider", "one of 'p' <string:q>");
    assert_refused(rule_region(catalogue, reeve_str("p"), reeve_str("c"), &error), "region", "one of 'a', 'b'");
    catalogue_free(catalogue);
}

static void test_access_lists(void **state)
{
    (void)state;
    char text[100];
    memset(text, '1', sizeof text);
    struct reeve_access_entry entries[3] = {{.source = reeve_str("10.0.0.0/8")}, {.source = reeve_str("::1")}};
    const struct reeve_access_entry_list list = {entries, 3};
    const struct reeve_tag_list no_tags = {NULL, 0};
    assert_refused(rule_access_list(&list, "list", 2, &error), "list", "may have 2 entries at the most, has 3");
    assert_refused(rule_access_list(&list, "list", 3, &error), "list[2].source", "is required");
    assert_refused(rule_removed(&list, &no_tags, &error), "ipAccessList.remove[2].source", "is required");
    entries[2].source = (struct reeve_str){text, sizeof text};
    assert_refused(rule_access_list(&list, "list", 3, &error), "list[2].source", "must be an IPv4 or IPv6");
    entries[2].source = reeve_str("10.0.0.0/33");
    assert_refused(rule_access_list(&list, "list", 3, &error), "list[2].source", "<string:10.0.0.0/33>");
    entries[2].source = reeve_str("10.0.0.1");
    assert_int_equal(rule_access_list(&list, "list", 3, &error), 0);
    assert_int_equal(rule_removed(&list, &no_tags, &error), 0);
}

static void test_hashes(void **state)
{
    (void)state;
    uint8_t bytes[32];
    const char hex[] = "00112233445566778899aAbBcCdDeEfF00112233445566778899aAbBcCdDeEfF";
    const char base64[] = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";
    assert_int_equal(rule_password_hash(reeve_str(hex), "hash", bytes, &error), 0);
    assert_int_equal(bytes[31], 0xff);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(rule_password_hash(reeve_str(base64), "hash", bytes, &error), 0);
    assert_int_equal(bytes[31], 0xff);
    assert_refused(rule_password_hash((struct reeve_str){hex, 63}, "hash", bytes, &error), "hash", "has 63");
    static const char *const bad[] = {"x0112233445566778899aAbBcCdDeEfF00112233445566778899aAbBcCdDeEfF",
                                      "00112233445566778899aAbBcCdDeEfF00112233445566778899aAbBcCdDeEfx",
                                      "!BEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=",
                                      "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8A",
                                      "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7g==",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(rule_password_hash(reeve_str(bad[i]), "hash", bytes, &error), "hash", "must be a SHA-256");
    assert_int_equal(rule_double_sha1_hash((struct reeve_str){hex, 40}, "hash", bytes, &error), 0);
    assert_int_equal(bytes[19], 0x33);
    assert_refused(rule_double_sha1_hash((struct reeve_str){hex, 41}, "hash", bytes, &error), "hash", "has 41");
    assert_refused(rule_double_sha1_hash((struct reeve_str){bad[0], 40}, "hash", bytes, &error), "hash", "a SHA-1");
    assert_refused(rule_double_sha1_hash((struct reeve_str){bad[1] + 24, 40}, "hash", bytes, &error), "hash",
                   "a SHA-1");
}

/* ---- Scaling ---- */

static int scale(enum reeve_tier tier, bool paid, struct scaling scaling, struct reeve_service *ret_service)
{
    *ret_service = (struct reeve_service){.tier = tier, .min_replica_memory_gb = 16, .max_replica_memory_gb = 120};
    return rule_scaling(&scaling, paid, ret_service, &error);
}

#define TOTAL(gb)                                                                                                      \
    {                                                                                                                  \
        .total_given = true, .total_gb = (gb)                                                                          \
    }
#define REPLICA(gb)                                                                                                    \
    {                                                                                                                  \
        .replica_given = true, .replica_gb = (gb)                                                                      \
    }
#define PRODUCTION(paid, ...) scale(REEVE_TIER_PRODUCTION, paid, (struct scaling){__VA_ARGS__}, &service)
#define DEVELOPMENT(...) scale(REEVE_TIER_DEVELOPMENT, false, (struct scaling){__VA_ARGS__}, &service)

static void test_memory(void **state)
{
    (void)state;
    struct reeve_service service;
    assert_int_equal(PRODUCTION(false, .min = TOTAL(24), .max = TOTAL(360)), 0);
    assert_int_equal(service.min_replica_memory_gb, 8);
    assert_int_equal(service.max_replica_memory_gb, 120);
    assert_int_equal(PRODUCTION(true, .min = REPLICA(8), .max = REPLICA(356)), 0);
    assert_int_equal(service.max_replica_memory_gb, 356);
    assert_int_equal(
        PRODUCTION(false, .min = {.total_given = true, .total_gb = 48, .replica_given = true, .replica_gb = 16}), 0);
    assert_refused(
        PRODUCTION(false, .min = {.total_given = true, .total_gb = 48, .replica_given = true, .replica_gb = 20}),
        "minReplicaMemoryGb", "must be a third of minTotalMemoryGb");
    assert_refused(PRODUCTION(false, .min = TOTAL(25)), "minTotalMemoryGb", "a multiple of 12");
    assert_refused(PRODUCTION(false, .min = TOTAL(12)), "minTotalMemoryGb", "at least 24");
    assert_refused(PRODUCTION(false, .min = REPLICA(4)), "minReplicaMemoryGb", "at least 8");
    assert_refused(PRODUCTION(false, .max = TOTAL(372)), "maxTotalMemoryGb", "at most 360 for unpaid");
    assert_refused(PRODUCTION(true, .max = TOTAL(732)), "maxTotalMemoryGb", "at most 720 for paid");
    assert_refused(PRODUCTION(false, .max = REPLICA(122)), "maxReplicaMemoryGb", "a multiple of 4");
    assert_refused(PRODUCTION(false, .min = TOTAL(120), .max = TOTAL(60)), "maxTotalMemoryGb", "(120) must not be");
    assert_refused(PRODUCTION(false, .max = TOTAL(24)), "maxTotalMemoryGb", "(48) must not be above the largest (24)");
    assert_refused(PRODUCTION(true, .min = TOTAL(720)), "minTotalMemoryGb", "must not be above the largest (360)");
    assert_refused(PRODUCTION(false, .max = REPLICA(8)), "maxReplicaMemoryGb",
                   "(16) must not be above the largest (8)");
    assert_refused(PRODUCTION(true, .min = REPLICA(240)), "minReplicaMemoryGb", "must not be above the largest (120)");
}

/* Of a new service there is nothing yet: the presets give way. */
static void test_presets_of_memory(void **state)
{
    (void)state;
    struct reeve_service service = {.tier = REEVE_TIER_PRODUCTION};
    assert_int_equal(rule_scaling(&(struct scaling){0}, false, &service, &error), 0);
    assert_int_equal(service.min_replica_memory_gb, 16);
    assert_int_equal(service.max_replica_memory_gb, 120);
    service = (struct reeve_service){.tier = REEVE_TIER_PRODUCTION};
    assert_int_equal(rule_scaling(&(struct scaling){.min = REPLICA(200)}, true, &service, &error), 0);
    assert_int_equal(service.max_replica_memory_gb, 200);
    service = (struct reeve_service){.tier = REEVE_TIER_PRODUCTION};
    assert_int_equal(rule_scaling(&(struct scaling){.max = REPLICA(8)}, false, &service, &error), 0);
    assert_int_equal(service.min_replica_memory_gb, 8);
}

static void test_scaling_of_development(void **state)
{
    (void)state;
    struct reeve_service service;
    assert_refused(DEVELOPMENT(.min = TOTAL(24)), "minTotalMemoryGb", "only for 'production'");
    assert_refused(DEVELOPMENT(.max = TOTAL(24)), "maxTotalMemoryGb", "only for 'production'");
    assert_refused(DEVELOPMENT(.min = REPLICA(8)), "minReplicaMemoryGb", "only for 'production'");
    assert_refused(DEVELOPMENT(.max = REPLICA(8)), "maxReplicaMemoryGb", "only for 'production'");
    assert_refused(DEVELOPMENT(.num_replicas = 2), "numReplicas", "always 1");
    assert_refused(DEVELOPMENT(.idle_given = true), "idleScaling", "always true");
    assert_int_equal(DEVELOPMENT(.num_replicas = 1, .idle_given = true, .idle_scaling = true, .idle_timeout_minutes = 7,
                                 .autoscaling_mode = REEVE_AUTOSCALING_MODE_HORIZONTAL),
                     0);
    assert_int_equal(service.num_replicas, 1);
    assert_int_equal(service.idle_timeout_minutes, 7);
    assert_true(service.idle_scaling);
    assert_int_equal(service.autoscaling_mode, REEVE_AUTOSCALING_MODE_HORIZONTAL);
}

/* ---- Tags ---- */

static void test_tags(void **state)
{
    (void)state;
    char text[257];
    struct reeve_tag tags[51] = {{.key = {NULL, 0}}};
    memset(text, 'k', sizeof text);
    for (int i = 0; i < 51; i++)
        tags[i] = (struct reeve_tag){.key = reeve_str("azAZ09-_."), .value = {nothing, 0}};
    const struct reeve_tag_list one = {tags, 1}, all = {tags, 51};
    const struct reeve_access_entry_list no_entries = {NULL, 0};
    assert_refused(rule_tags(&all, "tags", &error), "tags", "may have 50 tags at the most, has 51");
    assert_int_equal(rule_tags(&one, "tags", &error), 0);
    static const char *const bad[] = {"a b", "a/b", "a:b", "a@b", "a[b", "a`b", "a{b", "ä"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tags[0].key = reeve_str("k");
        tags[0].value = reeve_str(bad[i]);
        assert_refused(rule_tags(&one, "tags", &error), "tags[0].value", "from 0 to 256");
        tags[0].key = reeve_str(bad[i]);
        assert_refused(rule_tags(&one, "tags", &error), "tags[0].key", "from 1 to 128");
    }
    tags[0] = (struct reeve_tag){.key = {text, 128}, .value = {text, 256}};
    assert_int_equal(rule_tags(&one, "tags", &error), 0);
    tags[0].value.size = 257;
    assert_refused(rule_tags(&one, "tags", &error), "tags[0].value", "from 0 to 256");
    tags[0].key.size = 129;
    assert_refused(rule_tags(&one, "tags", &error), "tags[0].key", "from 1 to 128");
    tags[0].key.size = 0;
    assert_refused(rule_tags(&one, "tags", &error), "tags[0].key", "from 1 to 128");
    assert_refused(rule_removed(&no_entries, &one, &error), "tags.remove[0].key", "is required");
}

/* ---- When backups are made ---- */

static int configure(uint64_t period_hours, uint64_t retention_hours, const char *start_time)
{
    return rule_backup_configuration(&(struct reeve_backup_configuration){.period_hours = period_hours,
                                                                          .retention_hours = retention_hours,
                                                                          .start_time = reeve_str(start_time)},
                                     &error);
}

static void test_backup_configurations(void **state)
{
    (void)state;
    assert_int_equal(configure(6, 24, ""), 0);
    assert_int_equal(configure(48, 1080, "23:00"), 0);
    assert_int_equal(configure(24, 48, "09:00"), 0);
    assert_refused(configure(7, 24, ""), "backupPeriodInHours", "one of 6, 8");
    assert_refused(configure(0, 24, ""), "backupPeriodInHours", "one of 6, 8");
    static const uint64_t retentions[] = {0, 23, 25, 1104};
    for (size_t i = 0; i < sizeof retentions / sizeof retentions[0]; i++)
        assert_refused(configure(24, retentions[i], ""), "backupRetentionPeriodInHours", "from 24 to 1080");
    static const char *const times[] = {"3:00",  "03:30", "24:00", "30:00", "/3:00",
                                        "0/:00", "0::00", "03.00", "03:000"};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        assert_refused(configure(24, 24, times[i]), "backupStartTime", "a full hour");
    assert_refused(configure(12, 24, "03:00"), "backupPeriodInHours", "24 or 48 when");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_access_lists),
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_presets_of_memory),
        cmocka_unit_test(test_scaling_of_development),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_backup_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
