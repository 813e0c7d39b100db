#include "request.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "codec.h"
#include "frontends/ipc/connection.h"
#include "frontends/ipc/listing.h"
#include "frontends/ipc/local.h"
#include "frontends/ipc/rpc.h"
#include "frontends/ipc/watching.h"
#include "frontends/ipc/working.h"

#define REQUEST_ARENA_BYTES 1024
#define REQUEST_LARGE_BYTES 512 /* of longer messages the memory is not kept */
#define REQUEST_NAME_SHOWN_MAX 64

/* ---- Memory ---- */

static struct ipc_request *request_new(struct ipc_connection *connection)
{
    struct ipc_server *server = connection->server;
    struct ipc_request *request = server->spare_requests;
    if (request) {
        server->spare_requests = request->next_spare;
        server->spare_requests_count--;
    } else {
        request = malloc(sizeof *request);
        if (!request)
            return NULL;
        arena_init(&request->arena, REQUEST_ARENA_BYTES);
    }
    request->connection = connection;
    request->large = false;
    return request;
}

static void request_free(struct ipc_request *request)
{
    struct ipc_server *server = request->connection->server;
    if (request->large) {
        arena_deinit(&request->arena);
        arena_init(&request->arena, REQUEST_ARENA_BYTES);
    }
    if (server->spare_requests_count == SERVER_SPARE_REQUESTS_MAX) {
        arena_deinit(&request->arena);
        free(request);
        return;
    }
    arena_reset(&request->arena);
    request->next_spare = server->spare_requests;
    server->spare_requests = request;
    server->spare_requests_count++;
}

void request_free_spare(struct ipc_server *server)
{
    struct ipc_request *next;
    for (struct ipc_request *request = server->spare_requests; request; request = next) {
        next = request->next_spare;
        arena_deinit(&request->arena);
        free(request);
    }
    server->spare_requests = NULL;
    server->spare_requests_count = 0;
}

/* ---- Answers ---- */

struct buffer *request_answer(struct ipc_request *request)
{
    if (request->connection->state == CONNECTION_CLOSED)
        return NULL;
    struct buffer *out = connection_out(request->connection);
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, buffer_write);
    rpc_pack_result(&packer, request->id);
    return out;
}

void request_finish(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    request_free(request);
    connection_request_done(connection);
}

void request_refuse(struct ipc_request *request, const struct reeve_error *error)
{
    struct ipc_connection *connection = request->connection;
    connection->server->stats.errors++;
    if (connection->state != CONNECTION_CLOSED) {
        msgpack_packer packer;
        msgpack_packer_init(&packer, connection_out(connection), buffer_write);
        rpc_pack_error(&packer, request->id, error);
    }
    request_finish(request);
}

/* ---- Commands ---- */

struct reading {
    struct buffer *out;
    const struct record_type *type;
    bool done;
};

static bool on_record(void *arg, const void *record)
{
    struct reading *reading = arg;
    codec_encode_wire(reading->type, record, reading->out);
    reading->done = true;
    return false;
}

/* The record is encoded right behind the head of the answer, which is taken back where there is no record. */
static void read_one(struct ipc_request *request)
{
    struct buffer *out = &request->connection->out.bytes;
    const size_t before = out->size;
    struct reeve_error error;
    struct reading reading = {.out = request_answer(request), .type = request->method->command->answer};
    const int r = reeve_read(request->connection->server->engine, &request->base, on_record, &reading, &error);
    if (r == 0 && reading.done) {
        request_finish(request);
        return;
    }
    out->size = before;
    if (r == 0)
        rpc_error_set(&error, REEVE_ERROR_INTERNAL, "", "the engine answered nothing");
    request_refuse(request, &error);
}

static void on_done(struct reeve_request *base, const struct reeve_result *result)
{
    struct ipc_request *request = (struct ipc_request *)base;
    if (result->error.code != REEVE_OK) {
        request_refuse(request, &result->error);
        return;
    }
    struct buffer *out = request_answer(request);
    if (out)
        codec_encode_wire(request->method->command->answer, &result->answer, out);
    request_finish(request);
}

static void submit(struct ipc_request *request)
{
    struct ipc_connection *connection = request->connection;
    request->base.actor = reeve_str(connection->actor);
    request->base.on_done = on_done;
    connection->commanded_ms = uv_now(connection->server->loop);
    const int r = reeve_submit(connection->server->client, &request->base);
    if (r < 0) {
        struct reeve_error error;
        rpc_error_set(&error, (enum reeve_error_code)(-r), "", "%s", reeve_error_text(r));
        request_refuse(request, &error);
    }
}

static void run_command(struct ipc_request *request, bool stream)
{
    switch (request->method->command->mode) {
    case REEVE_MODE_WRITE:
    case REEVE_MODE_CHANGE:
        submit(request);
        return;
    case REEVE_MODE_READ:
        read_one(request);
        return;
    case REEVE_MODE_LIST:
        listing_start(request, stream);
        return;
    }
}

static void run(struct ipc_request *request, bool stream)
{
    switch (request->method->local) {
    case METHOD_COMMAND:
        run_command(request, stream);
        return;
    case METHOD_HELLO:
        local_hello(request);
        return;
    case METHOD_STATS:
        local_stats(request);
        return;
    case METHOD_OPERATION_LOG:
        local_operation_log(request);
        return;
    case METHOD_SNAPSHOT:
        local_snapshot(request);
        return;
    case METHOD_CHECK:
        local_check(request);
        return;
    case METHOD_EVENT_WATCH:
        watching_start(request);
        return;
    case METHOD_EVENT_UNWATCH:
        watching_stop(request);
        return;
    case METHOD_WORKER_SUBSCRIBE:
        working_start(request);
        return;
    case METHOD_WORKER_UNSUBSCRIBE:
        working_stop(request);
        return;
    case METHOD_WORKER_PROGRESS:
        working_progress(request);
        return;
    case METHOD_WORKER_FINISH:
        working_finish(request);
        return;
    }
}

