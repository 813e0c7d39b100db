/* Full lifecycles per second (create, running, stop, stopped, delete, gone), embedded and over IPC, beside a floor of
 * raw LMDB in the same run. `lifecycle --help` tells the options, bench/README.md what is measured. */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "bench/lib/run.h"

#define ROUNDS_MAX 15
#define COLUMNS_MAX 16

enum mode { EMBEDDED, FLOOR, IPC, MODE_COUNT };
static const char *const mode_names[MODE_COUNT] = {"embedded", "floor", "ipc"};

struct settings {
    unsigned outstanding[COLUMNS_MAX];
    unsigned columns, rounds;
    double seconds;
    char directory[4000], binary[4096];
    const char *json_path;
    bool with_ipc;
};

/* One column: so many outstanding; the rounds of each mode. */
struct column {
    struct run_result results[MODE_COUNT][ROUNDS_MAX];
};

static int remove_path(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_path, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- Running ---- */

static int run_cell(const struct settings *settings, enum mode mode, unsigned outstanding, struct column *column,
                    unsigned round)
{
    static int (*const runs[MODE_COUNT])(const struct run_options *, struct run_result *) = {run_embedded, run_floor,
                                                                                             run_ipc};
    char directory[4096];
    const struct run_result *engine = &column->results[EMBEDDED][round];
    snprintf(directory, sizeof directory, "%s/%s", settings->directory, mode_names[mode]);
    remove_tree(directory);
    if (mkdir(directory, 0700) != 0) {
        fprintf(stderr, "bench: cannot make %s: %s\n", directory, strerror(errno));
        return -1;
    }
    const struct run_options options = {
        .directory = directory,
        .binary = settings->binary,
        .outstanding = outstanding,
        .seconds = settings->seconds,
        .inputs_per_batch = engine->batches ? (double)engine->batch_inputs / (double)engine->batches : outstanding,
        .record_bytes = engine->record_bytes,
        .event_bytes = engine->event_bytes,
    };
    const int r = runs[mode](&options, &column->results[mode][round]);
    remove_tree(directory);
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

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double rate_of(const struct run_result *result)
{
    return result->seconds > 0 ? (double)result->lifecycles / result->seconds : 0;
}

/* The round whose rate is the median. */
static const struct run_result *median(const struct column *column, enum mode mode, unsigned rounds)
{
    double rates[ROUNDS_MAX] = {0};
    for (unsigned i = 0; i < rounds; i++)
        rates[i] = rate_of(&column->results[mode][i]);
    qsort(rates, rounds, sizeof rates[0], compare);
    for (unsigned i = 0; i < rounds; i++) {
        if (rate_of(&column->results[mode][i]) >= rates[rounds / 2] &&
            rate_of(&column->results[mode][i]) <= rates[rounds / 2])
            return &column->results[mode][i];
    }
    return &column->results[mode][0];
}

static double per(uint64_t value, uint64_t count)
{
    return count ? (double)value / (double)count : 0;
}

static double microseconds(const struct run_result *result, double fraction)
{
    return (double)histogram_percentile(&result->latency, fraction) / 1000;
}

static json_t *tell(const struct run_result *result, enum mode mode, unsigned outstanding, double of_floor,
                    double of_embedded)
{
    printf("%-9s %5u  %10.0f  %8.0f  %7.1f", mode_names[mode], outstanding, rate_of(result),
           (double)result->batches / result->seconds, per(result->batch_inputs, result->batches));
    if (mode == FLOOR)
        printf("\n");
    else
        printf("  %8.0f %8.0f %8.0f %8.0f  %7.0f  %7.2f%s", microseconds(result, 0.5), microseconds(result, 0.9),
               microseconds(result, 0.99), microseconds(result, 0.999), per(result->bytes, result->lifecycles),
               of_floor, mode == EMBEDDED ? "\n" : "");
    if (mode == IPC)
        printf("  %8.2f\n", of_embedded);
    fflush(stdout);
    return json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "mode", mode_names[mode],
                     "outstanding", (json_int_t)outstanding, "lifecyclesPerSecond", rate_of(result), "commitsPerSecond",
                     (double)result->batches / result->seconds, "inputsPerBatch",
                     per(result->batch_inputs, result->batches), "p50Us", microseconds(result, 0.5), "p90Us",
                     microseconds(result, 0.9), "p99Us", microseconds(result, 0.99), "p999Us",
                     microseconds(result, 0.999), "bytesPerLifecycle", per(result->bytes, result->lifecycles),
                     "ofFloor", of_floor, "ofEmbedded", of_embedded);
}

static void tell_column(const struct settings *settings, unsigned outstanding, const struct column *column,
                        json_t *rows)
{
    const struct run_result *floor = median(column, FLOOR, settings->rounds);
    const struct run_result *embedded = median(column, EMBEDDED, settings->rounds);
    for (int mode = 0; mode < MODE_COUNT; mode++) {
        if (mode == IPC && !settings->with_ipc)
            continue;
        const struct run_result *result = median(column, (enum mode)mode, settings->rounds);
        json_array_append_new(rows, tell(result, (enum mode)mode, outstanding, rate_of(result) / rate_of(floor),
                                         rate_of(result) / rate_of(embedded)));
    }
}

static const char *filesystem(const char *path)
{
    static char name[32];
    struct statfs info;
    if (statfs(path, &info) != 0)
        return "unknown";
    const unsigned long type = (unsigned long)info.f_type;
    if (type == 0x01021994)
        return "tmpfs: figures of a disk that never flushes";
    if (type == 0xef53)
        return "ext4";
    if (type == 0x58465342)
        return "xfs";
    if (type == 0x9123683e)
        return "btrfs";
    if (type == 0x794c7630)
        return "overlay";
    snprintf(name, sizeof name, "type 0x%lx", type);
    return name;
}

static int run_all(const struct settings *settings)
{
    json_t *rows = json_array();
    int r = 0;
    printf(
        "lifecycles: create, running, stop, stopped, delete, gone; %u round(s) of %.1f s, medians; filesystem %s\n\n",
        settings->rounds, settings->seconds, filesystem(settings->directory));
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
            snprintf(settings->directory, sizeof settings->directory, "%s", optarg);
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
    char here[3900] = "";
    const ssize_t size = readlink("/proc/self/exe", here, sizeof here - 1);
    if (size > 0)
        *strrchr(here, '/') = '\0';
    snprintf(settings.binary, sizeof settings.binary, "%s/../reeve", here);
    snprintf(settings.directory, sizeof settings.directory, "%s/data", here);
    const int r = take_options(&settings, argc, argv);
    if (r != 0)
        return usage(r > 0 ? 0 : 2);
    if (mkdir(settings.directory, 0700) != 0 && errno != EEXIST) {
        fprintf(stderr, "bench: cannot make %s: %s\n", settings.directory, strerror(errno));
        return 1;
    }
    const int code = run_all(&settings) < 0 ? 1 : 0;
    rmdir(settings.directory);
    return code;
}
