#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/crash.h"
#include "error.h"
#include "journal_format.h"

#define PART_WORTH (UINT64_C(64) << 10) /* room for less of a batch is left as it is */
#define FILL_BYTES (UINT64_C(1) << 20)  /* written at once into a new segment */

struct segment {
    int fd;                 /* -1: not open */
    uint64_t last_sequence; /* newest batch with a frame in it; 0: may be used again */
};

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
    char *directory;
    struct reeve_uuid store_id;
    uint64_t store, segment_bytes, max_bytes;
    bool read_only, threaded;
    atomic_bool direct; /* until a file turns out not to take it */
    void (*on_settled)(void *arg);
    void *arg;
    pthread_t thread;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t work, settled;
    struct segment *segments; /* by number; [0] is not used */
    unsigned segment_count;
    struct place next, durable;
    uint64_t term;
    struct writing filling, flushing;
    bool busy;      /* somebody is writing what is in `flushing` */
    bool putting;   /* `filling` ends with part of a batch */
    bool preparing; /* somebody makes the segment behind the last */
    bool stopping, failed;
    char failure[256];
    struct journal_stats stats;
};

static int failed_with(struct journal *journal, const char *what, int error)
{
    snprintf(journal->failure, sizeof journal->failure, "%s: %s", what, strerror(error));
    return error == ENOMEM ? -REEVE_ERROR_NO_MEMORY : -REEVE_ERROR_UNAVAILABLE;
}

static void name_segment(const struct journal *journal, unsigned number, char ret_path[4200])
{
    snprintf(ret_path, 4200, JOURNAL_NAME_FORMAT, journal->directory, number);
}

/* ---- Segments ---- */

/* Past the page cache where the file system can do that: then a failed write leaves nothing in it that is not on disk.
 */
static int open_segment(struct journal *journal, unsigned number)
{
    char path[4200];
    name_segment(journal, number, path);
    int fd = -1;
    if (journal->direct)
        fd = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0 && (!journal->direct || errno == EINVAL)) {
        journal->direct = false;
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    return fd;
}

/* A write that is cut short is one that fails; most often the disk is full. */
static int why_short(int fd)
{
    struct statvfs disk;
    return fstatvfs(fd, &disk) == 0 && disk.f_bavail == 0 ? ENOSPC : EIO;
}

static int write_all(int fd, const void *bytes, size_t size, uint64_t offset)
{
    ssize_t done;
    do
        done = pwrite(fd, bytes, size, (off_t)offset);
    while (done < 0 && errno == EINTR);
    if (done >= 0 && (size_t)done != size)
        errno = why_short(fd);
    return done == (ssize_t)size ? 0 : -1;
}

/* Every block is written once, so that writing it again only changes data. The header comes last: what has one is
 * complete. */
static int fill_segment(const struct journal *journal, int fd)
{
    static const char zeros[FILL_BYTES];
    char block[JOURNAL_BLOCK] = {0};
    struct segment_header header = {.magic = SEGMENT_MAGIC,
                                    .version = JOURNAL_VERSION,
                                    .bytes = journal->segment_bytes,
                                    .store_id = journal->store_id};
    for (uint64_t at = 0; at < journal->segment_bytes;) {
        const uint64_t left = journal->segment_bytes - at, size = left < FILL_BYTES ? left : FILL_BYTES;
        if (write_all(fd, zeros, size, at) != 0)
            return -1;
        at += size;
    }
    if (fsync(fd) != 0)
        return -1;
    crash_point(CRASH_SEGMENT_FILLED);
    header.checksum = segment_checksum(&header);
    memcpy(block, &header, sizeof header);
    return write_all(fd, block, sizeof block, 0) == 0 ? fsync(fd) : -1;
}

static int sync_directory(const struct journal *journal)
{
    const int fd = open(journal->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    const int r = fsync(fd);
    close(fd);
    return r;
}

/* Returns its descriptor, or -1 with errno. */
static int make_segment(struct journal *journal, unsigned number)
{
    char path[4200];
    name_segment(journal, number, path);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int opened = -1;
    if (fill_segment(journal, fd) == 0 && sync_directory(journal) == 0)
        opened = open_segment(journal, number);
    const int error = errno;
    close(fd);
    if (opened < 0)
        unlink(path);
    errno = error;
    return opened;
}

/* Under the lock. */
static int add_segment(struct journal *journal, int fd)
{
    struct segment *larger = realloc(journal->segments, (journal->segment_count + 2) * sizeof *larger);
    if (!larger) {
        close(fd);
        errno = ENOMEM;
        return -1;
    }
    journal->segments = larger;
    journal->segments[++journal->segment_count] = (struct segment){.fd = fd};
    return 0;
}

static unsigned free_segment(const struct journal *journal)
{
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        if (journal->segments[number].last_sequence == 0 && number != journal->next.segment)
            return number;
    }
    return 0;
}

