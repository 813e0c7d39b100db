/* Reading a journal: every frame that is whole is found first, then they are followed by their chain. Where a frame
 * stands does not matter, so what is damaged hides nothing but itself. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "error.h"
#include "journal_format.h"

#define READ_BYTES JOURNAL_PART_MAX /* at once: a frame at least */

/* A whole frame of a batch that the database does not have. */
struct found {
    struct frame_header header;
    unsigned segment;
    uint64_t offset;
};

struct scan {
    const struct journal_options *options;
    uint64_t store;
    struct found *frames;
    size_t count, capacity;
    struct buffer bytes; /* of a file, or of a part of one, which begins at `offset` */
    unsigned segment;    /* that it is a part of; 0: of none */
    uint64_t offset;
    uint64_t term;
    int *files; /* descriptors, by number */
    struct journal_segment *segments;
    unsigned segment_count, marked; /* the highest file that one before it knows of */
    uint64_t segment_bytes;
    uint64_t newest_durable; /* that any frame knows of */
    struct reeve_error *error;
};

uint32_t journal_checksum(uint32_t seed, const void *bytes, size_t size)
{
    return crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)size, seed);
}

uint32_t frame_checksum(const struct frame_header *header, const void *payload)
{
    const uint32_t head = journal_checksum(UINT32_MAX, &header->size,
                                           sizeof *header - offsetof(struct frame_header, size));
    return journal_checksum(head, payload, header->size);
}

uint32_t segment_checksum(const struct segment_header *header)
{
    struct segment_header copy = *header;
    copy.checksum = 0;
    return journal_checksum(UINT32_MAX, &copy, sizeof copy);
}

uint32_t mark_checksum(const struct segment_mark *mark)
{
    struct segment_mark copy = *mark;
    copy.checksum = 0;
    return journal_checksum(UINT32_MAX, &copy, sizeof copy);
}

/* ---- Finding frames ---- */

static bool looks_like_frame(const struct scan *scan, const struct frame_header *header, uint64_t room)
{
    return header->magic == FRAME_MAGIC && header->store == scan->store && header->size <= JOURNAL_PART_MAX &&
           sizeof *header + header->size <= room;
}

static int keep(struct scan *scan, const struct frame_header *header, unsigned segment, uint64_t offset)
{
    if (scan->count == scan->capacity) {
        const size_t capacity = scan->capacity ? scan->capacity * 2 : 256;
        struct found *larger = realloc(scan->frames, capacity * sizeof *larger);
        if (!larger)
            return error_plain(scan->error, -REEVE_ERROR_NO_MEMORY);
        scan->frames = larger;
        scan->capacity = capacity;
    }
    scan->frames[scan->count++] = (struct found){*header, segment, offset};
    return 0;
}

/* Returns whether there is any frame, whole or not, of this store. */
static int find_frames(struct scan *scan, unsigned segment, const char *bytes, uint64_t size, bool *ret_any)
{
    struct frame_header header;
    *ret_any = false;
    for (uint64_t at = JOURNAL_BLOCK; at + sizeof header <= size;) {
        memcpy(&header, bytes + at, sizeof header);
        const uint64_t here = at;
        at += JOURNAL_BLOCK;
        if (!looks_like_frame(scan, &header, size - here))
            continue;
        *ret_any = true;
        if (header.sequence <= scan->options->after.sequence)
            continue;
        if (header.checksum != frame_checksum(&header, bytes + here + sizeof header))
            continue;
        const int r = keep(scan, &header, segment, here);
        if (r < 0)
            return r;
        if (header.durable > scan->newest_durable)
            scan->newest_durable = header.durable;
        if (header.term > scan->term)
            scan->term = header.term;
        at = here + journal_blocks(sizeof header + header.size);
    }
    return 0;
}

/* Files up to this number must be there. */
static unsigned files_expected(const struct scan *scan)
{
    const unsigned expected = scan->options->segments_expected;
    return expected && expected < scan->marked ? scan->marked : expected;
}

