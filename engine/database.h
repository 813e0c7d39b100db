/* LMDB: the store's lower level, what checkpoints have brought there. Nothing above this header knows LMDB.
 *
 * One thread at a time writes (checkpoints, and what opens the store); any thread reads. Readers hold a lock that
 * growing the map takes, so a read must be short and must not wait for a writer.
 */
#ifndef REEVE_DATABASE_H
#define REEVE_DATABASE_H

#include "tables.h"

struct database;

struct database_options {
    const char *directory; /* is there, and locked by the caller where it is opened for writing */
    uint64_t map_initial_bytes, map_max_bytes;
    bool read_only; /* never creates: tables that it lacks are empty */
};

int database_open(const struct database_options *options, struct database **ret_database,
                  struct reeve_error *ret_error);
void database_close(struct database *database);
void database_get_size(struct database *database, uint64_t *ret_map_bytes, uint64_t *ret_used_bytes);
/* As of now into a directory that is there; any thread. */
int database_copy(struct database *database, const char *directory, struct reeve_error *ret_error);

/* ---- Reading ---- */

struct database_read {
    struct database *database;
    void *txn;
    int error; /* the first fault: 0 or a negative code */
};

/* One moment, until database_read_end(); what is returned in between is valid until then. */
int database_read_begin(struct database *database, struct database_read *ret_read);
void database_read_end(struct database_read *read);
bool database_get(struct database_read *read, enum store_table table, const void *key, size_t size,
                  struct reeve_str *ret_value);

/* A place in a table. */
struct database_cursor {
    struct database_read *read;
    void *cursor; /* NULL: no such table, or a fault */
};

void database_cursor_open(struct database_read *read, enum store_table table, struct database_cursor *ret_cursor);
void database_cursor_close(struct database_cursor *cursor);
/* The first item whose key is not less than `from`; backwards the last one whose key is less, or of all where `from` is
 * empty. */
bool database_cursor_seek(struct database_cursor *cursor, const struct store_key *from, bool backwards,
                          struct store_item *ret_item);
bool database_cursor_step(struct database_cursor *cursor, bool backwards, struct store_item *ret_item);

/* ---- Writing: one transaction, which remembers its first error and does nothing after it ---- */

#define DATABASE_GROWN 1

int database_write_begin(struct database *database);
/* In the order of the keys where there are many: each is looked for from where the one before it was. */
void database_put(struct database *database, enum store_table table, const void *key, size_t key_size,
                  const void *value, size_t size);
void database_delete(struct database *database, enum store_table table, const void *key, size_t key_size);
/* 0: durable. DATABASE_GROWN: nothing was written, the map was too small and is larger now; write it again.
 * Negative: nothing was written; database_failure() has the reason. */
int database_commit(struct database *database);
/* The same with one flush for two: there for readers at once and whole after any crash, but only the next
 * database_commit() makes sure that it is there after a power cut. */
int database_commit_part(struct database *database);
/* Why the last begin or commit failed, for people; the writer's thread. */
const char *database_failure(const struct database *database);

#endif
