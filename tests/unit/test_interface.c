/* What a host is told of itself: names and numbers there and back, options and catalogues that cannot be, and what a
 * provisioner may not answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <reeve.h>
#include <uv.h>

#include "catalogue.h"
#include "codec.h"
#include "tests/lib/directory.h"

/* ---- Names ---- */

#define ASSERT_WORDS(type, count)                                                                                      \
    do {                                                                                                               \
        for (unsigned number = 1; number < (count); number++) {                                                        \
            const char *name = reeve_##type##_name((enum reeve_##type)number);                                         \
            assert_non_null(name);                                                                                     \
            assert_int_equal(reeve_##type##_parse(name, strlen(name)), number);                                        \
            assert_int_equal(reeve_##type##_parse(name, strlen(name) - 1), 0);                                         \
        }                                                                                                              \
        assert_null(reeve_##type##_name((enum reeve_##type)(count)));                                                  \
        assert_int_equal(reeve_##type##_parse("nothing of it", 13), 0);                                                \
    } while (0)

static void test_words_there_and_back(void **state)
{
    (void)state;
    ASSERT_WORDS(tier, REEVE_TIER_COUNT);
    ASSERT_WORDS(role, REEVE_ROLE_COUNT);
    ASSERT_WORDS(key_state, REEVE_KEY_STATE_COUNT);
    ASSERT_WORDS(autoscaling_mode, REEVE_AUTOSCALING_MODE_COUNT);
    ASSERT_WORDS(release_channel, REEVE_RELEASE_CHANNEL_COUNT);
    ASSERT_WORDS(operation_kind, REEVE_OPERATION_KIND_COUNT);
    ASSERT_WORDS(outcome_status, REEVE_OUTCOME_STATUS_COUNT);
    ASSERT_WORDS(password_form, REEVE_PASSWORD_FORM_COUNT);
    ASSERT_WORDS(service_state, REEVE_SERVICE_STATE_COUNT);
    ASSERT_WORDS(backup_state, REEVE_BACKUP_STATE_COUNT);
    for (unsigned number = 1; number < REEVE_EVENT_TYPE_COUNT; number++) {
        const char *name = reeve_event_type_name((enum reeve_event_type)number);
        if (name)
            assert_int_equal(reeve_event_type_parse(name, strlen(name)), number);
    }
    assert_null(reeve_event_type_name(REEVE_EVENT_TYPE_COUNT));
}

static void test_commands_there_and_back(void **state)
{
    (void)state;
    assert_int_equal(reeve_command_parse("service.create", 14), REEVE_COMMAND_SERVICE_CREATE);
    assert_int_equal(reeve_command_parse("service.creatE", 14), REEVE_COMMAND_NONE);
    assert_int_equal(reeve_command_parse("", 0), REEVE_COMMAND_NONE);
    assert_string_equal(reeve_command_name(REEVE_COMMAND_SERVICE_CREATE), "service.create");
    assert_int_equal(reeve_command_mode(REEVE_COMMAND_SERVICE_CREATE), REEVE_MODE_WRITE);
    assert_int_equal(reeve_command_mode(REEVE_COMMAND_SERVICE_GET), REEVE_MODE_READ);
    for (unsigned i = 0; i < schema_commands_count; i++) {
        const struct command_type *command = &schema_commands[i];
        assert_string_equal(reeve_command_name(command->id), command->name);
        assert_int_equal(reeve_command_parse(command->name, strlen(command->name)), command->id);
        assert_int_equal(reeve_command_mode(command->id), command->mode);
    }
    const unsigned none[] = {0, 9, 250, 100000};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_null(reeve_command_name((enum reeve_command)none[i]));
        assert_int_equal(reeve_command_mode((enum reeve_command)none[i]), 0);
    }
    assert_null(schema_record("nothing", false));
    assert_null(schema_record("nothing", true));
    assert_ptr_equal(schema_record("service", false), &record_type_service);
}

static void test_errors_have_names_texts_and_numbers(void **state)
{
    (void)state;
    assert_string_equal(reeve_error_name(REEVE_OK), "OK");
    assert_string_equal(reeve_error_name(-REEVE_ERROR_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(reeve_error_http_status(REEVE_ERROR_NOT_FOUND), 404);
    assert_false(reeve_error_retryable(-REEVE_ERROR_NOT_FOUND));
    assert_true(reeve_error_retryable(REEVE_ERROR_UNAVAILABLE));
    assert_non_null(strstr(reeve_error_text(-REEVE_ERROR_STORE_DAMAGED), "damaged"));
    for (int number = 900; number < 1100; number += 100) {
        assert_string_equal(reeve_error_name(number), "INTERNAL");
        assert_int_equal(reeve_error_http_status(-number), 500);
    }
}

/* ---- Times ---- */

static void test_times_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-",
                                      "2026-01",
                                      "2026-01-",
                                      "2026-01-31",
                                      "2026-01-31T",
                                      "2026-01-31T12",
                                      "2026-01-31T12:",
                                      "2026-01-31T12:00",
                                      "2026-01-31T12:00:",
                                      "2026-01-31T12:00:00",
                                      "2026-01-31T12:00:00.",
                                      "2026-01-31T12:00:00.x",
                                      "2026-01-31T12:00:00.123",
                                      "2026-01-31T12:00:00+",
                                      "2026-01-31T12:00:00+05",
                                      "2026-01-31T12:00:00+05:",
                                      "2026-01-31T12:00:00+05:3",
                                      "2026-01-31T12:00:00+24:00",
                                      "2026-01-31T12:00:00+05:60",
                                      "2026-01-31T12:00:00Zx",
                                      "2026/01-31T12:00:00Z",
                                      "2026-01/31T12:00:00Z",
                                      "2026-01-31x12:00:00Z",
                                      "2026-01-31T12.00:00Z",
                                      "2026-01-31T12:00.00Z",
                                      "x026-01-31T12:00:00Z",
                                      "1969-12-31T23:59:59Z",
                                      "1970-01-01T00:00:00+00:01",
                                      "2026-00-31T12:00:00Z",
                                      "2026-13-31T12:00:00Z",
                                      "2026-01-00T12:00:00Z",
                                      "2026-02-29T12:00:00Z",
                                      "2100-02-29T12:00:00Z",
                                      "2026-01-31T24:00:00Z",
                                      "2026-01-31T12:60:00Z",
                                      "2026-01-31T12:00:60Z"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(codec_parse_time(bad[i], strlen(bad[i]), &ms));
    static const char *const same[] = {"2000-02-29T12:00:00.5Z", "2000-02-29t12:00:00.500z",
                                       "2000-02-29 14:30:00.5009+02:30", "2000-02-29T10:00:00.50-02:00"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_true(codec_parse_time(same[i], strlen(same[i]), &ms));
        assert_int_equal(ms, UINT64_C(951825600500));
    }
}

/* ---- Catalogues ---- */

static void assert_no_catalogue(const char *text, const char *why)
{
    struct catalogue *catalogue;
    struct reeve_error error;
    assert_int_equal(catalogue_new(text, &catalogue, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_null(catalogue);
    assert_string_equal(error.field, "catalogue");
    assert_non_null(strstr(error.message, why));
}

static void test_catalogues_that_are_none(void **state)
{
    (void)state;
    char text[128] = "aws: a ";
    assert_no_catalogue("", "names no provider");
    assert_no_catalogue(" ; \n;", "names no provider");
    assert_no_catalogue(": a", "stuck at ': a'");
    assert_no_catalogue("aws a", "stuck at 'a'");
    assert_no_catalogue("aws:", "needs regions");
    assert_no_catalogue("aws: ; gcp: a", "needs regions");
    assert_no_catalogue("aws: a!; gcp: b", "stuck at '!; gcp: b'");
    memset(text + 7, 'b', 51);
    assert_no_catalogue(text, "is too long");
    memset(text, 'b', 58);
    strcpy(text + 58, ": a");
    assert_no_catalogue(text, "must read");
}

/* More than fit at first, with all that may stand between them. */
static void test_a_catalogue_has_what_it_names(void **state)
{
    (void)state;
    struct catalogue *catalogue;
    struct reeve_error error;
    char text[1024] = "one : a,b c;;two:x", listed[256];
    for (int i = 0; i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " r-%d", i);
    assert_int_equal(catalogue_new(text, &catalogue, &error), 0);
    assert_true(catalogue_has_provider(catalogue, reeve_str("two")));
    assert_false(catalogue_has_provider(catalogue, reeve_str("tw")));
    assert_true(catalogue_has_region(catalogue, reeve_str("one"), reeve_str("c")));
    assert_true(catalogue_has_region(catalogue, reeve_str("two"), reeve_str("r-39")));
    assert_false(catalogue_has_region(catalogue, reeve_str("one"), reeve_str("x")));
    catalogue_list_providers(catalogue, listed, sizeof listed);
    assert_string_equal(listed, "'one', 'two'");
    catalogue_list_regions(catalogue, reeve_str("one"), listed, sizeof listed);
    assert_string_equal(listed, "'a', 'b', 'c'");
    catalogue_list_regions(catalogue, reeve_str("none"), listed, sizeof listed);
    assert_string_equal(listed, "");
    catalogue_free(catalogue);
    catalogue_free(NULL);
}

/* ---- Options ---- */

static void start_nothing(void *arg, struct reeve_task *task)
{
    (void)arg, (void)task;
}

static void assert_not_opened(const struct reeve_options *options, const char *field)
{
    struct reeve_engine *engine;
    struct reeve_error error;
    assert_int_equal(reeve_open(options, &engine, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_null(engine);
    assert_string_equal(error.field, field);
    assert_int_equal(reeve_open(options, &engine, NULL), -REEVE_ERROR_BAD_REQUEST);
}

static void test_options_that_cannot_be(void **state)
{
    (void)state;
    static char long_text[4100];
    memset(long_text, 'x', sizeof long_text - 1);
    struct reeve_provisioner provisioner = {.version = REEVE_PROVISIONER_VERSION, .start = start_nothing};
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .version = REEVE_OPTIONS_VERSION + 1}, "version");
    assert_not_opened(&(struct reeve_options){.data_dir = NULL}, "data_dir");
    assert_not_opened(&(struct reeve_options){.data_dir = ""}, "data_dir");
    assert_not_opened(&(struct reeve_options){.data_dir = long_text}, "data_dir");
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .endpoint_domain = long_text}, "endpoint_domain");
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .provisioner = &provisioner}, "provisioner");
    provisioner.start = NULL;
    provisioner.cancel = start_nothing;
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .provisioner = &provisioner}, "provisioner");
    provisioner.version++;
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .provisioner = &provisioner}, "provisioner.version");
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .limits.batch_max = UINT64_MAX}, "batch-max");
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .limits.journal_segment_bytes = 1},
                      "journal-segment-bytes");
    assert_not_opened(&(struct reeve_options){.data_dir = "/x", .catalogue = "x"}, "catalogue");
}

