#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/scan.h"
#include "frontends/ipc/rpc.h"
#include "frontends/ipc/socket.h"

#define CLIENT_READ_BYTES 65536
#define CLIENT_FLUSH_BYTES 65536
#define CLIENT_ZONE_BYTES 8192

/* What has arrived stands in `in` from in_start on, message behind message. What call() passes over moves to `kept`. */
struct ipc_client {
    int fd;
    uint32_t next_id;
    struct buffer out;
    size_t out_start;
    struct buffer in;
    size_t in_start;
    struct scan scan; /* of the message at in_start */
    struct buffer kept;
    size_t kept_start;
    struct buffer shown; /* bytes of the message that the caller has, where it came from `kept` */
    msgpack_zone zone;   /* its objects */
    bool eof;
    struct reeve_error error;
    struct reeve_error told; /* the last error notification: why the server closes the connection */
};

/* ---- Opening and closing ---- */

static int connect_socket(const struct sockaddr_un *address, int *ret_fd)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int r;
    do {
        r = connect(fd, (const struct sockaddr *)address, sizeof *address);
    } while (r < 0 && errno == EINTR);
    if (r < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int ipc_client_connect(const char *socket_path, struct ipc_client **ret, struct reeve_error *ret_error)
{
    struct sockaddr_un address;
    int fd = -1;
    *ret = NULL;
    int r = socket_address(socket_path, &address, ret_error);
    if (r < 0)
        return r;
    r = connect_socket(&address, &fd);
    if (r < 0)
        return rpc_error_set(ret_error, REEVE_ERROR_UNAVAILABLE, "socket", "cannot connect to %s: %s", socket_path,
                             r == -ECONNREFUSED ? "no server is listening" : strerror(-r));
    struct ipc_client *client = calloc(1, sizeof *client);
    if (!client || !msgpack_zone_init(&client->zone, CLIENT_ZONE_BYTES)) {
        free(client);
        close(fd);
        return rpc_error_set(ret_error, REEVE_ERROR_NO_MEMORY, "", "out of memory");
    }
    client->fd = fd;
    scan_init(&client->scan, 0);
    *ret = client;
    return 0;
}

void ipc_client_close(struct ipc_client *client)
{
    if (!client)
        return;
    close(client->fd);
    buffer_deinit(&client->out);
    buffer_deinit(&client->in);
    buffer_deinit(&client->kept);
    buffer_deinit(&client->shown);
    msgpack_zone_destroy(&client->zone);
    free(client);
}

int ipc_client_fd(const struct ipc_client *client)
{
    return client->fd;
}

const struct reeve_error *ipc_client_error(const struct ipc_client *client)
{
    return &client->error;
}

static int no_memory(struct ipc_client *client)
{
    return rpc_error_set(&client->error, REEVE_ERROR_NO_MEMORY, "", "out of memory");
}

/* The connection is over; what the server said before it closed is the better reason. */
static int disconnected(struct ipc_client *client, const char *why)
{
    client->eof = true;
    if (client->told.code != REEVE_OK) {
        client->error = client->told;
        return -(int)client->error.code;
    }
    return rpc_error_set(&client->error, REEVE_ERROR_UNAVAILABLE, "", "the server has closed the connection%s%s",
                         why ? ": " : "", why ? why : "");
}

/* ---- Bytes in and out ---- */

/* Make room behind what is there; messages that were handed out are dropped first. */
static char *read_room(struct ipc_client *client, size_t *ret_size)
{
    struct buffer *in = &client->in;
    if (client->in_start > 0 && (client->in_start == in->size || client->in_start >= CLIENT_READ_BYTES)) {
        in->size -= client->in_start;
        memmove(in->data, in->data + client->in_start, in->size);
        client->in_start = 0;
    }
    char *room = buffer_reserve(in, CLIENT_READ_BYTES);
    *ret_size = room ? in->capacity - in->size : 0;
    return room;
}

/* Read what is there; nothing there is fine. */
static int read_some(struct ipc_client *client)
{
    size_t size;
    char *room = read_room(client, &size);
    if (!room)
        return no_memory(client);
    const ssize_t n = recv(client->fd, room, size, MSG_DONTWAIT);
    if (n == 0) {
        client->eof = true;
        return 0;
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return 0;
        return disconnected(client, strerror(errno));
    }
    client->in.size += (size_t)n;
    return 0;
}

/* Write what the socket takes. A server that has closed may have said why: the caller reads on. */
static int write_some(struct ipc_client *client)
{
    const size_t size = client->out.size - client->out_start;
    const ssize_t n = size ? send(client->fd, client->out.data + client->out_start, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                           : 0;
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        if (errno != EPIPE && errno != ECONNRESET)
            return disconnected(client, strerror(errno));
        client->out_start = client->out.size; /* nobody will ever read it */
    }
    if (n > 0)
        client->out_start += (size_t)n;
    if (client->out_start == client->out.size) {
        buffer_reset(&client->out);
        client->out_start = 0;
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until something can be read or, where there is something to write, written; then do that. `until` < 0: without
 * limit. */
static int wait_some(struct ipc_client *client, int64_t until)
{
    const bool writes = client->out.size > client->out_start;
    struct pollfd item = {.fd = client->fd, .events = (short)(writes ? POLLIN | POLLOUT : POLLIN)};
    int timeout = -1;
    if (until >= 0) {
        const int64_t left = until - now_ms();
        timeout = left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
    }
    const int r = poll(&item, 1, timeout);
    if (r < 0 && errno != EINTR)
        return rpc_error_set(&client->error, REEVE_ERROR_INTERNAL, "", "poll: %s", strerror(errno));
    if (r <= 0)
        return 0;
    if (writes && item.revents & POLLOUT) {
        const int written = write_some(client);
        if (written < 0)
            return written;
    }
    return item.revents & (POLLIN | POLLHUP | POLLERR) ? read_some(client) : 0;
}

/* ---- Messages ---- */

int ipc_client_send(struct ipc_client *client, const char *method, const void *params, size_t size, uint32_t *ret_id)
{
    msgpack_packer packer;
    const uint32_t id = client->next_id++;
    msgpack_packer_init(&packer, &client->out, buffer_write);
    rpc_pack_request(&packer, id, method);
    msgpack_pack_array(&packer, size ? 1 : 0);
    buffer_append(&client->out, params, size);
    if (client->out.failed)
        return no_memory(client);
    if (ret_id)
        *ret_id = id;
    return client->out.size - client->out_start >= CLIENT_FLUSH_BYTES ? write_some(client) : 0;
}

int ipc_client_flush(struct ipc_client *client)
{
    int r = write_some(client);
    while (r == 0 && client->out.size > client->out_start) {
        r = wait_some(client, -1);
        if (r == 0 && client->eof)
            return disconnected(client, NULL);
    }
    return r;
}

/* The body of a notification is the map in its params. */
static int take_apart(struct ipc_client *client, const char *data, size_t size, struct ipc_message *ret_message)
{
    size_t offset = 0;
    msgpack_object object;
    struct rpc_message message;
    msgpack_zone_clear(&client->zone);
    if (msgpack_unpack(data, size, &offset, &client->zone, &object) != MSGPACK_UNPACK_SUCCESS)
        return rpc_error_set(&client->error, REEVE_ERROR_INTERNAL, "", "the server sent what is no MessagePack");
    const char *wrong = rpc_parse(&object, &message);
    if (wrong || message.kind == RPC_REQUEST)
        return rpc_error_set(&client->error, REEVE_ERROR_INTERNAL, "", "the server sent a message of no use: %s",
                             wrong ? wrong : "a request");
    *ret_message = (struct ipc_message){.is_notification = message.kind == RPC_NOTIFICATION,
                                        .id = message.id,
                                        .method = message.method,
                                        .is_error = message.error != NULL};
    if (message.kind == RPC_RESPONSE) {
        ret_message->body = message.error ? *message.error : *message.result;
        return 0;
    }
    const msgpack_object *map = NULL;
    if (!rpc_params_map(message.params, &map) || !map)
        return rpc_error_set(&client->error, REEVE_ERROR_INTERNAL, "", "the server sent a notification without a map");
    ret_message->body = *map;
    static const char error_method[] = "error";
    if (bytes_equal(message.method.data, message.method.size, error_method, sizeof error_method - 1))
        ipc_error_decode(map, &client->told);
    return 0;
}

/* The next message that has arrived, as bytes that stay until more is read. Returns 1, 0 where there is none. */
static int next_arrived(struct ipc_client *client, const char **ret_data, size_t *ret_size)
{
    const size_t size = client->in.size - client->in_start;
    if (size == 0)
        return 0;
    const char *data = client->in.data + client->in_start;
    const enum scan_status status = scan_step(&client->scan, data, size);
    if (status == SCAN_MORE)
        return 0;
    if (status != SCAN_COMPLETE)
        return rpc_error_set(&client->error, REEVE_ERROR_INTERNAL, "", "the server sent what is no MessagePack");
    *ret_data = data;
    *ret_size = client->scan.offset;
    client->in_start += client->scan.offset;
    scan_init(&client->scan, 0);
    return 1;
}

/* The same for what call() has passed over. Keeping more may move the bytes, so they are copied out. */
static bool next_kept(struct ipc_client *client, const char **ret_data, size_t *ret_size)
{
    if (client->kept_start == client->kept.size)
        return false;
    const char *data = client->kept.data + client->kept_start;
    struct scan scan;
    scan_init(&scan, 0);
    scan_step(&scan, data, client->kept.size - client->kept_start);
    *ret_size = scan.offset;
    buffer_reset(&client->shown);
    buffer_append(&client->shown, data, *ret_size);
    *ret_data = client->shown.data;
    client->kept_start += *ret_size;
    if (client->kept_start == client->kept.size) {
        buffer_reset(&client->kept);
        client->kept_start = 0;
    }
    return true;
}

/* Wait for the next message to arrive. What is to be sent leaves only before there is need to wait: many at once. */
static int receive_arrived(struct ipc_client *client, int64_t until, const char **ret_data, size_t *ret_size)
{
    for (bool late = false;; late = until >= 0 && now_ms() >= until) {
        int r = next_arrived(client, ret_data, ret_size);
        if (r != 0)
            return r < 0 ? r : 0;
        if (client->eof)
            return disconnected(client, NULL);
        if (late)
            return rpc_error_set(&client->error, REEVE_ERROR_BUSY, "", "nothing came in time");
        r = write_some(client);
        if (r == 0)
            r = wait_some(client, until);
        if (r < 0)
            return r;
    }
}

int ipc_client_receive(struct ipc_client *client, int timeout_ms, struct ipc_message *ret_message)
{
    const char *data;
    size_t size;
    const int64_t until = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
    if (next_kept(client, &data, &size)) {
        if (client->shown.failed)
            return no_memory(client);
    } else {
        const int r = receive_arrived(client, until, &data, &size);
        if (r < 0)
            return r;
    }
    return take_apart(client, data, size, ret_message);
}

int ipc_client_call(struct ipc_client *client, const char *method, const void *params, size_t size,
                    struct ipc_message *ret_message)
{
    uint32_t id;
    int r = ipc_client_send(client, method, params, size, &id);
    while (r == 0) {
        const char *data;
        size_t data_size;
        r = receive_arrived(client, -1, &data, &data_size);
        if (r == 0)
            r = take_apart(client, data, data_size, ret_message);
        if (r < 0 || (!ret_message->is_notification && ret_message->id == id))
            break;
        buffer_append(&client->kept, data, data_size);
        if (client->kept.failed)
            r = no_memory(client);
    }
    return r;
}

/* ---- Maps ---- */

const msgpack_object *ipc_map_get(const msgpack_object *map, const char *key)
{
    if (!map || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    const size_t size = strlen(key);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (pair->key.type == MSGPACK_OBJECT_STR &&
            bytes_equal(pair->key.via.str.ptr, pair->key.via.str.size, key, size))
            return &pair->val;
    }
    return NULL;
}

static bool is_text(const msgpack_object *object, const char *text)
{
    return object->type == MSGPACK_OBJECT_STR &&
           bytes_equal(object->via.str.ptr, object->via.str.size, text, strlen(text));
}

static enum reeve_error_code decode_code(const msgpack_object *code)
{
    if (code) {
#define ERROR(id, number, name, http, retryable, text)                                                                 \
    if (is_text(code, name))                                                                                           \
        return REEVE_ERROR_##id;
#include "errors.def"
    }
    return REEVE_ERROR_INTERNAL;
}

static void decode_text(const msgpack_object *text, char *ret_text, size_t size_max)
{
    if (!text || text->type != MSGPACK_OBJECT_STR)
        return;
    const size_t size = utf8_cut(text->via.str.ptr, text->via.str.size, size_max - 1);
    memcpy(ret_text, text->via.str.ptr, size);
    ret_text[size] = '\0';
}

/* The commands that a state allows, by their short names. */
static uint64_t decode_allowed(const msgpack_object *allowed)
{
    uint64_t mask = 0;
    struct reeve_error one = {.code = REEVE_ERROR_CONFLICT};
    if (!allowed || allowed->type != MSGPACK_OBJECT_ARRAY)
        return 0;
    for (int command = 0; command < 64; command++) {
        one.allowed = UINT64_C(1) << command;
        const char *name = reeve_allowed_name(&one, 0);
        for (uint32_t i = 0; name && i < allowed->via.array.size; i++) {
            if (is_text(&allowed->via.array.ptr[i], name))
                mask |= one.allowed;
        }
    }
    return mask;
}

void ipc_error_decode(const msgpack_object *body, struct reeve_error *ret_error)
{
    *ret_error = (struct reeve_error){.code = decode_code(ipc_map_get(body, "code"))};
    decode_text(ipc_map_get(body, "message"), ret_error->message, sizeof ret_error->message);
    decode_text(ipc_map_get(body, "field"), ret_error->field, sizeof ret_error->field);
    const msgpack_object *details = ipc_map_get(body, "details");
    const msgpack_object *state = ipc_map_get(details, "state");
    const msgpack_object *resume = ipc_map_get(details, "resume");
    if (state && state->type == MSGPACK_OBJECT_STR)
        ret_error->state = reeve_service_state_parse(state->via.str.ptr, state->via.str.size);
    if (resume && resume->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        ret_error->resume_sequence = resume->via.u64;
    ret_error->allowed = decode_allowed(ipc_map_get(details, "allowed"));
}
