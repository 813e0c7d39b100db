#include "answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files.h"
#include "request.h"
#include "wrapper.h"

#define LAST_LINE_BYTES 1024

/* ---- Outcomes ---- */

void answer_clean(const char *text, char *ret_text, size_t size_max)
{
    struct buffer line = {0};
    files_append_text(&line, text, strlen(text));
    for (size_t i = 0; i < line.size; i++) {
        if ((unsigned char)line.data[i] < ' ')
            line.data[i] = ' ';
    }
    const size_t size = line.size < size_max ? line.size : utf8_cut(line.data, line.size, size_max - 1);
    snprintf(ret_text, size_max, "%.*s", (int)size, line.data ? line.data : "");
    buffer_deinit(&line);
}

__attribute__((format(printf, 4, 5))) static void conclude(struct answer *answer, enum reeve_outcome_status status,
                                                           const char *code, const char *format, ...)
{
    char message[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    answer_clean(message, answer->message, sizeof answer->message);
    answer_clean(code, answer->code, sizeof answer->code);
    answer->outcome = (struct reeve_outcome){
        .status = status, .code = reeve_str(answer->code), .message = reeve_str(answer->message)};
}

/* The program has a bug, which another attempt may not meet. */
__attribute__((format(printf, 2, 3))) static void blame(struct answer *answer, const char *format, ...)
{
    char problem[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "bad_answer", "%s", problem);
}

/* ---- What was printed ---- */

static const char *text_of(const json_t *json, size_t size_max)
{
    const char *text = json_string_value(json);
    return text && *text && json_string_length(json) <= size_max && strlen(text) == json_string_length(json) ? text
                                                                                                             : NULL;
}

static void read_output(struct answer *answer, const char *run_directory)
{
    char path[FILES_PATH_MAX];
    struct buffer text = {0};
    json_error_t error = {0};
    bool cut = false;
    files_path(path, "%s/" RUN_OUT, run_directory);
    if (!files_read_start(path, EXEC_MESSAGE_MAX, &text, &cut))
        blame(answer, "its answer cannot be read");
    else if (cut)
        blame(answer, "its answer is longer than 1 MiB");
    else if (text.size == 0)
        blame(answer, "it answered nothing; an answer is one JSON object");
    else if (!(answer->json = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, &error)))
        blame(answer, "its answer is not JSON: line %d: %.150s", error.line, error.text);
    else if (!json_is_object(answer->json))
        blame(answer, "its answer is JSON, but not an object");
    if (!json_is_object(answer->json)) {
        json_decref(answer->json);
        answer->json = NULL;
    }
    buffer_deinit(&text);
}

static bool take_endpoint(struct answer *answer, const json_t *json, struct reeve_endpoint *ret)
{
    const json_t *username = json_object_get(json, "username");
    const char *protocol = text_of(json_object_get(json, "protocol"), 50);
    const char *host = text_of(json_object_get(json, "host"), 255);
    const json_int_t port = json_integer_value(json_object_get(json, "port"));
    const char *name = username ? text_of(username, 255) : "";
    if (!protocol || !host || port < 1 || port > 65535 || !name) {
        blame(answer, "an endpoint in its answer needs a protocol, a host and a port from 1 to 65535 (and may have a "
                      "username)");
        return false;
    }
    *ret = (struct reeve_endpoint){reeve_str(protocol), reeve_str(host), (uint64_t)port, reeve_str(name)};
    return true;
}

static bool take_endpoints(struct answer *answer, struct reeve_outcome *outcome)
{
    const json_t *list = json_object_get(answer->json, "endpoints");
    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list) || json_array_size(list) > REEVE_ENDPOINTS_MAX) {
        blame(answer, "the endpoints in its answer are no array of at most %d", REEVE_ENDPOINTS_MAX);
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!take_endpoint(answer, json_array_get(list, i), &answer->endpoints[i]))
            return false;
    }
    outcome->endpoints = (struct reeve_endpoint_list){answer->endpoints, json_array_size(list)};
    return true;
}

static bool take_handle(struct answer *answer, struct reeve_outcome *outcome)
{
    const json_t *handle = json_object_get(answer->json, "handle");
    if (!handle || json_is_null(handle))
        return true;
    answer->handle = json_is_object(handle) ? json_dumps(handle, JSON_COMPACT) : NULL;
    if (!answer->handle || strlen(answer->handle) > REEVE_HANDLE_SIZE_MAX) {
        blame(answer, "the handle in its answer must be an object of at most %d bytes", REEVE_HANDLE_SIZE_MAX);
        return false;
    }
    outcome->handle = reeve_str(answer->handle);
    return true;
}

static void take_success(struct answer *answer)
{
    struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_DONE};
    const json_t *size = json_object_get(answer->json, "sizeBytes"),
                 *version = json_object_get(answer->json, "version");
    if (json_object_get(answer->json, "error")) {
        blame(answer, "it ended with exit code 0, but its answer is an error");
        return;
    }
    if (!take_endpoints(answer, &outcome) || !take_handle(answer, &outcome))
        return;
    if (size && !json_is_null(size) && (!json_is_integer(size) || json_integer_value(size) < 0)) {
        blame(answer, "the sizeBytes in its answer are no whole number");
        return;
    }
    if (version && !json_is_null(version) && !text_of(version, 50)) {
        blame(answer, "the version in its answer must be text of 1 to 50 bytes");
        return;
    }
    outcome.size_bytes = (uint64_t)json_integer_value(size);
    outcome.version = reeve_str(json_is_string(version) ? json_string_value(version) : "");
    answer->outcome = outcome;
}

