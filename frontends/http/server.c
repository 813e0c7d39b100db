#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontends/common/refuse.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

#define SWEEP_MS 250
#define BACKLOG 1024
#define CROWD 1000 /* connections */
/* Room of each connection for its answer's head. libmicrohttpd clears all of its memory after each request: more costs.
 */
#define POOL_BYTES 4096
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

static void print_address(const struct sockaddr *address, char ret_text[HTTP_ADDRESS_SIZE])
{
    ret_text[0] = '\0';
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, ret_text, HTTP_ADDRESS_SIZE);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, ret_text,
                  HTTP_ADDRESS_SIZE);
}

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
    print_address(address, connection->address);
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

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_listener *listener = cls;
    (void)mhd;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = listener->arriving;
        listener->arriving = NULL;
    } else if (*socket_context) {
        connection_over(*socket_context);
        *socket_context = NULL;
    }
}

static struct http_connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* ---- What libmicrohttpd calls ---- */

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_exchange *exchange = exchange_new(cls, mhd, uri);
    if (exchange)
        exchange->connection = connection_of(mhd);
    if (exchange && exchange->connection)
        exchange->connection->exchange = exchange;
    return exchange;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **request)
{
    (void)cls;
    (void)mhd;
    (void)url;
    (void)version;
    struct http_exchange *exchange = *request;
    if (!exchange || !exchange->connection)
        return MHD_NO;
    return exchange_step(exchange, method, data, size);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **request, enum MHD_RequestTerminationCode code)
{
    struct http_exchange *exchange = *request;
    (void)cls;
    (void)mhd;
    (void)code;
    if (exchange)
        exchange_over(exchange);
    *request = NULL;
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *format, va_list arguments)
{
    struct http_listener *listener = cls;
    char line[400];
    const int size = vsnprintf(line, sizeof line, format, arguments);
    for (int i = size < (int)sizeof line ? size - 1 : (int)sizeof line - 2; i >= 0 && line[i] == '\n'; i--)
        line[i] = '\0';
    http_log(listener->server, REEVE_LOG_DEBUG, "http: %s", line);
}

/* ---- Listening ---- */

/* "127.0.0.1:8080", "[::1]:8080", "localhost:8080" */
static int resolve(const char *text, const char *field, struct addrinfo **ret_address, struct reeve_error *ret_error)
{
    char host[256] = "";
    const char *colon = strrchr(text, ':');
    const bool brackets = text[0] == '[';
    const size_t size = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    const unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || end == colon + 1 || *end != '\0' || port > 65535 || size <= (brackets ? 2U : 0U) ||
        size >= sizeof host || (brackets && text[size - 1] != ']') || (!brackets && memchr(text, ':', size)))
        return refuse_field(ret_error, field, "must be ADDRESS:PORT like 127.0.0.1:8080 or [::1]:8080, not '%s'", text);
    memcpy(host, text + (brackets ? 1 : 0), size - (brackets ? 2 : 0));
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    const int r = getaddrinfo(host, colon + 1, &hints, ret_address);
    if (r != 0)
        return refuse_field(ret_error, field, "cannot find the address of '%s': %s", host, gai_strerror(r));
    return 0;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == 127;
}

/* Returns the socket; -1 with errno. */
static int bind_socket(const struct addrinfo *address)
{
    const int one = 1;
    const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void note_address(struct http_listener *listener, int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[HTTP_ADDRESS_SIZE - 10];
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return;
    char text[HTTP_ADDRESS_SIZE];
    print_address((struct sockaddr *)&address, text);
    snprintf(host, sizeof host, "%.*s", (int)sizeof host - 1, text);
    const bool six = address.ss_family == AF_INET6;
    const unsigned port = ntohs(six ? ((struct sockaddr_in6 *)&address)->sin6_port
                                    : ((struct sockaddr_in *)&address)->sin_port);
    snprintf(listener->address, sizeof listener->address, six ? "[%s]:%u" : "%s:%u", host, port);
}

static struct MHD_Daemon *start_daemon(struct http_listener *listener)
{
    const struct http_server *server = listener->server;
    const struct http_limits *limits = &server->limits;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO | MHD_USE_ERROR_LOG |
                     MHD_USE_NO_LISTEN_SOCKET;
    if (server->tls)
        flags |= MHD_USE_TLS;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, listener,                                  /* */
        MHD_OPTION_EXTERNAL_LOGGER, on_log, listener,                               /* first: for the others */
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)limits->connections_max,             /* */
        MHD_OPTION_CONNECTION_MEMORY_LIMIT,                                         /* */
        (size_t)(limits->head_bytes_max + limits->uri_bytes_max + POOL_BYTES),      /* with room for answers */
        MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)4096,                       /* */
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((limits->stall_ms + 999) / 1000), /* */
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, listener,                              /* */
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, listener,                        /* */
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener,                      /* */
        MHD_OPTION_STRICT_FOR_CLIENT, 1,                                            /* */
        server->tls ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END, tls_callback(), MHD_OPTION_END);
}

static int start_listener(struct http_listener *listener, int fd, const char *field, struct reeve_error *ret_error)
{
    struct http_server *server = listener->server;
    note_address(listener, fd);
    listener->daemon = start_daemon(listener);
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
    int r = resolve(text, field, &address, ret_error);
    if (r < 0)
        return r;
    if (!server->tls && !options->insecure && !is_loopback(address->ai_addr)) {
        freeaddrinfo(address);
        return refuse_field(
            ret_error, field,
            "%s is not an address of loopback: keys would cross the network in clear. Give --http-cert and "
            "--http-key, or --insecure where something in front does TLS",
            text);
    }
    const int fd = bind_socket(address);
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