/* ---- What a provisioner answers ---- */

struct answer {
    struct reeve_outcome outcome;
    const char *code, *why; /* as the next attempt is told */
};

static char large[5000];
static struct reeve_endpoint endpoints[17], bad_endpoints[9];

#define DONE .status = REEVE_OUTCOME_STATUS_DONE
#define ENDPOINT(i)                                                                                                    \
    {                                                                                                                  \
        {DONE, .endpoints = {&bad_endpoints[i], 1}}, "bad_outcome", "whose protocol, host or user name"                \
    }

static const struct answer answers[] = {
    {{DONE, .handle = {large, 4097}}, "bad_outcome", "a handle of more than 4096 bytes"},
    {{DONE, .endpoints = {endpoints, 17}}, "bad_outcome", "more than 16 endpoints"},
    {{DONE, .version = {large, 51}}, "bad_outcome", "a version of more than 50 bytes"},
    {{DONE, .version = {"\xff", 1}}, "bad_outcome", "not text"},
    {{DONE, .endpoints = {&bad_endpoints[0], 1}}, "bad_outcome", "whose port is not"},
    {{DONE, .endpoints = {&bad_endpoints[1], 1}}, "bad_outcome", "whose port is not"},
    ENDPOINT(2),
    ENDPOINT(3),
    ENDPOINT(4),
    ENDPOINT(5),
    ENDPOINT(6),
    ENDPOINT(7),
    ENDPOINT(8),
    {{.status = REEVE_OUTCOME_STATUS_UNSET}, "bad_outcome", "an unknown status"},
    {{.status = (enum reeve_outcome_status)77}, "bad_outcome", "an unknown status"},
    {{.status = REEVE_OUTCOME_STATUS_RETRY, .code = {"\x01", 1}}, "unreadable", "no reason"},
    {{.status = REEVE_OUTCOME_STATUS_RETRY, .message = {"\xff", 1}}, "unknown", "not valid UTF-8"},
    {{.status = REEVE_OUTCOME_STATUS_RETRY, .code = {large, 60}, .message = {large, 600}}, "xxxxxxxxxx", "xxxxxxxxxx"},
};

