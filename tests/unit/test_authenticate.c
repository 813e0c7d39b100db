/* Who asks: right and wrong secrets, states, ends and addresses of keys, and what a change of a key means at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <reeve.h>
#include <uv.h>

#include "base/clock.h"
#include "tests/lib/directory.h"

#define THREADS 4
#define ROUNDS 50

struct key {
    char id[37], secret[64];
    struct reeve_uuid uuid;
};

struct world {
    char directory[DIRECTORY_PATH_MAX];
    uv_loop_t loop;
    struct reeve_engine *engine;
    struct reeve_client *client;
    struct reeve_uuid organization_id;
    bool answered;
    enum reeve_error_code code;
    struct key key; /* the last that was created */
};

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct world *world = request->data;
    world->answered = true;
    world->code = result->error.code;
    if (result->error.code)
        return;
    if (request->command == REEVE_COMMAND_ORGANIZATION_CREATE)
        world->organization_id = result->answer.organization.id;
    if (request->command == REEVE_COMMAND_KEY_CREATE) {
        const struct reeve_key_created *created = &result->answer.key_created;
        world->key.uuid = created->key_id;
        reeve_uuid_format(&created->key_id, world->key.id);
        snprintf(world->key.secret, sizeof world->key.secret, "%.*s", (int)created->key_secret.size,
                 created->key_secret.data);
    }
}

/* Submit and wait for the answer. */
static enum reeve_error_code ask(struct world *world, struct reeve_request *request)
{
    request->on_done = on_done;
    request->data = world;
    world->answered = false;
    assert_int_equal(reeve_submit(world->client, request), 0);
    while (!world->answered)
        uv_run(&world->loop, UV_RUN_ONCE);
    return world->code;
}

static void make_organization(struct world *world)
{
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create.name = reeve_str("acme");
    assert_int_equal(ask(world, &request), 0);
}

static struct key make_key(struct world *world, const struct reeve_key_create_params *params)
{
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_CREATE};
    request.params.key_create = *params;
    request.params.key_create.organization_id = world->organization_id;
    request.params.key_create.name = reeve_str("ci");
    assert_int_equal(ask(world, &request), 0);
    return world->key;
}

/* From these sources only. */
static struct key make_key_for(struct world *world, size_t count, const char *const *sources)
{
    struct reeve_access_entry entries[40];
    assert_true(count <= sizeof entries / sizeof entries[0]);
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct reeve_access_entry){.source = reeve_str(sources[i])};
    return make_key(world, &(struct reeve_key_create_params){.ip_access_list = {entries, count},
                                                             .given = REEVE_GIVEN_KEY_CREATE_IP_ACCESS_LIST});
}

static void set_state(struct world *world, const struct key *key, enum reeve_key_state key_state)
{
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_UPDATE};
    request.params.key_update = (struct reeve_key_update_params){
        .organization_id = world->organization_id, .key_id = key->uuid, .state = key_state};
    assert_int_equal(ask(world, &request), 0);
}

static int setup(void **state)
{
    static struct world world;
    struct reeve_error error;
    world = (struct world){0};
    directory_make("/tmp", world.directory);
    const struct reeve_options options = {.data_dir = world.directory};
    if (reeve_open(&options, &world.engine, &error) < 0)
        return -1;
    uv_loop_init(&world.loop);
    *state = &world;
    if (reeve_client_open(world.engine, &world.loop, &world.client) < 0)
        return -1;
    make_organization(&world);
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    struct reeve_error error;
    struct reeve_check_summary summary;
    reeve_client_close(world->client, NULL, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    reeve_close(world->engine);
    const int r = uv_loop_close(&world->loop);
    if (r != 0 || reeve_check(world->directory, NULL, NULL, &summary, &error) < 0)
        return -1;
    directory_remove(world->directory);
    return summary.findings ? -1 : 0;
}

static int try_from(struct world *world, const struct key *key, const char *address)
{
    struct reeve_identity identity;
    struct reeve_error error;
    return reeve_authenticate(world->engine, reeve_str(key->id), reeve_str(key->secret), address, &identity, &error);
}

/* Refused, once read and once kept, with these words. */
static void assert_refused(struct world *world, struct reeve_str id, struct reeve_str secret, const char *address,
                           int code, const char *message)
{
    struct reeve_identity identity;
    struct reeve_error error;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reeve_authenticate(world->engine, id, secret, address, &identity, &error), -code);
        assert_int_equal(error.code, code);
        assert_string_equal(error.message, message);
    }
}

static void test_the_right_secret_tells_who_asks(void **state)
{
    struct world *world = *state;
    const struct key key = make_key(world, &(struct reeve_key_create_params){.role = REEVE_ROLE_VIEWER});
    for (int i = 0; i < 2; i++) {
        struct reeve_identity identity;
        assert_int_equal(
            reeve_authenticate(world->engine, reeve_str(key.id), reeve_str(key.secret), NULL, &identity, NULL), 0);
        assert_memory_equal(&identity.organization_id, &world->organization_id, sizeof world->organization_id);
        assert_memory_equal(&identity.key_id, &key.uuid, sizeof key.uuid);
        assert_int_equal(identity.role, REEVE_ROLE_VIEWER);
    }
}

