/* The journal's files: what is written is read, what was torn is dropped, what is damaged is told and left alone. */
#undef _FORTIFY_SOURCE /* open() is ours */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "journal_format.h"
#include "tests/lib/directory.h"

#define SEGMENT_BYTES (UINT64_C(128) << 10)
#define BATCHES_MAX 2048
#define BLOCK JOURNAL_BLOCK
#define SECTOR 512

struct world {
    char directory[DIRECTORY_PATH_MAX];
    struct journal *journal;
    struct journal_options options;
    struct journal_position appended, durable;
    size_t sizes[BATCHES_MAX];
    uint64_t read; /* newest batch that was read when it was opened */

    pthread_mutex_t lock; /* the thread that flushes waits while it is held */
    atomic_uint settled;
};

/* A file system that cannot write past the page cache. */
static bool is_buffered;

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (is_buffered && flags & O_DIRECT) {
        errno = EINVAL;
        return -1;
    }
    return openat(AT_FDCWD, path, flags, mode);
}

/* A write that stops before it is made, until it is let go. */
static atomic_bool is_held;
static sem_t is_writing, may_write;

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    if (atomic_exchange(&is_held, false)) {
        sem_post(&is_writing);
        sem_wait(&may_write);
    }
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

static void on_settled(void *arg)
{
    struct world *w = arg;
    atomic_fetch_add(&w->settled, 1);
    pthread_mutex_lock(&w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void open_world(struct world *w, const char *parent, bool buffered)
{
    is_buffered = buffered;
    *w = (struct world){.options = {.segment_bytes = SEGMENT_BYTES, .max_bytes = 8 * SEGMENT_BYTES}};
    directory_make(parent, w->directory);
    memset(&w->options.store_id, 0x5a, sizeof w->options.store_id);
    w->options.directory = w->directory;
    w->options.on_settled = on_settled;
    w->options.arg = w;
    pthread_mutex_init(&w->lock, NULL);
}

static int setup_in_memory(void **state)
{
    static struct world world;
    open_world(&world, "/dev/shm", true);
    *state = &world;
    return 0;
}

static int setup_on_disk(void **state)
{
    static struct world world;
    open_world(&world, "/tmp", false);
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    journal_close(w->journal);
    pthread_mutex_destroy(&w->lock);
    directory_remove(w->directory);
    return 0;
}

/* ---- Batches ---- */

static void fill(char *bytes, uint64_t sequence, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(sequence * 131 + size + i * 7 + (i >> 8));
}

static int visit(void *arg, const struct journal_position *position, const void *payload, size_t size)
{
    struct world *w = arg;
    assert_int_equal(position->sequence, w->read + 1);
    assert_int_equal(size, w->sizes[position->sequence]);
    char *expected = malloc(size + 1);
    assert_non_null(expected);
    fill(expected, position->sequence, size);
    assert_memory_equal(payload, expected, size);
    free(expected);
    w->read = position->sequence;
    w->appended = w->durable = *position;
    return 0;
}

static int try_open(struct world *w, struct reeve_error *error)
{
    assert_null(w->journal);
    w->read = w->options.after.sequence;
    w->appended = w->durable = w->options.after;
    return journal_open(&w->options, visit, w, &w->journal, error);
}

static void open_journal(struct world *w)
{
    struct reeve_error error;
    const int r = try_open(w, &error);
    if (r < 0)
        fprintf(stderr, "%s\n", error.message);
    assert_int_equal(r, 0);
}

static void close_journal(struct world *w)
{
    journal_close(w->journal);
    w->journal = NULL;
}

/* As after a crash; what is there up to `sequence` is read. */
static void reopen(struct world *w, uint64_t sequence)
{
    close_journal(w);
    open_journal(w);
    assert_int_equal(w->read, sequence);
}

static int try_append(struct world *w, size_t size, bool wait)
{
    char *bytes = malloc(size + 1);
    assert_non_null(bytes);
    fill(bytes, w->appended.sequence + 1, size);
    const int r = journal_append(w->journal, bytes, size, wait, &w->appended);
    free(bytes);
    if (r == 0)
        w->sizes[w->appended.sequence] = size;
    return r;
}

static void append(struct world *w, size_t size)
{
    assert_int_equal(try_append(w, size, true), 0);
    journal_wait(w->journal);
    assert_int_equal(journal_durable(w->journal, &w->durable), 0);
    assert_int_equal(w->durable.sequence, w->appended.sequence);
}

static struct rlimit limit_files(uint64_t bytes)
{
    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return before;
}

/* Several in one write: the thread is kept where it tells of the one before. */
static void append_together(struct world *w, const size_t *sizes, size_t count, uint64_t file_bytes_max)
{
    struct rlimit unlimited = {0};
    pthread_mutex_lock(&w->lock);
    const unsigned before = atomic_load(&w->settled);
    assert_int_equal(try_append(w, 100, false), 0);
    while (atomic_load(&w->settled) == before)
        sched_yield();
    for (size_t i = 0; i < count; i++)
        assert_int_equal(try_append(w, sizes[i], false), 0);
    if (file_bytes_max)
        unlimited = limit_files(file_bytes_max);
    pthread_mutex_unlock(&w->lock);
    journal_wait(w->journal);
    if (file_bytes_max)
        setrlimit(RLIMIT_FSIZE, &unlimited);
}

static struct journal_stats stats(struct world *w)
{
    struct journal_stats ret;
    journal_get_stats(w->journal, &ret);
    return ret;
}

static bool has_room(struct world *w)
{
    const struct journal_stats now = stats(w);
    return now.held_bytes < now.max_bytes;
}

/* ---- Files ---- */

static void path_of(const struct world *w, unsigned number, char ret_path[128])
{
    snprintf(ret_path, 128, JOURNAL_NAME_FORMAT, w->directory, number);
}

static void patch(const struct world *w, unsigned number, uint64_t offset, const void *bytes, size_t size)
{
    char path[128];
    path_of(w, number, path);
    const int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void look(const struct world *w, unsigned number, uint64_t offset, void *bytes, size_t size)
{
    char path[128];
    path_of(w, number, path);
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void refused(struct world *w, int code, const char *text)
{
    static char before[SEGMENT_BYTES], after[SEGMENT_BYTES];
    struct reeve_error error = {0};
    look(w, 1, 0, before, sizeof before);
    assert_int_equal(try_open(w, &error), code);
    if (!strstr(error.message, text))
        fprintf(stderr, "%s\n", error.message);
    assert_non_null(strstr(error.message, text));
    look(w, 1, 0, after, sizeof after);
    assert_memory_equal(before, after, sizeof before);
}

/* ---- When all is well ---- */

static void test_what_is_appended_is_read(void **state)
{
    struct world *w = *state;
    open_journal(w);
    for (size_t i = 0; i < 60; i++) {
        append(w, 1 + i * 977 % 9000);
        if (i % 7 == 0)
            reopen(w, i + 1);
    }
    reopen(w, 60);
    w->options.read_only = true;
    reopen(w, 60);
    w->options.read_only = false;
    reopen(w, 60);
    assert_true(!is_buffered || !stats(w).direct);
}

static void test_released_segments_are_used_again(void **state)
{
    struct world *w = *state;
    open_journal(w);
    for (size_t i = 0; i < 1000; i++) {
        append(w, 1 + i * 977 % 9000);
        if (i % 50 == 49) {
            w->options.after = w->durable; /* the database has it */
            journal_release(w->journal, w->durable.sequence);
        }
        if (i % 111 == 0) {
            /* Frames of another round stand behind the newest one. */
            reopen(w, w->appended.sequence);
        }
        assert_true(has_room(w));
    }
    assert_true(stats(w).segments <= 7);
    assert_true(stats(w).held_bytes < stats(w).max_bytes);
}

static void test_it_is_full_until_something_is_released(void **state)
{
    struct world *w = *state;
    open_journal(w);
    while (has_room(w))
        append(w, 9000);
    assert_true(stats(w).held_bytes >= 8 * SEGMENT_BYTES);
    assert_int_equal(stats(w).segments, 9);
    journal_release(w->journal, w->durable.sequence);
    assert_true(has_room(w));
    assert_true(stats(w).held_bytes <= SEGMENT_BYTES);
}

static void test_one_file_never_is_too_much(void **state)
{
    struct world *w = *state;
    w->options.max_bytes = 1;
    open_journal(w);
    for (int i = 0; i < 100; i++) {
        append(w, 9000);
        journal_release(w->journal, w->durable.sequence);
        assert_true(has_room(w));
    }
}

static void test_batches_may_be_larger_than_a_segment(void **state)
{
    struct world *w = *state;
    const size_t sizes[] = {300 << 10, 10, 3 << 20, SEGMENT_BYTES - BLOCK - 64, SEGMENT_BYTES - BLOCK, 5, 1 << 20};
    open_journal(w);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        append(w, sizes[i]);
        reopen(w, i + 1);
    }
}

struct preparing {
    struct world *world;
    atomic_bool stop;
};

static void *prepare(void *arg)
{
    struct preparing *preparing = arg;
    while (!atomic_load(&preparing->stop))
        journal_prepare(preparing->world->journal);
    return NULL;
}

static void test_files_are_made_while_batches_are_appended(void **state)
{
    struct world *w = *state;
    struct preparing preparing = {.world = w};
    struct journal_position durable;
    pthread_t thread;
    uint64_t seen = 0;
    w->options.threaded = true;
    w->options.max_bytes = 1 << 30;
    open_journal(w);
    assert_int_equal(pthread_create(&thread, NULL, prepare, &preparing), 0);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(try_append(w, i % 4 == 3 ? 300000 : 3000, false), 0);
        assert_int_equal(journal_durable(w->journal, &durable), 0);
        assert_true(durable.sequence >= seen);
        seen = durable.sequence;
    }
    journal_wait(w->journal);
    atomic_store(&preparing.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(journal_durable(w->journal, &durable), 0);
    assert_int_equal(durable.sequence, 300);
    reopen(w, 300);
}

static void *append_much(void *arg)
{
    assert_int_equal(try_append(arg, 300000, false), 0);
    return NULL;
}

/* Who appends may have to wait for a file, others do not wait for him. */
static void test_while_a_file_is_made_nobody_else_waits(void **state)
{
    struct world *w = *state;
    struct journal_position durable;
    pthread_t thread;
    open_journal(w);
    append(w, 1000);
    sem_init(&is_writing, 0, 0);
    sem_init(&may_write, 0, 0);
    atomic_store(&is_held, true);
    assert_int_equal(pthread_create(&thread, NULL, append_much, w), 0);
    sem_wait(&is_writing);
    assert_int_equal(journal_durable(w->journal, &durable), 0);
    assert_int_equal(durable.sequence, 1);
    assert_true(has_room(w));
    journal_release(w->journal, 1);
    journal_prepare(w->journal);
    assert_int_equal(stats(w).segments, 1);
    sem_post(&may_write);
    pthread_join(thread, NULL);
    journal_wait(w->journal);
    reopen(w, 2);
}

/* ---- What a power failure leaves ---- */

/* The last frame is there up to some byte, with what was in its place before behind it. */
static void try_torn(struct world *w, const char *before)
{
    char after[2 * BLOCK], torn[2 * BLOCK];
    const size_t size = 4500, whole = sizeof(struct frame_header) + size;
    const uint64_t offset = BLOCK + 2 * BLOCK;
    append(w, size);
    const uint64_t last = w->durable.sequence;
    look(w, 1, offset, after, sizeof after);
    for (size_t cut = 0; cut <= whole; cut++) {
        close_journal(w);
        memcpy(torn, before, sizeof torn);
        memcpy(torn, after, cut);
        const bool is_whole = memcmp(torn, after, whole) == 0;
        patch(w, 1, offset, torn, sizeof torn);
        w->sizes[last] = size;
        open_journal(w);
        assert_int_equal(w->read, is_whole ? last : last - 1);
        if (is_whole || cut % 16 > 0)
            continue;
        append(w, 2000);
        append(w, 10);
        reopen(w, last + 1);
    }
}

static void test_a_torn_frame_is_dropped(void **state)
{
    struct world *w = *state;
    char before[2 * BLOCK];
    open_journal(w);
    append(w, 1000);
    append(w, 500);
    look(w, 1, BLOCK + 2 * BLOCK, before, sizeof before);
    try_torn(w, before);
}

static void test_a_torn_frame_over_older_ones_is_dropped(void **state)
{
    struct world *w = *state;
    char before[2 * BLOCK];
    open_journal(w);
    while (stats(w).segments < 2)
        append(w, 4000);
    while (w->appended.sequence < 32)
        append(w, 4000);
    w->options.after = w->durable;
    reopen(w, 32); /* the first segment is used again */
    append(w, 1000);
    append(w, 500);
    look(w, 1, BLOCK + 2 * BLOCK, before, sizeof before);
    assert_memory_equal(before, &(uint32_t){FRAME_MAGIC}, 4);
    try_torn(w, before);
}

/* All subsets of the sectors of a write of three frames. */
static void test_sectors_of_the_last_write_come_in_any_order(void **state)
{
    struct world *w = *state;
    const size_t sizes[] = {900, 400, 1400}; /* in 2, 1 and 3 sectors */
    const unsigned sectors[] = {0, 1, 8, 16, 17, 18};
    const unsigned needs[] = {3, 7, 63};
    char before[3 * BLOCK], after[3 * BLOCK], bytes[3 * BLOCK];
    w->options.threaded = true;
    open_journal(w);
    append(w, 700);
    look(w, 1, 3 * BLOCK, before, sizeof before);
    append_together(w, sizes, 3, 0);
    assert_int_equal(stats(w).flushes, 3);
    assert_true(stats(w).flush_ns > 0);
    look(w, 1, 3 * BLOCK, after, sizeof after);
    for (unsigned subset = 0; subset < 64; subset++) {
        close_journal(w);
        memcpy(bytes, before, sizeof bytes);
        for (unsigned i = 0; i < 6; i++) {
            if (subset & 1U << i)
                memcpy(bytes + sectors[i] * SECTOR, after + sectors[i] * SECTOR, SECTOR);
        }
        uint64_t expected = 2;
        for (unsigned i = 0; i < 3 && (subset & needs[i]) == needs[i]; i++)
            expected++;
        patch(w, 1, 3 * BLOCK, bytes, sizeof bytes);
        for (unsigned i = 0; i < 3; i++)
            w->sizes[3 + i] = sizes[i];
        open_journal(w);
        assert_int_equal(w->read, expected);
        /* As large as what was there: what was behind it stands right behind it, and does not follow. */
        append(w, expected < 5 ? sizes[expected - 2] : 10);
        reopen(w, expected + 1);
        close_journal(w);
        const char zeros[BLOCK] = {0};
        patch(w, 1, 6 * BLOCK, zeros, sizeof zeros);
        open_journal(w);
    }
}

/* ---- Damage ---- */

static void flip(const struct world *w, uint64_t offset, unsigned bit)
{
    uint8_t byte;
    look(w, 1, offset, &byte, 1);
    byte = (uint8_t)(byte ^ 1U << bit);
    patch(w, 1, offset, &byte, 1);
}

static void test_a_flipped_bit_of_the_last_frame_drops_it(void **state)
{
    struct world *w = *state;
    const size_t size = 700;
    open_journal(w);
    append(w, 1000);
    append(w, size);
    w->options.read_only = true;
    for (uint64_t byte = 0; byte < sizeof(struct frame_header) + size; byte++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            flip(w, 2 * BLOCK + byte, bit);
            reopen(w, 1);
            flip(w, 2 * BLOCK + byte, bit);
        }
    }
    reopen(w, 2);
}

static void test_a_flipped_bit_of_an_earlier_frame_is_damage(void **state)
{
    struct world *w = *state;
    const size_t size = 700;
    open_journal(w);
    append(w, 1000);
    append(w, size);
    append(w, 10);
    close_journal(w);
    for (uint64_t byte = 0; byte < sizeof(struct frame_header) + size; byte++) {
        flip(w, 2 * BLOCK + byte, byte % 8);
        refused(w, -REEVE_ERROR_STORE_DAMAGED, "batches 2 to 2 were acknowledged");
        flip(w, 2 * BLOCK + byte, byte % 8);
    }
    open_journal(w);
    assert_int_equal(w->read, 3);
}

/* Also where it was put together while the one before was still on its way. */
static void test_a_later_write_proves_the_ones_before(void **state)
{
    struct world *w = *state;
    w->options.threaded = true;
    open_journal(w);
    sem_init(&is_writing, 0, 0);
    sem_init(&may_write, 0, 0);
    append(w, 10);
    w->options.after = w->durable;
    reopen(w, w->durable.sequence); /* at the beginning of the first file */
    const uint64_t before = w->durable.sequence;
    atomic_store(&is_held, true);
    assert_int_equal(try_append(w, 10, false), 0);
    sem_wait(&is_writing);
    assert_int_equal(try_append(w, 10, false), 0); /* put together while the one before is not on disk */
    sem_post(&may_write);
    journal_wait(w->journal);
    assert_int_equal(stats(w).flushes, 2);
    close_journal(w);
    flip(w, BLOCK + 70, 0);
    char text[64];
    snprintf(text, sizeof text, "batches %d to %d were acknowledged", (int)before + 1, (int)before + 1);
    refused(w, -REEVE_ERROR_STORE_DAMAGED, text);
}

static void test_a_damaged_head_of_a_file_is_told(void **state)
{
    struct world *w = *state;
    open_journal(w);
    append(w, 1000);
    close_journal(w);
    for (uint64_t byte = 0; byte < sizeof(struct segment_header); byte++) {
        flip(w, byte, byte % 8);
        refused(w, -REEVE_ERROR_STORE_DAMAGED, "does not begin as a journal does");
        flip(w, byte, byte % 8);
    }
    const char zeros[BLOCK] = {0};
    patch(w, 1, 0, zeros, sizeof zeros);
    refused(w, -REEVE_ERROR_STORE_DAMAGED, "does not begin as a journal does");
}

static void change_head(const struct world *w, uint32_t version, uint64_t bytes)
{
    struct segment_header header;
    look(w, 1, 0, &header, sizeof header);
    header.version = version;
    header.bytes = bytes;
    header.checksum = segment_checksum(&header);
    patch(w, 1, 0, &header, sizeof header);
}

static void test_what_is_not_for_us_is_refused(void **state)
{
    struct world *w = *state;
    open_journal(w);
    append(w, 1000);
    close_journal(w);
    change_head(w, JOURNAL_VERSION + 1, SEGMENT_BYTES);
    refused(w, -REEVE_ERROR_STORE_VERSION, "use a newer reeve");
    change_head(w, JOURNAL_VERSION, SEGMENT_BYTES + BLOCK);
    refused(w, -REEVE_ERROR_STORE_DAMAGED, "bytes instead of");
    change_head(w, JOURNAL_VERSION, SEGMENT_BYTES);
    w->options.store_id.bytes[15] ^= 1;
    refused(w, -REEVE_ERROR_STORE_DAMAGED, "the journal of another store");
    w->options.store_id.bytes[15] ^= 1;
    open_journal(w);
    assert_int_equal(w->read, 1);
}

static void cut(const struct world *w, unsigned number, off_t size)
{
    char path[128];
    path_of(w, number, path);
    assert_int_equal(truncate(path, size), 0);
}

static void test_files_that_are_missing_or_short_are_told(void **state)
{
    struct world *w = *state;
    char path[128], kept[128];
    open_journal(w);
    while (stats(w).segments < 4)
        append(w, 9000);
    const uint64_t last = w->appended.sequence;
    close_journal(w);
    for (unsigned number = 2; number <= 4; number++) {
        path_of(w, number, path);
        snprintf(kept, sizeof kept, "%s/kept", w->directory);
        assert_int_equal(rename(path, kept), 0);
        for (w->options.segments_expected = 1; w->options.segments_expected <= 4; w->options.segments_expected++)
            refused(w, -REEVE_ERROR_STORE_DAMAGED, "is missing");
        assert_int_equal(rename(kept, path), 0);
    }
    w->options.segments_expected = 4;
    open_journal(w);
    assert_int_equal(w->read, last);
    close_journal(w);
    const off_t sizes[] = {SEGMENT_BYTES - BLOCK, SEGMENT_BYTES / 2 + 10, BLOCK, 100, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cut(w, 4, sizes[i]);
        refused(w, -REEVE_ERROR_STORE_DAMAGED, "is damaged");
    }
}

static void lose(const struct world *w, unsigned number)
{
    char path[128];
    path_of(w, number, path);
    assert_int_equal(unlink(path), 0);
}

/* Nobody has counted it: the one before it knows. */
static void test_the_newest_file_is_missed(void **state)
{
    struct world *w = *state;
    char text[128];
    open_journal(w);
    while (stats(w).segments < 4)
        append(w, 9000);
    const uint64_t last = w->appended.sequence;
    w->options.segments_expected = 1;
    reopen(w, last);
    close_journal(w);
    lose(w, 4);
    snprintf(text, sizeof text, "journal.0004 is missing: what was acknowledged behind batch %d", (int)last - 1);
    refused(w, -REEVE_ERROR_STORE_DAMAGED, text);
    w->options.read_only = true;
    refused(w, -REEVE_ERROR_STORE_DAMAGED, text);
    w->options.read_only = false;
    lose(w, 3);
    refused(w, -REEVE_ERROR_STORE_DAMAGED, "journal.0003 is missing");
    cut(w, 2, 0);
    refused(w, -REEVE_ERROR_STORE_DAMAGED, "journal.0002 is damaged");
}

/* It was closed, and the database has everything: files may be lost, and are not missed later either. */
static void test_what_was_lost_of_a_closed_journal_is_forgotten(void **state)
{
    struct world *w = *state;
    open_journal(w);
    while (stats(w).segments < 4)
        append(w, 9000);
    close_journal(w);
    lose(w, 4);
    w->options.after = (struct journal_position){.sequence = w->appended.sequence, .chain = 7};
    w->options.segments_expected = 0;
    open_journal(w);
    assert_int_equal(stats(w).segments, 3);
    append(w, 10);
    w->options.segments_expected = 3;
    reopen(w, w->appended.sequence);
}

/* The process ended while a file was made, on a full disk perhaps: the others are enough. */
static void test_an_unfinished_file_is_no_harm(void **state)
{
    struct world *w = *state;
    char path[128];
    open_journal(w);
    append(w, 1000);
    w->options.segments_expected = 1;
    path_of(w, 2, path);
    for (size_t size = 0; size <= SEGMENT_BYTES; size += size < 3 * BLOCK ? 1337 : 12345) {
        close_journal(w);
        close(open(path, O_WRONLY | O_CREAT, 0600));
        cut(w, 2, (off_t)size);
        w->options.read_only = true;
        open_journal(w);
        assert_int_equal(w->read, 1);
        w->options.read_only = false;
        reopen(w, 1);
        assert_int_equal(stats(w).segments, 1);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    /* The very first one. */
    close_journal(w);
    cut(w, 1, BLOCK + 10);
    patch(w, 1, 0, (char[2 * BLOCK]){0}, 2 * BLOCK);
    w->options.segments_expected = 0;
    open_journal(w);
    append(w, 1000);
    reopen(w, 1);
}

/* ---- Writes that fail ---- */

static void test_after_a_failed_write_it_goes_on_behind_what_was_durable(void **state)
{
    struct world *w = *state;
    char text[256];
    open_journal(w);
    append(w, 1000);
    append(w, 1000);
    const struct rlimit before = limit_files(4 * BLOCK);
    assert_int_equal(try_append(w, 2 * BLOCK, true), 0);
    assert_int_equal(journal_durable(w->journal, &w->durable), -REEVE_ERROR_UNAVAILABLE);
    assert_int_equal(w->durable.sequence, 2);
    journal_failure(w->journal, text);
    assert_non_null(strstr(text, "the journal cannot be written"));
    assert_int_equal(try_append(w, 10, true), -REEVE_ERROR_UNAVAILABLE);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(try_append(w, 10, true), -REEVE_ERROR_UNAVAILABLE);
    assert_int_equal(journal_reopen(w->journal), 0);
    w->appended = w->durable;
    append(w, 77);
    append(w, 6000);
    reopen(w, 4);
}

/* The write is cut off behind the first of its batches, which is on disk as a whole: refused it was, and stays. */
static void test_what_failed_does_not_come_back(void **state)
{
    struct world *w = *state;
    w->options.threaded = true;
    for (int i = 0; i < 2; i++) {
        open_journal(w);
        const uint64_t at = w->appended.sequence;
        append(w, 1000);
        append_together(w, (size_t[]){500, 500}, 2, (3 + at + 1) * BLOCK);
        assert_int_equal(journal_durable(w->journal, &w->durable), -REEVE_ERROR_UNAVAILABLE);
        assert_int_equal(w->durable.sequence, at + 2);
        struct frame_header header;
        look(w, 1, (3 + at) * BLOCK, &header, sizeof header);
        assert_int_equal(header.sequence, at + 3);
        assert_int_equal(journal_reopen(w->journal), 0);
        close_journal(w);
        open_journal(w);
        assert_int_equal(w->read, at + 2);
        close_journal(w);
    }
}

/* The same where it is the first of another file, because there was little room left in the one before. */
static void test_what_failed_in_another_file_does_not_come_back(void **state)
{
    struct world *w = *state;
    struct frame_header header;
    w->options.threaded = true;
    open_journal(w);
    append(w, 400000);
    w->options.after = w->durable; /* there are files enough */
    reopen(w, 1);
    append(w, SEGMENT_BYTES - 12 * BLOCK);
    append_together(w, (size_t[]){50000, 100000}, 2, 15 * BLOCK);
    assert_int_equal(journal_durable(w->journal, &w->durable), -REEVE_ERROR_UNAVAILABLE);
    assert_int_equal(w->durable.sequence, 3);
    look(w, 2, BLOCK, &header, sizeof header);
    assert_int_equal(header.sequence, 4);
    assert_int_equal(journal_reopen(w->journal), 0);
    reopen(w, 3);
    append(w, 1000);
    reopen(w, 4);
}

static void test_a_batch_for_which_there_is_no_file_leaves_the_others(void **state)
{
    struct world *w = *state;
    w->options.threaded = true;
    open_journal(w);
    append(w, 1000);
    const struct rlimit before = limit_files(SEGMENT_BYTES / 2);
    pthread_mutex_lock(&w->lock);
    assert_int_equal(try_append(w, 100, false), 0);
    assert_int_equal(try_append(w, 200, false), 0);
    assert_int_equal(try_append(w, 400000, false), -REEVE_ERROR_UNAVAILABLE);
    assert_int_equal(try_append(w, 300, false), 0);
    pthread_mutex_unlock(&w->lock);
    journal_wait(w->journal);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(journal_durable(w->journal, &w->durable), 0);
    assert_int_equal(w->durable.sequence, 4);
    append(w, 400000);
    reopen(w, 5);
}

#define BOTH(name)                                                                                                     \
    cmocka_unit_test_setup_teardown(name, setup_in_memory, teardown),                                                  \
        cmocka_unit_test_setup_teardown(name, setup_on_disk, teardown)
#define IN_MEMORY(name) cmocka_unit_test_setup_teardown(name, setup_in_memory, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_what_is_appended_is_read),
        IN_MEMORY(test_released_segments_are_used_again),
        IN_MEMORY(test_it_is_full_until_something_is_released),
        IN_MEMORY(test_one_file_never_is_too_much),
        BOTH(test_batches_may_be_larger_than_a_segment),
        BOTH(test_files_are_made_while_batches_are_appended),
        IN_MEMORY(test_while_a_file_is_made_nobody_else_waits),
        IN_MEMORY(test_a_torn_frame_is_dropped),
        IN_MEMORY(test_a_torn_frame_over_older_ones_is_dropped),
        IN_MEMORY(test_sectors_of_the_last_write_come_in_any_order),
        IN_MEMORY(test_a_flipped_bit_of_the_last_frame_drops_it),
        IN_MEMORY(test_a_flipped_bit_of_an_earlier_frame_is_damage),
        IN_MEMORY(test_a_later_write_proves_the_ones_before),
        IN_MEMORY(test_a_damaged_head_of_a_file_is_told),
        IN_MEMORY(test_what_is_not_for_us_is_refused),
        IN_MEMORY(test_files_that_are_missing_or_short_are_told),
        BOTH(test_the_newest_file_is_missed),
        BOTH(test_what_was_lost_of_a_closed_journal_is_forgotten),
        IN_MEMORY(test_an_unfinished_file_is_no_harm),
        BOTH(test_after_a_failed_write_it_goes_on_behind_what_was_durable),
        BOTH(test_what_failed_does_not_come_back),
        IN_MEMORY(test_what_failed_in_another_file_does_not_come_back),
        BOTH(test_a_batch_for_which_there_is_no_file_leaves_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
