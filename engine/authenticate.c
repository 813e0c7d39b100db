/* Who asks: the id and secret of a key against what is stored, with a cache that lasts until any key changes. */
#include <sodium.h>
#include <stdlib.h>

#include "base/network.h"
#include "engine.h"

#define SLOTS 1024
#define NETWORKS_MAX 16 /* keys with longer allow lists are not kept */

struct key_slot {
    bool used;
    uint64_t epoch; /* of the store when it was read: counts only while that is the present one */
    struct reeve_uuid key_id, organization_id;
    uint8_t secret_sha256[crypto_hash_sha256_BYTES];
    enum reeve_role role;
    enum reeve_key_state state;
    uint64_t expires_ms;
    unsigned networks_count;
    struct network networks[NETWORKS_MAX];
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
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* ---- The store ---- */

static bool decode_key(struct arena *arena, const struct reeve_str *value, struct reeve_key *ret_key)
{
    return codec_decode_stored(&record_type_key, value->data, value->size, arena, ret_key) == 0 &&
           ret_key->secret_sha256.size == crypto_hash_sha256_BYTES;
}

static void fill_slot(const struct reeve_key *key, struct key_slot *slot)
{
    memcpy(slot->secret_sha256, key->secret_sha256.data, sizeof slot->secret_sha256);
    slot->role = key->role;
    slot->state = key->state;
    slot->expires_ms = key->expires_ms;
}

/* Whether the address is in a list of any length. */
static bool list_contains(const struct reeve_access_entry_list *list, const struct network *address)
{
    for (size_t i = 0; i < list->count; i++) {
        struct network network;
        if (network_parse(list->items[i].source.data, list->items[i].source.size, &network) &&
            network_contains(&network, address))
            return true;
    }
    return false;
}

/* Keep the list in the slot, or, where it is too long for that, only what it says about this address. */
static void fill_networks(const struct reeve_access_entry_list *list, const struct network *address,
                          struct key_slot *slot, bool *ret_keep)
{
    *ret_keep = list->count <= NETWORKS_MAX;
    slot->networks_count = 0;
    for (size_t i = 0; *ret_keep && i < list->count; i++) {
        struct network *network = &slot->networks[slot->networks_count];
        if (network_parse(list->items[i].source.data, list->items[i].source.size, network))
            slot->networks_count++;
    }
    if (!*ret_keep && address && list_contains(list, address)) {
        slot->networks[0] = *address;
        slot->networks_count = 1;
    }
}

/* 1: found. 0: there is no such key. Negative: the store could not be read. */
static int read_key(struct reeve_engine *engine, const struct reeve_uuid *key_id, const struct network *address,
                    struct key_slot *slot, bool *ret_keep)
{
    struct store_read read;
    struct reeve_str value;
    struct reeve_key key;
    struct arena arena;
    int r = store_read_begin(engine->store, &read);
    if (r < 0)
        return r;
    arena_init(&arena, 4096);
    const struct store_key index = key_uuid(key_id);
    bool found = store_read_get(&read, TABLE_KEY_INDEX, &index, &value) && value.size == sizeof slot->organization_id;
    if (found) {
        memcpy(&slot->organization_id, value.data, sizeof slot->organization_id);
        const struct store_key place = key_pair(&slot->organization_id, key_id);
        found = store_read_get(&read, TABLE_KEYS, &place, &value) && decode_key(&arena, &value, &key);
    }
    if (found) {
        fill_slot(&key, slot);
        fill_networks(&key.ip_access_list, address, slot, ret_keep);
    }
    r = read.error < 0 ? read.error : found;
    store_read_end(&read);
    arena_deinit(&arena);
    return r;
}

/* ---- The cache ---- */

static int find_key(struct reeve_engine *engine, const struct reeve_uuid *key_id, const struct network *address,
                    struct key_slot *ret_slot)
{
    struct key_cache *cache = engine->key_cache;
    struct key_slot *slot = &cache->slots[get_be64(key_id->bytes + 8) % SLOTS];
    const uint64_t epoch = atomic_load(&engine->key_epoch); /* before the store is read */
    bool keep = false;
    pthread_mutex_lock(&cache->lock);
    const bool hit = slot->used && slot->epoch == epoch && uuid_equal(&slot->key_id, key_id);
    if (hit)
        *ret_slot = *slot;
    pthread_mutex_unlock(&cache->lock);
    if (hit)
        return 1;
    const int r = read_key(engine, key_id, address, ret_slot, &keep);
    if (r != 1 || !keep)
        return r;
    ret_slot->used = true;
    ret_slot->epoch = epoch;
    ret_slot->key_id = *key_id;
    pthread_mutex_lock(&cache->lock);
    *slot = *ret_slot;
    pthread_mutex_unlock(&cache->lock);
    return 1;
}

/* ---- ---- */

static bool may_come_from(const struct key_slot *slot, const struct network *address)
{
    for (unsigned i = 0; i < slot->networks_count; i++) {
        if (network_contains(&slot->networks[i], address))
            return true;
    }
    return false;
}

static int check_use(const struct key_slot *slot, const struct network *address, struct reeve_error *ret_error)
{
    if (slot->state != REEVE_KEY_STATE_ENABLED)
        return error_set(ret_error, REEVE_ERROR_UNAUTHORIZED, NULL, "Key is disabled");
    if (slot->expires_ms && slot->expires_ms <= clock_wall_ns() / 1000000)
        return error_set(ret_error, REEVE_ERROR_UNAUTHORIZED, NULL, "Key has expired");
    if (address && !may_come_from(slot, address))
        return error_set(ret_error, REEVE_ERROR_FORBIDDEN, NULL, "Key may not be used from this address");
    return 0;
}

int reeve_authenticate(struct reeve_engine *engine, struct reeve_str key_id, struct reeve_str secret,
                       const char *address, struct reeve_identity *ret_identity, struct reeve_error *ret_error)
{
    struct key_slot slot = {.used = false}; /* an unknown key is compared, too: with nothing that has a hash */
    struct network network;
    struct reeve_uuid id;
    uint8_t sha256[crypto_hash_sha256_BYTES];
    const bool has_address = address && network_parse(address, strlen(address), &network);
    int r = reeve_uuid_parse(key_id.data, key_id.size, &id)
                ? find_key(engine, &id, has_address ? &network : NULL, &slot)
                : 0;
    if (r < 0)
        return error_plain(ret_error, r);
    crypto_hash_sha256(sha256, (const unsigned char *)secret.data, secret.size);
    const bool right = sodium_memcmp(sha256, slot.secret_sha256, sizeof sha256) == 0;
    sodium_memzero(sha256, sizeof sha256);
    if (r == 0 || !right)
        return error_set(ret_error, REEVE_ERROR_UNAUTHORIZED, NULL, "Key is not found");
    r = check_use(&slot, has_address ? &network : NULL, ret_error);
    if (r == 0)
        *ret_identity = (struct reeve_identity){
            .organization_id = slot.organization_id, .key_id = id, .role = slot.role};
    return r;
}
