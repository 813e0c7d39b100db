/* Full lifecycles per second (create, running, stop, stopped, delete, gone), embedded and over IPC, beside a floor of
 * raw LMDB in the same run. `lifecycle --help` tells the options, bench/README.md what is measured. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/common.h"

#define COLUMNS_MAX 16

enum mode { EMBEDDED, FLOOR, IPC, MODE_COUNT };
static const char *const mode_names[MODE_COUNT] = {"embedded", "floor", "ipc"};

struct settings {
    unsigned outstanding[COLUMNS_MAX];
    unsigned columns, rounds;
    double seconds;
    struct bench_paths paths;
    const char *json_path;
    bool with_ipc;
};

/* One column: so many outstanding; the rounds of each mode. */
struct column {
    struct run_result results[MODE_COUNT][ROUNDS_MAX];
};

/* ---- Running ---- */

static int run_cell(const struct settings *settings, enum mode mode, unsigned outstanding, struct column *column,
                    unsigned round)
{
    static int (*const runs[MODE_COUNT])(const struct run_options *, struct run_result *) = {run_embedded, run_floor,
                                                                                             run_ipc};
    char directory[4096];
    const struct run_result *engine = &column->results[EMBEDDED][round];
    snprintf(directory, sizeof directory, "%s/%s", settings->paths.directory, mode_names[mode]);
    if (bench_make_fresh(directory) < 0)
        return -1;
    const struct run_options options = {
        .directory = directory,
        .binary = settings->paths.binary,
        .outstanding = outstanding,
        .seconds = settings->seconds,
        .inputs_per_batch = engine->batches ? (double)engine->batch_inputs / (double)engine->batches : outstanding,
        .record_bytes = engine->record_bytes,
        .event_bytes = engine->event_bytes,
    };
    const int r = runs[mode](&options, &column->results[mode][round]);
    bench_remove_tree(directory);
    return r;
}

