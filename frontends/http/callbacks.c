/* What libmicrohttpd calls. */
#include <stdarg.h>
#include <stdio.h>

#include "frontends/http/server_private.h"

/* Room of each connection for its answer's head. libmicrohttpd clears all of its memory after each request: more costs.
 */
#define POOL_BYTES 4096

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

struct MHD_Daemon *callbacks_start_daemon(struct http_listener *listener)
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
