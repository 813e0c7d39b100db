/* What the files of the door share. */
#ifndef REEVE_DOOR_PRIVATE_H
#define REEVE_DOOR_PRIVATE_H

#include <uv.h>

#include "base/map.h"
#include "base/network.h"
#include "frontends/common/link.h"
#include "provisioners/door/door.h"

#define DOOR_PROTOCOL_SIZE 51
#define DOOR_HOST_SIZE 256
#define DOOR_BUFFER_BYTES 262144
#define DOOR_HELD_BYTES 32768 /* of each client that waits: the rest waits in its socket */

struct door {
    struct reeve_engine *engine;
    struct reeve_client *client;
    uv_loop_t *loop;
    struct door_limits limits;
    struct door_stats stats;
    reeve_log_cb log;
    void *log_arg;
    char *state_dir;
    char address[64], host[DOOR_HOST_SIZE];
    unsigned port_first, port_last, port_next;
    struct map services; /* service id -> struct door_service */
    struct link all;     /* of them */
    struct link moved;   /* services whose bytes moved since activity was last told */
    char *buffer;        /* what was read, until it is written: connections keep only what was not taken at once */
    struct reeve_watch watch;
    uv_timer_t tick;
    unsigned ticks;
    unsigned handles_open; /* of listeners, connections and the tick */
    bool started, closing, client_closed, closed;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

struct door_service;

struct door_port {
    struct door_service *service;
    char protocol[DOOR_PROTOCOL_SIZE], username[DOOR_HOST_SIZE];
    unsigned port; /* public */
    char private_host[DOOR_HOST_SIZE];
    unsigned private_port;
    uv_tcp_t *listener; /* NULL: not open, tried again by and by */
};

struct door_service {
    struct door *door;
    struct link in_all, in_moved;
    struct reeve_uuid id, organization_id;
    enum reeve_service_state state;
    uint64_t generation; /* of the record that says so */
    struct network *networks;
    size_t networks_count;
    struct door_port ports[REEVE_ENDPOINTS_MAX];
    unsigned ports_count;
    struct reeve_endpoint shown[REEVE_ENDPOINTS_MAX]; /* what the API shows */
    struct link held, open;                           /* connections that wait; that are passed on */
    unsigned held_count;
    struct reeve_request activity;
    bool telling, gone; /* the request is with the engine; the service is no more, but for that */
    uint64_t told_ms;   /* loop time of the last report; 0: none yet */
};

enum connection_phase {
    PHASE_HELD,       /* waits for the service */
    PHASE_CONNECTING, /* to the server */
    PHASE_OPEN,
    PHASE_CLOSED,
};

/* One way of a connection. */
struct pump {
    struct door_connection *connection;
    uv_tcp_t *from, *to;
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool writing, ended, shut; /* the source has ended; the sink was told */
    char *kept;                /* read and not written yet; NULL: nothing */
    size_t kept_size;
    uint64_t *bytes; /* counter */
};

struct door_connection {
    struct door_service *service;
    struct link link;
    enum connection_phase phase;
    const struct door_port *port;
    uint64_t deadline_ms, retry_ms;
    bool wakes; /* it is reason enough to wake its service */
    uv_tcp_t client, server;
    bool server_open; /* the handle was made */
    unsigned handles;
    uv_connect_t connect;
    struct pump in, out;
};

/* ---- door.c ---- */

__attribute__((format(printf, 3, 4))) void door_log(struct door *door, enum reeve_log_level level, const char *format,
                                                    ...);
void door_handle_closed(struct door *door);
/* Bytes of the service have moved. */
void service_moved(struct door_service *service);
/* Bytes wait for it: it wakes where it is idle. */
void service_wake(struct door_service *service);
bool service_is_up(const struct door_service *service);
/* Take over what the engine says of it. False: it is gone. */
bool service_refresh(struct door_service *service);
void service_free(struct door_service *service);

/* ---- ports.c: which port is whose ---- */

/* False: out of memory. */
struct door_service *service_new(struct door *door, const struct reeve_uuid *organization_id,
                                 const struct reeve_uuid *service_id);
/* The ports of a service become those of these endpoints; protocols keep theirs. False with *ret_problem. */
bool ports_assign(struct door_service *service, const struct reeve_endpoint_list *endpoints, const char **ret_problem);
/* Close those that are open, forget the file. */
void ports_release(struct door_service *service);
void ports_close(struct door_service *service);
/* Listen where that is not done yet. */
void ports_listen(struct door_service *service);
bool ports_read_all(struct door *door, struct reeve_error *ret_error);

/* ---- connection.c ---- */

void door_accept(struct door_port *port);
/* The state of the service has changed. */
void door_go_on(struct door_service *service);
void door_tick(struct door_service *service, uint64_t now_ms);
void door_disconnect(struct door_service *service);

#endif
