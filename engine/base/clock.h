/* A clock that people can read and timers can trust: it starts at the wall clock, moves with the monotonic one, never
 * goes back and never jumps. Where the wall clock was set, it drifts there by a sixteenth of the time that passes, so
 * that nothing fires early, twice or never because somebody corrected the time. */
#ifndef REEVE_BASE_CLOCK_H
#define REEVE_BASE_CLOCK_H

#include <stdint.h>

struct steady_clock {
    uint64_t now_ns, mono_ns;
};

/* Starts at the wall clock, but not before floor_ns: the last time that was written down. */
void clock_start(struct steady_clock *clock, uint64_t wall_ns, uint64_t mono_ns, uint64_t floor_ns);
/* The time now, given what both clocks of the system say. */
uint64_t clock_advance(struct steady_clock *clock, uint64_t wall_ns, uint64_t mono_ns);

/* What the system says. The monotonic clock goes on while the machine sleeps. */
uint64_t clock_wall_ns(void);
uint64_t clock_mono_ns(void);

/* In a loop that waits for another processor. */
static inline void processor_pause(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("isb");
#endif
}

#endif
