/* What a daemon committed during a run, as its own counters tell. */
#ifndef REEVE_BENCH_DAEMON_STATS_H
#define REEVE_BENCH_DAEMON_STATS_H

#include "bench/lib/run.h"
#include "frontends/ipc/client.h"

/* At the start and at the end of a run: the result then has the difference. -1: ipc_client_error() tells why. */
int bench_daemon_stats(struct ipc_client *client, bool end, struct run_result *result);

#endif
