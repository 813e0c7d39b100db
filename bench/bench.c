/* The bench: scenarios of bench/lib/scenario.c, each with the engine in its modes, floors and peers in turn, in the
 * same run. `bench --help` tells the options, bench/README.md what is measured. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/lib/telling.h"

struct settings {
    struct bench_paths paths;
    enum extent extent;
    unsigned rounds;
    double seconds, warm_seconds;
    bool seconds_given;
    const char *scenarios, *subjects, *json_path; /* NULL: all of them */
    unsigned outstanding[COLUMNS_MAX];
    uint64_t existing[COLUMNS_MAX];
    bool outstanding_given, existing_given;
    json_t *told, *rows, *skipped;
};

/* Is the word in a list with commas? */
static bool is_named(const char *list, const char *word)
{
    const size_t size = strlen(word);
    for (const char *at = list; at && (at = strstr(at, word)); at += size) {
        if ((at == list || at[-1] == ',') && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return !list;
}

/* ---- Running ---- */

static void subject_directory(const struct settings *settings, const struct subject *subject, uint64_t existing,
                              char *ret_path, size_t size)
{
    if (strcmp(subject->store, "journal") == 0)
        existing = 0; /* its file is the same with any number of services */
    snprintf(ret_path, size, "%s/%s-%llu", settings->paths.directory, subject->store, (unsigned long long)existing);
}

/* OPEN_LOOP: at half of the rate that a closed loop reaches; floors at that of the engine beside them. */
static int run_subject(const struct subject *subject, struct run_options *options, struct run_result *ret_result)
{
    if (options->work == OPEN_LOOP && subject->kind == SUBJECT_FLOOR && options->model) {
        options->rate = options->model->rate;
    } else if (options->work == OPEN_LOOP) {
        options->work = START_STOP;
        if (subject->run(options, ret_result) < 0)
            return -1;
        options->work = OPEN_LOOP;
        options->rate = bench_rate(ret_result) / 2;
    }
    return subject->run(options, ret_result);
}

/* Whatever fails, the others go on. */
static int run_round(const struct settings *settings, const struct cell *cell, struct rounds *rounds)
{
    const struct scenario *scenario = cell->scenario;
    char directory[4096], mark[4200];
    const double own_seconds = scenario->seconds[settings->extent];
    const bool has_own = own_seconds > 0 && !settings->seconds_given && rounds->subject->kind != SUBJECT_FLOOR;
    const struct rounds *first = &cell->subjects[0];
    const bool has_model = first->count && !first->failed && first->subject->kind == SUBJECT_ENGINE;
    subject_directory(settings, rounds->subject, cell->existing, directory, sizeof directory);
    snprintf(mark, sizeof mark, "%s.filled", directory);
    if (scenario->is_fresh)
        unlink(mark);
    struct run_options options = {.directory = directory,
                                  .binary = settings->paths.binary,
                                  .work = scenario->work,
                                  .outstanding = cell->outstanding,
                                  .watchers = scenario->watchers,
                                  .existing = cell->existing,
                                  .warm_seconds = settings->warm_seconds,
                                  .seconds = has_own ? own_seconds : settings->seconds,
                                  .model = has_model ? &first->results[first->count - 1] : NULL};
    if (run_subject(rounds->subject, &options, &rounds->results[rounds->count]) < 0) {
        fprintf(stderr, "bench: %s failed in %s, %u outstanding\n", rounds->subject->name, scenario->name,
                cell->outstanding);
        rounds->failed = true;
        return -1;
    }
    rounds->count++;
    return 0;
}

static void choose_subjects(const struct settings *settings, struct cell *cell)
{
    for (unsigned i = 0; i < SUBJECTS_MAX && cell->scenario->subjects[i]; i++) {
        const struct subject *subject = bench_subject(cell->scenario->subjects[i]);
        if (is_named(settings->subjects, subject->name) && cell->outstanding <= subject->outstanding_max &&
            !(subject->missing && subject->missing()))
            cell->subjects[cell->count++].subject = subject;
    }
}

/* Subjects in turn, so that what disturbs disturbs all of them. */
static int run_cell(const struct settings *settings, const struct scenario *scenario, unsigned outstanding,
                    uint64_t existing)
{
    struct cell *cell = calloc(1, sizeof *cell);
    int r = cell ? 0 : -1;
    if (r == 0) {
        cell->scenario = scenario;
        cell->outstanding = outstanding;
        cell->existing = existing;
        choose_subjects(settings, cell);
    }
    for (unsigned round = 0; round < settings->rounds && cell; round++) {
        for (unsigned i = 0; i < cell->count; i++) {
            if (!cell->subjects[i].failed)
                r |= run_round(settings, cell, &cell->subjects[i]);
        }
    }
    if (cell)
        tell_cell(cell, settings->rows);
    free(cell);
    return r;
}

static int run_scenario(const struct settings *settings, const struct scenario *scenario)
{
    const unsigned *outstanding = settings->outstanding_given ? settings->outstanding
                                                              : scenario->outstanding[settings->extent];
    const uint64_t *existing = settings->existing_given && !scenario->is_fresh ? settings->existing
                                                                               : scenario->existing[settings->extent];
    int r = 0;
    tell_scenario(scenario);
    for (unsigned i = 0; i < COLUMNS_MAX && (i == 0 || existing[i]); i++) {
        for (unsigned j = 0; j < COLUMNS_MAX && outstanding[j]; j++)
            r |= run_cell(settings, scenario, outstanding[j], existing[i]);
    }
    return r;
}

/* Who takes part, with which settings, and who does not. */
static void tell_subjects(const struct settings *settings)
{
    json_t *peers = json_array();
    for (unsigned i = 0; i < bench_subjects_count; i++) {
        const struct subject *subject = &bench_subjects[i];
        const char *why = subject->missing ? subject->missing() : NULL;
        if (!is_named(settings->subjects, subject->name) || !subject->about)
            continue;
        if (why) {
            printf("\n%s: skipped, %s\n", subject->name, why);
            json_array_append_new(settings->skipped, json_pack("{s:s, s:s}", "subject", subject->name, "why", why));
        } else {
            printf("\n%s: %s\n", subject->name, subject->about());
            json_array_append_new(peers, json_pack("{s:s, s:s}", "subject", subject->name, "about", subject->about()));
        }
    }
    json_object_set_new(settings->told, "peers", peers);
}

static int run_all(struct settings *settings)
{
    int r = 0;
    settings->told = tell_surroundings(&settings->paths, settings->rounds, settings->seconds, settings->extent == FULL);
    settings->rows = json_array();
    settings->skipped = json_array();
    json_object_set_new(settings->told, "skipped", settings->skipped);
    json_object_set_new(settings->told, "rows", settings->rows);
    tell_subjects(settings);
    for (unsigned i = 0; i < bench_scenarios_count; i++) {
        if (is_named(settings->scenarios, bench_scenarios[i].name))
            r |= run_scenario(settings, &bench_scenarios[i]);
    }
    if (settings->json_path && json_dump_file(settings->told, settings->json_path, JSON_INDENT(1)) != 0)
        r = bench_complain(settings->json_path, "cannot be written");
    json_decref(settings->told);
    return r;
}

/* ---- Options ---- */

static int take_numbers(char *text, uint64_t *ret_numbers, uint64_t max)
{
    unsigned count = 0;
    for (char *rest = text, *word; (word = strsep(&rest, ","));) {
        const unsigned long long value = strtoull(word, NULL, 10);
        if (value < 1 || value > max || count == COLUMNS_MAX)
            return -1;
        ret_numbers[count++] = value;
    }
    return 0;
}

static int take_outstanding(struct settings *settings, char *text)
{
    uint64_t numbers[COLUMNS_MAX] = {0};
    if (take_numbers(text, numbers, 100000) < 0)
        return -1;
    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        settings->outstanding[i] = (unsigned)numbers[i];
    settings->outstanding_given = true;
    return 0;
}

static int usage(int code)
{
    fprintf(code ? stderr : stdout,
            "usage: bench [--full] [--scenario NAME,..] [--subject NAME,..] [--outstanding N,..] [--existing N,..]\n"
            "             [--rounds 3] [--seconds 1] [--warm 0.3] [--dir DIR] [--json FILE]\n\n"
            "Prints what the engine does beside its floors and its peers. REEVE_BIN names the daemon that is started.\n"
            "\nscenarios:\n");
    for (unsigned i = 0; i < bench_scenarios_count; i++)
        fprintf(code ? stderr : stdout, "  %-12s %s\n", bench_scenarios[i].name, bench_scenarios[i].title);
    fprintf(code ? stderr : stdout, "\nsubjects:");
    for (unsigned i = 0; i < bench_subjects_count; i++)
        fprintf(code ? stderr : stdout, " %s", bench_subjects[i].name);
    fprintf(code ? stderr : stdout, "\n");
    return code;
}

static int take_option(struct settings *settings, int option)
{
    switch (option) {
    case 'f':
        settings->extent = FULL;
        return 0;
    case 'n':
        settings->scenarios = optarg;
        return 0;
    case 'u':
        settings->subjects = optarg;
        return 0;
    case 'o':
        return take_outstanding(settings, optarg);
    case 'e':
        settings->existing_given = true;
        return take_numbers(optarg, settings->existing, 100000000);
    case 'r':
        settings->rounds = (unsigned)strtoul(optarg, NULL, 10);
        return 0;
    case 's':
        settings->seconds = strtod(optarg, NULL);
        settings->seconds_given = settings->extent == QUICK; /* --full first: its long scenarios stay long */
        return 0;
    case 'w':
        settings->warm_seconds = strtod(optarg, NULL);
        return 0;
    case 'd':
        snprintf(settings->paths.directory, sizeof settings->paths.directory, "%s/reeve-bench", optarg);
        return 0;
    case 'j':
        settings->json_path = optarg;
        return 0;
    default:
        return option == 'h' ? 1 : -1;
    }
}

static int take_options(struct settings *settings, int argc, char **argv)
{
    static const struct option options[] = {
        {"full", 0, NULL, 'f'},        {"scenario", 1, NULL, 'n'}, {"subject", 1, NULL, 'u'},
        {"outstanding", 1, NULL, 'o'}, {"existing", 1, NULL, 'e'}, {"rounds", 1, NULL, 'r'},
        {"seconds", 1, NULL, 's'},     {"warm", 1, NULL, 'w'},     {"dir", 1, NULL, 'd'},
        {"json", 1, NULL, 'j'},        {"help", 0, NULL, 'h'},     {0}};
    int r = 0;
    for (int c; r == 0 && (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        r = take_option(settings, c);
    if (r != 0)
        return r;
    return settings->rounds >= 1 && settings->rounds <= ROUNDS_MAX && settings->seconds >= 0.1 && optind == argc ? 0
                                                                                                                 : -1;
}

int main(int argc, char **argv)
{
    struct settings settings = {.rounds = 3, .seconds = 1, .warm_seconds = 0.3};
    bench_find_paths(&settings.paths);
    const int r = take_options(&settings, argc, argv);
    if (r != 0)
        return usage(r > 0 ? 0 : 2);
    if (bench_make_fresh(settings.paths.directory) < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);              /* who went away is told of by the write that failed */
    chmod(settings.paths.directory, 0711); /* PostgreSQL runs as somebody else */
    const int code = run_all(&settings) < 0 ? 1 : 0;
    bench_remove_tree(settings.paths.directory);
    return code;
}
