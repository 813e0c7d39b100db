#include "route.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define ROLE_none REEVE_ROLE_UNSET
#define ROLE_viewer REEVE_ROLE_VIEWER
#define ROLE_developer REEVE_ROLE_DEVELOPER
#define ROLE_admin REEVE_ROLE_ADMIN
#define VIEW_NONE record_type_none
#define VIEW_service record_type_service
#define VIEW_service_created record_type_service_created
#define VIEW_password record_type_password
#define VIEW_backup record_type_backup
#define VIEW_backup_configuration record_type_backup_configuration
#define VIEW_organization record_type_organization
#define VIEW_key record_type_key
#define VIEW_key_created record_type_key_created
#define VIEW_operation record_type_operation
#define VIEW_event record_type_event

const struct http_route http_routes[ROUTE_COUNT] = {
#define ROUTE(id, method, path, kind, command, role, view, plain, cloud, query, text)                                  \
    {ROUTE_##id,                                                                                                       \
     METHOD_##method,                                                                                                  \
     path,                                                                                                             \
     ROUTE_KIND_##kind,                                                                                                \
     REEVE_COMMAND_##command,                                                                                          \
     ROLE_##role,                                                                                                      \
     &VIEW_##view,                                                                                                     \
     {plain, cloud},                                                                                                   \
     query,                                                                                                            \
     #id,                                                                                                              \
     text},
#include "routes.def"
};

/* The next segment of a template; NULL at its end. */
static const char *next_segment(const char *at, size_t *ret_size)
{
    if (*at != '/')
        return NULL;
    *ret_size = strcspn(at + 1, "/");
    return at + 1;
}

static bool take_segment(const char *template, size_t size, struct reeve_str segment, struct route_match *match)
{
    if (template[0] != '{')
        return bytes_equal(template, size, segment.data, segment.size);
    if (segment.size == 0)
        return false;
    struct route_param *param = &match->params[match->params_count++];
    snprintf(param->name, sizeof param->name, "%.*s", (int)(size - 2), template + 1);
    param->value = segment;
    return true;
}

static bool matches(const struct http_route *route, const struct route_path *path, struct route_match *match)
{
    const char *at = route->path;
    size_t size;
    match->params_count = 0;
    for (unsigned i = 0; i < path->count; i++) {
        const char *segment = next_segment(at, &size);
        if (!segment || !take_segment(segment, size, path->segments[i], match))
            return false;
        at = segment + size;
    }
    return *at == '\0';
}

void route_find(const struct route_path *path, unsigned method, struct route_match *ret_match)
{
    *ret_match = (struct route_match){0};
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        struct route_match match;
        if (!matches(&http_routes[i], path, &match))
            continue;
        ret_match->methods |= http_routes[i].method;
        if (http_routes[i].method != method)
            continue;
        match.route = &http_routes[i];
        match.methods = ret_match->methods;
        *ret_match = match;
        if (method == METHOD_GET)
            return;
    }
}

const char *route_method_name(enum http_method method)
{
    switch (method) {
    case METHOD_GET:
        return "GET";
    case METHOD_POST:
        return "POST";
    case METHOD_PATCH:
        return "PATCH";
    case METHOD_DELETE:
        return "DELETE";
    }
    return "";
}

bool route_has_word(const char *list, const char *word, size_t size)
{
    while (*list) {
        const size_t length = strcspn(list, " ");
        if (bytes_equal(list, length, word, size))
            return true;
        list += length + (list[length] == ' ');
    }
    return false;
}
