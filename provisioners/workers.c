#include "workers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "base/map.h"

#define LEASE_MS_PRESET 30000
#define LEASE_MS_MIN 50
#define LEASE_MS_MAX 86400000
#define BUSY_MS 5 /* until a report that the engine had no room for is given again */

/* An attempt that waits for a worker, is with one, or was cancelled and is to be reported so. */
struct job {
    struct link link;        /* in waiting, leased or ending */
    struct link in_worker;   /* of the one that has the lease */
    struct reeve_task *task; /* NULL once the engine has taken it back */
    struct reeve_uuid operation_id;
    uint64_t attempt;
    bool paused; /* the engine was told that nobody is at it */
    uint64_t deadline_ms;
    struct worker *worker; /* NULL: nobody has it */
    uint64_t lease, expires_ms;
};

struct workers {
    struct reeve_provisioner provisioner;
    struct worker_source source;
    struct reeve_engine *engine;
    uv_loop_t *loop;
    uv_timer_t timer;       /* runs out no later than the first lease */
    struct link subscribed; /* workers; whose turn it is comes first */
    struct link waiting;    /* jobs in the order they are handed out */
    struct link leased;     /* jobs in the order in which their leases run out */
    struct link ending;     /* cancelled jobs of nobody, which the engine had no room to be told of */
    struct map leases;      /* lease_key() -> job */
    uint64_t next_lease;
};

/* ---- The spec ---- */

static int refuse(struct reeve_error *ret_error, const char *name, size_t size, const char *problem)
{
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST};
    snprintf(ret_error->field, sizeof ret_error->field, "workers:%.*s", (int)(size < 60 ? size : 60), name);
    snprintf(ret_error->message, sizeof ret_error->message, "%s", problem);
    return -REEVE_ERROR_BAD_REQUEST;
}

static bool parse_lease(struct workers *workers, const char *value, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        if (value[i] < '0' || value[i] > '9' || number > LEASE_MS_MAX)
            return false;
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    workers->source.lease_ms = number;
    return number >= LEASE_MS_MIN && number <= LEASE_MS_MAX;
}

/* Words with a plus between them. */
static bool parse_passwords(struct workers *workers, const char *value, size_t size)
{
    for (size_t at = 0, length; at <= size; at += length + 1) {
        const char *plus = memchr(value + at, '+', size - at);
        length = plus ? (size_t)(plus - value) - at : size - at;
        const enum reeve_password_form form = reeve_password_form_parse(value + at, length);
        if (!form)
            return false;
        workers->provisioner.password_forms |= 1U << form;
    }
    return true;
}

static int parse_setting(struct workers *workers, const char *setting, size_t size, struct reeve_error *ret_error)
{
    const char *equals = memchr(setting, '=', size);
    const size_t name = equals ? (size_t)(equals - setting) : size, skip = name + (equals != NULL);
    if (name == strlen("lease-ms") && memcmp(setting, "lease-ms", name) == 0)
        return parse_lease(workers, setting + skip, size - skip)
                   ? 0
                   : refuse(ret_error, setting, name, "must be milliseconds from 50 to 86400000: lease-ms=30000");
    if (name == strlen("passwords") && memcmp(setting, "passwords", name) == 0)
        return parse_passwords(workers, setting + skip, size - skip)
                   ? 0
                   : refuse(ret_error, setting, name,
                            "must be what workers can set passwords from, sha-256, scram-sha-256 or both: "
                            "passwords=sha-256+scram-sha-256");
    return refuse(ret_error, setting, name, "is not known; known are lease-ms, passwords");
}

static int parse(struct workers *workers, const char *spec, struct reeve_error *ret_error)
{
    int r = 0;
    workers->source.lease_ms = LEASE_MS_PRESET;
    while (*spec && r == 0) {
        const size_t size = strcspn(spec, ",");
        r = parse_setting(workers, spec, size, ret_error);
        spec += size + (spec[size] == ',');
    }
    return r;
}

/* ---- Leases ---- */

static struct reeve_uuid lease_key(uint64_t lease)
{
    struct reeve_uuid key = {0};
    memcpy(key.bytes + 8, &lease, sizeof lease);
    return key;
}

/* NULL: there is no such lease, it has ended, or somebody else has it. */
static struct job *find_lease(const struct workers *workers, const void *owner, uint64_t lease)
{
    const struct reeve_uuid key = lease_key(lease);
    struct job *job = map_get(&workers->leases, &key);
    return job && job->worker->owner == owner ? job : NULL;
}

static void on_timer(uv_timer_t *timer);

/* An active timer is never too late: leases that come later run out later. */
static void watch_leases(struct workers *workers)
{
    uint64_t wait_ms = BUSY_MS;
    if (uv_is_active((uv_handle_t *)&workers->timer))
        return;
    if (!link_used(&workers->ending)) {
        if (!link_used(&workers->leased))
            return;
        const struct job *first = link_owner(workers->leased.next, struct job, link);
        const uint64_t now = uv_now(workers->loop);
        wait_ms = first->expires_ms > now ? first->expires_ms - now : 0;
    }
    uv_timer_start(&workers->timer, on_timer, wait_ms, 0);
}

