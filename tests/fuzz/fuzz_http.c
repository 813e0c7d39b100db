/* Bytes to the HTTP server: whatever comes, it answers or disconnects, and goes on serving. The first byte picks the
 * dialect. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "frontend.h"
#include "frontends/http/server.h"

static struct frontend frontend;
static struct sockaddr_in addresses[2];
static char authorization[256];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct http_server *server;
    struct reeve_error error = {0};
    frontend_open(&frontend);
    struct http_server_options options = {.plain_addresses = "127.0.0.1:0", .cloud_addresses = "127.0.0.1:0"};
    options.limits.failure_delay_ms = 1;
    options.limits.wait_max_ms = 1;
    fuzz_require(http_server_open(&options, &frontend.loop, frontend.engine, &server, &error) == 0, error.message);
    for (unsigned i = 0; i < 2; i++) {
        enum http_dialect dialect;
        const char *address = http_server_address(server, i, &dialect);
        addresses[dialect] = (struct sockaddr_in){.sin_family = AF_INET,
                                                  .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1)),
                                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    }
    sodium_bin2base64(authorization, sizeof authorization, (const unsigned char *)frontend.key, strlen(frontend.key),
                      sodium_base64_VARIANT_ORIGINAL);
    return 0;
}

/* What is made anew in each run has a byte of its own: key, organization, service. */
static size_t put_ids(const uint8_t *data, size_t size, char *ret_copy, size_t copy_size)
{
    const char *const words[] = {authorization, frontend.organization_id, frontend.service_id};
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        const char *word = data[i] >= 1 && data[i] <= 3 ? words[data[i] - 1] : NULL;
        const size_t word_size = word ? strlen(word) : 1;
        if (used + word_size > copy_size)
            break;
        memcpy(ret_copy + used, word ? word : (const char *)&data[i], word_size);
        used += word_size;
    }
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char copy[131072];
    if (size == 0)
        return 0;
    const size_t copied = put_ids(data + 1, size - 1, copy, sizeof copy);
    const struct sockaddr_in *address = &addresses[data[0] % 2];
    frontend_send(&frontend, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), address, sizeof *address, copy, copied);
    return 0;
}
