/* Every (state, input) pair of both tables against an expectation that is written down here once more, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lifecycle.h"

/* "state input -> next", one line each; "=" for what is already so. All others are refused. */
static const char *const expected[] = {
    "none create -> provisioning",
    "provisioning operation done -> running",
    "provisioning operation to be retried -> provisioning",
    "provisioning operation failed -> failed",
    "provisioning stop -> stopping",
    "starting operation done -> running",
    "starting operation to be retried -> starting",
    "starting operation failed -> failed",
    "starting stop -> stopping",
    "starting start =",
    "running update -> running",
    "running scale -> running",
    "running set_password -> running",
    "running stop -> stopping",
    "running backup -> running",
    "running activity -> running",
    "running health lost -> degraded",
    "running idle due -> idle",
    "running operation done -> running",
    "running operation to be retried -> running",
    "running operation failed -> failed",
    "running start =",
    "running awake =",
    "idle update -> idle",
    "idle scale -> idle",
    "idle set_password -> idle",
    "idle stop -> stopping",
    "idle awake -> awaking",
    "idle activity -> awaking",
    "idle operation done -> idle",
    "idle operation to be retried -> idle",
    "idle operation failed -> failed",
    "idle start =",
    "awaking operation done -> running",
    "awaking operation to be retried -> awaking",
    "awaking operation failed -> failed",
    "awaking stop -> stopping",
    "awaking awake =",
    "degraded update -> degraded",
    "degraded scale -> degraded",
    "degraded set_password -> degraded",
    "degraded stop -> stopping",
    "degraded operation done -> running",
    "degraded operation to be retried -> degraded",
    "degraded operation failed -> failed",
    "stopping operation done -> stopped",
    "stopping operation to be retried -> stopping",
    "stopping operation failed -> failed",
    "stopping stop =",
    "stopped start -> starting",
    "stopped delete -> deleting",
    "stopped update -> stopped",
    "stopped scale -> stopped",
    "stopped set_password -> stopped",
    "stopped stop =",
    "deleting operation done -> gone",
    "deleting operation to be retried -> deleting",
    "deleting operation failed -> failed",
    "failed start -> starting",
    "failed stop -> stopping",
    "failed delete -> deleting",
    "failed update -> failed",
    "failed scale -> failed",
    "failed set_password -> failed",
};

static const char *expectation(const char *pair)
{
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        if (strncmp(expected[i], pair, strlen(pair)) == 0)
            return expected[i] + strlen(pair);
    }
    return NULL;
}

static void test_every_pair_of_state_and_input(void **state)
{
    (void)state;
    size_t listed = 0;
    for (unsigned s = 0; s < REEVE_SERVICE_STATE_COUNT; s++) {
        for (unsigned i = 1; i < INPUT_COUNT; i++) {
            char pair[80], outcome[80] = "";
            const struct lifecycle_rule *rule = lifecycle_step((enum reeve_service_state)s, (enum lifecycle_input)i);
            snprintf(pair, sizeof pair, "%s %s ", reeve_service_state_name((enum reeve_service_state)s),
                     lifecycle_input_name((enum lifecycle_input)i));
            const char *wanted = expectation(pair);
            if (rule->effect == EFFECT_SAME)
                snprintf(outcome, sizeof outcome, "=");
            else if (rule->effect != EFFECT_NONE)
                snprintf(outcome, sizeof outcome, "-> %s", reeve_service_state_name(rule->next));
            if (strcmp(wanted ? wanted : "", outcome) != 0)
                fail_msg("%s: the table says '%s', expected '%s'", pair, outcome, wanted ? wanted : "");
            listed += wanted != NULL;
        }
    }
    assert_int_equal(listed, sizeof expected / sizeof expected[0]);
}

