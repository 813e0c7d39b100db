#include "idempotency.h"

#include <sodium.h>
#include <stdio.h>

#include "service.h"

#define HASH_SIZE 16

_Static_assert(HASH_SIZE == sizeof(struct reeve_uuid), "the hash takes the place of an id in the key");

/* The organization a request is about: each has its own keys. All parameters start with it where they have one. */
static struct reeve_uuid scope_of(const struct reeve_request *request)
{
    const struct command_type *command = schema_command(request->command);
    const struct field *first = &command->params->fields[0];
    struct reeve_uuid scope = {0};
    if (first->kind == FIELD_UUID)
        memcpy(&scope, (const char *)&request->params + first->offset, sizeof scope);
    return scope;
}

static struct reeve_uuid hash_key(struct reeve_str key)
{
    struct reeve_uuid hash;
    crypto_generichash(hash.bytes, sizeof hash, (const unsigned char *)key.data, key.size, NULL, 0);
    return hash;
}

/* Of the command and all that was given with it. */
static void hash_request(struct core *core, const struct reeve_request *request, uint8_t ret_hash[HASH_SIZE])
{
    buffer_reset(&core->scratch);
    const uint32_t command = (uint32_t)request->command;
    buffer_append(&core->scratch, &command, sizeof command);
    codec_encode_params(schema_command(request->command)->params, &request->params, &core->scratch);
    if (core->scratch.failed)
        core_fault(core, -REEVE_ERROR_NO_MEMORY);
    crypto_generichash(ret_hash, HASH_SIZE, (const unsigned char *)core->scratch.data, core->scratch.size, NULL, 0);
}

/* Where the answer keeps its record, its secret and the parts of its key, by the kind of answer. */
struct parts {
    const struct record_type *type; /* NULL: no record */
    void *record;
    struct reeve_str *secret;
    struct reeve_uuid *organization_id, *service_id, *object_id;
};

static struct parts parts_of(const struct command_type *command, union reeve_answer *answer)
{
    if (command->answer == &record_type_service)
        return (struct parts){
            &record_type_service, &answer->service, NULL, &answer->service.organization_id, &answer->service.id, NULL};
    if (command->answer == &record_type_service_created)
        return (struct parts){&record_type_service,
                              &answer->service_created.service,
                              &answer->service_created.password,
                              &answer->service_created.service.organization_id,
                              &answer->service_created.service.id,
                              NULL};
    if (command->answer == &record_type_password)
        return (struct parts){.secret = &answer->password.password};
    if (command->answer == &record_type_organization)
        return (struct parts){
            &record_type_organization, &answer->organization, NULL, &answer->organization.id, NULL, NULL};
    if (command->answer == &record_type_key)
        return (struct parts){&record_type_key, &answer->key, NULL, &answer->key.organization_id, NULL,
                              &answer->key.id};
    if (command->answer == &record_type_key_created)
        return (struct parts){&record_type_key,
                              &answer->key_created.key,
                              &answer->key_created.key_secret,
                              &answer->key_created.key.organization_id,
                              NULL,
                              &answer->key_created.key.id};
    if (command->answer == &record_type_backup)
        return (struct parts){&record_type_backup,        &answer->backup,   NULL, NULL,
                              &answer->backup.service_id, &answer->backup.id};
    if (command->answer == &record_type_backup_configuration)
        return (struct parts){&record_type_backup_configuration, &answer->backup_configuration, NULL, NULL, NULL, NULL};
    return (struct parts){0};
}

/* ---- The secret of an answer: sealed with a key made of the idempotency key, of which only a hash is stored ---- */

static void sealing_key(struct reeve_str key, uint8_t ret_key[crypto_secretbox_KEYBYTES])
{
    static const unsigned char purpose[] = "reeve idempotency seal";
    crypto_generichash(ret_key, crypto_secretbox_KEYBYTES, (const unsigned char *)key.data, key.size, purpose,
                       sizeof purpose - 1);
}

static struct reeve_str seal(struct core *core, struct reeve_str key, struct reeve_str secret)
{
    uint8_t sealing[crypto_secretbox_KEYBYTES];
    const size_t size = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + secret.size;
    unsigned char *sealed = secret.size ? core_alloc(core, size) : NULL;
    if (!sealed)
        return (struct reeve_str){0};
    sealing_key(key, sealing);
    core_random(core, sealed, crypto_secretbox_NONCEBYTES);
    crypto_secretbox_easy(sealed + crypto_secretbox_NONCEBYTES, (const unsigned char *)secret.data, secret.size, sealed,
                          sealing);
    sodium_memzero(sealing, sizeof sealing);
    return (struct reeve_str){(const char *)sealed, size};
}

