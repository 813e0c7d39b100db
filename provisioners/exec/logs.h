/* What programs wrote for operators, kept for a while after the end: STATE/logs/OPERATION. */
#ifndef REEVE_EXEC_LOGS_H
#define REEVE_EXEC_LOGS_H

#include <reeve.h>

#include "base/buffer.h"

#define LOG_BYTES_MAX 65536 /* of one operation; the end of a longer one */
#define LOGS_KEPT 100

struct log_owner {
    struct reeve_uuid organization_id, service_id, operation_id;
};

/* The part of one run: its log under a head line, and its progress. */
void logs_append_run(const char *run_directory, const char *head, struct buffer *log, struct buffer *progress);
/* Add a run that has ended to what is kept of its operation. */
void logs_keep(const char *state, const struct log_owner *owner, const char *run_directory, const char *head);
/* Append what is kept. False: nothing, or not of this organization and service. */
bool logs_read(const char *state, const struct log_owner *owner, struct buffer *log, struct buffer *progress);

#endif
