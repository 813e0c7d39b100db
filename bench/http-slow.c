/* What ten thousand clients that send one byte of a head per second do to another client, and to the memory of the
 * daemon. `http-slow [CONNECTIONS] [SECONDS]`; bench/README.md tells what is measured. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/common.h"
#include "bench/lib/http_daemon.h"

#define GETS_PER_SECOND 500
#define TICKS_PER_SECOND 100
#define HEAD_BYTES 4000 /* longer than any run: a head that ended would be answered */

struct slow {
    const struct http_daemon *daemon;
    unsigned wanted, open, lost;
    int *fds; /* -1: lost */
    int epoll;
    size_t *sent;
    char head[HEAD_BYTES];
    atomic_bool stopping;
};

struct memory {
    uint64_t resident, anonymous;
};

struct part {
    const char *name;
    struct histogram latency;
    struct memory memory;
};

/* ---- The slow ones ---- */

static void make_head(struct slow *slow)
{
    const int size = snprintf(slow->head, sizeof slow->head,
                              "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", slow->daemon->services_path);
    memset(slow->head + size, 'x', sizeof slow->head - (size_t)size);
}

static int open_one(struct slow *slow, unsigned index)
{
    const int fd = http_connect(slow->daemon);
    /* Whoever is disconnected is told of by epoll; nothing else should come. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = index};
    slow->fds[index] = fd;
    if (fd < 0 || epoll_ctl(slow->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        fprintf(stderr, "bench: %u slow connections could be opened: %s\n", index, strerror(errno));
        return -1;
    }
    slow->open++;
    return 0;
}

static int open_all(struct slow *slow)
{
    for (unsigned i = 0; i < slow->wanted; i++)
        slow->fds[i] = -1;
    for (unsigned i = 0; i < slow->wanted; i++) {
        if (open_one(slow, i) < 0)
            return -1;
    }
    return 0;
}

static void lose(struct slow *slow, unsigned index)
{
    close(slow->fds[index]);
    slow->fds[index] = -1;
    slow->open--;
    slow->lost++;
}

static void send_byte(struct slow *slow, unsigned index)
{
    if (slow->fds[index] < 0 || slow->sent[index] == sizeof slow->head)
        return;
    if (send(slow->fds[index], slow->head + slow->sent[index], 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
        slow->sent[index]++;
    else
        lose(slow, index);
}

/* Looks after connections that ended until it is time. */
static void wait_until(struct slow *slow, uint64_t until_ns)
{
    struct epoll_event events[256];
    for (uint64_t now_ns; (now_ns = bench_now_ns()) < until_ns;) {
        const int count = epoll_wait(slow->epoll, events, 256, (int)((until_ns - now_ns) / 1000000) + 1);
        for (int i = 0; i < count; i++) {
            if (slow->fds[events[i].data.u32] >= 0)
                lose(slow, events[i].data.u32);
        }
    }
}

/* In each tick it is the turn of another part of them, so that every one sends once in a second. */
static void *run_slow(void *arg)
{
    struct slow *slow = arg;
    uint64_t next_ns = bench_now_ns();
    for (unsigned tick = 0; !atomic_load(&slow->stopping); tick = (tick + 1) % TICKS_PER_SECOND) {
        for (unsigned i = tick; i < slow->wanted; i += TICKS_PER_SECOND)
            send_byte(slow, i);
        next_ns += UINT64_C(1000000000) / TICKS_PER_SECOND;
        wait_until(slow, next_ns);
    }
    return NULL;
}

static void close_all(struct slow *slow)
{
    for (unsigned i = 0; i < slow->wanted; i++) {
        if (slow->fds[i] >= 0)
            close(slow->fds[i]);
    }
}

/* ---- The other client ---- */

static void sleep_until(uint64_t ns)
{
    const struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
        continue;
}

/* Latency counts from when a request was to be sent: one that is late because the answer before it was late shows. */
static int get_paced(struct http_caller *caller, const char *request, double seconds, struct histogram *ret_latency)
{
    const size_t size = strlen(request);
    const uint64_t started_ns = bench_now_ns(), count = (uint64_t)(seconds * GETS_PER_SECOND);
    struct http_answer answer;
    *ret_latency = (struct histogram){0};
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t intended_ns = started_ns + i * 1000000000 / GETS_PER_SECOND;
        sleep_until(intended_ns);
        if (http_call(caller, request, size, &answer) < 0)
            return -1;
        histogram_add(ret_latency, bench_now_ns() - intended_ns);
    }
    return 0;
}

static struct memory memory_of(const struct http_daemon *daemon)
{
    return (struct memory){http_daemon_memory(daemon, "VmRSS"), http_daemon_memory(daemon, "RssAnon")};
}

/* ---- Parts: without, with, after ---- */

struct bench {
    const struct http_daemon *daemon;
    double seconds;
    struct http_caller caller;
    char request[1500];
    struct part parts[3];
    unsigned lost;
};

