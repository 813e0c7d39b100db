#include "daemon_stats.h"

static uint64_t counter(const msgpack_object *stats, const char *name)
{
    const msgpack_object *value = ipc_map_get(stats, name);
    return value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value->via.u64 : 0;
}

int bench_daemon_stats(struct ipc_client *client, bool end, struct run_result *result)
{
    struct ipc_message message;
    if (ipc_client_call(client, "stats", NULL, 0, &message) < 0)
        return -1;
    const uint64_t values[] = {counter(&message.body, "batches"),   counter(&message.body, "batchInputs"),
                               counter(&message.body, "storePuts"), counter(&message.body, "storeBytes"),
                               counter(&message.body, "commitNs"),  counter(&message.body, "events"),
                               counter(&message.body, "ipcEvents")};
    uint64_t *sums[] = {&result->batches,   &result->batch_inputs, &result->puts,       &result->bytes,
                        &result->commit_ns, &result->events,       &result->events_told};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        *sums[i] = end ? values[i] - *sums[i] : values[i];
    return 0;
}
