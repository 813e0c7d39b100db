/* Small texts: times, ids, networks. What was read and printed is read as the same. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/network.h"
#include "codec.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4096];
    uint64_t ms, ms_again;
    struct reeve_uuid id, id_again;
    struct network network;
    char printed[40];
    if (size > sizeof text)
        return 0;
    char *copy = text + sizeof text - size; /* what is behind its end is not ours */
    memcpy(copy, data, size);
    if (codec_parse_time(copy, size, &ms)) {
        codec_format_time(ms, true, printed);
        fuzz_require(codec_parse_time(printed, strlen(printed), &ms_again) && ms == ms_again, "a time changes");
    }
    if (reeve_uuid_parse(copy, size, &id)) {
        reeve_uuid_format(&id, printed);
        fuzz_require(reeve_uuid_parse(printed, strlen(printed), &id_again) && memcmp(&id, &id_again, sizeof id) == 0,
                     "an id changes");
    }
    if (network_parse(copy, size, &network)) {
        fuzz_require(network.prefix <= 128, "a prefix that is none");
        fuzz_require(network_contains(&network, &network), "a network without itself");
    }
    if (utf8_valid(copy, size)) {
        fuzz_require(utf8_length(copy, size) <= size, "more characters than bytes");
        for (size_t i = 0; i <= size; i++)
            fuzz_require(utf8_valid(copy, utf8_cut(copy, size, i)), "a character was cut");
    }
    return 0;
}
