#include "password.h"

#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha2.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* ---- A new password ---- */

bool password_is_wanted(const struct reeve_request *request)
{
    const struct reeve_service_create_params *create = &request->params.service_create;
    const struct reeve_service_set_password_params *set = &request->params.service_set_password;
    if (request->command == REEVE_COMMAND_SERVICE_CREATE)
        return !(create->given & REEVE_GIVEN_SERVICE_CREATE_PASSWORD_HASH) && !create->password_hash.size;
    if (request->command == REEVE_COMMAND_SERVICE_SET_PASSWORD)
        return !(set->given & REEVE_GIVEN_SERVICE_SET_PASSWORD_PASSWORD_HASH) && !set->password_hash.size;
    return false;
}

/* Characters that are told apart on paper. */
static void make_text(char password[REEVE_PASSWORD_SIZE])
{
    static const char alphabet[] = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    uint32_t random[REEVE_PASSWORD_SIZE];
    randombytes_buf(random, sizeof random);
    for (size_t i = 0; i < REEVE_PASSWORD_SIZE; i++)
        password[i] = alphabet[random[i] % (sizeof alphabet - 1)];
    sodium_memzero(random, sizeof random);
}

void password_prepare(struct reeve_request *request, uint32_t forms)
{
    request->internal.password[0] = request->internal.scram[0] = '\0';
    if (!password_is_wanted(request))
        return;
    make_text(request->internal.password);
    if (forms & 1U << REEVE_PASSWORD_FORM_SCRAM_SHA_256) {
        uint8_t salt[PASSWORD_SCRAM_SALT_SIZE];
        randombytes_buf(salt, sizeof salt);
        password_scram((struct reeve_str){request->internal.password, REEVE_PASSWORD_SIZE}, salt,
                       request->internal.scram);
    }
}

void password_forget(struct reeve_request *request)
{
    sodium_memzero(request->internal.password, sizeof request->internal.password);
    sodium_memzero(request->internal.scram, sizeof request->internal.scram);
}

/* ---- Its verifiers ---- */

void password_sha256(struct reeve_str secret, uint8_t ret_digest[PASSWORD_SHA256_SIZE])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, secret.size, (const uint8_t *)secret.data);
    sha256_digest(&context, PASSWORD_SHA256_SIZE, ret_digest);
    sodium_memzero(&context, sizeof context);
}

static void hmac(const uint8_t key[SHA256_DIGEST_SIZE], const char *message, uint8_t ret_digest[SHA256_DIGEST_SIZE])
{
    struct hmac_sha256_ctx context;
    hmac_sha256_set_key(&context, SHA256_DIGEST_SIZE, key);
    hmac_sha256_update(&context, strlen(message), (const uint8_t *)message);
    hmac_sha256_digest(&context, SHA256_DIGEST_SIZE, ret_digest);
    sodium_memzero(&context, sizeof context);
}

static void base64(const uint8_t *bytes, size_t size, char *ret_text, size_t room)
{
    sodium_bin2base64(ret_text, room, bytes, size, sodium_base64_VARIANT_ORIGINAL);
}

/* RFC 5802, section 3. */
void password_scram(struct reeve_str password, const uint8_t salt[PASSWORD_SCRAM_SALT_SIZE],
                    char ret_verifier[REEVE_SCRAM_SIZE + 1])
{
    uint8_t salted[SHA256_DIGEST_SIZE], client_key[SHA256_DIGEST_SIZE], stored_key[SHA256_DIGEST_SIZE],
        server_key[SHA256_DIGEST_SIZE];
    char salt_text[25], stored_text[45], server_text[45];
    pbkdf2_hmac_sha256(password.size, (const uint8_t *)password.data, PASSWORD_SCRAM_ITERATIONS,
                       PASSWORD_SCRAM_SALT_SIZE, salt, sizeof salted, salted);
    hmac(salted, "Client Key", client_key);
    password_sha256((struct reeve_str){(const char *)client_key, sizeof client_key}, stored_key);
    hmac(salted, "Server Key", server_key);
    base64(salt, PASSWORD_SCRAM_SALT_SIZE, salt_text, sizeof salt_text);
    base64(stored_key, sizeof stored_key, stored_text, sizeof stored_text);
    base64(server_key, sizeof server_key, server_text, sizeof server_text);
    snprintf(ret_verifier, REEVE_SCRAM_SIZE + 1, "SCRAM-SHA-256$%d:%s$%s:%s", PASSWORD_SCRAM_ITERATIONS, salt_text,
             stored_text, server_text);
    sodium_memzero(salted, sizeof salted);
    sodium_memzero(client_key, sizeof client_key);
}