/* ---- Failures ---- */

/* The last line of the log, for who only sees the failure: ": the line", or nothing. */
static void last_line(const char *run_directory, char ret_text[256])
{
    char path[FILES_PATH_MAX];
    struct buffer raw = {0}, text = {0};
    *ret_text = '\0';
    files_path(path, "%s/" RUN_LOG, run_directory);
    if (files_read_end(path, LAST_LINE_BYTES, &raw))
        files_append_text(&text, raw.data, raw.size);
    while (text.size > 0 && text.data[text.size - 1] == '\n')
        text.size--;
    size_t start = text.size;
    while (start > 0 && text.data[start - 1] != '\n')
        start--;
    const size_t size = text.size - start < 200 ? text.size - start : 200;
    if (size > 0)
        snprintf(ret_text, 256, "; the log ends with: %.*s", (int)size, text.data + start);
    buffer_deinit(&raw);
    buffer_deinit(&text);
}

static void take_failure(struct answer *answer, enum reeve_outcome_status status, const char *code,
                         const char *run_directory)
{
    const json_t *error = json_object_get(answer->json, "error");
    const char *given = text_of(json_object_get(error, "code"), 50);
    const char *message = text_of(json_object_get(error, "message"), 1000);
    const json_int_t retry_after_ms = json_integer_value(json_object_get(error, "retryAfterMs"));
    char line[256];
    if (message) {
        conclude(answer, status, given ? given : code, "%.500s", message);
    } else {
        last_line(run_directory, line);
        conclude(answer, status, given ? given : code, "%s, and gave no reason%s", answer->end, line);
    }
    if (retry_after_ms > 0)
        answer->outcome.retry_after_ms = (uint64_t)retry_after_ms;
}

static void take_crash(struct answer *answer, const char *run_directory)
{
    char line[256];
    last_line(run_directory, line);
    conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "crashed", "the program ended with %s%s", answer->end, line);
}

/* It was ended from outside. True: that is the outcome. */
static bool take_ending(struct answer *answer, const char *ended)
{
    if (!ended || answer->exit_code == 0)
        return false;
    if (strcmp(ended, "deadline") == 0)
        conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "timeout", "the program took longer than it may and was ended");
    else if (strcmp(ended, "output") == 0)
        conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "bad_answer", "the program wrote more than 64 MiB and was ended");
    else
        conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "terminated", "the program was ended from outside");
    return true;
}

/* ---- All together ---- */

static void describe_end(struct answer *answer, const json_t *result)
{
    const json_t *code = json_object_get(result, "exit"), *number = json_object_get(result, "signal");
    answer->exit_code = -1;
    if (json_is_integer(code)) {
        answer->exit_code = (int)json_integer_value(code);
        snprintf(answer->end, sizeof answer->end, "exit code %d", answer->exit_code);
    } else if (json_is_integer(number)) {
        const int value = (int)json_integer_value(number);
        const char *name = sigdescr_np(value);
        snprintf(answer->end, sizeof answer->end, "signal %d (%s)", value, name ? name : "unknown");
    }
}

static void take(struct answer *answer, const json_t *result, const char *run_directory)
{
    const char *problem = json_string_value(json_object_get(result, "cannotRun"));
    if (!result) {
        conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "lost", "the program was killed together with what watches it");
    } else if (problem) {
        conclude(answer, REEVE_OUTCOME_STATUS_RETRY, "cannot_run", "the program cannot be executed: %s", problem);
    } else if (!take_ending(answer, json_string_value(json_object_get(result, "ended")))) {
        read_output(answer, run_directory);
        if (answer->exit_code == 0 && answer->json)
            take_success(answer);
        else if (answer->exit_code == EXIT_RETRY)
            take_failure(answer, REEVE_OUTCOME_STATUS_RETRY, "retry", run_directory);
        else if (answer->exit_code == EXIT_PERMANENT)
            take_failure(answer, REEVE_OUTCOME_STATUS_FAILED, "failed", run_directory);
        else if (answer->exit_code == EXIT_UNSUPPORTED)
            take_failure(answer, REEVE_OUTCOME_STATUS_FAILED, "unsupported", run_directory);
        else if (answer->exit_code != 0)
            take_crash(answer, run_directory);
    }
}

void answer_read(struct answer *answer, const char *run_directory)
{
    char path[FILES_PATH_MAX];
    *answer = (struct answer){.exit_code = -1, .end = "no result"};
    files_path(path, "%s/" RUN_RESULT, run_directory);
    json_t *result = files_read_json(path);
    answer->lost = !result;
    describe_end(answer, result);
    take(answer, result, run_directory);
    json_decref(result);
}

void answer_free(struct answer *answer)
{
    json_decref(answer->json);
    free(answer->handle);
    answer->json = NULL;
    answer->handle = NULL;
}
