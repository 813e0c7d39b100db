#include "listing.h"

#include <string.h>

#include "codec.h"
#include "frontends/ipc/connection.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"

#define LISTING_PAGE_DEFAULT 1000
#define LISTING_STEP_ITEMS 256
#define LISTING_STEP_BYTES 65536
#define LISTING_STEP_EVENTS 2048 /* looked at, where only some are wanted */

static struct ipc_request *first_listing(struct ipc_connection *connection)
{
    return link_owner(connection->listings.next, struct ipc_request, listing.link);
}

static bool is_events(const struct ipc_request *request)
{
    return request->method->command->answer == &record_type_event;
}

/* Can a list be gone on with where it stopped? Those that have neither cursor nor sequence are read in one go, on a
 * thread of libuv's pool, because nobody knows how many records must be looked at. */
static bool is_paged(const struct ipc_request *request)
{
    const struct method *method = request->method;
    return method->limit_offset != METHOD_NO_FIELD && (method->cursor_offset != METHOD_NO_FIELD || is_events(request));
}

/* ---- Output ---- */

static void pack_items(msgpack_packer *packer, struct buffer *out, struct listing *listing)
{
    rpc_pack_text(packer, "items");
    msgpack_pack_array(packer, listing->items_count);
    buffer_append(out, listing->items.data, listing->items.size);
    out->failed |= listing->items.failed;
    buffer_reset(&listing->items);
    listing->items_count = 0;
}

/* Stream: what has been read goes out at once. */
static void send_items(struct ipc_request *request)
{
    struct listing *listing = &request->listing;
    if (listing->items_count == 0)
        return;
    struct buffer *out = connection_out(request->connection);
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    rpc_pack_notification(&packer, "list.items");
    msgpack_pack_map(&packer, 2);
    rpc_pack_pair_u64(&packer, "id", request->id);
    pack_items(&packer, out, listing);
}

static void release(struct ipc_request *request)
{
    link_remove(&request->listing.link);
    server_buffer_give(request->connection->server, &request->listing.items);
}

static void refuse(struct ipc_request *request, const struct reeve_error *error)
{
    release(request);
    request_refuse(request, error);
}

static void answer(struct ipc_request *request, bool more)
{
    struct listing *listing = &request->listing;
    const bool events = is_events(request);
    struct buffer *out = request_answer(request);
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    msgpack_pack_map(&packer, listing->stream && !events ? 1 : 2);
    if (listing->stream)
        rpc_pack_pair_u64(&packer, "count", listing->count);
    else
        pack_items(&packer, out, listing);
    if (events) {
        rpc_pack_pair_u64(&packer, "next", listing->next_sequence);
    } else if (!listing->stream) {
        static const struct reeve_uuid none;
        rpc_pack_text(&packer, "cursor");
        rpc_pack_uuid(&packer, more ? &listing->last_id : &none);
    }
    release(request);
    request_finish(request);
}

/* ---- Reading ---- */

static void take_item(struct ipc_request *request, const void *record)
{
    struct listing *listing = &request->listing;
    const struct method *method = request->method;
    codec_encode_wire(method->command->answer, record, &listing->items);
    listing->items_count++;
    listing->count++;
    listing->left--;
    if (method->id_offset != METHOD_NO_FIELD)
        memcpy(&listing->last_id, (const char *)record + method->id_offset, sizeof listing->last_id);
}

static bool uuid_matches(const struct reeve_uuid *wanted, const struct reeve_uuid *uuid)
{
    return reeve_uuid_is_nil(wanted) || memcmp(wanted, uuid, sizeof *uuid) == 0;
}

/* Events are read without a filter and chosen here: a piece then has an end even where none of them is wanted. */
static bool is_wanted(struct ipc_request *request, const void *record)
{
    struct listing *listing = &request->listing;
    listing->looked_at++;
    if (!is_events(request))
        return true;
    const struct reeve_event *event = record;
    listing->next_sequence = event->sequence + 1;
    return uuid_matches(&listing->organization_id, &event->organization_id) &&
           uuid_matches(&listing->service_id, &event->service_id);
}

static bool on_item(void *arg, const void *record)
{
    struct ipc_request *request = arg;
    struct listing *listing = &request->listing;
    if (!is_wanted(request, record))
        return true;
    take_item(request, record);
    listing->full = !listing->stream || !is_paged(request) ? listing->items.size >= listing->bytes_max : false;
    listing->cut = listing->items.size >= LISTING_STEP_BYTES && listing->stream && is_paged(request);
    return !listing->items.failed && !listing->full && !listing->cut && listing->left > 0;
}

static uint64_t *param_u64(struct ipc_request *request, size_t offset)
{
    return (uint64_t *)(void *)((char *)&request->base.params + offset);
}

/* Ask for the next piece only. Returns how many records that may have. */
static uint64_t aim(struct ipc_request *request)
{
    struct listing *listing = &request->listing;
    const struct method *method = request->method;
    const bool filtered = !reeve_uuid_is_nil(&listing->organization_id) || !reeve_uuid_is_nil(&listing->service_id);
    uint64_t wanted = LISTING_STEP_EVENTS;
    if (!filtered)
        wanted = listing->left < LISTING_STEP_ITEMS ? listing->left : LISTING_STEP_ITEMS;
    *param_u64(request, method->limit_offset) = wanted;
    if (is_events(request))
        *param_u64(request, method->from_offset) = listing->next_sequence;
    else if (listing->count > 0)
        memcpy((char *)&request->base.params + method->cursor_offset, &listing->last_id, sizeof listing->last_id);
    return wanted;
}

