/* Records there and back, for every type of the tables; damaged bytes; parameters with everything wrong with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec.h"

static const char *const stored_types[] = {"access_entry", "endpoint", "failure",     "progress",
                                           "operation",    "service",  "backup",      "organization",
                                           "key",          "event",    "idempotency", "backup_configuration"};

/* Give every stored field a value; `density` per cent of them. */
static void fill(const struct record_type *type, void *record, struct arena *arena, int density)
{
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        char *target = (char *)record + field->offset;
        if (field->tag == 0 || rand() % 100 >= density)
            continue;
        switch (field->kind) {
        case FIELD_BOOL:
            *(bool *)target = true;
            break;
        case FIELD_U64:
        case FIELD_TIME:
        case FIELD_STAMP: {
            const uint64_t value = (uint64_t)rand() << (rand() % 33);
            memcpy(target, &value, sizeof value);
            break;
        }
        case FIELD_UUID:
            memset(target, 1 + rand() % 255, 16);
            break;
        case FIELD_STR:
        case FIELD_BIN: {
            const size_t size = (size_t)(rand() % 300);
            char *text = arena_alloc(arena, size + 1);
            memset(text, 'a' + rand() % 26, size);
            *(struct reeve_str *)(void *)target = (struct reeve_str){text, size};
            break;
        }
        case FIELD_ENUM: {
            const unsigned number = field->words->values[(unsigned)rand() % field->words->count].number;
            memcpy(target, &number, sizeof number);
            break;
        }
        case FIELD_WORDS: {
            const uint64_t mask = UINT64_C(1) << field->words->values[0].number;
            memcpy(target, &mask, sizeof mask);
            break;
        }
        case FIELD_OBJ:
            fill(field->record, target, arena, density);
            break;
        case FIELD_LIST: {
            const size_t count = (size_t)(rand() % 5);
            char *items = arena_zalloc(arena, count * field->record->size + 1);
            for (size_t n = 0; n < count; n++)
                fill(field->record, items + n * field->record->size, arena, density);
            memcpy(target, &(struct reeve_endpoint_list){(void *)items, count}, sizeof(struct reeve_endpoint_list));
            break;
        }
        }
    }
}

static void test_every_record_there_and_back(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 65536);
    srand(7);
    for (size_t t = 0; t < sizeof stored_types / sizeof stored_types[0]; t++) {
        const struct record_type *type = schema_record(stored_types[t], false);
        assert_non_null(type);
        for (int round = 0; round < 200; round++) {
            void *record = arena_zalloc(&arena, type->size), *back = arena_zalloc(&arena, type->size);
            struct buffer first = {0}, second = {0};
            fill(type, record, &arena, round % 5 * 25);
            codec_encode_stored(type, record, &first);
            assert_int_equal(codec_decode_stored(type, first.data, first.size, &arena, back), 0);
            codec_encode_stored(type, back, &second);
            assert_int_equal(first.size, second.size);
            assert_memory_equal(first.data, second.data, first.size);
            buffer_deinit(&first);
            buffer_deinit(&second);
            arena_reset(&arena);
        }
    }
    arena_deinit(&arena);
}

static void test_damaged_records_are_refused_and_never_read_past_their_end(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 65536);
    srand(11);
    const struct record_type *type = &record_type_service;
    struct reeve_service back;
    assert_int_equal(codec_decode_stored(type, NULL, 0, &arena, &back), -REEVE_ERROR_STORE_DAMAGED);
    for (int round = 0; round < 3000; round++) {
        struct reeve_service service = {0};
        struct buffer bytes = {0};
        fill(type, &service, &arena, 60);
        codec_encode_stored(type, &service, &bytes);
        const size_t size = (size_t)rand() % bytes.size;
        char *cut = malloc(size ? size : 1);
        memcpy(cut, bytes.data, size);
        assert_true(codec_decode_stored(type, cut, size, &arena, &back) < 0);
        free(cut);
        char *flipped = malloc(bytes.size);
        memcpy(flipped, bytes.data, bytes.size);
        flipped[(size_t)rand() % bytes.size] ^= (char)(1 << rand() % 8);
        codec_decode_stored(type, flipped, bytes.size, &arena, &back); /* any answer, no fault */
        free(flipped);
        buffer_deinit(&bytes);
        arena_reset(&arena);
    }
    arena_deinit(&arena);
}

static void test_a_record_of_a_newer_version_is_refused_as_such(void **state)
{
    (void)state;
    struct arena arena;
    struct reeve_organization organization;
    arena_init(&arena, 4096);
    const uint8_t newer[] = {0x92, 0x02, 0xa1, 'x'};
    assert_int_equal(codec_decode_stored(&record_type_organization, newer, sizeof newer, &arena, &organization),
                     -REEVE_ERROR_STORE_VERSION);
    const uint8_t longer[] = {0x9a, 0x01, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0x07};
    assert_int_equal(codec_decode_stored(&record_type_organization, longer, sizeof longer, &arena, &organization),
                     -REEVE_ERROR_STORE_VERSION);
    arena_deinit(&arena);
}

