/* Processes that may not be our children: who is meant is said by number, time of start and boot together. */
#ifndef REEVE_EXEC_PROCESS_H
#define REEVE_EXEC_PROCESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* When a process started, in ticks since the boot: field 22 of /proc/PID/stat. False: there is none, or it is a zombie,
 * which is as good as none. */
bool process_start_time(pid_t pid, uint64_t *ret_ticks);

/* {"pid","startTime","bootId"}: what finds the process again. The caller owns it. NULL: it has ended. */
json_t *process_describe(pid_t pid);
/* A pidfd of the process that was described, if it still runs; else -1. */
int process_open(const json_t *description);

#endif
