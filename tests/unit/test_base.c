/* What knows nothing of the product: scanning, clocks, maps, text, ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/network.h"
#include "base/scan.h"
#include "base/uuid.h"
#include "codec.h"

/* ---- buffer ---- */

static void test_a_buffer_has_room_for_nothing_and_none_for_everything(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    assert_non_null(buffer_reserve(&buffer, 0));
    buffer_append(&buffer, "abc", 3);
    buffer_append(&buffer, NULL, 0);
    assert_int_equal(buffer.size, 3);
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    assert_true(buffer.failed);
    assert_null(buffer_reserve(&buffer, 1));
    assert_int_equal(buffer_write(&buffer, "d", 1), -1);
    assert_int_equal(buffer.size, 3);
    buffer_reset(&buffer);
    assert_int_equal(buffer_write(&buffer, "d", 1), 0);
    assert_memory_equal(buffer.data, "d", 1);
    buffer_deinit(&buffer);
}

/* ---- scan ---- */

static enum scan_status scan_all(const void *data, size_t size, size_t size_max, size_t *ret_offset)
{
    struct scan scan;
    scan_init(&scan, size_max);
    const enum scan_status status = scan_step(&scan, data, size);
    *ret_offset = scan.offset;
    return status;
}

static void pack_one_of_everything(struct buffer *out)
{
    msgpack_packer packer;
    char text[70000];
    memset(text, 'x', sizeof text);
    msgpack_packer_init(&packer, out, buffer_write);
    msgpack_pack_array(&packer, 17);
    msgpack_pack_nil(&packer);
    msgpack_pack_true(&packer);
    msgpack_pack_int64(&packer, -5);
    msgpack_pack_int64(&packer, -70000);
    msgpack_pack_uint64(&packer, 200);
    msgpack_pack_uint64(&packer, UINT64_MAX);
    msgpack_pack_double(&packer, 2.5);
    msgpack_pack_float(&packer, 2.5f);
    const size_t sizes[] = {5, 100, 1000, 70000};
    for (int i = 0; i < 4; i++) {
        msgpack_pack_str(&packer, sizes[i]);
        msgpack_pack_str_body(&packer, text, sizes[i]);
    }
    msgpack_pack_bin(&packer, 300);
    msgpack_pack_bin_body(&packer, text, 300);
    msgpack_pack_map(&packer, 1);
    msgpack_pack_int(&packer, 1);
    msgpack_pack_array(&packer, 0);
    msgpack_pack_ext(&packer, 4, 1);
    msgpack_pack_ext_body(&packer, text, 4);
    msgpack_pack_ext(&packer, 20, 1);
    msgpack_pack_ext_body(&packer, text, 20);
    msgpack_pack_map(&packer, 0);
}

static void test_scan_finds_the_end_at_every_cut(void **state)
{
    (void)state;
    struct buffer message = {0};
    size_t offset;
    pack_one_of_everything(&message);
    assert_int_equal(scan_all(message.data, message.size, 0, &offset), SCAN_COMPLETE);
    assert_int_equal(offset, message.size);
    struct scan resumed;
    scan_init(&resumed, 0);
    for (size_t size = 0; size < message.size; size += 1 + size / 50) {
        char *exact = malloc(size ? size : 1); /* so that a read past the end is seen */
        memcpy(exact, message.data, size);
        assert_int_equal(scan_all(exact, size, 0, &offset), SCAN_MORE);
        assert_int_equal(scan_step(&resumed, exact, size), SCAN_MORE);
        free(exact);
    }
    assert_int_equal(scan_step(&resumed, message.data, message.size), SCAN_COMPLETE);
    assert_int_equal(resumed.offset, message.size);
    buffer_deinit(&message);
}

static void test_scan_refuses_on_the_announcement(void **state)
{
    (void)state;
    size_t offset;
    const uint8_t array[] = {0xdd, 0x40, 0, 0, 0}, text[] = {0xdb, 0x40, 0, 0, 0},
                  map[] = {0xdf, 0xff, 0xff, 0xff, 0xff};
    assert_int_equal(scan_all(array, sizeof array, 1 << 20, &offset), SCAN_TOO_LARGE);
    assert_int_equal(scan_all(text, sizeof text, 1 << 20, &offset), SCAN_TOO_LARGE);
    assert_int_equal(scan_all(map, sizeof map, 1 << 20, &offset), SCAN_TOO_LARGE);
    assert_int_equal(scan_all("\xc1", 1, 0, &offset), SCAN_INVALID);
    uint8_t deep[64];
    memset(deep, 0x91, sizeof deep);
    assert_int_equal(scan_all(deep, sizeof deep, 0, &offset), SCAN_TOO_DEEP);
}

