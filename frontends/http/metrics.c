/* What is counted, in the text format of Prometheus. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "frontends/http/json.h"
#include "frontends/http/server_private.h"

/* "batchInputs" -> "batch_inputs" */
static void snake(const char *name, char ret_name[64])
{
    size_t used = 0;
    for (; *name && used < 62; name++) {
        if (*name >= 'A' && *name <= 'Z')
            ret_name[used++] = '_';
        ret_name[used++] = *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;
    }
    ret_name[used] = '\0';
}

static void put_counters(struct buffer *out, const struct counter_type *types, size_t count, const void *values)
{
    for (size_t i = 0; i < count; i++) {
        char name[64];
        uint64_t value;
        const char *end = types[i].is_gauge ? "" : "_total";
        snake(types[i].name, name);
        memcpy(&value, (const char *)values + types[i].offset, sizeof value);
        json_put_format(out, "# HELP reeve_%s%s %s\n# TYPE reeve_%s%s %s\nreeve_%s%s %" PRIu64 "\n", name, end,
                        types[i].text, name, end, types[i].is_gauge ? "gauge" : "counter", name, end, value);
    }
}

static void put_routes(struct buffer *out, const struct http_server *server)
{
    json_put_format(out, "# HELP reeve_http_requests_by_route_total requests answered, by route and status\n"
                         "# TYPE reeve_http_requests_by_route_total counter\n");
    for (size_t i = 0; i <= ROUTE_COUNT; i++) {
        for (unsigned status = 100; status < 600; status++) {
            if (server->answers[i][status])
                json_put_format(
                    out, "reeve_http_requests_by_route_total{method=\"%s\",route=\"%s\",code=\"%u\"} %" PRIu64 "\n",
                    i < ROUTE_COUNT ? route_method_name(http_routes[i].method) : "",
                    i < ROUTE_COUNT ? http_routes[i].path : "none", status, server->answers[i][status]);
        }
    }
}

static void put_histogram(struct buffer *out, const char *name, const char *text, double unit,
                          const struct reeve_histogram *histogram)
{
    uint64_t below = 0;
    json_put_format(out, "# HELP reeve_%s %s\n# TYPE reeve_%s histogram\n", name, text, name);
    for (unsigned i = 0; i + 1 < REEVE_HISTOGRAM_BUCKETS; i++) {
        below += histogram->buckets[i];
        json_put_format(out, "reeve_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)(UINT64_C(1) << i) * unit,
                        below);
    }
    json_put_format(out, "reeve_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nreeve_%s_sum %g\nreeve_%s_count %" PRIu64 "\n",
                    name, histogram->count, name, (double)histogram->sum * unit, name, histogram->count);
}

static void put_types(struct buffer *out, const uint64_t counts[REEVE_EVENT_TYPE_COUNT])
{
    json_put_format(out, "# HELP reeve_transitions_by_type_total events written, by their type\n"
                         "# TYPE reeve_transitions_by_type_total counter\n");
    for (unsigned i = 0; i < REEVE_EVENT_TYPE_COUNT; i++) {
        const char *name = reeve_event_type_name((enum reeve_event_type)i);
        if (name)
            json_put_format(out, "reeve_transitions_by_type_total{type=\"%s\"} %" PRIu64 "\n", name, counts[i]);
    }
}

static void put_states(struct buffer *out, struct reeve_engine *engine)
{
    struct reeve_state_counts counts;
    reeve_get_state_counts(engine, &counts);
    json_put_format(out, "# HELP reeve_services services, by state\n# TYPE reeve_services gauge\n");
    for (unsigned i = REEVE_SERVICE_STATE_PROVISIONING; i < REEVE_SERVICE_STATE_GONE; i++)
        json_put_format(out, "reeve_services{state=\"%s\"} %" PRIu64 "\n",
                        reeve_service_state_name((enum reeve_service_state)i), counts.services[i]);
    json_put_format(out, "# HELP reeve_backups backups, by state\n# TYPE reeve_backups gauge\n");
    for (unsigned i = REEVE_BACKUP_STATE_IN_PROGRESS; i < REEVE_BACKUP_STATE_GONE; i++)
        json_put_format(out, "reeve_backups{state=\"%s\"} %" PRIu64 "\n",
                        reeve_backup_state_name((enum reeve_backup_state)i), counts.backups[i]);
}

void metrics_run(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    struct buffer *out = &exchange->out;
    struct reeve_stats stats;
    struct http_stats http;
    reeve_get_stats(server->engine, &stats);
    http_server_get_stats(server, &http);
    buffer_reset(out);
    json_put_format(
        out, "# HELP reeve_build_info version\n# TYPE reeve_build_info gauge\nreeve_build_info{version=\"%s\"} 1\n",
        reeve_version());
    put_counters(out, schema_counters, schema_counters_count, &stats);
    put_types(out, stats.transitions_by_type);
    put_histogram(out, "commit_seconds", "time to make a batch durable", 1e-6, &stats.commit_us);
    put_histogram(out, "batch_size", "inputs that share one commit", 1, &stats.batch_size);
    put_states(out, server->engine);
    put_counters(out, http_counters, http_counters_count, &http);
    put_routes(out, server);
    const struct counter_type *types;
    const void *values;
    size_t count;
    for (unsigned i = 0;
         server->extra_counters && (count = server->extra_counters(server->extra_arg, i, &types, &values)); i++)
        put_counters(out, types, count, values);
    if (out->failed)
        refuse(exchange, REEVE_ERROR_NO_MEMORY, "", "out of memory");
    else
        answer_text(exchange, "text/plain; version=0.0.4", out->data, out->size);
}

/* ---- Of services ---- */

/* Names are letters, digits and harmless signs, see engine/rules.c; a label may hold them as they are. */
static void put_info(struct buffer *out, const struct reeve_service *service, const char *id)
{
    json_put_format(
        out,
        "reeve_service_info{service=\"%s\",name=\"%.*s\",state=\"%s\",provider=\"%.*s\",region=\"%.*s\",tier=\"%s\"} "
        "1\n",
        id, (int)service->name.size, service->name.data, reeve_service_state_name(service->state),
        (int)service->provider.size, service->provider.data, (int)service->region.size, service->region.data,
        service->tier ? reeve_tier_name(service->tier) : "");
}

static void put_memory(struct buffer *out, const struct reeve_service *service, const char *id)
{
    if (!service->max_total_memory_gb)
        return;
    json_put_format(out, "reeve_service_memory_gb{service=\"%s\",bound=\"min\"} %" PRIu64 "\n", id,
                    service->min_total_memory_gb);
    json_put_format(out, "reeve_service_memory_gb{service=\"%s\",bound=\"max\"} %" PRIu64 "\n", id,
                    service->max_total_memory_gb);
}

static const struct {
    const char *head;
    void (*put)(struct buffer *out, const struct reeve_service *service, const char *id);
} service_metrics[METRICS_OF_SERVICES] = {
    {"# HELP reeve_service_info a service and its state\n# TYPE reeve_service_info gauge\n", put_info},
    {"# HELP reeve_service_memory_gb total memory it may use\n# TYPE reeve_service_memory_gb gauge\n", put_memory},
};

void metrics_service_head(struct buffer *out, unsigned metric)
{
    json_put_text(out, service_metrics[metric].head);
}

void metrics_service(struct buffer *out, unsigned metric, const struct reeve_service *service)
{
    char id[37];
    reeve_uuid_format(&service->id, id);
    service_metrics[metric].put(out, service, id);
}
