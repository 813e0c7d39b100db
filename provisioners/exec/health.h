/* Looks after the servers of services that run: by the process that the program named, whose end is noticed at once,
 * and by its operation `health`, from time to time. What is found goes to the engine by commands that any host may
 * give: service.health_lost, service.activity.
 *
 * A look that fails says nothing of the service: only an answer that it does not run counts. While an operation is
 * under way its program may stop and start the server, and nothing counts either.
 */
#ifndef REEVE_EXEC_HEALTH_H
#define REEVE_EXEC_HEALTH_H

#include "config.h"
#include "exec.h"
#include "logs.h"

struct health;

struct health_settings {
    struct exec *exec;
    const struct exec_config *config;
    struct uv_loop_s *loop;
    struct reeve_engine *engine;
    const struct exec_limits *limits; /* read each time: they may change */
    bool can_look;                    /* the program has the operation `health` */
    reeve_log_cb log;
};

/* Starts with what runs now, after a restart of the host as well: what should run and does not is lost. */
int health_open(const struct health_settings *settings, struct health **ret_health, struct reeve_error *ret_error);
/* Before the engine closes; then calls on_closed: it is no more. */
void health_close(struct health *health, void (*on_closed)(void *arg), void *arg);

/* The program has named the process of the service's server (0: it has not). Written down: the next daemon finds it. */
void health_note_process(const struct exec_config *config, const struct log_owner *owner, int pid);
/* There is none any more. */
void health_forget_process(const struct exec_config *config, const struct log_owner *owner);

/* Is it one of the looks that are under way? */
bool health_is_child(const struct health *health, int pid);
void health_get_stats(const struct health *health, struct exec_stats *ret_stats);

#endif
