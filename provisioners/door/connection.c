/* One client and its server: held until there is one, then bytes both ways, each as fast as the slower side takes them.
 */
#include <stdlib.h>
#include <string.h>

#include "door_private.h"

#define CONNECT_RETRY_MS 50

/* ---- The end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct door_connection *connection = handle->data;
    struct door *door = connection->service->door;
    if (--connection->handles == 0) {
        struct door_service *service = connection->service;
        door->stats.connections--;
        link_remove(&connection->link);
        free(connection->in.kept);
        free(connection->out.kept);
        free(connection);
        if (service->gone)
            service_free(service);
    }
    door_handle_closed(door);
}

static void close_connection(struct door_connection *connection)
{
    struct door_service *service = connection->service;
    if (connection->phase == PHASE_CLOSED)
        return;
    if (connection->phase == PHASE_HELD) {
        service->held_count--;
        service->door->stats.held--;
        link_append(&service->open, &connection->link);
    }
    connection->phase = PHASE_CLOSED;
    uv_close((uv_handle_t *)&connection->client, on_handle_closed);
    if (connection->server_open)
        uv_close((uv_handle_t *)&connection->server, on_handle_closed);
}

/* ---- Bytes, one way ---- */

static void pump_start(struct pump *pump);

static void on_shut(uv_shutdown_t *shutdown, int status)
{
    struct pump *pump = shutdown->data;
    struct door_connection *connection = pump->connection;
    (void)status;
    if (connection->in.shut && connection->out.shut)
        close_connection(connection);
}

/* The source has ended and all of it is written: the sink is told, and may go on with its own way. */
static void pump_end(struct pump *pump)
{
    pump->shut = true;
    pump->shutdown.data = pump;
    if (uv_shutdown(&pump->shutdown, (uv_stream_t *)pump->to, on_shut) != 0)
        close_connection(pump->connection);
}

static void on_written(uv_write_t *write, int status)
{
    struct pump *pump = write->data;
    pump->writing = false;
    free(pump->kept);
    pump->kept = NULL;
    pump->kept_size = 0;
    if (pump->connection->phase == PHASE_CLOSED)
        return;
    if (status < 0)
        close_connection(pump->connection);
    else if (pump->ended)
        pump_end(pump);
    else
        pump_start(pump);
}

/* Take over bytes that are in a buffer of all. */
static bool keep(struct pump *pump, const char *data, size_t size)
{
    char *kept = realloc(pump->kept, pump->kept_size + size);
    if (!kept) {
        close_connection(pump->connection);
        return false;
    }
    memcpy(kept + pump->kept_size, data, size);
    pump->kept = kept;
    pump->kept_size += size;
    return true;
}

/* What is kept goes out when the socket takes it, and until then nothing more is read. */
static void write_kept(struct pump *pump)
{
    const uv_buf_t buffer = uv_buf_init(pump->kept, (unsigned)pump->kept_size);
    uv_read_stop((uv_stream_t *)pump->from);
    pump->writing = true;
    pump->write.data = pump;
    if (uv_write(&pump->write, (uv_stream_t *)pump->to, &buffer, 1, on_written) != 0)
        close_connection(pump->connection);
}

static void pass_on(struct pump *pump, char *data, size_t size)
{
    const uv_buf_t buffer = uv_buf_init(data, (unsigned)size);
    const int taken = uv_try_write((uv_stream_t *)pump->to, &buffer, 1);
    *pump->bytes += size;
    if (taken == (int)size)
        return;
    if (taken < 0 && taken != UV_EAGAIN) {
        close_connection(pump->connection);
        return;
    }
    const size_t done = taken > 0 ? (size_t)taken : 0;
    if (keep(pump, data + done, size - done))
        write_kept(pump);
}

static struct pump *pump_of(uv_handle_t *handle)
{
    struct door_connection *connection = handle->data;
    return handle == (uv_handle_t *)&connection->client ? &connection->in : &connection->out;
}

static void on_room(uv_handle_t *handle, size_t size, uv_buf_t *ret_buffer)
{
    const struct pump *pump = pump_of(handle);
    const bool open = pump->connection->phase == PHASE_OPEN;
    (void)size;
    *ret_buffer = uv_buf_init(pump->connection->service->door->buffer,
                              (unsigned)(open ? DOOR_BUFFER_BYTES : DOOR_HELD_BYTES - pump->kept_size));
}