static void test_wrong_secrets_and_unknown_keys_are_not_told_apart(void **state)
{
    struct world *world = *state;
    struct key key = make_key(world, &(struct reeve_key_create_params){0});
    const struct key other = make_key(world, &(struct reeve_key_create_params){0});
    const struct reeve_str id = reeve_str(key.id), secret = reeve_str(key.secret);
    const char *const words = "Key is not found";
    assert_refused(world, id, reeve_str(other.secret), NULL, REEVE_ERROR_UNAUTHORIZED, words);
    assert_refused(world, id, (struct reeve_str){secret.data, secret.size - 1}, NULL, REEVE_ERROR_UNAUTHORIZED, words);
    assert_refused(world, id, (struct reeve_str){0}, NULL, REEVE_ERROR_UNAUTHORIZED, words);
    assert_refused(world, (struct reeve_str){0}, secret, NULL, REEVE_ERROR_UNAUTHORIZED, words);
    assert_refused(world, reeve_str("no id"), secret, NULL, REEVE_ERROR_UNAUTHORIZED, words);
    assert_refused(world, reeve_str("00000000-0000-0000-0000-000000000000"), secret, NULL, REEVE_ERROR_UNAUTHORIZED,
                   words);
    assert_refused(world, reeve_str("01900000-0000-7000-8000-000000000000"), secret, NULL, REEVE_ERROR_UNAUTHORIZED,
                   words);
    assert_int_equal(try_from(world, &key, NULL), 0);
}

static void test_a_revoked_key_is_refused_once_that_is_answered(void **state)
{
    struct world *world = *state;
    const struct key key = make_key(world, &(struct reeve_key_create_params){0});
    assert_int_equal(try_from(world, &key, NULL), 0);
    struct reeve_request request = {.command = REEVE_COMMAND_KEY_REVOKE};
    request.params.key = (struct reeve_key_params){.organization_id = world->organization_id, .key_id = key.uuid};
    assert_int_equal(ask(world, &request), 0);
    assert_refused(world, reeve_str(key.id), reeve_str(key.secret), NULL, REEVE_ERROR_UNAUTHORIZED, "Key is not found");
}

static void test_keys_end_with_their_organization(void **state)
{
    struct world *world = *state;
    const struct key key = make_key(world, &(struct reeve_key_create_params){0});
    assert_int_equal(try_from(world, &key, NULL), 0);
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_DELETE};
    request.params.organization.organization_id = world->organization_id;
    assert_int_equal(ask(world, &request), 0);
    assert_refused(world, reeve_str(key.id), reeve_str(key.secret), NULL, REEVE_ERROR_UNAUTHORIZED, "Key is not found");
}

static void test_a_disabled_key_is_refused_until_it_is_enabled(void **state)
{
    struct world *world = *state;
    const struct key key = make_key(world, &(struct reeve_key_create_params){.state = REEVE_KEY_STATE_DISABLED});
    assert_refused(world, reeve_str(key.id), reeve_str(key.secret), NULL, REEVE_ERROR_UNAUTHORIZED, "Key is disabled");
    assert_refused(world, reeve_str(key.id), reeve_str("wrong"), NULL, REEVE_ERROR_UNAUTHORIZED, "Key is not found");
    set_state(world, &key, REEVE_KEY_STATE_ENABLED);
    assert_int_equal(try_from(world, &key, NULL), 0);
    set_state(world, &key, REEVE_KEY_STATE_DISABLED);
    assert_int_equal(try_from(world, &key, NULL), -REEVE_ERROR_UNAUTHORIZED);
}

static void test_a_key_ends_at_its_time(void **state)
{
    struct world *world = *state;
    const uint64_t expires_ms = clock_wall_ns() / 1000000 + 200;
    const struct key key = make_key(world, &(struct reeve_key_create_params){.expires_ms = expires_ms});
    uint64_t asked_ms;
    int r;
    do {
        asked_ms = clock_wall_ns() / 1000000;
        r = try_from(world, &key, NULL);
        assert_true(r < 0 || asked_ms <= expires_ms);
    } while (r == 0);
    assert_int_equal(r, -REEVE_ERROR_UNAUTHORIZED);
    assert_true(clock_wall_ns() / 1000000 + 1 >= expires_ms);
}

