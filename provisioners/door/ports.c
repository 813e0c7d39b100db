/* Which public port belongs to which endpoint of which service: in memory, and in a file of each service. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "door_private.h"
#include "frontends/common/refuse.h"
#include "provisioners/exec/files.h"

#define BACKLOG 512

/* ---- Listening ---- */

/* The handle outlives the port that it was of. */
struct listener {
    uv_tcp_t tcp; /* first */
    struct door *door;
};

static void on_connection(uv_stream_t *stream, int status)
{
    if (status == 0 && stream->data)
        door_accept(stream->data);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *listener = (struct listener *)handle;
    struct door *door = listener->door;
    free(listener);
    door_handle_closed(door);
}

static void close_listener(struct door_port *port)
{
    if (!port->listener)
        return;
    port->listener->data = NULL;
    uv_close((uv_handle_t *)port->listener, on_listener_closed);
    port->listener = NULL;
}

/* False: the port is somebody else's now. */
static bool open_listener(struct door_port *port)
{
    struct door *door = port->service->door;
    struct sockaddr_storage address;
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return false;
    if (uv_ip4_addr(door->address, (int)port->port, (struct sockaddr_in *)&address) != 0)
        uv_ip6_addr(door->address, (int)port->port, (struct sockaddr_in6 *)&address);
    if (uv_tcp_init(door->loop, &listener->tcp) != 0) {
        free(listener);
        return false;
    }
    listener->door = door;
    listener->tcp.data = port;
    door->handles_open++;
    port->listener = &listener->tcp;
    if (uv_tcp_bind(&listener->tcp, (struct sockaddr *)&address, 0) == 0 &&
        uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection) == 0)
        return true;
    close_listener(port);
    return false;
}

void ports_listen(struct door_service *service)
{
    for (unsigned i = 0; i < service->ports_count; i++) {
        if (!service->ports[i].listener)
            open_listener(&service->ports[i]);
    }
}

void ports_close(struct door_service *service)
{
    for (unsigned i = 0; i < service->ports_count; i++)
        close_listener(&service->ports[i]);
}

/* ---- Files ---- */

static void file_path(const struct door_service *service, char ret_path[FILES_PATH_MAX])
{
    char id[37];
    reeve_uuid_format(&service->id, id);
    files_path(ret_path, "%s/%s.json", service->door->state_dir, id);
}

static bool write_file(const struct door_service *service)
{
    char path[FILES_PATH_MAX], organization[37];
    json_t *ports = json_array();
    reeve_uuid_format(&service->organization_id, organization);
    for (unsigned i = 0; i < service->ports_count; i++) {
        const struct door_port *port = &service->ports[i];
        json_array_append_new(ports, json_pack("{s:s, s:s, s:i, s:s, s:i}", "protocol", port->protocol, "username",
                                               port->username, "port", (int)port->port, "privateHost",
                                               port->private_host, "privatePort", (int)port->private_port));
    }
    json_t *file = json_pack("{s:i, s:s, s:o}", "door", 1, "organizationId", organization, "ports", ports);
    file_path(service, path);
    const bool written = file && files_write_json(path, file, true);
    json_decref(file);
    return written;
}

static bool read_port(const json_t *json, struct door_service *service)
{
    const char *protocol, *username, *private_host;
    int port, private_port;
    if (service->ports_count == REEVE_ENDPOINTS_MAX ||
        json_unpack((json_t *)(uintptr_t)json, "{s:s, s:s, s:i, s:s, s:i}", "protocol", &protocol, "username",
                    &username, "port", &port, "privateHost", &private_host, "privatePort", &private_port) != 0 ||
        port <= 0 || port > 65535 || private_port <= 0 || private_port > 65535)
        return false;
    struct door_port *place = &service->ports[service->ports_count++];
    *place = (struct door_port){.service = service, .port = (unsigned)port, .private_port = (unsigned)private_port};
    snprintf(place->protocol, sizeof place->protocol, "%s", protocol);
    snprintf(place->username, sizeof place->username, "%s", username);
    snprintf(place->private_host, sizeof place->private_host, "%s", private_host);
    return true;
}

/* What cannot be read is told and left where it is: nobody else may get its ports by mistake, and someone may mend it.
 */
