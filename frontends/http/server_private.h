/* What the files of the HTTP frontend share. All of it belongs to the thread of the loop.
 *
 * An exchange is one request and its answer. libmicrohttpd calls for it when the request line is there (on_uri), when
 * the head is there, for each piece of the body, when all is there, again after it was suspended and resumed, and when
 * it is over. An exchange that waits (for the engine, for a state, for the end of a pause) is suspended;
 * exchange_resume() is the only way on. It is freed when libmicrohttpd says that it is over, never before: a client
 * that has gone meanwhile needs no special care.
 */
#ifndef REEVE_HTTP_SERVER_PRIVATE_H
#define REEVE_HTTP_SERVER_PRIVATE_H

#include <microhttpd.h>
#include <sodium.h>
#include <uv.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "frontends/common/link.h"
#include "frontends/http/route.h"
#include "frontends/http/server.h"

#define HTTP_REQUEST_ID_SIZE 129
#define HTTP_SPARE_EXCHANGES_MAX 4096
#define HTTP_RANDOM_BYTES 4096
#define HTTP_ADDRESS_SIZE 64
#define METRICS_OF_SERVICES 2

struct http_tls;
struct http_failures;
struct http_rates;

struct http_listener {
    struct http_server *server;
    enum http_dialect dialect;
    int fd; /* -1: not open */
    uv_poll_t clients;
    uint64_t connections;
    struct http_connection *arriving; /* while libmicrohttpd is given it */
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    bool poll_open, dirty;
    char address[HTTP_ADDRESS_SIZE];
};

/* The text of the events of one run, for all streams that show the same of it (stream.c). */
struct http_encoded {
    enum http_dialect dialect;
    struct reeve_uuid organization_id, service_id;
    uint64_t first;
    size_t count;
    struct buffer text;
};

struct http_server {
    struct reeve_engine *engine;
    struct reeve_client *client;
    struct http_limits limits;
    struct http_stats stats;
    uint64_t answers[ROUTE_COUNT + 1][600]; /* by route (the last one: none) and status */
    struct http_tls *tls;
    struct http_failures *failures;
    struct http_rates *rates;
    reeve_log_cb log;
    void *log_arg;
    enum reeve_log_level log_level;
    size_t (*extra_counters)(void *arg, unsigned index, const struct counter_type **ret_types, const void **ret_values);
    void *extra_arg;
    operation_log_cb operation_log;
    void *operation_log_arg;

    uv_loop_t *loop;
    uv_prepare_t prepare;
    uv_timer_t timer; /* sweeps connections; active while there are any */
    uv_timer_t pause_timer;
    uv_timer_t close_timer;
    unsigned handles_open;
    bool closing, client_closed, stopped;
    void (*on_closed)(void *arg);
    void *on_closed_arg;

    struct http_listener *listeners;
    unsigned listeners_count;
    int lobby_epoll;
    uv_poll_t lobby;
    struct link heads, bodies; /* connections that are waited for, by deadline */
    uint64_t quiet_since_ms;   /* who is waited for since before then has been looked at (server.c) */
    struct link paused;        /* exchanges whose refusal is held back */
    struct link submitting;    /* exchanges whose command goes to the engine at the end of this turn */
    struct link waiting;       /* exchanges that wait for a state (waiting.c) */
    struct link streams;       /* event streams (stream.c) */
    struct http_encoded encoded;
    uint64_t connections_peak;
    unsigned exchanges_count;
    unsigned works_count; /* that threads of libuv's pool are at */

    struct http_exchange *spare;
    unsigned spare_count;
    uint8_t random[HTTP_RANDOM_BYTES];
    size_t random_left;
};

struct http_exchange;

struct http_connection {
    struct http_server *server;
    struct http_listener *listener;
    struct http_exchange *exchange; /* the request that is under way */
    struct link phase;              /* in heads or bodies */
    uint64_t since_ms, deadline_ms; /* of that phase */
    int fd;
    bool in_lobby, waiting;          /* not yet libmicrohttpd's; and in the lobby's epoll */
    char address[HTTP_ADDRESS_SIZE]; /* of the client, without its port */
    /* The last Authorization header that was good, as a keyed hash, and whose it was: most clients send the same again.
     */
    bool known;
    uint8_t header_hash[crypto_shorthash_siphashx24_BYTES];
    struct reeve_identity identity;
};

/* The headers that mean something here. NULL: not there. */
struct http_head {
    const char *host, *authorization, *accept, *accept_encoding, *content_type, *content_length, *transfer_encoding;
    const char *if_match, *if_none_match, *prefer, *idempotency_key, *last_event_id, *request_id;
    size_t bytes;
    const char *twice; /* a header that may stand only once and does not */
    bool malformed;
};

enum exchange_state {
    EXCHANGE_HEAD,     /* the head is not there yet */
    EXCHANGE_BODY,     /* the body is not all there yet */
    EXCHANGE_WAITING,  /* suspended */
    EXCHANGE_ANSWERED, /* `response` is there */
};

