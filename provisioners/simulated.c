#include "simulated.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KINDS (REEVE_OPERATION_KIND_DELETE_BACKUP + 1) /* operation kinds, 0 unused */
#define PROGRESS_STEPS 4
#define PROGRESS_FROM_MS 100
#define BUSY_MS 5 /* until a report that the engine had no room for is given again */

struct behaviour {
    uint64_t delay_min_ms, delay_max_ms;
    double fail, fatal, hang, duplicate; /* probabilities */
};

/* An attempt that waits for its time. Ordered by it in a binary heap. */
struct job {
    struct reeve_uuid operation_id;
    uint64_t attempt;
    enum reeve_operation_kind kind;
    uint64_t started_ms, due_ms, next_ms;
    unsigned steps; /* of progress that were told */
    bool hangs;     /* has no end of its own */
    bool cancelled;
    struct reeve_task *task; /* NULL once the engine has taken it back */
    double luck;
};

struct simulated {
    struct behaviour behaviours[KINDS];
    uint64_t seed;
    bool immediate; /* nothing has a delay: no thread */
    struct reeve_provisioner provisioner;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, closed;
    struct reeve_engine *_Atomic engine;
    struct job **heap;
    size_t count, capacity;
};

/* ---- The spec ---- */

static int refuse(struct reeve_error *ret_error, const char *key, size_t size, const char *problem)
{
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST};
    snprintf(ret_error->field, sizeof ret_error->field, "simulated:%.*s", (int)(size < 60 ? size : 60), key);
    snprintf(ret_error->message, sizeof ret_error->message, "%s", problem);
    return -REEVE_ERROR_BAD_REQUEST;
}

static bool take_delay(const char *value, struct behaviour *behaviour)
{
    char *end;
    if (*value < '0' || *value > '9')
        return false;
    const unsigned long long min = strtoull(value, &end, 10);
    unsigned long long max = min;
    if (strncmp(end, "..", 2) == 0 && end[2] >= '0' && end[2] <= '9')
        max = strtoull(end + 2, &end, 10);
    if (*end != '\0' || min > max || max > 86400000)
        return false;
    behaviour->delay_min_ms = min;
    behaviour->delay_max_ms = max;
    return true;
}

static bool take_probability(const char *value, double *ret)
{
    char *end;
    const double probability = strtod(value, &end);
    if (end == value || *end != '\0' || !(probability >= 0 && probability <= 1))
        return false;
    *ret = probability;
    return true;
}

static const char *take_setting(struct behaviour *behaviour, const char *name, const char *value)
{
    double *probability = strcmp(name, "fail") == 0        ? &behaviour->fail
                          : strcmp(name, "fatal") == 0     ? &behaviour->fatal
                          : strcmp(name, "hang") == 0      ? &behaviour->hang
                          : strcmp(name, "duplicate") == 0 ? &behaviour->duplicate
                                                           : NULL;
    if (strcmp(name, "delay-ms") == 0)
        return take_delay(value, behaviour) ? NULL : "must be milliseconds like 50 or 50..250, a day at the most";
    if (!probability)
        return "is not known; known are delay-ms, fail, fatal, hang, duplicate (each also as KIND.name) and seed";
    return take_probability(value, probability) ? NULL : "must be a probability from 0 to 1";
}

static int take_pair(struct simulated *simulated, char *pair, struct reeve_error *ret_error)
{
    char *value = strchr(pair, '=');
    const size_t size = value ? (size_t)(value - pair) : strlen(pair);
    if (!value)
        return refuse(ret_error, pair, size, "needs a value: key=value");
    *value++ = '\0';
    if (strcmp(pair, "seed") == 0) {
        char *end;
        errno = 0;
        simulated->seed = strtoull(value, &end, 10);
        return *value >= '0' && *value <= '9' && *end == '\0' && errno == 0
                   ? 0
                   : refuse(ret_error, pair, size, "must be a whole number from 0 to 18446744073709551615");
    }
    const char *dot = strchr(pair, '.');
    if (dot) {
        const enum reeve_operation_kind kind = reeve_operation_kind_parse(pair, (size_t)(dot - pair));
        if (!kind)
            return refuse(ret_error, pair, size,
                          "must start with an operation: provision, start, stop, suspend, configure, delete, backup, "
                          "delete_backup");
        const char *problem = take_setting(&simulated->behaviours[kind], dot + 1, value);
        return problem ? refuse(ret_error, pair, size, problem) : 0;
    }
    const char *problem = NULL;
    for (int kind = 0; kind < KINDS && !problem; kind++)
        problem = take_setting(&simulated->behaviours[kind], pair, value);
    return problem ? refuse(ret_error, pair, size, problem) : 0;
}