static bool read_file(struct door *door, const char *name)
{
    char path[FILES_PATH_MAX];
    struct reeve_uuid id, organization_id;
    const char *organization;
    size_t index;
    json_t *ports, *port;
    files_path(path, "%s/%s", door->state_dir, name);
    json_t *file = strlen(name) == 41 && reeve_uuid_parse(name, 36, &id) ? files_read_json(path) : NULL;
    bool fine = file && json_unpack(file, "{s:s, s:o}", "organizationId", &organization, "ports", &ports) == 0 &&
                reeve_uuid_parse(organization, strlen(organization), &organization_id);
    struct door_service *service = fine ? service_new(door, &organization_id, &id) : NULL;
    fine = service != NULL;
    if (fine)
        json_array_foreach(ports, index, port) fine = fine && read_port(port, service);
    json_decref(file);
    if (!fine)
        door_log(door, REEVE_LOG_ERROR, "door: %s cannot be read and is passed over", path);
    if (service && !fine)
        service_free(service);
    return fine;
}

static int is_file_of_service(const struct dirent *entry)
{
    const size_t size = strlen(entry->d_name);
    return size > 5 && strcmp(entry->d_name + size - 5, ".json") == 0;
}

bool ports_read_all(struct door *door, struct reeve_error *ret_error)
{
    struct dirent **names;
    const int count = scandir(door->state_dir, &names, is_file_of_service, alphasort);
    if (count < 0) {
        refuse_field(ret_error, "door", "cannot read %.200s", door->state_dir);
        return false;
    }
    for (int i = 0; i < count; i++) {
        read_file(door, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return true;
}

/* ---- Giving out ---- */

static bool is_taken(const struct door *door, unsigned port)
{
    for (const struct link *link = door->all.next; link != &door->all; link = link->next) {
        const struct door_service *service = link_owner(link, struct door_service, in_all);
        for (unsigned i = 0; i < service->ports_count; i++) {
            if (service->ports[i].port == port)
                return true;
        }
    }
    return false;
}

/* The next free one, in turn: a port that was just given back is not somebody else's at once. */
static bool take_port(struct door_port *port)
{
    struct door *door = port->service->door;
    const unsigned count = door->port_last - door->port_first + 1;
    for (unsigned i = 0; i < count; i++) {
        const unsigned candidate = door->port_first + (door->port_next++ - door->port_first) % count;
        if (is_taken(door, candidate))
            continue;
        port->port = candidate;
        if (open_listener(port))
            return true;
        port->port = 0;
    }
    return false;
}

static struct door_port *find_port(struct door_service *service, struct reeve_str protocol)
{
    for (unsigned i = 0; i < service->ports_count; i++) {
        if (bytes_equal(service->ports[i].protocol, strlen(service->ports[i].protocol), protocol.data, protocol.size))
            return &service->ports[i];
    }
    return NULL;
}

static void copy_text(char *target, size_t size, struct reeve_str text)
{
    snprintf(target, size, "%.*s", (int)text.size, text.size ? text.data : "");
}

/* Doors of protocols that the server does not speak any more. The places of the others move, and their handles know it.
 */
static void drop_others(struct door_service *service, const struct reeve_endpoint_list *endpoints)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < service->ports_count; i++) {
        bool wanted = false;
        for (size_t j = 0; j < endpoints->count; j++)
            wanted |= find_port(service, endpoints->items[j].protocol) == &service->ports[i];
        if (!wanted) {
            close_listener(&service->ports[i]);
            continue;
        }
        service->ports[kept] = service->ports[i];
        if (service->ports[kept].listener)
            service->ports[kept].listener->data = &service->ports[kept];
        kept++;
    }
    service->ports_count = kept;
}

bool ports_assign(struct door_service *service, const struct reeve_endpoint_list *endpoints, const char **ret_problem)
{
    if (service->ports_count > 0 && service->held_count == 0 && !link_used(&service->open))
        drop_others(service, endpoints); /* connections know their port by its place */
    for (size_t i = 0; i < endpoints->count; i++) {
        const struct reeve_endpoint *endpoint = &endpoints->items[i];
        struct door_port *port = find_port(service, endpoint->protocol);
        if (!port && service->ports_count == REEVE_ENDPOINTS_MAX) {
            *ret_problem = "the service has more endpoints than a door has room for";
            return false;
        }
        if (!port) {
            port = &service->ports[service->ports_count];
            *port = (struct door_port){.service = service};
            copy_text(port->protocol, sizeof port->protocol, endpoint->protocol);
            if (!take_port(port)) {
                *ret_problem = "all ports of the door are in use";
                return false;
            }
            service->ports_count++;
        }
        copy_text(port->username, sizeof port->username, endpoint->username);
        copy_text(port->private_host, sizeof port->private_host, endpoint->host);
        port->private_port = (unsigned)endpoint->port;
    }
    if (write_file(service))
        return true;
    *ret_problem = "the ports of the door could not be written down";
    return false;
}

void ports_release(struct door_service *service)
{
    char path[FILES_PATH_MAX];
    ports_close(service);
    file_path(service, path);
    unlink(path);
    service->ports_count = 0;
}
