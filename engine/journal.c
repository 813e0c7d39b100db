#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "error.h"
#include "journal_segments.h"

#define PART_WORTH (UINT64_C(64) << 10) /* room for less of a batch is left as it is */

/* Where the next frame goes, and what it follows. */
struct place {
    unsigned segment; /* number, from 1; 0: none yet */
    uint64_t offset;
    struct journal_position position;
};

struct extent {
    unsigned segment;
    uint64_t offset;
    size_t from, size; /* in the buffer */
};

/* Frames that go to disk together. */
struct writing {
    char *bytes; /* aligned as direct writes want it */
    size_t size, capacity;
    struct extent *extents;
    size_t count, extent_capacity;
    struct place end;
    uint64_t after; /* newest batch of the writes before: on disk before any of these frames is */
    uint64_t batches;
};

struct journal {
    uint64_t store, max_bytes;
    bool read_only, threaded;
    void (*on_settled)(void *arg);
    void *arg;
    pthread_t thread;
    struct segments segments;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t work, settled;
    struct place next, durable;
    uint64_t term;
    struct writing filling, flushing;
    bool busy;    /* somebody is writing what is in `flushing` */
    bool putting; /* `filling` ends with part of a batch */
    bool stopping, failed;
    char failure[256];
    struct journal_stats stats;
};

static int failed_with(struct journal *journal, const char *what, int error)
{
    snprintf(journal->failure, sizeof journal->failure, "%s: %s", what, strerror(error));
    return error == ENOMEM ? -REEVE_ERROR_NO_MEMORY : -REEVE_ERROR_UNAVAILABLE;
}

/* With the lock held, which may be let go meanwhile: the next frame goes into another segment. */
static int move_on(struct journal *journal)
{
    const int error = segments_move_on(&journal->segments);
    if (error)
        return failed_with(journal, "the journal cannot have another file", error);
    journal->next.segment = journal->segments.current;
    journal->next.offset = JOURNAL_BLOCK;
    return 0;
}

/* ---- Frames ---- */

static bool grow(struct writing *writing, size_t size)
{
    size_t capacity = writing->capacity ? writing->capacity : 16 * JOURNAL_BLOCK;
    while (capacity < writing->size + size)
        capacity *= 2;
    if (capacity == writing->capacity)
        return true;
    void *larger;
    if (posix_memalign(&larger, JOURNAL_BLOCK, capacity) != 0)
        return false;
    if (writing->size)
        memcpy(larger, writing->bytes, writing->size);
    free(writing->bytes);
    writing->bytes = larger;
    writing->capacity = capacity;
    return true;
}

/* What follows directly on disk is one write. */
static bool add_extent(struct writing *writing, const struct place *place, size_t size)
{
    struct extent *last = writing->count ? &writing->extents[writing->count - 1] : NULL;
    if (last && last->segment == place->segment && last->offset + last->size == place->offset) {
        last->size += size;
        return true;
    }
    if (writing->count == writing->extent_capacity) {
        const size_t capacity = writing->extent_capacity ? writing->extent_capacity * 2 : 8;
        struct extent *larger = realloc(writing->extents, capacity * sizeof *larger);
        if (!larger)
            return false;
        writing->extents = larger;
        writing->extent_capacity = capacity;
    }
    writing->extents[writing->count++] = (struct extent){place->segment, place->offset, writing->size, size};
    return true;
}

static int put_frame(struct journal *journal, const char *payload, size_t size, uint32_t part, bool last)
{
    struct writing *writing = &journal->filling;
    struct place *next = &journal->next;
    const size_t blocks = journal_blocks(sizeof(struct frame_header) + size);
    if (!grow(writing, blocks) || !add_extent(writing, next, blocks))
        return failed_with(journal, "the journal cannot take a batch", ENOMEM);
    struct frame_header header = {.magic = FRAME_MAGIC,
                                  .size = (uint32_t)size,
                                  .chain = next->position.chain,
                                  .sequence = next->position.sequence + 1,
                                  .term = journal->term,
                                  .durable = writing->after,
                                  .store = journal->store,
                                  .part = part,
                                  .flags = last ? FRAME_LAST : 0};
    header.checksum = frame_checksum(&header, payload);
    char *at = writing->bytes + writing->size;
    memcpy(at, &header, sizeof header);
    if (size)
        memcpy(at + sizeof header, payload, size);
    memset(at + sizeof header + size, 0, blocks - sizeof header - size);
    writing->size += blocks;
    next->offset += blocks;
    next->position.chain = header.checksum;
    journal->segments.items[next->segment].last_sequence = header.sequence;
    return 0;
}

