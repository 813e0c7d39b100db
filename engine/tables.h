/* The tables of the store, and what their items are: ordered binary keys and bytes. */
#ifndef REEVE_TABLES_H
#define REEVE_TABLES_H

#include <reeve.h>

enum store_table {
    TABLE_META,          /* text -> text or number */
    TABLE_ORGANIZATIONS, /* organization -> record */
    TABLE_KEYS,          /* organization ‖ key -> record */
    TABLE_KEY_INDEX,     /* key -> organization: who asks names only the key */
    TABLE_SERVICES,      /* organization ‖ service -> record */
    TABLE_BACKUPS,       /* service ‖ backup -> record */
    TABLE_BACKUP_INDEX,  /* backup -> service: a restore names only the backup */
    TABLE_EVENTS,        /* sequence -> record, appended */
    TABLE_QUEUE, /* organization ‖ number -> operation ‖ service [‖ backup]: operations ready or in flight */
    TABLE_DUE,   /* time ‖ kind ‖ key -> nothing: what has to be looked at then */
    TABLE_IDEMPOTENCY, /* organization ‖ hash of the key -> record */
    TABLE_COUNT,
};

#define STORE_KEY_SIZE_MAX 48
#define STORE_FETCH_MAX 8 /* keys fetched ahead at once: still in the cache when they are asked for */

struct store_key {
    size_t size;
    uint8_t bytes[STORE_KEY_SIZE_MAX];
};

struct store_item {
    const uint8_t *key;
    size_t key_size;
    const void *value;
    size_t value_size;
};

#endif
