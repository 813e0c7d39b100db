#include "bench/lib/pace.h"
#include "floor.h"

/* Of a run without the engine beside it; measured once. */
#define RECORD_BYTES 230
#define EVENT_BYTES 80
#define BATCH_BYTES_PER_INPUT 360

/* Durable transitions that go together, and the reads before them, each of which the scenario counts as well. */
static const struct unit {
    unsigned transitions, reads;
} units[] = {
    [LIFECYCLES] = {TRANSITIONS, 0}, [START_STOP] = {2, 0}, [CREATES] = {2, 0},   [UPDATES] = {1, 0},
    [READ_MIX] = {2, READS},         [BACKUPS] = {4, 0},    [OPEN_LOOP] = {2, 0},
};

void floor_begin(struct floor_batches *batches, const struct run_options *options)
{
    const struct run_result *model = options->model;
    *batches = (struct floor_batches){.inputs_per_batch = options->outstanding,
                                      .record_bytes = RECORD_BYTES,
                                      .event_bytes = EVENT_BYTES,
                                      .bytes_per_input = BATCH_BYTES_PER_INPUT};
    if (model && model->batches && model->batch_inputs) {
        batches->inputs_per_batch = (double)model->batch_inputs / (double)model->batches;
        batches->bytes_per_input = (double)model->bytes / (double)model->batch_inputs;
    }
    if (model && model->record_bytes && model->event_bytes) {
        batches->record_bytes = model->record_bytes;
        batches->event_bytes = model->event_bytes;
    }
    batches->started_ns = bench_now_ns();
    batches->warm_until_ns = batches->started_ns + (uint64_t)(options->warm_seconds * 1e9);
    batches->until_ns = batches->warm_until_ns + (uint64_t)(options->seconds * 1e9);
}

static bool goes_on(struct floor_batches *batches, struct run_result *result)
{
    const uint64_t now_ns = bench_now_ns();
    if (now_ns >= batches->until_ns)
        return false;
    if (!batches->measuring && now_ns >= batches->warm_until_ns) {
        *result = (struct run_result){0};
        bench_usage(0, false, result);
        batches->measuring = true;
        batches->started_ns = now_ns;
    }
    return true;
}

static unsigned count_batch(struct run_result *result, unsigned inputs)
{
    result->batches++;
    result->batch_inputs += inputs;
    return inputs;
}

unsigned floor_next(struct floor_batches *batches, struct run_result *result)
{
    if (!goes_on(batches, result))
        return 0;
    batches->owed += batches->inputs_per_batch;
    const unsigned inputs = batches->owed < 1 ? 1 : (unsigned)batches->owed;
    batches->owed -= inputs;
    return count_batch(result, inputs);
}

unsigned floor_reads(struct floor_batches *batches, const struct run_options *options, unsigned inputs)
{
    const struct unit *unit = &units[options->work];
    batches->reads_owed += inputs * unit->reads;
    const unsigned reads = batches->reads_owed / unit->transitions;
    batches->reads_owed %= unit->transitions;
    return reads;
}

void floor_end(struct floor_batches *batches, const struct run_options *options, struct run_result *result)
{
    const struct unit *unit = &units[options->work];
    result->seconds = (double)(bench_now_ns() - batches->started_ns) / 1e9;
    bench_usage(0, true, result);
    result->commands = result->batch_inputs;
    result->count = result->batch_inputs / unit->transitions * (unit->reads + 1);
    result->rate = options->rate;
    result->record_bytes = batches->record_bytes;
    result->event_bytes = batches->event_bytes;
    result->file_bytes = bench_blocks(options->directory);
}

int floor_run_paced(struct floor_batches *batches, const struct run_options *options, struct run_result *result,
                    floor_batch batch, void *arg)
{
    struct pace pace;
    unsigned second = 0;
    int r = pace_open(&pace, options->rate);
    if (r < 0)
        return r;
    while (r == 0) {
        if (second == 0)
            pace_wait(&pace);
        if (!goes_on(batches, result))
            break;
        const double due_ns = pace.next_ns;
        const unsigned first = pace_take(&pace, FLOOR_DUE_MAX);
        count_batch(result, second + first);
        r = batch(arg, second, first);
        const double done_ns = (double)bench_now_ns();
        for (unsigned i = 0; i < first; i++)
            histogram_add(&result->latency, (uint64_t)(done_ns - due_ns - i * pace.period_ns));
        second = first;
    }
    pace_close(&pace);
    return r;
}