/* A list that is sent while it is read (listing.c). */
struct http_listing {
    size_t sent;                /* of exchange->out */
    bool any, done;             /* an item was put; nothing more to read */
    unsigned metric;            /* the list is gone through once for each */
    uint64_t left;              /* items still wanted */
    uint64_t looked_at, wanted; /* records of this piece */
    struct reeve_uuid last_id;
    uint64_t next_sequence;
    uint64_t from_ms, to_ms;      /* activities: only of this time */
    struct reeve_uuid service_id; /* events: only of this service */
    struct z_stream_s *zip;
    uv_work_t *work;
    struct reeve_error error; /* of the work */
};

/* Waits for a service or backup to come to rest (waiting.c), or tells events (stream.c). */
struct http_watching {
    struct link link;
    struct reeve_watch watch;
    bool active;
    uv_timer_t *timer;
    uint64_t deadline_ms, told_ms;
    struct reeve_uuid service_id, backup_id;
    struct reeve_str password;
    struct buffer out;
    size_t sent;
    bool ended;
};

struct http_exchange {
    struct reeve_request base; /* first: answers of the engine come with it */
    struct http_server *server;
    struct http_listener *listener;
    struct http_connection *connection;
    struct MHD_Connection *mhd;
    enum exchange_state state;
    bool suspended;
    uint64_t started_ns;

    struct arena arena;
    struct reeve_str uri; /* as it came */
    const char *method;
    struct route_path path;
    struct route_match match;
    const struct http_route *route;
    unsigned query_count;
    struct route_param *query; /* decoded */
    struct http_head head;
    bool framing_broken; /* where the request ends is not sure */
    char request_id[HTTP_REQUEST_ID_SIZE];
    struct reeve_identity identity;
    char actor[64];

    struct buffer body;
    uint64_t body_bytes; /* came, also what was dropped */
    struct json_t *json;

    struct buffer out;
    unsigned status;
    struct MHD_Response *response;
    uint64_t generation; /* of what is answered; 0: none */
    uint64_t wait_ms;
    bool replayed;
    uint64_t retry_after_s, rate_reset_s;
    unsigned allow; /* methods, for 405 and OPTIONS */

    struct link paused; /* in paused or submitting */
    uint64_t paused_until_ms;
    struct http_listing listing;
    struct http_watching watching;
    struct http_exchange *next_spare;
};

/* ---- server.c ---- */

__attribute__((format(printf, 3, 4))) void http_log(struct http_server *server, enum reeve_log_level level,
                                                    const char *format, ...);
void http_random(struct http_server *server, void *bytes, size_t size);
/* Counted, and with a deadline for its first head. NULL: out of memory. */
struct http_connection *connection_new(struct http_listener *listener, int fd, const struct sockaddr *address);
void connection_over(struct http_connection *connection);
/* Let the timer run. */
void server_tick(struct http_server *server);

/* ---- callbacks.c: what libmicrohttpd calls ---- */

/* Without a socket of its own: it is given connections. NULL: it cannot. */
struct MHD_Daemon *callbacks_start_daemon(struct http_listener *listener);

/* ---- address.c ---- */

struct addrinfo;

/* "127.0.0.1:8080", "[::1]:8080", "localhost:8080". 0 or a negative code; to be freed with freeaddrinfo(). */
int address_resolve(const char *text, const char *field, struct addrinfo **ret_address, struct reeve_error *ret_error);
bool address_is_loopback(const struct sockaddr *address);
/* A socket that listens; -1 with errno. */
int address_listen(const struct addrinfo *address);
/* The host alone; with the port, of a socket. */
void address_print(const struct sockaddr *address, char ret_text[HTTP_ADDRESS_SIZE]);
void address_of(int fd, char ret_text[HTTP_ADDRESS_SIZE]);

/* ---- lobby.c: clients whose first head is not whole yet ---- */

/* Returns 0 or a negative errno. */
int lobby_open(struct http_server *server);
void lobby_listen(struct http_listener *listener, int fd);
/* Take the next clients, where that was not possible until now. */
void lobby_accept(struct http_listener *listener);
/* At all that has come by now, where the loop may be late. */
void lobby_look(struct http_server *server);
/* Disconnect one of them. */
void lobby_drop(struct http_connection *connection);

/* ---- exchange.c: the life of one request ---- */

struct http_exchange *exchange_new(struct http_listener *listener, struct MHD_Connection *mhd, const char *uri);
/* What libmicrohttpd's access handler is asked; see there. */
enum MHD_Result exchange_step(struct http_exchange *exchange, const char *method, const char *data, size_t *size);
void exchange_over(struct http_exchange *exchange);
/* Not before the exchange is suspended does this do anything: else it is still in the hands of exchange_step(). */
void exchange_resume(struct http_exchange *exchange);
void exchange_free_spare(struct http_server *server);
/* Let go of the answers that are held back by paused_until_ms: a wrong key is worth a pause. */
void exchange_unpause_all(struct http_server *server);

