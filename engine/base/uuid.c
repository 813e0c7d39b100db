#include "uuid.h"

#include <string.h>

struct reeve_uuid uuid_v7(uint64_t now_ms, const uint8_t random[10])
{
    struct reeve_uuid uuid;
    for (int i = 5; i >= 0; i--, now_ms >>= 8)
        uuid.bytes[i] = (uint8_t)now_ms;
    memcpy(uuid.bytes + 6, random, 10);
    uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0f) | 0x70);
    uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3f) | 0x80);
    return uuid;
}

void reeve_uuid_format(const struct reeve_uuid *uuid, char ret_text[37])
{
    static const char digits[] = "0123456789abcdef";
    char *out = ret_text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[uuid->bytes[i] >> 4];
        *out++ = digits[uuid->bytes[i] & 15];
    }
    *out = '\0';
}

static int digit_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool reeve_uuid_parse(const char *text, size_t size, struct reeve_uuid *ret_uuid)
{
    struct reeve_uuid uuid;
    if (size != 36)
        return false;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return false;
        const int high = digit_value(text[0]), low = digit_value(text[1]);
        if (high < 0 || low < 0)
            return false;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    *ret_uuid = uuid;
    return true;
}

bool reeve_uuid_is_nil(const struct reeve_uuid *uuid)
{
    static const struct reeve_uuid nil;
    return memcmp(uuid, &nil, sizeof nil) == 0;
}

bool uuid_equal(const struct reeve_uuid *a, const struct reeve_uuid *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
