/* The simulated provisioner, behind an engine of its own: what it is told, and that it brings everything to an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <string.h>
#include <uv.h>

#include "provisioners/simulated.h"
#include "tests/lib/directory.h"

struct host {
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    uv_timer_t guard; /* ends the test where something does not come to its end */
    struct simulated *simulated;
    struct reeve_engine *engine;
    struct reeve_client *client;
    struct reeve_watch watch;
    struct reeve_request request;
    unsigned wanted, to_create, running, failed;
};

static const char *refusal(const char *spec)
{
    static struct reeve_error error;
    struct simulated *simulated;
    error = (struct reeve_error){0};
    const int r = simulated_new(spec, &simulated, &error);
    if (r == 0) {
        simulated_free(simulated);
        return NULL;
    }
    assert_null(simulated);
    assert_int_equal(r, -REEVE_ERROR_BAD_REQUEST);
    assert_true(strncmp(error.field, "simulated:", 10) == 0);
    return error.message;
}

static void good_settings(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "delay-ms=0",
                                       "delay-ms=50..250",
                                       "fail=0.5,fatal=0.1,hang=1,duplicate=0",
                                       "seed=18446744073709551615",
                                       "provision.delay-ms=500,delete_backup.fail=1",
                                       ",delay-ms=1,"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_null(refusal(good[i]));
}

static void bad_settings(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"delay-ms", "key=value"},         {"delay-ms=", "50..250"},
        {"delay-ms=5..1", "50..250"},      {"delay-ms=1..", "50..250"},
        {"delay-ms=86400001", "a day"},    {"fail=1.1", "from 0 to 1"},
        {"fail=nan", "from 0 to 1"},       {"hang=x", "from 0 to 1"},
        {"seed=-1", "whole number"},       {"seed=", "whole number"},
        {"fial=1", "known are"},           {"dance.fail=1", "delete_backup"},
        {"provision.fial=1", "known are"}, {"=1", "known are"},
        {"provision.seed=1", "known are"}, {"seed=99999999999999999999", "whole number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *message = refusal(bad[i][0]);
        assert_non_null(message);
        assert_non_null(strstr(message, bad[i][1]));
    }
}

/* ---- With an engine ---- */

static void on_guard(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("what was started did not come to its end");
}

static void on_client_closed(void *arg)
{
    uv_close((uv_handle_t *)&((struct host *)arg)->guard, NULL);
}

static void count_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    struct host *host = watch->data;
    host->running += event->type == REEVE_EVENT_TYPE_SERVICE_RUNNING;
    host->failed += event->type == REEVE_EVENT_TYPE_SERVICE_FAILED;
    if (host->running + host->failed < host->wanted)
        return;
    reeve_watch_stop(watch);
    reeve_client_close(host->client, on_client_closed, host);
}

static void on_service(struct reeve_request *request, const struct reeve_result *result)
{
    struct host *host = request->data;
    assert_int_equal(result->error.code, 0);
    if (--host->to_create > 0)
        assert_int_equal(reeve_submit(host->client, request), 0);
}

static void on_organization(struct reeve_request *request, const struct reeve_result *result)
{
    struct host *host = request->data;
    assert_int_equal(result->error.code, 0);
    host->request = (struct reeve_request){
        .command = REEVE_COMMAND_SERVICE_CREATE, .on_done = on_service, .data = host};
    host->request.params.service_create = (struct reeve_service_create_params){
        .organization_id = result->answer.organization.id,
        .name = reeve_str("s"),
        .provider = reeve_str("aws"),
        .region = reeve_str("us-east-1")};
    assert_int_equal(reeve_submit(host->client, &host->request), 0);
}

/* Creates so many services and waits until each of them runs or has failed. */
static struct reeve_stats play(struct host *host, const char *spec, unsigned services, struct reeve_limits limits)
{
    struct reeve_error error = {0};
    struct reeve_stats stats;
    *host = (struct host){.wanted = services, .to_create = services};
    directory_make("/tmp", host->directory);
    assert_int_equal(simulated_new(spec, &host->simulated, &error), 0);
    const struct reeve_options options = {
        .data_dir = host->directory, .provisioner = simulated_provisioner(host->simulated), .limits = limits};
    assert_int_equal(uv_loop_init(&host->loop), 0);
    assert_int_equal(reeve_open(&options, &host->engine, &error), 0);
    simulated_set_engine(host->simulated, host->engine);
    assert_int_equal(reeve_client_open(host->engine, &host->loop, &host->client), 0);
    uv_timer_init(&host->loop, &host->guard);
    uv_timer_start(&host->guard, on_guard, 60000, 0);
    host->watch = (struct reeve_watch){.on_event = count_event, .data = host};
    assert_int_equal(reeve_watch_start(host->client, &host->watch, &error), 0);
    host->request = (struct reeve_request){
        .command = REEVE_COMMAND_ORGANIZATION_CREATE, .on_done = on_organization, .data = host};
    host->request.params.organization_create = (struct reeve_organization_create_params){.name = reeve_str("o")};
    assert_int_equal(reeve_submit(host->client, &host->request), 0);
    uv_run(&host->loop, UV_RUN_DEFAULT);
    reeve_get_stats(host->engine, &stats);
    reeve_close(host->engine);
    simulated_free(host->simulated);
    assert_int_equal(uv_loop_close(&host->loop), 0);
    directory_remove(host->directory);
    return stats;
}