#define ANSWERS (sizeof answers / sizeof answers[0])

struct host {
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    size_t attempts; /* the loop's thread */
    bool answered, running;
    struct reeve_uuid id;
};

static void make_endpoints(void)
{
    const struct reeve_endpoint good = {.protocol = reeve_str("p"), .host = reeve_str("h"), .port = 1};
    memset(large, 'x', sizeof large);
    for (size_t i = 0; i < 17; i++)
        endpoints[i] = good;
    for (size_t i = 0; i < 9; i++)
        bad_endpoints[i] = good;
    bad_endpoints[0].port = 0;
    bad_endpoints[1].port = 65536;
    bad_endpoints[2].host.size = 0;
    bad_endpoints[3].host = (struct reeve_str){large, 256};
    bad_endpoints[4].protocol.size = 0;
    bad_endpoints[5].protocol = (struct reeve_str){large, 51};
    bad_endpoints[6].username = (struct reeve_str){large, 256};
    bad_endpoints[7].host = reeve_str("\xff");
    bad_endpoints[8].protocol = reeve_str("\xff");
}

static void assert_told(const struct reeve_task *task, const struct answer *before)
{
    char text[1024];
    const struct reeve_failure *last = &task->service->operation.last_error;
    snprintf(text, sizeof text, "%.*s", (int)last->code.size, last->code.data);
    assert_non_null(strstr(text, before->code));
    assert_true(last->code.size <= 50 && last->message.size <= 500);
    snprintf(text, sizeof text, "%.*s", (int)last->message.size, last->message.data);
    assert_non_null(strstr(text, before->why));
}

