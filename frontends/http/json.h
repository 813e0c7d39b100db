/* JSON out: text appended to a buffer, as fast as records are read. JSON in is jansson's: what strangers send is not
 * for a parser of our own; what we send is a walk over tables. */
#ifndef REEVE_HTTP_JSON_H
#define REEVE_HTTP_JSON_H

#include <msgpack.h>

#include "base/arena.h"
#include "base/buffer.h"

struct json_t;

void json_put_text(struct buffer *out, const char *text); /* as it is */
/* The same, formatted; at most 1023 bytes. */
__attribute__((format(printf, 2, 3))) void json_put_format(struct buffer *out, const char *format, ...);
void json_put_string(struct buffer *out, const char *data, size_t size);
void json_put_u64(struct buffer *out, uint64_t number);
/* `"name":`, with a comma in front unless `first`. */
void json_put_name(struct buffer *out, const char *name, bool first);

#define JSON_DEPTH_MAX 24

/* The same value as a MessagePack object in the arena; strings point into `json`. False: out of memory, or deeper than
 * JSON_DEPTH_MAX. */
struct json_converted {
    bool too_deep;
    msgpack_object object;
};
bool json_convert(const struct json_t *json, struct arena *arena, struct json_converted *ret_converted);

#endif