static void wake(struct door_connection *connection)
{
    connection->wakes = true;
    service_wake(connection->service);
}

/* Before there is a server, the first bytes are kept, and are what wakes it. */
static void keep_first(struct pump *pump, const char *data, ssize_t size)
{
    struct door_connection *connection = pump->connection;
    if (size == UV_EOF && pump->kept_size > 0) { /* it has said all it has to say, and waits for the answer */
        pump->ended = true;
        uv_read_stop((uv_stream_t *)pump->from);
    } else if (size < 0) {
        close_connection(connection);
    } else if (size > 0 && keep(pump, data, (size_t)size)) {
        wake(connection);
        if (pump->kept_size == DOOR_HELD_BYTES)
            uv_read_stop((uv_stream_t *)pump->from);
    }
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct pump *pump = pump_of((uv_handle_t *)stream);
    struct door_connection *connection = pump->connection;
    if (connection->phase != PHASE_OPEN) {
        keep_first(pump, buffer->base, size);
    } else if (size == UV_EOF) {
        uv_read_stop(stream);
        pump->ended = true;
        if (!pump->writing)
            pump_end(pump);
    } else if (size < 0) {
        close_connection(connection);
    } else if (size > 0) {
        service_moved(connection->service);
        pass_on(pump, buffer->base, (size_t)size);
    }
}

static void pump_start(struct pump *pump)
{
    if (uv_read_start((uv_stream_t *)pump->from, on_room, on_read) != 0)
        close_connection(pump->connection);
}

/* ---- To the server ---- */

static void hold(struct door_connection *connection, uint64_t retry_ms)
{
    struct door_service *service = connection->service;
    connection->phase = PHASE_HELD;
    connection->retry_ms = retry_ms;
    link_append(&service->held, &connection->link);
    service->held_count++;
    service->door->stats.held++;
}

static void on_server_closed_for_retry(uv_handle_t *handle)
{
    struct door_connection *connection = handle->data;
    connection->handles--;
    door_handle_closed(connection->service->door);
    if (connection->phase != PHASE_CLOSED)
        return;
    connection->handles++; /* it was closed meanwhile, and is freed there */
    connection->service->door->handles_open++;
    on_handle_closed(handle);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct door_connection *connection = connect->data;
    if (connection->phase == PHASE_CLOSED)
        return;
    if (status < 0) { /* not ready yet, or just gone: tried again until the client's time is up */
        connection->server_open = false;
        uv_close((uv_handle_t *)&connection->server, on_server_closed_for_retry);
        hold(connection, uv_now(connection->service->door->loop) + CONNECT_RETRY_MS);
        return;
    }
    connection->phase = PHASE_OPEN;
    uv_tcp_nodelay(&connection->client, 1);
    uv_tcp_nodelay(&connection->server, 1);
    uv_read_stop((uv_stream_t *)&connection->client);
    pump_start(&connection->out);
    if (connection->phase != PHASE_OPEN)
        return;
    if (connection->in.kept_size > 0) {
        *connection->in.bytes += connection->in.kept_size;
        write_kept(&connection->in);
    } else {
        pump_start(&connection->in);
    }
}

static void connect_server(struct door_connection *connection)
{
    struct door_service *service = connection->service;
    struct sockaddr_storage address;
    const struct door_port *port = connection->port;
    if (connection->handles > 1)
        return; /* the handle of the last try is still being closed */
    if (connection->phase == PHASE_HELD) {
        service->held_count--;
        service->door->stats.held--;
    }
    connection->phase = PHASE_CONNECTING;
    link_append(&service->open, &connection->link);
    const bool known = uv_ip4_addr(port->private_host, (int)port->private_port, (struct sockaddr_in *)&address) == 0 ||
                       uv_ip6_addr(port->private_host, (int)port->private_port, (struct sockaddr_in6 *)&address) == 0;
    if (!known || uv_tcp_init(service->door->loop, &connection->server) != 0) {
        close_connection(connection);
        return;
    }
    connection->server.data = connection;
    connection->server_open = true;
    connection->handles++;
    service->door->handles_open++;
    connection->connect.data = connection;
    if (uv_tcp_connect(&connection->connect, &connection->server, (struct sockaddr *)&address, on_connected) != 0)
        close_connection(connection);
}

/* ---- At the door ---- */

