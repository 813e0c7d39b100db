#include "clock.h"

#include <time.h>

#define DRIFT 16

void clock_start(struct steady_clock *clock, uint64_t wall_ns, uint64_t mono_ns, uint64_t floor_ns)
{
    clock->now_ns = wall_ns > floor_ns ? wall_ns : floor_ns;
    clock->mono_ns = mono_ns;
}

uint64_t clock_advance(struct steady_clock *clock, uint64_t wall_ns, uint64_t mono_ns)
{
    const uint64_t elapsed = mono_ns > clock->mono_ns ? mono_ns - clock->mono_ns : 0;
    const uint64_t straight = clock->now_ns + elapsed;
    const uint64_t drift_max = elapsed / DRIFT;
    if (wall_ns > straight)
        clock->now_ns = straight + (wall_ns - straight < drift_max ? wall_ns - straight : drift_max);
    else
        clock->now_ns = straight - (straight - wall_ns < drift_max ? straight - wall_ns : drift_max);
    clock->mono_ns += elapsed;
    return clock->now_ns;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t clock_mono_ns(void)
{
    return read_clock(CLOCK_BOOTTIME);
}
