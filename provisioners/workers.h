/* A provisioner that does nothing by itself: it keeps the operations that are to be done, and leases them to workers.
 *
 * What waits or is leased is what the engine has in flight, so operations_max bounds it. All of it happens on one loop.
 */
#ifndef REEVE_WORKERS_H
#define REEVE_WORKERS_H

#include <reeve.h>

#include "frontends/common/worker.h"

struct workers;

/* spec: "lease-ms=30000,passwords=sha-256+scram-sha-256", both optional. The loop is the one that reeve_open() is
 * called on, see struct reeve_provisioner.
 */
int workers_new(const char *spec, struct uv_loop_s *loop, struct workers **ret_workers, struct reeve_error *ret_error);
/* For struct reeve_options. */
const struct reeve_provisioner *workers_provisioner(struct workers *workers);
/* The engine to answer to, right after reeve_open(), before the loop runs. */
void workers_set_engine(struct workers *workers, struct reeve_engine *engine);
/* For those who know workers; good until workers_free(), but not used after reeve_close(). */
const struct worker_source *workers_source(struct workers *workers);
/* After reeve_close(), when all workers have left; the loop must run once more. NULL is fine. */
void workers_free(struct workers *workers);

#endif
