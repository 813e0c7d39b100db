/* One run of a program, whether this daemon started it or the one before. */
#ifndef REEVE_EXEC_RUN_H
#define REEVE_EXEC_RUN_H

#include <jansson.h>
#include <uv.h>

#include "config.h"
#include "frontends/common/link.h"
#include "logs.h"

struct run {
    struct link link;
    struct exec *exec;
    struct log_owner owner;
    enum reeve_operation_kind kind;
    uint64_t attempt;        /* by which the engine knows it, once it has asked; before, that of the directory */
    struct reeve_task *task; /* NULL: the engine has not asked for it yet, or has taken it back */
    bool asked, cancelled, reported, kept;
    bool waiting;      /* for an earlier run to end: it has no process and no directory yet */
    uint64_t asked_ms; /* loop time */
    const char *code;  /* it could not be run, and why: there is no process and no directory */
    char problem[256];
    char *directory;
    int64_t progress_read; /* bytes of its progress that were told */

    bool alive, is_child;
    uv_process_t process; /* is_child */
    uv_poll_t poll;       /* adopted: on the pidfd */
    int pidfd;
    uint64_t kill_ms;                  /* loop time when its wrapper is killed too; 0: never */
    void (*on_ended)(struct run *run); /* NULL: nobody wants to know */
    void *data, *owner_data;           /* the owner's */
    unsigned handles_open;
    bool freed;
};

/* In no list. NULL when out of memory. */
struct run *run_new(struct exec *exec, const struct log_owner *owner, enum reeve_operation_kind kind, uint64_t attempt);
/* Freed when its handles are closed; a process goes on. */
void run_free(struct run *run);

/* Make its directory, write what the program reads (NULL: there was no memory for it), start it. on_ended is called
 * when it has ended. On failure `code` and `problem` say why, and nothing runs. */
void run_start(struct run *run, uv_loop_t *loop, const struct exec_config *config, const char *operation,
               const json_t *request, uint64_t timeout_ms, void (*on_ended)(struct run *run));
/* The run that is in this directory of an earlier daemon; NULL: there is none in it. */
struct run *run_find(struct exec *exec, uv_loop_t *loop, const char *runs, const char *name,
                     void (*on_ended)(struct run *run));
/* Have it ended: SIGTERM to its group, later SIGKILL. */
void run_end(struct run *run, uv_loop_t *loop);
/* Kill the wrapper as well, if the time for that has come. */
void run_end_overdue(struct run *run, uv_loop_t *loop);
/* The newest progress that was not read yet. False: there is none. */
bool run_read_progress(struct run *run, struct reeve_progress *ret_progress, char ret_text[256]);

#endif
