#include "wrapper.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "files.h"

#define LOOK_MS 1000                /* how often the size of the output is looked at */
#define OUTPUT_BYTES_MAX (64 << 20) /* of each file: what writes more without an end is stopped */
#define OPEN_FILES 1024             /* soft limit; the hard one stays */
#define NEVER UINT64_MAX

struct watch {
    pid_t pid; /* of the program, and its process group */
    uint64_t deadline_ms, kill_ms;
    const char *ended; /* why it was ended from outside; NULL: it was not */
    int exec_errno;    /* it could not be started */
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- The program ---- */

static bool put_at(int wanted, const char *path, int flags)
{
    const int fd = open(path, flags, 0600);
    if (fd < 0 || fd == wanted)
        return fd >= 0;
    const bool done = dup2(fd, wanted) >= 0;
    close(fd);
    return done;
}

/* What the daemon has changed for itself: signals that it ignores, and many open files, which programs that go through
 * all their descriptors do not expect. */
static void restore_defaults(void)
{
    struct rlimit files;
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > OPEN_FILES) {
        files.rlim_cur = OPEN_FILES;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* In the child, up to the program. Files, not pipes: nothing breaks when the daemon is gone. */
static void become(const char *program, const char *operation, pid_t parent, int report)
{
    char *const arguments[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)operation, NULL};
    const bool reads = strcmp(operation, "describe") != 0;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* without its wrapper nobody would know how it ended */
    if (getppid() == parent && put_at(0, reads ? RUN_REQUEST : "/dev/null", O_RDONLY) &&
        put_at(1, RUN_OUT, O_WRONLY | O_CREAT | O_TRUNC) && put_at(2, RUN_LOG, O_WRONLY | O_CREAT | O_APPEND) &&
        put_at(3, RUN_PROGRESS, O_WRONLY | O_CREAT | O_APPEND)) {
        restore_defaults();
        execv(program, arguments);
    }
    const int problem = errno;
    if (write(report, &problem, sizeof problem) < 0)
        _exit(126);
    _exit(127);
}

/* The report of the child is closed by a successful exec. It stands out of the way of the program's descriptors. */
static void start(struct watch *watch, const char *program, const char *operation)
{
    int report[2];
    const pid_t self = getpid();
    if (pipe2(report, O_CLOEXEC) < 0) {
        watch->exec_errno = errno;
        return;
    }
    const int end = fcntl(report[1], F_DUPFD_CLOEXEC, 10);
    close(report[1]);
    watch->pid = end < 0 ? -1 : fork();
    if (watch->pid == 0)
        become(program, operation, self, end);
    if (watch->pid < 0)
        watch->exec_errno = errno;
    close(end);
    if (watch->pid > 0) {
        setpgid(watch->pid, watch->pid);
        if (read(report[0], &watch->exec_errno, sizeof watch->exec_errno) != sizeof watch->exec_errno)
            watch->exec_errno = 0;
    }
    close(report[0]);
}

/* ---- Watching it ---- */

static void end(struct watch *watch, const char *why)
{
    if (watch->ended)
        return;
    watch->ended = why;
    watch->kill_ms = now_ms() + WRAPPER_GRACE_MS;
    kill(-watch->pid, SIGTERM);
    kill(-watch->pid, SIGCONT); /* a stopped one takes no notice */
}

static bool is_too_much(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_size > OUTPUT_BYTES_MAX;
}

static void look(struct watch *watch)
{
    const uint64_t now = now_ms();
    if (now >= watch->kill_ms) {
        kill(-watch->pid, SIGKILL);
        watch->kill_ms = now + LOOK_MS;
    }
    if (now >= watch->deadline_ms)
        end(watch, "deadline");
    if (is_too_much(RUN_OUT) || is_too_much(RUN_LOG) || is_too_much(RUN_PROGRESS))
        end(watch, "output");
}

static struct timespec pause_of(const struct watch *watch)
{
    const uint64_t now = now_ms();
    uint64_t until = now + LOOK_MS;
    if (!watch->ended && watch->deadline_ms < until)
        until = watch->deadline_ms;
    if (watch->kill_ms < until)
        until = watch->kill_ms;
    const uint64_t left = until > now ? until - now : 0;
    return (struct timespec){.tv_sec = (time_t)(left / 1000), .tv_nsec = (long)(left % 1000) * 1000000};
}

/* Has the program ended? Others that have are reaped on the way: what the program's processes leave behind is ours as
 * long as we are there. The program itself is left to be reaped later. */
static bool has_ended(const struct watch *watch)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == watch->pid)
            return true;
        if (info.si_pid == 0)
            return false;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

