#include "network.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}; /* what IPv4 begins with */

/* False: not a number of up to three digits, or above the largest. */
static bool parse_prefix(const char *text, size_t size, unsigned largest, unsigned *ret_prefix)
{
    unsigned prefix = 0;
    if (size == 0 || size > 3)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        prefix = prefix * 10 + (unsigned)(text[i] - '0');
    }
    *ret_prefix = prefix;
    return prefix <= largest;
}

static bool is_v4(const struct network *address)
{
    return memcmp(address->bytes, mapped, sizeof mapped) == 0;
}

bool network_parse(const char *text, size_t size, struct network *ret_network)
{
    char address[INET6_ADDRSTRLEN + 1];
    const char *slash = size ? memchr(text, '/', size) : NULL;
    const size_t address_size = slash ? (size_t)(slash - text) : size;
    unsigned prefix = 0;
    if (address_size == 0 || address_size >= sizeof address)
        return false;
    memcpy(address, text, address_size);
    address[address_size] = '\0';
    const bool v4 = inet_pton(AF_INET, address, ret_network->bytes + 12) == 1;
    if (v4)
        memcpy(ret_network->bytes, mapped, sizeof mapped);
    else if (inet_pton(AF_INET6, address, ret_network->bytes) != 1)
        return false;
    if (slash && !parse_prefix(slash + 1, size - address_size - 1, v4 ? 32 : 128, &prefix))
        return false;
    ret_network->prefix = !slash ? 128 : v4 ? prefix + 96 : prefix;
    return ret_network->prefix >= 96 ||
           !is_v4(ret_network); /* else it would not contain the address it is written by */
}

bool network_contains(const struct network *network, const struct network *address)
{
    const unsigned whole = network->prefix / 8, rest = network->prefix % 8;
    if (network->prefix < 96 && is_v4(address))
        return false;
    if (memcmp(network->bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 || (network->bytes[whole] ^ address->bytes[whole]) >> (8 - rest) == 0;
}
