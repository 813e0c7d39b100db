/* `reeve watch`: events as they happen. Where the daemon goes away it is asked again until it is back, and the events
 * go on with the one after the last that was shown. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define RECONNECT_MS 500

struct watcher {
    struct cli *cli;
    json_t *filter;
    uint64_t next; /* sequence number to go on with; 0: from now on */
};

static int start(struct watcher *watcher)
{
    json_t *answer;
    if (watcher->next)
        json_object_set_new(watcher->filter, "from", json_integer((json_int_t)watcher->next));
    const int r = cli_call(watcher->cli, "event.watch", watcher->filter, &answer);
    if (r == 0 && watcher->next == 0)
        watcher->next = (uint64_t)json_integer_value(json_object_get(answer, "from"));
    json_decref(answer);
    return r;
}

static void show(struct watcher *watcher, const struct ipc_message *message)
{
    json_t *body = json_from_msgpack(&message->body);
    const json_t *events = json_object_get(body, "events");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        output_event(watcher->cli, event);
        watcher->next = (uint64_t)json_integer_value(json_object_get(event, "sequence")) + 1;
    }
    if (message->method.size == 6 && memcmp(message->method.data, "lagged", 6) == 0)
        fprintf(stderr, "reeve: too far behind, events before %lld are gone\n",
                (long long)json_integer_value(json_object_get(body, "resume")));
    json_decref(body);
}

/* Until the daemon is back and has taken the watch: it may go away again in between. */
static int reconnect(struct watcher *watcher)
{
    struct cli *cli = watcher->cli;
    struct reeve_error error;
    int r = -CLI_UNREACHABLE;
    fprintf(stderr, "reeve: the daemon is gone, waiting for it\n");
    while (r == -CLI_UNREACHABLE) {
        ipc_client_close(cli->client);
        cli->client = NULL;
        while (ipc_client_connect(cli->socket_path, &cli->client, &error) < 0)
            poll(NULL, 0, RECONNECT_MS);
        r = start(watcher);
    }
    return r;
}

static int follow(struct watcher *watcher)
{
    int r = start(watcher);
    while (r == 0) {
        struct ipc_message message;
        r = ipc_client_receive(watcher->cli->client, -1, &message);
        if (r == 0 && message.is_notification)
            show(watcher, &message);
        else if (r < 0)
            r = reconnect(watcher);
    }
    return -r;
}

int watch_main(struct cli *cli, int argc, char **argv)
{
    struct watcher watcher = {.cli = cli, .filter = json_object()};
    int r = 1;
    for (int i = 0; i < argc && r > 0; i += r) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        r = arguments_take_global(cli, argc, argv, i);
        if (r != 0)
            continue;
        r = 2;
        if (value && strcmp(argv[i], "--from") == 0 && strspn(value, "0123456789") == strlen(value) && *value)
            watcher.next = strtoull(value, NULL, 10);
        else if (value && strcmp(argv[i], "--service") == 0)
            json_object_set_new(watcher.filter, "serviceId", json_string(value));
        else {
            fprintf(stderr, "reeve: usage: reeve watch [--from SEQUENCE] [--service ID] [--org ID] [--json]\n");
            r = -CLI_USAGE;
        }
    }
    if (cli->help)
        printf(
            "usage: reeve watch [--from SEQUENCE] [--service ID] [--org ID] [--json]\n\nShows events as they happen; "
            "--from 1 starts with the oldest. Ctrl-C ends it.\n");
    if (cli->organization)
        json_object_set_new(watcher.filter, "organizationId", json_string(cli->organization));
    const int code = r < 0 ? -r : cli->help ? CLI_OK : follow(&watcher);
    json_decref(watcher.filter);
    return code;
}
