/* What programs leave behind, and the outcome that comes of it. The whole way is tested in tests/api/test_exec.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "provisioners/exec/answer.h"
#include "provisioners/exec/wrapper.h"

static const char *const names[] = {RUN_RESULT, RUN_OUT, RUN_LOG};

struct run {
    char directory[64];
    struct answer answer;
};

static void path_of(const struct run *run, const char *name, char ret_path[128])
{
    snprintf(ret_path, 128, "%s/%s", run->directory, name);
}

/* Result, output and log, in this order. */
static void read_run(struct run *run, const char *const texts[3])
{
    char path[128];
    for (int i = 0; i < 3; i++) {
        path_of(run, names[i], path);
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        fputs(texts[i], file);
        fclose(file);
    }
    answer_free(&run->answer);
    answer_read(&run->answer, run->directory);
}

static int set_up(void **state)
{
    struct run *run = calloc(1, sizeof *run);
    strcpy(run->directory, "/tmp/reeve-answer-XXXXXX");
    *state = run;
    return mkdtemp(run->directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct run *run = *state;
    char path[128];
    for (int i = 0; i < 3; i++) {
        path_of(run, names[i], path);
        unlink(path);
    }
    rmdir(run->directory);
    answer_free(&run->answer);
    free(run);
    return 0;
}

static void assert_message(const struct run *run, const char *message)
{
    const struct reeve_str text = run->answer.outcome.message;
    assert_true(utf8_valid(text.data, text.size));
    assert_int_equal(text.size, strlen(message));
    assert_memory_equal(text.data, message, text.size);
}

static void test_control_characters_in_a_reason_are_replaced(void **state)
{
    struct run *run = *state;
    read_run(run, (const char *const[]){"{\"exit\":65}", "{\"error\":{\"message\":\"one\\ntwo\\u001b\"}}", ""});
    assert_int_equal(run->answer.outcome.status, REEVE_OUTCOME_STATUS_FAILED);
    assert_message(run, "one two?");
    read_run(run, (const char *const[]){"{\"exit\":0}", "\x05", ""});
    assert_int_equal(run->answer.outcome.status, REEVE_OUTCOME_STATUS_RETRY);
    assert_true(utf8_valid(run->answer.outcome.message.data, run->answer.outcome.message.size));
    assert_true(run->answer.outcome.message.size > 20);
}

static void test_a_long_reason_is_cut_between_characters(void **state)
{
    struct run *run = *state;
    char output[1200] = "{\"error\":{\"message\":\"a", expected[600] = "a";
    for (int i = 0; i < 300; i++)
        strcat(output, "\xc3\xa4");
    strcat(output, "\"}}");
    read_run(run, (const char *const[]){"{\"exit\":75}", output, ""});
    for (int i = 0; i < 249; i++)
        strcat(expected, "\xc3\xa4");
    assert_int_equal(run->answer.outcome.status, REEVE_OUTCOME_STATUS_RETRY);
    assert_true(run->answer.outcome.message.size >= strlen(expected));
    assert_true(utf8_valid(run->answer.outcome.message.data, run->answer.outcome.message.size));
}

static void test_the_end_of_a_log_is_cut_between_characters(void **state)
{
    struct run *run = *state;
    char log[1200] = "first\n";
    for (int i = 0; i < 300; i++)
        strcat(log, "\xe2\x82\xac");
    read_run(run, (const char *const[]){"{\"signal\":9}", "", log});
    const struct reeve_str message = run->answer.outcome.message;
    assert_true(utf8_valid(message.data, message.size));
    assert_true(message.size > 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_control_characters_in_a_reason_are_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_reason_is_cut_between_characters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_end_of_a_log_is_cut_between_characters, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
