/* What `reeve serve` is told: flags, then the configuration file, then defaults. */
#ifndef REEVE_DAEMON_OPTIONS_H
#define REEVE_DAEMON_OPTIONS_H

#include "frontends/http/server.h"
#include "frontends/ipc/server.h"
#include "provisioners/door/door.h"

struct daemon_options {
    char *data_dir, *socket_path, *provisioner, *config_path, *catalogue, *endpoint_domain;
    char *socket_mode, *socket_owner, *socket_group, *allowed_users, *allowed_groups;
    char *log_format, *log_level;
    char *http, *http_cloud, *http_certificate, *http_key;
    char *door, *door_host;
    bool dev, insecure, core_dumps, help;
    struct reeve_limits limits;
    struct ipc_limits ipc_limits;
    struct http_limits http_limits;
    struct door_limits door_limits;

    /* made of the above */
    enum reeve_log_level log_level_number;
    unsigned socket_mode_number;
    bool log_json;
    bool http_preset; /* addresses of --dev, not of the user */
    bool *given;      /* by row: flags win over the file */
};

/* Read flags and the file they name. Returns 0, or -BAD_REQUEST with ret_error naming flag, or file and line. */
int daemon_options_read(struct daemon_options *options, int argc, char **argv, struct reeve_error *ret_error);
void daemon_options_free(struct daemon_options *options);
void daemon_options_help(void);

#endif