static void test_an_allow_list_is_held_to(void **state)
{
    struct world *world = *state;
    static const char *const sources[] = {"10.1.0.0/16", "192.0.2.7", "2001:db8::/32"};
    const struct key key = make_key_for(world, 3, sources);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try_from(world, &key, "10.1.255.255"), 0);
        assert_int_equal(try_from(world, &key, "::ffff:10.1.2.3"), 0);
        assert_int_equal(try_from(world, &key, "::ffff:c000:207"), 0);
        assert_int_equal(try_from(world, &key, "2001:db8:ffff::1"), 0);
        assert_int_equal(try_from(world, &key, NULL), 0);
        assert_int_equal(try_from(world, &key, "10.2.0.0"), -REEVE_ERROR_FORBIDDEN);
        assert_int_equal(try_from(world, &key, "192.0.2.8"), -REEVE_ERROR_FORBIDDEN);
        assert_int_equal(try_from(world, &key, "2001:db9::"), -REEVE_ERROR_FORBIDDEN);
        assert_int_equal(try_from(world, &key, ""), -REEVE_ERROR_FORBIDDEN);
        assert_int_equal(try_from(world, &key, "localhost"), -REEVE_ERROR_FORBIDDEN);
    }
    assert_refused(world, reeve_str(key.id), reeve_str("wrong"), "10.2.0.0", REEVE_ERROR_UNAUTHORIZED,
                   "Key is not found");
}

static void test_without_a_list_from_anywhere_with_an_empty_one_from_nowhere(void **state)
{
    struct world *world = *state;
    const struct key anywhere = make_key(world, &(struct reeve_key_create_params){0});
    assert_int_equal(try_from(world, &anywhere, "203.0.113.9"), 0);
    assert_int_equal(try_from(world, &anywhere, "2001:db8::9"), 0);
    const struct key nowhere = make_key_for(world, 0, NULL);
    assert_int_equal(try_from(world, &nowhere, "203.0.113.9"), -REEVE_ERROR_FORBIDDEN);
    assert_int_equal(try_from(world, &nowhere, "::"), -REEVE_ERROR_FORBIDDEN);
}

static void test_long_lists_are_looked_at_to_their_end(void **state)
{
    struct world *world = *state;
    const char *sources[40];
    for (size_t i = 0; i < 40; i++)
        sources[i] = i < 39 ? "10.0.0.1" : "10.0.0.2";
    const struct key key = make_key_for(world, 40, sources);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try_from(world, &key, "10.0.0.2"), 0);
        assert_int_equal(try_from(world, &key, "10.0.0.3"), -REEVE_ERROR_FORBIDDEN);
    }
}

/* ---- Many at once ---- */

struct race {
    struct world *world;
    struct key key, idle[ROUNDS];
    /* Grows before the key is changed and after that is answered: n % 4 is 0: enabled, 2: disabled, odd: either. */
    atomic_uint phase;
    atomic_bool over;
    atomic_uint wrong, asked;
};

static void *authenticate_all_the_time(void *arg)
{
    struct race *race = arg;
    for (unsigned i = 0; !atomic_load(&race->over); i++) {
        const unsigned before = atomic_load(&race->phase);
        const int r = try_from(race->world, &race->key, "127.0.0.1");
        const unsigned after = atomic_load(&race->phase);
        if (before == after && before % 2 == 0)
            atomic_fetch_add(&race->wrong, r != (before % 4 ? -REEVE_ERROR_UNAUTHORIZED : 0));
        atomic_fetch_add(&race->wrong, try_from(race->world, &race->idle[i % ROUNDS], NULL) != 0);
        atomic_fetch_add(&race->asked, 1);
    }
    return NULL;
}

static void test_many_threads_see_a_change_once_it_is_answered(void **state)
{
    static struct race race;
    pthread_t threads[THREADS];
    race = (struct race){.world = *state};
    for (int i = 0; i < ROUNDS; i++)
        race.idle[i] = make_key(race.world, &(struct reeve_key_create_params){0});
    race.key = make_key(race.world, &(struct reeve_key_create_params){0});
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, authenticate_all_the_time, &race), 0);
    for (int i = 0; i < ROUNDS; i++) {
        const enum reeve_key_state wanted = i % 2 ? REEVE_KEY_STATE_ENABLED : REEVE_KEY_STATE_DISABLED;
        atomic_fetch_add(&race.phase, 1);
        set_state(race.world, &race.key, wanted);
        atomic_fetch_add(&race.phase, 1);
        const unsigned asked = atomic_load(&race.asked);
        while (atomic_load(&race.asked) < asked + THREADS)
            uv_run(&race.world->loop, UV_RUN_NOWAIT);
    }
    atomic_store(&race.over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&race.wrong), 0);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_the_right_secret_tells_who_asks),
        STORY(test_wrong_secrets_and_unknown_keys_are_not_told_apart),
        STORY(test_a_revoked_key_is_refused_once_that_is_answered),
        STORY(test_keys_end_with_their_organization),
        STORY(test_a_disabled_key_is_refused_until_it_is_enabled),
        STORY(test_a_key_ends_at_its_time),
        STORY(test_an_allow_list_is_held_to),
        STORY(test_without_a_list_from_anywhere_with_an_empty_one_from_nowhere),
        STORY(test_long_lists_are_looked_at_to_their_end),
        STORY(test_many_threads_see_a_change_once_it_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