static uint64_t held_bytes(const struct journal *journal)
{
    uint64_t held = 0;
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        if (journal->segments[number].last_sequence && number != journal->next.segment)
            held += journal->segment_bytes;
    }
    return held + journal->next.offset;
}

/* Under the lock: a segment to go on in. */
static int move_on(struct journal *journal)
{
    while (journal->preparing && free_segment(journal) == 0)
        pthread_cond_wait(&journal->settled, &journal->lock);
    unsigned number = free_segment(journal);
    if (number == 0) {
        errno = ENFILE;
        const int fd = journal->segment_count < JOURNAL_SEGMENTS_MAX ? make_segment(journal, journal->segment_count + 1)
                                                                     : -1;
        if (fd < 0 || add_segment(journal, fd) != 0)
            return failed_with(journal, "the journal cannot have another file", errno);
        number = journal->segment_count;
    }
    journal->next.segment = number;
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
    journal->segments[next->segment].last_sequence = header.sequence;
    return 0;
}

/* How much of what is left goes into the next frame; SIZE_MAX: it belongs into another segment. */
static size_t next_part(struct journal *journal, size_t left)
{
    const uint64_t end = journal->segment_bytes, at = journal->next.offset;
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
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        struct segment *segment = &journal->segments[number];
        if (segment->last_sequence > place->position.sequence)
            segment->last_sequence = number == place->segment ? place->position.sequence : 0;
    }
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
    if (write_all(fd, writing->bytes + extent->from, extent->size, extent->offset) != 0)
        return -1;
    crash_point(CRASH_JOURNAL_WRITTEN);
    const bool more = at + 1 < writing->count && writing->extents[at + 1].segment == extent->segment;
    return journal->direct || more ? 0 : fdatasync(fd);
}

