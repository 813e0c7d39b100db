#include "bench/lib/settings.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool settings_lists(const char *list, const char *word)
{
    const size_t size = strlen(word);
    for (const char *at = list; at && (at = strstr(at, word)); at += size) {
        if ((at == list || at[-1] == ',') && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return !list;
}

/* ---- What there is ---- */

static const char *scenario_name(unsigned index)
{
    return index < bench_scenarios_count ? bench_scenarios[index].name : NULL;
}

static const char *subject_name(unsigned index)
{
    return index < bench_subjects_count ? bench_subjects[index].name : NULL;
}

static void usage(void)
{
    printf("usage: bench [--full] [--scenario NAME,..] [--subject NAME,..] [--outstanding N,..] [--existing N,..]\n"
           "             [--rounds 3] [--seconds 1] [--warm 0.3] [--dir DIR] [--json FILE]\n\n"
           "Prints what the engine does beside its floors and its peers. REEVE_BIN names the daemon that is started.\n"
           "\nscenarios:\n");
    for (unsigned i = 0; i < bench_scenarios_count; i++)
        printf("  %-12s %s\n", bench_scenarios[i].name, bench_scenarios[i].title);
    printf("\nsubjects:");
    for (unsigned i = 0; i < bench_subjects_count; i++)
        printf(" %s", bench_subjects[i].name);
    printf("\n");
}

/* ---- Values ---- */

static bool is_one_of(const char *(*name)(unsigned), const char *word, size_t size)
{
    const char *known;
    for (unsigned i = 0; (known = name(i)); i++) {
        if (strlen(known) == size && memcmp(known, word, size) == 0)
            return true;
    }
    return false;
}

static int take_names(const char *option, const char *(*name)(unsigned), const char **ret_list)
{
    const char *known;
    for (const char *word = optarg; word; word = strchr(word, ',') ? strchr(word, ',') + 1 : NULL) {
        const size_t size = strcspn(word, ",");
        if (is_one_of(name, word, size))
            continue;
        fprintf(stderr, "bench: --%s: there is no '%.*s'; there are", option, (int)size, word);
        for (unsigned i = 0; (known = name(i)); i++)
            fprintf(stderr, "%s %s", i ? "," : "", known);
        fprintf(stderr, "\n");
        return -1;
    }
    *ret_list = optarg;
    return 0;
}

static int refuse(const char *option, const char *text, double min, double max)
{
    fprintf(stderr, "bench: --%s: '%s' is not a number from %g to %.0f\n", option, text, min, max);
    return -1;
}

static int take_number(const char *option, double min, double max, double *ret_number)
{
    char *end;
    *ret_number = strtod(optarg, &end);
    return end != optarg && *end == '\0' && *ret_number >= min && *ret_number <= max ? 0
                                                                                     : refuse(option, optarg, min, max);
}

/* At most so many of them. */
static int take_numbers(const char *option, uint64_t max, unsigned capacity, uint64_t *ret_numbers)
{
    unsigned count = 0;
    for (char *rest = optarg, *word; (word = strsep(&rest, ","));) {
        char *end;
        const unsigned long long value = strtoull(word, &end, 10);
        if (end == word || *end || value < 1 || value > max)
            return refuse(option, word, 1, (double)max);
        if (count == capacity) {
            fprintf(stderr, "bench: --%s: at most %u of them\n", option, capacity);
            return -1;
        }
        ret_numbers[count++] = value;
    }
    return 0;
}

/* ---- Options ---- */

enum { FULL_EXTENT, SCENARIO, SUBJECT, OUTSTANDING, EXISTING, ROUNDS, SECONDS, WARM, DIRECTORY, JSON, HELP };

static int take_outstanding(struct settings *settings)
{
    uint64_t numbers[COLUMNS_MAX] = {0};
    const int r = take_numbers("outstanding", 100000, COLUMNS_MAX, numbers);
    for (unsigned i = 0; i < COLUMNS_MAX; i++)
        settings->outstanding[i] = (unsigned)numbers[i];
    settings->outstanding_given = true;
    return r;
}

static int take_option(struct settings *settings, int option)
{
    uint64_t rounds = 0;
    int r = 0;
    switch (option) {
    case FULL_EXTENT:
        settings->extent = FULL;
        return 0;
    case SCENARIO:
        return take_names("scenario", scenario_name, &settings->scenarios);
    case SUBJECT:
        return take_names("subject", subject_name, &settings->subjects);
    case OUTSTANDING:
        return take_outstanding(settings);
    case EXISTING:
        settings->existing_given = true;
        return take_numbers("existing", 100000000, COLUMNS_MAX, settings->existing);
    case ROUNDS:
        r = take_numbers("rounds", ROUNDS_MAX, 1, &rounds);
        settings->rounds = (unsigned)rounds;
        return r;
    case SECONDS:
        settings->seconds_given = settings->extent == QUICK; /* --full first: its long scenarios stay long */
        return take_number("seconds", 0.1, 86400, &settings->seconds);
    case WARM:
        return take_number("warm", 0, 86400, &settings->warm_seconds);
    case DIRECTORY:
        snprintf(settings->paths.directory, sizeof settings->paths.directory, "%s/reeve-bench", optarg);
        return 0;
    case JSON:
        settings->json_path = optarg;
        return 0;
    case HELP:
        usage();
        return 1;
    default: /* getopt has said what is wrong */
        fprintf(stderr, "bench --help tells the options\n");
        return -1;
    }
}

int settings_take(struct settings *ret_settings, int argc, char **argv)
{
    static const struct option options[] = {{"full", no_argument, NULL, FULL_EXTENT},
                                            {"scenario", required_argument, NULL, SCENARIO},
                                            {"subject", required_argument, NULL, SUBJECT},
                                            {"outstanding", required_argument, NULL, OUTSTANDING},
                                            {"existing", required_argument, NULL, EXISTING},
                                            {"rounds", required_argument, NULL, ROUNDS},
                                            {"seconds", required_argument, NULL, SECONDS},
                                            {"warm", required_argument, NULL, WARM},
                                            {"dir", required_argument, NULL, DIRECTORY},
                                            {"json", required_argument, NULL, JSON},
                                            {"help", no_argument, NULL, HELP},
                                            {0}};
    int r = 0;
    *ret_settings = (struct settings){.rounds = 3, .seconds = 1, .warm_seconds = 0.3};
    bench_find_paths(&ret_settings->paths);
    for (int c; r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        r = take_option(ret_settings, c);
    if (r == 0 && optind < argc) {
        fprintf(stderr, "bench: '%s' is no option\nbench --help tells the options\n", argv[optind]);
        return -1;
    }
    return r;
}
