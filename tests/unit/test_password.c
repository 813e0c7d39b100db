/* Passwords that the engine makes, and their verifiers for SCRAM-SHA-256: held to the example of RFC 7677, section 3.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "password.h"
#include "tests/lib/fixture.h"

#define BOTH_FORMS (1U << REEVE_PASSWORD_FORM_SHA_256 | 1U << REEVE_PASSWORD_FORM_SCRAM_SHA_256)
#define SCRAM_FORM (1U << REEVE_PASSWORD_FORM_SCRAM_SHA_256)

/* What client and server of the example have sent each other. */
static const char auth_message[] = "n=user,r=rOprNGfwEbeRWgbNEkqO,"
                                   "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,"
                                   "i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

static void from_base64(const char *text, size_t text_size, uint8_t *ret_bytes, size_t size)
{
    size_t got;
    assert_int_equal(
        sodium_base642bin(ret_bytes, size, text, text_size, NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL), 0);
    assert_int_equal(got, size);
}

static void sign(const uint8_t key[32], uint8_t ret_signature[32])
{
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key, 32);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)auth_message, strlen(auth_message));
    crypto_auth_hmacsha256_final(&state, ret_signature);
}

/* The server can check the proof that the client of the example sends with nothing but the verifier, and signs with it
 * what that client expects. */
static void test_the_example_of_rfc_7677(void **state)
{
    (void)state;
    static const char head[] = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$";
    uint8_t salt[PASSWORD_SCRAM_SALT_SIZE], stored_key[32], server_key[32], signature[32], wanted[32], proof[32],
        hash[32];
    char verifier[REEVE_SCRAM_SIZE + 1];
    from_base64("W22ZaJ0SNY7soEsUEjb6gQ==", 24, salt, sizeof salt);
    password_scram(reeve_str("pencil"), salt, verifier);
    assert_int_equal(strlen(verifier), REEVE_SCRAM_SIZE);
    assert_memory_equal(verifier, head, strlen(head));
    assert_int_equal(verifier[strlen(head) + 44], ':');
    from_base64(verifier + strlen(head), 44, stored_key, sizeof stored_key);
    from_base64(verifier + strlen(head) + 45, 44, server_key, sizeof server_key);

    from_base64("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", 44, wanted, sizeof wanted);
    sign(server_key, signature);
    assert_memory_equal(signature, wanted, sizeof wanted);

    from_base64("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", 44, proof, sizeof proof);
    sign(stored_key, signature);
    for (size_t i = 0; i < sizeof proof; i++)
        proof[i] ^= signature[i];
    crypto_hash_sha256(hash, proof, sizeof proof);
    assert_memory_equal(hash, stored_key, sizeof stored_key);
}

static void test_each_password_is_another_one(void **state)
{
    (void)state;
    struct reeve_request one = {.command = REEVE_COMMAND_SERVICE_SET_PASSWORD}, other = one;
    password_prepare(&one, BOTH_FORMS);
    password_prepare(&other, BOTH_FORMS);
    assert_memory_not_equal(one.internal.password, other.internal.password, REEVE_PASSWORD_SIZE);
    assert_memory_not_equal(one.internal.scram + 19, other.internal.scram + 19, 24); /* the salt */
    for (int i = 0; i < REEVE_PASSWORD_SIZE; i++)
        assert_true(one.internal.password[i] > ' ' && one.internal.password[i] <= 'z');
    password_forget(&one);
    assert_int_equal(one.internal.password[0] | one.internal.scram[0], 0);
}

static void test_only_what_is_asked_for_is_made(void **state)
{
    (void)state;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_CREATE};
    password_prepare(&request, 1U << REEVE_PASSWORD_FORM_SHA_256);
    assert_true(request.internal.password[0] && !request.internal.scram[0]);
    request.params.service_create.password_hash = reeve_str("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=");
    password_prepare(&request, BOTH_FORMS);
    assert_true(!request.internal.password[0] && !request.internal.scram[0]);
    request = (struct reeve_request){.command = REEVE_COMMAND_SERVICE_SCALE};
    password_prepare(&request, BOTH_FORMS);
    assert_true(!request.internal.password[0] && !request.internal.scram[0]);
}

/* ---- In the record ---- */

static void open_with(struct fixture *fixture, uint32_t forms)
{
    fixture_open(fixture);
    fixture->password_forms = forms;
    fixture_restart(fixture, 0); /* the provisioner is another one */
    fixture_organization(fixture, false);
}

static int set_password(struct fixture *fixture, const struct reeve_uuid *id, const char *hash)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_SET_PASSWORD};
    request.params.service_set_password = (struct reeve_service_set_password_params){
        .organization_id = fixture->organization_id, .service_id = *id, .password_hash = reeve_str(hash)};
    return fixture_submit(fixture, &request);
}

static void assert_verifies(struct reeve_str scram, struct reeve_str password)
{
    uint8_t salt[PASSWORD_SCRAM_SALT_SIZE];
    char wanted[REEVE_SCRAM_SIZE + 1];
    assert_int_equal(scram.size, REEVE_SCRAM_SIZE);
    from_base64(scram.data + 19, 24, salt, sizeof salt);
    password_scram(password, salt, wanted);
    assert_memory_equal(scram.data, wanted, REEVE_SCRAM_SIZE);
}

static void test_the_record_has_the_verifier_of_the_last_password(void **state)
{
    (void)state;
    static const char hash[] = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
    static struct fixture fixture;
    struct reeve_service service;
    char password[REEVE_PASSWORD_SIZE];
    open_with(&fixture, BOTH_FORMS);
    const struct reeve_uuid id = fixture_running(&fixture);
    assert_int_equal(set_password(&fixture, &id, NULL), 0);
    assert_int_equal(fixture.result.answer.password.password.size, REEVE_PASSWORD_SIZE);
    memcpy(password, fixture.result.answer.password.password.data, REEVE_PASSWORD_SIZE);
    fixture_restart(&fixture, 0);
    assert_true(fixture_load_service(&fixture, &id, &service));
    assert_verifies(service.password_scram, (struct reeve_str){password, REEVE_PASSWORD_SIZE});

    assert_int_equal(set_password(&fixture, &id, hash), 0);
    assert_int_equal(fixture.result.answer.password.password.size, 0);
    assert_true(fixture_load_service(&fixture, &id, &service));
    assert_int_equal(service.password_scram.size, 0);
    assert_int_equal(fixture_check(&fixture), 0);
    fixture_close(&fixture);
}

static void test_a_hash_is_refused_where_it_is_of_no_use(void **state)
{
    (void)state;
    static const char hash[] = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
    static struct fixture fixture;
    open_with(&fixture, SCRAM_FORM);
    const struct reeve_uuid id = fixture_running(&fixture);
    const uint64_t sequence = fixture.core.durable.sequence;
    assert_int_equal(set_password(&fixture, &id, hash), REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(fixture.result.error.field, "newPasswordHash");
    assert_non_null(strstr(fixture.result.error.message, "must be absent"));
    assert_int_equal(fixture.core.durable.sequence, sequence);
    assert_int_equal(set_password(&fixture, &id, NULL), 0);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_example_of_rfc_7677),
        cmocka_unit_test(test_each_password_is_another_one),
        cmocka_unit_test(test_only_what_is_asked_for_is_made),
        cmocka_unit_test(test_the_record_has_the_verifier_of_the_last_password),
        cmocka_unit_test(test_a_hash_is_refused_where_it_is_of_no_use),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
