#include "scan.h"

#include <stdbool.h>

void scan_init(struct scan *scan, size_t size_max)
{
    *scan = (struct scan){.size_max = size_max};
    scan->left[0] = 1;
}

static uint64_t big_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* What one value is: `head` bytes of type and length, `body` bytes of content, `items` values inside. */
struct shape {
    unsigned head;
    uint64_t body, items;
    bool nests;
};

/* The shape by its first byte; false where the length bytes are not there yet. */
static bool shape_of(const uint8_t *at, size_t there, struct shape *ret)
{
    const uint8_t type = at[0];
    /* 0xc0-0xdf: bytes of length after the type, fixed bytes of content */
    static const uint8_t length_bytes[32] = {[4] = 1,  [5] = 2,  [6] = 4,  [7] = 1,  [8] = 2,  [9] = 4, [25] = 1,
                                             [26] = 2, [27] = 4, [28] = 2, [29] = 4, [30] = 2, [31] = 4};
    static const uint8_t fixed_bytes[32] = {
        [7] = 1,  [8] = 1,  [9] = 1,  [10] = 4, [11] = 8, [12] = 1, [13] = 2, [14] = 4, [15] = 8,
        [16] = 1, [17] = 2, [18] = 4, [19] = 8, [20] = 2, [21] = 3, [22] = 5, [23] = 9, [24] = 17};
    *ret = (struct shape){.head = 1};
    if (type < 0x80 || type >= 0xe0)
        return true;
    if (type < 0xa0) {
        ret->nests = true;
        ret->items = (uint64_t)(type & 0x0f) * (type < 0x90 ? 2 : 1);
        return true;
    }
    if (type < 0xc0) {
        ret->body = type & 0x1f;
        return true;
    }
    const unsigned kind = type & 0x1f;
    const unsigned length = length_bytes[kind];
    if (there < 1 + (size_t)length)
        return false;
    ret->head = 1 + length;
    ret->body = fixed_bytes[kind];
    if (length == 0)
        return true;
    const uint64_t announced = big_endian(at + 1, length);
    if (kind >= 28) {
        ret->nests = true;
        ret->items = announced * (kind >= 30 ? 2 : 1);
    } else {
        ret->body += announced;
    }
    return true;
}

/* One value less on this level; levels that are complete close. */
static void value_done(struct scan *scan)
{
    scan->left[scan->depth]--;
    while (scan->left[scan->depth] == 0 && scan->depth > 0) {
        scan->depth--;
        scan->left[scan->depth]--;
    }
}

static bool within(const struct scan *scan, uint64_t end)
{
    return scan->size_max == 0 || end <= scan->size_max;
}

enum scan_status scan_step(struct scan *scan, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    while (scan->left[0] > 0) {
        if (scan->offset >= size)
            return within(scan, scan->offset + 1) ? SCAN_MORE : SCAN_TOO_LARGE;
        if (bytes[scan->offset] == 0xc1)
            return SCAN_INVALID;
        struct shape shape;
        if (!shape_of(bytes + scan->offset, size - scan->offset, &shape))
            return within(scan, size + 1) ? SCAN_MORE : SCAN_TOO_LARGE;
        /* Each value inside takes a byte at least: refuse on the announcement. */
        if (!within(scan, scan->offset + shape.head + shape.body + shape.items))
            return SCAN_TOO_LARGE;
        /* The content must be there before going on, so that offset always stands on the start of a value. */
        if (shape.body > size - scan->offset || shape.head + shape.body > size - scan->offset)
            return SCAN_MORE;
        scan->offset += shape.head + (size_t)shape.body;
        if (shape.nests && shape.items > 0) {
            if (scan->depth == SCAN_DEPTH_MAX)
                return SCAN_TOO_DEEP;
            scan->left[++scan->depth] = shape.items;
        } else {
            value_done(scan);
        }
    }
    return SCAN_COMPLETE;
}
