/* What the door of a service costs its clients: bytes in bulk, small requests on many connections, and new connections,
 * once straight to a server and once through the door, through the least that could stand in between, and through
 * haproxy where that is installed. `door [ROUNDS] [SECONDS]`; bench/README.md tells what is measured.
 *
 * The server is this process, and so is the program that the daemon asks for it (run with an operation as argument). */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/common.h"
#include "bench/lib/http_daemon.h"

#define CONNECTIONS 64
#define REQUEST_BYTES 64
#define BULK_BYTES 262144
#define HAPROXY "/usr/sbin/haproxy"

/* ---- As the daemon's program ---- */

/* The server is there already: only its port is told. */
static int run_operation(const char *operation)
{
    const char *port = getenv("PORT");
    if (strcmp(operation, "describe") == 0)
        printf("{\"api\": 1, \"name\": \"bench\", \"operations\": [\"provision\", \"stop\", \"delete\"]}\n");
    else
        printf("{\"endpoints\": [{\"protocol\": \"bench\", \"host\": \"127.0.0.1\", \"port\": %s}]}\n", port);
    return 0;
}

/* ---- The server ---- */

/* The first byte says what a connection is for: 'b' is sent bytes without an end, 'e' gets back what it sends. */
static void *serve_one(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char *data = calloc(1, BULK_BYTES), kind = 0;
    ssize_t got = recv(fd, &kind, 1, 0);
    while (kind == 'b' && send(fd, data, BULK_BYTES, MSG_NOSIGNAL) > 0)
        continue;
    while (kind == 'e' && (got = recv(fd, data, BULK_BYTES, 0)) > 0 && send(fd, data, (size_t)got, MSG_NOSIGNAL) == got)
        continue;
    close(fd);
    free(data);
    return NULL;
}

static void *serve(void *arg)
{
    const int listener = *(int *)arg, one = 1;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        pthread_t thread;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, &detached, serve_one, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
    return NULL;
}

/* A socket that listens on a port of the system's choice. */
static int listen_somewhere(unsigned *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 512) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        fprintf(stderr, "bench: cannot listen: %s\n", strerror(errno));
        return -1;
    }
    *ret_port = ntohs(address.sin_port);
    return fd;
}

/* ---- The client ---- */

struct way {
    const char *name;
    unsigned port;
    double gib[ROUNDS_MAX], requests[ROUNDS_MAX], connects[ROUNDS_MAX];
    struct histogram request_latency, connect_latency;
};

