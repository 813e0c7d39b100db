/* Which endpoint a method and a path mean: the rows of schemas/routes.def. */
#ifndef REEVE_HTTP_ROUTE_H
#define REEVE_HTTP_ROUTE_H

#include "schema.h"

enum http_method {
    METHOD_GET = 1, /* HEAD is looked up as GET */
    METHOD_POST = 2,
    METHOD_PATCH = 4,
    METHOD_DELETE = 8,
};

enum route_id {
#define ROUTE(id, method, path, kind, command, role, view, plain, cloud, query, text) ROUTE_##id,
#include "routes.def"
    ROUTE_COUNT,
};

enum route_kind {
    ROUTE_KIND_COMMAND,
    ROUTE_KIND_LOCAL,
};

#define ROUTE_SEGMENTS_MAX 9 /* one more than any path has */
#define ROUTE_PARAMS_MAX 4

struct http_route {
    enum route_id id;
    enum http_method method;
    const char *path;
    enum route_kind kind;
    enum reeve_command command;
    enum reeve_role role; /* 0: no key needed */
    const struct record_type *view;
    const char *bodies[2]; /* by dialect */
    const char *query;
    const char *name, *text;
};

/* A path, cut at its slashes. */
struct route_path {
    unsigned count;
    struct reeve_str segments[ROUTE_SEGMENTS_MAX];
};

/* A segment in braces, and what stands there. */
struct route_param {
    char name[32];
    struct reeve_str value;
};

struct route_match {
    const struct http_route *route; /* NULL: no such path, or not with this method */
    unsigned methods;               /* those that the path has, as bits; 0: there is no such path */
    unsigned params_count;
    struct route_param params[ROUTE_PARAMS_MAX];
};

extern const struct http_route http_routes[ROUTE_COUNT];

/* Read the table; once, before any other. */
void route_init(void);
void route_find(const struct route_path *path, unsigned method, struct route_match *ret_match);
const char *route_method_name(enum http_method method); /* "GET" */
/* Is `word` one of the words of `list`, which are separated by spaces? */
bool route_has_word(const char *list, const char *word, size_t size);

#endif
