#include "floor.h"

/* Of a run without the engine beside it; measured once. */
#define RECORD_BYTES 230
#define EVENT_BYTES 80
#define BATCH_BYTES_PER_INPUT 360

unsigned floor_transitions(enum work work)
{
    switch (work) {
    case START_STOP:
    case OPEN_LOOP:
    case CREATES:
        return 2;
    case UPDATES:
        return 1;
    case BACKUPS:
        return 4;
    case LIFECYCLES:
    case READ_MIX:
    case LISTS:
    case OPENING:
    case RECOVERY:
        break;
    }
    return TRANSITIONS;
}

void floor_begin(struct floor_batches *batches, const struct run_options *options)
{
    const struct run_result *model = options->model;
    *batches = (struct floor_batches){.inputs_per_batch = options->outstanding,
                                      .record_bytes = RECORD_BYTES,
                                      .event_bytes = EVENT_BYTES,
                                      .batch_bytes = options->outstanding * BATCH_BYTES_PER_INPUT};
    if (model && model->batches) {
        batches->inputs_per_batch = (double)model->batch_inputs / (double)model->batches;
        batches->batch_bytes = model->bytes / model->batches;
    }
    if (model && model->record_bytes && model->event_bytes) {
        batches->record_bytes = model->record_bytes;
        batches->event_bytes = model->event_bytes;
    }
    batches->started_ns = bench_now_ns();
    batches->warm_until_ns = batches->started_ns + (uint64_t)(options->warm_seconds * 1e9);
    batches->until_ns = batches->warm_until_ns + (uint64_t)(options->seconds * 1e9);
}

unsigned floor_next(struct floor_batches *batches, struct run_result *result)
{
    const uint64_t now_ns = bench_now_ns();
    if (now_ns >= batches->until_ns)
        return 0;
    if (!batches->measuring && now_ns >= batches->warm_until_ns) {
        *result = (struct run_result){0};
        bench_usage(0, false, result);
        batches->measuring = true;
        batches->started_ns = now_ns;
    }
    batches->owed += batches->inputs_per_batch;
    const unsigned inputs = batches->owed < 1 ? 1 : (unsigned)batches->owed;
    batches->owed -= inputs;
    result->batches++;
    result->batch_inputs += inputs;
    return inputs;
}

void floor_end(struct floor_batches *batches, const struct run_options *options, struct run_result *result)
{
    result->seconds = (double)(bench_now_ns() - batches->started_ns) / 1e9;
    bench_usage(0, true, result);
    result->commands = result->batch_inputs;
    result->count = result->batch_inputs / floor_transitions(options->work);
    result->record_bytes = batches->record_bytes;
    result->event_bytes = batches->event_bytes;
    result->file_bytes = bench_blocks(options->directory);
}
