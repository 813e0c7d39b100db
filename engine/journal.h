/* The journal: one ordered stream of batches. A batch counts when the journal has it on disk; the database follows by
 * checkpoints, after which the journal may forget. Nothing above this header knows that it is files: a journal that
 * is replicated takes the same calls.
 *
 * Batches have numbers without a gap. One thread appends (the engine's); what became durable is told on any thread, in
 * order. After a failure nothing is durable any more until journal_reopen(): what was appended since the last durable
 * batch is then not part of the journal.
 *
 * On disk (numbers little-endian): segments of a fixed size, `journal.0001` and so on, written once as a whole before
 * they are used, so that a flush touches no metadata, and used again when a checkpoint has what is in them. The first
 * block says whose journal it is. A batch is one frame, or several where it is large; each begins at a block of its
 * own, so that nothing acknowledged is ever written again:
 *
 *     magic, checksum of what follows, payload size, checksum of the frame before (the chain),
 *     batch, term, newest batch of the writes before (durable by then), id of the store, part of the batch, flags,
 *     payload
 *
 * A frame that does not follow is where the journal ends: the power failed while it was written. Unless a later one
 * knows that it had been durable: then the journal is damaged, and not taken for shorter than it was.
 */
#ifndef REEVE_JOURNAL_H
#define REEVE_JOURNAL_H

#include <reeve.h>

struct journal;

struct journal_position {
    uint64_t sequence; /* of a batch */
    uint32_t chain;    /* checksum of its last frame */
};

struct journal_options {
    const char *directory;
    struct reeve_uuid store_id;
    uint64_t segment_bytes, max_bytes; /* of a segment; of all of them, which the store keeps to */
    struct journal_position after;     /* what the database has */
    unsigned segments_expected;        /* files that must be there: the database may not have all of what they hold */
    bool read_only;                    /* only looked at, also while another process appends */
    bool threaded;                     /* flush on a thread of its own, where the caller does not wait */
    void (*on_settled)(void *arg);     /* something became durable, or failed; any thread, one call after the other */
    void *arg;
};

/* One batch that the database does not have; 0 to go on. */
typedef int (*journal_visit)(void *arg, const struct journal_position *position, const void *payload, size_t size);

/* Finds what is behind options->after and hands it out in order; further batches follow it. */
int journal_open(const struct journal_options *options, journal_visit visit, void *arg, struct journal **ret_journal,
                 struct reeve_error *ret_error);
void journal_close(struct journal *journal); /* waits for what is being flushed */

/* Give the next batch to the journal. With `wait`, where nothing else is being flushed, it is durable (or has failed)
 * when this returns. Negative: it is not part of the journal, journal_failure() has the reason. */
int journal_append(struct journal *journal, const void *payload, size_t size, bool wait,
                   struct journal_position *ret_position);
/* The newest durable batch. Negative when the journal has failed. */
int journal_durable(struct journal *journal, struct journal_position *ret_position);
/* Until all that was appended is durable, or has failed; without threads it is flushed here. */
void journal_wait(struct journal *journal);
void journal_failure(struct journal *journal, char ret_text[256]);
/* After a failure: go on behind the last durable batch. */
int journal_reopen(struct journal *journal);

/* The database has everything up to here. */
void journal_release(struct journal *journal, uint64_t sequence);
/* Make a segment ahead of its use, where one will soon be needed; any thread but the one that appends. */
void journal_prepare(struct journal *journal);

struct journal_stats {
    uint64_t batches, bytes, flushes, flush_ns; /* written, and what that took */
    uint64_t held_bytes, file_bytes;            /* of files that hold what is not released yet; of all files */
    uint64_t max_bytes;                         /* which held_bytes should not reach: two files at least */
    unsigned segments;
    bool direct;     /* past the page cache */
    bool starved;    /* there is no file to go on in, and none can be made: others should be released */
    bool wants_file; /* journal_prepare() would make one */
};
void journal_get_stats(struct journal *journal, struct journal_stats *ret_stats);

#endif
