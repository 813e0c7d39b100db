/* Attempts of the engine and the runs of programs that make them: started, or taken over from an earlier daemon; looked
 * after; reported once they have ended. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "answer.h"
#include "exec_private.h"
#include "files.h"
#include "request.h"

#define TICK_MS 500

static void say_of(const struct run *run, enum reeve_log_level level, const char *what)
{
    char operation[37];
    reeve_uuid_format(&run->owner.operation_id, operation);
    exec_say(run->exec, level, "exec: %s operation=%s attempt=%llu: %s", reeve_operation_kind_name(run->kind),
             operation, (unsigned long long)run->attempt, what);
}

static const struct reeve_outcome outcome_cancelled = {.status = REEVE_OUTCOME_STATUS_CANCELLED};

/* ---- What becomes of a run ---- */

static void keep_log(struct run *run, const char *end)
{
    char head[160];
    if (run->kept || !run->directory)
        return;
    run->kept = true;
    snprintf(head, sizeof head, "%s, attempt %llu: %s", reeve_operation_kind_name(run->kind),
             (unsigned long long)run->attempt, end);
    logs_keep(run->exec->config.state, &run->owner, run->directory, head);
}

/* Nothing of it is wanted any more. */
static void discard(struct run *run)
{
    struct answer answer;
    if (run->directory && !run->kept) {
        answer_read(&answer, run->directory);
        keep_log(run, answer.end);
        answer_free(&answer);
    }
    if (run->directory)
        files_remove(run->directory);
    run_free(run);
}

static bool report(struct run *run, const struct reeve_outcome *outcome)
{
    struct reeve_task *task = run->task;
    if (task)
        task->data = NULL; /* before the report: with it the task may be gone */
    const int r = reeve_operation_finish(run->exec->engine, &run->owner.operation_id, run->attempt, outcome);
    if (r < 0) { /* the engine has no room for it now; the next tick tries again */
        if (task)
            task->data = run;
        return false;
    }
    run->task = NULL;
    run->reported = true;
    return true;
}

static void report_problem(struct run *run)
{
    const struct reeve_outcome outcome = {
        .status = strcmp(run->code, "unsupported") == 0 ? REEVE_OUTCOME_STATUS_FAILED : REEVE_OUTCOME_STATUS_RETRY,
        .code = reeve_str(run->code),
        .message = reeve_str(run->problem),
    };
    if (report(run, &outcome)) {
        say_of(run, REEVE_LOG_WARNING, run->problem);
        run_free(run);
    }
}

/* It was taken back while it waited: there is nothing to end. */
static void report_unstarted(struct run *run)
{
    if (report(run, &outcome_cancelled))
        run_free(run);
}

/* Written down before the engine is told: were we to die between the two, the next daemon knows it. */
static void note_process(const struct run *run, const struct answer *answer)
{
    const struct exec_config *config = &run->exec->config;
    const json_t *process = json_object_get(answer->json, "process");
    if (answer->outcome.status != REEVE_OUTCOME_STATUS_DONE)
        return;
    switch ((int)run->kind) {
    case REEVE_OPERATION_KIND_PROVISION:
    case REEVE_OPERATION_KIND_START:
        health_note_process(config, &run->owner, (int)json_integer_value(process));
        break;
    case REEVE_OPERATION_KIND_CONFIGURE:
        if (process)
            health_note_process(config, &run->owner, (int)json_integer_value(process));
        break;
    case REEVE_OPERATION_KIND_STOP:
    case REEVE_OPERATION_KIND_SUSPEND:
    case REEVE_OPERATION_KIND_DELETE:
        health_forget_process(config, &run->owner);
        break;
    default:
        break;
    }
}

static void report_end(struct run *run)
{
    struct answer answer;
    answer_read(&answer, run->directory);
    if (!run->cancelled)
        note_process(run, &answer);
    if (run->exec->on_outcome && !run->cancelled)
        run->exec->on_outcome(run->exec->outcome_arg, &run->owner.organization_id, &run->owner.service_id, run->kind,
                              &answer.outcome);
    const bool done = answer.outcome.status == REEVE_OUTCOME_STATUS_DONE;
    if (report(run, run->cancelled ? &outcome_cancelled : &answer.outcome)) {
        keep_log(run, run->cancelled ? "cancelled" : answer.end);
        say_of(run, done || run->cancelled ? REEVE_LOG_DEBUG : REEVE_LOG_WARNING,
               run->cancelled ? "cancelled"
               : done         ? "done"
                              : answer.message);
    }
    answer_free(&answer);
}

static bool take_attempt(void *arg, const void *record)
{
    const struct reeve_operation *operation = record;
    *(uint64_t *)arg = operation->attempt;
    return false;
}

