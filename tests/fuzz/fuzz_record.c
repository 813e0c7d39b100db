/* Records as they lie in the store: whatever the bytes are, they are refused or are a record, and a record that was
 * read is written and read as the same one. The first byte picks the type. */
#include <msgpack.h>
#include <string.h>

#include "codec.h"
#include "fuzz.h"

static const char *const names[] = {"organization", "key",       "service",     "backup",
                                    "event",        "operation", "idempotency", "endpoint",
                                    "access_entry", "failure",   "progress",    "backup_configuration"};

static void check_wire(const struct record_type *type, const void *record)
{
    struct buffer wire = {0};
    msgpack_unpacked unpacked;
    codec_encode_wire(type, record, &wire);
    msgpack_unpacked_init(&unpacked);
    size_t offset = 0;
    fuzz_require(msgpack_unpack_next(&unpacked, wire.data, wire.size, &offset) == MSGPACK_UNPACK_SUCCESS &&
                     offset == wire.size && unpacked.data.type == MSGPACK_OBJECT_MAP,
                 "the wire form is no map");
    msgpack_unpacked_destroy(&unpacked);
    buffer_deinit(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _Alignas(16) static char record[65536], again[65536];
    struct arena arena;
    struct buffer first = {0}, second = {0};
    if (size == 0)
        return 0;
    const struct record_type *type = schema_record(names[data[0] % (sizeof names / sizeof names[0])], false);
    if (!type || !type->version)
        return 0;
    fuzz_require(type->size <= sizeof record, "a record is larger than expected");
    arena_init(&arena, 4096);
    /* A copy of its own size: reading past its end shows. */
    void *copy = arena_copy(&arena, data + 1, size - 1);
    memset(record, 0xa5, type->size);
    if (copy && codec_decode_stored(type, copy, size - 1, &arena, record) == 0) {
        codec_encode_stored(type, record, &first);
        fuzz_require(codec_decode_stored(type, first.data, first.size, &arena, again) == 0,
                     "what was written cannot be read");
        codec_encode_stored(type, again, &second);
        fuzz_require(first.size == second.size && memcmp(first.data, second.data, first.size) == 0,
                     "written, read and written again it is something else");
        check_wire(type, record);
    }
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_deinit(&arena);
    return 0;
}
