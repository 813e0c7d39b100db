/* How frontends ask a provisioner for what the program of an operation wrote. */
#ifndef REEVE_OPERATION_LOG_H
#define REEVE_OPERATION_LOG_H

#include <reeve.h>

#include "base/buffer.h"

/* Appends the log and the lines of progress, as UTF-8. False: nothing is kept of it. */
typedef bool (*operation_log_cb)(void *arg, const struct reeve_operation_params *which, struct buffer *log,
                                 struct buffer *progress);

#endif
