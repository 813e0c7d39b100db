/* Places where a crash is tried out, see schemas/crash_points.def; nothing at all except in the crash build. */
#ifndef REEVE_BASE_CRASH_H
#define REEVE_BASE_CRASH_H

enum crash_point {
#define CRASH_POINT(id, name, text) CRASH_##id,
#include "crash_points.def"
    CRASH_POINT_COUNT,
};

#ifdef REEVE_CRASH_POINTS
void crash_point(enum crash_point point); /* any thread; tests/crash/crash.c */
#else
static inline void crash_point(enum crash_point point)
{
    (void)point;
}
#endif

#endif