static void start_badly(void *arg, struct reeve_task *task)
{
    struct host *host = arg;
    const size_t attempt = host->attempts++;
    const struct reeve_outcome done = {.status = REEVE_OUTCOME_STATUS_DONE, .endpoints = {endpoints, 16}};
    assert_int_equal(task->attempt, attempt + 1);
    if (attempt > 0)
        assert_told(task, &answers[attempt - 1]);
    assert_int_equal(reeve_operation_progress(host->engine, &task->operation_id, task->attempt, attempt, ANSWERS,
                                              attempt % 2 ? reeve_str("\xff") : reeve_str("going on")),
                     0);
    assert_int_equal(reeve_operation_finish(host->engine, &task->operation_id, task->attempt,
                                            attempt < ANSWERS ? &answers[attempt].outcome : &done),
                     0);
}

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct host *host = request->data;
    assert_int_equal(result->error.code, 0);
    host->answered = true;
    if (request->command == REEVE_COMMAND_ORGANIZATION_CREATE)
        host->id = result->answer.organization.id;
}

static void submit(struct host *host, struct reeve_request *request)
{
    request->on_done = on_done;
    request->data = host;
    host->answered = false;
    assert_int_equal(reeve_submit(host->client, request), 0);
    while (!host->answered)
        uv_run(&host->loop, UV_RUN_ONCE);
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    ((struct host *)watch->data)->running |= event->to == REEVE_SERVICE_STATE_RUNNING;
}

