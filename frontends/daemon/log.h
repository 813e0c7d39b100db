/* Log lines on standard error, as text for people or JSON for programs. Any thread. */
#ifndef REEVE_DAEMON_LOG_H
#define REEVE_DAEMON_LOG_H

#include <reeve.h>

void log_configure(bool json, enum reeve_log_level level);
/* A reeve_log_cb. */
void log_line(void *arg, enum reeve_log_level level, const char *line);
__attribute__((format(printf, 2, 3))) void log_format(enum reeve_log_level level, const char *format, ...);

#endif