static int connect_plain(unsigned port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int connect_to(const struct way *way, char kind)
{
    const int fd = connect_plain(way->port);
    if (fd >= 0 && send(fd, &kind, 1, MSG_NOSIGNAL) == 1)
        return fd;
    fprintf(stderr, "bench: cannot connect (%s): %s\n", way->name, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static double run_bulk(const struct way *way, double seconds)
{
    static char data[BULK_BYTES];
    const int fd = connect_to(way, 'b');
    const uint64_t started_ns = bench_now_ns(), until_ns = started_ns + (uint64_t)(seconds * 1e9);
    uint64_t bytes = 0;
    for (ssize_t got = 1; fd >= 0 && got > 0 && bench_now_ns() < until_ns; bytes += got > 0 ? (uint64_t)got : 0)
        got = recv(fd, data, sizeof data, 0);
    if (fd >= 0)
        close(fd);
    return (double)bytes / (double)(bench_now_ns() - started_ns) * 1e9 / 1073741824;
}

struct caller {
    int fd;
    size_t got;
    uint64_t sent_ns;
};

static bool call(struct caller *caller)
{
    static const char request[REQUEST_BYTES];
    caller->got = 0;
    caller->sent_ns = bench_now_ns();
    return send(caller->fd, request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request;
}

/* True: it is answered, and the next one is under way. */
static bool take_answer(struct caller *caller, struct histogram *latency)
{
    char data[REQUEST_BYTES];
    const ssize_t got = recv(caller->fd, data, sizeof data - caller->got, MSG_DONTWAIT);
    caller->got += got > 0 ? (size_t)got : 0;
    if (caller->got < sizeof data)
        return false;
    histogram_add(latency, bench_now_ns() - caller->sent_ns);
    return call(caller);
}

static double run_requests(struct way *way, double seconds)
{
    struct caller callers[CONNECTIONS];
    struct epoll_event events[CONNECTIONS];
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t answers = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &callers[i]};
        callers[i].fd = connect_to(way, 'e');
        if (callers[i].fd >= 0 && (epoll_ctl(epoll, EPOLL_CTL_ADD, callers[i].fd, &event) < 0 || !call(&callers[i])))
            fprintf(stderr, "bench: a request could not be sent: %s\n", strerror(errno));
    }
    const uint64_t started_ns = bench_now_ns(), until_ns = started_ns + (uint64_t)(seconds * 1e9);
    while (bench_now_ns() < until_ns) {
        const int count = epoll_wait(epoll, events, CONNECTIONS, 1000);
        for (int i = 0; i < count; i++)
            answers += take_answer(events[i].data.ptr, &way->request_latency);
    }
    const double rate = (double)answers / (double)(bench_now_ns() - started_ns) * 1e9;
    for (int i = 0; i < CONNECTIONS; i++)
        close(callers[i].fd);
    close(epoll);
    return rate;
}

/* One after the other: each from connecting to its first answer. */
static double run_connects(struct way *way, double seconds)
{
    const uint64_t started_ns = bench_now_ns(), until_ns = started_ns + (uint64_t)(seconds * 1e9);
    uint64_t answers = 0;
    for (uint64_t now_ns = started_ns; now_ns < until_ns;) {
        char byte;
        struct caller caller = {.fd = connect_to(way, 'e')};
        if (caller.fd < 0 || !call(&caller) || recv(caller.fd, &byte, 1, 0) != 1)
            break;
        close(caller.fd);
        const uint64_t then_ns = now_ns;
        now_ns = bench_now_ns();
        histogram_add(&way->connect_latency, now_ns - then_ns);
        answers++;
    }
    return (double)answers / (double)(bench_now_ns() - started_ns) * 1e9;
}

/* ---- haproxy ---- */

static pid_t start_haproxy(const char *directory, unsigned server_port, unsigned *ret_port)
{
    char path[4200];
    if (access(HAPROXY, X_OK) != 0)
        return -1;
    const int free_port = listen_somewhere(ret_port);
    if (free_port < 0)
        return -1;
    close(free_port);
    snprintf(path, sizeof path, "%s/haproxy.cfg", directory);
    FILE *file = fopen(path, "we");
    if (!file)
        return -1;
    fprintf(file,
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n"
            "  timeout client 1m\n  timeout server 1m\nlisten bench\n  bind 127.0.0.1:%u\n  server one 127.0.0.1:%u\n",
            *ret_port, server_port);
    fclose(file);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execl(HAPROXY, HAPROXY, "-q", "-db", "-f", path, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 1000 && pid > 0; i++) { /* until it listens */
        struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_port = htons((uint16_t)*ret_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const bool there = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (there)
            return pid;
        poll(NULL, 0, 5);
    }
    return pid;
}

/* ---- The least that a process in between can do: a loop that reads and writes, or splices, and nothing else ---- */

struct relayed {
    int from, to;
    bool over;
    struct relayed *back; /* the other way of the same connection */
};

static bool relay_copy(const struct relayed *way, char *data)
{
    const ssize_t got = recv(way->from, data, BULK_BYTES, MSG_DONTWAIT);
    return got > 0 ? send(way->to, data, (size_t)got, MSG_NOSIGNAL) == got : got < 0 && errno == EAGAIN;
}

static void open_pipe(int pipe_fds[2])
{
    if (pipe2(pipe_fds, O_CLOEXEC) < 0 || fcntl(pipe_fds[0], F_SETPIPE_SZ, 1048576) < 0)
        exit(1);
}

static bool relay_splice(const struct relayed *way, int pipe_fds[2])
{
    ssize_t left = splice(way->from, NULL, pipe_fds[1], NULL, BULK_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (left <= 0)
        return left < 0 && errno == EAGAIN;
    for (ssize_t moved = 1; left > 0 && moved > 0; left -= moved)
        moved = splice(pipe_fds[0], NULL, way->to, NULL, (size_t)left, SPLICE_F_MOVE);
    if (left > 0) { /* what is left in it is for nobody */
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        open_pipe(pipe_fds);
    }
    return left == 0;
}

static void relay_accept(int epoll, int listener, const struct way *direct)
{
    const int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    struct relayed *ways = calloc(2, sizeof *ways);
    const int server = connect_plain(direct->port);
    if (client < 0 || server < 0 || !ways)
        exit(1);
    ways[0] = (struct relayed){.from = client, .to = server, .back = &ways[1]};
    ways[1] = (struct relayed){.from = server, .to = client, .back = &ways[0]};
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &ways[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, ways[i].from, &event);
    }
}

/* When the other way has heard of it, too, nothing names the connection any more. */
static void relay_end(int epoll, struct relayed *way)
{
    epoll_ctl(epoll, EPOLL_CTL_DEL, way->from, NULL);
    shutdown(way->from, SHUT_RDWR);
    shutdown(way->to, SHUT_RDWR);
    way->over = true;
    if (!way->back->over)
        return;
    close(way->from);
    close(way->to);
    free(way < way->back ? way : way->back);
}

/* Never returns: it is killed. */
static void relay(int listener, const struct way *direct, bool spliced)
{
    struct epoll_event events[CONNECTIONS], event = {.events = EPOLLIN};
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    char *data = malloc(BULK_BYTES);
    int pipe_fds[2];
    if (epoll < 0 || !data)
        exit(1);
    open_pipe(pipe_fds);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        const int count = epoll_wait(epoll, events, CONNECTIONS, -1);
        for (int i = 0; i < count; i++) {
            struct relayed *way = events[i].data.ptr;
            if (!way) {
                relay_accept(epoll, listener, direct);
            } else if (!(spliced ? relay_splice(way, pipe_fds) : relay_copy(way, data))) {
                relay_end(epoll, way);
            }
        }
    }
}

static pid_t start_relay(const struct way *direct, bool spliced, unsigned *ret_port)
{
    const int listener = listen_somewhere(ret_port);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        relay(listener, direct, spliced);
    }
    close(listener);
    return pid;
}

static void end(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

/* ---- All together ---- */

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

static void tell(struct way *ways, unsigned count, unsigned rounds, double seconds)
{
    const double gib = median(ways[0].gib, rounds), requests = median(ways[0].requests, rounds);
    printf("One bulk connection; %d connections with %d bytes to and fro; new connections one after the other.\n"
           "%u round(s) of %.1f s each, medians\n\n",
           CONNECTIONS, REQUEST_BYTES, rounds, seconds);
    printf("%-8s  %7s  %8s  %10s  %8s  %7s  %7s  %10s  %7s\n", "", "GiB/s", "x direct", "requests/s", "x direct",
           "p50 us", "p99 us", "connects/s", "p50 us");
    for (unsigned i = 0; i < count; i++) {
        struct way *way = &ways[i];
        const double bulk = i ? median(way->gib, rounds) : gib, rate = i ? median(way->requests, rounds) : requests;
        printf("%-8s  %7.2f  %8.2f  %10.0f  %8.2f  %7.0f  %7.0f  %10.0f  %7.0f\n", way->name, bulk, bulk / gib, rate,
               rate / requests, bench_microseconds(&way->request_latency, 0.5),
               bench_microseconds(&way->request_latency, 0.99), median(way->connects, rounds),
               bench_microseconds(&way->connect_latency, 0.5));
    }
}

static int find_door(const struct http_daemon *daemon, unsigned *ret_port)
{
    struct http_caller caller;
    struct http_answer answer;
    char id[37], path[200], request[1500];
    const struct http_request get = {.method = "GET", .path = path, .authorization = daemon->authorization};
    int r = http_caller_open(&caller, daemon);
    if (r == 0 && (r = http_create_service(&caller, daemon, id)) == 0) {
        snprintf(path, sizeof path, "%s/%s", daemon->services_path, id);
        r = http_call(&caller, request, http_request_print(&get, request, sizeof request), &answer);
    }
    const char *port = r == 0 ? memmem(answer.body, answer.body_size, "\"port\":", 7) : NULL;
    *ret_port = port ? (unsigned)strtoul(port + 7, NULL, 10) : 0;
    if (r == 0 && !port)
        fprintf(stderr, "bench: the service has no endpoint\n");
    http_caller_close(&caller);
    return port ? 0 : -1;
}

static void run(struct way *ways, unsigned count, unsigned rounds, double seconds)
{
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < count; i++) {
            ways[i].gib[round] = run_bulk(&ways[i], seconds);
            ways[i].requests[round] = run_requests(&ways[i], seconds);
            ways[i].connects[round] = run_connects(&ways[i], seconds);
        }
    }
    tell(ways, count, rounds, seconds);
}

