/* Lifecycles and durable updates per second over HTTP, beside the same embedded in the same run. `http --help` tells
 * the options, bench/README.md what is measured. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/common.h"

enum mode { EMBEDDED, HTTP, MODE_COUNT };
static const char *const mode_names[MODE_COUNT] = {"embedded", "http"};

#define WORK_COUNT 2
static const char *const work_names[WORK_COUNT] = {[LIFECYCLES] = "lifecycles", [UPDATES] = "updates"};

struct settings {
    unsigned connections, rounds;
    double seconds;
    struct bench_paths paths;
    const char *json_path;
};

/* The rounds of one kind of work. */
struct rounds {
    struct run_result results[MODE_COUNT][ROUNDS_MAX];
};

/* ---- Running ---- */

static int run_cell(const struct settings *settings, enum work work, enum mode mode, struct run_result *result)
{
    char directory[4096];
    snprintf(directory, sizeof directory, "%s/%s", settings->paths.directory, mode_names[mode]);
    if (bench_make_fresh(directory) < 0)
        return -1;
    const struct run_options options = {.directory = directory,
                                        .binary = settings->paths.binary,
                                        .work = work,
                                        .outstanding = settings->connections,
                                        .seconds = settings->seconds};
    const int r = mode == HTTP ? run_http(&options, result) : run_embedded(&options, result);
    bench_remove_tree(directory);
    return r;
}

static int run_rounds(const struct settings *settings, enum work work, struct rounds *rounds)
{
    for (unsigned round = 0; round < settings->rounds; round++) {
        for (int mode = 0; mode < MODE_COUNT; mode++) {
            if (run_cell(settings, work, (enum mode)mode, &rounds->results[mode][round]) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- Telling ---- */

static json_t *tell(enum work work, enum mode mode, const struct run_result *result, double of_embedded)
{
    const double rate = bench_rate(result, work), commands = (double)result->commands / result->seconds;
    const double p50 = bench_microseconds(&result->latency, 0.5), p99 = bench_microseconds(&result->latency, 0.99);
    const double commits = (double)result->batches / result->seconds;
    const double batch = result->batches ? (double)result->batch_inputs / (double)result->batches : 0;
    printf("%-10s  %-8s  %9.0f  %11.0f  %9.0f  %7.1f  %8.0f %8.0f", work_names[work], mode_names[mode], rate, commands,
           commits, batch, p50, p99);
    printf(mode == EMBEDDED ? "\n" : "  %8.2f\n", of_embedded);
    fflush(stdout);
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "work", work_names[work], "mode",
                     mode_names[mode], "perSecond", rate, "commandsPerSecond", commands, "commitsPerSecond", commits,
                     "inputsPerBatch", batch, "p50Us", p50, "p99Us", p99, "ofEmbedded", of_embedded);
}

static void tell_rounds(const struct settings *settings, enum work work, const struct rounds *rounds, json_t *rows)
{
    const struct run_result *embedded = bench_median(rounds->results[EMBEDDED], settings->rounds, work);
    for (int mode = 0; mode < MODE_COUNT; mode++) {
        const struct run_result *result = bench_median(rounds->results[mode], settings->rounds, work);
        const double of_embedded = bench_rate(result, work) / bench_rate(embedded, work);
        json_array_append_new(rows, tell(work, (enum mode)mode, result, of_embedded));
    }
}

static int run_all(const struct settings *settings)
{
    json_t *rows = json_array();
    int r = 0;
    printf(
        "%u keep-alive connections beside %u outstanding embedded; %u round(s) of %.1f s, medians; filesystem %s\n\n",
        settings->connections, settings->connections, settings->rounds, settings->seconds,
        bench_filesystem(settings->paths.directory));
    printf("%-10s  %-8s  %9s  %11s  %9s  %7s  %8s %8s  %8s\n", "work", "mode", "per s", "commands/s", "commits/s",
           "batch", "p50 us", "p99 us", "x embed");
    for (int work = 0; work < WORK_COUNT && r == 0; work++) {
        struct rounds *rounds = calloc(1, sizeof *rounds);
        r = rounds ? run_rounds(settings, (enum work)work, rounds) : -1;
        if (r == 0)
            tell_rounds(settings, (enum work)work, rounds, rows);
        free(rounds);
    }
    if (r == 0 && settings->json_path && json_dump_file(rows, settings->json_path, JSON_INDENT(2)) != 0) {
        fprintf(stderr, "bench: cannot write %s\n", settings->json_path);
        r = -1;
    }
    json_decref(rows);
    return r;
}

/* ---- Options ---- */

static int usage(int code)
{
    fprintf(code ? stderr : stdout,
            "usage: http [--connections 64] [--seconds 2] [--rounds 3] [--dir DIR] [--json FILE]\n\n"
            "Prints lifecycles and durable updates per second over HTTP, beside the same embedded.\n"
            "REEVE_BIN names the daemon that is started.\n");
    return code;
}

static int take_options(struct settings *settings, int argc, char **argv)
{
    static const struct option options[] = {{"connections", 1, NULL, 'c'},
                                            {"seconds", 1, NULL, 's'},
                                            {"rounds", 1, NULL, 'r'},
                                            {"dir", 1, NULL, 'd'},
                                            {"json", 1, NULL, 'j'},
                                            {"help", 0, NULL, 'h'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h')
            return 1;
        if (c == '?')
            return -1;
        if (c == 'c')
            settings->connections = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 's')
            settings->seconds = strtod(optarg, NULL);
        else if (c == 'r')
            settings->rounds = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'd')
            snprintf(settings->paths.directory, sizeof settings->paths.directory, "%s", optarg);
        else
            settings->json_path = optarg;
    }
    /* Each lifecycle waits: not more at once than the daemon lets wait. */
    return settings->connections >= 1 && settings->connections <= 1000 && settings->rounds >= 1 &&
                   settings->rounds <= ROUNDS_MAX && settings->seconds >= 0.1 && optind == argc
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    struct settings settings = {.connections = 64, .rounds = 3, .seconds = 2};
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
