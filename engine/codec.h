/* From C structs to bytes and back, driven by the tables in schema.h. Two forms:
 *
 *   stored  a MessagePack array: schema version, then the fields by tag; absent is nil, trailing absents are left out
 *   wire    a MessagePack map with the names of the API; absent fields are left out, unless the table says ALWAYS
 *
 * Decoding borrows: strings point into the bytes that were given, lists into the arena.
 */
#ifndef REEVE_CODEC_H
#define REEVE_CODEC_H

#include <msgpack.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "schema.h"

/* Append the stored form to out. */
void codec_encode_stored(const struct record_type *type, const void *record, struct buffer *out);

/* Returns 0, -STORE_VERSION (a newer version wrote it), -STORE_DAMAGED or -NO_MEMORY. */
int codec_decode_stored(const struct record_type *type, const void *data, size_t size, struct arena *arena,
                        void *ret_record);

/* Append the wire form to out. */
void codec_encode_wire(const struct record_type *type, const void *record, struct buffer *out);
/* The same, and so many more pairs follow in the same map, from the caller. */
void codec_encode_wire_with(const struct record_type *type, const void *record, unsigned more, struct buffer *out);

enum codec_unknown {
    CODEC_UNKNOWN_REFUSE, /* an unknown key is an error that names it */
    CODEC_UNKNOWN_IGNORE,
};

/* Fill the parameters of a command and its meta parameters from one map (or from nothing where `map` is NULL or nil).
 * Checks kinds, ranges, lengths, UTF-8, required fields and duplicates; ret_error names the field. */
int codec_decode_request(const struct command_type *command, const msgpack_object *map, enum codec_unknown unknown,
                         struct arena *arena, union reeve_params *ret_params, struct reeve_meta_params *ret_meta,
                         struct reeve_error *ret_error);

/* Append parameters as a map of what was given: what codec_decode_request() takes. */
void codec_encode_params(const struct record_type *type, const void *params, struct buffer *out);

/* Was this parameter given (its bit is set, or its value is not zero, false or absent)? Was null given? */
bool codec_given(const void *params, const struct field *field);
bool codec_null(const void *params, const struct field *field);
/* Is the value of this field zero, false or absent? */
bool codec_is_empty(const struct field *field, const void *record);

/* RFC 3339 in UTC; with milliseconds or without. Writes at most 25 bytes with the NUL. */
void codec_format_time(uint64_t ms, bool milliseconds, char ret_text[25]);
/* Accepts RFC 3339 with any offset and fraction. */
bool codec_parse_time(const char *text, size_t size, uint64_t *ret_ms);

#endif
