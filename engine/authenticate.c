/* Who asks: the id and secret of a key against what is stored, with a cache that lasts until any key changes. */
#include <sodium.h>
#include <stdlib.h>

#include "base/network.h"
#include "engine.h"
#include "password.h"

#define SLOTS 1024

/* What is to be known of a key. Of no key all of it is zero: no secret has such a hash. */
struct known_key {
    struct reeve_uuid organization_id, key_id;
    uint8_t secret_sha256[PASSWORD_SHA256_SIZE];
    enum reeve_role role;
    enum reeve_key_state state;
    uint64_t expires_ms;
    size_t networks_count;
    struct network *networks;
};

struct key_slot {
    bool used;
    uint64_t epoch; /* of the store when it was read: counts only while that is the present one */
    struct known_key key;
};

struct key_cache {
    pthread_mutex_t lock;
    struct key_slot slots[SLOTS];
};

struct key_cache *key_cache_new(void)
{
    struct key_cache *cache = calloc(1, sizeof *cache);
    if (cache)
        pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void key_cache_free(struct key_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        free(cache->slots[i].key.networks);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* ---- The store ---- */

static int take_networks(const struct reeve_access_entry_list *list, struct known_key *key)
{
    if (list->count == 0)
        return 0;
    key->networks = calloc(list->count, sizeof *key->networks);
    if (!key->networks)
        return -REEVE_ERROR_NO_MEMORY;
    for (size_t i = 0; i < list->count; i++) {
        const struct reeve_str source = list->items[i].source;
        key->networks_count += network_parse(source.data, source.size, &key->networks[key->networks_count]);
    }
    return 0;
}

static int take_record(struct reeve_str value, struct known_key *key)
{
    struct reeve_key record;
    struct arena arena;
    arena_init(&arena, 4096);
    int r = codec_decode_stored(&record_type_key, value.data, value.size, &arena, &record);
    if (r == 0 && record.secret_sha256.size != sizeof key->secret_sha256)
        r = -REEVE_ERROR_STORE_DAMAGED;
    if (r == 0) {
        memcpy(key->secret_sha256, record.secret_sha256.data, sizeof key->secret_sha256);
        key->role = record.role;
        key->state = record.state;
        key->expires_ms = record.expires_ms;
        r = take_networks(&record.ip_access_list, key);
    }
    arena_deinit(&arena);
    return r;
}

/* 1: found. 0: there is no such key, and nothing is set. Negative: the store could not be read. */
static int read_key(struct reeve_engine *engine, const struct reeve_uuid *key_id, struct known_key *key)
{
    struct store_read read;
    struct reeve_str value;
    const struct store_key index = key_uuid(key_id);
    int r = store_read_begin(engine->store, &read);
    if (r < 0)
        return r;
    if (store_read_get(&read, TABLE_KEY_INDEX, &index, &value) && value.size == sizeof key->organization_id) {
        const struct reeve_uuid organization_id = uuid_at((const uint8_t *)value.data);
        const struct store_key place = key_pair(&organization_id, key_id);
        if (store_read_get(&read, TABLE_KEYS, &place, &value)) {
            r = take_record(value, key);
            key->organization_id = organization_id;
            key->key_id = *key_id;
            r = r < 0 ? r : 1;
        }
    }
    if (read.error < 0)
        r = read.error;
    store_read_end(&read);
    return r;
}

/* ---- The judgement ---- */

struct asked {
    uint8_t secret_sha256[PASSWORD_SHA256_SIZE];
    bool has_address, is_address; /* one was given; it is one */
    struct network address;
};

static bool may_come_from(const struct known_key *key, const struct network *address)
{
    for (size_t i = 0; i < key->networks_count; i++) {
        if (network_contains(&key->networks[i], address))
            return true;
    }
    return false;
}

static int judge(struct reeve_engine *engine, uint64_t epoch, const struct known_key *key, const struct asked *asked,
                 struct reeve_identity *ret_identity, struct reeve_error *ret_error)
{
    const bool right = sodium_memcmp(asked->secret_sha256, key->secret_sha256, sizeof key->secret_sha256) == 0;
    if (!right || reeve_uuid_is_nil(&key->key_id))
        return error_set(ret_error, REEVE_ERROR_UNAUTHORIZED, NULL, "Key is not found");
    if (key->state != REEVE_KEY_STATE_ENABLED)
        return error_set(ret_error, REEVE_ERROR_UNAUTHORIZED, NULL, "Key is disabled");
    if (key->expires_ms && key->expires_ms <= engine_now_ms(engine))
        return error_set(ret_error, REEVE_ERROR_UNAUTHORIZED, NULL, "Key has expired");
    if (asked->has_address && !(asked->is_address && may_come_from(key, &asked->address)))
        return error_set(ret_error, REEVE_ERROR_FORBIDDEN, NULL, "Key may not be used from this address");
    *ret_identity = (struct reeve_identity){.organization_id = key->organization_id,
                                            .key_id = key->key_id,
                                            .role = key->role,
                                            .expires_ms = key->expires_ms,
                                            .epoch = epoch};
    return 0;
}

/* ---- The cache ---- */

static struct key_slot *slot_of(struct reeve_engine *engine, const struct reeve_uuid *key_id)
{
    return &engine->key_cache->slots[get_be64(key_id->bytes + 8) % SLOTS]; /* the end of an id is random */
}

/* Takes over the list of networks. */
static void keep(struct reeve_engine *engine, uint64_t epoch, const struct known_key *key)
{
    struct key_slot *slot = slot_of(engine, &key->key_id);
    pthread_mutex_lock(&engine->key_cache->lock);
    free(slot->key.networks);
    *slot = (struct key_slot){.used = true, .epoch = epoch, .key = *key};
    pthread_mutex_unlock(&engine->key_cache->lock);
}

static bool judge_kept(struct reeve_engine *engine, uint64_t epoch, const struct reeve_uuid *key_id,
                       const struct asked *asked, struct reeve_identity *ret_identity, struct reeve_error *ret_error,
                       int *ret_r)
{
    const struct key_slot *slot = slot_of(engine, key_id);
    pthread_mutex_lock(&engine->key_cache->lock);
    const bool hit = slot->used && slot->epoch == epoch && uuid_equal(&slot->key.key_id, key_id);
    if (hit)
        *ret_r = judge(engine, epoch, &slot->key, asked, ret_identity, ret_error);
    pthread_mutex_unlock(&engine->key_cache->lock);
    return hit;
}

static int judge_any(struct reeve_engine *engine, const struct reeve_uuid *key_id, const struct asked *asked,
                     struct reeve_identity *ret_identity, struct reeve_error *ret_error)
{
    struct known_key key = {.networks = NULL};
    const uint64_t epoch = atomic_load(
        &engine->key_epoch); /* before the store is read: never newer than what is read */
    int r;
    if (judge_kept(engine, epoch, key_id, asked, ret_identity, ret_error, &r))
        return r;
    const int found = read_key(engine, key_id, &key);
    r = found < 0 ? error_plain(ret_error, found) : judge(engine, epoch, &key, asked, ret_identity, ret_error);
    if (found > 0)
        keep(engine, epoch, &key);
    else
        free(key.networks);
    return r;
}

int reeve_authenticate(struct reeve_engine *engine, struct reeve_str key_id, struct reeve_str secret,
                       const char *address, struct reeve_identity *ret_identity, struct reeve_error *ret_error)
{
    struct asked asked = {.has_address = address != NULL};
    struct reeve_error ignored;
    struct reeve_uuid id = {{0}}; /* what is no id is looked for all the same */
    if (!ret_error)
        ret_error = &ignored;
    asked.is_address = address && network_parse(address, strlen(address), &asked.address);
    password_sha256(secret, asked.secret_sha256);
    reeve_uuid_parse(key_id.data, key_id.size, &id);
    const int r = judge_any(engine, &id, &asked, ret_identity, ret_error);
    sodium_memzero(&asked, sizeof asked);
    return r;
}

bool reeve_identity_is_current(struct reeve_engine *engine, const struct reeve_identity *identity)
{
    return identity->epoch == atomic_load(&engine->key_epoch) &&
           (identity->expires_ms == 0 || identity->expires_ms > engine_now_ms(engine));
}
