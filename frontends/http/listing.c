/* Lists, read piece by piece and sent while they are read: of a million services no more than one piece is in memory.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "frontends/http/json.h"
#include "frontends/http/server_private.h"
#include "frontends/http/view.h"

#define PIECE_ITEMS 128
#define PIECE_EVENTS 2048 /* looked at, where only some are wanted */
#define BLOCK_BYTES 32768
#define WORK_BYTES_MAX (16 * 1024 * 1024)
#define ZIP_WINDOW 15
#define ZIP_GZIP 16 /* added to the window: a gzip header, not a zlib one */
#define ZIP_MEMORY 8
#define ZIP_QUIET_PIECES 8

/* ---- Items ---- */

static bool is_events(const struct http_exchange *exchange)
{
    return exchange->base.command == REEVE_COMMAND_EVENT_LIST;
}

static bool is_metrics(const struct http_exchange *exchange)
{
    return exchange->route->id == ROUTE_ORGANIZATION_PROMETHEUS;
}

/* "tag:key=value", or "tag:key" for any value. */
static bool has_tag(const struct reeve_service *service, struct reeve_str filter)
{
    const char *text = filter.data + 4;
    const size_t size = filter.size - 4;
    const char *equals = memchr(text, '=', size);
    const size_t key_size = equals ? (size_t)(equals - text) : size;
    for (size_t i = 0; i < service->tags.count; i++) {
        const struct reeve_tag *tag = &service->tags.items[i];
        if (bytes_equal(tag->key.data, tag->key.size, text, key_size) &&
            (!equals || bytes_equal(tag->value.data, tag->value.size, equals + 1, size - key_size - 1)))
            return true;
    }
    return false;
}

static bool passes_filters(const struct http_exchange *exchange, const struct reeve_service *service)
{
    for (unsigned i = 0; i < exchange->query_count; i++) {
        if (strcmp(exchange->query[i].name, "filter") == 0 && !has_tag(service, exchange->query[i].value))
            return false;
    }
    return true;
}

static bool is_wanted_event(struct http_exchange *exchange, const struct reeve_event *event)
{
    struct http_listing *listing = &exchange->listing;
    listing->next_sequence = event->sequence + 1;
    if (memcmp(&event->organization_id, &exchange->identity.organization_id, sizeof event->organization_id) != 0)
        return false;
    if (!reeve_uuid_is_nil(&listing->service_id) &&
        memcmp(&event->service_id, &listing->service_id, sizeof event->service_id) != 0)
        return false;
    if (exchange->route->id != ROUTE_ACTIVITY_LIST)
        return true;
    return activity_is(event) && event->at_ms >= listing->from_ms && event->at_ms <= listing->to_ms;
}

static bool is_wanted(struct http_exchange *exchange, const void *record)
{
    struct http_listing *listing = &exchange->listing;
    listing->looked_at++;
    switch ((int)exchange->base.command) {
    case REEVE_COMMAND_EVENT_LIST:
        return is_wanted_event(exchange, record);
    case REEVE_COMMAND_SERVICE_LIST:
        listing->last_id = ((const struct reeve_service *)record)->id;
        return passes_filters(exchange, record);
    case REEVE_COMMAND_KEY_LIST:
        listing->last_id = ((const struct reeve_key *)record)->id;
        return true;
    case REEVE_COMMAND_BACKUP_LIST:
        listing->last_id = ((const struct reeve_backup *)record)->id;
        return ((const struct reeve_backup *)record)->state != REEVE_BACKUP_STATE_DELETING;
    default:
        return true;
    }
}

static void put_item(struct http_exchange *exchange, const void *record)
{
    struct buffer *out = &exchange->out;
    if (is_metrics(exchange)) {
        metrics_service(out, exchange->listing.metric, record);
        return;
    }
    if (exchange->listing.any)
        buffer_append(out, ",", 1);
    exchange->listing.any = true;
    if (exchange->route->id == ROUTE_ACTIVITY_LIST)
        activity_put(exchange, out, record);
    else
        view_put(out, exchange->listener->dialect, exchange->route->view, record);
}

