#include "http_daemon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- The daemon ---- */

/* A port that is free now. */
static int find_port(struct sockaddr_in *ret_address)
{
    socklen_t size = sizeof *ret_address;
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int r = fd >= 0 && bind(fd, (struct sockaddr *)ret_address, sizeof *ret_address) == 0
                      ? getsockname(fd, (struct sockaddr *)ret_address, &size)
                      : -1;
    if (fd >= 0)
        close(fd);
    return r;
}

#define ARGUMENTS_MAX 32

static void run_daemon(const struct http_daemon *daemon, const char *binary, const char *directory,
                       const char *provisioner, const char *const *arguments)
{
    char address[32];
    const char *const fixed[] = {binary,  "serve",         "--data",    directory,     "--dev",  "--http",
                                 address, "--provisioner", provisioner, "--log-level", "warning"};
    const char *all[ARGUMENTS_MAX + 1] = {NULL};
    unsigned count = sizeof fixed / sizeof fixed[0];
    memcpy(all, fixed, sizeof fixed);
    while (*arguments && count < ARGUMENTS_MAX)
        all[count++] = *arguments++;
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(daemon->address.sin_port));
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* What it greets with would stand between the figures. */
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nowhere, STDOUT_FILENO);
    execv(binary, (char *const *)(uintptr_t)all);
    fprintf(stderr, "bench: cannot run %s: %s\n", binary, strerror(errno));
    _exit(127);
}

/* Lines are: export NAME='value' */
static void take_line(struct http_daemon *daemon, const char *line, char ret_key[2][128])
{
    static const char *const names[] = {"REEVE_ORG_ID", "REEVE_KEY_ID", "REEVE_KEY_SECRET"};
    char *const values[] = {daemon->organization_id, ret_key[0], ret_key[1]};
    const size_t sizes[] = {sizeof daemon->organization_id, 128, 128};
    for (int i = 0; i < 3; i++) {
        const char *value = strstr(line, names[i]);
        if (value && value[strlen(names[i])] == '=') {
            value += strlen(names[i]) + 2;
            snprintf(values[i], sizes[i], "%.*s", (int)strcspn(value, "'\n"), value);
        }
    }
}

static bool read_environment(struct http_daemon *daemon, const char *directory)
{
    char path[4300], line[1024], key[2][128] = {"", ""}, pair[258];
    snprintf(path, sizeof path, "%s/dev.env", directory);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    while (fgets(line, sizeof line, file))
        take_line(daemon, line, key);
    fclose(file);
    const int size = snprintf(pair, sizeof pair, "%s:%s", key[0], key[1]);
    strcpy(daemon->authorization, "Basic ");
    sodium_bin2base64(daemon->authorization + 6, sizeof daemon->authorization - 6, (const unsigned char *)pair,
                      (size_t)size, sodium_base64_VARIANT_ORIGINAL);
    snprintf(daemon->services_path, sizeof daemon->services_path, "/v1/organizations/%s/services",
             daemon->organization_id);
    return key[0][0] && key[1][0] && daemon->organization_id[0];
}

static int wait_until_ready(struct http_daemon *daemon, const char *directory)
{
    for (int i = 0; i < 2000; i++) {
        const int fd = read_environment(daemon, directory) ? http_connect(daemon) : -1;
        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if (waitpid(daemon->pid, NULL, WNOHANG) == daemon->pid) {
            daemon->pid = 0;
            break;
        }
        poll(NULL, 0, 5);
    }
    fprintf(stderr, "bench: the daemon does not serve HTTP\n");
    return -1;
}

int http_daemon_start(struct http_daemon *daemon, const char *binary, const char *directory, const char *provisioner,
                      const char *const *arguments)
{
    *daemon = (struct http_daemon){0};
    if (find_port(&daemon->address) < 0) {
        fprintf(stderr, "bench: no free port: %s\n", strerror(errno));
        return -1;
    }
    daemon->pid = fork();
    if (daemon->pid == 0)
        run_daemon(daemon, binary, directory, provisioner, arguments);
    return daemon->pid > 0 ? wait_until_ready(daemon, directory) : -1;
}

void http_daemon_stop(struct http_daemon *daemon)
{
    if (daemon->pid <= 0)
        return;
    kill(daemon->pid, SIGTERM);
    waitpid(daemon->pid, NULL, 0);
    daemon->pid = 0;
}

uint64_t http_daemon_memory(const struct http_daemon *daemon, const char *kind)
{
    char path[64], line[256];
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)daemon->pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, kind, strlen(kind)) == 0)
            bytes = strtoull(line + strlen(kind) + 1, NULL, 10) * 1024;
    }
    if (file)
        fclose(file);
    return bytes;
}

/* ---- The client ---- */

int http_connect(const struct http_daemon *daemon)
{
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&daemon->address, sizeof daemon->address) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0)
        return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int http_caller_open(struct http_caller *caller, const struct http_daemon *daemon)
{
    caller->size = 0;
    caller->fd = http_connect(daemon);
    if (caller->fd < 0)
        fprintf(stderr, "bench: cannot connect: %s\n", strerror(errno));
    return caller->fd < 0 ? -1 : 0;
}

void http_caller_close(struct http_caller *caller)
{
    if (caller->fd >= 0)
        close(caller->fd);
    caller->fd = -1;
}

int http_call(struct http_caller *caller, const char *request, size_t size, struct http_answer *ret_answer)
{
    ssize_t parsed = 0;
    caller->size = 0;
    if (send(caller->fd, request, size, MSG_NOSIGNAL) != (ssize_t)size) {
        fprintf(stderr, "bench: a request could not be sent: %s\n", strerror(errno));
        return -1;
    }
    while (parsed == 0) {
        const ssize_t got = recv(caller->fd, caller->data + caller->size, sizeof caller->data - caller->size - 1, 0);
        if (got <= 0) {
            fprintf(stderr, "bench: disconnected before an answer\n");
            return -1;
        }
        caller->size += (size_t)got;
        caller->data[caller->size] = '\0';
        parsed = http_answer_parse(caller->data, caller->size, ret_answer);
    }
    return parsed > 0 && http_answer_check(ret_answer, "a request") ? 0 : -1;
}

const char *const http_daemon_simulated = "simulated:delay-ms=0..0";
const char *const http_daemon_unlimited[] = {
    "--operations-max", "16384", "--operations-per-org-max", "16384", "--map-initial-bytes", "1073741824", NULL};

int http_create_service(struct http_caller *caller, const struct http_daemon *daemon, char ret_id[37])
{
    char text[1500];
    struct http_answer answer;
    const struct http_request request = {
        .method = "POST",
        .path = daemon->services_path,
        .authorization = daemon->authorization,
        .wait = true,
        .body = "{\"name\":\"bench\",\"provider\":\"aws\",\"region\":\"us-east-1\",\"tier\":\"production\","
                "\"ipAccessList\":[{\"source\":\"127.0.0.1\"}]}"};
    const size_t size = http_request_print(&request, text, sizeof text);
    if (size == 0 || http_call(caller, text, size, &answer) < 0)
        return -1;
    if (http_answer_text(&answer, "id", ret_id, 37))
        return 0;
    fprintf(stderr, "bench: no service in the answer\n");
    return -1;
}
