#include "check.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "check_private.h"
#include "files.h"

#define ROUNDS_MAX 100

static const char usage[] =
    "usage: reeve provisioner check PROGRAM [flags]\n\n"
    "Does a plugin keep to docs/provisioners.md? Runs it as `reeve serve --provisioner exec:PROGRAM` would, without a\n"
    "daemon: each operation twice and once more, killed at random moments and run again, with bad input, out of "
    "time.\n\n"
    "  --state DIR            its state directory; default: a new one, removed when all is well\n"
    "  --backups DIR          where backups go; default STATE/backups\n"
    "  --env NAME=VALUE       in its environment; may be repeated\n"
    "  --rounds N             kill each operation so many times (default 3)\n"
    "  --seed N               of the moments to kill at (default: another one each time)\n"
    "  --timeout SECONDS      one run may take so long (default 60)\n\n"
    "Exit codes: 0 all passed, 1 something failed, 2 usage.\n";

/* ---- The report ---- */

void check_line(struct check *check, bool good, const char *format, ...)
{
    va_list arguments;
    check->passed += good;
    check->failed += !good;
    printf("%s  ", good ? "ok  " : "FAIL");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

void check_skip(struct check *check, const char *format, ...)
{
    va_list arguments;
    check->skipped++;
    printf("skip  ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

uint64_t check_random(struct check *check)
{
    uint64_t x = check->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* ---- Flags ---- */

struct arguments {
    const char *program;
    char *spec; /* as for --provisioner */
    bool own_state, help;
};

static bool take_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number < min || number > max)
        return false;
    *ret = number;
    return true;
}

/* Append ",KEYVALUE" to the spec. */
static bool extend(struct arguments *arguments, const char *key, const char *value)
{
    char *longer;
    if (strchr(value, ',') || asprintf(&longer, "%s,%s%s", arguments->spec ? arguments->spec : "", key, value) < 0)
        return false;
    free(arguments->spec);
    arguments->spec = longer;
    return true;
}

static bool take_flag(struct check *check, struct arguments *arguments, const char *flag, const char *value)
{
    if (strcmp(flag, "--rounds") == 0)
        return take_number(value, 0, ROUNDS_MAX, &check->rounds);
    if (strcmp(flag, "--seed") == 0)
        return take_number(value, 0, UINT64_MAX, &check->seed);
    if (strcmp(flag, "--timeout") == 0 && take_number(value, 1, 86400, &check->timeout_ms)) {
        check->timeout_ms *= 1000;
        return true;
    }
    if (strcmp(flag, "--state") == 0) {
        arguments->own_state = false;
        return extend(arguments, "state=", value);
    }
    if (strcmp(flag, "--backups") == 0)
        return extend(arguments, "backups=", value);
    return strcmp(flag, "--env") == 0 && extend(arguments, "env.", value);
}

static bool take_arguments(struct check *check, struct arguments *arguments, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            arguments->help = true;
            return true;
        }
        if (strncmp(argv[i], "--", 2) == 0) {
            if (i + 1 >= argc || !take_flag(check, arguments, argv[i], argv[i + 1])) {
                fprintf(stderr, "reeve: %s is not known, or its value is not\n", argv[i]);
                return false;
            }
            i++;
        } else if (arguments->program || !*argv[i] || strchr(argv[i], ',')) {
            fprintf(stderr, "reeve: '%s' is not understood: one program is checked\n", argv[i]);
            return false;
        } else {
            arguments->program = argv[i];
        }
    }
    return arguments->program != NULL;
}

/* ---- All of it ---- */

static int check_program(struct check *check, const struct arguments *arguments, const char *directory)
{
    struct reeve_error error = {0};
    char *spec;
    if (asprintf(&spec, "%s%s", arguments->program, arguments->spec ? arguments->spec : "") < 0)
        return 1;
    int r = config_read(&check->config, spec, directory, &error);
    free(spec);
    if (r == 0) {
        printf("%s, state in %s, seed %llu\n", check->config.program, check->config.state,
               (unsigned long long)check->seed);
        fflush(stdout);
        r = describe_program(&check->config, &check->description, &error);
        if (r == 0)
            check_suite(check);
        else
            check_line(check, false, "%s", error.message);
    } else {
        check_line(check, false, "%s: %s", error.field, error.message);
    }
    printf("%u passed, %u failed", check->passed, check->failed);
    printf(check->skipped ? ", %u skipped\n" : "\n", check->skipped);
    description_free(&check->description);
    config_free(&check->config);
    return check->failed ? 1 : 0;
}

int provisioner_main(int argc, char **argv)
{
    char directory[] = "/tmp/reeve-check-XXXXXX";
    struct check check = {.rounds = 3, .timeout_ms = 60000, .seed = (uint64_t)time(NULL)};
    struct arguments arguments = {.own_state = true};
    if (argc < 2 || strcmp(argv[1], "check") != 0 || !take_arguments(&check, &arguments, argc - 2, argv + 2)) {
        free(arguments.spec);
        fprintf(argc > 1 && strcmp(argv[1], "--help") == 0 ? stdout : stderr, "%s", usage);
        return argc > 1 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    if (arguments.help || (arguments.own_state && !mkdtemp(directory))) {
        free(arguments.spec);
        if (!arguments.help)
            perror("reeve: cannot make a directory in /tmp");
        else
            printf("%s", usage);
        return arguments.help ? 0 : 1;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* as a daemon */
    check.random = check.seed;
    const int code = check_program(&check, &arguments, directory);
    if (arguments.own_state && code == 0)
        files_remove(directory);
    free(arguments.spec);
    return code;
}
