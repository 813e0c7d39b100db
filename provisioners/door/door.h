/* The doors of services. reeve owns the public port of each endpoint for a service's whole life, lets in who is on its
 * access list, and passes bytes on to the private port of the server. The first byte for a service that is idle wakes
 * it; who comes meanwhile is held and then served. Where no byte moves for long enough, the engine lets the service
 * idle. A service that was stopped refuses, and is never woken.
 *
 * All of it happens on the thread of one loop. Which port is whose is kept in files of its own, written before anybody
 * is told of the port.
 */
#ifndef REEVE_DOOR_H
#define REEVE_DOOR_H

#include <reeve.h>

#include "schema.h"

/* 0 means the default. */
struct door_limits {
#define DOOR_LIMIT(c_name, flag, preset, min, max, unit, text) uint64_t c_name;
#include "limits.def"
};

struct door_stats {
#define DOOR_COUNTER(c_name, name, kind, text) uint64_t c_name;
#include "counters.def"
};

extern const struct option_type door_options[];
extern const unsigned door_options_count;
extern const struct counter_type door_counters[];
extern const unsigned door_counters_count;

struct door_settings {
    const char *ports;     /* "127.0.0.1:20000-20999": where to listen */
    const char *host;      /* how clients are told to reach it; NULL: the address of `ports` */
    const char *state_dir; /* made where missing */
    struct door_limits limits;
    reeve_log_cb log; /* NULL: no log */
    void *log_arg;
};

struct door;
struct uv_loop_s;

/* Reads what earlier doors have written. On failure *ret_door is NULL and ret_error says why. */
int door_new(const struct door_settings *settings, struct uv_loop_s *loop, struct door **ret_door,
             struct reeve_error *ret_error);
/* Open the doors of all services; right after reeve_open(). */
int door_start(struct door *door, struct reeve_engine *engine, struct reeve_error *ret_error);

/* A provisioner has an outcome, and has not told the engine: endpoints become those of the door. `arg` is the door.
 * What the outcome then points to stays until the next call for the same service. */
void door_outcome(void *arg, const struct reeve_uuid *organization_id, const struct reeve_uuid *service_id,
                  enum reeve_operation_kind kind, struct reeve_outcome *outcome);

void door_reload(struct door *door, const struct door_limits *limits);
void door_get_stats(const struct door *door, struct door_stats *ret_stats);
/* Close all doors and connections, then call on_closed: the door is no more, but for door_outcome(), which does nothing
 * then. */
void door_close(struct door *door, void (*on_closed)(void *arg), void *arg);
/* After reeve_close(). NULL is fine. */
void door_free(struct door *door);

#endif
