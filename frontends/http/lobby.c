/* Clients whose first head is not whole yet wait here, at the price of a look into their socket for what comes; only
 * then does libmicrohttpd hear of them. It handles all that is ready in one go, and somebody else's request would wait
 * behind the single bytes of ten thousand slow clients; here it waits behind a handful. With TLS the head cannot be
 * seen, and nobody waits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontends/http/server_private.h"

#define LOOKS_MAX 32 /* in one turn of the loop; the others get theirs in between */
#define ACCEPTS_MAX 16
/* A head of which that much has come is libmicrohttpd's, whole or not: it knows what to answer. */
#define LOOK_BYTES 16384

/* ---- Is it whole? ---- */

/* Line feeds end lines, with or without a carriage return; empty lines in front are none of the head. */
static bool is_whole(const char *head, size_t size)
{
    size_t start = 0;
    while (start < size && (head[start] == '\r' || head[start] == '\n'))
        start++;
    const char *end = head + size, *line = head + start;
    const char *feed = memchr(line, '\n', size - start);
    if (feed && !memmem(line, (size_t)(feed - line), " HTTP/1.", 8))
        return true; /* what is no request is answered at once */
    for (; feed; feed = memchr(line, '\n', (size_t)(end - line))) {
        line = feed + 1;
        if (line < end && *line == '\r')
            line++;
        if (line < end && *line == '\n')
            return true;
    }
    return false;
}

/* ---- Those who wait ---- */

static void leave_epoll(struct http_connection *connection)
{
    if (connection->waiting)
        epoll_ctl(connection->server->lobby_epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    connection->waiting = false;
}

void lobby_drop(struct http_connection *connection)
{
    leave_epoll(connection);
    close(connection->fd);
    connection_over(connection);
}

/* From here on it is libmicrohttpd's, which closes it where it cannot take it. */
static void hand_over(struct http_connection *connection, const struct sockaddr *address, socklen_t size)
{
    struct http_listener *listener = connection->listener;
    leave_epoll(connection);
    connection->in_lobby = false;
    listener->arriving = connection;
    MHD_add_connection(listener->daemon, connection->fd, address, size);
    if (listener->arriving)
        connection_over(connection);
    listener->arriving = NULL;
    listener->dirty = true;
}

static void hand_over_later(struct http_connection *connection)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getpeername(connection->fd, (struct sockaddr *)&address, &size) == 0)
        hand_over(connection, (struct sockaddr *)&address, size);
    else
        lobby_drop(connection);
}

enum seen { SEEN_PART, SEEN_WHOLE, SEEN_END };

static enum seen look(const struct http_connection *connection)
{
    static char head[LOOK_BYTES];
    const ssize_t size = recv(connection->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR))
        return SEEN_END;
    return size == (ssize_t)sizeof head || (size > 0 && is_whole(head, (size_t)size)) ? SEEN_WHOLE : SEEN_PART;
}

static int look_at_some(struct http_server *server)
{
    struct epoll_event events[LOOKS_MAX];
    const int count = epoll_wait(server->lobby_epoll, events, LOOKS_MAX, 0);
    for (int i = 0; i < count; i++) {
        struct http_connection *connection = events[i].data.ptr;
        const enum seen seen = look(connection);
        if (seen == SEEN_WHOLE)
            hand_over_later(connection);
        else if (seen == SEEN_END || (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            lobby_drop(connection); /* no more of it will come */
    }
    return count;
}

static void on_bytes(uv_poll_t *poll, int status, int unused)
{
    (void)status;
    (void)unused;
    look_at_some(poll->data);
}

void lobby_look(struct http_server *server)
{
    while (look_at_some(server) == LOOKS_MAX)
        ;
}

/* ---- Those who come ---- */

static void wait_for_head(struct http_connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    connection->waiting = epoll_ctl(connection->server->lobby_epoll, EPOLL_CTL_ADD, connection->fd, &event) == 0;
    if (!connection->waiting)
        lobby_drop(connection);
}

static void admit(struct http_listener *listener, int fd, const struct sockaddr *address, socklen_t size)
{
    struct http_connection *connection = connection_new(listener, fd, address);
    if (!connection)
        close(fd);
    else if (listener->server->tls || look(connection) == SEEN_WHOLE)
        hand_over(connection, address, size);
    else
        wait_for_head(connection);
}

static void on_client(uv_poll_t *poll, int status, int unused)
{
    struct http_listener *listener = poll->data;
    (void)status;
    (void)unused;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        if (listener->connections >= listener->server->limits.connections_max) {
            uv_poll_stop(poll);
            return;
        }
        const int fd = accept4(listener->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            admit(listener, fd, (struct sockaddr *)&address, size);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) { /* no more files, or no memory: later */
            uv_poll_stop(poll);
            server_tick(listener->server);
            return;
        }
    }
}

void lobby_accept(struct http_listener *listener)
{
    if (listener->fd >= 0 && !uv_is_active((uv_handle_t *)&listener->clients) &&
        listener->connections < listener->server->limits.connections_max)
        uv_poll_start(&listener->clients, UV_READABLE, on_client);
}

/* ---- Opening and closing ---- */

int lobby_open(struct http_server *server)
{
    server->lobby_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server->lobby_epoll < 0)
        return -errno;
    uv_poll_init(server->loop, &server->lobby, server->lobby_epoll);
    server->lobby.data = server;
    server->handles_open++;
    uv_poll_start(&server->lobby, UV_READABLE, on_bytes);
    return 0;
}

void lobby_listen(struct http_listener *listener, int fd)
{
    listener->fd = fd;
    uv_poll_init(listener->server->loop, &listener->clients, fd);
    listener->clients.data = listener;
    listener->server->handles_open++;
    lobby_accept(listener);
}
