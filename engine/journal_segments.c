#include "journal_segments.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/crash.h"
#include "error.h"

#define FILL_BYTES (UINT64_C(1) << 20) /* written at once into a new segment */

static void name_segment(const struct segments *segments, unsigned number, char ret_path[4200])
{
    snprintf(ret_path, 4200, JOURNAL_NAME_FORMAT, segments->directory, number);
}

/* ---- One file ---- */

/* Past the page cache where the file system can do that: then a failed write leaves nothing in it that is not on disk.
 */
static int open_segment(struct segments *segments, unsigned number)
{
    char path[4200];
    name_segment(segments, number, path);
    int fd = -1;
    if (segments->direct)
        fd = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0 && (!segments->direct || errno == EINVAL)) {
        segments->direct = false;
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

int segment_write(int fd, const void *bytes, size_t size, uint64_t offset)
{
    ssize_t done;
    do
        done = pwrite(fd, bytes, size, (off_t)offset);
    while (done < 0 && errno == EINTR);
    if (done >= 0 && (size_t)done != size)
        errno = why_short(fd);
    return done == (ssize_t)size ? 0 : -1;
}

/* What a file is; the number of the one behind it, if that is known to be there. */
static int write_head(const struct segments *segments, int fd, unsigned next)
{
    _Alignas(JOURNAL_BLOCK) char block[JOURNAL_BLOCK] = {0};
    struct segment_header header = {
        .magic = SEGMENT_MAGIC, .version = JOURNAL_VERSION, .bytes = segments->bytes, .store_id = segments->store_id};
    struct segment_mark mark = {.magic = SEGMENT_MARK_MAGIC, .next = next};
    header.checksum = segment_checksum(&header);
    mark.checksum = mark_checksum(&mark);
    memcpy(block, &header, sizeof header);
    if (next)
        memcpy(block + SEGMENT_MARK_OFFSET, &mark, sizeof mark);
    return segment_write(fd, block, sizeof block, 0) == 0 ? fdatasync(fd) : -1;
}

/* Every block is written once, so that writing it again only changes data. The header comes last: what has one is
 * complete. */
static int fill_segment(const struct segments *segments, int fd, bool ahead)
{
    static const char zeros[FILL_BYTES];
    for (uint64_t at = 0; at < segments->bytes;) {
        const uint64_t left = segments->bytes - at, size = left < FILL_BYTES ? left : FILL_BYTES;
        if (segment_write(fd, zeros, size, at) != 0 || (ahead && fdatasync(fd) != 0))
            return -1;
        at += size;
    }
    if (fsync(fd) != 0)
        return -1;
    crash_point(CRASH_SEGMENT_FILLED);
    return write_head(segments, fd, 0);
}

static int sync_directory(const struct segments *segments)
{
    const int fd = open(segments->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    const int r = fsync(fd);
    close(fd);
    return r;
}

static int fill_file(const struct segments *segments, unsigned number, bool ahead)
{
    char path[4200];
    name_segment(segments, number, path);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    const int r = fill_segment(segments, fd, ahead) == 0 ? sync_directory(segments) : -1;
    const int error = errno;
    close(fd);
    if (r != 0)
        unlink(path);
    errno = error;
    return r;
}

/* Whether there is a file behind this one. */
static int mark_segment(struct segments *segments, unsigned number, unsigned next)
{
    const int fd = open_segment(segments, number);
    if (fd < 0)
        return -1;
    const int r = write_head(segments, fd, next);
    const int error = errno;
    close(fd);
    errno = error;
    return r;
}

/* Returns its descriptor, or -1 with errno. Before anything is in it the one before it knows of it: lost, it is missed.
 * From then on it stays as it is. */
static int make_segment(struct segments *segments, unsigned number, bool ahead)
{
    if (segments->filled != number && fill_file(segments, number, ahead) != 0)
        return -1;
    segments->filled = number;
    if (number > 1) {
        if (mark_segment(segments, number - 1, number) != 0)
            return -1;
        crash_point(CRASH_SEGMENT_MARKED);
    }
    return open_segment(segments, number);
}

/* ---- All of them ---- */

static unsigned free_segment(const struct segments *segments)
{
    for (unsigned number = 1; number <= segments->count; number++) {
        if (segments->items[number].last_sequence == 0 && number != segments->current)
            return number;
    }
    return 0;
}

bool segments_have_free(const struct segments *segments)
{
    return free_segment(segments) != 0;
}

bool segments_are_starved(const struct segments *segments)
{
    return segments->starved && segments->count > 1 && free_segment(segments) == 0;
}

static int add_segment(struct segments *segments, int fd)
{
    struct segment *larger = realloc(segments->items, (segments->count + 2) * sizeof *larger);
    if (!larger) {
        close(fd);
        return ENOMEM;
    }
    segments->items = larger;
    segments->items[++segments->count] = (struct segment){.fd = fd};
    return 0;
}

int segments_prepare(struct segments *segments, bool ahead)
{
    const unsigned number = segments->count + 1;
    if (number > JOURNAL_SEGMENTS_MAX)
        return ENFILE;
    segments->preparing = true;
    pthread_mutex_unlock(segments->lock);
    const int fd = make_segment(segments, number, ahead);
    int error = fd < 0 ? errno : 0;
    pthread_mutex_lock(segments->lock);
    if (fd >= 0)
        error = add_segment(segments, fd);
    segments->preparing = false;
    segments->starved = error != 0;
    pthread_cond_broadcast(segments->changed);
    return error;
}

int segments_move_on(struct segments *segments)
{
    unsigned number;
    while ((number = free_segment(segments)) == 0) {
        if (segments->preparing) {
            pthread_cond_wait(segments->changed, segments->lock);
            continue;
        }
        const int error = segments_prepare(segments, false);
        if (error && free_segment(segments) == 0)
            return error;
    }
    segments->current = number;
    return 0;
}

void segments_forget_behind(struct segments *segments, uint64_t sequence, unsigned number)
{
    for (unsigned i = 1; i <= segments->count; i++) {
        struct segment *segment = &segments->items[i];
        if (segment->last_sequence > sequence)
            segment->last_sequence = i == number ? sequence : 0;
    }
    segments->current = number;
}

void segments_release(struct segments *segments, uint64_t sequence, unsigned kept)
{
    for (unsigned number = 1; number <= segments->count; number++) {
        if (number != segments->current && number != kept && segments->items[number].last_sequence <= sequence)
            segments->items[number].last_sequence = 0;
    }
}

uint64_t segments_held_bytes(const struct segments *segments)
{
    uint64_t held = 0;
    for (unsigned number = 1; number <= segments->count; number++) {
        if (segments->items[number].last_sequence && number != segments->current)
            held += segments->bytes;
    }
    return held;
}

/* ---- Opening and closing ---- */

int segments_open_again(struct segments *segments)
{
    for (unsigned number = 1; number <= segments->count; number++) {
        struct segment *segment = &segments->items[number];
        if (segment->fd >= 0)
            close(segment->fd);
        segment->fd = open_segment(segments, number);
        if (segment->fd < 0)
            return errno;
    }
    return 0;
}

/* Files that were lost after the journal had been closed are not missed later. */
static int forget_lost(struct segments *segments, const struct journal_end *end, struct reeve_error *ret_error)
{
    const unsigned last = segments->count;
    if (last == 0 || end->marked <= last || mark_segment(segments, last, 0) == 0)
        return 0;
    return error_set(ret_error, REEVE_ERROR_STORE_ACCESS, NULL, "cannot write " JOURNAL_NAME_FORMAT ": %s",
                     segments->directory, last, strerror(errno));
}

static int remove_segment(const char *path, struct reeve_error *ret_error)
{
    if (unlink(path) == 0)
        return 0;
    return error_set(ret_error, REEVE_ERROR_STORE_ACCESS, NULL, "cannot remove %s: %s", path, strerror(errno));
}

static int open_found(struct segments *segments, const struct journal_end *end, unsigned number,
                      struct reeve_error *ret_error)
{
    const struct journal_segment *found = &end->segments[number];
    char path[4200];
    name_segment(segments, number, path);
    if (!found->whole && number == end->segment_count && number > 1)
        return remove_segment(path, ret_error);
    const int fd = found->whole ? open_segment(segments, number) : make_segment(segments, number, false);
    if (fd < 0)
        return error_set(ret_error, errno == ENOMEM ? REEVE_ERROR_NO_MEMORY : REEVE_ERROR_STORE_ACCESS, NULL,
                         "cannot open %s: %s", path, strerror(errno));
    segments->items[number] = (struct segment){.fd = fd, .last_sequence = found->last_sequence};
    segments->count = number;
    return 0;
}

int segments_open(struct segments *segments, const struct journal_end *end, struct reeve_error *ret_error)
{
    segments->current = end->segment;
    segments->items = calloc((size_t)end->segment_count + 1, sizeof *segments->items);
    int r = segments->items ? 0 : error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    for (unsigned number = 1; number <= end->segment_count && r == 0; number++)
        r = open_found(segments, end, number, ret_error);
    return r == 0 ? forget_lost(segments, end, ret_error) : r;
}

void segments_close(struct segments *segments)
{
    for (unsigned number = 1; number <= segments->count; number++) {
        if (segments->items[number].fd >= 0)
            close(segments->items[number].fd);
    }
    free(segments->items);
    free(segments->directory);
}
