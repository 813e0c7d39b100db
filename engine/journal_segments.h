/* The journal's files on disk, its segments: made ahead of their use, opened, used again when what is in them has been
 * released. What is in them is the journal's business. */
#ifndef REEVE_JOURNAL_SEGMENTS_H
#define REEVE_JOURNAL_SEGMENTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "journal_format.h"

struct segment {
    int fd;
    uint64_t last_sequence; /* newest batch with a frame in it; 0: may be used again */
};

struct segments {
    char *directory;
    struct reeve_uuid store_id;
    uint64_t bytes;     /* of each */
    atomic_bool direct; /* past the page cache, until a file turns out not to take it */
    unsigned filled;    /* who makes a segment: the number of one that is whole */

    pthread_mutex_t *lock;   /* the journal's: all below */
    pthread_cond_t *changed; /* told when one has been made, or could not be */
    struct segment *items;   /* by number; [0] is not used */
    unsigned count, current; /* the number of the one that is written to, which is not free; 0: none yet */
    bool preparing;          /* somebody makes the one behind the last */
    bool starved;            /* the last one who tried could not */
};

/* All of it, or errno says why not. */
int segment_write(int fd, const void *bytes, size_t size, uint64_t offset);

/* Those that were found. What has no header yet is made again; not the last one, which may do without the room on disk.
 */
int segments_open(struct segments *segments, const struct journal_end *end, struct reeve_error *ret_error);
void segments_close(struct segments *segments);
/* After a failure, under the lock: with new descriptors. 0, or an error number. */
int segments_open_again(struct segments *segments);

/* ---- Under the lock ---- */

/* Go on in a free one; with the lock let go meanwhile where it has to be made. 0, or an error number. */
int segments_move_on(struct segments *segments);
/* Make one, which takes a while: with the lock let go meanwhile. Ahead of its use it is written bit by bit, so that
 * what else is flushed meanwhile does not wait long. 0, or an error number. */
int segments_prepare(struct segments *segments, bool ahead);
bool segments_have_free(const struct segments *segments);
/* There is none to go on in, none can be made, and there are others that might be released. */
bool segments_are_starved(const struct segments *segments);
/* What is behind a batch is not there; `number` is where that one ends. */
void segments_forget_behind(struct segments *segments, uint64_t sequence, unsigned number);
/* All up to a batch is not needed any more, but for what is in the current one and in `kept`. */
void segments_release(struct segments *segments, uint64_t sequence, unsigned kept);
/* Bytes of those that are in use, without the current one. */
uint64_t segments_held_bytes(const struct segments *segments);

#endif
