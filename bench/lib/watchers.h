/* So many connections to a daemon, each of which is told of everything, read by a thread that throws it away. */
#ifndef REEVE_BENCH_WATCHERS_H
#define REEVE_BENCH_WATCHERS_H

struct watchers;

int watchers_start(const char *socket_path, unsigned count, struct watchers **ret_watchers);
/* NULL is fine. */
void watchers_stop(struct watchers *watchers);

#endif
