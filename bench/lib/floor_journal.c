/* The floor of everything durable: one frame per batch, with the bytes that the engine's store took, appended to a file
 * that was written once before, one flush each. It holds nothing else, checks nothing and cannot be read back. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/floor.h"

#define FILE_BYTES (UINT64_C(256) << 20)
#define ALIGNMENT 4096
#define FRAME_MAX (UINT64_C(64) << 20)

struct journal {
    int fd;
    uint8_t *frame;
    uint64_t position;
    bool syncs; /* pwrite and fdatasync instead of O_DIRECT and O_DSYNC */
    struct floor_batches batches;
    struct run_result *result;
};

/* Written once: a flush then has no blocks to allocate and no size to change. */
static int fill(const char *path, void *bytes)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -1 : 0;
    for (uint64_t i = 0; r == 0 && i < FILE_BYTES; i += FRAME_MAX)
        r = pwrite(fd, bytes, FRAME_MAX, (off_t)i) == (ssize_t)FRAME_MAX ? 0 : -1;
    if (r == 0)
        r = fsync(fd);
    if (fd >= 0)
        close(fd);
    return r;
}

static int open_journal(struct journal *journal, const char *directory)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/journal", directory);
    journal->frame = aligned_alloc(ALIGNMENT, FRAME_MAX);
    if (!journal->frame)
        return bench_complain("journal", "out of memory");
    memset(journal->frame, 'j', FRAME_MAX);
    if (!bench_is_filled(directory) &&
        (bench_make_fresh(directory) < 0 || fill(path, journal->frame) < 0 || bench_mark_filled(directory) < 0))
        return bench_complain(path, strerror(errno));
    journal->fd = open(path, O_WRONLY | O_CLOEXEC | (journal->syncs ? 0 : O_DIRECT | O_DSYNC));
    return journal->fd < 0 ? bench_complain(path, strerror(errno)) : 0;
}

/* The frame is put together from records and events, as whoever writes one has to. */
static int append(struct journal *journal, unsigned inputs, size_t size)
{
    static const uint8_t record[4096], event[4096];
    const struct floor_batches *batches = &journal->batches;
    const size_t one = batches->record_bytes + batches->event_bytes;
    for (size_t at = 0, i = 0; i < inputs && at + one <= size; i++, at += one) {
        memcpy(journal->frame + at, record, batches->record_bytes);
        memcpy(journal->frame + at + batches->record_bytes, event, batches->event_bytes);
    }
    if (!journal->syncs)
        size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (journal->position + size > FILE_BYTES)
        journal->position = 0;
    if (pwrite(journal->fd, journal->frame, size, (off_t)journal->position) != (ssize_t)size)
        return bench_complain("journal", strerror(errno));
    journal->position += size;
    return journal->syncs && fdatasync(journal->fd) < 0 ? bench_complain("journal", strerror(errno)) : 0;
}

static int append_batch(struct journal *journal, unsigned inputs)
{
    const double bytes = inputs * journal->batches.bytes_per_input;
    const size_t size = bytes < FRAME_MAX ? (size_t)bytes : FRAME_MAX;
    journal->result->bytes += size;
    return append(journal, inputs, size);
}

static int append_due(void *arg, unsigned second, unsigned first)
{
    return append_batch(arg, second + first);
}

static int append_all(struct journal *journal)
{
    int r = 0;
    for (unsigned inputs; r == 0 && (inputs = floor_next(&journal->batches, journal->result)) > 0;) {
        const uint64_t sent_ns = bench_now_ns();
        r = append_batch(journal, inputs);
        histogram_add(&journal->result->latency, bench_now_ns() - sent_ns);
    }
    return r;
}

static int run(const struct run_options *options, struct run_result *ret_result, bool syncs)
{
    struct journal journal = {.fd = -1, .syncs = syncs, .result = ret_result};
    *ret_result = (struct run_result){0};
    int r = open_journal(&journal, options->directory);
    floor_begin(&journal.batches, options);
    if (r == 0 && options->work == OPEN_LOOP)
        r = floor_run_paced(&journal.batches, options, ret_result, append_due, &journal);
    else if (r == 0)
        r = append_all(&journal);
    floor_end(&journal.batches, options, ret_result);
    if (journal.fd >= 0)
        close(journal.fd);
    free(journal.frame);
    return r;
}

int run_floor_journal(const struct run_options *options, struct run_result *ret_result)
{
    return run(options, ret_result, false);
}

int run_floor_journal_sync(const struct run_options *options, struct run_result *ret_result)
{
    return run(options, ret_result, true);
}

/* The flush alone, of one block. */
int run_floor_fdatasync(const struct run_options *options, struct run_result *ret_result)
{
    const struct run_options one = {.directory = options->directory,
                                    .outstanding = 1,
                                    .warm_seconds = options->warm_seconds,
                                    .seconds = options->seconds};
    struct journal journal = {.fd = -1, .syncs = true};
    *ret_result = (struct run_result){0};
    int r = open_journal(&journal, options->directory);
    floor_begin(&journal.batches, &one);
    while (r == 0 && floor_next(&journal.batches, ret_result) > 0) {
        const uint64_t sent_ns = bench_now_ns();
        r = append(&journal, 0, ALIGNMENT);
        histogram_add(&ret_result->latency, bench_now_ns() - sent_ns);
    }
    floor_end(&journal.batches, &one, ret_result);
    ret_result->count = ret_result->commands;
    if (journal.fd >= 0)
        close(journal.fd);
    free(journal.frame);
    return r;
}
