/* An engine with a frontend in this process, and a client that sends it bytes: for targets that are whole servers. */
#ifndef REEVE_FUZZ_FRONTEND_H
#define REEVE_FUZZ_FRONTEND_H

#include <reeve.h>
#include <uv.h>

#include "fuzz.h"

struct frontend {
    uv_loop_t loop;
    struct reeve_engine *engine;
    char organization_id[37], service_id[37], key[128]; /* key: "id:secret" */
};

/* Opens the engine, with an organization, a service that runs and a key of the role admin. */
void frontend_open(struct frontend *frontend);
/* Connects `fd` to the address, sends the bytes as far as they are taken, says that this was all, and runs the loop
 * until the server has disconnected, or has had the time to answer. */
void frontend_send(struct frontend *frontend, int fd, const void *address, size_t address_size, const void *data,
                   size_t size);

#endif
