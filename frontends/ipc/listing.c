#include "listing.h"

#include <string.h>

#include "codec.h"
#include "frontends/ipc/connection.h"
#include "frontends/ipc/request.h"
#include "frontends/ipc/rpc.h"

#define LISTING_PAGE_DEFAULT 1000
#define LISTING_STEP_ITEMS 256
#define LISTING_STEP_BYTES 65536

static struct ipc_request *first_listing(struct ipc_connection *connection)
{
    return link_owner(connection->listings.next, struct ipc_request, listing.link);
}

static bool is_events(const struct ipc_request *request)
{
    return request->method->command->answer == &record_type_event;
}

/* Can a list be gone on with where it stopped? Those that have neither cursor nor sequence are read in one go. */
static bool is_paged(const struct ipc_request *request)
{
    const struct method *method = request->method;
    return method->limit_offset != METHOD_NO_FIELD && (method->cursor_offset != METHOD_NO_FIELD || is_events(request));
}

/* Half of what a client may leave unread: an answer of one piece must not be the reason to disconnect it. */
static size_t bytes_max(const struct ipc_request *request)
{
    return (size_t)request->connection->server->limits.output_bytes_max / 2;
}

/* ---- Output ------------------------------------------------------------------------------------------------------- */

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

/* ---- Reading ------------------------------------------------------------------------------------------------------ */

static void take_item(struct ipc_request *request, const void *record)
{
    struct listing *listing = &request->listing;
    const struct method *method = request->method;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &listing->items, buffer_write);
    codec_encode_wire(method->command->answer, record, &packer);
    listing->items_count++;
    listing->step_count++;
    listing->count++;
    listing->left--;
    if (is_events(request))
        listing->next_sequence = ((const struct reeve_event *)record)->sequence + 1;
    else if (method->id_offset != METHOD_NO_FIELD)
        memcpy(&listing->last_id, (const char *)record + method->id_offset, sizeof listing->last_id);
}

static bool on_item(void *arg, const void *record)
{
    struct ipc_request *request = arg;
    struct listing *listing = &request->listing;
    take_item(request, record);
    if (listing->items.failed || listing->left == 0)
        return false;
    if (!listing->stream) {
        listing->full = listing->items.size >= bytes_max(request);
        return !listing->full;
    }
    if (listing->items.size < LISTING_STEP_BYTES)
        return true;
    listing->cut = is_paged(request);
    if (listing->cut)
        return false;
    send_items(request);
    listing->full = connection_unread(request->connection) >= bytes_max(request);
    return !listing->full;
}

static uint64_t *param_u64(struct ipc_request *request, size_t offset)
{
    return (uint64_t *)(void *)((char *)&request->base.params + offset);
}

/* Ask for the next piece only. Returns how many items that may have; 0: any number. */
static uint64_t aim(struct ipc_request *request)
{
    struct listing *listing = &request->listing;
    const struct method *method = request->method;
    if (!is_paged(request))
        return 0;
    const uint64_t wanted = listing->left < LISTING_STEP_ITEMS ? listing->left : LISTING_STEP_ITEMS;
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
    listing->step_count = 0;
    listing->cut = false;
    if (reeve_read(engine, &request->base, on_item, request, error) < 0)
        return true;
    *error = (struct reeve_error){0};
    if (listing->full || listing->cut || (wanted > 0 && listing->step_count == wanted))
        return listing->full || listing->left == 0;
    /* All there was: events up to `newest` were looked at, even where none of them was wanted. */
    listing->left_over = false;
    if (newest >= listing->next_sequence)
        listing->next_sequence = newest + 1;
    return true;
}

void listing_step(struct ipc_connection *connection)
{
    struct ipc_request *request = first_listing(connection);
    struct listing *listing = &request->listing;
    struct reeve_error error = {0};
    const bool end = read_piece(request, &error);
    if (error.code == REEVE_OK && listing->full && !is_paged(request))
        rpc_error_set(&error, REEVE_ERROR_TOO_LARGE, "", "more than %llu items; ask for less",
                      (unsigned long long)listing->count);
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

void listing_start(struct ipc_request *request, bool stream)
{
    struct ipc_connection *connection = request->connection;
    const struct method *method = request->method;
    struct listing *listing = &request->listing;
    *listing = (struct listing){.stream = stream, .left_over = true};
    link_init(&listing->link);
    if (method->limit_offset != METHOD_NO_FIELD)
        listing->left = *param_u64(request, method->limit_offset);
    if (listing->left == 0)
        listing->left = stream || !is_paged(request) ? UINT64_MAX : LISTING_PAGE_DEFAULT;
    if (is_events(request))
        listing->next_sequence = *param_u64(request, method->from_offset);
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
        connection_unread(connection) < server->limits.output_pause_bytes)
        link_append(&server->listings, &connection->in_listings);
}

void listing_drop_all(struct ipc_connection *connection)
{
    while (link_used(&connection->listings)) {
        struct ipc_request *request = first_listing(connection);
        release(request);
        request_finish(request);
    }
}
