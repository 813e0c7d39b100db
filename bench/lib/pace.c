#include "pace.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common.h"

int pace_open(struct pace *ret_pace, double per_second)
{
    *ret_pace = (struct pace){.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
                              .period_ns = 1e9 / per_second,
                              .next_ns = (double)bench_now_ns()};
    return ret_pace->timer < 0 ? bench_complain("a timer", strerror(errno)) : 0;
}

void pace_close(struct pace *pace)
{
    close(pace->timer);
}

void pace_arm(const struct pace *pace)
{
    const uint64_t next_ns = (uint64_t)pace->next_ns;
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(next_ns / 1000000000), .tv_nsec = (long)(next_ns % 1000000000)}};
    timerfd_settime(pace->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Sleeping by clock_nanosleep() would add the slack that the kernel gives to sleepers, which is a flush of some disks.
 */
void pace_wait(const struct pace *pace)
{
    uint64_t passed;
    pace_arm(pace);
    while (read(pace->timer, &passed, sizeof passed) < 0 && errno == EINTR)
        ;
}

unsigned pace_take(struct pace *pace, unsigned max)
{
    const double now_ns = (double)bench_now_ns();
    unsigned count = 0;
    for (; count < max && pace->next_ns <= now_ns; count++)
        pace->next_ns += pace->period_ns;
    return count;
}