static const struct reeve_limits quick = {.retry_min_ms = 1, .retry_max_ms = 2, .operation_attempts_max = 1000};

static void without_delay(void **state)
{
    struct host host;
    (void)state;
    const struct reeve_stats stats = play(&host, "delay-ms=0", 50, quick);
    assert_int_equal(host.running, 50);
    assert_int_equal(stats.operations_started, 50);
    assert_int_equal(stats.operations_done, 50);
    assert_int_equal(stats.operations_late, 0);
}

static void with_delays(void **state)
{
    struct host host;
    (void)state;
    const struct reeve_stats stats = play(&host, "delay-ms=1..5", 50, quick);
    assert_int_equal(host.running, 50);
    assert_int_equal(stats.operations_started, 50);
}

/* Long enough for progress to be told. */
static void with_progress(void **state)
{
    struct host host;
    (void)state;
    play(&host, "provision.delay-ms=110", 2, quick);
    assert_int_equal(host.running, 2);
}

static void failures_are_tried_again(void **state)
{
    static const char *const specs[] = {"delay-ms=0,fail=0.5,seed=7", "delay-ms=0..2,fail=0.5,seed=7"};
    struct host host;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct reeve_stats stats = play(&host, specs[i], 40, quick);
        assert_int_equal(host.running, 40);
        assert_true(stats.operations_retried > 0);
        assert_int_equal(stats.operations_started, 40 + stats.operations_retried);
    }
}

static void fatal_errors_are_final(void **state)
{
    struct host host;
    (void)state;
    const struct reeve_stats stats = play(&host, "delay-ms=0,provision.fatal=1", 10, quick);
    assert_int_equal(host.failed, 10);
    assert_int_equal(stats.operations_started, 10);
    assert_int_equal(stats.operations_failed, 10);
}

static void doubles_are_ignored(void **state)
{
    static const char *const specs[] = {"delay-ms=0,duplicate=1", "delay-ms=1,duplicate=1"};
    struct host host;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct reeve_stats stats = play(&host, specs[i], 20, quick);
        assert_int_equal(host.running, 20);
        assert_int_equal(stats.operations_done, 20);
        assert_true(stats.operations_late > 0);
    }
}

/* What hangs ends when it is cancelled, well before the engine would stop waiting for it. */
static void what_hangs_ends_when_cancelled(void **state)
{
    const struct reeve_limits limits = {.retry_min_ms = 1,
                                        .retry_max_ms = 2,
                                        .operation_timeout_ms = 20,
                                        .operation_attempts_max = 1000,
                                        .cancel_grace_ms = 3600000};
    struct host host;
    (void)state;
    const struct reeve_stats stats = play(&host, "delay-ms=0,hang=0.5,seed=3", 20, limits);
    assert_int_equal(host.running, 20);
    assert_true(stats.operations_timeout > 0);
}

/* Closing does not wait for what hangs. */
static void closing_with_something_in_flight(void **state)
{
    struct reeve_error error = {0};
    struct simulated *simulated;
    (void)state;
    assert_int_equal(simulated_new("hang=1", &simulated, &error), 0);
    struct reeve_service service = {0};
    struct reeve_task task = {
        .operation_id = {{1}}, .kind = REEVE_OPERATION_KIND_PROVISION, .attempt = 1, .service = &service};
    const struct reeve_provisioner *provisioner = simulated_provisioner(simulated);
    provisioner->start(provisioner->arg, &task);
    assert_non_null(task.data);
    provisioner->cancel(provisioner->arg, &task);
    provisioner->closed(provisioner->arg);
    simulated_free(simulated);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_settings),
        cmocka_unit_test(bad_settings),
        cmocka_unit_test(without_delay),
        cmocka_unit_test(with_delays),
        cmocka_unit_test(with_progress),
        cmocka_unit_test(failures_are_tried_again),
        cmocka_unit_test(fatal_errors_are_final),
        cmocka_unit_test(doubles_are_ignored),
        cmocka_unit_test(what_hangs_ends_when_cancelled),
        cmocka_unit_test(closing_with_something_in_flight),
    };
    return cmocka_run_group_tests_name("simulated", tests, NULL, NULL);
}
