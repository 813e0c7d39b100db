/* A file of the journal, whatever its bytes are: refused, or read as batches that follow each other, each from frames
 * whose checksums are right; then it can be opened and goes on behind them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "journal_format.h"

struct input {
    const uint8_t *data;
    size_t size;
    uint64_t sequence;
};

/* Is there a frame that ends with this checksum, and is right? */
static int has_frame(const struct input *input, uint32_t checksum)
{
    struct frame_header header;
    for (size_t at = JOURNAL_BLOCK; at + sizeof header <= input->size; at += JOURNAL_BLOCK) {
        memcpy(&header, input->data + at, sizeof header);
        if (header.magic == FRAME_MAGIC && header.checksum == checksum &&
            header.size <= input->size - at - sizeof header &&
            frame_checksum(&header, input->data + at + sizeof header) == checksum)
            return 1;
    }
    return 0;
}

static int visit(void *arg, const struct journal_position *position, const void *payload, size_t size)
{
    struct input *input = arg;
    (void)payload;
    fuzz_require(position->sequence == ++input->sequence, "batches do not follow each other");
    fuzz_require(size <= input->size, "a batch is larger than its file");
    fuzz_require(has_frame(input, position->chain), "a frame was taken whose checksum is wrong");
    return 0;
}

static void open_and_append(struct journal_options *options, struct input *input)
{
    struct journal *journal;
    struct journal_position position;
    struct reeve_error error;
    const uint64_t read = input->sequence;
    input->sequence = 0;
    fuzz_require(journal_open(options, visit, input, &journal, &error) == 0, "what can be read cannot be opened");
    fuzz_require(input->sequence == read, "opened for writing it is another journal");
    fuzz_require(journal_append(journal, "more", 4, true, &position) == 0 && position.sequence == read + 1,
                 "nothing can be appended");
    journal_close(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size, 0};
    struct journal_end end;
    struct reeve_error error;
    struct journal_options options = {.segment_bytes = JOURNAL_SEGMENT_BYTES_MIN,
                                      .max_bytes = 1 << 20,
                                      .read_only = true,
                                      .directory = fuzz_directory()};
    char path[128];
    memset(&options.store_id, 'i', sizeof options.store_id);
    snprintf(path, sizeof path, "%s/journal.0002", fuzz_directory());
    unlink(path);
    fuzz_write("journal.0001", data, size);
    if (journal_scan(&options, visit, &input, &end, &error) < 0)
        return 0;
    free(end.segments);
    options.read_only = false;
    open_and_append(&options, &input);
    return 0;
}
