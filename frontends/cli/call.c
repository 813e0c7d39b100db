/* One request over the socket and its answer. */
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "cli.h"

void cli_print_error(const struct cli *cli, const struct reeve_error *error)
{
    const char *red = cli->colour ? "\033[31m" : "", *off = cli->colour ? "\033[0m" : "";
    fprintf(stderr, "reeve: %s%s%s: %s%s%s\n", red, reeve_error_name((int)error->code), off, error->field,
            error->field[0] ? ": " : "", error->message);
}

int cli_connect(struct cli *cli)
{
    struct reeve_error error;
    if (cli->client)
        return 0;
    if (!cli->socket_path) {
        fprintf(
            stderr,
            "reeve: which daemon? --socket PATH, or REEVE_SOCKET (`. DIR/dev.env` sets it for `reeve serve --dev`)\n");
        return -CLI_USAGE;
    }
    if (ipc_client_connect(cli->socket_path, &cli->client, &error) == 0)
        return 0;
    fprintf(stderr, "reeve: %s\nIs `reeve serve` running, with --socket %s?\n", error.message, cli->socket_path);
    return -CLI_UNREACHABLE;
}

int cli_call(struct cli *cli, const char *method, const json_t *params, json_t **ret_answer)
{
    struct buffer bytes = {0};
    msgpack_packer packer;
    struct ipc_message message;
    *ret_answer = NULL;
    int r = cli_connect(cli);
    if (r < 0)
        return r;
    msgpack_packer_init(&packer, &bytes, buffer_write);
    if (params)
        json_to_msgpack(params, &packer);
    r = ipc_client_call(cli->client, method, bytes.data, bytes.size, &message);
    buffer_deinit(&bytes);
    if (r < 0) {
        cli_print_error(cli, ipc_client_error(cli->client));
        return -CLI_UNREACHABLE;
    }
    if (message.is_error) {
        struct reeve_error error;
        ipc_error_decode(&message.body, &error);
        cli_print_error(cli, &error);
        return -CLI_REFUSED;
    }
    *ret_answer = json_from_msgpack(&message.body);
    return 0;
}
