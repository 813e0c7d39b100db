/* Records as JSON, as each dialect shows them: the rows of schemas/views.def. */
#ifndef REEVE_HTTP_VIEW_H
#define REEVE_HTTP_VIEW_H

#include "base/buffer.h"
#include "frontends/http/server.h"

/* Read the table; once, before any other. False: out of memory. */
bool view_init(void);
void view_put(struct buffer *out, enum http_dialect dialect, const struct record_type *type, const void *record);

#endif