static int parse(struct simulated *simulated, const char *spec, struct reeve_error *ret_error)
{
    char *copy = strdup(spec ? spec : ""), *rest = copy, *pair;
    int r = copy ? 0 : -REEVE_ERROR_NO_MEMORY;
    while (r == 0 && (pair = strsep(&rest, ",")))
        r = *pair ? take_pair(simulated, pair, ret_error) : 0;
    free(copy);
    return r;
}

/* ---- Luck: from seed, operation and attempt alone ---- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t draw(const struct simulated *simulated, const struct reeve_uuid *id, uint64_t attempt, uint64_t purpose)
{
    uint64_t high, low;
    memcpy(&high, id->bytes, 8);
    memcpy(&low, id->bytes + 8, 8);
    return mix(mix(mix(high ^ simulated->seed) ^ low) + attempt * 31 + purpose);
}

static double draw_fraction(const struct simulated *simulated, const struct reeve_uuid *id, uint64_t attempt,
                            uint64_t purpose)
{
    return (double)(draw(simulated, id, attempt, purpose) >> 11) / 9007199254740992.0;
}

/* ---- Answers ---- */

/* BUSY: the engine has no room for it now. */
static int answer(const struct simulated *simulated, struct reeve_engine *engine, const struct reeve_uuid *id,
                  uint64_t attempt, enum reeve_operation_kind kind, double luck)
{
    const struct behaviour *behaviour = &simulated->behaviours[kind];
    struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_DONE};
    if (luck < behaviour->fatal)
        outcome = (struct reeve_outcome){.status = REEVE_OUTCOME_STATUS_FAILED,
                                         .code = reeve_str("simulated_fatal"),
                                         .message = reeve_str("a simulated error that trying again does not help")};
    else if (luck < behaviour->fatal + behaviour->fail)
        outcome = (struct reeve_outcome){.status = REEVE_OUTCOME_STATUS_RETRY,
                                         .code = reeve_str("simulated_failure"),
                                         .message = reeve_str("a simulated failure, worth another attempt")};
    else if (kind == REEVE_OPERATION_KIND_BACKUP)
        outcome.size_bytes = 1048576 + draw(simulated, id, 0, 3) % (64 * 1048576);
    const int r = reeve_operation_finish(engine, id, attempt, &outcome);
    if (r == 0 && behaviour->duplicate > 0 && draw_fraction(simulated, id, attempt, 4) < behaviour->duplicate)
        reeve_operation_finish(engine, id, attempt, &outcome);
    return r;
}

static int answer_cancelled(struct reeve_engine *engine, const struct job *job)
{
    const struct reeve_outcome outcome = {.status = REEVE_OUTCOME_STATUS_CANCELLED,
                                          .code = reeve_str("cancelled"),
                                          .message = reeve_str("cancelled as asked")};
    return reeve_operation_finish(engine, &job->operation_id, job->attempt, &outcome);
}

/* ---- The heap of jobs, by next_ms; under the lock ---- */

static void heap_swap(struct simulated *simulated, size_t a, size_t b)
{
    struct job *job = simulated->heap[a];
    simulated->heap[a] = simulated->heap[b];
    simulated->heap[b] = job;
}

static void heap_up(struct simulated *simulated, size_t i)
{
    for (; i > 0 && simulated->heap[i]->next_ms < simulated->heap[(i - 1) / 2]->next_ms; i = (i - 1) / 2)
        heap_swap(simulated, i, (i - 1) / 2);
}

static void heap_down(struct simulated *simulated, size_t i)
{
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < simulated->count; child++) {
            if (simulated->heap[child]->next_ms < simulated->heap[least]->next_ms)
                least = child;
        }
        if (least == i)
            return;
        heap_swap(simulated, i, least);
        i = least;
    }
}