static bool on_item(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    if (!is_wanted(exchange, record))
        return true;
    put_item(exchange, record);
    exchange->listing.left--;
    return exchange->listing.left > 0 && !exchange->out.failed;
}

/* ---- Pieces ---- */

/* Ask for the next piece only. */
static void aim(struct http_exchange *exchange)
{
    struct http_listing *listing = &exchange->listing;
    union reeve_params *params = &exchange->base.params;
    const bool on = !reeve_uuid_is_nil(&listing->last_id);
    listing->wanted = is_events(exchange) ? PIECE_EVENTS : PIECE_ITEMS;
    listing->looked_at = 0;
    switch ((int)exchange->base.command) {
    case REEVE_COMMAND_SERVICE_LIST:
        params->service_list.limit = listing->wanted;
        params->service_list.cursor = on ? listing->last_id : params->service_list.cursor;
        return;
    case REEVE_COMMAND_KEY_LIST:
        params->key_list.limit = listing->wanted;
        params->key_list.cursor = on ? listing->last_id : params->key_list.cursor;
        return;
    case REEVE_COMMAND_BACKUP_LIST:
        params->backup_list.limit = listing->wanted;
        params->backup_list.cursor = on ? listing->last_id : params->backup_list.cursor;
        return;
    case REEVE_COMMAND_EVENT_LIST:
        params->event_list.limit = listing->wanted;
        params->event_list.from = listing->next_sequence;
        return;
    default:
        return;
    }
}

/* From the first service again, for the next metric. False: that was the last one. */
static bool next_metric(struct http_exchange *exchange)
{
    struct http_listing *listing = &exchange->listing;
    if (!is_metrics(exchange) || listing->metric + 1 == METRICS_OF_SERVICES)
        return false;
    metrics_service_head(&exchange->out, ++listing->metric);
    listing->last_id = exchange->base.params.service_list.cursor = (struct reeve_uuid){{0}};
    return true;
}

/* Appends to exchange->out. Returns 0 or a negative code. */
static int read_piece(struct http_exchange *exchange, struct reeve_error *error)
{
    struct http_listing *listing = &exchange->listing;
    aim(exchange);
    const int r = reeve_read(exchange->server->engine, &exchange->base, on_item, exchange, error);
    listing->done = r < 0 || listing->left == 0 || listing->looked_at < listing->wanted;
    return r == 0 && listing->done && next_metric(exchange) ? read_piece(exchange, error) : r;
}

static void put_end(struct http_exchange *exchange)
{
    if (is_metrics(exchange))
        return;
    json_put_text(&exchange->out, exchange->listener->dialect == HTTP_CLOUD ? "]}\n" : "]\n");
}

/* More to send: the next piece. False: there is nothing more. */
static bool refill(struct http_exchange *exchange)
{
    struct http_listing *listing = &exchange->listing;
    struct reeve_error error;
    if (listing->done)
        return false;
    buffer_reset(&exchange->out);
    listing->sent = 0;
    if (read_piece(exchange, &error) < 0 || exchange->out.failed)
        exchange->out.failed = true; /* the connection is cut: half a list must not look like a whole one */
    else if (listing->done)
        put_end(exchange);
    else if (exchange->out.size == 0)
        json_put_text(&exchange->out, "\n"); /* none of this piece was wanted: others have their turn first */
    return true;
}

