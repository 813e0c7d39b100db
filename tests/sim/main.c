/* sim [--seed N] [--seeds N] [--steps N] [--jobs N]: runs of simulated life, each from a seed of its own, split over
 * processes. What differs from the model is cut down to the steps that matter and printed; --history FILE runs such a
 * list again. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#define JOBS_MAX 64
#define STEPS_MAX 100000

static struct coverage own_coverage;
struct coverage *coverage = &own_coverage;

struct options {
    uint64_t seed, seeds, steps, jobs;
    const char *history;
    bool partial; /* a short run need not reach everything */
};

/* ---- Histories ---- */

static void make_steps(struct sim_step *steps, uint64_t count, uint64_t seed)
{
    static const unsigned char kinds[] = {STEP_COMMAND, STEP_COMMAND, STEP_COMMAND, STEP_COMMAND, STEP_COMMAND,
                                          STEP_COMMAND, STEP_COMMAND, STEP_OUTCOME, STEP_OUTCOME, STEP_OUTCOME,
                                          STEP_OUTCOME, STEP_OUTCOME, STEP_OUTCOME, STEP_PASS,    STEP_PASS};
    uint64_t state = seed;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t word = sim_random(&state);
        steps[i].kind = kinds[word % sizeof kinds];
        if (word >> 8 & 31 ? false : true)
            steps[i].kind = word >> 16 & 1 ? STEP_CRASH : STEP_FAULT;
        steps[i].joins = word >> 20 & 1;
        for (unsigned j = 0; j < SIM_WORDS; j++)
            steps[i].words[j] = (uint32_t)sim_random(&state);
    }
}

/* Leave out what does not matter: halves, quarters, ... of the list, as long as it still fails. */
static size_t minimize(struct sim_step *steps, size_t count, uint64_t seed, struct failure *failure)
{
    struct sim_step *shorter = malloc(count * sizeof *steps);
    struct failure other;
    const time_t until = time(NULL) + 60;
    for (size_t size = count / 2; shorter && size > 0; size = size > 1 ? size / 2 : 0) {
        for (size_t at = 0; at < count && time(NULL) < until;) {
            const size_t cut = at + size < count ? size : count - at;
            memcpy(shorter, steps, at * sizeof *steps);
            memcpy(shorter + at, steps + at + cut, (count - at - cut) * sizeof *steps);
            world_run(shorter, count - cut, seed, &other);
            if (other.failed) {
                memcpy(steps, shorter, (count - cut) * sizeof *steps);
                count -= cut;
                *failure = other;
            } else {
                at += size;
            }
        }
    }
    free(shorter);
    return count;
}

static void write_history(FILE *out, const struct sim_step *steps, size_t count, uint64_t seed)
{
    fprintf(out, "seed %" PRIu64 "\n", seed);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%u %u", steps[i].kind, steps[i].joins);
        for (unsigned j = 0; j < SIM_WORDS; j++)
            fprintf(out, " %08" PRIx32, steps[i].words[j]);
        fputc('\n', out);
    }
}

static size_t read_history(const char *path, struct sim_step *steps, uint64_t *ret_seed)
{
    char line[256];
    size_t count = 0;
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "seed %" SCNu64 "\n", ret_seed) != 1) {
        fprintf(stderr, "sim: %s is no history\n", path);
        exit(2);
    }
    while (count < STEPS_MAX && fgets(line, sizeof line, file)) {
        unsigned kind, joins;
        struct sim_step *step = &steps[count++];
        uint32_t *words = step->words;
        if (sscanf(line, "%u %u %" SCNx32 " %" SCNx32 " %" SCNx32 " %" SCNx32 " %" SCNx32 " %" SCNx32, &kind, &joins,
                   &words[0], &words[1], &words[2], &words[3], &words[4], &words[5]) != 2 + SIM_WORDS) {
            fprintf(stderr, "sim: line %zu of %s is no step\n", count + 1, path);
            exit(2);
        }
        step->kind = (uint8_t)kind;
        step->joins = joins != 0;
    }
    fclose(file);
    return count;
}

/* ---- Runs ---- */

