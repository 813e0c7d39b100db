#include "exec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/file_lock.h"
#include "exec_private.h"
#include "files.h"

void exec_say(const struct exec *exec, enum reeve_log_level level, const char *format, ...)
{
    char line[512];
    va_list arguments;
    if (!exec->log)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    exec->log(NULL, level, line);
}

const struct option_type exec_options[] = {
#define EXEC_LIMIT(c_name, flag, preset, min, max, unit, text)                                                         \
    {flag, offsetof(struct exec_limits, c_name), preset, min, max, unit, text},
#include "limits.def"
};
const unsigned exec_options_count = sizeof exec_options / sizeof exec_options[0];

#define KIND_COUNTER false
#define KIND_GAUGE true
const struct counter_type exec_counters[] = {
#define EXEC_COUNTER(c_name, name, kind, text) {name, offsetof(struct exec_stats, c_name), KIND_##kind, text},
#include "counters.def"
};
const unsigned exec_counters_count = sizeof exec_counters / sizeof exec_counters[0];

/* ---- Opening ---- */

static void on_closed(void *arg)
{
    exec_close(arg);
}

static int refuse(struct reeve_error *ret_error, const char *problem, const char *reason)
{
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_STORE_ACCESS, .field = "exec"};
    snprintf(ret_error->message, sizeof ret_error->message, "%.190s: %s", problem, reason);
    return -REEVE_ERROR_STORE_ACCESS;
}

#define LOCK_PATIENCE_MS 1000 /* with what is left of a daemon that was killed */

/* Two daemons with one state directory would end each other's programs. */
static int lock_state(struct exec *exec, struct reeve_error *ret_error)
{
    char path[FILES_PATH_MAX];
    files_path(path, "%s/lock", exec->config.state);
    exec->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (exec->lock < 0)
        return refuse(ret_error, path, strerror(errno));
    if (file_lock(exec->lock, LOCK_PATIENCE_MS) < 0)
        return refuse(ret_error, exec->config.state, "another daemon uses this state directory");
    return 0;
}