/* Has the engine no use for the outcome of this run any more? */
static bool is_over(const struct run *run)
{
    uint64_t attempt = 0;
    struct reeve_error error;
    const struct reeve_request request = {
        .command = REEVE_COMMAND_OPERATION_GET,
        .params.operation = {.organization_id = run->owner.organization_id,
                             .service_id = run->owner.service_id,
                             .operation_id = run->owner.operation_id},
    };
    const int r = reeve_read(run->exec->engine, &request, take_attempt, &attempt, &error);
    return r == -REEVE_ERROR_NOT_FOUND || attempt > run->attempt;
}

/* An earlier daemon has started it, and the engine will not ask for it any more. */
static void end_if_unwanted(struct run *run)
{
    if (run->asked || run->cancelled || !is_over(run))
        return;
    say_of(run, REEVE_LOG_WARNING, "still runs, but is not wanted any more: ending it");
    run->cancelled = true;
    run_end(run, run->exec->loop);
}

/* ---- Starting, once nothing of the same service runs any more ---- */

static bool is_same(const struct reeve_uuid *a, const struct reeve_uuid *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* While a daemon lives the engine asks for one operation of a service at a time; what an earlier daemon has started it
 * knows nothing of. What deletes backups does not stand in the way of others. */
static bool must_wait(const struct run *run)
{
    const struct link *runs = &run->exec->runs;
    bool blocked = false;
    for (const struct link *at = runs->next; at != runs; at = at->next) {
        struct run *other = link_owner(at, struct run, link);
        const bool same_service = is_same(&other->owner.service_id, &run->owner.service_id) &&
                                  other->kind != REEVE_OPERATION_KIND_DELETE_BACKUP;
        if (other == run || !other->alive ||
            !(same_service || is_same(&other->owner.operation_id, &run->owner.operation_id)))
            continue;
        end_if_unwanted(other);
        blocked = true;
    }
    return blocked;
}

/* The engine counts from when it asked. */
static uint64_t time_left_ms(const struct run *run)
{
    const uint64_t passed_ms = uv_now(run->exec->loop) - run->asked_ms;
    return run->task->timeout_ms > passed_ms ? run->task->timeout_ms - passed_ms : 1;
}

static void start(struct run *run)
{
    struct exec *exec = run->exec;
    const uint64_t timeout_ms = time_left_ms(run);
    json_t *request = request_of(run->task, timeout_ms);
    run->waiting = false;
    run_start(run, exec->loop, &exec->config, reeve_operation_kind_name(run->kind), request, timeout_ms,
              attempts_on_ended);
    json_decref(request);
    if (run->code)
        report_problem(run);
}

static void start_or_wait(struct run *run)
{
    if (!must_wait(run)) {
        start(run);
        return;
    }
    run->waiting = true;
    say_of(run, REEVE_LOG_INFO, "waits until an earlier run for its service has ended");
}

static void start_waiting(struct exec *exec)
{
    for (struct link *at = exec->runs.next, *next; at != &exec->runs; at = next) {
        struct run *run = link_owner(at, struct run, link);
        next = at->next;
        if (run->waiting && !run->cancelled && !must_wait(run))
            start(run);
    }
}

/* ---- From time to time ---- */

static void tell_progress(struct run *run)
{
    struct reeve_progress progress;
    char text[256];
    if (run->asked && !run->cancelled && run_read_progress(run, &progress, text))
        reeve_operation_progress(run->exec->engine, &run->owner.operation_id, run->attempt, progress.done,
                                 progress.total, progress.text);
}

static void look_after(struct run *run)
{
    struct exec *exec = run->exec;
    if (run->code) {
        report_problem(run);
    } else if (run->alive) {
        tell_progress(run);
        run_end_overdue(run, exec->loop);
        end_if_unwanted(run);
    } else if (run->waiting) {
        if (run->cancelled)
            report_unstarted(run);
    } else if (run->asked && !run->reported) {
        report_end(run);
    } else if (is_over(run)) { /* until then its end would be asked for again after a crash */
        discard(run);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct exec *exec = timer->data;
    if (!exec->engine)
        return;
    for (struct link *at = exec->runs.next, *next; at != &exec->runs; at = next) {
        next = at->next;
        look_after(link_owner(at, struct run, link));
    }
    start_waiting(exec);
    if (!link_used(&exec->runs))
        uv_timer_stop(&exec->tick);
}

void attempts_add(struct exec *exec, struct run *run)
{
    link_append(&exec->runs, &run->link);
    if (!uv_is_active((uv_handle_t *)&exec->tick))
        uv_timer_start(&exec->tick, on_tick, TICK_MS, TICK_MS);
}

/* ---- Orphans: what programs leave behind becomes ours when they end, and wants to be reaped ---- */

static bool is_loops(const struct exec *exec, pid_t pid)
{
    for (const struct link *at = exec->runs.next; at != &exec->runs; at = at->next) {
        const struct run *run = link_owner(at, const struct run, link);
        if (run->alive && run->is_child && run->process.pid == pid)
            return true;
    }
    return health_is_child(exec->health, pid);
}

/* The loop's own children are left to it. Where one stands in front, its end, which comes next, leads here again. */
static void reap_orphans(struct exec *exec)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 || is_loops(exec, info.si_pid))
            return;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

void exec_reap(struct exec *exec)
{
    reap_orphans(exec);
}

void attempts_on_orphan(uv_signal_t *handle, int number)
{
    (void)number;
    reap_orphans(handle->data);
}

/* ---- The provisioner ---- */

static struct run *find(const struct exec *exec, const struct reeve_uuid *operation_id)
{
    for (struct link *at = exec->runs.next; at != &exec->runs; at = at->next) {
        struct run *run = link_owner(at, struct run, link);
        if (!run->code && is_same(&run->owner.operation_id, operation_id))
            return run;
    }
    return NULL;
}

static void attach(struct run *run, struct reeve_task *task, uint64_t asked_ms)
{
    run->task = task;
    run->asked = true;
    run->asked_ms = asked_ms;
    run->attempt = task->attempt;
    task->data = run;
}

/* What a run that has ended says of this attempt. One that asked for another try is not asked a second time. */
static bool has_result(const struct run *run, const struct reeve_task *task)
{
    struct answer answer;
    answer_read(&answer, run->directory);
    const bool retry = answer.outcome.status == REEVE_OUTCOME_STATUS_RETRY;
    answer_free(&answer);
    return !answer.lost && (!retry || run->attempt == task->attempt);
}

/* True: nothing is to be started, what there is of it does. */
static bool take_over(struct run *run, struct reeve_task *task)
{
    const uint64_t now_ms = uv_now(run->exec->loop);
    if (run->alive && !run->cancelled) {
        attach(run, task, now_ms);
        say_of(run, REEVE_LOG_INFO, "still runs: adopted");
        return true;
    }
    if (!run->alive && !run->asked && !run->cancelled && has_result(run, task)) {
        attach(run, task, now_ms);
        say_of(run, REEVE_LOG_INFO, "has ended meanwhile: its result is taken over");
        report_end(run);
        return true;
    }
    if (!run->alive) {
        if (!run->asked)
            say_of(run, REEVE_LOG_INFO, "ended without a result: run again");
        discard(run);
    }
    return false;
}

__attribute__((format(printf, 3, 4))) static void fail(struct run *run, const char *code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->problem, sizeof run->problem, format, arguments);
    va_end(arguments);
    run->code = code;
}

