#include "server.h"

#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontends/common/refuse.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

#define SWEEP_MS 250
#define CROWD 1000  /* connections */
#define RUNS_MAX 64 /* of one daemon in one turn of the loop */

const struct option_type http_options[] = {
#define HTTP_LIMIT(c_name, flag, preset, min, max, unit, text)                                                         \
    {flag, offsetof(struct http_limits, c_name), preset, min, max, unit, text},
#include "limits.def"
};
const unsigned http_options_count = sizeof http_options / sizeof http_options[0];

#define KIND_COUNTER false
#define KIND_GAUGE true
const struct counter_type http_counters[] = {
#define HTTP_COUNTER(c_name, name, kind, text) {name, offsetof(struct http_stats, c_name), KIND_##kind, text},
#include "counters.def"
};
const unsigned http_counters_count = sizeof http_counters / sizeof http_counters[0];

void http_log(struct http_server *server, enum reeve_log_level level, const char *format, ...)
{
    char line[900];
    if (!server->log || level > server->log_level)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    server->log(server->log_arg, level, line);
}

/* Each request needs sixteen: the system is asked for a seed now and then. */
void http_random(struct http_server *server, void *bytes, size_t size)
{
    if (server->random_left < size) {
        uint8_t seed[randombytes_SEEDBYTES];
        randombytes_buf(seed, sizeof seed);
        randombytes_buf_deterministic(server->random, sizeof server->random, seed);
        server->random_left = sizeof server->random;
    }
    server->random_left -= size;
    memcpy(bytes, server->random + server->random_left, size);
}

static void set_limits(struct http_limits *limits, const struct http_limits *given)
{
    *limits = *given;
    for (unsigned i = 0; i < http_options_count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)limits + http_options[i].offset, sizeof value);
        if (value == 0)
            memcpy((char *)limits + http_options[i].offset, &http_options[i].preset, sizeof value);
    }
}

/* ---- Running libmicrohttpd on the loop ---- */

