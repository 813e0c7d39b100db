#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "process.h"
#include "request.h"
#include "wrapper.h"

#define PROGRESS_LOOK_BYTES 4096 /* the newest line is in them */

struct run *run_new(struct exec *exec, const struct log_owner *owner, enum reeve_operation_kind kind, uint64_t attempt)
{
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    link_init(&run->link);
    run->exec = exec;
    run->owner = *owner;
    run->kind = kind;
    run->attempt = attempt;
    run->pidfd = -1;
    return run;
}

static void free_now(struct run *run)
{
    if (run->pidfd >= 0)
        close(run->pidfd);
    free(run->directory);
    free(run);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct run *run = handle->data;
    run->handles_open--;
    if (run->freed && run->handles_open == 0)
        free_now(run);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void close_handles(struct run *run)
{
    if (run->handles_open == 0)
        return;
    close_handle(run->is_child ? (uv_handle_t *)&run->process : (uv_handle_t *)&run->poll);
}

void run_free(struct run *run)
{
    link_remove(&run->link);
    run->freed = true;
    if (run->handles_open == 0)
        free_now(run);
    else
        close_handles(run);
}

static void ended(struct run *run)
{
    run->alive = false;
    close_handles(run);
    if (run->on_ended)
        run->on_ended(run);
}

/* ---- Starting ---- */

__attribute__((format(printf, 3, 4))) static void give_up(struct run *run, const char *code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->problem, sizeof run->problem, format, arguments);
    va_end(arguments);
    run->code = code;
    if (run->directory)
        files_remove(run->directory);
    free(run->directory);
    run->directory = NULL;
}

static bool write_request(struct run *run, const json_t *request)
{
    char path[FILES_PATH_MAX];
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    files_path(path, "%s/" RUN_REQUEST, run->directory);
    if (!text)
        give_up(run, "cannot_run", "out of memory");
    else if (strlen(text) > EXEC_MESSAGE_MAX)
        give_up(run, "cannot_run", "what the program is to be told is longer than 1 MiB");
    else if (!files_write(path, text, strlen(text), false))
        give_up(run, "cannot_run", "cannot write %.150s: %s", path, strerror(errno));
    free(text);
    return !run->code;
}

static bool make_directory(struct run *run, const struct exec_config *config)
{
    char operation[37];
    reeve_uuid_format(&run->owner.operation_id, operation);
    if (asprintf(&run->directory, "%s/runs/%s-%llu", config->state, operation, (unsigned long long)run->attempt) < 0)
        run->directory = NULL;
    if (!run->directory) {
        give_up(run, "cannot_run", "out of memory");
        return false;
    }
    if (mkdir(run->directory, 0700) == 0)
        return true;
    give_up(run, "cannot_run", "cannot make a directory for the run: %s", strerror(errno));
    return false;
}

static void on_process_exit(uv_process_t *process, int64_t status, int number)
{
    (void)status;
    (void)number;
    ended(process->data);
}

/* The wrapper waits at its standard input until it is written down who it is; were we to die before, it ends. */
static void let_go(struct run *run, int gate)
{
    char path[FILES_PATH_MAX];
    json_t *description = process_describe(run->process.pid);
    files_path(path, "%s/" RUN_PROCESS, run->directory);
    if (!description || !files_write_json(path, description, false) || write(gate, "g", 1) != 1)
        uv_process_kill(&run->process, SIGKILL); /* its end comes back as any other */
    json_decref(description);
}

static int spawn(struct run *run, uv_loop_t *loop, const struct exec_config *config, const char *operation,
                 const char *timeout, char **environment, int gate)
{
    char *arguments[] = {(char *)(uintptr_t) "reeve",  (char *)(uintptr_t) "exec-run",
                         (char *)(uintptr_t)timeout,   config->program,
                         (char *)(uintptr_t)operation, NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_INHERIT_FD, .data.fd = gate}, {.flags = UV_IGNORE}, {.flags = UV_IGNORE}};
    const uv_process_options_t options = {.exit_cb = on_process_exit,
                                          .file = "/proc/self/exe",
                                          .args = arguments,
                                          .env = environment,
                                          .cwd = run->directory,
                                          .flags = UV_PROCESS_DETACHED,
                                          .stdio_count = 3,
                                          .stdio = stdio};
    run->process.data = run;
    run->handles_open = 1;
    run->is_child = true;
    const int r = uv_spawn(loop, &run->process, &options);
    if (r < 0)
        close_handles(run);
    return r;
}

void run_start(struct run *run, uv_loop_t *loop, const struct exec_config *config, const char *operation,
               const json_t *request, uint64_t timeout_ms, void (*on_ended)(struct run *run))
{
    char timeout[24];
    int gate[2];
    if (!make_directory(run, config) || !write_request(run, request))
        return;
    char **environment = config_environment(config, run->directory);
    if (!environment || pipe2(gate, O_CLOEXEC) < 0) {
        give_up(run, "cannot_run", "cannot start the program: %s", strerror(errno));
        free(environment);
        return;
    }
    snprintf(timeout, sizeof timeout, "%llu", (unsigned long long)timeout_ms);
    const int r = spawn(run, loop, config, operation, timeout, environment, gate[0]);
    if (r < 0) {
        give_up(run, "cannot_run", "cannot start the program: %s", uv_strerror(r));
    } else {
        run->alive = true;
        run->on_ended = on_ended;
        uv_unref((uv_handle_t *)&run->process);
        let_go(run, gate[1]);
    }
    free(environment);
    close(gate[0]);
    close(gate[1]);
}