/* With `busy` set and the lock held, which is let go meanwhile. */
static void flush(struct journal *journal)
{
    struct writing *writing = &journal->flushing;
    int error = 0;
    for (size_t at = 0; at < writing->count && error == 0; at++) {
        const int fd = journal->segments[writing->extents[at].segment].fd;
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

static int open_again(struct journal *journal)
{
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        struct segment *segment = &journal->segments[number];
        if (segment->fd >= 0)
            close(segment->fd);
        segment->fd = open_segment(journal, number);
        if (segment->fd < 0)
            return failed_with(journal, "the journal cannot be opened again", errno);
    }
    return 0;
}

/* The first frame behind the last durable one may be on disk although its write failed, and would be found when the
 * next batch is not: it stands at the next place, or is the first of a file. What comes behind it follows nothing. */
static int void_failed(struct journal *journal)
{
    static const _Alignas(JOURNAL_BLOCK) char zeros[JOURNAL_BLOCK];
    const struct place *durable = &journal->durable;
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        const struct segment *segment = &journal->segments[number];
        const bool is_next = number == durable->segment;
        if (is_next ? durable->offset >= journal->segment_bytes : segment->last_sequence <= durable->position.sequence)
            continue;
        if (write_all(segment->fd, zeros, sizeof zeros, is_next ? durable->offset : JOURNAL_BLOCK) != 0 ||
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
    int r = journal->failed ? open_again(journal) : 0;
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
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        if (number != journal->next.segment && number != journal->durable.segment &&
            journal->segments[number].last_sequence <= sequence)
            journal->segments[number].last_sequence = 0;
    }
    pthread_mutex_unlock(&journal->lock);
}

bool journal_has_room(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    const bool room = held_bytes(journal) < journal->max_bytes;
    pthread_mutex_unlock(&journal->lock);
    return room;
}

/* Making one takes a while: not under the lock. Whoever appends and needs one waits for it. */
void journal_prepare(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    const unsigned number = journal->segment_count + 1;
    const bool wanted = !journal->failed && !journal->preparing && free_segment(journal) == 0 &&
                        number <= JOURNAL_SEGMENTS_MAX && journal->next.offset > journal->segment_bytes / 2 &&
                        journal->segment_count * journal->segment_bytes < journal->max_bytes;
    if (wanted) {
        journal->preparing = true;
        pthread_mutex_unlock(&journal->lock);
        const int fd = make_segment(journal, number);
        pthread_mutex_lock(&journal->lock);
        if (fd >= 0)
            add_segment(journal, fd);
        journal->preparing = false;
        pthread_cond_broadcast(&journal->settled);
    }
    pthread_mutex_unlock(&journal->lock);
}

void journal_get_stats(struct journal *journal, struct journal_stats *ret_stats)
{
    pthread_mutex_lock(&journal->lock);
    *ret_stats = journal->stats;
    ret_stats->held_bytes = held_bytes(journal);
    ret_stats->file_bytes = journal->segment_count * journal->segment_bytes;
    ret_stats->max_bytes = journal->max_bytes;
    ret_stats->segments = journal->segment_count;
    ret_stats->direct = journal->direct;
    pthread_mutex_unlock(&journal->lock);
}

/* ---- Opening and closing ---- */

static void take_end(struct journal *journal, const struct journal_end *end)
{
    journal->next = (struct place){.segment = end->segment, .offset = end->offset, .position = end->position};
    journal->durable = journal->next;
    journal->term = end->term + 1;
    if (end->segment_bytes)
        journal->segment_bytes = end->segment_bytes; /* as it was made */
    if (journal->segment_bytes < JOURNAL_SEGMENT_BYTES_MIN)
        journal->segment_bytes = JOURNAL_SEGMENT_BYTES_MIN;
    /* One file is written to, and is not released before another one is. */
    if (journal->max_bytes < 2 * journal->segment_bytes)
        journal->max_bytes = 2 * journal->segment_bytes;
}

/* What has no header yet is made again; not the last one, which may do without the room on disk. */
static int open_segments(struct journal *journal, const struct journal_end *end, struct reeve_error *ret_error)
{
    journal->segments = calloc((size_t)end->segment_count + 1, sizeof *journal->segments);
    if (!journal->segments)
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    for (unsigned number = 1; number <= end->segment_count; number++) {
        char path[4200];
        name_segment(journal, number, path);
        const struct journal_segment *segment = &end->segments[number];
        if (!segment->whole && number == end->segment_count && number > 1)
            return unlink(path) == 0 ? 0
                                     : error_set(ret_error, REEVE_ERROR_STORE_ACCESS, NULL, "cannot remove %s: %s",
                                                 path, strerror(errno));
        const int fd = segment->whole ? open_segment(journal, number) : make_segment(journal, number);
        if (fd < 0)
            return error_set(ret_error, errno == ENOMEM ? REEVE_ERROR_NO_MEMORY : REEVE_ERROR_STORE_ACCESS, NULL,
                             "cannot open %s: %s", path, strerror(errno));
        journal->segments[number] = (struct segment){.fd = fd, .last_sequence = segment->last_sequence};
        journal->segment_count = number;
    }
    return 0;
}

static int start(struct journal *journal, const struct journal_end *end, struct reeve_error *ret_error)
{
    int r = open_segments(journal, end, ret_error);
    if (r == 0 && journal->next.segment == 0 && (r = move_on(journal)) < 0)
        r = error_set(ret_error, r == -REEVE_ERROR_NO_MEMORY ? REEVE_ERROR_NO_MEMORY : REEVE_ERROR_STORE_ACCESS, NULL,
                      "%s in %s", journal->failure, journal->directory);
    if (r < 0)
        return r;
    journal->durable = journal->next;
    if (journal->threaded && pthread_create(&journal->thread, NULL, run_thread, journal) != 0) {
        journal->threaded = false;
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    }
    return 0;
}

int journal_open(const struct journal_options *options, journal_visit visit, void *arg, struct journal **ret_journal,
                 struct reeve_error *ret_error)
{
    struct journal_end end;
    *ret_journal = NULL;
    int r = journal_scan(options, visit, arg, &end, ret_error);
    if (r < 0)
        return r;
    struct journal *journal = calloc(1, sizeof *journal);
    if (journal) {
        pthread_mutex_init(&journal->lock, NULL);
        pthread_cond_init(&journal->work, NULL);
        pthread_cond_init(&journal->settled, NULL);
        journal->directory = strdup(options->directory);
    }
    if (!journal || !journal->directory) {
        r = error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    } else {
        journal->store_id = options->store_id;
        memcpy(&journal->store, &options->store_id, sizeof journal->store);
        journal->segment_bytes = journal_blocks(options->segment_bytes);
        journal->max_bytes = options->max_bytes;
        journal->read_only = options->read_only;
        journal->threaded = options->threaded && !options->read_only;
        journal->direct = true;
        journal->on_settled = options->on_settled;
        journal->arg = options->arg;
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
    for (unsigned number = 1; number <= journal->segment_count; number++) {
        if (journal->segments[number].fd >= 0)
            close(journal->segments[number].fd);
    }
    free(journal->segments);
    free(journal->filling.bytes);
    free(journal->filling.extents);
    free(journal->flushing.bytes);
    free(journal->flushing.extents);
    pthread_mutex_destroy(&journal->lock);
    pthread_cond_destroy(&journal->work);
    pthread_cond_destroy(&journal->settled);
    free(journal->directory);
    free(journal);
}
