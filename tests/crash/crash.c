/* Dies where REEVE_CRASH=NAME:COUNT says. Linked into the crash build only: the library itself reads no environment. */
#include "base/crash.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[CRASH_POINT_COUNT] = {
#define CRASH_POINT(id, name, text) [CRASH_##id] = name,
#include "crash_points.def"
};

static enum crash_point wanted = CRASH_POINT_COUNT;
static atomic_long left;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A point that is misspelt must not look like one that was survived. */
static void read_environment(void)
{
    const char *text = getenv("REEVE_CRASH");
    if (!text)
        return;
    const size_t size = strcspn(text, ":");
    for (int i = 0; i < CRASH_POINT_COUNT; i++) {
        if (strlen(names[i]) == size && strncmp(names[i], text, size) == 0)
            wanted = (enum crash_point)i;
    }
    char *end = NULL;
    const long count = text[size] == ':' ? strtol(text + size + 1, &end, 10) : 0;
    if (wanted == CRASH_POINT_COUNT || count < 1 || *end != '\0') {
        fprintf(stderr, "REEVE_CRASH must be POINT:COUNT with a point of schemas/crash_points.def <text:%s>\n", text);
        abort();
    }
    atomic_store(&left, count);
}

void crash_point(enum crash_point point)
{
    pthread_once(&once, read_environment);
    if (point == wanted && atomic_fetch_sub(&left, 1) == 1)
        raise(SIGKILL);
}