/* Ask the engine until it has taken it; a worker that renews or the next one that gets the lease asks again. */
static void set_paused(struct workers *workers, struct job *job, bool paused)
{
    if (job->paused != paused && reeve_operation_pause(workers->engine, &job->operation_id, job->attempt, paused) == 0)
        job->paused = paused;
}

static void renew(struct workers *workers, struct job *job)
{
    set_paused(workers, job, false);
    job->expires_ms = uv_now(workers->loop) + workers->source.lease_ms;
    link_append(&workers->leased, &job->link);
    watch_leases(workers);
}

static bool hand(struct workers *workers, struct job *job, struct worker *worker)
{
    const uint64_t now = uv_now(workers->loop), lease = workers->next_lease;
    const struct reeve_uuid key = lease_key(lease);
    if (job->paused)
        job->deadline_ms = now + job->task->timeout_ms;
    if (!map_put(&workers->leases, &key, job))
        return false;
    if (!worker->on_operation(worker, lease, job->task, job->deadline_ms > now ? job->deadline_ms - now : 1)) {
        map_remove(&workers->leases, &key);
        return false;
    }
    workers->next_lease++;
    job->lease = lease;
    job->worker = worker;
    worker->internal.count++;
    link_append(&worker->internal.jobs, &job->in_worker);
    link_append(&workers->subscribed, &worker->internal.link);
    renew(workers, job);
    return true;
}

static void end_lease(struct workers *workers, struct job *job)
{
    const struct reeve_uuid key = lease_key(job->lease);
    map_remove(&workers->leases, &key);
    link_remove(&job->link);
    link_remove(&job->in_worker);
    job->worker->internal.count--;
    job->worker = NULL;
}

/* ---- Finding somebody ---- */

static bool fits(const struct worker *worker, const struct reeve_task *task)
{
    return !worker->internal.silent && worker->internal.count < worker->max &&
           (worker->kinds == 0 || worker->kinds >> task->kind & 1) &&
           (reeve_uuid_is_nil(&worker->organization_id) ||
            memcmp(&worker->organization_id, &task->organization_id, sizeof task->organization_id) == 0);
}

static bool find_worker(struct workers *workers, struct job *job)
{
    struct link *next;
    for (struct link *link = workers->subscribed.next; link != &workers->subscribed; link = next) {
        struct worker *worker = link_owner(link, struct worker, internal.link);
        next = link->next;
        if (fits(worker, job->task) && hand(workers, job, worker))
            return true;
    }
    return false;
}

static void offer(void *arg, struct worker *worker)
{
    struct workers *workers = arg;
    struct link *next;
    worker->internal.silent = false;
    for (struct link *link = workers->waiting.next; link != &workers->waiting; link = next) {
        struct job *job = link_owner(link, struct job, link);
        next = link->next;
        if (worker->internal.count >= worker->max)
            return;
        if (fits(worker, job->task) && !hand(workers, job, worker))
            return;
    }
}

/* ---- Jobs whose worker is gone ---- */

static int report_cancelled(struct workers *workers, const struct job *job)
{
    const struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_CANCELLED,
                                          .code = reeve_str("cancelled"),
                                          .message = reeve_str("cancelled as asked")};
    return reeve_operation_finish(workers->engine, &job->operation_id, job->attempt, &outcome);
}

/* The engine waits for the end of what it has cancelled. */
static void retire(struct workers *workers, struct job *job)
{
    if (report_cancelled(workers, job) == 0) {
        link_remove(&job->link);
        free(job);
        return;
    }
    link_append(&workers->ending, &job->link);
    uv_timer_start(&workers->timer, on_timer, BUSY_MS, 0);
}

/* To the next one, before what has not been with anybody yet: it was there first. */
static void give_back(struct workers *workers, struct job *job)
{
    end_lease(workers, job);
    if (!job->task)
        retire(workers, job);
    else if (!find_worker(workers, job))
        link_append(workers->waiting.next, &job->link);
}

static void on_timer(uv_timer_t *timer)
{
    struct workers *workers = timer->data;
    const uint64_t now = uv_now(workers->loop);
    struct link ending;
    link_init(&ending);
    while (link_used(&workers->ending))
        link_append(&ending, workers->ending.next);
    while (link_used(&ending))
        retire(workers, link_owner(ending.next, struct job, link));
    while (link_used(&workers->leased)) {
        struct job *job = link_owner(workers->leased.next, struct job, link);
        if (job->expires_ms > now)
            break;
        job->worker->internal.silent = true;
        give_back(workers, job);
    }
    watch_leases(workers);
}

/* ---- The source ---- */

static void subscribe(void *arg, struct worker *worker)
{
    struct workers *workers = arg;
    worker->internal.count = 0;
    worker->internal.silent = false;
    link_init(&worker->internal.jobs);
    link_init(&worker->internal.link);
    link_append(&workers->subscribed, &worker->internal.link);
}

static void unsubscribe(void *arg, struct worker *worker)
{
    struct workers *workers = arg;
    link_remove(&worker->internal.link);
    while (link_used(&worker->internal.jobs))
        give_back(workers, link_owner(worker->internal.jobs.previous, struct job, in_worker));
}

