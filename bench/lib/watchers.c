#include "watchers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/lib/common.h"
#include "frontends/ipc/client.h"

struct watchers {
    struct ipc_client **clients;
    unsigned count;
    int epoll;
    pthread_t thread;
    bool runs;
    atomic_bool ending;
};

/* Read past the client, which would decode each message a thousand times on a processor that others need. */
static void *read_all(void *arg)
{
    static char data[262144];
    struct watchers *watchers = arg;
    struct epoll_event ready[256];
    pthread_setname_np(pthread_self(), "bench-watchers");
    while (!atomic_load(&watchers->ending)) {
        const int count = epoll_wait(watchers->epoll, ready, 256, 50);
        for (int i = 0; i < count; i++) {
            if (read(ready[i].data.fd, data, sizeof data) <= 0)
                epoll_ctl(watchers->epoll, EPOLL_CTL_DEL, ready[i].data.fd, NULL);
        }
    }
    return NULL;
}

static int connect_one(struct watchers *watchers, const char *socket_path)
{
    struct ipc_client **client = &watchers->clients[watchers->count];
    struct ipc_message message;
    struct reeve_error error;
    if (ipc_client_connect(socket_path, client, &error) < 0)
        return bench_complain("watchers", error.message);
    watchers->count++;
    if (ipc_client_call(*client, "event.watch", NULL, 0, &message) < 0)
        return bench_complain("watchers", ipc_client_error(*client)->message);
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = ipc_client_fd(*client)};
    return epoll_ctl(watchers->epoll, EPOLL_CTL_ADD, interest.data.fd, &interest);
}

int watchers_start(const char *socket_path, unsigned count, struct watchers **ret_watchers)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct watchers *watchers = calloc(1, sizeof *watchers);
    if (!watchers)
        return -1;
    watchers->clients = calloc(count, sizeof(struct ipc_client *));
    watchers->epoll = epoll_create1(EPOLL_CLOEXEC);
    int r = watchers->clients && watchers->epoll >= 0 ? 0 : -1;
    for (unsigned i = 0; i < count && r == 0; i++)
        r = connect_one(watchers, socket_path);
    if (r == 0)
        r = pthread_create(&watchers->thread, NULL, read_all, watchers) == 0 ? 0 : -1;
    watchers->runs = r == 0;
    *ret_watchers = watchers;
    if (r == 0)
        return 0;
    watchers_stop(watchers);
    *ret_watchers = NULL;
    return -1;
}

void watchers_stop(struct watchers *watchers)
{
    if (!watchers)
        return;
    atomic_store(&watchers->ending, true);
    if (watchers->runs)
        pthread_join(watchers->thread, NULL);
    for (unsigned i = 0; i < watchers->count; i++)
        ipc_client_close(watchers->clients[i]);
    close(watchers->epoll);
    free(watchers->clients);
    free(watchers);
}
