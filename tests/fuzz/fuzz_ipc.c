/* Bytes to the socket: whatever comes, the server answers or disconnects, and goes on serving. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "frontend.h"
#include "frontends/ipc/server.h"

static struct frontend frontend;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct ipc_server *server;
    struct reeve_error error = {0};
    frontend_open(&frontend);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/sock", fuzz_directory());
    const struct ipc_server_options options = {.socket_path = address.sun_path};
    fuzz_require(ipc_server_open(&options, &frontend.loop, frontend.engine, &server, &error) == 0, error.message);
    return 0;
}

/* Ids are made anew in each run: a text of 36 'o' or 's' is that of the organization or the service. */
static void put_ids(char *data, size_t size)
{
    static const char o[] = "oooooooooooooooooooooooooooooooooooo", s[] = "ssssssssssssssssssssssssssssssssssss";
    for (size_t i = 0; i + 36 <= size; i++) {
        if (memcmp(data + i, o, 36) == 0)
            memcpy(data + i, frontend.organization_id, 36);
        else if (memcmp(data + i, s, 36) == 0)
            memcpy(data + i, frontend.service_id, 36);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char copy[65536];
    if (size > sizeof copy)
        return 0;
    memcpy(copy, data, size);
    put_ids(copy, size);
    frontend_send(&frontend, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), &address, sizeof address, copy, size);
    return 0;
}