/* How much of what is left goes into the next frame; SIZE_MAX: it belongs into another segment. */
static size_t next_part(struct journal *journal, size_t left)
{
    const uint64_t end = journal->segments.bytes, at = journal->next.offset;
    const uint64_t room = journal->next.segment && end > at + sizeof(struct frame_header)
                              ? end - at - sizeof(struct frame_header)
                              : 0;
    const uint64_t wanted = left < JOURNAL_PART_MAX ? left : JOURNAL_PART_MAX;
    if (room > 0 && room >= wanted)
        return (size_t)wanted;
    return room >= PART_WORTH ? (size_t)room : SIZE_MAX;
}

/* What was appended behind a place is not there. */
static void forget_behind(struct journal *journal, const struct place *place)
{
    segments_forget_behind(&journal->segments, place->position.sequence, place->segment);
    journal->next = *place;
}

/* Under the lock. All of a batch, or nothing. */
static int put_batch(struct journal *journal, const char *payload, size_t size)
{
    const struct place before = journal->next;
    const size_t before_size = journal->filling.size, before_count = journal->filling.count;
    const size_t last_size = before_count ? journal->filling.extents[before_count - 1].size : 0;
    int r = 0;
    uint32_t part = 0;
    if (before_count == 0)
        journal->filling.after = before.position.sequence;
    journal->putting = true; /* the lock may be let go meanwhile */
    for (size_t done = 0; r == 0;) {
        size_t bytes = next_part(journal, size - done);
        if (bytes == SIZE_MAX) {
            r = move_on(journal);
            bytes = r == 0 ? next_part(journal, size - done) : 0;
        }
        if (r == 0)
            r = put_frame(journal, payload + done, bytes, part++, done + bytes == size);
        done += bytes;
        if (done == size)
            break;
    }
    journal->putting = false;
    if (r < 0) {
        forget_behind(journal, &before);
        journal->filling.size = before_size;
        journal->filling.count = before_count;
        if (before_count)
            journal->filling.extents[before_count - 1].size = last_size;
        return r;
    }
    journal->next.position.sequence++;
    journal->filling.end = journal->next;
    journal->filling.batches++;
    return 0;
}

/* ---- To disk ---- */

static int flush_extent(const struct journal *journal, const struct writing *writing, size_t at, int fd)
{
    const struct extent *extent = &writing->extents[at];
    if (segment_write(fd, writing->bytes + extent->from, extent->size, extent->offset) != 0)
        return -1;
    crash_point(CRASH_JOURNAL_WRITTEN);
    const bool more = at + 1 < writing->count && writing->extents[at + 1].segment == extent->segment;
    return journal->segments.direct || more ? 0 : fdatasync(fd);
}

/* With `busy` set and the lock held, which is let go meanwhile. */
static void flush(struct journal *journal)
{
    struct writing *writing = &journal->flushing;
    const uint64_t begun_ns = clock_mono_ns();
    int error = 0;
    for (size_t at = 0; at < writing->count && error == 0; at++) {
        const int fd = journal->segments.items[writing->extents[at].segment].fd;
        pthread_mutex_unlock(&journal->lock);
        if (flush_extent(journal, writing, at, fd) != 0)
            error = errno;
        pthread_mutex_lock(&journal->lock);
    }
    if (error) {
        failed_with(journal, "the journal cannot be written", error);
        journal->failed = true;
    } else {
        crash_point(CRASH_JOURNAL_FLUSHED);
        journal->durable = writing->end;
        journal->stats.batches += writing->batches;
        journal->stats.bytes += writing->size;
        journal->stats.flushes++;
        journal->stats.flush_ns += clock_mono_ns() - begun_ns;
    }
    writing->size = writing->count = 0;
    writing->batches = 0;
    pthread_cond_broadcast(&journal->settled);
}

/* Under the lock: what has been filled is next. False: nothing is to be written, or it may not be. */
static bool take_filled(struct journal *journal)
{
    if (journal->failed || journal->putting || journal->filling.count == 0)
        return false;
    const struct writing flushed = journal->flushing;
    journal->flushing = journal->filling;
    journal->filling = flushed;
    return true;
}

static void flush_filled(struct journal *journal)
{
    assert(!journal->busy);
    journal->busy = true;
    while (take_filled(journal))
        flush(journal);
    journal->busy = false;
    pthread_cond_broadcast(&journal->settled);
}

