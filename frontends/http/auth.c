/* Who asks: HTTP Basic with the id and secret of a key. What a key may do follows from its role and the route's. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "frontends/http/server_private.h"

#define CREDENTIALS_MAX 300
#define SLOTS                                                                                                          \
    4096 /* of addresses that failed, and of keys whose requests are counted; a newer one takes a slot over            \
          */
#define FORGET_MS 60000
#define DOUBLINGS_MAX 5

/* ---- Addresses that failed ---- */

struct failure_slot {
    char address[HTTP_ADDRESS_SIZE];
    uint64_t last_ms;
    unsigned count;
};

struct http_failures {
    struct failure_slot slots[SLOTS];
    uint8_t key[crypto_shorthash_KEYBYTES];
};

struct http_failures *failures_new(void)
{
    struct http_failures *failures = calloc(1, sizeof *failures);
    if (failures)
        randombytes_buf(failures->key, sizeof failures->key);
    return failures;
}

void failures_free(struct http_failures *failures)
{
    free(failures);
}

/* How long the answer is to be held back. */
static uint64_t note_failure(struct http_server *server, const char *address)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)address, strlen(address), server->failures->key);
    struct failure_slot *slot = &server->failures->slots[hash % SLOTS];
    const uint64_t now_ms = uv_now(server->loop);
    if (strcmp(slot->address, address) != 0 || now_ms - slot->last_ms > FORGET_MS) {
        *slot = (struct failure_slot){.count = 0};
        snprintf(slot->address, sizeof slot->address, "%s", address);
    }
    slot->last_ms = now_ms;
    const unsigned doublings = slot->count < DOUBLINGS_MAX ? slot->count : DOUBLINGS_MAX;
    slot->count++;
    return server->limits.failure_delay_ms << doublings;
}

/* ---- How often a key asks ---- */

struct rate_slot {
    struct reeve_uuid key_id;
    uint64_t since_ms, count;
};

struct http_rates {
    struct rate_slot slots[SLOTS];
};

struct http_rates *rates_new(void)
{
    return calloc(1, sizeof(struct http_rates));
}

void rates_free(struct http_rates *rates)
{
    free(rates);
}

static bool check_rate(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    const struct reeve_uuid *key_id = &exchange->identity.key_id;
    const uint64_t now_ms = uv_now(server->loop);
    uint64_t hash;
    if (server->limits.rate_requests == 0)
        return true;
    memcpy(&hash, key_id->bytes + 8, sizeof hash);
    struct rate_slot *slot = &server->rates->slots[hash % SLOTS];
    if (memcmp(&slot->key_id, key_id, sizeof *key_id) != 0 || now_ms - slot->since_ms >= server->limits.rate_ms)
        *slot = (struct rate_slot){.key_id = *key_id, .since_ms = now_ms};
    if (++slot->count <= server->limits.rate_requests)
        return true;
    const uint64_t left_ms = server->limits.rate_ms - (now_ms - slot->since_ms);
    server->stats.rate_limited++;
    exchange->rate_reset_s = exchange->retry_after_s = (left_ms + 999) / 1000;
    refuse_status(exchange, 429, "TOO_MANY_REQUESTS", "the key may make %llu requests in %llu ms",
                  (unsigned long long)server->limits.rate_requests, (unsigned long long)server->limits.rate_ms);
    return false;
}

/* ---- Credentials ---- */