static int run_column(const struct settings *settings, unsigned outstanding, struct column *column)
{
    for (unsigned round = 0; round < settings->rounds; round++) {
        for (int mode = 0; mode < MODE_COUNT; mode++) {
            if (mode == IPC && !settings->with_ipc)
                continue;
            if (run_cell(settings, (enum mode)mode, outstanding, column, round) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- Telling ---- */

static const struct run_result *median(const struct settings *settings, const struct column *column, enum mode mode)
{
    return bench_median(column->results[mode], settings->rounds, LIFECYCLES);
}

static double per(uint64_t value, uint64_t count)
{
    return count ? (double)value / (double)count : 0;
}

static json_t *tell(const struct run_result *result, enum mode mode, unsigned outstanding, double of_floor,
                    double of_embedded)
{
    printf("%-9s %5u  %10.0f  %8.0f  %7.1f", mode_names[mode], outstanding, bench_rate(result, LIFECYCLES),
           (double)result->batches / result->seconds, per(result->batch_inputs, result->batches));
    if (mode == FLOOR)
        printf("\n");
    else
        printf("  %8.0f %8.0f %8.0f %8.0f  %7.0f  %7.2f%s", bench_microseconds(&result->latency, 0.5),
               bench_microseconds(&result->latency, 0.9), bench_microseconds(&result->latency, 0.99),
               bench_microseconds(&result->latency, 0.999), per(result->bytes, result->lifecycles), of_floor,
               mode == EMBEDDED ? "\n" : "");
    if (mode == IPC)
        printf("  %8.2f\n", of_embedded);
    fflush(stdout);
    return json_pack(
        "{s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "mode", mode_names[mode], "outstanding",
        (json_int_t)outstanding, "lifecyclesPerSecond", bench_rate(result, LIFECYCLES), "commitsPerSecond",
        (double)result->batches / result->seconds, "inputsPerBatch", per(result->batch_inputs, result->batches),
        "p50Us", bench_microseconds(&result->latency, 0.5), "p90Us", bench_microseconds(&result->latency, 0.9), "p99Us",
        bench_microseconds(&result->latency, 0.99), "p999Us", bench_microseconds(&result->latency, 0.999),
        "bytesPerLifecycle", per(result->bytes, result->lifecycles), "ofFloor", of_floor, "ofEmbedded", of_embedded);
}

static void tell_column(const struct settings *settings, unsigned outstanding, const struct column *column,
                        json_t *rows)
{
    const struct run_result *floor = median(settings, column, FLOOR);
    const struct run_result *embedded = median(settings, column, EMBEDDED);
    for (int mode = 0; mode < MODE_COUNT; mode++) {
        if (mode == IPC && !settings->with_ipc)
            continue;
        const struct run_result *result = median(settings, column, (enum mode)mode);
        json_array_append_new(rows, tell(result, (enum mode)mode, outstanding,
                                         bench_rate(result, LIFECYCLES) / bench_rate(floor, LIFECYCLES),
                                         bench_rate(result, LIFECYCLES) / bench_rate(embedded, LIFECYCLES)));
    }
}

static int run_all(const struct settings *settings)
{
    json_t *rows = json_array();
    int r = 0;
    printf(
        "lifecycles: create, running, stop, stopped, delete, gone; %u round(s) of %.1f s, medians; filesystem %s\n\n",
        settings->rounds, settings->seconds, bench_filesystem(settings->paths.directory));
    printf("%-9s %5s  %10s  %8s  %7s  %8s %8s %8s %8s  %7s  %7s  %8s\n", "mode", "outst", "lifecyc./s", "commits/s",
           "batch", "p50 us", "p90 us", "p99 us", "p999 us", "bytes/l", "x floor", "x embed");
    for (unsigned i = 0; i < settings->columns && r == 0; i++) {
        struct column *column = calloc(1, sizeof *column);
        r = column ? run_column(settings, settings->outstanding[i], column) : -1;
        if (r == 0)
            tell_column(settings, settings->outstanding[i], column, rows);
        free(column);
    }
    if (r == 0 && settings->json_path && json_dump_file(rows, settings->json_path, JSON_INDENT(2)) != 0) {
        fprintf(stderr, "bench: cannot write %s\n", settings->json_path);
        r = -1;
    }
    json_decref(rows);
    return r;
}

/* ---- Options ---- */

static int take_outstanding(struct settings *settings, char *text)
{
    settings->columns = 0;
    for (char *rest = text, *word; (word = strsep(&rest, ","));) {
        const long value = strtol(word, NULL, 10);
        if (value < 1 || value > 10000 || settings->columns == COLUMNS_MAX)
            return -1;
        settings->outstanding[settings->columns++] = (unsigned)value;
    }
    return 0;
}

static int usage(int code)
{
    fprintf(
        code ? stderr : stdout,
        "usage: lifecycle [--outstanding 1,64,1000] [--seconds 2] [--rounds 3] [--mode embedded|all]\n"
        "                 [--dir DIR] [--json FILE]\n\n"
        "Prints lifecycles per second of the engine, embedded and over IPC, beside raw LMDB doing the same writes.\n");
    return code;
}

static int take_options(struct settings *settings, int argc, char **argv)
{
    static const struct option options[] = {
        {"outstanding", 1, NULL, 'o'}, {"seconds", 1, NULL, 's'}, {"rounds", 1, NULL, 'r'}, {"mode", 1, NULL, 'm'},
        {"dir", 1, NULL, 'd'},         {"json", 1, NULL, 'j'},    {"help", 0, NULL, 'h'},   {0}};
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h')
            return 1;
        if (c == '?' || (c == 'o' && take_outstanding(settings, optarg) < 0))
            return -1;
        if (c == 's')
            settings->seconds = strtod(optarg, NULL);
        else if (c == 'r')
            settings->rounds = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'm')
            settings->with_ipc = strcmp(optarg, "embedded") != 0;
        else if (c == 'd')
            snprintf(settings->paths.directory, sizeof settings->paths.directory, "%s", optarg);
        else if (c == 'j')
            settings->json_path = optarg;
    }
    return settings->rounds >= 1 && settings->rounds <= ROUNDS_MAX && settings->seconds >= 0.1 && optind == argc ? 0
                                                                                                                 : -1;
}

int main(int argc, char **argv)
{
    struct settings settings = {
        .outstanding = {1, 64, 1000}, .columns = 3, .rounds = 3, .seconds = 2, .with_ipc = true};
    bench_find_paths(&settings.paths);
    const int r = take_options(&settings, argc, argv);
    if (r != 0)
        return usage(r > 0 ? 0 : 2);
    if (bench_make_directory(settings.paths.directory) < 0)
        return 1;
    const int code = run_all(&settings) < 0 ? 1 : 0;
    rmdir(settings.paths.directory);
    return code;
}
