/* A host of the engine, for what is tried through the public interface: a loop, an engine, a client on the loop, and
 * organizations that it makes. */
#ifndef REEVE_TESTS_WORLD_H
#define REEVE_TESTS_WORLD_H

#include <reeve.h>
#include <uv.h>

#include "tests/lib/directory.h"

/* The engines of the tests that run now are guests on the loop; cmocka's group setups set it. */
extern bool world_is_guest;
int world_on_a_thread(void **state);
int world_as_guest(void **state);

struct world {
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    size_t answered, refused;
};

/* The provisioner may be NULL. */
void world_open(struct world *world, const struct reeve_limits *limits, const struct reeve_provisioner *provisioner);
/* What is stored must be whole, with an organization for each answer that was no refusal. */
void world_close(struct world *world);
/* Make an organization. BUSY is to be tried again: what was taken is answered exactly once. Any thread. */
int world_submit(struct world *world, const char *actor);
void world_wait(struct world *world, size_t answered);

#endif
