/* Where everything is kept: tables of ordered binary keys. The unit is a batch, a list of changes that becomes durable
 * as a whole and then visible as a whole.
 *
 * Two levels: what is durable in the journal and not yet in the database is in memory (memtable.h), above the database
 * (database.h), which follows by checkpoints on a thread of their own. Batches are built one after the other by one
 * thread (the engine's); while one is being flushed the next is built on top of it. Any thread reads: one moment of
 * both levels, of what is durable.
 *
 * A batch remembers its first error and does nothing after it: write as much as you like, look once, when it is sealed.
 * "Not found" is a false, not an error.
 */
#ifndef REEVE_STORE_H
#define REEVE_STORE_H

#include "database.h"
#include "tables.h"

struct store_options {
    const char *directory;
    uint64_t map_initial_bytes, map_max_bytes;
    uint64_t journal_segment_bytes, journal_max_bytes; /* one file; all of them */
    uint64_t table_max_bytes;                          /* in memory, above the database */
    uint64_t checkpoint_ms;        /* changes that are older go into the database with the next batch */
    bool read_only;                /* for looking at a store, also one in use */
    bool single_threaded;          /* no threads: who waits flushes, checkpoints are made when they are due */
    void (*on_settled)(void *arg); /* call store_settle() and look for room; any thread, briefly */
    void *arg;
};

struct store_stats {
    uint64_t puts, deletes, bytes;                   /* written by batches that became durable */
    uint64_t journal_bytes, flushes, flush_ns;       /* to disk, frames and all, and what that took */
    uint64_t journal_held_bytes, journal_file_bytes; /* of files with what the database does not have; of all */
    uint64_t table_bytes;
    uint64_t checkpoints, checkpoint_failures, checkpoint_puts, checkpoint_ns, checkpoint_lag; /* batches behind */
    bool checkpoint_failing;
    uint64_t map_bytes, map_used_bytes;
};

struct store;

int store_open(const struct store_options *options, struct store **ret_store, struct reeve_error *ret_error);
/* Brings everything into the database first. */
void store_close(struct store *store);
/* What a crash leaves: nothing is brought anywhere. */
void store_abandon(struct store *store);
/* From here on nobody is told anything; any thread. */
void store_mute(struct store *store);
void store_get_stats(struct store *store, struct store_stats *ret_stats);
/* Copy the store as of now into a new directory; any thread. */
int store_copy(struct store *store, const char *directory, struct reeve_error *ret_error);

/* ---- Batches: the engine's thread ---- */

/* Is there room for another batch? STORE_WAIT: not before a checkpoint has ended. Negative: checkpoints fail, and what
 * they should have made room for is full. */
#define STORE_ROOM 0
#define STORE_WAIT 1
int store_room(struct store *store);

/* Waits for room; goes on behind the last durable batch where one has failed. */
int store_begin(struct store *store);
/* What get and seek return is valid until the end of the batch. */
bool store_get(struct store *store, enum store_table table, const struct store_key *key, struct reeve_str *ret_value);
/* These keys, up to STORE_FETCH_MAX, are asked for soon: what would have to be waited for in memory is fetched ahead.
 * Not of events or the queue, which are found in order. */
void store_fetch(struct store *store, enum store_table table, const struct store_key *keys, size_t count);
/* The first item whose key is not less than `from`. */
bool store_seek(struct store *store, enum store_table table, const struct store_key *from, struct store_item *ret_item);
bool store_last(struct store *store, enum store_table table, struct store_item *ret_item);
void store_put(struct store *store, enum store_table table, const struct store_key *key, const void *value,
               size_t size);
/* The same for a key that the table does not have: deleting it later leaves nothing. */
void store_insert(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size);
/* The same for a key that the table never had, and that is behind most others. */
void store_append(struct store *store, enum store_table table, const struct store_key *key, const void *value,
                  size_t size);
void store_delete(struct store *store, enum store_table table, const struct store_key *key);
/* The first error of this batch so far, 0 if none. */
int store_batch_error(const struct store *store);

/* The batch is complete: it goes to the journal, and the next one may be begun. Durable it is when store_settle() says
 * so; with `wait` it is flushed by the caller, unless something is being flushed already. Negative: it has not
 * happened; store_failure() has the reason. */
int store_seal(struct store *store, bool wait, uint64_t *ret_sequence);
/* Take notice of what has become durable: all batches up to that one. Negative: flushing has failed, those behind it
 * have not happened. */
int store_settle(struct store *store, uint64_t *ret_sequence);
/* What has failed may be on disk all the same, and could not be made void: it would be there again if the store were
 * opened again now. No more once a batch can be begun. */
bool store_is_in_doubt(const struct store *store);
/* Until nothing is being flushed. */
void store_wait(struct store *store);
/* All in one: 0 when the batch is durable, negative when it has not happened. */
int store_commit(struct store *store);
void store_abort(struct store *store);
/* Why the last of these failed, for people. */
const char *store_failure(const struct store *store);
/* Why the last checkpoint failed; empty where it did not. */
void store_checkpoint_failure(struct store *store, char ret_text[256]);
/* Bring all that is durable into the database, on this thread. */
int store_checkpoint(struct store *store);

/* ---- Reading: any thread ---- */

struct memtable;

/* What one sees: of each key the newest version up to a batch, in one of the tables, or else in the database. */
struct store_view {
    struct memtable *tables[2]; /* the newer first; NULL: none */
    uint64_t sequence;
    struct database_read database;
};

struct store_read {
    struct store *store;
    struct store_view view;
    struct store_read *previous, *next; /* all that are under way */
    uint64_t number;                    /* as they began, from 1 */
    int error;                          /* the first fault of this read: 0 or a negative code */
};

/* One moment of the store until store_read_end(). What is returned in between is valid until then. Short, because it
 * keeps memory and pages from being used again. */
int store_read_begin(struct store *store, struct store_read *ret_read);
void store_read_end(struct store_read *read);
bool store_read_get(struct store_read *read, enum store_table table, const struct store_key *key,
                    struct reeve_str *ret_value);

/* Visits items from `from` on (backwards: from the last one below `from` down), until visit returns false. */
typedef bool (*store_visit)(void *arg, const struct store_item *item);
void store_read_each(struct store_read *read, enum store_table table, const struct store_key *from, bool backwards,
                     store_visit visit, void *arg);
bool store_read_last(struct store_read *read, enum store_table table, struct store_item *ret_item);
/* By counting. */
uint64_t store_read_count(struct store_read *read, enum store_table table);

#endif
