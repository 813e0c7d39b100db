/* So many watches of everything, in a client of their own on a loop and a thread of their own: as hosts have them that
 * do not send the commands themselves. */
#ifndef REEVE_BENCH_WATCHING_H
#define REEVE_BENCH_WATCHING_H

#include <reeve.h>

struct watching;

/* `count` 0 is fine: *ret_watching is NULL then. */
int watching_start(struct reeve_engine *engine, unsigned count, struct watching **ret_watching);
/* How many events the one that is behind most has still to be told. */
uint64_t watching_lag(const struct watching *watching);
/* NULL is fine. */
void watching_stop(struct watching *watching);

#endif
