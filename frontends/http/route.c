#include "route.h"

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

/* ---- The templates, cut at their slashes once ---- */

struct template_segment {
    const char *text;
    size_t size;
    bool is_param;
};

static struct {
    unsigned count;
    struct template_segment segments[ROUTE_SEGMENTS_MAX];
} templates[ROUTE_COUNT];

void route_init(void)
{
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        templates[i].count = 0;
        for (const char *at = http_routes[i].path; *at == '/';) {
            struct template_segment *segment = &templates[i].segments[templates[i].count++];
            *segment = (struct template_segment){at + 1, strcspn(at + 1, "/"), at[1] == '{'};
            at = segment->text + segment->size;
        }
    }
}

static bool matches(size_t route, const struct route_path *path)
{
    if (templates[route].count != path->count)
        return false;
    for (unsigned i = path->count; i-- > 0;) { /* they differ at their ends */
        const struct template_segment *segment = &templates[route].segments[i];
        if (segment->is_param
                ? path->segments[i].size == 0
                : !bytes_equal(segment->text, segment->size, path->segments[i].data, path->segments[i].size))
            return false;
    }
    return true;
}

static void take_params(size_t route, const struct route_path *path, struct route_match *match)
{
    for (unsigned i = 0; i < path->count; i++) {
        const struct template_segment *segment = &templates[route].segments[i];
        if (!segment->is_param)
            continue;
        struct route_param *param = &match->params[match->params_count++];
        const size_t size = segment->size - 2; /* without the braces */
        memcpy(param->name, segment->text + 1, size);
        param->name[size] = '\0';
        param->value = path->segments[i];
    }
}

void route_find(const struct route_path *path, unsigned method, struct route_match *ret_match)
{
    *ret_match = (struct route_match){0};
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (!matches(i, path))
            continue;
        ret_match->methods |= http_routes[i].method;
        if (http_routes[i].method != method)
            continue;
        ret_match->route = &http_routes[i];
        take_params(i, path, ret_match);
        if (method == METHOD_GET) /* the others only matter to those who ask in vain */
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
