/* Moments at the same distance from each other: for commands that each have a time of their own. */
#ifndef REEVE_BENCH_PACE_H
#define REEVE_BENCH_PACE_H

struct pace {
    int timer; /* a descriptor, readable when the next one has come */
    double period_ns, next_ns;
};

/* From now on. 0, or -1 after it has said what went wrong. */
int pace_open(struct pace *ret_pace, double per_second);
void pace_close(struct pace *pace);
/* Sets the timer to the next one. */
void pace_arm(const struct pace *pace);
/* Returns when the next one has come. */
void pace_wait(const struct pace *pace);
/* How many have come and were not taken yet, at most so many. */
unsigned pace_take(struct pace *pace, unsigned max);

#endif
