/* Records as JSON, as each dialect shows them: the rows of schemas/views.def. */
#ifndef REEVE_HTTP_VIEW_H
#define REEVE_HTTP_VIEW_H

#include "base/buffer.h"
#include "frontends/http/server.h"

/* Read the table; once, before any other. False: out of memory. */
bool view_init(void);
/* The names that a record is shown with, as a loop: false when there are no more. `field` is NULL where the value is
 * always the same; `is_list` where it stands in a list of its own. */
struct view_name {
    const char *name;
    const struct field *field;
    bool is_list, always;
};
bool view_name_at(enum http_dialect dialect, const struct record_type *type, unsigned index,
                  struct view_name *ret_name);

void view_put(struct buffer *out, enum http_dialect dialect, const struct record_type *type, const void *record);

#endif
