#include "wire.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM 65536

struct connection {
    int fd;
    unsigned *slots; /* under way, a ring in the order of their commands */
    unsigned first, count, capacity;
    char *in;
    size_t in_size;
    struct buffer out;
    size_t sent;
};

struct wires {
    const struct wire_protocol *protocol;
    struct run_result *result;
    struct connection *connections;
    unsigned count;
    uint64_t *sent_ns; /* by slot */
    unsigned under_way;
    bool measuring, draining;
    int epoll;
};

static void ask(struct wires *wires, struct connection *connection, unsigned slot)
{
    wires->protocol->ask(wires->protocol->arg, slot, &connection->out);
    wires->sent_ns[slot] = bench_now_ns();
    connection->slots[(connection->first + connection->count++) % connection->capacity] = slot;
    wires->under_way++;
}

static int flush(struct wires *wires, struct connection *connection)
{
    while (connection->sent < connection->out.size) {
        const ssize_t sent = send(connection->fd, connection->out.data + connection->sent,
                                  connection->out.size - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return bench_complain("a connection", strerror(errno));
        if (sent < 0)
            break;
        connection->sent += (size_t)sent;
    }
    const bool is_done = connection->sent == connection->out.size;
    struct epoll_event interest = {.events = is_done ? EPOLLIN : EPOLLIN | EPOLLOUT, .data.ptr = connection};
    if (is_done) {
        buffer_reset(&connection->out);
        connection->sent = 0;
    }
    return epoll_ctl(wires->epoll, EPOLL_CTL_MOD, connection->fd, &interest);
}

static int take_answers(struct wires *wires, struct connection *connection)
{
    size_t at = 0;
    while (connection->count && at < connection->in_size) {
        const unsigned slot = connection->slots[connection->first];
        const ssize_t taken = wires->protocol->take(wires->protocol->arg, slot, connection->in + at,
                                                    connection->in_size - at);
        if (taken < 0)
            return -1;
        if (taken == 0)
            break;
        at += (size_t)taken;
        connection->first = (connection->first + 1) % connection->capacity;
        connection->count--;
        wires->under_way--;
        if (wires->measuring) {
            histogram_add(&wires->result->latency, bench_now_ns() - wires->sent_ns[slot]);
            wires->result->commands++;
        }
        if (!wires->draining)
            ask(wires, connection, slot);
    }
    memmove(connection->in, connection->in + at, connection->in_size - at);
    connection->in_size -= at;
    return 0;
}

static int serve(struct wires *wires, struct connection *connection, unsigned events)
{
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        const ssize_t got = recv(connection->fd, connection->in + connection->in_size, ROOM - connection->in_size - 1,
                                 MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return bench_complain("a connection", got ? strerror(errno) : "closed by the server");
        connection->in_size += got > 0 ? (size_t)got : 0;
        connection->in[connection->in_size] = '\0';
        if (take_answers(wires, connection) < 0)
            return -1;
    }
    return flush(wires, connection);
}

static int turn(struct wires *wires, uint64_t until_ns, bool drains)
{
    struct epoll_event ready[256];
    while (drains ? wires->under_way > 0 : bench_now_ns() < until_ns) {
        const int count = epoll_wait(wires->epoll, ready, 256, 100);
        for (int i = 0; i < count; i++) {
            if (serve(wires, ready[i].data.ptr, ready[i].events) < 0)
                return -1;
        }
    }
    return 0;
}

/* Slot after slot goes round the connections. */
static int open_all(struct wires *wires, unsigned outstanding)
{
    int r = 0;
    for (unsigned i = 0; i < wires->count && r == 0; i++) {
        struct connection *connection = &wires->connections[i];
        connection->fd = wires->protocol->connect(wires->protocol->arg);
        connection->capacity = outstanding / wires->count + 1;
        connection->slots = calloc(connection->capacity, sizeof *connection->slots);
        connection->in = malloc(ROOM);
        struct epoll_event interest = {.events = EPOLLIN, .data.ptr = connection};
        if (connection->fd < 0 || !connection->slots || !connection->in ||
            epoll_ctl(wires->epoll, EPOLL_CTL_ADD, connection->fd, &interest) < 0)
            r = bench_complain("a connection", strerror(errno));
    }
    for (unsigned slot = 0; slot < outstanding && r == 0; slot++)
        ask(wires, &wires->connections[slot % wires->count], slot);
    for (unsigned i = 0; i < wires->count && r == 0; i++)
        r = flush(wires, &wires->connections[i]);
    return r;
}

static int measure(struct wires *wires, const struct run_options *options, pid_t pid)
{
    struct run_result *result = wires->result;
    if (open_all(wires, options->outstanding) < 0 ||
        turn(wires, bench_now_ns() + (uint64_t)(options->warm_seconds * 1e9), false) < 0)
        return -1;
    bench_usage(pid, false, result);
    wires->measuring = true;
    const uint64_t started_ns = bench_now_ns();
    int r = turn(wires, started_ns + (uint64_t)(options->seconds * 1e9), false);
    result->seconds = (double)(bench_now_ns() - started_ns) / 1e9;
    result->count = result->commands / TRANSITIONS;
    wires->measuring = false;
    bench_usage(pid, true, result);
    wires->draining = true;
    if (r == 0)
        r = turn(wires, 0, true);
    return r;
}

static int run_client(const struct wire_protocol *protocol, const struct run_options *options, pid_t pid,
                      struct run_result *result)
{
    const unsigned connections = options->outstanding < protocol->connections_max ? options->outstanding
                                                                                  : protocol->connections_max;
    struct wires wires = {.protocol = protocol, .result = result, .count = connections};
    wires.connections = calloc(connections, sizeof *wires.connections);
    wires.sent_ns = calloc(options->outstanding, sizeof *wires.sent_ns);
    wires.epoll = epoll_create1(EPOLL_CLOEXEC);
    const int r = wires.connections && wires.sent_ns && wires.epoll >= 0 ? measure(&wires, options, pid) : -1;
    for (unsigned i = 0; wires.connections && i < connections; i++) {
        struct connection *connection = &wires.connections[i];
        if (connection->fd > 0)
            close(connection->fd);
        buffer_deinit(&connection->out);
        free(connection->slots);
        free(connection->in);
    }
    close(wires.epoll);
    free(wires.connections);
    free(wires.sent_ns);
    return r;
}

/* Where it is filled already it still has to answer. */
static int prepare(const struct wire_protocol *protocol, const struct run_options *options)
{
    const uint64_t services = bench_is_filled(options->directory) ? 0 : options->existing;
    const int fd = protocol->connect(protocol->arg);
    const int r = fd < 0 ? -1 : protocol->prepare(protocol, fd, services);
    if (fd >= 0)
        close(fd);
    return r == 0 ? bench_mark_filled(options->directory) : r;
}

int wire_run(const struct wire_protocol *protocol, const struct run_options *options, struct run_result *ret_result)
{
    struct server server = {0};
    *ret_result = (struct run_result){0};
    int r = bench_is_filled(options->directory) ? 0 : bench_make_fresh(options->directory);
    if (r == 0)
        r = protocol->start(protocol->arg, &server, options->directory);
    if (r == 0)
        r = server_wait(&server, protocol->connect, protocol->arg);
    if (r == 0)
        r = prepare(protocol, options);
    if (r == 0)
        r = run_client(protocol, options, server.pid, ret_result);
    ret_result->file_bytes = bench_blocks(options->directory);
    server_stop(&server, SIGTERM);
    return r;
}

int wire_call(const struct wire_protocol *protocol, int fd, unsigned slot)
{
    struct buffer out = {0};
    static char in[ROOM];
    size_t size = 0, sent = 0;
    ssize_t taken = 0, got = 1;
    protocol->ask(protocol->arg, slot, &out);
    while (sent < out.size && got > 0) {
        got = send(fd, out.data + sent, out.size - sent, MSG_NOSIGNAL);
        sent += got > 0 ? (size_t)got : 0;
    }
    buffer_deinit(&out);
    while (taken == 0 && got > 0) {
        got = recv(fd, in + size, sizeof in - size - 1, 0);
        size += got > 0 ? (size_t)got : 0;
        in[size] = '\0';
        taken = protocol->take(protocol->arg, slot, in, size);
    }
    return taken > 0 ? 0 : -1;
}
