/* `--dev`: an organization and a key made once, and a file that a shell can read to use them. */
#ifndef REEVE_DAEMON_DEV_H
#define REEVE_DAEMON_DEV_H

#include <reeve.h>
#include <uv.h>

struct dev;

/* What is written besides the key: how to reach the daemon. NULL where there is none. */
struct dev_addresses {
    const char *data_dir, *socket_path;
    const char *url, *cloud_url;
};

/* Starts; on_done comes on the loop, with an error where something failed. Frees itself after it. */
int dev_start(struct reeve_engine *engine, uv_loop_t *loop, const struct dev_addresses *addresses,
              void (*on_done)(void *arg, const struct reeve_error *error), void *arg);

#endif