static void test_tags_are_unique_and_ascend(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof stored_types / sizeof stored_types[0]; t++) {
        const struct record_type *type = schema_record(stored_types[t], false);
        unsigned last = 0;
        assert_true(type->count <= 64);
        for (unsigned i = 0; i < type->count; i++) {
            if (type->fields[i].tag == 0)
                continue;
            assert_true(type->fields[i].tag > last);
            last = type->fields[i].tag;
        }
        assert_int_equal(last, type->tag_max);
    }
}

/* ---- Parameters ---- */

struct case_ {
    enum reeve_command command;
    void (*pack)(msgpack_packer *packer);
    const char *field, *message; /* message: a part of it */
};

static void text(msgpack_packer *packer, const char *value)
{
    msgpack_pack_str(packer, strlen(value));
    msgpack_pack_str_body(packer, value, strlen(value));
}

static void pack_required(msgpack_packer *packer, unsigned more)
{
    msgpack_pack_map(packer, 4 + more);
    text(packer, "organizationId"), text(packer, "01234567-89ab-7fff-bfff-ffffffffffff");
    text(packer, "name"), text(packer, "db");
    text(packer, "provider"), text(packer, "aws");
    text(packer, "region"), text(packer, "us-east-1");
}

static void pack_missing(msgpack_packer *packer)
{
    msgpack_pack_map(packer, 1);
    text(packer, "name"), text(packer, "db");
}
static void pack_typo(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "idleScalling"), msgpack_pack_true(packer);
}
static void pack_fraction(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "minTotalMemoryGb"), msgpack_pack_double(packer, 24.5);
}
static void pack_negative(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "minTotalMemoryGb"), msgpack_pack_int(packer, -24);
}
static void pack_short_timeout(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "idleTimeoutMinutes"), msgpack_pack_int(packer, 4);
}
static void pack_wrong_enum(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "tier"), text(packer, "huge");
}
static void pack_bad_entry(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "ipAccessList"), msgpack_pack_array(packer, 2);
    msgpack_pack_map(packer, 1), text(packer, "source"), text(packer, "1.2.3.4");
    msgpack_pack_map(packer, 1), text(packer, "source"), msgpack_pack_int(packer, 7);
}
static void pack_twice(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "name"), text(packer, "again");
}
static void pack_null(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "tier"), msgpack_pack_nil(packer);
}
static void pack_generation(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "ifGeneration"), msgpack_pack_int(packer, 1);
}
static void pack_list(msgpack_packer *packer)
{
    msgpack_pack_array(packer, 0);
}
static void pack_binary(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "tier"), msgpack_pack_bin(packer, 1), msgpack_pack_bin_body(packer, "x", 1);
}
static void pack_extension(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "tier"), msgpack_pack_ext(packer, 1, 5), msgpack_pack_ext_body(packer, "x", 1);
}
static void pack_object(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "idleScaling"), msgpack_pack_map(packer, 0);
}
static void pack_no_text(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "tier"), text(packer, "\xff");
}
static void pack_number_as_name(msgpack_packer *packer)
{
    pack_required(packer, 1);
    msgpack_pack_int(packer, 7), msgpack_pack_true(packer);
}
static void pack_no_text_as_name(msgpack_packer *packer)
{
    pack_required(packer, 1);
    text(packer, "\xff"), msgpack_pack_true(packer);
}
static void pack_nil_id(msgpack_packer *packer)
{
    msgpack_pack_map(packer, 1);
    text(packer, "organizationId"), text(packer, "00000000-0000-0000-0000-000000000000");
}
static void pack_bad_id(msgpack_packer *packer)
{
    msgpack_pack_map(packer, 1);
    text(packer, "organizationId"), text(packer, "42");
}

static const struct case_ cases[] = {
    {REEVE_COMMAND_SERVICE_CREATE, pack_missing, "organizationId", "is required"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_typo, "idleScalling", "not known"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_fraction, "minTotalMemoryGb", "<number:24.5>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_negative, "minTotalMemoryGb", "<number:-24>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_short_timeout, "idleTimeoutMinutes", "from 5 to"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_wrong_enum, "tier", "'development', 'production'"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_bad_entry, "ipAccessList[1].source", "must be a string"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_twice, "name", "twice"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_null, "tier", "must not be null"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_generation, "ifGeneration", "not known"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_list, "", "must be an object"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_binary, "tier", "<binary>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_extension, "tier", "<extension>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_object, "idleScaling", "true or false <object>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_no_text, "tier", "<string>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_number_as_name, "", "names of fields must be strings <number:7>"},
    {REEVE_COMMAND_SERVICE_CREATE, pack_no_text_as_name, "", "names of fields must be strings <string>"},
    {REEVE_COMMAND_SERVICE_LIST, pack_nil_id, "organizationId", "must not be the nil UUID"},
    {REEVE_COMMAND_SERVICE_LIST, pack_bad_id, "organizationId", "must be a UUID <string:42>"},
};

