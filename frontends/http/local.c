/* Routes that are more, or less, than one command. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "codec.h"
#include "frontends/http/document.h"
#include "frontends/http/json.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

/* ---- State ---- */

static void run_state(struct http_exchange *exchange)
{
    static const struct {
        const char *name;
        enum reeve_command command;
    } commands[] = {{"start", REEVE_COMMAND_SERVICE_START},
                    {"stop", REEVE_COMMAND_SERVICE_STOP},
                    {"awake", REEVE_COMMAND_SERVICE_AWAKE}};
    struct reeve_str word;
    if (!request_body_word(exchange, "command", &word))
        return;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (!bytes_equal(word.data, word.size, commands[i].name, strlen(commands[i].name)))
            continue;
        exchange->base.command = commands[i].command;
        json_object_clear(exchange->json); /* the command itself takes no other parameter */
        run_command(exchange);
        return;
    }
    refuse(exchange, REEVE_ERROR_BAD_REQUEST, "command", "must be one of 'start', 'stop', 'awake' <string:%.*s>",
           (int)utf8_cut(word.data, word.size, 40), word.data);
}

/* ---- Organizations ---- */

static bool on_organization(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    struct buffer *out = answer_begin(exchange);
    json_put_text(out, "[");
    view_put(out, exchange->listener->dialect, &record_type_organization, record);
    json_put_text(out, "]");
    answer_end(exchange);
    return false;
}

static void run_organizations(struct http_exchange *exchange)
{
    exchange->base.params.organization.organization_id = exchange->identity.organization_id;
    run_read(exchange, on_organization, exchange);
}

/* ---- Quotas ---- */

static void put_quota(struct buffer *out, const struct reeve_organization *organization, uint64_t preset)
{
    json_put_text(out, "{\"quotaCode\":\"services-per-organization\",\"name\":\"Services per organization\","
                       "\"description\":\"services that the organization may have at once\",\"scope\":\"organization\","
                       "\"value\":");
    json_put_u64(out, organization->service_quota ? organization->service_quota : preset);
    json_put_text(out, ",\"usage\":");
    json_put_u64(out, organization->service_count);
    json_put_text(out, ",\"adjustable\":true}");
}

static void put_replica_quota(struct buffer *out)
{
    json_put_text(out, "{\"quotaCode\":\"replicas-per-warehouse\",\"name\":\"Replicas per service\","
                       "\"description\":\"replicas that one service may have\",\"scope\":\"warehouse\",\"value\":20,"
                       "\"adjustable\":false}");
}

static bool on_quotas(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    const struct reeve_str code = request_param(exchange, "quotaCode");
    const bool all = code.data == NULL, services = bytes_equal(code.data, code.size, "services-per-organization", 25),
               replicas = bytes_equal(code.data, code.size, "replicas-per-warehouse", 22);
    struct reeve_limits limits;
    reeve_get_limits(exchange->server->engine, &limits);
    if (!all && !services && !replicas) {
        refuse(exchange, REEVE_ERROR_NOT_FOUND, "", "there is no such quota");
        return false;
    }
    struct buffer *out = answer_begin(exchange);
    json_put_text(out, all ? "[" : "");
    if (all || services)
        put_quota(out, record, limits.services_per_org);
    json_put_text(out, all ? "," : "");
    if (all || replicas)
        put_replica_quota(out);
    json_put_text(out, all ? "]" : "");
    answer_end(exchange);
    return false;
}

/* ---- Dates ---- */

/* RFC 3339, or a day alone. */
static bool read_date(struct http_exchange *exchange, const char *name, bool end_of_day, uint64_t *ret_ms)
{
    const struct reeve_str text = request_query(exchange, name);
    char whole[32];
    if (!text.data || codec_parse_time(text.data, text.size, ret_ms))
        return true;
    if (text.size == 10) {
        snprintf(whole, sizeof whole, "%.10sT%s", text.data, end_of_day ? "23:59:59Z" : "00:00:00Z");
        if (codec_parse_time(whole, strlen(whole), ret_ms))
            return true;
    }
    refuse(exchange, REEVE_ERROR_BAD_REQUEST, name,
           "must be a date like 2026-01-31 or 2026-01-31T12:00:00Z <string:%.*s>",
           (int)utf8_cut(text.data, text.size, 40), text.data);
    return false;
}

/* ---- Costs ---- */

