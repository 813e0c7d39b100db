/* The inside of the store, for the files it is made of: batches in store.c, reading in store_read.c, opening in
 * store_open.c, checkpoints and copies in checkpoint.c. */
#ifndef REEVE_STORE_STATE_H
#define REEVE_STORE_STATE_H

#include <pthread.h>

#include "base/buffer.h"
#include "base/fifo.h"
#include "hints.h"
#include "journal.h"
#include "reclaim.h"
#include "store_view.h"

#define STORE_SEALED_MAX 8

/* A batch on its way to disk. */
struct sealed {
    uint64_t sequence;
    struct memtable *table;
    size_t touched; /* how many of `touched` are its own */
    uint64_t puts, deletes, bytes;
};

/* What the database says about the journal. */
struct journal_record {
    struct reeve_uuid store_id;
    struct journal_position position; /* of what the database has */
    unsigned segments;                /* files that were there */
    bool closed;                      /* the database has everything */
};

struct store {
    struct database *database;
    struct journal *journal;
    char *directory;
    int lock_fd;
    bool read_only, single_threaded;
    uint64_t table_max_bytes, journal_max_bytes, checkpoint_ms;
    struct reeve_uuid id;

    /* the engine's thread */
    struct memtable *active;
    struct journal_position position; /* of the newest sealed batch */
    uint64_t active_since_ms;
    bool in_batch, recovering;
    bool holds_moment;      /* read only: `view` has the one moment of the database that is looked at */
    struct store_view view; /* of the batch */
    struct sealed batch;
    int error; /* the first one of the batch */
    struct buffer payload;
    struct sealed sealed[STORE_SEALED_MAX]; /* in order */
    unsigned sealed_count;
    struct fifo touched;    /* nodes that the batches that are not settled have written: each once, as they came */
    struct reclaim reclaim; /* of the active table */
    struct hints hints;
    char failure[256];

    pthread_mutex_t lock; /* all below; taken before the database's */
    pthread_cond_t changed;
    struct memtable *frozen, *spare, *retired; /* on its way to the database; to be used again; still being read */
    uint64_t durable;
    struct store_read *reads_first, *reads_last; /* as they began */
    uint64_t reads_begun;
    struct store_stats stats;
    pthread_t thread;
    bool has_thread, stopping, checkpointing;
    uint64_t part_pages;          /* of a checkpoint; who makes it */
    bool hurried;                 /* the last checkpoint was nearly too late */
    bool closing;                 /* nobody waits for the journal any more */
    bool wants_file, wants_table; /* soon needed, for the thread to make: one of the journal; `spare` */
    int copies;                   /* of the database that are being made */
    uint64_t checkpoint_sequence; /* what the database has */
    char checkpoint_failure[256];
    void (*on_settled)(void *arg);
    void *on_settled_arg;
};

/* A moment of the store, up to a batch; under the lock. 0 or a negative code. */
int store_view_begin(struct store *store, uint64_t sequence, struct store_view *ret_view);
void store_view_end(struct store *store, struct store_view *view);
/* Readers keep the tables that they are pinned to; under the lock. */
void store_unpin(struct store *store, struct memtable *tables[2]);
/* store_read_end(), but for the database. */
void store_read_forget(struct store_read *read);

/* store.c: the active table is to go into the database; no other may be on its way. */
bool store_freeze(struct store *store);

/* checkpoint.c */
bool checkpoint_is_due(const struct store *store); /* under the lock */
/* Under the lock, which is let go meanwhile. 0, or a negative code with the reason kept. */
int checkpoint_make(struct store *store);
int checkpoint_start(struct store *store);
void checkpoint_stop(struct store *store);

int journal_record_read(struct database_read *read, struct journal_record *ret_record, bool *ret_exists);
int journal_record_write(struct database *database, const struct journal_record *record);
void journal_record_put(struct database *database, const struct journal_record *record);

#endif
