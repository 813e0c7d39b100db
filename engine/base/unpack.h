/* Reading MessagePack value by value, where it is known what has to come: no tree, no allocation. Each returns false
 * where something else comes, or nothing as a whole; then it is not known where the reader stands. Text and bytes
 * point into what is read. For what the engine itself has written; what comes from outside is msgpack-c's. */
#ifndef REEVE_BASE_UNPACK_H
#define REEVE_BASE_UNPACK_H

#include <endian.h>
#include <reeve.h>
#include <string.h>

struct unpack {
    const uint8_t *at, *end;
};

/* A big-endian number of 2 to the power of `log` bytes. */
static inline bool unpack_number(struct unpack *unpack, unsigned log, uint64_t *ret_value)
{
    const size_t size = (size_t)1 << log;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    if ((size_t)(unpack->end - unpack->at) < size)
        return false;
    switch (log) {
    case 0:
        *ret_value = *unpack->at;
        break;
    case 1:
        memcpy(&two, unpack->at, sizeof two);
        *ret_value = be16toh(two);
        break;
    case 2:
        memcpy(&four, unpack->at, sizeof four);
        *ret_value = be32toh(four);
        break;
    default:
        memcpy(&eight, unpack->at, sizeof eight);
        *ret_value = be64toh(eight);
        break;
    }
    unpack->at += size;
    return true;
}

static inline bool unpack_nil(struct unpack *unpack)
{
    if (unpack->at == unpack->end || *unpack->at != 0xc0)
        return false;
    unpack->at++;
    return true;
}

static inline bool unpack_bool(struct unpack *unpack, bool *ret_value)
{
    if (unpack->at == unpack->end || (*unpack->at & 0xfe) != 0xc2)
        return false;
    *ret_value = *unpack->at++ & 1;
    return true;
}

static inline bool unpack_u64(struct unpack *unpack, uint64_t *ret_value)
{
    if (unpack->at == unpack->end)
        return false;
    const uint8_t head = *unpack->at++;
    if (head < 0x80) {
        *ret_value = head;
        return true;
    }
    return head >= 0xcc && head <= 0xcf && unpack_number(unpack, head - 0xccU, ret_value);
}

/* So many bytes from here. */
static inline bool unpack_body(struct unpack *unpack, uint64_t size, struct reeve_str *ret_bytes)
{
    if ((uint64_t)(unpack->end - unpack->at) < size)
        return false;
    *ret_bytes = (struct reeve_str){(const char *)unpack->at, (size_t)size};
    unpack->at += size;
    return true;
}

static inline bool unpack_str(struct unpack *unpack, struct reeve_str *ret_text)
{
    uint64_t size;
    if (unpack->at == unpack->end)
        return false;
    const uint8_t head = *unpack->at++;
    if ((head & 0xe0) == 0xa0)
        size = head & 0x1f;
    else if (head < 0xd9 || head > 0xdb || !unpack_number(unpack, head - 0xd9U, &size))
        return false;
    return unpack_body(unpack, size, ret_text);
}

static inline bool unpack_bin(struct unpack *unpack, struct reeve_str *ret_bytes)
{
    uint64_t size;
    if (unpack->at == unpack->end)
        return false;
    const uint8_t head = *unpack->at++;
    return head >= 0xc4 && head <= 0xc6 && unpack_number(unpack, head - 0xc4U, &size) &&
           unpack_body(unpack, size, ret_bytes);
}

/* Bytes of a size that is known. */
static inline bool unpack_fixed(struct unpack *unpack, void *ret_bytes, uint8_t size)
{
    struct reeve_str bytes;
    if ((size_t)(unpack->end - unpack->at) >= 2U + size && unpack->at[0] == 0xc4 && unpack->at[1] == size) {
        memcpy(ret_bytes, unpack->at + 2, size);
        unpack->at += 2 + size;
        return true;
    }
    if (!unpack_bin(unpack, &bytes) || bytes.size != size) /* in a longer form */
        return false;
    memcpy(ret_bytes, bytes.data, size);
    return true;
}

/* Never more items than there are bytes left. */
static inline bool unpack_array(struct unpack *unpack, uint64_t *ret_count)
{
    uint64_t count;
    if (unpack->at == unpack->end)
        return false;
    const uint8_t head = *unpack->at++;
    if ((head & 0xf0) == 0x90)
        count = head & 0x0f;
    else if (head < 0xdc || head > 0xdd || !unpack_number(unpack, head - 0xdbU, &count))
        return false;
    *ret_count = count;
    return count <= (uint64_t)(unpack->end - unpack->at);
}

#endif