static void tell(const struct options *options, struct sim_step *steps, size_t count, uint64_t seed,
                 struct failure *failure)
{
    char path[64];
    printf("seed %" PRIu64 ", step %zu: %s\n", seed, failure->step, failure->text);
    fflush(stdout);
    if (options->history)
        return;
    count = minimize(steps, count, seed, failure);
    snprintf(path, sizeof path, "build/sim-%" PRIu64, seed);
    FILE *file = fopen(path, "w");
    if (file) {
        write_history(file, steps, count, seed);
        fclose(file);
    }
    printf("cut down to %zu steps: %s\nagain with: build/sim --history %s\n", count, failure->text, path);
}

static bool run_one(const struct options *options, struct sim_step *steps, uint64_t seed)
{
    struct failure failure;
    size_t count = options->steps;
    if (options->history)
        count = read_history(options->history, steps, &seed);
    else
        make_steps(steps, count, seed);
    sim_trace = options->history != NULL;
    world_run(steps, count, seed, &failure);
    if (failure.failed)
        tell(options, steps, count, seed, &failure);
    return !failure.failed;
}

/* Every jobs-th seed. */
static int work(const struct options *options, uint64_t job)
{
    struct sim_step *steps = malloc(STEPS_MAX * sizeof *steps);
    bool good = steps != NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (uint64_t i = job; good && i < options->seeds; i += options->jobs)
        good = run_one(options, steps, options->seed + i);
    free(steps);
    return good ? 0 : 1;
}

static void add_coverage(struct coverage *sum, const struct coverage *part)
{
    for (size_t i = 0; i < sizeof *sum / sizeof(uint64_t); i++)
        ((uint64_t *)(void *)sum)[i] += ((const uint64_t *)(const void *)part)[i];
}

static bool run_all(const struct options *options, struct coverage *ret_seen)
{
    struct coverage *shared = mmap(NULL, JOBS_MAX * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                                   -1, 0);
    pid_t workers[JOBS_MAX];
    bool good = shared != MAP_FAILED;
    for (uint64_t job = 0; good && job < options->jobs; job++) {
        coverage = &shared[job];
        fflush(stdout);
        workers[job] = fork();
        if (workers[job] == 0)
            exit(work(options, job));
    }
    for (uint64_t job = 0; shared != MAP_FAILED && job < options->jobs; job++) {
        int status = 1;
        waitpid(workers[job], &status, 0);
        if (WIFSIGNALED(status))
            printf("a run was ended by signal %d\n", WTERMSIG(status));
        good = good && status == 0;
        add_coverage(ret_seen, &shared[job]);
    }
    return good;
}

/* ---- Options ---- */

static uint64_t number(const char *name, const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text ? text : "", &end, 10);
    if (!text || errno || *end || end == text || value > max) {
        fprintf(stderr, "sim: --%s must be a number up to %" PRIu64 "\n", name, max);
        exit(2);
    }
    return value;
}

static void read_options(struct options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--seed") == 0)
            options->seed = number("seed", value, UINT64_MAX);
        else if (strcmp(name, "--seeds") == 0)
            options->seeds = number("seeds", value, UINT64_MAX);
        else if (strcmp(name, "--steps") == 0)
            options->steps = number("steps", value, STEPS_MAX);
        else if (strcmp(name, "--jobs") == 0)
            options->jobs = number("jobs", value, JOBS_MAX);
        else if (strcmp(name, "--history") == 0 && value)
            options->history = value;
        else {
            fprintf(stderr, "usage: sim [--seed N] [--seeds N] [--steps N] [--jobs N] [--history FILE]\n");
            exit(2);
        }
    }
    if (options->jobs == 0)
        options->jobs = 1;
    if (options->history || options->seeds < options->jobs)
        options->jobs = 1;
    if (options->history)
        options->seeds = 1;
    options->partial = options->seeds * options->steps < 200000;
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1, .seeds = 100, .steps = 400, .jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN)};
    struct timespec started, ended;
    struct coverage seen = {0};
    read_options(&options, argc, argv);
    /* LMDB clears two MiB for itself whenever it is opened: fresh pages are clear. */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    clock_gettime(CLOCK_MONOTONIC, &started);
    bool good = run_all(&options, &seen);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    const double seconds = (double)(ended.tv_sec - started.tv_sec) + (double)(ended.tv_nsec - started.tv_nsec) / 1e9;
    if (!options.history) {
        const bool reached = coverage_report(&seen, stdout);
        printf("%.1f s, %.0f commands per second\n", seconds, (double)seen.commands / seconds);
        if (!reached && !options.partial)
            good = false;
    }
    printf("%s\n", good ? "fine" : "FAILED");
    return good ? 0 : 1;
}