static void read_mark(struct scan *scan, unsigned number, const char *bytes)
{
    struct segment_mark mark;
    memcpy(&mark, bytes + SEGMENT_MARK_OFFSET, sizeof mark);
    if (memcmp(mark.magic, SEGMENT_MARK_MAGIC, sizeof SEGMENT_MARK_MAGIC) == 0 && mark.next == number + 1 &&
        mark.checksum == mark_checksum(&mark))
        scan->marked = mark.next;
}

static bool is_zero(const char *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static int check_header(struct scan *scan, unsigned number, const char *path, const char *bytes, uint64_t size,
                        bool has_frames)
{
    struct segment_header header;
    memcpy(&header, bytes, sizeof header);
    if (memcmp(header.magic, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC) != 0 ||
        header.checksum != segment_checksum(&header)) {
        if (!has_frames && is_zero(bytes, sizeof header) && number > files_expected(scan))
            return 0; /* the process ended while it was made */
        return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
                         "%s is damaged: it does not begin as a journal does", path);
    }
    if (header.version > JOURNAL_VERSION)
        return error_set(scan->error, REEVE_ERROR_STORE_VERSION, NULL,
                         "%s has version %u, this is reeve %s which knows up to %d: use a newer reeve", path,
                         header.version, REEVE_VERSION, JOURNAL_VERSION);
    if (memcmp(&header.store_id, &scan->options->store_id, sizeof header.store_id) != 0)
        return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
                         "%s is the journal of another store: data.mdb and journal files belong together", path);
    if (header.bytes != size || size < JOURNAL_SEGMENT_BYTES_MIN || size % JOURNAL_BLOCK)
        return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
                         "%s is damaged: it has %llu bytes instead of %llu", path, (unsigned long long)size,
                         (unsigned long long)header.bytes);
    if (scan->segment_bytes && scan->segment_bytes != size)
        return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
                         "%s does not have the size of the other journal files", path);
    scan->segment_bytes = size;
    scan->segments[number].whole = true;
    read_mark(scan, number, bytes);
    return 0;
}

static int cannot_read(struct scan *scan, const char *path)
{
    return error_set(scan->error, errno == ENOMEM ? REEVE_ERROR_NO_MEMORY : REEVE_ERROR_STORE_ACCESS, NULL,
                     "cannot read %s: %s", path, strerror(errno));
}

