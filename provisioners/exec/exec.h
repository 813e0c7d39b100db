/* A provisioner that runs one program per operation, as docs/provisioners.md says: for real services, written in any
 * language. Programs outlive the daemon; the next one takes over where the last one was. */
#ifndef REEVE_EXEC_H
#define REEVE_EXEC_H

#include <reeve.h>

#include "base/buffer.h"

struct exec;
struct uv_loop_s;

/* spec: "PROGRAM[,state=DIR][,backups=DIR][,env.NAME=VALUE]...". Runs `PROGRAM describe`, makes the directories and
 * becomes the one who reaps what programs leave behind. On failure *ret_exec is NULL and ret_error says why. */
int exec_new(const char *spec, const char *data_dir, struct uv_loop_s *loop, reeve_log_cb log, struct exec **ret_exec,
             struct reeve_error *ret_error);
/* For struct reeve_options. */
const struct reeve_provisioner *exec_provisioner(struct exec *exec);
/* What a door has called with each outcome before the engine is told: it puts its own endpoints in. Programs see
 * REEVE_DOOR=1 from then on. */
typedef void (*exec_outcome_cb)(void *arg, const struct reeve_uuid *organization_id,
                                const struct reeve_uuid *service_id, enum reeve_operation_kind kind,
                                struct reeve_outcome *outcome);
void exec_set_outcome(struct exec *exec, exec_outcome_cb on_outcome, void *arg);
/* Where it keeps what it has to know again. */
const char *exec_state_directory(const struct exec *exec);
/* The engine to answer to, right after reeve_open(). */
void exec_set_engine(struct exec *exec, struct reeve_engine *engine);
/* Append what the program that does or did an operation wrote: its log, and its lines of progress. False: nothing is
 * known of it. */
bool exec_read_log(struct exec *exec, const struct reeve_operation_params *which, struct buffer *log,
                   struct buffer *progress);
/* After reeve_close(): let go of the loop, which must then run once more. Programs go on. */
void exec_close(struct exec *exec);
void exec_free(struct exec *exec);

#endif