static void *run_thread(void *arg)
{
    struct journal *journal = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), "reeve-journal");
    pthread_mutex_lock(&journal->lock);
    while (!journal->stopping) {
        if (journal->busy || !take_filled(journal)) {
            pthread_cond_wait(&journal->work, &journal->lock);
            continue;
        }
        journal->busy = true;
        flush(journal);
        journal->busy = false;
        pthread_mutex_unlock(&journal->lock);
        journal->on_settled(journal->arg);
        pthread_mutex_lock(&journal->lock);
    }
    pthread_mutex_unlock(&journal->lock);
    return NULL;
}

int journal_append(struct journal *journal, const void *payload, size_t size, bool wait,
                   struct journal_position *ret_position)
{
    assert(!journal->read_only);
    pthread_mutex_lock(&journal->lock);
    int r = journal->failed ? -REEVE_ERROR_UNAVAILABLE : put_batch(journal, payload, size);
    if (r == 0) {
        *ret_position = journal->next.position;
        if (wait && !journal->busy)
            flush_filled(journal);
    }
    if (journal->filling.count)
        pthread_cond_signal(&journal->work);
    pthread_mutex_unlock(&journal->lock);
    return r;
}

int journal_durable(struct journal *journal, struct journal_position *ret_position)
{
    pthread_mutex_lock(&journal->lock);
    *ret_position = journal->durable.position;
    const int r = journal->failed ? -REEVE_ERROR_UNAVAILABLE : 0;
    pthread_mutex_unlock(&journal->lock);
    return r;
}

void journal_wait(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    if (!journal->threaded && !journal->busy)
        flush_filled(journal);
    while (!journal->failed && (journal->busy || journal->filling.count))
        pthread_cond_wait(&journal->settled, &journal->lock);
    pthread_mutex_unlock(&journal->lock);
}

void journal_failure(struct journal *journal, char ret_text[256])
{
    pthread_mutex_lock(&journal->lock);
    memcpy(ret_text, journal->failure, sizeof journal->failure);
    pthread_mutex_unlock(&journal->lock);
}

/* ---- After a failure ---- */

/* The first frame behind the last durable one may be on disk although its write failed, and would be found when the
 * next batch is not: it stands at the next place, or is the first of a file. What comes behind it follows nothing. */
static int void_failed(struct journal *journal)
{
    static const _Alignas(JOURNAL_BLOCK) char zeros[JOURNAL_BLOCK];
    const struct place *durable = &journal->durable;
    for (unsigned number = 1; number <= journal->segments.count; number++) {
        const struct segment *segment = &journal->segments.items[number];
        const bool is_next = number == durable->segment;
        if (is_next ? durable->offset >= journal->segments.bytes : segment->last_sequence <= durable->position.sequence)
            continue;
        if (segment_write(segment->fd, zeros, sizeof zeros, is_next ? durable->offset : JOURNAL_BLOCK) != 0 ||
            fdatasync(segment->fd) != 0)
            return failed_with(journal, "the journal cannot be written", errno);
    }
    return 0;
}

/* What may be on disk of the failed batches is not found any more, or does not follow: their term is older. */
int journal_reopen(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    while (journal->busy)
        pthread_cond_wait(&journal->settled, &journal->lock);
    const int error = journal->failed ? segments_open_again(&journal->segments) : 0;
    int r = error ? failed_with(journal, "the journal cannot be opened again", error) : 0;
    if (journal->failed && r == 0)
        r = void_failed(journal);
    if (journal->failed && r == 0) {
        journal->filling.size = journal->filling.count = 0;
        journal->filling.batches = 0;
        forget_behind(journal, &journal->durable);
        journal->term++;
        journal->failed = false;
    }
    pthread_mutex_unlock(&journal->lock);
    return r;
}

/* ---- Room ---- */

void journal_release(struct journal *journal, uint64_t sequence)
{
    pthread_mutex_lock(&journal->lock);
    segments_release(&journal->segments, sequence, journal->durable.segment);
    pthread_mutex_unlock(&journal->lock);
}

/* Of the one that is written to, what has been. */
static uint64_t held_bytes(const struct journal *journal)
{
    return segments_held_bytes(&journal->segments) + journal->next.offset;
}

static bool wants_file(const struct journal *journal)
{
    const struct segments *segments = &journal->segments;
    return !journal->failed && !segments->preparing && !segments_have_free(segments) &&
           journal->next.offset > segments->bytes / 2 && segments->count * segments->bytes < journal->max_bytes;
}

/* Whoever appends and needs one waits for it. */
void journal_prepare(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    if (wants_file(journal))
        segments_prepare(&journal->segments, true);
    pthread_mutex_unlock(&journal->lock);
}

