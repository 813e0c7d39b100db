/* What is about the store rather than its records: stats, snapshot, check. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

int maintenance_stats(struct cli *cli)
{
    json_t *answer;
    const int r = cli_call(cli, "stats", NULL, &answer);
    if (r == 0)
        output_record(cli, answer);
    json_decref(answer);
    return -r;
}

int maintenance_snapshot(struct cli *cli, const char *path)
{
    char *directory = path[0] == '/' ? NULL : getcwd(NULL, 0);
    json_t *answer, *params = json_object();
    /* The daemon has a working directory of its own. */
    json_object_set_new(params, "path", json_sprintf("%s%s%s", directory ? directory : "", directory ? "/" : "", path));
    const int r = cli_call(cli, "snapshot", params, &answer);
    if (r == 0)
        output_record(cli, answer);
    free(directory);
    json_decref(params);
    json_decref(answer);
    return -r;
}

static void keep_finding(void *arg, const char *line)
{
    json_array_append_new(arg, json_string(line));
}

static json_t *check_directory(const char *directory, struct reeve_error *ret_error)
{
    struct reeve_check_summary summary;
    json_t *findings = json_array();
    if (reeve_check(directory, keep_finding, findings, &summary, ret_error) < 0) {
        json_decref(findings);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "organizations",
                     (json_int_t)summary.organizations, "keys", (json_int_t)summary.keys, "services",
                     (json_int_t)summary.services, "backups", (json_int_t)summary.backups, "events",
                     (json_int_t)summary.events, "queued", (json_int_t)summary.queued, "due", (json_int_t)summary.due,
                     "lastSequence", (json_int_t)summary.last_sequence, "findingsCount", (json_int_t)summary.findings,
                     "findings", findings);
}

/* Takes the answer. */
static int print_findings(const struct cli *cli, json_t *answer)
{
    const json_t *findings = json_object_get(answer, "findings");
    const long long count = json_integer_value(json_object_get(answer, "findingsCount"));
    if (cli->json) {
        output_json(answer);
    } else {
        for (size_t i = 0; i < json_array_size(findings); i++)
            printf("%s\n", json_string_value(json_array_get(findings, i)));
        printf("%lld services, %lld backups, %lld events: ",
               (long long)json_integer_value(json_object_get(answer, "services")),
               (long long)json_integer_value(json_object_get(answer, "backups")),
               (long long)json_integer_value(json_object_get(answer, "events")));
        if (count)
            printf("%lld things are wrong\n", count);
        else
            printf("nothing is wrong\n");
    }
    json_decref(answer);
    return count ? CLI_DAMAGED : CLI_OK;
}

static int check_here(struct cli *cli, const char *directory)
{
    struct reeve_error error;
    json_t *answer = check_directory(directory, &error);
    if (answer)
        return print_findings(cli, answer);
    cli_print_error(cli, &error);
    return CLI_REFUSED;
}

static int print_unreadable(const struct cli *cli, int signal_number)
{
    return print_findings(
        cli, json_pack("{s:I, s:[o]}", "findingsCount", (json_int_t)1, "findings",
                       json_sprintf("the store could not be read to its end: pages are damaged or missing, reading one "
                                    "ended with signal %d (%s)",
                                    signal_number, strsignal(signal_number))));
}

/* In a process of its own: pages without checksums are mapped, and damaged ones may lead LMDB anywhere. */
static int check_apart(struct cli *cli, const char *directory)
{
    static const int deadly[] = {SIGBUS, SIGSEGV, SIGABRT};
    int status;
    fflush(NULL);
    const pid_t child = fork();
    if (child < 0)
        return check_here(cli, directory);
    if (child == 0) {
        for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
            signal(deadly[i], SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        const int r = check_here(cli, directory);
        fflush(NULL);
        _exit(r);
    }
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return CLI_FAILED;
    }
    return WIFSIGNALED(status) ? print_unreadable(cli, WTERMSIG(status)) : WEXITSTATUS(status);
}

int maintenance_check(struct cli *cli, const char *directory)
{
    json_t *answer = NULL;
    if (directory)
        return check_apart(cli, directory);
    const int r = cli_call(cli, "check", NULL, &answer);
    return r < 0 ? -r : print_findings(cli, answer);
}