/* ---- Messages ---- */

/* `stream` belongs to this frontend: take it out of the map, so that the codec, which refuses what it does not know,
 * need not know it. */
static bool take_stream(const msgpack_object *map, bool *ret_stream, struct reeve_error *error)
{
    static const char name[] = "stream";
    *ret_stream = false;
    if (!map)
        return true;
    msgpack_object_map *pairs = (msgpack_object_map *)&map->via.map;
    for (uint32_t i = 0; i < pairs->size; i++) {
        const msgpack_object *key = &pairs->ptr[i].key;
        if (key->type != MSGPACK_OBJECT_STR || !bytes_equal(key->via.str.ptr, key->via.str.size, name, sizeof name - 1))
            continue;
        if (pairs->ptr[i].val.type != MSGPACK_OBJECT_BOOLEAN) {
            rpc_error_set(error, REEVE_ERROR_BAD_REQUEST, name, "must be true or false");
            return false;
        }
        *ret_stream = pairs->ptr[i].val.via.boolean;
        pairs->ptr[i] = pairs->ptr[--pairs->size];
        return true;
    }
    return true;
}

static void unknown_method(const struct reeve_str *name, struct reeve_error *error)
{
    if (utf8_valid(name->data, name->size))
        rpc_error_set(error, REEVE_ERROR_UNKNOWN_METHOD, "", "there is no method '%.*s'; hello lists them",
                      (int)utf8_cut(name->data, name->size, REQUEST_NAME_SHOWN_MAX), name->data);
    else
        rpc_error_set(error, REEVE_ERROR_UNKNOWN_METHOD, "", "the name of the method is not text; hello lists them");
}

/* Fill request->base. */
static bool decode(struct ipc_request *request, const struct rpc_message *message, bool *ret_stream,
                   struct reeve_error *error)
{
    const msgpack_object *map;
    *ret_stream = false;
    request->method = method_find(&request->connection->server->methods, message->method.data, message->method.size);
    if (!request->method) {
        unknown_method(&message->method, error);
        return false;
    }
    if (!rpc_params_map(message->params, &map)) {
        rpc_error_set(error, REEVE_ERROR_BAD_REQUEST, "params", "must be an array of one map, or empty");
        return false;
    }
    const struct command_type *command = request->method->command;
    if (command->mode == REEVE_MODE_LIST && !take_stream(map, ret_stream, error))
        return false;
    memset(&request->base, 0, sizeof request->base);
    request->base.command = command->id;
    return codec_decode_request(command, map, CODEC_UNKNOWN_REFUSE, &request->arena, &request->base.params,
                                &request->base.meta, error) == 0;
}

static void receive_request(struct ipc_request *request, const struct rpc_message *message)
{
    struct ipc_connection *connection = request->connection;
    struct ipc_server *server = connection->server;
    struct reeve_error error;
    bool stream;
    request->id = message->id;
    connection->requests++;
    server->stats.requests++;
    server->stats.requests_now++;
    if (decode(request, message, &stream, &error))
        run(request, stream);
    else
        request_refuse(request, &error);
}

/* A notification cannot be answered, so it cannot be refused either: say so, in kind. */
static void receive_notification(struct ipc_request *request)
{
    struct reeve_error error;
    msgpack_packer packer;
    rpc_error_set(&error, REEVE_ERROR_BAD_REQUEST, "", "notifications are not taken; send a request");
    msgpack_packer_init(&packer, connection_out(request->connection), buffer_write);
    rpc_pack_error_notification(&packer, &error);
    request_free(request);
}

/* Returns what is wrong; NULL when the message was worked off. What is decoded points into the bytes. */
static const char *receive(struct ipc_request *request, const char *bytes, size_t size)
{
    msgpack_zone *zone = &request->connection->server->zone;
    msgpack_object object;
    struct rpc_message message;
    size_t offset = 0;
    request->large = size > REQUEST_LARGE_BYTES;
    msgpack_zone_clear(zone);
    if (msgpack_unpack(bytes, size, &offset, zone, &object) != MSGPACK_UNPACK_SUCCESS)
        return "this is not MessagePack";
    const char *wrong = rpc_parse(&object, &message);
    if (wrong)
        return wrong;
    switch (message.kind) {
    case RPC_REQUEST:
        receive_request(request, &message);
        return NULL;
    case RPC_NOTIFICATION:
        receive_notification(request);
        return NULL;
    case RPC_RESPONSE:
        break;
    }
    return "a response came, but nothing was asked";
}

bool request_receive(struct ipc_connection *connection, const char *data, size_t size, struct reeve_error *ret_error)
{
    struct ipc_request *request = request_new(connection);
    const char *bytes = request ? arena_copy(&request->arena, data, size) : NULL;
    const char *wrong = bytes ? receive(request, bytes, size) : NULL;
    if (bytes && !wrong)
        return true;
    if (request)
        request_free(request);
    if (wrong)
        rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "", "not MessagePack-RPC: %s", wrong);
    else
        rpc_error_set(ret_error, REEVE_ERROR_NO_MEMORY, "", "out of memory");
    return false;
}