static bool heap_push(struct simulated *simulated, struct job *job)
{
    if (simulated->count == simulated->capacity) {
        const size_t capacity = simulated->capacity ? simulated->capacity * 2 : 64;
        struct job **heap = realloc(simulated->heap, capacity * sizeof(struct job *));
        if (!heap)
            return false;
        simulated->heap = heap;
        simulated->capacity = capacity;
    }
    simulated->heap[simulated->count++] = job;
    heap_up(simulated, simulated->count - 1);
    return true;
}

static struct job *heap_pop(struct simulated *simulated)
{
    struct job *job = simulated->heap[0];
    simulated->heap[0] = simulated->heap[--simulated->count];
    heap_down(simulated, 0);
    return job;
}

/* ---- The thread that lets time pass ---- */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void tell_progress(struct reeve_engine *engine, struct job *job)
{
    static const char *const texts[PROGRESS_STEPS] = {"preparing", "working", "verifying", "finishing"};
    reeve_operation_progress(engine, &job->operation_id, job->attempt, job->steps, PROGRESS_STEPS,
                             reeve_str(texts[job->steps % PROGRESS_STEPS]));
    job->steps++;
}

static uint64_t next_of(const struct job *job)
{
    if (job->hangs)
        return UINT64_MAX;
    const uint64_t length = job->due_ms - job->started_ms;
    if (length < PROGRESS_FROM_MS || job->steps >= PROGRESS_STEPS)
        return job->due_ms;
    return job->started_ms + length * job->steps / PROGRESS_STEPS;
}

/* The first job's time has come: progress, or the end. Under the lock; what it calls only queues. */
static void serve_first(struct simulated *simulated)
{
    struct job *job = heap_pop(simulated);
    if (!job->cancelled && job->next_ms < job->due_ms) {
        tell_progress(simulated->engine, job);
        job->next_ms = next_of(job);
        heap_push(simulated, job); /* there is room: it was just taken out */
        return;
    }
    /* Before the answer: with it the task may be gone. No cancel() comes in between, it takes the lock. */
    struct reeve_task *task = job->task;
    if (task)
        task->data = NULL;
    const int r = job->cancelled
                      ? answer_cancelled(simulated->engine, job)
                      : answer(simulated, simulated->engine, &job->operation_id, job->attempt, job->kind, job->luck);
    if (r < 0) { /* not taken: the task is still there, and the job too, a little later */
        if (task)
            task->data = job;
        job->due_ms = job->next_ms = now_ms() + BUSY_MS;
        heap_push(simulated, job);
        return;
    }
    free(job);
}

static void *run(void *arg)
{
    struct simulated *simulated = arg;
    pthread_mutex_lock(&simulated->lock);
    while (!simulated->closed) {
        if (simulated->count == 0 || !simulated->engine || simulated->heap[0]->next_ms == UINT64_MAX) {
            pthread_cond_wait(&simulated->changed, &simulated->lock);
            continue;
        }
        const uint64_t due_ms = simulated->heap[0]->next_ms;
        if (due_ms > now_ms()) {
            const struct timespec until = {.tv_sec = (time_t)(due_ms / 1000),
                                           .tv_nsec = (long)(due_ms % 1000) * 1000000};
            pthread_cond_timedwait(&simulated->changed, &simulated->lock, &until);
            continue;
        }
        serve_first(simulated);
    }
    pthread_mutex_unlock(&simulated->lock);
    return NULL;
}

/* ---- The provisioner ---- */

static void start_job(struct simulated *simulated, struct reeve_task *task)
{
    const struct behaviour *behaviour = &simulated->behaviours[task->kind];
    const struct reeve_uuid *id = &task->operation_id;
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return; /* hangs; the engine's deadline sees to it */
    const uint64_t spread = behaviour->delay_max_ms - behaviour->delay_min_ms + 1;
    *job = (struct job){.operation_id = *id,
                        .attempt = task->attempt,
                        .kind = task->kind,
                        .started_ms = now_ms(),
                        .hangs = draw_fraction(simulated, id, task->attempt, 1) < behaviour->hang,
                        .luck = draw_fraction(simulated, id, task->attempt, 2),
                        .task = task};
    job->due_ms = job->started_ms + behaviour->delay_min_ms + draw(simulated, id, task->attempt, 5) % spread;
    job->next_ms = next_of(job);
    task->data = job;
    if (!heap_push(simulated, job)) {
        task->data = NULL;
        free(job);
    }
    pthread_cond_signal(&simulated->changed);
}