#define COST_DAYS_MAX 31
#define DAY_MS UINT64_C(86400000)

static bool on_cost(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    (void)record;
    struct buffer *out = answer_begin(exchange);
    json_put_text(out, "{\"grandTotalCHC\":0,\"costs\":[]}");
    answer_end(exchange);
    return false;
}

static bool check_cost_dates(struct http_exchange *exchange)
{
    uint64_t from_ms = 0, to_ms = 0;
    if (!read_date(exchange, "from_date", false, &from_ms) || !read_date(exchange, "to_date", false, &to_ms))
        return false;
    if (from_ms && to_ms && (to_ms < from_ms || to_ms - from_ms > COST_DAYS_MAX * DAY_MS)) {
        refuse(exchange, REEVE_ERROR_BAD_REQUEST, "to_date", "must be from 0 to %d days after from_date",
               COST_DAYS_MAX);
        return false;
    }
    return true;
}

/* ---- Logs of operations: also of services that are gone ---- */

static void put_log(struct http_exchange *exchange, const struct buffer *log, const struct buffer *progress)
{
    struct buffer *out = answer_begin(exchange);
    json_put_text(out, "{\"log\":");
    json_put_string(out, log->data, log->size);
    json_put_text(out, ",\"progress\":");
    json_put_string(out, progress->data, progress->size);
    json_put_text(out, "}");
    answer_end(exchange);
}

static void run_operation_log(struct http_exchange *exchange)
{
    const struct http_server *server = exchange->server;
    struct reeve_operation_params which = {.organization_id = exchange->identity.organization_id};
    struct buffer log = {0}, progress = {0};
    if (!request_param_uuid(exchange, "serviceId", &which.service_id) ||
        !request_param_uuid(exchange, "operationId", &which.operation_id))
        return;
    if (!server->operation_log)
        refuse(exchange, REEVE_ERROR_NOT_FOUND, "", "the provisioner of this daemon keeps no logs of operations");
    else if (!server->operation_log(server->operation_log_arg, &which, &log, &progress))
        refuse(exchange, REEVE_ERROR_NOT_FOUND, "operationId",
               "nothing is kept of such an operation of this service; the last 100 logs are");
    else if (log.failed || progress.failed)
        refuse(exchange, REEVE_ERROR_NO_MEMORY, "", "out of memory");
    else
        put_log(exchange, &log, &progress);
    buffer_deinit(&log);
    buffer_deinit(&progress);
}

/* ---- Parts of a service that there are none of ---- */

static bool on_private_endpoints(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    (void)record;
    struct buffer *out = answer_begin(exchange);
    json_put_text(out, "{\"endpointServiceId\":\"\",\"privateDnsHostname\":\"\"}");
    answer_end(exchange);
    return false;
}

static bool on_missing_part(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    const char *name = strrchr(exchange->route->path, '/') + 1;
    (void)record;
    refuse(exchange, REEVE_ERROR_NOT_FOUND, "", "the service has no %s", name);
    return false;
}

static bool on_service_metrics(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    buffer_reset(&exchange->out);
    for (unsigned metric = 0; metric < METRICS_OF_SERVICES; metric++) {
        metrics_service_head(&exchange->out, metric);
        metrics_service(&exchange->out, metric, record);
    }
    answer_text(exchange, "text/plain; version=0.0.4", exchange->out.data, exchange->out.size);
    return false;
}

static void run_about_service(struct http_exchange *exchange, reeve_item_cb on_item)
{
    if (request_decode(exchange))
        run_read(exchange, on_item, exchange);
}

/* ---- Activities: the events that people cause, or want to know of, by the names that clients know ---- */

