/* Parameters of commands as they come from the wires: refused with a reason, or read; and what was read is written and
 * read as the same. The first byte picks the command, the second whether unknown fields are refused. */
#include <msgpack.h>
#include <string.h>

#include "base/bytes.h"
#include "base/scan.h"
#include "codec.h"
#include "fuzz.h"

static int unpack(const struct command_type *command, const void *data, size_t size, enum codec_unknown unknown,
                  struct arena *arena, msgpack_zone *zone, union reeve_params *ret_params)
{
    struct reeve_meta_params meta = {0};
    struct reeve_error error = {0};
    msgpack_object object;
    size_t offset = 0;
    if (msgpack_unpack(data, size, &offset, zone, &object) != MSGPACK_UNPACK_SUCCESS || offset != size)
        return -1;
    memset(ret_params, 0, sizeof *ret_params);
    const int r = codec_decode_request(command, &object, unknown, arena, ret_params, &meta, &error);
    fuzz_require(r <= 0 && (r == 0) == (error.code == 0), "a refusal without a code, or a code without a refusal");
    fuzz_require(r == 0 || error.message[0], "a refusal without a reason");
    fuzz_require(memchr(error.message, 0, sizeof error.message) && memchr(error.field, 0, sizeof error.field) &&
                     utf8_valid(error.message, strlen(error.message)),
                 "a reason that is no text");
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static union reeve_params params, again;
    struct arena arena;
    struct buffer first = {0}, second = {0};
    struct scan scan;
    msgpack_zone zone;
    if (size < 3)
        return 0;
    const struct command_type *command = &schema_commands[data[0] % schema_commands_count];
    const enum codec_unknown unknown = data[1] % 2 ? CODEC_UNKNOWN_REFUSE : CODEC_UNKNOWN_IGNORE;
    scan_init(&scan, 65536);
    if (scan_step(&scan, data + 2, size - 2) != SCAN_COMPLETE || scan.offset != size - 2)
        return 0;
    arena_init(&arena, 4096);
    msgpack_zone_init(&zone, 4096);
    void *copy = arena_copy(&arena, data + 2, size - 2);
    if (copy && unpack(command, copy, size - 2, unknown, &arena, &zone, &params) == 0) {
        codec_encode_params(command->params, &params, &first);
        fuzz_require(unpack(command, first.data, first.size, CODEC_UNKNOWN_REFUSE, &arena, &zone, &again) == 0,
                     "what was written is refused");
        codec_encode_params(command->params, &again, &second);
        fuzz_require(first.size == second.size && memcmp(first.data, second.data, first.size) == 0,
                     "written, read and written again it is something else");
    }
    msgpack_zone_destroy(&zone);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_deinit(&arena);
    return 0;
}