static int run_part(struct bench *bench, struct part *part)
{
    struct histogram warm;
    if (get_paced(&bench->caller, bench->request, 1, &warm) < 0 ||
        get_paced(&bench->caller, bench->request, bench->seconds, &part->latency) < 0)
        return -1;
    part->memory = memory_of(bench->daemon);
    return 0;
}

static int run_among(struct bench *bench, struct slow *slow)
{
    pthread_t thread;
    if (open_all(slow) < 0 || pthread_create(&thread, NULL, run_slow, slow) != 0)
        return -1;
    const int r = run_part(bench, &bench->parts[1]);
    atomic_store(&slow->stopping, true);
    pthread_join(thread, NULL);
    bench->lost = slow->lost;
    return r;
}

static int run_with_slow(struct bench *bench, unsigned connections)
{
    struct slow *slow = calloc(1, sizeof *slow);
    int r = -1;
    if (slow) {
        slow->daemon = bench->daemon;
        slow->wanted = connections;
        slow->fds = calloc(connections, sizeof *slow->fds);
        slow->sent = calloc(connections, sizeof *slow->sent);
        slow->epoll = epoll_create1(EPOLL_CLOEXEC);
    }
    if (slow && slow->fds && slow->sent && slow->epoll >= 0) {
        make_head(slow);
        r = run_among(bench, slow);
        close_all(slow);
        close(slow->epoll);
    }
    if (slow) {
        free(slow->fds);
        free(slow->sent);
    }
    free(slow);
    return r;
}

static int set_up(struct bench *bench)
{
    char id[37], path[200];
    struct http_request request = {.method = "GET", .path = path, .authorization = bench->daemon->authorization};
    if (http_caller_open(&bench->caller, bench->daemon) < 0 ||
        http_create_service(&bench->caller, bench->daemon, id) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/%s", bench->daemon->services_path, id);
    return http_request_print(&request, bench->request, sizeof bench->request) ? 0 : -1;
}

static int run(struct bench *bench, unsigned connections)
{
    int r = set_up(bench);
    if (r == 0)
        r = run_part(bench, &bench->parts[0]);
    if (r == 0)
        r = run_with_slow(bench, connections);
    if (r == 0)
        r = run_part(bench, &bench->parts[2]);
    http_caller_close(&bench->caller);
    return r;
}

/* ---- Telling ---- */

static void tell(const struct bench *bench, unsigned connections)
{
    const struct part *parts = bench->parts;
    printf("GET of one service, %d per second on one connection, latency from when it was to be sent; %.0f s each\n\n",
           GETS_PER_SECOND, bench->seconds);
    printf("%-22s  %8s  %8s  %9s  %9s\n", "", "p50 us", "p99 us", "RSS MiB", "anon MiB");
    for (int i = 0; i < 3; i++)
        printf("%-22s  %8.0f  %8.0f  %9.1f  %9.1f\n", parts[i].name, bench_microseconds(&parts[i].latency, 0.5),
               bench_microseconds(&parts[i].latency, 0.99), (double)parts[i].memory.resident / 1048576,
               (double)parts[i].memory.anonymous / 1048576);
    printf("\np99 with / without: %.2f; memory of a slow connection: %.1f KiB; slow connections lost: %u of %u\n",
           bench_microseconds(&parts[1].latency, 0.99) / bench_microseconds(&parts[0].latency, 0.99),
           (double)(parts[1].memory.anonymous - parts[0].memory.anonymous) / 1024 / connections, bench->lost,
           connections);
}

/* For connections, and those few that a process has besides; the daemon inherits it. */
static int raise_limit(unsigned connections)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlim_t wanted = connections + 200;
    if (limit.rlim_cur >= wanted)
        return 0;
    limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    fprintf(stderr, "bench: no more than %llu files may be open here: give fewer connections\n",
            (unsigned long long)limit.rlim_max);
    return -1;
}

int main(int argc, char **argv)
{
    const unsigned connections = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10000;
    struct bench bench = {.seconds = argc > 2 ? strtod(argv[2], NULL) : 10,
                          .parts = {{.name = "without"}, {.name = "with slow ones"}, {.name = "after they have gone"}}};
    struct bench_paths paths;
    struct http_daemon daemon;
    char directory[4096];
    if (connections < 1 || bench.seconds < 1) {
        fprintf(stderr, "usage: http-slow [CONNECTIONS] [SECONDS]\n");
        return 2;
    }
    bench_find_paths(&paths);
    snprintf(directory, sizeof directory, "%s/slow", paths.directory);
    if (raise_limit(connections) < 0 || bench_make_directory(paths.directory) < 0 || bench_make_fresh(directory) < 0)
        return 1;
    bench.daemon = &daemon;
    const int r = http_daemon_start(&daemon, paths.binary, directory, http_daemon_simulated, http_daemon_unlimited) < 0
                      ? -1
                      : run(&bench, connections);
    http_daemon_stop(&daemon);
    bench_remove_tree(directory);
    rmdir(paths.directory);
    if (r == 0)
        tell(&bench, connections);
    return r < 0 ? 1 : 0;
}
