/* The inside of the provisioner: opening, closing and settings in exec.c, what the engine asks for in attempts.c. */
#ifndef REEVE_EXEC_PRIVATE_H
#define REEVE_EXEC_PRIVATE_H

#include "describe.h"
#include "exec.h"
#include "health.h"
#include "run.h"

struct exec {
    struct exec_config config;
    struct description description;
    struct reeve_provisioner provisioner;
    struct reeve_engine *engine;
    uv_loop_t *loop;
    reeve_log_cb log;
    exec_outcome_cb on_outcome; /* may be NULL */
    void *outcome_arg;
    struct exec_limits limits;
    struct health *health; /* NULL: nobody looks after servers (yet, or any more) */
    int lock;              /* on the state directory */
    struct link runs;
    uv_timer_t tick;    /* active while there are runs */
    uv_signal_t orphan; /* a child has ended */
    bool opened, closed;
};

__attribute__((format(printf, 3, 4))) void exec_say(const struct exec *exec, enum reeve_log_level level,
                                                    const char *format, ...);

/* ---- attempts.c ---- */

/* What reeve_provisioner has to have. */
void attempts_on_start(void *arg, struct reeve_task *task);
void attempts_on_cancel(void *arg, struct reeve_task *task);
/* One more run to look after. */
void attempts_add(struct exec *exec, struct run *run);
void attempts_on_ended(struct run *run);
/* A child has ended that may be nobody's. */
void attempts_on_orphan(uv_signal_t *handle, int number);

#endif
