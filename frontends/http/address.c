/* Addresses to listen on, and of clients. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontends/common/refuse.h"
#include "frontends/http/server_private.h"

#define BACKLOG 1024

void address_print(const struct sockaddr *address, char ret_text[HTTP_ADDRESS_SIZE])
{
    ret_text[0] = '\0';
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, ret_text, HTTP_ADDRESS_SIZE);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, ret_text,
                  HTTP_ADDRESS_SIZE);
}

int address_resolve(const char *text, const char *field, struct addrinfo **ret_address, struct reeve_error *ret_error)
{
    char host[256] = "";
    const char *colon = strrchr(text, ':');
    const bool brackets = text[0] == '[';
    const size_t size = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    const unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || end == colon + 1 || *end != '\0' || port > 65535 || size <= (brackets ? 2U : 0U) ||
        size >= sizeof host || (brackets && text[size - 1] != ']') || (!brackets && memchr(text, ':', size)))
        return refuse_field(ret_error, field, "must be ADDRESS:PORT like 127.0.0.1:8080 or [::1]:8080, not '%s'", text);
    memcpy(host, text + (brackets ? 1 : 0), size - (brackets ? 2 : 0));
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    const int r = getaddrinfo(host, colon + 1, &hints, ret_address);
    if (r != 0)
        return refuse_field(ret_error, field, "cannot find the address of '%s': %s", host, gai_strerror(r));
    return 0;
}

bool address_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == 127;
}

int address_listen(const struct addrinfo *address)
{
    const int one = 1;
    const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

void address_of(int fd, char ret_text[HTTP_ADDRESS_SIZE])
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[HTTP_ADDRESS_SIZE - 10];
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return;
    char text[HTTP_ADDRESS_SIZE];
    address_print((struct sockaddr *)&address, text);
    snprintf(host, sizeof host, "%.*s", (int)sizeof host - 1, text);
    const bool six = address.ss_family == AF_INET6;
    const unsigned port = ntohs(six ? ((struct sockaddr_in6 *)&address)->sin6_port
                                    : ((struct sockaddr_in *)&address)->sin_port);
    snprintf(ret_text, HTTP_ADDRESS_SIZE, six ? "[%s]:%u" : "%s:%u", host, port);
}