static const char *service_update_type(struct reeve_str changed)
{
    static const struct {
        const char *field, *type;
    } types[] = {{"name", "service_update_name"},
                 {"ip_access_list", "service_update_ip_access_list"},
                 {"release_channel", "service_update_release_channel"},
                 {"mysql", "service_update_mysql_interface"},
                 {"memory", "service_update_autoscaling_memory"},
                 {"idling", "service_update_autoscaling_idling"},
                 {"replicas", "service_update_autoscaling_replicas"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const size_t size = strlen(types[i].field);
        if (changed.size >= size && memcmp(changed.data, types[i].field, size) == 0 &&
            (changed.size == size || changed.data[size] == ','))
            return types[i].type;
    }
    return "service_update_tags";
}

static const char *activity_type(const struct reeve_event *event)
{
    switch ((int)event->type) {
    case REEVE_EVENT_TYPE_ORGANIZATION_CREATE:
        return "create_organization";
    case REEVE_EVENT_TYPE_ORGANIZATION_UPDATE:
        return "organization_update_name";
    case REEVE_EVENT_TYPE_ORGANIZATION_DELETE:
        return "delete_organization";
    case REEVE_EVENT_TYPE_KEY_CREATE:
        return "key_create";
    case REEVE_EVENT_TYPE_KEY_UPDATE:
        return "openapi_key_update";
    case REEVE_EVENT_TYPE_KEY_REVOKE:
    case REEVE_EVENT_TYPE_KEY_EXPIRE:
        return "key_delete";
    case REEVE_EVENT_TYPE_SERVICE_CREATE:
        return event->changed.size ? "service_restore_backup" : "service_create";
    case REEVE_EVENT_TYPE_SERVICE_RUNNING:
        return "service_running";
    case REEVE_EVENT_TYPE_SERVICE_UPDATE:
    case REEVE_EVENT_TYPE_SERVICE_SCALE:
        return service_update_type(event->changed);
    case REEVE_EVENT_TYPE_SERVICE_SET_PASSWORD:
        return "service_update_password";
    case REEVE_EVENT_TYPE_SERVICE_START:
        return "service_start";
    case REEVE_EVENT_TYPE_SERVICE_STOP:
        return "service_stop";
    case REEVE_EVENT_TYPE_SERVICE_IDLE:
        return "service_idle";
    case REEVE_EVENT_TYPE_SERVICE_AWAKE:
        return "service_awaken";
    case REEVE_EVENT_TYPE_SERVICE_DELETE:
        return "service_delete";
    case REEVE_EVENT_TYPE_SERVICE_UPDATE_BACKUP_CONFIGURATION:
        return "service_update_backup_configuration";
    case REEVE_EVENT_TYPE_BACKUP_DELETE:
        return "backup_delete";
    default:
        return NULL;
    }
}

bool activity_is(const struct reeve_event *event)
{
    return activity_type(event) != NULL;
}

static void put_id(struct buffer *out, const char *name, const struct reeve_uuid *id)
{
    char text[37];
    if (reeve_uuid_is_nil(id))
        return;
    reeve_uuid_format(id, text);
    json_put_name(out, name, false);
    json_put_string(out, text, 36);
}

/* Who: a key ("key:" and its id), another frontend, or the engine itself. */
static void put_actor(struct buffer *out, struct reeve_str actor)
{
    const bool key = actor.size > 4 && memcmp(actor.data, "key:", 4) == 0;
    json_put_text(out, key ? ",\"actorType\":\"api\"" : ",\"actorType\":\"system\"");
    if (!actor.size)
        return;
    json_put_name(out, "actorId", false);
    json_put_string(out, actor.data + (key ? 4 : 0), actor.size - (key ? 4 : 0));
}

void activity_put(struct http_exchange *exchange, struct buffer *out, const struct reeve_event *event)
{
    char time[25], id[24];
    const char *type = activity_type(event);
    (void)exchange;
    codec_format_time(event->at_ms, false, time);
    snprintf(id, sizeof id, "%" PRIu64, event->sequence);
    json_put_text(out, "{\"id\":");
    json_put_string(out, id, strlen(id));
    json_put_text(out, ",\"createdAt\":");
    json_put_string(out, time, strlen(time));
    json_put_text(out, ",\"type\":");
    json_put_string(out, type, strlen(type));
    put_actor(out, event->actor);
    put_id(out, "organizationId", &event->organization_id);
    put_id(out, "serviceId", &event->service_id);
    json_put_text(out, "}");
}

static void run_activities(struct http_exchange *exchange)
{
    struct http_listing *listing = &exchange->listing;
    listing->to_ms = UINT64_MAX;
    if (!read_date(exchange, "from_date", false, &listing->from_ms) ||
        !read_date(exchange, "to_date", true, &listing->to_ms))
        return;
    listing_run(exchange);
}

struct wanted_activity {
    struct http_exchange *exchange;
    uint64_t sequence;
    bool found;
};

static bool on_activity(void *arg, const void *record)
{
    struct wanted_activity *wanted = arg;
    const struct reeve_event *event = record;
    struct http_exchange *exchange = wanted->exchange;
    wanted->found = event->sequence == wanted->sequence && activity_is(event) &&
                    memcmp(&event->organization_id, &exchange->identity.organization_id,
                           sizeof event->organization_id) == 0;
    if (!wanted->found)
        return false;
    activity_put(exchange, answer_begin(exchange), event);
    answer_end(exchange);
    return false;
}

static void run_activity(struct http_exchange *exchange)
{
    const struct reeve_str text = request_param(exchange, "activityId");
    struct wanted_activity wanted = {.exchange = exchange};
    for (size_t i = 0; i < text.size && text.size < 19; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            wanted.sequence = 0;
            break;
        }
        wanted.sequence = wanted.sequence * 10 + (uint64_t)(text.data[i] - '0');
    }
    exchange->base.params.event_list.from = wanted.sequence;
    exchange->base.params.event_list.limit = 1;
    if (wanted.sequence == 0 || run_read(exchange, on_activity, &wanted)) {
        if (!wanted.found)
            refuse(exchange, REEVE_ERROR_NOT_FOUND, "", "there is no such activity");
    }
}

