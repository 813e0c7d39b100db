#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "check_private.h"
#include "files.h"
#include "wrapper.h"

#define LOOK_MS 20 /* how often is looked for secrets, orphans and the time to disturb */
#define PROC_BYTES_MAX 131072

static uint64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

/* ---- Looking at processes ---- */

static bool contains(const char *path, const char *text)
{
    char *bytes = malloc(PROC_BYTES_MAX);
    FILE *file = fopen(path, "re");
    const size_t size = bytes && file ? fread(bytes, 1, PROC_BYTES_MAX, file) : 0;
    const bool found = size > 0 && memmem(bytes, size, text, strlen(text));
    if (file)
        fclose(file);
    free(bytes);
    return found;
}

static int is_process(const struct dirent *entry)
{
    return entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
}

/* Calls look for each process but our own; its directory is /proc/NAME. */
static void each_process(void (*look)(void *arg, const char *name), void *arg)
{
    char self[16];
    struct dirent **names = NULL;
    snprintf(self, sizeof self, "%d", (int)getpid());
    const int count = scandir("/proc", &names, is_process, alphasort);
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i]->d_name, self) != 0)
            look(arg, names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

static void look_for_secret(void *arg, const char *name)
{
    struct check *check = arg;
    char path[64];
    static const char *const files[] = {"cmdline", "environ"};
    for (int i = 0; i < 2 && !check->leak[0]; i++) {
        snprintf(path, sizeof path, "/proc/%.16s/%s", name, files[i]);
        if (contains(path, check->secrets[0]) || contains(path, check->secrets[1]))
            snprintf(check->leak, sizeof check->leak, "the %s of process %.16s", i == 0 ? "arguments" : "environment",
                     name);
    }
}

struct count {
    char variable[FILES_PATH_MAX], parent[32];
    unsigned found;
};

static void count_one(void *arg, const char *name)
{
    struct count *count = arg;
    char path[64];
    snprintf(path, sizeof path, "/proc/%.16s/environ", name);
    if (contains(path, count->variable)) {
        count->found++;
        return;
    }
    snprintf(path, sizeof path, "/proc/%.16s/status", name);
    count->found += contains(path, count->parent);
}

unsigned check_processes(const struct check *check)
{
    struct count count = {.found = 0};
    snprintf(count.parent, sizeof count.parent, "\nPPid:\t%d\n", (int)getpid());
    files_path(count.variable, "REEVE_STATE_DIR=%s", check->config.state);
    each_process(count_one, &count);
    return count.found;
}

/* What the program has left behind and what has ended since: a daemon reaps it at once, too. */
static void reap_others(pid_t wrapper)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 || info.si_pid == wrapper)
            return;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

/* ---- One run ---- */

static void wait_for_end(struct check *check, pid_t wrapper, const struct disturbance *disturbance)
{
    const uint64_t started_ms = now_ms();
    bool disturbed = !disturbance || disturbance->number == 0;
    struct pollfd ended = {.fd = pidfd_open(wrapper, 0), .events = POLLIN};
    for (;;) {
        const uint64_t passed_ms = now_ms() - started_ms;
        uint64_t pause_ms = LOOK_MS;
        if (!disturbed && passed_ms >= disturbance->after_ms) {
            kill(wrapper, disturbance->number);
            disturbed = true;
        } else if (!disturbed && disturbance->after_ms - passed_ms < pause_ms) {
            pause_ms = disturbance->after_ms - passed_ms;
        }
        if (poll(&ended, 1, (int)pause_ms) > 0)
            break;
        reap_others(wrapper);
        if (check->secrets[0] && !check->leak[0])
            each_process(look_for_secret, check);
    }
    close(ended.fd);
    waitpid(wrapper, NULL, 0);
    reap_others(0);
}

static void take_log(struct check *check, const char *directory, struct check_run *run)
{
    char path[FILES_PATH_MAX];
    struct buffer raw = {0}, text = {0};
    files_path(path, "%s/" RUN_LOG, directory);
    files_read_end(path, PROC_BYTES_MAX, &raw);
    for (int i = 0; i < 2 && check->secrets[i] && raw.size > 0; i++) {
        if (memmem(raw.data, raw.size, check->secrets[i], strlen(check->secrets[i])))
            snprintf(check->leak, sizeof check->leak, "the log");
    }
    files_append_text(&text, raw.data, raw.size);
    while (text.size > 0 && text.data[text.size - 1] == '\n')
        text.size--;
    const size_t size = text.size < 300 ? text.size : 300;
    if (size > 0)
        snprintf(run->log, sizeof run->log, "%.*s", (int)size, text.data + text.size - size);
    for (char *at = run->log; *at; at++)
        *at = *at == '\n' ? '|' : *at;
    buffer_deinit(&raw);
    buffer_deinit(&text);
}

void check_run(struct check *check, const char *operation, const char *input, const struct disturbance *disturbance,
               struct check_run *ret_run)
{
    char directory[FILES_PATH_MAX], path[FILES_PATH_MAX];
    *ret_run = (struct check_run){.started = false};
    files_path(directory, "%s/runs/check-%u", check->config.state, ++check->runs);
    files_path(path, "%s/" RUN_REQUEST, directory);
    files_remove(directory);
    const uint64_t started_ms = now_ms();
    pid_t wrapper = -1;
    if (files_make_directories(directory) == 0 && files_write(path, input, strlen(input), false))
        wrapper = wrapper_start(&check->config, directory, operation, check->timeout_ms);
    if (wrapper > 0)
        wait_for_end(check, wrapper, disturbance);
    ret_run->started = wrapper > 0;
    ret_run->duration_ms = now_ms() - started_ms;
    answer_read(&ret_run->answer, directory);
    ret_run->was_killed = strncmp(ret_run->answer.end, "signal 9 ", 9) == 0;
    take_log(check, directory, ret_run);
    files_remove(directory);
}

void check_run_free(struct check_run *run)
{
    answer_free(&run->answer);
}
