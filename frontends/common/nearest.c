#include "nearest.h"

#include <string.h>

#define LENGTH_MAX 64

size_t nearest_distance(const char *a, const char *b)
{
    size_t row[LENGTH_MAX];
    const size_t length = strlen(b);
    if (length >= LENGTH_MAX)
        return LENGTH_MAX;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            const size_t above = row[j], change = diagonal + (*a != b[j - 1]);
            const size_t insert = (above < row[j - 1] ? above : row[j - 1]) + 1;
            diagonal = above;
            row[j] = change < insert ? change : insert;
        }
    }
    return row[length];
}
