#include "telling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static double per(uint64_t value, uint64_t count)
{
    return count ? (double)value / (double)count : 0;
}

/* ---- Medians ---- */

static double value_of(const struct run_result *result, bool is_time)
{
    return is_time ? result->seconds * 1000 : bench_rate(result);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarize(struct rounds *rounds, bool is_time)
{
    double values[ROUNDS_MAX] = {0};
    for (unsigned i = 0; i < rounds->count; i++) {
        values[i] = value_of(&rounds->results[i], is_time);
        histogram_merge(&rounds->latency, &rounds->results[i].latency);
    }
    qsort(values, rounds->count, sizeof values[0], compare);
    rounds->min = values[0];
    rounds->max = values[rounds->count - 1];
    rounds->median = values[rounds->count / 2];
    for (unsigned i = 0; i < rounds->count; i++) {
        const double value = value_of(&rounds->results[i], is_time);
        if (value >= rounds->median && value <= rounds->median)
            rounds->middle = &rounds->results[i];
    }
}

static const struct rounds *find(const struct cell *cell, const char *name)
{
    for (unsigned i = 0; i < cell->count; i++) {
        if (!cell->subjects[i].failed && strcmp(cell->subjects[i].subject->name, name) == 0)
            return &cell->subjects[i];
    }
    return NULL;
}

static const struct rounds *best_peer(const struct cell *cell)
{
    const struct rounds *best = NULL;
    for (unsigned i = 0; i < cell->count; i++) {
        const struct rounds *rounds = &cell->subjects[i];
        if (!rounds->failed && rounds->subject->kind == SUBJECT_PEER && (!best || rounds->median > best->median))
            best = rounds;
    }
    return best;
}

static double figure(const struct scenario *scenario, const struct rounds *rounds)
{
    return scenario->is_paced ? bench_microseconds(&rounds->latency, 0.99) : rounds->median;
}

static double ratio(const struct scenario *scenario, const struct rounds *rounds, const struct rounds *other)
{
    const double value = other && other != rounds ? figure(scenario, other) : 0;
    return value > 0 ? figure(scenario, rounds) / value : 0;
}

/* ---- Text ---- */

void tell_scenario(const struct scenario *scenario)
{
    printf("\n%s: %s\n\n", scenario->name, scenario->title);
    printf("%-12s %9s %6s  %11s %22s %7s %7s %7s  %8s %8s  %8s %8s %8s  %8s %8s %6s  %8s %8s  %8s %8s\n", "subject",
           "existing", "outst", scenario->is_time ? "ms" : "per s", "lowest to highest", "x floor", "x embed", "x peer",
           "commits", "batch", "p50 us", "p99 us", "p999 us", "stored B", "writt. B", "ampl.", "cpu us", "engine",
           "anon MiB", "file MiB");
    fflush(stdout);
}

static void print_number(int width, int digits, double number)
{
    if (number > 0)
        printf(" %*.*f", width, digits, number);
    else
        printf(" %*s", width, "");
}

struct row {
    const struct rounds *rounds;
    double of_floor, of_embedded, of_peer;
};

static void print_row(const struct cell *cell, const struct row *row)
{
    const struct rounds *rounds = row->rounds;
    const struct run_result *middle = rounds->middle;
    const bool is_time = cell->scenario->is_time;
    char spread[64];
    snprintf(spread, sizeof spread, "%.*f to %.*f", is_time, rounds->min, is_time, rounds->max);
    printf("%-12s %9llu %6u ", rounds->subject->name, (unsigned long long)cell->existing, cell->outstanding);
    print_number(11, is_time, rounds->median);
    printf(" %22s", spread);
    print_number(7, 2, row->of_floor);
    print_number(7, 2, row->of_embedded);
    print_number(7, 2, row->of_peer);
    printf(" ");
    print_number(8, 0, is_time ? 0 : (double)middle->batches / middle->seconds);
    print_number(8, 1, per(middle->batch_inputs, middle->batches));
    printf(" ");
    print_number(8, 0, bench_microseconds(&rounds->latency, 0.5));
    print_number(8, 0, bench_microseconds(&rounds->latency, 0.99));
    print_number(8, 0, bench_microseconds(&rounds->latency, 0.999));
    printf(" ");
    print_number(8, 0, per(middle->bytes, middle->count));
    print_number(8, 0, per(middle->written_bytes, middle->count));
    print_number(6, 1, per(middle->written_bytes, middle->bytes));
    printf(" ");
    print_number(8, 2, per(middle->cpu_ns, middle->count) / 1000);
    print_number(8, 2, per(middle->engine_cpu_ns, middle->count) / 1000);
    printf(" ");
    print_number(8, 1, (double)middle->resident_bytes / 1048576);
    print_number(8, 1, (double)middle->file_bytes / 1048576);
    if (middle->events_behind)
        printf("  slowest watcher: %llu events behind", (unsigned long long)middle->events_behind);
    printf("\n");
    fflush(stdout);
}

/* ---- JSON ---- */

static json_t *latencies(const struct histogram *latency)
{
    static const double fractions[] = {0,    0.1,   0.25,  0.5,    0.75,   0.9,     0.95,
                                       0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1};
    json_t *list = json_array();
    for (size_t i = 0; latency->total && i < sizeof fractions / sizeof fractions[0]; i++)
        json_array_append_new(list, json_pack("[f, f]", fractions[i], bench_microseconds(latency, fractions[i])));
    return list;
}

static json_t *values(const struct rounds *rounds, bool is_time)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < rounds->count; i++)
        json_array_append_new(list, json_real(value_of(&rounds->results[i], is_time)));
    return list;
}