static void begin(struct exec *exec, struct reeve_task *task, uint64_t asked_ms)
{
    const struct log_owner owner = {task->organization_id, task->service_id, task->operation_id};
    struct run *run = run_new(exec, &owner, task->kind, task->attempt);
    if (!run)
        return; /* hangs; the engine's deadline sees to it */
    attach(run, task, asked_ms);
    attempts_add(exec, run);
    if (exec->description.operations & 1U << task->kind) {
        start_or_wait(run);
    } else {
        fail(run, "unsupported", "%s does not do %s", exec->description.name, reeve_operation_kind_name(task->kind));
        report_problem(run);
    }
}

void attempts_on_start(void *arg, struct reeve_task *task)
{
    struct exec *exec = arg;
    struct run *run = find(exec, &task->operation_id);
    if (!run || !take_over(run, task))
        begin(exec, task, uv_now(exec->loop));
}

/* What an earlier daemon has started may end without a trace: it waits for that daemon's word before it does anything.
 * As where it has ended before it was looked for, that is no attempt. */
static bool run_again(struct run *run)
{
    struct exec *exec = run->exec;
    struct reeve_task *task = run->task;
    const uint64_t asked_ms = run->asked_ms;
    struct answer answer;
    if (run->is_child || !task)
        return false;
    answer_read(&answer, run->directory);
    answer_free(&answer);
    if (!answer.lost)
        return false;
    say_of(run, REEVE_LOG_INFO, "ended without a result: run again");
    task->data = NULL;
    discard(run);
    begin(exec, task, asked_ms);
    return true;
}

void attempts_on_ended(struct run *run)
{
    struct exec *exec = run->exec;
    if (run->asked && !run->reported && !run_again(run))
        report_end(run);
    start_waiting(exec);
    reap_orphans(exec);
}

void attempts_on_cancel(void *arg, struct reeve_task *task)
{
    struct exec *exec = arg;
    struct run *run = task->data;
    if (!run) /* it has been reported meanwhile */
        return;
    run->task = NULL;
    run->cancelled = true;
    task->data = NULL;
    if (run->waiting)
        report_unstarted(run);
    else if (run->alive)
        run_end(run, exec->loop);
}