/* "Basic base64(id:secret)". The text is to be wiped by the caller. */
static bool read_credentials(const char *header, char text[CREDENTIALS_MAX], struct reeve_str *ret_id,
                             struct reeve_str *ret_secret)
{
    size_t size;
    if (!header || strncasecmp(header, "Basic ", 6) != 0)
        return false;
    header += 6 + strspn(header + 6, " ");
    if (sodium_base642bin((unsigned char *)text, CREDENTIALS_MAX, header, strlen(header), " ", &size, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    const char *colon = memchr(text, ':', size);
    if (!colon)
        return false;
    *ret_id = (struct reeve_str){text, (size_t)(colon - text)};
    *ret_secret = (struct reeve_str){colon + 1, size - ret_id->size - 1};
    return true;
}

static bool refuse_key(struct http_exchange *exchange, const struct reeve_error *error)
{
    struct http_server *server = exchange->server;
    server->stats.unauthorized++;
    refuse_error(exchange, error);
    exchange->paused_until_ms = uv_now(server->loop) + note_failure(server, exchange->connection->address);
    return false;
}

static void note_identity(struct http_exchange *exchange, const struct reeve_identity *identity)
{
    exchange->identity = *identity;
    memcpy(exchange->actor, "key:", 4);
    reeve_uuid_format(&identity->key_id, exchange->actor + 4);
}

/* The same header on the same connection as before, and no key has changed since. */
static bool is_known(struct http_exchange *exchange, const uint8_t hash[crypto_shorthash_siphashx24_BYTES])
{
    struct http_connection *connection = exchange->connection;
    if (!connection->known || sodium_memcmp(connection->header_hash, hash, sizeof connection->header_hash) != 0 ||
        !reeve_identity_is_current(exchange->server->engine, &connection->identity))
        return false;
    note_identity(exchange, &connection->identity);
    return true;
}

static void remember(struct http_exchange *exchange, const uint8_t hash[crypto_shorthash_siphashx24_BYTES])
{
    struct http_connection *connection = exchange->connection;
    connection->known = true;
    connection->identity = exchange->identity;
    memcpy(connection->header_hash, hash, sizeof connection->header_hash);
}

static bool identify(struct http_exchange *exchange)
{
    char text[CREDENTIALS_MAX];
    uint8_t hash[crypto_shorthash_siphashx24_BYTES];
    struct reeve_str id, secret;
    struct reeve_identity identity;
    struct reeve_error error = {.code = REEVE_ERROR_UNAUTHORIZED};
    const char *header = exchange->head.authorization;
    if (!header) {
        exchange->server->stats.unauthorized++;
        refuse(exchange, REEVE_ERROR_UNAUTHORIZED, "",
               "a key is needed: HTTP Basic with its id and secret, as curl --user does");
        return false;
    }
    crypto_shorthash_siphashx24(hash, (const unsigned char *)header, strlen(header), exchange->server->failures->key);
    if (is_known(exchange, hash))
        return true;
    if (!read_credentials(header, text, &id, &secret)) {
        snprintf(error.message, sizeof error.message,
                 "request header.Authorization: must be Basic with key id and secret");
        sodium_memzero(text, sizeof text);
        return refuse_key(exchange, &error);
    }
    const int r = reeve_authenticate(exchange->server->engine, id, secret, exchange->connection->address, &identity,
                                     &error);
    sodium_memzero(text, sizeof text);
    if (r < 0)
        return refuse_key(exchange, &error);
    note_identity(exchange, &identity);
    remember(exchange, hash);
    return true;
}

/* Another organization is, for a key, the same as one that does not exist. */
static bool check_organization(struct http_exchange *exchange)
{
    struct reeve_uuid id;
    if (!request_param(exchange, "organizationId").data)
        return true;
    if (!request_param_uuid(exchange, "organizationId", &id))
        return false;
    if (memcmp(&id, &exchange->identity.organization_id, sizeof id) == 0)
        return true;
    refuse(exchange, REEVE_ERROR_NOT_FOUND, "", "there is no such organization");
    return false;
}

static bool check_role(struct http_exchange *exchange)
{
    /* The numbers grow as the rights shrink. */
    if (exchange->identity.role <= exchange->route->role)
        return true;
    refuse(exchange, REEVE_ERROR_FORBIDDEN, "", "this needs a key with role '%s', this one has '%s'",
           reeve_role_name(exchange->route->role), reeve_role_name(exchange->identity.role));
    return false;
}

bool auth_check(struct http_exchange *exchange)
{
    if (exchange->route->role == REEVE_ROLE_UNSET)
        return true;
    return identify(exchange) && check_rate(exchange) && check_organization(exchange) && check_role(exchange);
}