static bool is_allowed(const struct door_service *service, const uv_tcp_t *client)
{
    struct sockaddr_storage address;
    struct network network;
    char text[64] = "";
    int size = sizeof address;
    if (uv_tcp_getpeername(client, (struct sockaddr *)&address, &size) != 0)
        return false;
    if (address.ss_family == AF_INET6)
        uv_ip6_name((struct sockaddr_in6 *)&address, text, sizeof text);
    else
        uv_ip4_name((struct sockaddr_in *)&address, text, sizeof text);
    if (!network_parse(text, strlen(text), &network))
        return false;
    for (size_t i = 0; i < service->networks_count; i++) {
        if (network_contains(&service->networks[i], &network))
            return true;
    }
    return false;
}

/* Will it be up without anybody's command, but perhaps with a byte's? */
static bool is_coming(enum reeve_service_state state)
{
    return state == REEVE_SERVICE_STATE_IDLE || state == REEVE_SERVICE_STATE_AWAKING ||
           state == REEVE_SERVICE_STATE_STARTING || state == REEVE_SERVICE_STATE_PROVISIONING;
}

static void admit(struct door_connection *connection)
{
    struct door_service *service = connection->service;
    struct door *door = service->door;
    /* The event may not have come yet of what somebody was told a moment ago. */
    if (!service_refresh(service) || !is_allowed(service, &connection->client)) {
        door->stats.denied++;
        close_connection(connection);
    } else if (door->stats.connections > door->limits.connections_max ||
               (!service_is_up(service) && !is_coming(service->state)) ||
               service->held_count >= door->limits.held_max) {
        door->stats.refused++;
        close_connection(connection);
    } else if (service_is_up(service)) {
        connect_server(connection);
    } else {
        hold(connection, 0);
        pump_start(&connection->in);
        if (strcmp(connection->port->protocol, "mysql") == 0)
            wake(connection); /* there the server speaks first */
    }
}

void door_accept(struct door_port *port)
{
    struct door_service *service = port->service;
    struct door *door = service->door;
    struct door_connection *connection = calloc(1, sizeof *connection);
    if (!connection || uv_tcp_init(door->loop, &connection->client) != 0) {
        free(connection);
        return; /* the client waits in the socket: libuv tries again with the next one */
    }
    connection->service = service;
    connection->port = port;
    connection->client.data = connection;
    connection->handles = 1;
    connection->deadline_ms = uv_now(door->loop) + door->limits.hold_ms;
    connection->phase = PHASE_CONNECTING;
    connection->in.connection = connection->out.connection = connection;
    connection->in.from = connection->out.to = &connection->client;
    connection->in.to = connection->out.from = &connection->server;
    connection->in.bytes = &door->stats.bytes_in;
    connection->out.bytes = &door->stats.bytes_out;
    link_init(&connection->link);
    link_append(&service->open, &connection->link);
    door->handles_open++;
    door->stats.connections++;
    if (uv_accept((uv_stream_t *)port->listener, (uv_stream_t *)&connection->client) != 0) {
        close_connection(connection);
        return;
    }
    door->stats.accepted++;
    admit(connection);
}

/* ---- All of a service ---- */

void door_go_on(struct door_service *service)
{
    struct link *next;
    for (struct link *link = service->held.next; link != &service->held; link = next) {
        struct door_connection *connection = link_owner(link, struct door_connection, link);
        next = link->next;
        if (service_is_up(service))
            connect_server(connection);
        else if (!is_coming(service->state))
            close_connection(connection);
    }
}

void door_tick(struct door_service *service, uint64_t now_ms)
{
    struct link *next;
    for (struct link *link = service->held.next; link != &service->held; link = next) {
        struct door_connection *connection = link_owner(link, struct door_connection, link);
        next = link->next;
        if (connection->deadline_ms <= now_ms) {
            service->door->stats.expired++;
            close_connection(connection);
        } else if (service_is_up(service) && connection->retry_ms <= now_ms) {
            connect_server(connection);
        } else if (service->state == REEVE_SERVICE_STATE_IDLE && connection->wakes) {
            service_wake(service); /* the engine had no room for the first call, or it fell asleep just then */
        }
    }
}

static void close_list(struct link *list)
{
    struct link *next;
    for (struct link *link = list->next; link != list; link = next) {
        next = link->next;
        close_connection(link_owner(link, struct door_connection, link));
    }
}

void door_disconnect(struct door_service *service)
{
    close_list(&service->held);
    close_list(&service->open);
}