/* ---- request.c: head, query and body into a command ---- */

bool request_read_head(struct http_exchange *exchange);
bool request_read_query(struct http_exchange *exchange);
bool request_read_conditions(struct http_exchange *exchange);
/* Fill base.params and base.meta for base.command. */
bool request_decode(struct http_exchange *exchange);
/* The member `name` of the body as text; absent: false and a refusal. */
bool request_body_word(struct http_exchange *exchange, const char *name, struct reeve_str *ret_word);
/* A query parameter; absent: size 0. */
struct reeve_str request_query(const struct http_exchange *exchange, const char *name);
struct reeve_str request_param(const struct http_exchange *exchange, const char *name);
/* The same as an id; false: it is none, and that is answered. */
bool request_param_uuid(struct http_exchange *exchange, const char *name, struct reeve_uuid *ret_id);
bool request_accepts(const struct http_exchange *exchange, const char *type);
bool request_accepts_gzip(const struct http_exchange *exchange);

/* ---- run.c: what is done for a route ---- */

void run_exchange(struct http_exchange *exchange);
void run_command(struct http_exchange *exchange);
/* Hand the engine the commands of this turn of the loop. */
void run_submit_all(struct http_server *server);
/* Read the one record of base.command; false: refused. */
bool run_read(struct http_exchange *exchange, reeve_item_cb on_item, void *arg);

/* ---- answer.c: JSON and headers ---- */

/* The buffer that the body is to be appended to, behind the head of the envelope. */
struct buffer *answer_begin(struct http_exchange *exchange);
/* Close the envelope and make the response. */
void answer_end(struct http_exchange *exchange);
void answer_record(struct http_exchange *exchange, const struct record_type *type, const void *record);
void answer_nothing(struct http_exchange *exchange);               /* success that has nothing to show */
void answer_bare(struct http_exchange *exchange, unsigned status); /* no body at all */
/* "GET, HEAD, OPTIONS"; 64 bytes are enough. */
void answer_allow(unsigned methods, char *ret_text, size_t size);
void answer_text(struct http_exchange *exchange, const char *content_type, const char *data, size_t size);
/* The response made elsewhere: give it the headers all have. */
void answer_response(struct http_exchange *exchange, unsigned status, struct MHD_Response *response,
                     const char *content_type);
/* A refusal of the engine; `where` says what its field is part of: "request body", "request path", "request query". */
void refuse_error(struct http_exchange *exchange, const struct reeve_error *error);
__attribute__((format(printf, 4, 5))) void refuse(struct http_exchange *exchange, enum reeve_error_code code,
                                                  const char *field, const char *format, ...);
/* A refusal that only HTTP knows. */
__attribute__((format(printf, 4, 5))) void refuse_status(struct http_exchange *exchange, unsigned status,
                                                         const char *code, const char *format, ...);

/* ---- listing.c, stream.c, waiting.c, local.c, metrics.c ---- */

void listing_run(struct http_exchange *exchange);
void listing_release(struct http_exchange *exchange);
void stream_run(struct http_exchange *exchange);
void stream_release(struct http_exchange *exchange);
void stream_end_all(struct http_server *server);
void stream_tick(struct http_server *server);
/* The command was done and its client wants to wait: true when the answer comes later. */
bool waiting_start(struct http_exchange *exchange, const struct reeve_result *result);
void waiting_release(struct http_exchange *exchange);
void waiting_end_all(struct http_server *server);
void local_run(struct http_exchange *exchange);
void activity_put(struct http_exchange *exchange, struct buffer *out, const struct reeve_event *event);
bool activity_is(const struct reeve_event *event);
void metrics_run(struct http_exchange *exchange);
/* Of services, one metric after the other: the format wants all samples of one together, behind its head. */
void metrics_service_head(struct buffer *out, unsigned metric);
void metrics_service(struct buffer *out, unsigned metric, const struct reeve_service *service);

/* ---- auth.c, tls.c ---- */

/* Who asks, and may they: fills identity; false: refused, perhaps later. */
bool auth_check(struct http_exchange *exchange);
struct http_failures *failures_new(void);
void failures_free(struct http_failures *failures);
struct http_rates *rates_new(void);
void rates_free(struct http_rates *rates);
int tls_open(const char *certificate_path, const char *key_path, struct http_tls **ret_tls,
             struct reeve_error *ret_error);
int tls_reload(struct http_tls *tls, struct reeve_error *ret_error);
void tls_close(struct http_tls *tls);
/* The callback for MHD_OPTION_HTTPS_CERT_CALLBACK, and the instance it works for (there is one per process). */
void *tls_callback(void);

#endif
