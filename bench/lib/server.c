#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/common.h"

#define NOBODY 65534 /* user and group */

bool server_find(const char *name, const char *pattern, char *ret_path, size_t size)
{
    char list[4096];
    glob_t found;
    if (pattern && glob(pattern, 0, NULL, &found) == 0) {
        snprintf(ret_path, size, "%s", found.gl_pathv[found.gl_pathc - 1]); /* the newest version */
        globfree(&found);
        return access(ret_path, X_OK) == 0;
    }
    snprintf(list, sizeof list, "%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    for (char *rest = list, *one; (one = strsep(&rest, ":"));) {
        if (snprintf(ret_path, size, "%s/%s", one, name) < (int)size && access(ret_path, X_OK) == 0)
            return true;
    }
    return false;
}

/* ---- Processes ---- */

int server_give(const char *directory)
{
    return geteuid() == 0 && chown(directory, NOBODY, NOBODY) < 0 ? bench_complain(directory, strerror(errno)) : 0;
}

static void become(enum server_user user)
{
    if (user != SERVER_UNPRIVILEGED || geteuid() != 0)
        return;
    if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
        _exit(126);
}

static pid_t run(const char *const *arguments, enum server_user user, int output, int errors)
{
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    become(user);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(output, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    if (chdir("/") == 0)
        execv(arguments[0], (char *const *)(uintptr_t)arguments);
    fprintf(stderr, "bench: cannot run %s: %s\n", arguments[0], strerror(errno));
    _exit(127);
}

int server_start(struct server *server, const char *const *arguments, enum server_user user, const char *directory)
{
    char log[4200];
    snprintf(log, sizeof log, "%s.log", directory);
    const int output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (output < 0)
        return bench_complain(log, strerror(errno));
    server->pid = run(arguments, user, output, output);
    close(output);
    return server->pid > 0 ? 0 : bench_complain(arguments[0], strerror(errno));
}

void server_stop(struct server *server, int signal)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, signal);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

bool server_succeeds(const char *const *arguments)
{
    int status = -1;
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const pid_t pid = run(arguments, SERVER_SAME_USER, nowhere, nowhere);
    close(nowhere);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int server_call(const char *const *arguments, enum server_user user, char *ret_text, size_t size)
{
    int ends[2], status = -1;
    size_t got = 0;
    char rest[4096];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return bench_complain(arguments[0], strerror(errno));
    const pid_t pid = run(arguments, user, ends[1], ends[1]);
    close(ends[1]);
    for (ssize_t n = 1; n > 0;) {
        n = got + 1 < size ? read(ends[0], ret_text + got, size - got - 1) : read(ends[0], rest, sizeof rest);
        if (n > 0 && got + 1 < size)
            got += (size_t)n;
    }
    ret_text[got] = '\0';
    close(ends[0]);
    if (pid > 0)
        waitpid(pid, &status, 0);
    if (status == 0)
        return 0;
    fprintf(stderr, "bench: %s failed:\n%s\n", arguments[0], ret_text);
    return -1;
}

int server_version(const char *path, char *ret_text, size_t size)
{
    const int r = server_call((const char *[]){path, "--version", NULL}, SERVER_SAME_USER, ret_text, size);
    ret_text[strcspn(ret_text, "\n")] = '\0';
    return r;
}

/* ---- Sockets ---- */

static int connect_to(const struct sockaddr *address, socklen_t size)
{
    const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, address, size) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int server_connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return connect_to((const struct sockaddr *)&address, sizeof address);
}

static struct sockaddr_in address_of(unsigned port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
}

int server_connect_port(unsigned port)
{
    const struct sockaddr_in address = address_of(port);
    return connect_to((const struct sockaddr *)&address, sizeof address);
}

unsigned server_free_port(void)
{
    struct sockaddr_in address = address_of(0);
    socklen_t size = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        address.sin_port = 0;
    if (fd >= 0)
        close(fd);
    return ntohs(address.sin_port);
}

/* A minute at the most. */
int server_wait(struct server *server, int (*connect)(void *arg), void *arg)
{
    for (int i = 0; i < 6000; i++) {
        const int fd = connect(arg);
        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
            server->pid = 0;
            return bench_complain("a server", "ended at once; its log is beside its directory");
        }
        poll(NULL, 0, 10);
    }
    return bench_complain("a server", "does not answer");
}