/* ---- clock ---- */

#define SECOND UINT64_C(1000000000)

static void test_clock_follows_a_jump_forward_without_jumping(void **state)
{
    (void)state;
    struct steady_clock clock;
    clock_start(&clock, 1000 * SECOND, 5 * SECOND, 0);
    uint64_t wall = 1000 * SECOND + 3600 * SECOND, mono = 5 * SECOND, last = clock.now_ns;
    for (int i = 0; i < 100; i++) {
        wall += SECOND, mono += SECOND;
        const uint64_t now = clock_advance(&clock, wall, mono);
        assert_true(now - last <= SECOND + SECOND / 16);
        assert_true(now - last >= SECOND);
        last = now;
    }
    for (int i = 0; i < 60000; i++)
        wall += SECOND, mono += SECOND, last = clock_advance(&clock, wall, mono);
    assert_int_equal(last, wall);
}

static void test_clock_never_goes_back(void **state)
{
    (void)state;
    struct steady_clock clock;
    clock_start(&clock, 1000 * SECOND, 5 * SECOND, 2000 * SECOND);
    assert_int_equal(clock.now_ns, 2000 * SECOND);
    uint64_t last = clock.now_ns;
    for (uint64_t i = 1; i < 1000; i++) {
        const uint64_t now = clock_advance(&clock, 1000 * SECOND, 5 * SECOND + i * SECOND / 10);
        assert_true(now > last);
        last = now;
    }
}

/* ---- map ---- */

static void test_map_against_a_plain_array(void **state)
{
    (void)state;
    struct map map = {0};
    struct reeve_uuid keys[500];
    bool present[500] = {false};
    int value;
    srand(1);
    for (int i = 0; i < 500; i++) {
        for (int b = 0; b < 16; b++)
            keys[i].bytes[b] = (uint8_t)rand();
    }
    for (int step = 0; step < 20000; step++) {
        const int i = rand() % 500;
        if (rand() % 2) {
            assert_true(map_put(&map, &keys[i], &value));
            present[i] = true;
        } else {
            map_remove(&map, &keys[i]);
            present[i] = false;
        }
        const int other = rand() % 500;
        assert_int_equal(map_get(&map, &keys[other]) != NULL, present[other]);
    }
    size_t count = 0;
    for (int i = 0; i < 500; i++)
        count += present[i];
    assert_int_equal(map.count, count);
    map_deinit(&map);
}

/* ---- text, ids, times ---- */

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"", "abc", "é", "€", "😀", "\xef\xbf\xbf"};
    static const char *const bad[] = {"\xff",     "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "a\x01",    "\x7f",         "\x80"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_false(utf8_valid("a\0b", 3));
    assert_int_equal(utf8_length("é€😀", strlen("é€😀")), 3);
    assert_int_equal(utf8_cut("aé", 3, 2), 1);
}

static void test_uuid(void **state)
{
    (void)state;
    const uint8_t random[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const struct reeve_uuid id = uuid_v7(UINT64_C(0x0123456789ab), random);
    char text[37];
    reeve_uuid_format(&id, text);
    assert_string_equal(text, "01234567-89ab-7fff-bfff-ffffffffffff");
    struct reeve_uuid parsed;
    assert_true(reeve_uuid_parse("01234567-89AB-7fff-bfff-ffffffffffff", 36, &parsed));
    assert_true(uuid_equal(&id, &parsed));
    assert_false(reeve_uuid_parse("01234567-89ab-7fff-bfff-fffffffffff", 35, &parsed));
    assert_false(reeve_uuid_parse("01234567089ab-7fff-bfff-ffffffffffff", 36, &parsed));
    assert_false(reeve_uuid_parse("0123456g-89ab-7fff-bfff-ffffffffffff", 36, &parsed));
}

static void test_times_there_and_back(void **state)
{
    (void)state;
    char text[25];
    codec_format_time(UINT64_C(1666377991123), true, text);
    assert_string_equal(text, "2022-10-21T18:46:31.123Z");
    codec_format_time(UINT64_C(1666377991123), false, text);
    assert_string_equal(text, "2022-10-21T18:46:31Z");
    for (uint64_t ms = 0; ms < UINT64_C(253402300800000); ms += UINT64_C(86399999) * 11) {
        uint64_t back = 0;
        codec_format_time(ms, true, text);
        assert_true(codec_parse_time(text, strlen(text), &back));
        assert_int_equal(back, ms);
    }
    uint64_t ms;
    assert_true(codec_parse_time("2022-10-21T20:46:31+02:00", 25, &ms));
    assert_int_equal(ms, UINT64_C(1666377991000));
    static const char *const bad[] = {"",
                                      "2022-10-21",
                                      "2022-13-01T00:00:00Z",
                                      "2023-02-29T00:00:00Z",
                                      "2022-10-21T24:00:00Z",
                                      "2022-10-21T18:46:31",
                                      "2022-10-21T18:46:31.Z",
                                      "2022-10-21T18:46:31Zx",
                                      "1969-12-31T23:59:59Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(codec_parse_time(bad[i], strlen(bad[i]), &ms));
}

static void test_arena_gives_aligned_memory_and_keeps_its_first_block(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 128);
    for (int round = 0; round < 3; round++) {
        char *previous = NULL;
        for (size_t size = 1; size < 1000; size += 37) {
            char *memory = arena_zalloc(&arena, size);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % 16, 0);
            assert_ptr_not_equal(memory, previous);
            memset(memory, 1, size);
            previous = memory;
        }
        arena_reset(&arena);
    }
    arena_deinit(&arena);
}

