/* A provisioner that does nothing, as slowly and unreliably as it is told to: for demonstrations, tests and benches.
 *
 * The same seed, operation and attempt always fare the same, whatever the threads do. With no delay at all it answers
 * from within start(), on the engine's thread.
 */
#ifndef REEVE_SIMULATED_H
#define REEVE_SIMULATED_H

#include <reeve.h>

struct simulated;

/* spec: "delay-ms=50..250,fail=0.01,fatal=0,hang=0,duplicate=0,seed=1,provision.delay-ms=500", all of it optional. */
int simulated_new(const char *spec, struct simulated **ret_simulated, struct reeve_error *ret_error);
/* For struct reeve_options. */
const struct reeve_provisioner *simulated_provisioner(struct simulated *simulated);
/* The engine to answer to, right after reeve_open(); what was started before is answered then. */
void simulated_set_engine(struct simulated *simulated, struct reeve_engine *engine);
/* After reeve_close(). */
void simulated_free(struct simulated *simulated);

#endif