void journal_get_stats(struct journal *journal, struct journal_stats *ret_stats)
{
    pthread_mutex_lock(&journal->lock);
    *ret_stats = journal->stats;
    ret_stats->held_bytes = held_bytes(journal);
    ret_stats->file_bytes = journal->segments.count * journal->segments.bytes;
    ret_stats->max_bytes = journal->max_bytes;
    ret_stats->segments = journal->segments.count;
    ret_stats->direct = journal->segments.direct;
    ret_stats->starved = segments_are_starved(&journal->segments);
    ret_stats->wants_file = wants_file(journal) && !journal->segments.starved;
    pthread_mutex_unlock(&journal->lock);
}

/* ---- Opening and closing ---- */

static void take_end(struct journal *journal, const struct journal_end *end)
{
    struct segments *segments = &journal->segments;
    journal->next = (struct place){.segment = end->segment, .offset = end->offset, .position = end->position};
    journal->durable = journal->next;
    journal->term = end->term + 1;
    if (end->segment_bytes)
        segments->bytes = end->segment_bytes; /* as it was made */
    if (segments->bytes < JOURNAL_SEGMENT_BYTES_MIN)
        segments->bytes = JOURNAL_SEGMENT_BYTES_MIN;
    /* One file is written to, and is not released before another one is. */
    if (journal->max_bytes < 2 * segments->bytes)
        journal->max_bytes = 2 * segments->bytes;
}

static int start(struct journal *journal, const struct journal_end *end, struct reeve_error *ret_error)
{
    int r = segments_open(&journal->segments, end, ret_error);
    pthread_mutex_lock(&journal->lock);
    if (r == 0 && journal->next.segment == 0 && (r = move_on(journal)) < 0)
        r = error_set(ret_error, r == -REEVE_ERROR_NO_MEMORY ? REEVE_ERROR_NO_MEMORY : REEVE_ERROR_STORE_ACCESS, NULL,
                      "%s in %s", journal->failure, journal->segments.directory);
    pthread_mutex_unlock(&journal->lock);
    if (r < 0)
        return r;
    journal->durable = journal->next;
    if (journal->threaded && pthread_create(&journal->thread, NULL, run_thread, journal) != 0) {
        journal->threaded = false;
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    }
    return 0;
}

static struct journal *new_journal(const struct journal_options *options)
{
    struct journal *journal = calloc(1, sizeof *journal);
    char *directory = strdup(options->directory);
    if (!journal || !directory) {
        free(journal);
        free(directory);
        return NULL;
    }
    pthread_mutex_init(&journal->lock, NULL);
    pthread_cond_init(&journal->work, NULL);
    pthread_cond_init(&journal->settled, NULL);
    memcpy(&journal->store, &options->store_id, sizeof journal->store);
    journal->max_bytes = options->max_bytes;
    journal->read_only = options->read_only;
    journal->threaded = options->threaded && !options->read_only;
    journal->on_settled = options->on_settled;
    journal->arg = options->arg;
    journal->segments = (struct segments){.directory = directory,
                                          .store_id = options->store_id,
                                          .bytes = journal_blocks(options->segment_bytes),
                                          .direct = true,
                                          .lock = &journal->lock,
                                          .changed = &journal->settled};
    return journal;
}

int journal_open(const struct journal_options *options, journal_visit visit, void *arg, struct journal **ret_journal,
                 struct reeve_error *ret_error)
{
    struct journal_end end;
    *ret_journal = NULL;
    int r = journal_scan(options, visit, arg, &end, ret_error);
    if (r < 0)
        return r;
    struct journal *journal = new_journal(options);
    if (!journal) {
        r = error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    } else {
        take_end(journal, &end);
        r = options->read_only ? 0 : start(journal, &end, ret_error);
        if (r < 0)
            journal->threaded = false; /* it has no thread to wait for */
    }
    free(end.segments);
    if (r < 0) {
        journal_close(journal);
        return r;
    }
    *ret_journal = journal;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->threaded) {
        journal_wait(journal);
        pthread_mutex_lock(&journal->lock);
        journal->stopping = true;
        pthread_cond_signal(&journal->work);
        pthread_mutex_unlock(&journal->lock);
        pthread_join(journal->thread, NULL);
    }
    segments_close(&journal->segments);
    free(journal->filling.bytes);
    free(journal->filling.extents);
    free(journal->flushing.bytes);
    free(journal->flushing.extents);
    pthread_mutex_destroy(&journal->lock);
    pthread_cond_destroy(&journal->work);
    pthread_cond_destroy(&journal->settled);
    free(journal);
}