/* ---- network ---- */

static bool parses(const char *text)
{
    struct network network;
    return network_parse(text, strlen(text), &network);
}

static void test_network_takes_addresses_and_networks_only(void **state)
{
    (void)state;
    const char *const good[] = {"1.2.3.4", "0.0.0.0/0", "10.0.0.0/8",    "10.0.0.1/32",   "::",
                                "::1/128", "::/0",      "2001:db8::/32", "::ffff:1.2.3.4"};
    const char *const bad[] = {"",
                               "/",
                               "1.2.3",
                               "1.2.3.4/",
                               "1.2.3.4/33",
                               "1.2.3.4/-1",
                               "1.2.3.4/008x",
                               "1.2.3.4/ 8",
                               "::/129",
                               "::/0032",
                               "1.2.3.4.5",
                               "::1%lo",
                               "example.org",
                               "1.2.3.4/8/8",
                               "::ffff:1.2.3.4/95", /* a network of IPv6, written as an address of IPv4 */
                               " 1.2.3.4",
                               "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(parses(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(parses(bad[i]));
}

static bool contains(const char *network_text, const char *address_text)
{
    struct network network, address;
    assert_true(network_parse(network_text, strlen(network_text), &network));
    assert_true(network_parse(address_text, strlen(address_text), &address));
    return network_contains(&network, &address);
}

static void test_network_contains_what_its_bits_say(void **state)
{
    (void)state;
    assert_true(contains("10.0.0.0/8", "10.255.0.1"));
    assert_false(contains("10.0.0.0/8", "11.0.0.0"));
    assert_true(contains("10.9.9.9/8", "10.1.1.1")); /* what is behind the prefix does not count */
    assert_true(contains("192.0.2.128/25", "192.0.2.128"));
    assert_false(contains("192.0.2.128/25", "192.0.2.127"));
    assert_true(contains("0.0.0.0/0", "255.255.255.255"));
    assert_true(contains("0.0.0.0/0", "::ffff:1.2.3.4"));
    assert_true(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert_true(contains("2001:db8:8000::/33", "2001:db8:ffff::1"));
    assert_false(contains("2001:db8:8000::/33", "2001:db8:7fff::1"));
    assert_true(contains("0.0.0.0", "0.0.0.0")); /* alone, all zero is an address like others */
    assert_false(contains("0.0.0.0", "1.2.3.4"));
    assert_true(contains("::", "::"));
    assert_false(contains("::", "::1"));
    assert_false(contains("0.0.0.0/0", "::1"));
    assert_false(contains("::/0", "1.2.3.4"));
    assert_false(contains("::/64", "::ffff:1.2.3.4"));
    assert_true(contains("::/0", "2001:db8::1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_buffer_has_room_for_nothing_and_none_for_everything),
        cmocka_unit_test(test_scan_finds_the_end_at_every_cut),
        cmocka_unit_test(test_scan_refuses_on_the_announcement),
        cmocka_unit_test(test_clock_follows_a_jump_forward_without_jumping),
        cmocka_unit_test(test_clock_never_goes_back),
        cmocka_unit_test(test_map_against_a_plain_array),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_times_there_and_back),
        cmocka_unit_test(test_network_takes_addresses_and_networks_only),
        cmocka_unit_test(test_network_contains_what_its_bits_say),
        cmocka_unit_test(test_arena_gives_aligned_memory_and_keeps_its_first_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