static int run_all(const struct bench_paths *paths, const char *self, unsigned rounds, double seconds)
{
    char directory[4096], provisioner[4300], range[64];
    struct way ways[] = {
        {.name = "direct"}, {.name = "door"}, {.name = "copying"}, {.name = "splicing"}, {.name = "haproxy"}};
    struct http_daemon daemon = {0};
    pthread_t thread;
    unsigned first;
    int listener = listen_somewhere(&ways[0].port), spare = listen_somewhere(&first);
    close(spare);
    snprintf(directory, sizeof directory, "%s/door", paths->directory);
    if (listener < 0 || bench_make_directory(paths->directory) < 0 || bench_make_fresh(directory) < 0 ||
        pthread_create(&thread, NULL, serve, &listener) != 0)
        return -1;
    snprintf(provisioner, sizeof provisioner, "exec:%s,env.PORT=%u", self, ways[0].port);
    snprintf(range, sizeof range, "127.0.0.1:%u-%u", first, first);
    const char *const arguments[] = {"--door", range, NULL};
    int r = http_daemon_start(&daemon, paths->binary, directory, provisioner, arguments);
    if (r == 0 && (r = find_door(&daemon, &ways[1].port)) == 0) {
        const pid_t copying = start_relay(&ways[0], false, &ways[2].port);
        const pid_t splicing = start_relay(&ways[0], true, &ways[3].port);
        const pid_t haproxy = start_haproxy(directory, ways[0].port, &ways[4].port);
        if (haproxy < 0)
            fprintf(stderr, "bench: haproxy is not installed, and left out\n");
        run(ways, haproxy < 0 ? 4 : 5, rounds, seconds);
        end(copying);
        end(splicing);
        end(haproxy);
    }
    http_daemon_stop(&daemon);
    bench_remove_tree(directory);
    rmdir(paths->directory);
    return r;
}

int main(int argc, char **argv)
{
    if (argc == 2 && argv[1][0] >= 'a' && argv[1][0] <= 'z')
        return run_operation(argv[1]);
    const unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 3;
    const double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    struct bench_paths paths;
    char self[4096];
    const ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (rounds < 1 || rounds > ROUNDS_MAX || seconds <= 0 || size < 0) {
        fprintf(stderr, "usage: door [ROUNDS] [SECONDS]\n");
        return 2;
    }
    self[size] = '\0';
    bench_find_paths(&paths);
    return run_all(&paths, self, rounds, seconds) < 0 ? 1 : 0;
}