static int progress(void *arg, const void *owner, uint64_t lease, const struct reeve_progress *told)
{
    struct workers *workers = arg;
    struct job *job = find_lease(workers, owner, lease);
    if (!job)
        return -REEVE_ERROR_NOT_FOUND;
    renew(workers, job);
    if (!told || !job->task)
        return 0;
    return reeve_operation_progress(workers->engine, &job->operation_id, job->attempt, told->done, told->total,
                                    told->text);
}

static int finish(void *arg, const void *owner, uint64_t lease, const struct reeve_outcome *outcome)
{
    struct workers *workers = arg;
    struct job *job = find_lease(workers, owner, lease);
    if (!job)
        return -REEVE_ERROR_NOT_FOUND;
    if (job->task && outcome->status == REEVE_OUTCOME_STATUS_CANCELLED)
        return -REEVE_ERROR_BAD_REQUEST;
    int r;
    if (job->task) {
        /* Before the report: with it the task may be gone. */
        job->task->data = NULL;
        r = reeve_operation_finish(workers->engine, &job->operation_id, job->attempt, outcome);
        if (r < 0)
            job->task->data = job;
    } else {
        r = report_cancelled(workers, job);
    }
    if (r < 0)
        return r;
    end_lease(workers, job);
    free(job);
    return 0;
}

/* ---- The provisioner ---- */

static void on_start(void *arg, struct reeve_task *task)
{
    struct workers *workers = arg;
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return; /* as if it hung; the engine's deadline sees to it */
    *job = (struct job){.task = task,
                        .operation_id = task->operation_id,
                        .attempt = task->attempt,
                        .deadline_ms = uv_now(workers->loop) + task->timeout_ms};
    link_init(&job->link);
    link_init(&job->in_worker);
    task->data = job;
    if (find_worker(workers, job))
        return;
    link_append(&workers->waiting, &job->link);
    set_paused(workers, job, true);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    struct workers *workers = arg;
    struct job *job = task->data;
    if (!job) /* it has been finished meanwhile */
        return;
    job->task = NULL;
    task->data = NULL;
    if (job->worker)
        job->worker->on_cancelled(job->worker, job->lease);
    else
        retire(workers, job);
}

static void free_jobs(struct link *jobs)
{
    while (link_used(jobs)) {
        struct job *job = link_owner(jobs->next, struct job, link);
        link_remove(&job->link);
        free(job);
    }
}

/* What is not done comes again when the directory is next opened. */
static void on_closed(void *arg)
{
    struct workers *workers = arg;
    while (link_used(&workers->leased)) {
        struct job *job = link_owner(workers->leased.next, struct job, link);
        end_lease(workers, job);
        free(job);
    }
    uv_timer_stop(&workers->timer);
    free_jobs(&workers->waiting);
    free_jobs(&workers->ending);
}

/* ---- Coming and going ---- */

/* Microseconds since 1970: above all that an earlier daemon used, as long as it leased fewer than a million a second,
 * and exact in a client whose numbers are floats. */
static uint64_t first_lease(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int workers_new(const char *spec, struct uv_loop_s *loop, struct workers **ret_workers, struct reeve_error *ret_error)
{
    *ret_workers = NULL;
    struct workers *workers = calloc(1, sizeof *workers);
    if (!workers) {
        *ret_error = (struct reeve_error){.code = REEVE_ERROR_NO_MEMORY, .message = "out of memory"};
        return -REEVE_ERROR_NO_MEMORY;
    }
    workers->loop = loop;
    workers->next_lease = first_lease();
    workers->provisioner = (struct reeve_provisioner){.version = REEVE_PROVISIONER_VERSION,
                                                      .name = "workers",
                                                      .arg = workers,
                                                      .loop = loop,
                                                      .start = on_start,
                                                      .cancel = on_cancel,
                                                      .closed = on_closed};
    const int r = parse(workers, spec, ret_error);
    if (r < 0) {
        free(workers);
        return r;
    }
    workers->source.arg = workers;
    workers->source.subscribe = subscribe;
    workers->source.unsubscribe = unsubscribe;
    workers->source.offer = offer;
    workers->source.progress = progress;
    workers->source.finish = finish;
    link_init(&workers->subscribed);
    link_init(&workers->waiting);
    link_init(&workers->leased);
    link_init(&workers->ending);
    uv_timer_init(loop, &workers->timer);
    uv_unref((uv_handle_t *)&workers->timer); /* leases keep no loop running */
    workers->timer.data = workers;
    *ret_workers = workers;
    return 0;
}

const struct reeve_provisioner *workers_provisioner(struct workers *workers)
{
    return &workers->provisioner;
}

void workers_set_engine(struct workers *workers, struct reeve_engine *engine)
{
    workers->engine = engine;
}

const struct worker_source *workers_source(struct workers *workers)
{
    return &workers->source;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct workers *workers = handle->data;
    map_deinit(&workers->leases);
    free(workers);
}

void workers_free(struct workers *workers)
{
    if (workers)
        uv_close((uv_handle_t *)&workers->timer, on_timer_closed);
}