static void on_start(void *arg, struct reeve_task *task)
{
    struct simulated *simulated = arg;
    if (simulated->immediate && simulated->engine &&
        answer(simulated, simulated->engine, &task->operation_id, task->attempt, task->kind,
               draw_fraction(simulated, &task->operation_id, task->attempt, 2)) == 0)
        return;
    pthread_mutex_lock(&simulated->lock);
    if (!simulated->closed)
        start_job(simulated, task);
    pthread_mutex_unlock(&simulated->lock);
}

static void on_cancel(void *arg, struct reeve_task *task)
{
    struct simulated *simulated = arg;
    pthread_mutex_lock(&simulated->lock);
    struct job *job = task->data;
    if (job) { /* else it has been answered meanwhile */
        job->cancelled = true;
        job->task = NULL;
        job->next_ms = job->due_ms = now_ms();
        for (size_t i = 0; i < simulated->count; i++) {
            if (simulated->heap[i] == job)
                heap_up(simulated, i);
        }
        pthread_cond_signal(&simulated->changed);
    }
    pthread_mutex_unlock(&simulated->lock);
}

static void on_closed(void *arg)
{
    struct simulated *simulated = arg;
    pthread_mutex_lock(&simulated->lock);
    simulated->closed = true;
    pthread_cond_signal(&simulated->changed);
    pthread_mutex_unlock(&simulated->lock);
    if (simulated->running)
        pthread_join(simulated->thread, NULL);
    simulated->running = false;
}

static bool is_immediate(const struct simulated *simulated)
{
    for (int kind = 1; kind < KINDS; kind++) {
        if (simulated->behaviours[kind].delay_max_ms > 0 || simulated->behaviours[kind].hang > 0)
            return false;
    }
    return true;
}

int simulated_new(const char *spec, struct simulated **ret_simulated, struct reeve_error *ret_error)
{
    *ret_simulated = NULL;
    struct simulated *simulated = calloc(1, sizeof *simulated);
    if (!simulated) {
        *ret_error = (struct reeve_error){.code = REEVE_ERROR_NO_MEMORY, .message = "out of memory"};
        return -REEVE_ERROR_NO_MEMORY;
    }
    for (int kind = 0; kind < KINDS; kind++)
        simulated->behaviours[kind] = (struct behaviour){.delay_min_ms = 50, .delay_max_ms = 250};
    const int r = parse(simulated, spec, ret_error);
    if (r < 0) {
        free(simulated);
        return r;
    }
    simulated->immediate = is_immediate(simulated);
    simulated->provisioner = (struct reeve_provisioner){.version = REEVE_PROVISIONER_VERSION,
                                                        .name = "simulated",
                                                        .arg = simulated,
                                                        .start = on_start,
                                                        .cancel = on_cancel,
                                                        .closed = on_closed};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&simulated->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&simulated->lock, NULL);
    *ret_simulated = simulated;
    return 0;
}

const struct reeve_provisioner *simulated_provisioner(struct simulated *simulated)
{
    return &simulated->provisioner;
}

void simulated_set_engine(struct simulated *simulated, struct reeve_engine *engine)
{
    pthread_mutex_lock(&simulated->lock);
    simulated->engine = engine;
    /* Even without delays something may have been started before the engine was known. */
    if (!simulated->closed && pthread_create(&simulated->thread, NULL, run, simulated) == 0)
        simulated->running = true;
    pthread_mutex_unlock(&simulated->lock);
}

void simulated_free(struct simulated *simulated)
{
    if (!simulated)
        return;
    on_closed(simulated);
    for (size_t i = 0; i < simulated->count; i++)
        free(simulated->heap[i]);
    free(simulated->heap);
    pthread_cond_destroy(&simulated->changed);
    pthread_mutex_destroy(&simulated->lock);
    free(simulated);
}