static int is_no_dot(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void find_runs(struct exec *exec)
{
    char runs[FILES_PATH_MAX], path[FILES_PATH_MAX];
    files_path(runs, "%s/runs", exec->config.state);
    struct dirent **names = NULL;
    const int count = scandir(runs, &names, is_no_dot, alphasort);
    for (int i = 0; i < count; i++) {
        struct run *run = run_find(exec, exec->loop, runs, names[i]->d_name, attempts_on_ended);
        files_path(path, "%s/%s", runs, names[i]->d_name);
        if (run)
            attempts_add(exec, run);
        else
            files_remove(path); /* nothing can have run in it, or a look, which changes nothing */
        free(names[i]);
    }
    free(names);
}

static void open_handles(struct exec *exec)
{
    uv_timer_init(exec->loop, &exec->tick);
    uv_signal_init(exec->loop, &exec->orphan);
    exec->tick.data = exec->orphan.data = exec;
    exec->opened = true;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    uv_signal_start(&exec->orphan, attempts_on_orphan, SIGCHLD);
    uv_unref((uv_handle_t *)&exec->tick);
    uv_unref((uv_handle_t *)&exec->orphan);
}

static void warn_of_missing(const struct exec *exec)
{
    for (int kind = 1; kind <= REEVE_OPERATION_KIND_DELETE_BACKUP; kind++) {
        if (!(exec->description.operations & 1U << kind))
            exec_say(exec, REEVE_LOG_WARNING, "exec: %s does not do %s: such operations will fail",
                     exec->description.name, reeve_operation_kind_name((enum reeve_operation_kind)kind));
    }
}

int exec_new(const char *spec, const char *data_dir, struct uv_loop_s *loop, reeve_log_cb log, struct exec **ret_exec,
             struct reeve_error *ret_error)
{
    *ret_exec = NULL;
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return refuse(ret_error, "exec", "out of memory");
    exec->loop = loop;
    exec->log = log;
    exec->lock = -1;
    link_init(&exec->runs);
    int r = config_read(&exec->config, spec, data_dir, ret_error);
    if (r == 0)
        r = lock_state(exec, ret_error);
    if (r == 0)
        r = describe_program(&exec->config, &exec->description, ret_error);
    if (r < 0) {
        exec_free(exec);
        return r;
    }
    exec->provisioner = (struct reeve_provisioner){.version = REEVE_PROVISIONER_VERSION,
                                                   .name = exec->description.name,
                                                   .arg = exec,
                                                   .loop = loop,
                                                   .start = attempts_on_start,
                                                   .cancel = attempts_on_cancel,
                                                   .closed = on_closed,
                                                   .password_forms = exec->description.passwords};
    open_handles(exec);
    find_runs(exec);
    exec_say(exec, REEVE_LOG_INFO, "exec: %s (%s), state in %s", exec->description.name, exec->config.program,
             exec->config.state);
    warn_of_missing(exec);
    *ret_exec = exec;
    return 0;
}

const struct reeve_provisioner *exec_provisioner(struct exec *exec)
{
    return &exec->provisioner;
}

void exec_set_outcome(struct exec *exec, exec_outcome_cb on_outcome, void *arg)
{
    exec->on_outcome = on_outcome;
    exec->outcome_arg = arg;
    exec->config.behind_door = true;
}

const char *exec_state_directory(const struct exec *exec)
{
    return exec->config.state;
}

void exec_set_engine(struct exec *exec, struct reeve_engine *engine)
{
    exec->engine = engine;
}

static void set_limits(struct exec *exec, const struct exec_limits *given)
{
    exec->limits = *given;
    for (unsigned i = 0; i < exec_options_count; i++) {
        uint64_t *value = (uint64_t *)(void *)((char *)&exec->limits + exec_options[i].offset);
        if (*value == 0)
            *value = exec_options[i].preset;
    }
}

int exec_watch_health(struct exec *exec, const struct exec_limits *limits, struct reeve_error *ret_error)
{
    set_limits(exec, limits);
    const struct health_settings settings = {.exec = exec,
                                             .config = &exec->config,
                                             .loop = exec->loop,
                                             .engine = exec->engine,
                                             .limits = &exec->limits,
                                             .can_look = exec->description.health,
                                             .log = exec->log};
    return health_open(&settings, &exec->health, ret_error);
}

void exec_unwatch_health(struct exec *exec, void (*on_done)(void *arg), void *arg)
{
    struct health *health = exec->health;
    exec->health = NULL;
    if (health)
        health_close(health, on_done, arg);
    else
        on_done(arg);
}

void exec_reload(struct exec *exec, const struct exec_limits *limits)
{
    set_limits(exec, limits);
}

void exec_get_stats(const struct exec *exec, struct exec_stats *ret_stats)
{
    health_get_stats(exec->health, ret_stats);
}

bool exec_read_log(struct exec *exec, const struct reeve_operation_params *which, struct buffer *log,
                   struct buffer *progress)
{
    const struct log_owner owner = {which->organization_id, which->service_id, which->operation_id};
    bool found = logs_read(exec->config.state, &owner, log, progress);
    for (const struct link *at = exec->runs.next; at != &exec->runs; at = at->next) {
        const struct run *run = link_owner(at, const struct run, link);
        char head[160];
        if (!run->directory || run->kept || memcmp(&run->owner, &owner, sizeof owner) != 0)
            continue;
        snprintf(head, sizeof head, "%s, attempt %llu: %s", reeve_operation_kind_name(run->kind),
                 (unsigned long long)run->attempt, run->alive ? "running" : "ended");
        logs_append_run(run->directory, head, log, progress);
        found = true;
    }
    return found;
}

void exec_close(struct exec *exec)
{
    if (!exec || exec->closed)
        return;
    exec->closed = true;
    exec->engine = NULL;
    if (!exec->opened)
        return;
    uv_close((uv_handle_t *)&exec->tick, NULL);
    uv_close((uv_handle_t *)&exec->orphan, NULL);
    while (link_used(&exec->runs))
        run_free(link_owner(exec->runs.next, struct run, link));
}

void exec_free(struct exec *exec)
{
    if (!exec)
        return;
    if (exec->lock >= 0)
        close(exec->lock);
    description_free(&exec->description);
    config_free(&exec->config);
    free(exec);
}