/* ---- Events ---- */

/* A service that is gone still has events; one that never was has an empty list. */
static void run_events(struct http_exchange *exchange)
{
    const char *accept = exchange->head.accept;
    if (!request_decode(exchange))
        return;
    if (accept && strstr(accept, "text/event-stream"))
        stream_run(exchange);
    else
        listing_run(exchange);
}

/* ---- About the server ---- */

static void run_ready(struct http_exchange *exchange)
{
    if (exchange->server->closing || !reeve_is_writable(exchange->server->engine))
        refuse(exchange, REEVE_ERROR_UNAVAILABLE, "", "%s",
               exchange->server->closing ? "the server is closing" : reeve_error_text(REEVE_ERROR_UNAVAILABLE));
    else
        answer_text(exchange, "text/plain; charset=utf-8", "ready\n", 6);
}

void local_run(struct http_exchange *exchange)
{
    switch ((int)exchange->route->id) {
    case ROUTE_SERVICE_STATE:
        run_state(exchange);
        return;
    case ROUTE_ORGANIZATION_LIST:
        run_organizations(exchange);
        return;
    case ROUTE_QUOTA_LIST:
    case ROUTE_QUOTA_GET:
        run_about_service(exchange, on_quotas);
        return;
    case ROUTE_OPERATION_LOG:
        run_operation_log(exchange);
        return;
    case ROUTE_USAGE_COST:
        if (check_cost_dates(exchange))
            run_about_service(exchange, on_cost);
        return;
    case ROUTE_PRIVATE_ENDPOINT_CONFIG:
        run_about_service(exchange, on_private_endpoints);
        return;
    case ROUTE_QUERY_ENDPOINT_GET:
    case ROUTE_SCALING_SCHEDULE_GET:
    case ROUTE_UPGRADE_WINDOW_GET:
        run_about_service(exchange, on_missing_part);
        return;
    case ROUTE_SERVICE_PROMETHEUS:
        run_about_service(exchange, on_service_metrics);
        return;
    case ROUTE_ORGANIZATION_PROMETHEUS:
        if (request_decode(exchange))
            listing_run(exchange);
        return;
    case ROUTE_ACTIVITY_LIST:
        run_activities(exchange);
        return;
    case ROUTE_ACTIVITY_GET:
        run_activity(exchange);
        return;
    case ROUTE_SERVICE_EVENTS:
    case ROUTE_ORGANIZATION_EVENTS:
        run_events(exchange);
        return;
    case ROUTE_HEALTHZ:
        answer_text(exchange, "text/plain; charset=utf-8", "ok\n", 3);
        return;
    case ROUTE_READYZ:
        run_ready(exchange);
        return;
    case ROUTE_METRICS:
        metrics_run(exchange);
        return;
    case ROUTE_OPENAPI:
        document_openapi(&exchange->out, exchange->listener->dialect);
        answer_text(exchange, "application/json", exchange->out.data, exchange->out.size);
        return;
    case ROUTE_DOCS:
        document_page(&exchange->out, exchange->listener->dialect);
        answer_text(exchange, "text/html; charset=utf-8", exchange->out.data, exchange->out.size);
        return;
    default:
        refuse(exchange, REEVE_ERROR_INTERNAL, "", "%s", reeve_error_text(REEVE_ERROR_INTERNAL));
        return;
    }
}
