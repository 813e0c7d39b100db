/* READ and LIST commands: from snapshots, on the caller's thread. A list is read piece by piece, so that no snapshot is
 * held while the caller looks at what it got. */
#include <stdlib.h>

#include "backup.h"
#include "engine.h"
#include "service.h"

#define PIECE_ITEMS 128
#define PIECE_BYTES (256 * 1024)
#define READ_STACK_BYTES 4096

struct reader {
    struct reeve_engine *engine;
    struct arena arena;
    reeve_item_cb on_item;
    void *arg;
    struct reeve_error *error;
    uint64_t left; /* items that may still be handed out */
    bool stopped;  /* the caller has had enough */
};

/* ---- One record ---- */

static int find(struct reader *reader, enum store_table table, const struct store_key *key,
                const struct record_type *type, void *ret_record)
{
    struct store_read read;
    struct reeve_str value;
    int r = store_read_begin(reader->engine->store, &read);
    if (r < 0)
        return error_plain(reader->error, r);
    const bool found = store_read_get(&read, table, key, &value);
    void *copy = found ? arena_copy(&reader->arena, value.data, value.size) : NULL;
    r = read.error;
    store_read_end(&read);
    if (r == 0 && !found)
        return error_set(reader->error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such %s", type->name);
    if (r == 0)
        r = copy ? codec_decode_stored(type, copy, value.size, &reader->arena, ret_record) : -REEVE_ERROR_NO_MEMORY;
    return r < 0 ? error_plain(reader->error, r) : 0;
}

static int find_organization(struct reader *reader, const struct reeve_uuid *id, struct reeve_organization *ret)
{
    const struct store_key key = key_uuid(id);
    const int r = find(reader, TABLE_ORGANIZATIONS, &key, &record_type_organization, ret);
    ret->id = *id;
    return r;
}

static int find_service(struct reader *reader, const struct reeve_uuid *organization_id,
                        const struct reeve_uuid *service_id, struct reeve_service *ret)
{
    const struct store_key key = key_pair(organization_id, service_id);
    const int r = find(reader, TABLE_SERVICES, &key, &record_type_service, ret);
    if (r == 0)
        service_derive(ret, organization_id, service_id);
    return r;
}

static void hand_out(struct reader *reader, const void *record)
{
    if (reader->left == 0 || !reader->on_item(reader->arg, record))
        reader->stopped = true;
    else if (--reader->left == 0)
        reader->stopped = true;
}

/* ---- Lists ---- */

/* One table's records from a place on. `take` decodes one and hands it out, or passes over it. */
struct list {
    enum store_table table;
    struct store_key prefix; /* only keys that start with this */
    struct store_key from;
    bool backwards;
    int (*take)(struct reader *reader, const struct list *list, const uint8_t *key, struct reeve_str value);
    const void *arg;
};

struct piece_item {
    struct store_key key;
    struct reeve_str value;
};

struct piece {
    const struct list *list;
    struct arena *arena;
    struct piece_item items[PIECE_ITEMS];
    size_t count, bytes;
    bool complete; /* nothing more behind it */
    int error;
};

/* Of the tables that are listed. A key of another size is none of ours. */
static const size_t key_sizes[TABLE_COUNT] = {
    [TABLE_ORGANIZATIONS] = 16, [TABLE_KEYS] = 32,  [TABLE_SERVICES] = 32,
    [TABLE_BACKUPS] = 32,       [TABLE_QUEUE] = 24, [TABLE_EVENTS] = 8,
};

static bool take_item(void *arg, const struct store_item *item)
{
    struct piece *piece = arg;
    const struct store_key *prefix = &piece->list->prefix;
    if (item->key_size != key_sizes[piece->list->table]) {
        piece->error = -REEVE_ERROR_STORE_DAMAGED;
        return false;
    }
    if (memcmp(item->key, prefix->bytes, prefix->size) != 0) {
        piece->complete = true;
        return false;
    }
    if (piece->count == PIECE_ITEMS || piece->bytes > PIECE_BYTES) {
        piece->complete = false;
        return false;
    }
    struct piece_item *taken = &piece->items[piece->count];
    taken->key.size = item->key_size;
    memcpy(taken->key.bytes, item->key, item->key_size);
    taken->value = (struct reeve_str){arena_copy(piece->arena, item->value, item->value_size), item->value_size};
    if (!taken->value.data && item->value_size) {
        piece->error = -REEVE_ERROR_NO_MEMORY;
        return false;
    }
    piece->count++;
    piece->bytes += item->value_size;
    return true;
}

static int read_piece(struct reader *reader, struct piece *piece, const struct list *list)
{
    struct store_read read;
    *piece = (struct piece){.list = list, .arena = &reader->arena, .complete = true};
    arena_reset(&reader->arena);
    int r = store_read_begin(reader->engine->store, &read);
    if (r < 0)
        return r;
    store_read_each(&read, list->table, &list->from, list->backwards, take_item, piece);
    r = read.error;
    store_read_end(&read);
    return piece->error < 0 ? piece->error : r;
}

/* The smallest key behind this one. */
static struct store_key key_behind(const struct store_key *key)
{
    struct store_key behind = *key;
    if (behind.size < STORE_KEY_SIZE_MAX)
        behind.bytes[behind.size++] = 0;
    return behind;
}

static int each(struct reader *reader, struct list list)
{
    struct piece *piece = malloc(sizeof *piece);
    int r = piece ? 0 : -REEVE_ERROR_NO_MEMORY;
    while (r == 0 && !reader->stopped) {
        r = read_piece(reader, piece, &list);
        for (size_t i = 0; r == 0 && i < piece->count && !reader->stopped; i++)
            r = list.take(reader, &list, piece->items[i].key.bytes, piece->items[i].value);
        if (piece->count == 0 || piece->complete)
            break;
        const struct store_key *last = &piece->items[piece->count - 1].key;
        list.from = list.backwards ? *last : key_behind(last);
    }
    free(piece);
    return r < 0 && reader->error->code == REEVE_OK ? error_plain(reader->error, r) : r;
}

static int take_organization(struct reader *reader, const struct list *list, const uint8_t *key, struct reeve_str value)
{
    (void)list;
    struct reeve_organization organization;
    const int r = codec_decode_stored(&record_type_organization, value.data, value.size, &reader->arena, &organization);
    if (r < 0)
        return r;
    organization.id = uuid_at(key);
    hand_out(reader, &organization);
    return 0;
}

static int take_key(struct reader *reader, const struct list *list, const uint8_t *key, struct reeve_str value)
{
    (void)list;
    struct reeve_key record;
    const int r = codec_decode_stored(&record_type_key, value.data, value.size, &reader->arena, &record);
    if (r < 0)
        return r;
    record.organization_id = uuid_at(key);
    record.id = uuid_at(key + 16);
    hand_out(reader, &record);
    return 0;
}

static int decode_service(struct reader *reader, const uint8_t *key, struct reeve_str value, struct reeve_service *ret)
{
    const int r = codec_decode_stored(&record_type_service, value.data, value.size, &reader->arena, ret);
    const struct reeve_uuid organization_id = uuid_at(key), service_id = uuid_at(key + 16);
    if (r == 0)
        service_derive(ret, &organization_id, &service_id);
    return r;
}

static int take_service(struct reader *reader, const struct list *list, const uint8_t *key, struct reeve_str value)
{
    (void)list;
    struct reeve_service service;
    const int r = decode_service(reader, key, value, &service);
    if (r == 0)
        hand_out(reader, &service);
    return r;
}

static void derive_backup(struct reeve_backup *backup, const uint8_t *key)
{
    const uint64_t now_ms = clock_wall_ns() / 1000000;
    const uint64_t end_ms = backup->finished_ms ? backup->finished_ms : now_ms;
    backup->service_id = uuid_at(key);
    backup->id = uuid_at(key + 16);
    backup->duration_s = end_ms > backup->started_ms ? (end_ms - backup->started_ms) / 1000 : 0;
}

static int decode_backup(struct reader *reader, const uint8_t *key, struct reeve_str value, struct reeve_backup *ret)
{
    const int r = codec_decode_stored(&record_type_backup, value.data, value.size, &reader->arena, ret);
    if (r == 0)
        derive_backup(ret, key);
    return r;
}

/* list->arg: the organization that asks. */
static int take_backup(struct reader *reader, const struct list *list, const uint8_t *key, struct reeve_str value)
{
    struct reeve_backup backup;
    const int r = decode_backup(reader, key, value, &backup);
    if (r == 0 && uuid_equal(&backup.organization_id, list->arg))
        hand_out(reader, &backup);
    return r;
}

static int take_event(struct reader *reader, const struct list *list, const uint8_t *key, struct reeve_str value)
{
    const struct reeve_event_list_params *params = list->arg;
    struct reeve_event event;
    const int r = codec_decode_stored(&record_type_event, value.data, value.size, &reader->arena, &event);
    if (r < 0)
        return r;
    event.sequence = get_be64(key);
    if ((reeve_uuid_is_nil(&params->organization_id) || uuid_equal(&params->organization_id, &event.organization_id)) &&
        (reeve_uuid_is_nil(&params->service_id) || uuid_equal(&params->service_id, &event.service_id)))
        hand_out(reader, &event);
    return 0;
}

/* ---- Operations: they stand in the records they belong to ---- */

static void hand_out_operation(struct reader *reader, const struct reeve_operation *operation,
                               const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id)
{
    if (operation->kind == REEVE_OPERATION_KIND_UNSET || reader->stopped)
        return;
    struct reeve_operation shown = *operation;
    shown.service_id = *service_id;
    if (backup_id)
        shown.backup_id = *backup_id;
    hand_out(reader, &shown);
}

static int take_backup_operation(struct reader *reader, const struct list *list, const uint8_t *key,
                                 struct reeve_str value)
{
    struct reeve_backup backup;
    const int r = decode_backup(reader, key, value, &backup);
    if (r == 0 && uuid_equal(&backup.organization_id, list->arg))
        hand_out_operation(reader, &backup.operation, &backup.service_id, &backup.id);
    return r;
}

/* A reader of its own, whose arena does not disturb the piece that the caller walks over. */
static int backup_operations(struct reader *reader, const struct reeve_uuid *organization_id,
                             const struct reeve_uuid *service_id)
{
    struct reader inner = *reader;
    const struct store_key prefix = key_uuid(service_id);
    arena_init(&inner.arena, 4096);
    const int r = each(&inner, (struct list){.table = TABLE_BACKUPS,
                                             .prefix = prefix,
                                             .from = prefix,
                                             .take = take_backup_operation,
                                             .arg = organization_id});
    arena_deinit(&inner.arena);
    reader->left = inner.left;
    reader->stopped = inner.stopped;
    return r;
}

static int take_service_operations(struct reader *reader, const struct list *list, const uint8_t *key,
                                   struct reeve_str value)
{
    struct reeve_service service;
    const int r = decode_service(reader, key, value, &service);
    if (r < 0)
        return r;
    hand_out_operation(reader, &service.operation, &service.id, NULL);
    return service.backup_count ? backup_operations(reader, list->arg, &service.id) : 0;
}

/* ---- Commands ---- */

static struct store_key cursor_key(const struct reeve_uuid *prefix, const struct reeve_uuid *cursor)
{
    const struct store_key pair = key_pair(prefix, cursor);
    return reeve_uuid_is_nil(cursor) ? key_uuid(prefix) : key_behind(&pair);
}

static int list_organizations(struct reader *reader, const struct reeve_page_params *params)
{
    const struct store_key cursor = key_uuid(&params->cursor);
    struct list list = {.table = TABLE_ORGANIZATIONS, .take = take_organization};
    if (!reeve_uuid_is_nil(&params->cursor))
        list.from = key_behind(&cursor);
    reader->left = params->limit ? params->limit : UINT64_MAX;
    return each(reader, list);
}

static int list_keys(struct reader *reader, const struct reeve_key_list_params *params)
{
    struct reeve_organization organization;
    const int r = find_organization(reader, &params->organization_id, &organization);
    reader->left = params->limit ? params->limit : UINT64_MAX;
    return r < 0 ? r
                 : each(reader, (struct list){.table = TABLE_KEYS,
                                              .prefix = key_uuid(&params->organization_id),
                                              .from = cursor_key(&params->organization_id, &params->cursor),
                                              .take = take_key});
}

static int list_services(struct reader *reader, const struct reeve_service_list_params *params)
{
    struct reeve_organization organization;
    const int r = find_organization(reader, &params->organization_id, &organization);
    reader->left = params->limit ? params->limit : UINT64_MAX;
    return r < 0 ? r
                 : each(reader, (struct list){.table = TABLE_SERVICES,
                                              .prefix = key_uuid(&params->organization_id),
                                              .from = cursor_key(&params->organization_id, &params->cursor),
                                              .take = take_service});
}

/* Newest first. Backups outlive their service: a service that is gone has a list as long as one of them is left. */
static int list_backups(struct reader *reader, const struct reeve_backup_list_params *params)
{
    struct reeve_service service;
    const int found = find_service(reader, &params->organization_id, &params->service_id, &service);
    if (found < 0 && found != -REEVE_ERROR_NOT_FOUND)
        return found;
    const struct store_key prefix = key_uuid(&params->service_id);
    const uint64_t limit = params->limit ? params->limit : UINT64_MAX;
    const struct reeve_error not_found = *reader->error;
    *reader->error = (struct reeve_error){0};
    reader->left = limit;
    const int r = each(reader, (struct list){.table = TABLE_BACKUPS,
                                             .prefix = prefix,
                                             .from = reeve_uuid_is_nil(&params->cursor)
                                                         ? key_after_prefix(prefix)
                                                         : key_pair(&params->service_id, &params->cursor),
                                             .backwards = true,
                                             .take = take_backup,
                                             .arg = &params->organization_id});
    if (r == 0 && found < 0 && reader->left == limit && reeve_uuid_is_nil(&params->cursor)) {
        *reader->error = not_found;
        return found;
    }
    return r;
}

static int list_events(struct reader *reader, const struct reeve_event_list_params *params)
{
    reader->left = params->limit ? params->limit : UINT64_MAX;
    return each(
        reader,
        (struct list){.table = TABLE_EVENTS, .from = key_number(params->from), .take = take_event, .arg = params});
}

static int list_operations(struct reader *reader, const struct reeve_operation_list_params *params)
{
    struct reeve_organization organization;
    int r = find_organization(reader, &params->organization_id, &organization);
    reader->left = UINT64_MAX;
    if (r < 0)
        return r;
    if (reeve_uuid_is_nil(&params->service_id)) {
        const struct store_key prefix = key_uuid(&params->organization_id);
        return each(reader, (struct list){.table = TABLE_SERVICES,
                                          .prefix = prefix,
                                          .from = prefix,
                                          .take = take_service_operations,
                                          .arg = &params->organization_id});
    }
    struct reeve_service service;
    r = find_service(reader, &params->organization_id, &params->service_id, &service);
    if (r < 0)
        return r;
    hand_out_operation(reader, &service.operation, &service.id, NULL);
    return backup_operations(reader, &params->organization_id, &params->service_id);
}

struct wanted {
    struct reader *reader;
    const struct reeve_uuid *operation_id;
    bool found;
};

static bool pick_operation(void *arg, const void *record)
{
    struct wanted *wanted = arg;
    const struct reeve_operation *operation = record;
    if (!uuid_equal(&operation->id, wanted->operation_id))
        return true;
    wanted->found = true;
    wanted->reader->on_item(wanted->reader->arg, operation);
    return false;
}

static int get_operation(struct reader *reader, const struct reeve_operation_params *params)
{
    struct wanted wanted = {.reader = reader, .operation_id = &params->operation_id};
    struct reader inner = {.engine = reader->engine, .on_item = pick_operation, .arg = &wanted, .error = reader->error};
    arena_init(&inner.arena, 4096);
    const int r = list_operations(&inner,
                                  &(struct reeve_operation_list_params){.organization_id = params->organization_id,
                                                                        .service_id = params->service_id});
    arena_deinit(&inner.arena);
    if (r == 0 && !wanted.found)
        return error_set(reader->error, REEVE_ERROR_NOT_FOUND, NULL,
                         "there is no such operation under way; what has ended is in the events");
    return r;
}

static int get_organization(struct reader *reader, const struct reeve_organization_params *params)
{
    struct reeve_organization organization;
    const int r = find_organization(reader, &params->organization_id, &organization);
    if (r == 0)
        hand_out(reader, &organization);
    return r;
}

static int get_key(struct reader *reader, const struct reeve_key_params *params)
{
    struct reeve_key record;
    const struct store_key key = key_pair(&params->organization_id, &params->key_id);
    const int r = find(reader, TABLE_KEYS, &key, &record_type_key, &record);
    if (r < 0)
        return r;
    record.organization_id = params->organization_id;
    record.id = params->key_id;
    hand_out(reader, &record);
    return 0;
}

static int get_service(struct reader *reader, const struct reeve_service_params *params, bool configuration)
{
    struct reeve_service service;
    const int r = find_service(reader, &params->organization_id, &params->service_id, &service);
    if (r == 0)
        hand_out(reader, configuration ? (const void *)&service.backup_configuration : (const void *)&service);
    return r;
}

static int get_backup(struct reader *reader, const struct reeve_backup_params *params)
{
    struct reeve_backup backup;
    const struct store_key key = key_pair(&params->service_id, &params->backup_id);
    const int r = find(reader, TABLE_BACKUPS, &key, &record_type_backup, &backup);
    if (r < 0)
        return r;
    if (!uuid_equal(&backup.organization_id, &params->organization_id))
        return error_set(reader->error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such backup");
    derive_backup(&backup, key.bytes);
    hand_out(reader, &backup);
    return 0;
}

static int answer(struct reader *reader, const struct reeve_request *request)
{
    const union reeve_params *params = &request->params;
    const unsigned command = request->command;
    switch (command) {
    case REEVE_COMMAND_ORGANIZATION_GET:
        return get_organization(reader, &params->organization);
    case REEVE_COMMAND_ORGANIZATION_LIST:
        return list_organizations(reader, &params->page);
    case REEVE_COMMAND_KEY_GET:
        return get_key(reader, &params->key);
    case REEVE_COMMAND_KEY_LIST:
        return list_keys(reader, &params->key_list);
    case REEVE_COMMAND_SERVICE_GET:
        return get_service(reader, &params->service, false);
    case REEVE_COMMAND_SERVICE_LIST:
        return list_services(reader, &params->service_list);
    case REEVE_COMMAND_BACKUP_GET:
        return get_backup(reader, &params->backup);
    case REEVE_COMMAND_BACKUP_LIST:
        return list_backups(reader, &params->backup_list);
    case REEVE_COMMAND_BACKUP_CONFIGURATION_GET:
        return get_service(reader, &params->service, true);
    case REEVE_COMMAND_OPERATION_GET:
        return get_operation(reader, &params->operation);
    case REEVE_COMMAND_OPERATION_LIST:
        return list_operations(reader, &params->operation_list);
    case REEVE_COMMAND_EVENT_LIST:
        return list_events(reader, &params->event_list);
    default:
        return error_set(reader->error, REEVE_ERROR_BAD_REQUEST, "command", "is not one that reads; submit it");
    }
}

int reeve_read(struct reeve_engine *engine, const struct reeve_request *request, reeve_item_cb on_item, void *arg,
               struct reeve_error *ret_error)
{
    *ret_error = (struct reeve_error){0};
    struct reader reader = {.engine = engine, .on_item = on_item, .arg = arg, .error = ret_error, .left = UINT64_MAX};
    max_align_t memory[READ_STACK_BYTES / sizeof(max_align_t)]; /* enough for most single records */
    arena_init_on(&reader.arena, memory, sizeof memory, 4096);
    const int r = answer(&reader, request);
    arena_deinit(&reader.arena);
    return r;
}