static struct reeve_str unseal(struct core *core, struct reeve_str key, struct reeve_str sealed)
{
    uint8_t sealing[crypto_secretbox_KEYBYTES];
    const size_t overhead = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES;
    unsigned char *secret = sealed.size > overhead ? core_alloc(core, sealed.size - overhead) : NULL;
    if (!secret)
        return (struct reeve_str){0};
    sealing_key(key, sealing);
    const unsigned char *bytes = (const unsigned char *)sealed.data;
    const int r = crypto_secretbox_open_easy(secret, bytes + crypto_secretbox_NONCEBYTES,
                                             sealed.size - crypto_secretbox_NONCEBYTES, bytes, sealing);
    sodium_memzero(sealing, sizeof sealing);
    if (r != 0) {
        core_fault(core, -REEVE_ERROR_STORE_DAMAGED);
        return (struct reeve_str){0};
    }
    return (struct reeve_str){(const char *)secret, sealed.size - overhead};
}

/* ---- ---- */

static int replay(struct core *core, const struct reeve_request *request, const struct reeve_idempotency *kept,
                  struct reeve_result *result)
{
    const struct command_type *command = schema_command(request->command);
    const struct parts parts = parts_of(command, &result->answer);
    if (parts.type) {
        const int r = codec_decode_stored(parts.type, kept->answer.data, kept->answer.size, core->arena, parts.record);
        if (r < 0) {
            core_fault(core, r);
            return error_plain(&result->error, r);
        }
    }
    if (parts.organization_id)
        *parts.organization_id = kept->organization_id;
    if (parts.service_id)
        *parts.service_id = kept->service_id;
    if (parts.object_id)
        *parts.object_id = kept->object_id;
    if (parts.type == &record_type_service)
        service_derive(parts.record, &kept->organization_id, &kept->service_id);
    if (parts.secret)
        *parts.secret = unseal(core, request->meta.idempotency_key, kept->sealed);
    if (command->answer == &record_type_key_created)
        result->answer.key_created.key_id = kept->object_id;
    result->replayed = true;
    core->delta.commands_replayed++;
    return 1;
}

int idempotency_find(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    if (request->meta.idempotency_key.size == 0)
        return 0;
    const struct reeve_uuid scope = scope_of(request), hash = hash_key(request->meta.idempotency_key);
    const struct store_key key = key_pair(&scope, &hash);
    struct reeve_idempotency kept;
    if (!core_load(core, TABLE_IDEMPOTENCY, &key, &record_type_idempotency, &kept))
        return core->fault < 0 ? error_plain(&result->error, core->fault) : 0;
    uint8_t request_hash[HASH_SIZE];
    hash_request(core, request, request_hash);
    if (kept.request_hash.size != HASH_SIZE || memcmp(kept.request_hash.data, request_hash, HASH_SIZE) != 0)
        return error_set(&result->error, REEVE_ERROR_IDEMPOTENCY_MISMATCH, "idempotencyKey",
                         "was used for another request; use a new key for a new request");
    return replay(core, request, &kept, result);
}

void idempotency_keep(struct core *core, const struct reeve_request *request, const struct reeve_result *result)
{
    if (request->meta.idempotency_key.size == 0)
        return;
    const struct reeve_uuid scope = scope_of(request), hash = hash_key(request->meta.idempotency_key);
    union reeve_answer answer = result->answer;
    const struct parts parts = parts_of(schema_command(request->command), &answer);
    uint8_t request_hash[HASH_SIZE];
    hash_request(core, request, request_hash);
    struct reeve_idempotency kept = {
        .request_hash = {(const char *)request_hash, HASH_SIZE},
        .command = (uint64_t)request->command,
        .expires_ms = core->now_ms + core->limits.idempotency_ms,
    };
    struct buffer stored = {0};
    if (parts.type) {
        codec_encode_stored(parts.type, parts.record, &stored);
        kept.answer = (struct reeve_str){stored.data, stored.size};
    }
    if (parts.organization_id)
        kept.organization_id = *parts.organization_id;
    if (parts.service_id)
        kept.service_id = *parts.service_id;
    if (parts.object_id)
        kept.object_id = *parts.object_id;
    if (parts.secret)
        kept.sealed = seal(core, request->meta.idempotency_key, *parts.secret);
    if (stored.failed)
        core_fault(core, -REEVE_ERROR_NO_MEMORY);
    const struct store_key key = key_pair(&scope, &hash);
    core_insert(core, TABLE_IDEMPOTENCY, &key, &record_type_idempotency, &kept);
    core_move_due(core, 0, kept.expires_ms, DUE_IDEMPOTENCY, &scope, &hash);
    buffer_deinit(&stored);
}

void idempotency_due(struct core *core, const struct reeve_uuid *scope, const struct reeve_uuid *hash, uint64_t due_ms)
{
    const struct store_key key = key_pair(scope, hash);
    store_delete(core->store, TABLE_IDEMPOTENCY, &key);
    core_move_due(core, due_ms, 0, DUE_IDEMPOTENCY, scope, hash);
}
