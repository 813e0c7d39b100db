#include "log.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "codec.h"

static atomic_bool as_json;
static atomic_int level_max = REEVE_LOG_INFO;

static const char *const level_names[] = {[REEVE_LOG_ERROR] = "error",
                                          [REEVE_LOG_WARNING] = "warning",
                                          [REEVE_LOG_INFO] = "info",
                                          [REEVE_LOG_DEBUG] = "debug"};

void log_configure(bool json, enum reeve_log_level level)
{
    atomic_store(&as_json, json);
    atomic_store(&level_max, (int)level);
}

/* One write for one line, so that lines of several threads do not mix. */
static void put_line(const char *text)
{
    struct iovec parts[2] = {{.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)},
                             {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1}};
    if (writev(STDERR_FILENO, parts, 2) < 0)
        return; /* nowhere left to tell it */
}

void log_line(void *arg, enum reeve_log_level level, const char *line)
{
    char time_text[25];
    struct timespec now;
    (void)arg;
    if ((int)level > atomic_load(&level_max))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    codec_format_time((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, true, time_text);
    if (!atomic_load(&as_json)) {
        char text[1024];
        snprintf(text, sizeof text, "%s %-7s %s", time_text, level_names[level], line);
        for (char *at = text; *at; at++) { /* what clients name things must not forge lines or colours */
            if ((unsigned char)*at < ' ' || *at == 0x7f)
                *at = '?';
        }
        put_line(text);
        return;
    }
    json_t *object = json_pack("{s:s, s:s, s:s}", "time", time_text, "level", level_names[level], "message", line);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    put_line(text ? text : "{\"level\":\"error\",\"message\":\"a log line could not be written as JSON\"}");
    free(text);
    json_decref(object);
}

void log_format(enum reeve_log_level level, const char *format, ...)
{
    char line[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    log_line(NULL, level, line);
}
