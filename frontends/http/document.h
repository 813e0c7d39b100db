/* The HTTP API as documents: OpenAPI 3.1 in JSON, and a page to read. Both follow from the tables alone. */
#ifndef REEVE_HTTP_DOCUMENT_H
#define REEVE_HTTP_DOCUMENT_H

#include "base/buffer.h"
#include "frontends/http/route.h"
#include "frontends/http/server.h"

/* Replace what is in `out`; view_init() must have been called. */
void document_openapi(struct buffer *out, enum http_dialect dialect);
void document_page(struct buffer *out, enum http_dialect dialect);

/* What both say of a route: the record of its parameters, NULL if there is none; is the answer a list? */
const struct record_type *document_params(const struct http_route *route);
bool document_is_list(const struct http_route *route);
/* A word of a closed set, as the dialect has it; NULL for one that is never shown. */
const char *document_word(enum http_dialect dialect, const struct field *field, unsigned index);

#endif
