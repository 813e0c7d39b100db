/* IPv4 and IPv6 addresses and networks in text, as access lists have them. */
#ifndef REEVE_BASE_NETWORK_H
#define REEVE_BASE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct network {
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned prefix;   /* bits of `bytes` that count */
};

/* An address (all its bits count) or an address with a prefix length that fits it. */
bool network_parse(const char *text, size_t size, struct network *ret_network);
/* IPv4 is no part of an IPv6 network, however large: ::/0 is all of IPv6, 0.0.0.0/0 all of IPv4. */
bool network_contains(const struct network *network, const struct network *address);

#endif