static int read_all(int fd, char *bytes, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        const ssize_t got = pread(fd, bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; /* shorter than it was a moment ago */
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

/* What is taken as durable must be on disk: the process may have ended before it was flushed, and a flush that failed
 * leaves in the page cache what is not there. */
static int settle_on_disk(int fd)
{
    if (fdatasync(fd) != 0)
        return -1;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int read_segment(struct scan *scan, unsigned number, const char *path, int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return cannot_read(scan, path);
    const size_t size = (size_t)status.st_size;
    bool any;
    if (size < JOURNAL_BLOCK && number > files_expected(scan))
        return 0; /* the process ended while it was made */
    if (size < JOURNAL_BLOCK)
        return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL, "%s is damaged: it has only %zu bytes", path,
                         size);
    if (!scan->options->read_only && settle_on_disk(fd) != 0)
        return cannot_read(scan, path);
    buffer_reset(&scan->bytes); /* of all files one after the other */
    char *bytes = buffer_reserve(&scan->bytes, size);
    if (!bytes)
        return error_plain(scan->error, -REEVE_ERROR_NO_MEMORY);
    if (read_all(fd, bytes, size, 0) != 0)
        return cannot_read(scan, path);
    const int r = find_frames(scan, number, bytes, size, &any);
    return r < 0 ? r : check_header(scan, number, path, bytes, size, any);
}

static int keep_file(struct scan *scan, unsigned number, int fd)
{
    int *files = realloc(scan->files, (number + 1) * sizeof *files);
    if (files)
        scan->files = files;
    struct journal_segment *segments = files ? realloc(scan->segments, (number + 1) * sizeof *segments) : NULL;
    if (!segments) {
        close(fd);
        return error_plain(scan->error, -REEVE_ERROR_NO_MEMORY);
    }
    scan->segments = segments;
    scan->files[number] = fd;
    scan->segments[number] = (struct journal_segment){0};
    scan->segment_count = number;
    return 0;
}

static int refuse_hole(struct scan *scan)
{
    return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
                     "%s/journal.%04u is missing: the journal holds what data.mdb does not have yet",
                     scan->options->directory, scan->segment_count + 1);
}

/* Files have numbers without a gap: behind one that is missing there must not be others. */
static int check_last(struct scan *scan, unsigned missing)
{
    DIR *directory = scan->options->segments_expected ? opendir(scan->options->directory) : NULL;
    unsigned number, highest = 0;
    char end;
    if (!directory)
        return 0; /* the database has everything */
    /* The directory is this thread's alone. */
    /* cppcheck-suppress readdirCalled */
    for (const struct dirent *entry; (entry = readdir(directory));) {
        if (sscanf(entry->d_name, "journal.%4u%c", &number, &end) == 1 && number > highest)
            highest = number;
    }
    closedir(directory);
    return highest > missing ? refuse_hole(scan) : 0;
}

static int read_segments(struct scan *scan)
{
    char path[4200];
    for (unsigned number = 1; number <= JOURNAL_SEGMENTS_MAX; number++) {
        snprintf(path, sizeof path, JOURNAL_NAME_FORMAT, scan->options->directory, number);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            return check_last(scan, number);
        if (fd < 0)
            return cannot_read(scan, path);
        int r = keep_file(scan, number, fd);
        if (r == 0)
            r = read_segment(scan, number, path, fd);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- Following the chain ---- */

/* By batch and part; of several the one of the latest term first: after a failed write the place was used again. */
static int by_order(const void *left, const void *right)
{
    const struct frame_header *a = &((const struct found *)left)->header, *b = &((const struct found *)right)->header;
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence ? -1 : 1;
    if (a->part != b->part)
        return a->part < b->part ? -1 : 1;
    return (a->term < b->term) - (a->term > b->term);
}

/* The frame that follows, from `*at` on. */
static const struct found *next_frame(const struct scan *scan, size_t *at, uint64_t sequence, uint32_t part,
                                      uint32_t chain)
{
    for (; *at < scan->count; (*at)++) {
        const struct frame_header *header = &scan->frames[*at].header;
        if (header->sequence > sequence || (header->sequence == sequence && header->part > part))
            return NULL;
        if (header->sequence == sequence && header->part == part && header->chain == chain)
            return &scan->frames[(*at)++];
    }
    return NULL;
}

/* A part of a file that begins here: the frames that follow mostly stand behind it. */
static int read_part(struct scan *scan, unsigned segment, uint64_t from)
{
    const uint64_t left = scan->segment_bytes - from, size = left < READ_BYTES ? left : READ_BYTES;
    buffer_reset(&scan->bytes);
    scan->segment = 0;
    char *bytes = buffer_reserve(&scan->bytes, size);
    if (!bytes)
        return error_plain(scan->error, -REEVE_ERROR_NO_MEMORY);
    if (read_all(scan->files[segment], bytes, size, from) != 0)
        return error_set(scan->error, REEVE_ERROR_STORE_ACCESS, NULL, "cannot read the journal again: %s",
                         strerror(errno));
    scan->bytes.size = size;
    scan->segment = segment;
    scan->offset = from;
    return 0;
}

static int append_payload(struct scan *scan, const struct found *frame, struct buffer *payload)
{
    const uint64_t from = frame->offset + sizeof frame->header, end = from + frame->header.size;
    const bool is_there = frame->segment == scan->segment && from >= scan->offset &&
                          end <= scan->offset + scan->bytes.size;
    const int r = is_there ? 0 : read_part(scan, frame->segment, from);
    if (r < 0)
        return r;
    const char *bytes = scan->bytes.data + (from - scan->offset);
    if (frame_checksum(&frame->header, bytes) != frame->header.checksum)
        return error_set(scan->error, REEVE_ERROR_STORE_DAMAGED, NULL, "the journal changed while it was read");
    buffer_append(payload, bytes, frame->header.size);
    return payload->failed ? error_plain(scan->error, -REEVE_ERROR_NO_MEMORY) : 0;
}

static void note_place(struct scan *scan, struct journal_end *end, const struct found *frame)
{
    end->segment = frame->segment;
    end->offset = frame->offset + journal_blocks(sizeof frame->header + frame->header.size);
    scan->segments[frame->segment].last_sequence = frame->header.sequence;
}

/* One batch, frame by frame; 1 where it is not there as a whole. */
static int follow_batch(struct scan *scan, size_t *at, struct journal_end *end, struct buffer *payload)
{
    struct journal_position position = {end->position.sequence + 1, end->position.chain};
    const struct found *frame;
    const size_t first = *at;
    uint32_t part = 0;
    do {
        frame = next_frame(scan, at, position.sequence, part++, position.chain);
        if (!frame)
            return 1;
        position.chain = frame->header.checksum;
    } while (!(frame->header.flags & FRAME_LAST));
    buffer_reset(payload);
    const struct found *before = NULL;
    part = 0;
    for (size_t i = first; before != frame;) {
        before = next_frame(scan, &i, position.sequence, part++,
                            before ? before->header.checksum : end->position.chain);
        const int r = append_payload(scan, before, payload);
        if (r < 0)
            return r;
        note_place(scan, end, before);
    }
    end->position = position;
    return 0;
}

static int follow(struct scan *scan, journal_visit visit, void *arg, struct journal_end *end)
{
    struct buffer payload = {0};
    size_t at = 0;
    int r;
    while ((r = follow_batch(scan, &at, end, &payload)) == 0) {
        r = visit(arg, &end->position, payload.data, payload.size);
        if (r < 0) {
            error_set(scan->error, (enum reeve_error_code) - r, NULL, "batch %llu of the journal cannot be read: %s",
                      (unsigned long long)end->position.sequence, reeve_error_text(r));
            break;
        }
    }
    buffer_deinit(&payload);
    return r < 0 ? r : 0;
}

static int refuse_missing(struct scan *scan, const struct journal_end *end)
{
    return error_set(
        scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
        "%s/journal.%04u is missing: what was acknowledged behind batch %llu may be in it; put it back, or "
        "go on from a snapshot that `reeve check` finds whole",
        scan->options->directory, scan->segment_count + 1, (unsigned long long)end->position.sequence);
}

static int refuse_gap(struct scan *scan, const struct journal_end *end)
{
    return error_set(
        scan->error, REEVE_ERROR_STORE_DAMAGED, NULL,
        "the journal is damaged: batches %llu to %llu were acknowledged and cannot be read in %s/journal.*; "
        "the files are as they were",
        (unsigned long long)end->position.sequence + 1, (unsigned long long)scan->newest_durable,
        scan->options->directory);
}

int journal_scan(const struct journal_options *options, journal_visit visit, void *arg, struct journal_end *ret_end,
                 struct reeve_error *ret_error)
{
    struct scan scan = {.options = options, .error = ret_error};
    memcpy(&scan.store, &options->store_id, sizeof scan.store);
    struct journal_end end = {.position = options->after};
    int r = read_segments(&scan);
    if (r == 0 && scan.count)
        qsort(scan.frames, scan.count, sizeof *scan.frames, by_order);
    if (r == 0)
        r = follow(&scan, visit, arg, &end);
    if (r == 0 && scan.segment_count < files_expected(&scan))
        r = refuse_missing(&scan, &end);
    if (r == 0 && scan.newest_durable > end.position.sequence)
        r = refuse_gap(&scan, &end);
    free(scan.frames);
    buffer_deinit(&scan.bytes);
    for (unsigned number = 1; number <= scan.segment_count; number++)
        close(scan.files[number]);
    free(scan.files);
    if (r < 0) {
        free(scan.segments);
        return r;
    }
    end.term = scan.term;
    end.segments = scan.segments;
    end.segment_count = scan.segment_count;
    end.segment_bytes = scan.segment_bytes;
    end.marked = scan.marked;
    *ret_end = end;
    return 0;
}
