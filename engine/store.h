/* Where everything is kept: tables of ordered binary keys in LMDB. The unit is a batch, a list of changes that becomes
 * durable as a whole and then visible as a whole. Nothing above this header knows LMDB.
 *
 * One thread writes (the engine's); any thread reads. A batch remembers its first error and does nothing after it:
 * write as much as you like, look once, at store_commit(). "Not found" is a false, not an error.
 *
 * Readers hold a lock that the writer takes to grow the map, so a read must be short and must not wait for the writer.
 */
#ifndef REEVE_STORE_H
#define REEVE_STORE_H

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

struct store_options {
    const char *directory;
    uint64_t map_initial_bytes, map_max_bytes;
    bool read_only; /* for looking at a store, also one in use; never creates: tables that it lacks are empty */
};

struct store_stats {
    uint64_t puts, deletes, bytes; /* written by batches that became durable */
    uint64_t map_bytes, map_used_bytes;
};

struct store;

int store_open(const struct store_options *options, struct store **ret_store, struct reeve_error *ret_error);
void store_close(struct store *store);
void store_get_stats(struct store *store, struct store_stats *ret_stats);
/* Copy the store as of now into a new directory; any thread. */
int store_copy(struct store *store, const char *directory, struct reeve_error *ret_error);

/* ---- Batches: the engine's thread ---- */

int store_begin(struct store *store);
/* What get and seek return is valid until the next change of the batch. */
bool store_get(struct store *store, enum store_table table, const struct store_key *key, struct reeve_str *ret_value);
/* The first item whose key is not less than `from`. */
bool store_seek(struct store *store, enum store_table table, const struct store_key *from, struct store_item *ret_item);
bool store_last(struct store *store, enum store_table table, struct store_item *ret_item);
void store_put(struct store *store, enum store_table table, const struct store_key *key, const void *value,
               size_t size);
/* The same for a key that is known to be behind all others of the table. */
void store_append(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size);
void store_delete(struct store *store, enum store_table table, const struct store_key *key);
/* The first error of this batch so far, 0 if none. */
int store_batch_error(const struct store *store);

#define STORE_GROWN 1
/* 0: durable. STORE_GROWN: nothing was written, the map was too small and is larger now; make the batch again.
 * Negative: nothing was written; store_failure() has the reason. */
int store_commit(struct store *store);
void store_abort(struct store *store);
/* Why the last begin or commit failed, for people. */
const char *store_failure(const struct store *store);

/* ---- Reading: any thread ---- */

struct store_read {
    struct store *store;
    void *txn;
    int error; /* the first fault of this read: 0 or a negative code */
};

/* One moment of the store until store_read_end(). What is returned in between is valid until then. */
int store_read_begin(struct store *store, struct store_read *ret_read);
void store_read_end(struct store_read *read);
bool store_read_get(struct store_read *read, enum store_table table, const struct store_key *key,
                    struct reeve_str *ret_value);

/* Visits items from `from` on (backwards: from the last one below `from` down), until visit returns false. */
typedef bool (*store_visit)(void *arg, const struct store_item *item);
void store_read_each(struct store_read *read, enum store_table table, const struct store_key *from, bool backwards,
                     store_visit visit, void *arg);
bool store_read_last(struct store_read *read, enum store_table table, struct store_item *ret_item);
uint64_t store_read_count(struct store_read *read, enum store_table table);

#endif
