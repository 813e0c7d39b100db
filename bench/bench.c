/* The bench: scenarios of bench/lib/scenario.c, each with the engine in its modes, floors and peers in turn, in the
 * same run. `bench --help` tells the options, bench/README.md what is measured. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/lib/settings.h"
#include "bench/lib/telling.h"

/* What is told of a run. */
struct told {
    json_t *all, *rows, *skipped;
};

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
        if (settings_lists(settings->subjects, subject->name) && cell->outstanding <= subject->outstanding_max &&
            !(subject->missing && subject->missing()))
            cell->subjects[cell->count++].subject = subject;
    }
}

/* Subjects in turn, so that what disturbs disturbs all of them. */
static int run_cell(const struct settings *settings, const struct scenario *scenario, unsigned outstanding,
                    uint64_t existing, json_t *rows)
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
        tell_cell(cell, rows);
    free(cell);
    return r;
}

static bool takes_part(const struct settings *settings, const struct scenario *scenario)
{
    for (unsigned i = 0; i < SUBJECTS_MAX && scenario->subjects[i]; i++) {
        if (settings_lists(settings->subjects, scenario->subjects[i]))
            return settings_lists(settings->scenarios, scenario->name);
    }
    return false;
}

static int run_scenario(const struct settings *settings, const struct scenario *scenario, json_t *rows)
{
    const unsigned *outstanding = settings->outstanding_given ? settings->outstanding
                                                              : scenario->outstanding[settings->extent];
    const uint64_t *existing = settings->existing_given && !scenario->is_fresh ? settings->existing
                                                                               : scenario->existing[settings->extent];
    int r = 0;
    tell_scenario(scenario);
    for (unsigned i = 0; i < COLUMNS_MAX && (i == 0 || existing[i]); i++) {
        for (unsigned j = 0; j < COLUMNS_MAX && outstanding[j]; j++)
            r |= run_cell(settings, scenario, outstanding[j], existing[i], rows);
    }
    return r;
}

/* Who takes part, with which settings, and who does not. */
static void tell_subjects(const struct settings *settings, const struct told *told)
{
    json_t *peers = json_array();
    for (unsigned i = 0; i < bench_subjects_count; i++) {
        const struct subject *subject = &bench_subjects[i];
        const char *why = subject->missing ? subject->missing() : NULL;
        if (!settings_lists(settings->subjects, subject->name) || !subject->about)
            continue;
        if (why) {
            printf("\n%s: skipped, %s\n", subject->name, why);
            json_array_append_new(told->skipped, json_pack("{s:s, s:s}", "subject", subject->name, "why", why));
        } else {
            printf("\n%s: %s\n", subject->name, subject->about());
            json_array_append_new(peers, json_pack("{s:s, s:s}", "subject", subject->name, "about", subject->about()));
        }
    }
    json_object_set_new(told->all, "peers", peers);
}

static int run_all(const struct settings *settings)
{
    const struct told told = {
        .all = tell_surroundings(&settings->paths, settings->rounds, settings->seconds, settings->extent == FULL),
        .rows = json_array(),
        .skipped = json_array()};
    int r = 0;
    unsigned ran = 0;
    json_object_set_new(told.all, "skipped", told.skipped);
    json_object_set_new(told.all, "rows", told.rows);
    tell_subjects(settings, &told);
    for (unsigned i = 0; i < bench_scenarios_count; i++) {
        if (!takes_part(settings, &bench_scenarios[i]))
            continue;
        r |= run_scenario(settings, &bench_scenarios[i], told.rows);
        ran++;
    }
    if (ran == 0)
        r = bench_complain(settings->subjects, "takes part in none of these scenarios");
    if (settings->json_path && json_dump_file(told.all, settings->json_path, JSON_INDENT(1)) != 0)
        r = bench_complain(settings->json_path, "cannot be written");
    json_decref(told.all);
    return r;
}

int main(int argc, char **argv)
{
    struct settings settings;
    const int r = settings_take(&settings, argc, argv);
    if (r != 0)
        return r > 0 ? 0 : 2;
    if (bench_make_fresh(settings.paths.directory) < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);              /* who went away is told of by the write that failed */
    chmod(settings.paths.directory, 0711); /* PostgreSQL runs as somebody else */
    const int code = run_all(&settings) < 0 ? 1 : 0;
    bench_remove_tree(settings.paths.directory);
    return code;
}
