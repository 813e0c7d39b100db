/* What the journal's files are made of, for the two that know: what writes them and what reads them. */
#ifndef REEVE_JOURNAL_FORMAT_H
#define REEVE_JOURNAL_FORMAT_H

#include "journal.h"

#define JOURNAL_BLOCK 4096
#define JOURNAL_VERSION 1
#define JOURNAL_PART_MAX (UINT64_C(1) << 20) /* bytes of a frame's payload */
#define JOURNAL_SEGMENT_BYTES_MIN (UINT64_C(128) << 10)
#define JOURNAL_SEGMENTS_MAX 9999
#define JOURNAL_NAME_FORMAT "%s/journal.%04u"

#define FRAME_MAGIC UINT32_C(0x4a525652) /* "RVRJ" */
#define FRAME_LAST 1U                    /* of its batch */

struct frame_header {
    uint32_t magic;
    uint32_t checksum; /* CRC-32C of the rest of the header and the payload */
    uint32_t size;     /* of the payload */
    uint32_t chain;    /* checksum of the frame before */
    uint64_t sequence, term, durable;
    uint64_t store; /* first half of its id */
    uint32_t part, flags;
    uint64_t unused;
};
_Static_assert(sizeof(struct frame_header) == 64, "a header on disk");

#define SEGMENT_MAGIC "reeve journal\n"

struct segment_header {
    char magic[16];
    uint32_t version;
    uint32_t checksum; /* CRC-32C of the rest */
    uint64_t bytes;    /* of the file */
    struct reeve_uuid store_id;
};
_Static_assert(sizeof(struct segment_header) == 48, "a header on disk");

/* In a sector of its own of the first block, once the file behind this one is there: were that lost, nothing that is
 * in it could tell. */
#define SEGMENT_MARK_OFFSET 512
#define SEGMENT_MARK_MAGIC "reeve goes on\n"

struct segment_mark {
    char magic[16];
    uint32_t next; /* number of that file */
    uint32_t checksum;
};
_Static_assert(sizeof(struct segment_mark) == 24, "a mark on disk");

static inline uint64_t journal_blocks(uint64_t bytes)
{
    return (bytes + JOURNAL_BLOCK - 1) / JOURNAL_BLOCK * JOURNAL_BLOCK;
}

uint32_t journal_checksum(uint32_t seed, const void *bytes, size_t size);
uint32_t frame_checksum(const struct frame_header *header, const void *payload);
uint32_t segment_checksum(const struct segment_header *header);
uint32_t mark_checksum(const struct segment_mark *mark);

struct journal_segment {
    uint64_t last_sequence; /* newest batch with a frame in it that the database does not have; 0: none */
    bool whole;             /* else it was being made when the process ended */
};

/* Where the journal goes on, as read. */
struct journal_end {
    struct journal_position position;
    uint64_t term;    /* the highest that was seen */
    unsigned segment; /* number of the file, 0: none is in use */
    uint64_t offset;  /* behind the last frame */
    uint64_t segment_bytes;
    struct journal_segment *segments; /* by number, from 1; to be freed */
    unsigned segment_count;
    unsigned marked; /* the highest file that one before it knows of */
};

/* journal_read.c */
int journal_scan(const struct journal_options *options, journal_visit visit, void *arg, struct journal_end *ret_end,
                 struct reeve_error *ret_error);

#endif
