/* From a task to what the program reads. */
#ifndef REEVE_EXEC_REQUEST_H
#define REEVE_EXEC_REQUEST_H

#include <jansson.h>
#include <reeve.h>

#define EXEC_API 1
#define EXEC_MESSAGE_MAX 1048576

/* timeout_ms: what is left of the task's. NULL when out of memory. The caller owns it. */
json_t *request_of(const struct reeve_task *task, uint64_t timeout_ms);

#endif