/* After a resume there may be more to do than one run does: it says so by a timeout of 0. */
static void run(struct http_listener *listener)
{
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    int runs = 0;
    do {
        listener->dirty = false;
        MHD_run(listener->daemon);
    } while (++runs < RUNS_MAX &&
             (listener->dirty || (MHD_get_timeout(listener->daemon, &timeout) == MHD_YES && timeout == 0)));
    listener->dirty = runs == RUNS_MAX;
    run_submit_all(listener->server);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

static void stop_if_done(struct http_server *server);

/* What was resumed in this turn of the loop leaves before the loop sleeps. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct http_server *server = prepare->data;
    for (unsigned i = 0; i < server->listeners_count && !server->stopped; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (listener->dirty)
            run(listener);
        if (listener->dirty)
            uv_timer_start(&server->timer, server->timer.timer_cb, 0, SWEEP_MS);
    }
    stop_if_done(server);
}

/* ---- Clients that take too long ---- */

static void tell_timeout(const struct http_connection *connection)
{
    static const char head[] =
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n";
    static const char text[] = "REQUEST_TIMEOUT: the body of the request took too long";
    char body[256 + HTTP_REQUEST_ID_SIZE], answer[768];
    const char *id = connection->exchange ? connection->exchange->request_id : "";
    const int body_size = snprintf(body, sizeof body,
                                   "{\"status\":408,\"error\":\"%s\",\"requestId\":\"%s\",\"details\":[]}\n", text, id);
    const int size = snprintf(answer, sizeof answer, "%sX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s", head, id,
                              body_size, body);
    if (!connection->server->tls && send(connection->fd, answer, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* it is disconnected all the same */
}

/* libmicrohttpd sees the end of the connection and closes it. Of a body nothing has been answered yet, so that the
 * answer can be written past it. */
static void sweep(struct http_server *server, struct link *list, bool body)
{
    const uint64_t now_ms = uv_now(server->loop);
    while (link_used(list)) {
        struct http_connection *connection = link_owner(list->next, struct http_connection, phase);
        if (connection->deadline_ms > now_ms)
            return;
        link_remove(&connection->phase);
        server->stats.slow++;
        if (connection->in_lobby) {
            lobby_drop(connection);
            continue;
        }
        if (body)
            tell_timeout(connection);
        shutdown(connection->fd, SHUT_RDWR);
        connection->listener->dirty = true;
    }
}

static uint64_t quiet_before(const struct http_server *server)
{
    const uint64_t now_ms = uv_now(server->loop);
    return now_ms > SWEEP_MS ? now_ms - SWEEP_MS : 0;
}

/* Clients that have sent something and have gone, or will send no more: where both came in one piece libmicrohttpd
 * reads the first and does not hear of the second. Each is looked at once, when it has been waited for a while. */
static void hear_ends(struct http_server *server, struct link *list)
{
    const uint64_t last_ms = quiet_before(server);
    struct link *previous;
    for (struct link *link = list->previous; link != list; link = previous) {
        struct http_connection *connection = link_owner(link, struct http_connection, phase);
        char byte;
        previous = link->previous;
        if (connection->since_ms < server->quiet_since_ms)
            break;
        if (connection->in_lobby || connection->since_ms >= last_ms ||
            recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
            continue;
        shutdown(connection->fd, SHUT_RDWR);
        connection->listener->dirty = true;
    }
}

/* After a crowd has gone, its memory goes back to the system. */
static void give_back(struct http_server *server)
{
    const uint64_t now = server->stats.connections;
    if (now > server->connections_peak)
        server->connections_peak = now;
    if (server->connections_peak < CROWD || now > server->connections_peak / 2)
        return;
    server->connections_peak = now;
    exchange_free_spare(server);
    malloc_trim(0);
}

static void run_all(struct http_server *server)
{
    for (unsigned i = 0; i < server->listeners_count && !server->stopped; i++)
        run(&server->listeners[i]);
}

/* Where we are late ourselves, what lies here already came in time: it is read before anybody is called slow. */
static void on_timer(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    lobby_look(server);
    run_all(server);
    sweep(server, &server->heads, false);
    sweep(server, &server->bodies, true);
    hear_ends(server, &server->heads);
    hear_ends(server, &server->bodies);
    server->quiet_since_ms = quiet_before(server);
    stream_tick(server);
    for (unsigned i = 0; i < server->listeners_count && !server->stopped; i++)
        lobby_accept(&server->listeners[i]); /* there may be files again */
    run_all(server);
    give_back(server);
    if (server->stats.connections == 0 && !server->closing)
        uv_timer_stop(timer);
}

/* ---- Connections ---- */

struct http_connection *connection_new(struct http_listener *listener, int fd, const struct sockaddr *address)
{
    struct http_server *server = listener->server;
    struct http_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    connection->server = server;
    connection->listener = listener;
    connection->fd = fd;
    connection->in_lobby = true;
    address_print(address, connection->address);
    connection->since_ms = uv_now(server->loop);
    connection->deadline_ms = connection->since_ms + server->limits.head_ms;
    link_init(&connection->phase);
    link_append(&server->heads, &connection->phase);
    listener->connections++;
    server->stats.accepted++;
    server->stats.connections++;
    server_tick(server);
    return connection;
}

void connection_over(struct http_connection *connection)
{
    struct http_listener *listener = connection->listener;
    link_remove(&connection->phase);
    listener->server->stats.connections--;
    listener->connections--;
    free(connection);
    lobby_accept(listener);
}

void server_tick(struct http_server *server)
{
    if (!uv_is_active((uv_handle_t *)&server->timer))
        uv_timer_start(&server->timer, on_timer, SWEEP_MS, SWEEP_MS);
}

/* ---- Listening ---- */

static int start_listener(struct http_listener *listener, int fd, const char *field, struct reeve_error *ret_error)
{
    struct http_server *server = listener->server;
    address_of(fd, listener->address);
    listener->daemon = callbacks_start_daemon(listener);
    if (!listener->daemon) {
        close(fd);
        return refuse_field(ret_error, field, "the HTTP server could not be started on %s", listener->address);
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(server->loop, &listener->poll, info->epoll_fd);
    listener->poll.data = listener;
    listener->poll_open = true;
    server->handles_open++;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    lobby_listen(listener, fd);
    return 0;
}

static int open_listener(struct http_server *server, const struct http_server_options *options, const char *text,
                         enum http_dialect dialect, struct reeve_error *ret_error)
{
    const char *field = dialect == HTTP_PLAIN ? "http" : "http-cloud";
    struct addrinfo *address;
    int r = address_resolve(text, field, &address, ret_error);
    if (r < 0)
        return r;
    if (!server->tls && !options->insecure && !address_is_loopback(address->ai_addr)) {
        freeaddrinfo(address);
        return refuse_field(
            ret_error, field,
            "%s is not an address of loopback: keys would cross the network in clear. Give --http-cert and "
            "--http-key, or --insecure where something in front does TLS",
            text);
    }
    const int fd = address_listen(address);
    const int error = errno;
    freeaddrinfo(address);
    if (fd < 0 && options->skip_unsupported && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL))
        return 0;
    if (fd < 0)
        return refuse_field(
            ret_error, field, "cannot listen on %s: %s%s", text, strerror(error),
            options->skip_unsupported && error == EADDRINUSE ? "; --http and --http-cloud choose other addresses" : "");
    struct http_listener *listener = &server->listeners[server->listeners_count++];
    *listener = (struct http_listener){.server = server, .dialect = dialect, .fd = -1};
    return start_listener(listener, fd, field, ret_error);
}

static int open_listeners(struct http_server *server, const struct http_server_options *options, const char *addresses,
                          enum http_dialect dialect, struct reeve_error *ret_error)
{
    char *copy = addresses ? strdup(addresses) : NULL, *at = copy, *word;
    int r = 0;
    while (at && (word = strsep(&at, " ,\t")) && r == 0) {
        if (*word)
            r = open_listener(server, options, word, dialect, ret_error);
    }
    free(copy);
    return r;
}

/* ---- Opening ---- */

static unsigned count_words(const char *text)
{
    unsigned count = 1;
    for (; text && *text; text++)
        count += *text == ' ' || *text == ',' || *text == '\t';
    return count;
}

static void start_handles(struct http_server *server)
{
    uv_prepare_init(server->loop, &server->prepare);
    uv_timer_init(server->loop, &server->timer);
    uv_timer_init(server->loop, &server->pause_timer);
    uv_timer_init(server->loop, &server->close_timer);
    server->prepare.data = server->timer.data = server->pause_timer.data = server->close_timer.data = server;
    server->handles_open = 4;
    server->timer.timer_cb = on_timer;
    uv_prepare_start(&server->prepare, on_prepare);
    uv_unref((uv_handle_t *)&server->prepare);
}

static int open_parts(struct http_server *server, const struct http_server_options *options,
                      struct reeve_error *ret_error)
{
    const unsigned count = count_words(options->plain_addresses) + count_words(options->cloud_addresses);
    server->listeners = calloc(count, sizeof *server->listeners);
    server->failures = failures_new();
    server->rates = rates_new();
    if (!server->listeners || !server->failures || !server->rates || !view_init())
        return refuse_field(ret_error, "http", "out of memory");
    if (options->certificate_path || options->key_path) {
        const int r = tls_open(options->certificate_path, options->key_path, &server->tls, ret_error);
        if (r < 0)
            return r;
    }
    int r = reeve_client_open(server->engine, server->loop, &server->client);
    if (r < 0)
        return refuse_field(ret_error, "http", "%s", reeve_error_text(r));
    r = lobby_open(server);
    if (r < 0)
        return refuse_field(ret_error, "http", "%s", strerror(-r));
    r = open_listeners(server, options, options->plain_addresses, HTTP_PLAIN, ret_error);
    return r < 0 ? r : open_listeners(server, options, options->cloud_addresses, HTTP_CLOUD, ret_error);
}

int http_server_open(const struct http_server_options *options, struct uv_loop_s *loop, struct reeve_engine *engine,
                     struct http_server **ret_server, struct reeve_error *ret_error)
{
    struct http_server *server = calloc(1, sizeof *server);
    *ret_server = NULL;
    if (!server || sodium_init() < 0) {
        free(server);
        return refuse_field(ret_error, "http", "out of memory");
    }
    route_init();
    server->loop = loop;
    server->lobby_epoll = -1;
    server->engine = engine;
    server->log = options->log;
    server->log_arg = options->log_arg;
    server->log_level = options->log_level ? options->log_level : REEVE_LOG_INFO;
    server->extra_counters = options->extra_counters;
    server->extra_arg = options->extra_arg;
    server->operation_log = options->operation_log;
    server->operation_log_arg = options->operation_log_arg;
    set_limits(&server->limits, &options->limits);
    link_init(&server->heads);
    link_init(&server->bodies);
    link_init(&server->paused);
    link_init(&server->submitting);
    link_init(&server->waiting);
    link_init(&server->streams);
    start_handles(server);
    const int r = open_parts(server, options, ret_error);
    if (r < 0) {
        http_server_close(server, NULL, NULL);
        return r;
    }
    *ret_server = server;
    return 0;
}

int http_server_reload(struct http_server *server, const struct http_limits *limits, enum reeve_log_level log_level,
                       struct reeve_error *ret_error)
{
    server->log_level = log_level;
    set_limits(&server->limits, limits);
    return server->tls ? tls_reload(server->tls, ret_error) : 0;
}

void http_server_get_stats(const struct http_server *server, struct http_stats *ret_stats)
{
    *ret_stats = server->stats;
    ret_stats->requests_now = server->exchanges_count;
}

const char *http_server_address(const struct http_server *server, unsigned index, enum http_dialect *ret_dialect)
{
    if (index >= server->listeners_count)
        return NULL;
    *ret_dialect = server->listeners[index].dialect;
    return server->listeners[index].address;
}

/* ---- Closing ---- */

static void handle_closed(struct http_server *server)
{
    if (--server->handles_open > 0)
        return;
    void (*on_closed)(void *) = server->on_closed;
    void *arg = server->on_closed_arg;
    exchange_free_spare(server);
    failures_free(server->failures);
    rates_free(server->rates);
    buffer_deinit(&server->encoded.text);
    tls_close(server->tls);
    free(server->listeners);
    free(server);
    if (on_closed)
        on_closed(arg);
}

static void on_handle_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void on_listener_closed(uv_handle_t *handle)
{
    const struct http_listener *listener = handle->data;
    handle_closed(listener->server);
}

/* All answers are out, or their time is up: libmicrohttpd disconnects who is left. */
static void stop(struct http_server *server)
{
    server->stopped = true;
    for (unsigned i = 0; i < server->listeners_count; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (listener->poll_open) {
            uv_poll_stop(&listener->poll);
            uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
        }
        if (listener->daemon)
            MHD_stop_daemon(listener->daemon);
    }
    if (server->lobby_epoll >= 0) {
        uv_close((uv_handle_t *)&server->lobby, on_handle_closed);
        close(server->lobby_epoll);
    }
    uv_close((uv_handle_t *)&server->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&server->timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->pause_timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->close_timer, on_handle_closed);
}

static bool answers_left(const struct http_server *server)
{
    return server->works_count > 0 ||
           (server->exchanges_count > 0 && uv_is_active((const uv_handle_t *)&server->close_timer));
}

static void stop_if_done(struct http_server *server)
{
    if (server->closing && server->client_closed && !server->stopped && !answers_left(server))
        stop(server);
}

static void on_close_timer(uv_timer_t *timer)
{
    stop_if_done(timer->data);
}

static void on_client_closed(void *arg)
{
    struct http_server *server = arg;
    server->client_closed = true;
    for (unsigned i = 0; i < server->listeners_count; i++)
        server->listeners[i].dirty = server->listeners[i].daemon != NULL;
}

/* Nobody comes any more, and who has not asked anything yet leaves. */
static void close_lobby(struct http_server *server)
{
    struct link *next;
    for (unsigned i = 0; i < server->listeners_count; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (listener->fd < 0)
            continue;
        uv_close((uv_handle_t *)&listener->clients, on_listener_closed);
        close(listener->fd);
        listener->fd = -1;
    }
    for (struct link *link = server->heads.next; link != &server->heads; link = next) {
        struct http_connection *connection = link_owner(link, struct http_connection, phase);
        next = link->next;
        if (connection->in_lobby)
            lobby_drop(connection);
    }
}

void http_server_close(struct http_server *server, void (*on_closed)(void *arg), void *arg)
{
    server->closing = true;
    server->on_closed = on_closed;
    server->on_closed_arg = arg;
    uv_ref((uv_handle_t *)&server->prepare);
    close_lobby(server);
    exchange_unpause_all(server);
    waiting_end_all(server);
    stream_end_all(server);
    uv_timer_start(&server->close_timer, on_close_timer, server->limits.close_ms, 0);
    if (server->client)
        reeve_client_close(server->client, on_client_closed, server);
    else
        on_client_closed(server);
}
