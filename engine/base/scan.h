/* Finds where a MessagePack value ends without building it, so that nothing is allocated on the word of a length that
 * somebody sent: msgpack-c reserves 24 bytes per announced element before it has seen one. Resumable: a value that
 * arrives in pieces is looked at once. */
#ifndef REEVE_BASE_SCAN_H
#define REEVE_BASE_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define SCAN_DEPTH_MAX 24

enum scan_status {
    SCAN_COMPLETE,  /* a whole value ends at `offset` */
    SCAN_MORE,      /* so far well-formed, more bytes needed */
    SCAN_TOO_LARGE, /* longer than size_max, or announces to become so */
    SCAN_TOO_DEEP,
    SCAN_INVALID, /* the one byte that MessagePack never uses */
};

struct scan {
    size_t offset;   /* bytes of the value looked at so far */
    size_t size_max; /* 0: no limit but the depth */
    unsigned depth;
    uint64_t left[SCAN_DEPTH_MAX + 1]; /* values still to come on each level */
};

void scan_init(struct scan *scan, size_t size_max);
/* `data` is the start of the value, `size` what is there of it; call again with more after SCAN_MORE. */
enum scan_status scan_step(struct scan *scan, const void *data, size_t size);

#endif
