/* The HTTP API as documents: OpenAPI 3.1 in JSON, and a page to read. Both follow from the tables alone. */
#ifndef REEVE_HTTP_DOCUMENT_H
#define REEVE_HTTP_DOCUMENT_H

#include "base/buffer.h"
#include "frontends/http/server.h"

/* Replace what is in `out`; view_init() must have been called. */
void document_openapi(struct buffer *out, enum http_dialect dialect);
void document_page(struct buffer *out, enum http_dialect dialect);

#endif