/* From and until, of each round. */
static json_t *times(const struct rounds *rounds)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < rounds->count; i++)
        json_array_append_new(
            list, json_pack("[I, I]", (json_int_t)rounds->results[i].from_ns, (json_int_t)rounds->results[i].until_ns));
    return list;
}

static json_t *row_of(const struct cell *cell, const struct row *row)
{
    static const char *const kinds[] = {"engine", "floor", "peer"};
    const struct scenario *scenario = cell->scenario;
    const struct rounds *rounds = row->rounds;
    const struct run_result *middle = rounds->middle;
    json_t *told = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:o}", "scenario", scenario->name,
                             "title", scenario->title, "unit", scenario->unit, "isTime", scenario->is_time, "subject",
                             rounds->subject->name, "kind", kinds[rounds->subject->kind], "outstanding",
                             (json_int_t)cell->outstanding, "existing", (json_int_t)cell->existing, "median",
                             rounds->median, "min", rounds->min, "max", rounds->max, "rounds",
                             values(rounds, scenario->is_time));
    const struct {
        const char *name;
        double value;
    } figures[] = {
        {"ofFloor", row->of_floor},
        {"ofEmbedded", row->of_embedded},
        {"ofBestPeer", row->of_peer},
        {"intendedPerSecond", middle->rate},
        {"commitsPerSecond", (double)middle->batches / middle->seconds},
        {"inputsPerBatch", per(middle->batch_inputs, middle->batches)},
        {"commitUs", per(middle->commit_ns, middle->batches) / 1000},
        {"p50Us", bench_microseconds(&rounds->latency, 0.5)},
        {"p99Us", bench_microseconds(&rounds->latency, 0.99)},
        {"p999Us", bench_microseconds(&rounds->latency, 0.999)},
        {"storedBytes", per(middle->bytes, middle->count)},
        {"writtenBytes", per(middle->written_bytes, middle->count)},
        {"dirtiedBytes", per(middle->dirtied_bytes, middle->count)},
        {"writeAmplification", per(middle->written_bytes, middle->bytes)},
        {"cpuUs", per(middle->cpu_ns, middle->count) / 1000},
        {"engineCpuUs", per(middle->engine_cpu_ns, middle->count) / 1000},
        {"anonymousMiB", (double)middle->resident_bytes / 1048576},
        {"eventsBehind", (double)middle->events_behind},
        {"fileMiB", (double)middle->file_bytes / 1048576},
    };
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        if (figures[i].value > 0)
            json_object_set_new(told, figures[i].name, json_real(figures[i].value));
    }
    json_object_set_new(told, "latencyUs", latencies(&rounds->latency));
    json_object_set_new(told, "measuredNs", times(rounds));
    return told;
}

void tell_cell(struct cell *cell, json_t *rows)
{
    const struct scenario *scenario = cell->scenario;
    for (unsigned i = 0; i < cell->count; i++) {
        if (!cell->subjects[i].failed)
            summarize(&cell->subjects[i], scenario->is_time);
    }
    for (unsigned i = 0; i < cell->count; i++) {
        const struct rounds *rounds = &cell->subjects[i];
        if (rounds->failed)
            continue;
        const bool is_engine = rounds->subject->kind == SUBJECT_ENGINE;
        const struct row row = {.rounds = rounds,
                                .of_floor = ratio(scenario, rounds, find(cell, scenario->floor)),
                                .of_embedded = is_engine ? ratio(scenario, rounds, find(cell, "embedded")) : 0,
                                .of_peer = is_engine ? ratio(scenario, rounds, best_peer(cell)) : 0};
        print_row(cell, &row);
        json_array_append_new(rows, row_of(cell, &row));
    }
}

/* ---- Where this was ---- */

static void read_line(const char *path, const char *name, char *ret_text, size_t size)
{
    char line[512];
    FILE *file = fopen(path, "re");
    snprintf(ret_text, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, name, strlen(name)) != 0 || !colon)
            continue;
        snprintf(ret_text, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file)
        fclose(file);
}

json_t *tell_surroundings(const struct bench_paths *paths, unsigned round_count, double seconds, bool is_full)
{
    char processor[200], memory[100], when[64];
    struct utsname system;
    const time_t now = time(NULL);
    struct tm utc;
    uname(&system);
    read_line("/proc/cpuinfo", "model name", processor, sizeof processor);
    read_line("/proc/meminfo", "MemTotal", memory, sizeof memory);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    printf("reeve %s, %s; %ld processors (%s), Linux %s, %s; %u round(s) of %.1f s\n", REEVE_VERSION, when, processors,
           processor, system.release, bench_filesystem(paths->directory), round_count, seconds);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:f, s:b}", "version", REEVE_VERSION, "when", when,
                     "processors", (json_int_t)processors, "processor", processor, "memory", memory, "kernel",
                     system.release, "fileSystem", bench_filesystem(paths->directory), "rounds",
                     (json_int_t)round_count, "seconds", seconds, "full", is_full);
}
