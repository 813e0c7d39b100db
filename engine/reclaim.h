/* Memory of the table that fills is used again once nobody can see what is in it: an older version of a key, when every
 * reader sees the one that came after it; a key that is gone and hides nothing in the database, when every reader has
 * begun after it was taken out of the order. For one table at a time, by the thread that writes it. */
#ifndef REEVE_RECLAIM_H
#define REEVE_RECLAIM_H

#include "base/fifo.h"
#include "memtable.h"

struct reclaim {
    struct fifo outdated;  /* by the batch that made them so */
    struct fifo taken_out; /* nodes, by the last reader that may stand on them */
    size_t unnumbered;     /* of them, the newest: which reader that is was not known when they were taken out */
};

void reclaim_init(struct reclaim *reclaim);
void reclaim_deinit(struct reclaim *reclaim);

/* A batch wrote a newer version; deleted a key that hides nothing. Out of memory: it stays until the table goes. */
void reclaim_version(struct reclaim *reclaim, struct memtable_version *older, uint64_t sequence);
void reclaim_node(struct reclaim *reclaim, struct memtable_node *node, uint64_t sequence);
/* The batches from this one on have not happened. */
void reclaim_undo(struct reclaim *reclaim, uint64_t from_sequence);
/* The table fills no more. */
void reclaim_forget(struct reclaim *reclaim);

/* Nobody sees a batch before `oldest`. Readers are numbered as they begin: `newest_reader` is the last one so far,
 * those before `oldest_reader` have ended. */
void reclaim_collect(struct reclaim *reclaim, struct memtable *memtable, uint64_t oldest, uint64_t oldest_reader,
                     uint64_t newest_reader);

/* Deleted by this batch, or a later one has changed that. */
bool reclaim_is_gone(const struct memtable_node *node, uint64_t sequence);

#endif
