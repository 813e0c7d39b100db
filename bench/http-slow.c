/* What ten thousand clients that send one byte of a head per second do to another client, and to the memory of the
 * daemon. `http-slow [CONNECTIONS] [SECONDS] [BURSTS]`; bench/README.md tells what is measured. */
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
#define BURSTS_PER_SECOND 100
#define SECONDS_MAX 1000
#define HEAD_BYTES 4000 /* longer than any run: a head that ended would be answered */

struct slow {
    const struct http_daemon *daemon;
    unsigned wanted, bursts, open, lost;
    int *fds; /* -1: lost */
    int epoll;
    size_t *sent;
    char head[HEAD_BYTES];
    atomic_bool sending, stopping;
};

struct memory {
    uint64_t resident, anonymous;
};

/* The other client's latencies, second by second: a moment in which something else has the machine spoils one. */
struct part {
    const char *name;
    const struct http_daemon *daemon;
    struct http_caller caller;
    char request[1500];
    double p50[SECONDS_MAX], p99[SECONDS_MAX];
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

/* In each burst it is the turn of another part of them, so that every one sends once in a second. */
static void *run_slow(void *arg)
{
    struct slow *slow = arg;
    uint64_t next_ns = bench_now_ns();
    for (unsigned burst = 0; !atomic_load(&slow->stopping); burst = (burst + 1) % slow->bursts) {
        for (unsigned i = burst; atomic_load(&slow->sending) && i < slow->wanted; i += slow->bursts)
            send_byte(slow, i);
        next_ns += UINT64_C(1000000000) / slow->bursts;
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

/* ---- Two daemons, asked in turn: one with the slow ones, one without ---- */

struct bench {
    unsigned seconds;
    struct part parts[2];
    struct memory memory[3]; /* of the daemon with the slow ones: before they come, with them, after they have gone */
    struct slow slow;
};

static int set_up(struct part *part)
{
    char id[37], path[200];
    struct http_request request = {.method = "GET", .path = path, .authorization = part->daemon->authorization};
    if (http_caller_open(&part->caller, part->daemon) < 0 || http_create_service(&part->caller, part->daemon, id) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/%s", part->daemon->services_path, id);
    return http_request_print(&request, part->request, sizeof part->request) ? 0 : -1;
}

static int run_second(struct part *part, unsigned second)
{
    struct histogram latency;
    if (get_paced(&part->caller, part->request, 0.1, &latency) < 0 ||
        get_paced(&part->caller, part->request, 1, &latency) < 0)
        return -1;
    part->p50[second] = bench_microseconds(&latency, 0.5);
    part->p99[second] = bench_microseconds(&latency, 0.99);
    return 0;
}

static int run_seconds(struct bench *bench)
{
    pthread_t thread;
    int r = 0;
    if (pthread_create(&thread, NULL, run_slow, &bench->slow) != 0)
        return -1;
    for (unsigned second = 0; second < bench->seconds && r == 0; second++) {
        atomic_store(&bench->slow.sending, false);
        r = run_second(&bench->parts[0], second);
        atomic_store(&bench->slow.sending, true);
        if (r == 0)
            r = run_second(&bench->parts[1], second);
    }
    bench->memory[1] = memory_of(bench->slow.daemon);
    atomic_store(&bench->slow.stopping, true);
    pthread_join(thread, NULL);
    return r;
}

static int run_with_slow(struct bench *bench)
{
    struct slow *slow = &bench->slow;
    int r = -1;
    slow->fds = calloc(slow->wanted, sizeof *slow->fds);
    slow->sent = calloc(slow->wanted, sizeof *slow->sent);
    slow->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (slow->fds && slow->sent && slow->epoll >= 0) {
        make_head(slow);
        r = open_all(slow) < 0 ? -1 : run_seconds(bench);
        close_all(slow);
        close(slow->epoll);
    }
    free(slow->fds);
    free(slow->sent);
    return r;
}

static int run(struct bench *bench)
{
    int r = set_up(&bench->parts[0]);
    if (r == 0)
        r = set_up(&bench->parts[1]);
    bench->memory[0] = memory_of(bench->slow.daemon);
    if (r == 0)
        r = run_with_slow(bench);
    if (r == 0) /* it looks after connections four times a second */
        r = run_second(&bench->parts[1], bench->seconds);
    bench->memory[2] = memory_of(bench->slow.daemon);
    for (int i = 0; i < 2; i++)
        http_caller_close(&bench->parts[i].caller);
    return r;
}

/* ---- Telling ---- */

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

static void tell(struct bench *bench)
{
    static const char *const times[] = {"before", "with slow ones", "after they have gone"};
    double p99[2];
    printf("GET of one service, %d per second on one connection, latency from when it was to be sent; medians of %u s "
           "each, in turn\n%u connections with one byte per second, in %u bursts\n\n%-22s  %8s  %8s\n",
           GETS_PER_SECOND, bench->seconds, bench->slow.wanted, bench->slow.bursts, "", "p50 us", "p99 us");
    for (int i = 0; i < 2; i++) {
        p99[i] = median(bench->parts[i].p99, bench->seconds);
        printf("%-22s  %8.0f  %8.0f\n", bench->parts[i].name, median(bench->parts[i].p50, bench->seconds), p99[i]);
    }
    printf("\n%-22s  %8s  %8s\n", "memory", "RSS MiB", "anon MiB");
    for (int i = 0; i < 3; i++)
        printf("%-22s  %8.1f  %8.1f\n", times[i], (double)bench->memory[i].resident / 1048576,
               (double)bench->memory[i].anonymous / 1048576);
    printf("\np99 with / without: %.2f; memory of a slow connection: %.1f KiB; slow connections lost: %u of %u\n",
           p99[1] / p99[0],
           ((double)bench->memory[1].anonymous - (double)bench->memory[0].anonymous) / 1024 / bench->slow.wanted,
           bench->slow.lost, bench->slow.wanted);
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

static int start(struct http_daemon *daemon, const struct bench_paths *paths, const char *name)
{
    char directory[4096];
    snprintf(directory, sizeof directory, "%s/%s", paths->directory, name);
    return bench_make_fresh(directory) < 0
               ? -1
               : http_daemon_start(daemon, paths->binary, directory, http_daemon_simulated, http_daemon_unlimited);
}

int main(int argc, char **argv)
{
    const unsigned connections = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10000;
    const unsigned bursts = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : BURSTS_PER_SECOND;
    static struct bench bench;
    struct bench_paths paths;
    struct http_daemon daemons[2] = {{0}};
    bench.seconds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 10;
    if (connections < 1 || bench.seconds < 1 || bench.seconds >= SECONDS_MAX || bursts < 1 || bursts > 1000) {
        fprintf(stderr, "usage: http-slow [CONNECTIONS] [SECONDS] [BURSTS]\n");
        return 2;
    }
    bench.parts[0] = (struct part){.name = "without slow ones", .daemon = &daemons[0]};
    bench.parts[1] = (struct part){.name = "among slow ones", .daemon = &daemons[1]};
    bench.slow = (struct slow){.daemon = &daemons[1], .wanted = connections, .bursts = bursts};
    bench_find_paths(&paths);
    if (raise_limit(connections) < 0 || bench_make_directory(paths.directory) < 0)
        return 1;
    const int r = start(&daemons[0], &paths, "quiet") < 0 || start(&daemons[1], &paths, "slow") < 0 ? -1 : run(&bench);
    for (int i = 0; i < 2; i++)
        http_daemon_stop(&daemons[i]);
    bench_remove_tree(paths.directory);
    if (r == 0)
        tell(&bench);
    return r < 0 ? 1 : 0;
}