static void test_a_refusal_names_state_and_allowed_commands(void **state)
{
    (void)state;
    for (unsigned s = 0; s < REEVE_SERVICE_STATE_COUNT; s++) {
        for (unsigned i = 1; i < INPUT_COUNT; i++) {
            const enum reeve_service_state from = (enum reeve_service_state)s;
            const enum lifecycle_input input = (enum lifecycle_input)i;
            if (lifecycle_step(from, input)->effect != EFFECT_NONE || !lifecycle_is_command(input))
                continue;
            struct reeve_error error;
            lifecycle_conflict(from, input, &error);
            assert_int_equal(error.code, REEVE_ERROR_CONFLICT);
            assert_int_equal(error.state, from);
            assert_non_null(strstr(error.message, reeve_service_state_name(from)));
            const char *name;
            for (unsigned n = 0; (name = reeve_allowed_name(&error, n)); n++)
                assert_non_null(strstr(error.message, name));
            for (unsigned other = 1; other < INPUT_COUNT; other++) {
                const bool allowed = lifecycle_is_command((enum lifecycle_input)other) &&
                                     lifecycle_step(from, (enum lifecycle_input)other)->effect != EFFECT_NONE;
                assert_int_equal(allowed, (error.allowed >> other) & 1);
            }
        }
    }
}

static void test_every_change_of_state_is_told(void **state)
{
    (void)state;
    for (unsigned s = 0; s < REEVE_SERVICE_STATE_COUNT; s++) {
        for (unsigned i = 1; i < INPUT_COUNT; i++) {
            const struct lifecycle_rule *rule = lifecycle_step((enum reeve_service_state)s, (enum lifecycle_input)i);
            if (rule->effect > EFFECT_SAME && rule->next != (enum reeve_service_state)s)
                assert_int_not_equal(rule->event, REEVE_EVENT_TYPE_UNSET);
        }
    }
}

static const char *const expected_backup[] = {
    "none 1 in_progress",        /* create */
    "in_progress 4 error",       /* service stopped */
    "in_progress 5 done",        /* operation done */
    "in_progress 6 in_progress", /* retried */
    "in_progress 7 error",       /* failed */
    "done 2 deleting",           /* delete */
    "done 3 deleting",           /* retention ended */
    "error 2 deleting",          "error 3 deleting", "deleting 5 gone", "deleting 6 deleting", "deleting 7 error",
};

static void test_every_pair_of_backup_state_and_input(void **state)
{
    (void)state;
    size_t listed = 0;
    for (unsigned s = 0; s < REEVE_BACKUP_STATE_COUNT; s++) {
        for (unsigned i = 1; i < BACKUP_INPUT_COUNT; i++) {
            char line[80];
            const struct backup_rule *rule = backup_step((enum reeve_backup_state)s, (enum backup_input)i);
            if (rule->effect == BACKUP_EFFECT_NONE)
                continue;
            snprintf(line, sizeof line, "%s %u %s", reeve_backup_state_name((enum reeve_backup_state)s), i,
                     reeve_backup_state_name(rule->next));
            bool found = false;
            for (size_t n = 0; n < sizeof expected_backup / sizeof expected_backup[0]; n++)
                found |= strcmp(expected_backup[n], line) == 0;
            if (!found)
                fail_msg("'%s' is in the table and not expected", line);
            listed++;
        }
    }
    assert_int_equal(listed, sizeof expected_backup / sizeof expected_backup[0]);
}

static void test_from_every_state_a_service_can_end(void **state)
{
    (void)state;
    /* Whatever state a service is in, some run of inputs leads to gone. */
    bool ends[REEVE_SERVICE_STATE_COUNT] = {[REEVE_SERVICE_STATE_GONE] = true};
    for (unsigned round = 0; round < REEVE_SERVICE_STATE_COUNT; round++) {
        for (unsigned s = 0; s < REEVE_SERVICE_STATE_COUNT; s++) {
            for (unsigned i = 1; i < INPUT_COUNT; i++) {
                const struct lifecycle_rule *rule = lifecycle_step((enum reeve_service_state)s,
                                                                   (enum lifecycle_input)i);
                if (rule->effect != EFFECT_NONE && ends[rule->next])
                    ends[s] = true;
            }
        }
    }
    for (unsigned s = 0; s < REEVE_SERVICE_STATE_COUNT; s++)
        assert_true(ends[s]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair_of_state_and_input),
        cmocka_unit_test(test_a_refusal_names_state_and_allowed_commands),
        cmocka_unit_test(test_every_change_of_state_is_told),
        cmocka_unit_test(test_every_pair_of_backup_state_and_input),
        cmocka_unit_test(test_from_every_state_a_service_can_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