/* Read one piece; true when the list is at its end, whatever that is. */
static bool read_piece(struct ipc_request *request, struct reeve_error *error)
{
    struct listing *listing = &request->listing;
    struct reeve_engine *engine = request->connection->server->engine;
    const uint64_t newest = reeve_last_sequence(engine);
    const uint64_t wanted = aim(request);
    listing->looked_at = 0;
    listing->cut = false;
    if (reeve_read(engine, &request->base, on_item, request, error) < 0)
        return true;
    *error = (struct reeve_error){0};
    if (listing->full || listing->cut || listing->left == 0 || listing->looked_at == wanted)
        return listing->full || listing->left == 0;
    /* All there was: events up to `newest` were looked at, even where none of them was wanted. */
    listing->left_over = false;
    if (newest >= listing->next_sequence)
        listing->next_sequence = newest + 1;
    return true;
}

/* ---- What is read in one go ---- */

static void on_work(uv_work_t *work)
{
    struct ipc_request *request = work->data;
    struct listing *listing = &request->listing;
    listing->work_r = reeve_read(request->connection->server->engine, &request->base, on_item, request,
                                 &listing->work_error);
}

static void on_work_done(uv_work_t *work, int status)
{
    (void)status;
    struct ipc_request *request = work->data;
    struct ipc_connection *connection = request->connection;
    struct listing *listing = &request->listing;
    struct reeve_error error = listing->work_error;
    listing->working = false;
    if (connection->state == CONNECTION_CLOSED) {
        release(request);
        request_finish(request);
        return;
    }
    if (listing->work_r == 0 && listing->full)
        rpc_error_set(&error, REEVE_ERROR_TOO_LARGE, "", "more than %llu items; ask for less",
                      (unsigned long long)listing->count);
    if (listing->work_r < 0 || listing->full) {
        refuse(request, &error);
    } else {
        if (listing->stream)
            send_items(request);
        answer(request, false);
    }
    listing_resume(connection);
}

static void start_work(struct ipc_request *request)
{
    struct listing *listing = &request->listing;
    struct reeve_error error;
    listing->work.data = request;
    listing->working = uv_queue_work(request->connection->server->loop, &listing->work, on_work, on_work_done) == 0;
    if (!listing->working) {
        rpc_error_set(&error, REEVE_ERROR_INTERNAL, "", "no thread could be started");
        refuse(request, &error);
    }
}

/* ---- Steps ---- */

void listing_step(struct ipc_connection *connection)
{
    struct ipc_request *request = first_listing(connection);
    struct listing *listing = &request->listing;
    struct reeve_error error = {0};
    if (!is_paged(request)) {
        start_work(request);
        return;
    }
    const bool end = read_piece(request, &error);
    if (error.code != REEVE_OK) {
        refuse(request, &error);
    } else {
        if (listing->stream)
            send_items(request);
        if (end)
            answer(request, listing->left_over);
    }
    listing_resume(connection);
}

static void take_event_filter(struct ipc_request *request)
{
    struct listing *listing = &request->listing;
    struct reeve_event_list_params *params = &request->base.params.event_list;
    listing->next_sequence = params->from;
    listing->organization_id = params->organization_id;
    listing->service_id = params->service_id;
    *params = (struct reeve_event_list_params){0};
}

void listing_start(struct ipc_request *request, bool stream)
{
    struct ipc_connection *connection = request->connection;
    const struct method *method = request->method;
    struct listing *listing = &request->listing;
    *listing = (struct listing){.stream = stream, .left_over = true};
    link_init(&listing->link);
    /* Half of what a client may leave unread: an answer of one piece must not be the reason to disconnect it. */
    listing->bytes_max = (size_t)connection->server->limits.output_bytes_max / 2;
    if (method->limit_offset != METHOD_NO_FIELD)
        listing->left = *param_u64(request, method->limit_offset);
    if (listing->left == 0)
        listing->left = stream || !is_paged(request) ? UINT64_MAX : LISTING_PAGE_DEFAULT;
    if (is_events(request))
        take_event_filter(request);
    server_buffer_take(connection->server, &listing->items);
    const bool alone = !link_used(&connection->listings);
    link_append(&connection->listings, &listing->link);
    if (alone)
        listing_step(connection);
}

void listing_resume(struct ipc_connection *connection)
{
    struct ipc_server *server = connection->server;
    if (connection->state != CONNECTION_CLOSED && link_used(&connection->listings) &&
        !first_listing(connection)->listing.working &&
        connection_unread(connection) < server->limits.output_pause_bytes)
        link_append(&server->listings, &connection->in_listings);
}

/* One that is being read finishes by itself. */
void listing_drop_all(struct ipc_connection *connection)
{
    struct link *next;
    for (struct link *link = connection->listings.next; link != &connection->listings; link = next) {
        next = link->next;
        struct ipc_request *request = link_owner(link, struct ipc_request, listing.link);
        if (request->listing.working)
            continue;
        release(request);
        request_finish(request);
    }
}
