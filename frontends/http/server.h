/* The HTTP frontend: libmicrohttpd on the host's libuv loop, in two dialects that differ in how an answer is wrapped
 * and in which fields it has. Endpoints are the rows of schemas/routes.def.
 *
 * All of it happens on the thread of that loop. Nothing grows without bound: see limits.def.
 */
#ifndef REEVE_HTTP_SERVER_H
#define REEVE_HTTP_SERVER_H

#include <reeve.h>

#include "frontends/common/operation_log.h"
#include "schema.h"

/* 0 means the default. */
struct http_limits {
#define HTTP_LIMIT(c_name, flag, preset, min, max, unit, text) uint64_t c_name;
#include "limits.def"
};

struct http_stats {
#define HTTP_COUNTER(c_name, name, kind, text) uint64_t c_name;
#include "counters.def"
};

/* The same as data for loops; offsets are into struct http_limits and struct http_stats. */
extern const struct option_type http_options[];
extern const unsigned http_options_count;
extern const struct counter_type http_counters[];
extern const unsigned http_counters_count;

enum http_dialect {
    HTTP_PLAIN, /* bodies as the text of the API shows them */
    HTTP_CLOUD, /* the envelope {"status", "requestId", "result"} */
};

/* May start as { 0 }. All of it is copied. */
struct http_server_options {
    /* Addresses as "127.0.0.1:8080" or "[::1]:8080", separated by spaces; port 0: any. NULL: none. */
    const char *plain_addresses;
    const char *cloud_addresses;
    /* The addresses are a preset: those that the machine has no protocol for are passed over, not refused. */
    bool skip_unsupported;
    const char *certificate_path, *key_path; /* PEM; both or none: then addresses must be of loopback, or insecure */
    bool insecure;
    struct http_limits limits;
    reeve_log_cb log; /* NULL: no log */
    void *log_arg;
    enum reeve_log_level log_level; /* 0: REEVE_LOG_INFO */
    /* More counters for the metrics page, table by table: returns how many the index-th one has, 0 behind the last; may
     * be NULL. */
    size_t (*extra_counters)(void *arg, unsigned index, const struct counter_type **ret_types, const void **ret_values);
    void *extra_arg;
    operation_log_cb operation_log; /* NULL: nobody keeps such things */
    void *operation_log_arg;
};

struct uv_loop_s;
struct http_server;

/* Listen. On failure *ret_server is NULL and ret_error says why; the loop must then run once more for handles to
 * close. */
int http_server_open(const struct http_server_options *options, struct uv_loop_s *loop, struct reeve_engine *engine,
                     struct http_server **ret_server, struct reeve_error *ret_error);

/* Listen no more, end streams and waits, answer what is under way, disconnect everybody, then call on_closed (may be
 * NULL): the server is no more, and the engine may be closed. */
void http_server_close(struct http_server *server, void (*on_closed)(void *arg), void *arg);

/* Change what may change while running: limits, log level, and certificate and key, which are read again. */
int http_server_reload(struct http_server *server, const struct http_limits *limits, enum reeve_log_level log_level,
                       struct reeve_error *ret_error);

void http_server_get_stats(const struct http_server *server, struct http_stats *ret_stats);

/* The index-th address that is listened on, with the port it got: "127.0.0.1:8080". NULL: there are no more. */
const char *http_server_address(const struct http_server *server, unsigned index, enum http_dialect *ret_dialect);

#endif
