#include "bytes.h"

size_t decimal_format(uint64_t number, char ret_text[21])
{
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    for (size_t i = 0; i < count; i++)
        ret_text[i] = digits[count - 1 - i];
    ret_text[count] = '\0';
    return count;
}

/* Bytes of the character at text, 0 where it is not well-formed. Overlong forms, surrogates and what is beyond U+10FFFF
 * are not. */
static size_t utf8_step(const uint8_t *at, size_t left)
{
    if (at[0] < 0x80)
        return at[0] < 0x20 || at[0] == 0x7f ? 0 : 1;
    const size_t size = at[0] >= 0xc2 && at[0] < 0xe0   ? 2
                        : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
                        : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                                        : 0;
    if (size == 0 || size > left)
        return 0;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    const bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    const bool beyond = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
    return overlong || beyond ? 0 : size;
}

bool utf8_valid(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        const size_t step = utf8_step((const uint8_t *)text + i, size - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

size_t utf8_length(const char *text, size_t size)
{
    size_t length = 0;
    for (size_t i = 0; i < size; i++)
        length += ((uint8_t)text[i] & 0xc0) != 0x80;
    return length;
}

size_t utf8_cut(const char *text, size_t size, size_t size_max)
{
    if (size <= size_max)
        return size;
    size = size_max;
    while (size > 0 && ((uint8_t)text[size] & 0xc0) == 0x80)
        size--;
    return size;
}