static int decode(enum reeve_command command, void (*pack)(msgpack_packer *), struct arena *arena,
                  union reeve_params *params, struct reeve_error *error)
{
    struct buffer bytes = {0};
    msgpack_packer packer;
    msgpack_unpacked unpacked;
    struct reeve_meta_params meta;
    msgpack_packer_init(&packer, &bytes, buffer_write);
    pack(&packer);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, bytes.data, bytes.size, NULL), MSGPACK_UNPACK_SUCCESS);
    const int r = codec_decode_request(schema_command(command), &unpacked.data, CODEC_UNKNOWN_REFUSE, arena, params,
                                       &meta, error);
    msgpack_unpacked_destroy(&unpacked);
    buffer_deinit(&bytes);
    return r;
}

static void test_bad_parameters_name_the_field_and_what_is_allowed(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        union reeve_params params;
        struct reeve_error error = {0};
        assert_int_equal(decode(cases[i].command, cases[i].pack, &arena, &params, &error), -REEVE_ERROR_BAD_REQUEST);
        assert_int_equal(error.code, REEVE_ERROR_BAD_REQUEST);
        assert_string_equal(error.field, cases[i].field);
        if (!strstr(error.message, cases[i].message))
            fail_msg("'%s' does not say '%s'", error.message, cases[i].message);
    }
    arena_deinit(&arena);
}

/* Parameters as they are encoded, decoded again. */
static int through(const struct record_type *type, const union reeve_params *params, struct arena *arena,
                   union reeve_params *ret_params, struct reeve_error *error)
{
    const struct command_type command = {.mode = REEVE_MODE_READ, .params = type};
    struct buffer bytes = {0};
    msgpack_unpacked unpacked;
    struct reeve_meta_params meta;
    codec_encode_params(type, params, &bytes);
    char *copy = arena_copy(arena, bytes.data, bytes.size);
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, copy, bytes.size, NULL), MSGPACK_UNPACK_SUCCESS);
    const int r = codec_decode_request(&command, &unpacked.data, CODEC_UNKNOWN_REFUSE, arena, ret_params, &meta, error);
    msgpack_unpacked_destroy(&unpacked);
    buffer_deinit(&bytes);
    return r;
}

static void test_words_and_bytes_there_and_back(void **state)
{
    (void)state;
    struct arena arena;
    union reeve_params params = {0}, again;
    struct reeve_error error;
    arena_init(&arena, 16384);
    params.worker_subscribe.kinds = UINT64_C(1) << REEVE_OPERATION_KIND_STOP |
                                    UINT64_C(1) << REEVE_OPERATION_KIND_DELETE_BACKUP;
    assert_int_equal(through(&params_type_worker_subscribe, &params, &arena, &again, &error), 0);
    assert_int_equal(again.worker_subscribe.kinds, params.worker_subscribe.kinds);
    params = (union reeve_params){.worker_subscribe = {.given = REEVE_GIVEN_WORKER_SUBSCRIBE_KINDS}};
    assert_int_equal(through(&params_type_worker_subscribe, &params, &arena, &again, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(error.field, "kinds");
    static const char bytes[4097] = {0, (char)0xff};
    params = (union reeve_params){.worker_finish = {.lease = 1, .status = REEVE_OUTCOME_STATUS_DONE}};
    params.worker_finish.handle = (struct reeve_str){bytes, 4096};
    assert_int_equal(through(&params_type_worker_finish, &params, &arena, &again, &error), 0);
    assert_int_equal(again.worker_finish.handle.size, 4096);
    assert_memory_equal(again.worker_finish.handle.data, bytes, 4096);
    params.worker_finish.handle.size = 4097;
    assert_int_equal(through(&params_type_worker_finish, &params, &arena, &again, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(error.field, "handle");
    arena_deinit(&arena);
}

static void pack_float_total(msgpack_packer *packer)
{
    pack_required(packer, 2);
    text(packer, "minTotalMemoryGb"), msgpack_pack_double(packer, 24.0);
    text(packer, "idleScaling"), msgpack_pack_false(packer);
}

static void test_whole_floats_are_numbers_and_given_bits_tell_false_from_absent(void **state)
{
    (void)state;
    struct arena arena;
    union reeve_params params;
    struct reeve_error error;
    arena_init(&arena, 4096);
    assert_int_equal(decode(REEVE_COMMAND_SERVICE_CREATE, pack_float_total, &arena, &params, &error), 0);
    assert_int_equal(params.service_create.min_total_memory_gb, 24);
    assert_true(params.service_create.given & REEVE_GIVEN_SERVICE_CREATE_IDLE_SCALING);
    assert_false(params.service_create.given & REEVE_GIVEN_SERVICE_CREATE_IDLE_TIMEOUT_MINUTES);
    arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_record_there_and_back),
        cmocka_unit_test(test_damaged_records_are_refused_and_never_read_past_their_end),
        cmocka_unit_test(test_a_record_of_a_newer_version_is_refused_as_such),
        cmocka_unit_test(test_tags_are_unique_and_ascend),
        cmocka_unit_test(test_bad_parameters_name_the_field_and_what_is_allowed),
        cmocka_unit_test(test_words_and_bytes_there_and_back),
        cmocka_unit_test(test_whole_floats_are_numbers_and_given_bits_tell_false_from_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