static void test_what_a_provisioner_may_not_answer_is_tried_again(void **state)
{
    (void)state;
    struct host host = {.attempts = 0};
    struct reeve_error error;
    char directory[DIRECTORY_PATH_MAX];
    make_endpoints();
    directory_make("/tmp", directory);
    assert_int_equal(uv_loop_init(&host.loop), 0);
    const struct reeve_provisioner provisioner = {.version = REEVE_PROVISIONER_VERSION,
                                                  .arg = &host,
                                                  .loop = &host.loop,
                                                  .start = start_badly,
                                                  .cancel = start_nothing};
    const struct reeve_options options = {
        .data_dir = directory,
        .provisioner = &provisioner,
        .limits = {.operation_attempts_max = ANSWERS + 1, .retry_min_ms = 1, .retry_max_ms = 1}};
    assert_int_equal(reeve_open(&options, &host.engine, &error), 0);
    assert_int_equal(reeve_client_open(host.engine, &host.loop, &host.client), 0);
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_GET, .on_done = on_done};
    assert_int_equal(reeve_submit(host.client, &request), -REEVE_ERROR_BAD_REQUEST); /* that one reads */
    request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    assert_int_equal(reeve_submit(host.client, &request), -REEVE_ERROR_BAD_REQUEST); /* nobody to tell */
    assert_int_equal(reeve_read(host.engine, &request, NULL, NULL, &error), -REEVE_ERROR_BAD_REQUEST);
    request.params.organization_create.name = reeve_str("acme");
    submit(&host, &request);
    struct reeve_watch watch = {.data = &host};
    assert_int_equal(reeve_watch_start(host.client, &watch, &error), -REEVE_ERROR_BAD_REQUEST);
    watch.on_event = on_event;
    assert_int_equal(reeve_watch_start(host.client, &watch, &error), 0);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_CREATE};
    request.params.service_create = (struct reeve_service_create_params){.organization_id = host.id,
                                                                         .name = reeve_str("db"),
                                                                         .provider = reeve_str("aws"),
                                                                         .region = reeve_str("us-east-1"),
                                                                         .tier = REEVE_TIER_DEVELOPMENT};
    submit(&host, &request);
    while (!host.running)
        uv_run(&host.loop, UV_RUN_ONCE);
    assert_int_equal(host.attempts, ANSWERS + 1);
    reeve_watch_stop(&watch);
    reeve_watch_stop(&watch); /* it has been */
    reeve_client_close(host.client, NULL, NULL);
    reeve_client_close(NULL, NULL, NULL);
    reeve_close(host.engine);
    reeve_close(NULL);
    uv_run(&host.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&host.loop), 0);
    directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_there_and_back),
        cmocka_unit_test(test_commands_there_and_back),
        cmocka_unit_test(test_errors_have_names_texts_and_numbers),
        cmocka_unit_test(test_times_that_are_none),
        cmocka_unit_test(test_catalogues_that_are_none),
        cmocka_unit_test(test_a_catalogue_has_what_it_names),
        cmocka_unit_test(test_options_that_cannot_be),
        cmocka_unit_test(test_what_a_provisioner_may_not_answer_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