static ssize_t on_read(void *cls, uint64_t position, char *data, size_t size_max)
{
    struct http_exchange *exchange = cls;
    struct http_listing *listing = &exchange->listing;
    (void)position;
    if (listing->sent == exchange->out.size && !refill(exchange))
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (exchange->out.failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    const size_t left = exchange->out.size - listing->sent, size = left < size_max ? left : size_max;
    memcpy(data, exchange->out.data + listing->sent, size);
    listing->sent += size;
    exchange->server->stats.bytes_out += size;
    return (ssize_t)size;
}

/* ---- Compressed ---- */

static ssize_t on_read_zipped(void *cls, uint64_t position, char *data, size_t size_max)
{
    struct http_exchange *exchange = cls;
    struct http_listing *listing = &exchange->listing;
    z_stream *zip = listing->zip;
    unsigned pieces = 0;
    (void)position;
    zip->next_out = (Bytef *)data;
    zip->avail_out = (uInt)(size_max < UINT32_MAX ? size_max : UINT32_MAX);
    const uInt room = zip->avail_out;
    while (zip->avail_out == room) {
        if (listing->sent == exchange->out.size && refill(exchange))
            pieces++;
        if (exchange->out.failed)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        const bool last = listing->done;
        zip->next_in = (Bytef *)exchange->out.data + listing->sent;
        zip->avail_in = (uInt)(exchange->out.size - listing->sent);
        const int r = deflate(zip, last ? Z_FINISH : pieces >= ZIP_QUIET_PIECES ? Z_SYNC_FLUSH : Z_NO_FLUSH);
        exchange->server->stats.bytes_out += exchange->out.size - listing->sent - zip->avail_in;
        listing->sent = exchange->out.size - zip->avail_in;
        if (last && (r == Z_STREAM_END || r == Z_BUF_ERROR) && zip->avail_out == room)
            return MHD_CONTENT_READER_END_OF_STREAM;
    }
    return (ssize_t)(room - zip->avail_out);
}

static bool start_zip(struct http_exchange *exchange)
{
    z_stream *zip = calloc(1, sizeof *zip);
    if (zip &&
        deflateInit2(zip, Z_BEST_SPEED, Z_DEFLATED, ZIP_WINDOW + ZIP_GZIP, ZIP_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK) {
        exchange->listing.zip = zip;
        return true;
    }
    free(zip);
    return false;
}

void listing_release(struct http_exchange *exchange)
{
    if (!exchange->listing.zip)
        return;
    deflateEnd(exchange->listing.zip);
    free(exchange->listing.zip);
    exchange->listing.zip = NULL;
}

static const char *content_type(const struct http_exchange *exchange)
{
    return is_metrics(exchange) ? "text/plain; version=0.0.4" : "application/json";
}

/* What has been read so far is in exchange->out. */
static void answer_stream(struct http_exchange *exchange)
{
    const bool zipped = request_accepts_gzip(exchange) &&
                        exchange->out.size >= exchange->server->limits.gzip_bytes_min && start_zip(exchange);
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, BLOCK_BYTES, zipped ? on_read_zipped : on_read, exchange, NULL);
    answer_response(exchange, 200, response, content_type(exchange));
    if (!response)
        return;
    if (zipped)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
    MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Accept-Encoding");
}

/* A list that is whole already, and short enough to be sent as it is, has a length. */
static void answer_list(struct http_exchange *exchange)
{
    if (exchange->listing.done)
        put_end(exchange);
    const bool zipped = request_accepts_gzip(exchange) && exchange->out.size >= exchange->server->limits.gzip_bytes_min;
    if (!exchange->listing.done || zipped) {
        answer_stream(exchange);
        return;
    }
    exchange->server->stats.bytes_out += exchange->out.size;
    answer_response(exchange, 200,
                    MHD_create_response_from_buffer(exchange->out.size, exchange->out.data, MHD_RESPMEM_PERSISTENT),
                    content_type(exchange));
}

/* ---- What cannot be read in pieces: on a thread of libuv's pool, because nobody knows how long it takes ---- */

static bool on_work_item(void *arg, const void *record)
{
    struct http_exchange *exchange = arg;
    put_item(exchange, record);
    return !exchange->out.failed && exchange->out.size < WORK_BYTES_MAX;
}

static void on_work(uv_work_t *work)
{
    struct http_exchange *exchange = work->data;
    exchange->listing.error = (struct reeve_error){0};
    reeve_read(exchange->server->engine, &exchange->base, on_work_item, exchange, &exchange->listing.error);
}

static void on_worked(uv_work_t *work, int status)
{
    struct http_exchange *exchange = work->data;
    (void)status;
    exchange->server->works_count--;
    free(work);
    exchange->listing.done = true;
    if (exchange->listing.error.code)
        refuse_error(exchange, &exchange->listing.error);
    else if (exchange->out.size >= WORK_BYTES_MAX)
        refuse(exchange, REEVE_ERROR_TOO_LARGE, "", "the list has more than %d bytes; ask for one service",
               WORK_BYTES_MAX);
    else
        answer_list(exchange);
    exchange_resume(exchange);
}

static void start_work(struct http_exchange *exchange)
{
    uv_work_t *work = malloc(sizeof *work);
    if (work)
        work->data = exchange;
    if (!work || uv_queue_work(exchange->server->loop, work, on_work, on_worked) != 0) {
        free(work);
        refuse(exchange, REEVE_ERROR_NO_MEMORY, "", "out of memory");
        return;
    }
    exchange->server->works_count++;
    exchange->state = EXCHANGE_WAITING;
}

/* ---- Start ---- */

static bool check_filters(struct http_exchange *exchange)
{
    for (unsigned i = 0; i < exchange->query_count; i++) {
        const struct reeve_str value = exchange->query[i].value;
        if (strcmp(exchange->query[i].name, "filter") != 0 || (value.size > 4 && memcmp(value.data, "tag:", 4) == 0))
            continue;
        refuse(exchange, REEVE_ERROR_BAD_REQUEST, "filter", "must be tag:KEY=VALUE or tag:KEY <string:%.*s>",
               (int)utf8_cut(value.data, value.size, 40), value.data);
        return false;
    }
    return true;
}

static uint64_t limit_of(const struct http_exchange *exchange)
{
    const union reeve_params *params = &exchange->base.params;
    uint64_t limit = 0;
    if (exchange->base.command == REEVE_COMMAND_SERVICE_LIST)
        limit = params->service_list.limit;
    else if (exchange->base.command == REEVE_COMMAND_KEY_LIST)
        limit = params->key_list.limit;
    else if (exchange->base.command == REEVE_COMMAND_BACKUP_LIST)
        limit = params->backup_list.limit;
    else if (exchange->base.command == REEVE_COMMAND_EVENT_LIST)
        limit = params->event_list.limit;
    return limit ? limit : UINT64_MAX;
}

static void put_start(struct http_exchange *exchange)
{
    if (is_metrics(exchange)) {
        buffer_reset(&exchange->out);
        metrics_service_head(&exchange->out, 0);
        return;
    }
    answer_begin(exchange);
    json_put_text(&exchange->out, "[");
}

void listing_run(struct http_exchange *exchange)
{
    struct http_listing *listing = &exchange->listing;
    struct reeve_error error;
    if (!check_filters(exchange))
        return;
    listing->left = limit_of(exchange);
    if (is_events(exchange)) {
        listing->next_sequence = exchange->base.params.event_list.from;
        listing->service_id = exchange->base.params.event_list.service_id;
        exchange->base.params.event_list.organization_id = (struct reeve_uuid){{0}}; /* chosen here: */
        exchange->base.params.event_list.service_id = (struct reeve_uuid){{0}};      /* a piece then has an end */
    }
    put_start(exchange);
    if (exchange->base.command == REEVE_COMMAND_OPERATION_LIST)
        start_work(exchange);
    else if (read_piece(exchange, &error) < 0)
        refuse_error(exchange, &error);
    else
        answer_list(exchange);
}
