/* What stands between the daemon and a program: `reeve exec-run`, a process of its own for each run. It outlives the
 * daemon, so that the end of the program is always written down, and it holds the program to its time. */
#ifndef REEVE_EXEC_WRAPPER_H
#define REEVE_EXEC_WRAPPER_H

#include <sys/types.h>

struct exec_config;

#define WRAPPER_GRACE_MS 5000 /* from SIGTERM to SIGKILL */

/* Names in the directory of a run, which is the working directory of wrapper and program. */
#define RUN_REQUEST "request.json"
#define RUN_OUT "out.json"
#define RUN_LOG "log"
#define RUN_PROGRESS "progress"
#define RUN_RESULT "result"
#define RUN_PROCESS "run.json"

/* exec-run TIMEOUT_MS PROGRAM OPERATION. Starts when a byte comes on standard input, and ends without a trace when that
 * is closed before: the daemon writes down who runs before anything may act. SIGTERM ends the program (SIGKILL after
 * the grace), SIGQUIT kills it at once. */
int wrapper_main(int argc, char **argv);

/* Start one outside of a loop, in a directory that exists, let it go ahead, and give its number. -1: errno says why. */
pid_t wrapper_start(const struct exec_config *config, const char *run_directory, const char *operation,
                    unsigned long long timeout_ms);

#endif