/* Returns the wait status. As long as the dead program is not reaped its number is its own, and so is its group.
 * Nothing of the group works on when this returns: who hears of the end may run the next program. */
static int wait_for_end(struct watch *watch, const sigset_t *signals)
{
    int status = 0;
    while (!has_ended(watch)) {
        const struct timespec pause = pause_of(watch);
        const int number = sigtimedwait(signals, NULL, &pause);
        if (number == SIGTERM || number == SIGINT)
            end(watch, "terminated");
        else if (number == SIGQUIT)
            kill(-watch->pid, SIGKILL);
        look(watch);
    }
    kill(-watch->pid, SIGKILL); /* what it left behind without a session of its own */
    waitpid(watch->pid, &status, 0);
    while (waitpid(-watch->pid, NULL, 0) > 0)
        ;
    return status;
}

/* ---- All of it ---- */

static bool write_result(const struct watch *watch, int status)
{
    json_t *result = json_object();
    if (watch->exec_errno)
        json_object_set_new(result, "cannotRun", json_string(strerror(watch->exec_errno)));
    else if (WIFSIGNALED(status))
        json_object_set_new(result, "signal", json_integer(WTERMSIG(status)));
    else
        json_object_set_new(result, "exit", json_integer(WEXITSTATUS(status)));
    if (watch->ended)
        json_object_set_new(result, "ended", json_string(watch->ended));
    const bool done = files_write_json(RUN_RESULT, result, true);
    json_decref(result);
    return done;
}

/* These are waited for instead of being delivered. */
static void block_signals(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGCHLD);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGQUIT);
    sigaddset(ret_signals, SIGHUP);
    sigprocmask(SIG_BLOCK, ret_signals, NULL);
}

int wrapper_main(int argc, char **argv)
{
    char go;
    sigset_t signals;
    if (argc != 4)
        return 2;
    umask(077);
    closefrom(3);
    if (read(STDIN_FILENO, &go, 1) != 1)
        return 0; /* the daemon died before it had written down who runs here */
    block_signals(&signals);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct watch watch = {.deadline_ms = now_ms() + strtoull(argv[1], NULL, 10), .kill_ms = NEVER};
    start(&watch, argv[2], argv[3]);
    const int status = watch.pid > 0 ? wait_for_end(&watch, &signals) : 0;
    return write_result(&watch, status) ? 0 : 1;
}

/* ---- Starting one without a loop ---- */

static void become_wrapper(char *const *arguments, char *const *environment, const char *run_directory, int gate)
{
    const int nothing = open("/dev/null", O_RDWR);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (nothing >= 0 && dup2(gate, 0) == 0 && dup2(nothing, 1) == 1 && dup2(nothing, 2) == 2 &&
        chdir(run_directory) == 0)
        execve("/proc/self/exe", arguments, environment);
    _exit(127);
}

pid_t wrapper_start(const struct exec_config *config, const char *run_directory, const char *operation,
                    unsigned long long timeout_ms)
{
    char timeout[24];
    int gate[2];
    snprintf(timeout, sizeof timeout, "%llu", timeout_ms);
    char *const arguments[] = {(char *)(uintptr_t) "reeve",
                               (char *)(uintptr_t) "exec-run",
                               timeout,
                               config->program,
                               (char *)(uintptr_t)operation,
                               NULL};
    char **environment = config_environment(config, run_directory);
    if (!environment || pipe2(gate, O_CLOEXEC) < 0) {
        free(environment);
        return -1;
    }
    const bool open = write(gate[1], "g", 1) == 1;
    const pid_t pid = open ? fork() : -1;
    if (pid == 0)
        become_wrapper(arguments, environment, run_directory, gate[0]);
    close(gate[0]);
    close(gate[1]);
    free(environment);
    return pid;
}