/* ---- Finding what an earlier daemon started ---- */

static bool take_id(const json_t *request, const char *key, struct reeve_uuid *ret_id)
{
    const char *text = json_string_value(json_object_get(request, key));
    return text && reeve_uuid_parse(text, strlen(text), ret_id);
}

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    ended(poll->data);
}

static void adopt(struct run *run, uv_loop_t *loop, int pidfd)
{
    run->pidfd = pidfd;
    run->poll.data = run;
    if (uv_poll_init(loop, &run->poll, pidfd) < 0)
        return;
    run->handles_open = 1;
    run->alive = true;
    uv_unref((uv_handle_t *)&run->poll);
    if (uv_poll_start(&run->poll, UV_READABLE, on_pidfd) < 0) {
        run->alive = false;
        close_handles(run);
    }
}

/* "OPERATION-ATTEMPT" */
static bool parse_name(const char *name, struct reeve_uuid *ret_operation, uint64_t *ret_attempt)
{
    char *end;
    if (strlen(name) < 38 || name[36] != '-' || name[37] < '0' || name[37] > '9' ||
        !reeve_uuid_parse(name, 36, ret_operation))
        return false;
    *ret_attempt = strtoull(name + 37, &end, 10);
    return *end == '\0';
}

struct run *run_find(struct exec *exec, uv_loop_t *loop, const char *runs, const char *name,
                     void (*on_ended)(struct run *run))
{
    char path[FILES_PATH_MAX];
    struct log_owner owner;
    uint64_t attempt;
    if (!parse_name(name, &owner.operation_id, &attempt))
        return NULL;
    files_path(path, "%s/%s/" RUN_REQUEST, runs, name);
    json_error_t error;
    json_t *request = json_load_file(path, 0, &error);
    const char *word = json_string_value(json_object_get(request, "operation"));
    const enum reeve_operation_kind kind = word ? reeve_operation_kind_parse(word, strlen(word)) : 0;
    struct run *run = NULL;
    if (kind && take_id(request, "organizationId", &owner.organization_id) &&
        take_id(request, "serviceId", &owner.service_id))
        run = run_new(exec, &owner, kind, attempt);
    json_decref(request);
    if (!run || asprintf(&run->directory, "%s/%s", runs, name) < 0) {
        free(run);
        return NULL;
    }
    run->on_ended = on_ended;
    files_path(path, "%s/%s/" RUN_PROCESS, runs, name);
    json_t *description = files_read_json(path);
    const int pidfd = description ? process_open(description) : -1;
    json_decref(description);
    if (pidfd >= 0)
        adopt(run, loop, pidfd);
    return run;
}

/* ---- Ending ---- */

static void send_signal(struct run *run, int number)
{
    if (run->is_child)
        uv_process_kill(&run->process, number);
    else
        pidfd_send_signal(run->pidfd, number, NULL, 0);
}

void run_end(struct run *run, uv_loop_t *loop)
{
    if (!run->alive || run->kill_ms)
        return;
    send_signal(run, SIGTERM);
    run->kill_ms = uv_now(loop) + WRAPPER_GRACE_MS + 1000;
}

void run_end_overdue(struct run *run, uv_loop_t *loop)
{
    if (run->alive && run->kill_ms && uv_now(loop) >= run->kill_ms)
        send_signal(run, SIGKILL);
}

/* ---- Progress ---- */

static bool parse_progress(const char *line, size_t size, struct reeve_progress *ret_progress, char ret_text[256])
{
    json_t *json = json_loadb(line, size, 0, NULL);
    const json_int_t done = json_integer_value(json_object_get(json, "done"));
    const json_int_t total = json_integer_value(json_object_get(json, "total"));
    const char *text = json_string_value(json_object_get(json, "text"));
    const bool good = json_is_object(json) && done >= 0 && total >= 0;
    snprintf(ret_text, 256, "%.200s", text ? text : "");
    *ret_progress = (struct reeve_progress){.done = (uint64_t)(done > 0 ? done : 0),
                                            .total = (uint64_t)(total > 0 ? total : 0),
                                            .text = reeve_str(ret_text)};
    json_decref(json);
    return good;
}

bool run_read_progress(struct run *run, struct reeve_progress *ret_progress, char ret_text[256])
{
    char path[FILES_PATH_MAX];
    struct stat status;
    struct buffer bytes = {0};
    bool good = false;
    files_path(path, "%s/" RUN_PROGRESS, run->directory);
    if (stat(path, &status) < 0 || status.st_size <= run->progress_read ||
        !files_read_end(path, PROGRESS_LOOK_BYTES, &bytes)) {
        buffer_deinit(&bytes);
        return false;
    }
    run->progress_read = status.st_size;
    size_t end = bytes.size;
    while (end > 0 && bytes.data[end - 1] != '\n') /* a line that is being written */
        end--;
    size_t start = end > 0 ? end - 1 : 0;
    while (start > 0 && bytes.data[start - 1] != '\n')
        start--;
    if (end > start + 1)
        good = parse_progress(bytes.data + start, end - 1 - start, ret_progress, ret_text);
    buffer_deinit(&bytes);
    return good;
}
