#include "reclaim.h"

/* One of them. */
struct outdated {
    struct memtable_version *version;
    struct memtable_node *node;
    uint64_t sequence;
};

struct taken_out {
    struct memtable_node *node;
    struct memtable_version *version; /* that says that it is gone */
    uint64_t reader;
};

void reclaim_init(struct reclaim *reclaim)
{
    *reclaim = (struct reclaim){.outdated = {.item_size = sizeof(struct outdated)},
                                .taken_out = {.item_size = sizeof(struct taken_out)}};
}

void reclaim_deinit(struct reclaim *reclaim)
{
    fifo_deinit(&reclaim->outdated);
    fifo_deinit(&reclaim->taken_out);
}

static void note(struct reclaim *reclaim, struct outdated item)
{
    struct outdated *place = fifo_push(&reclaim->outdated);
    if (place)
        *place = item;
}

void reclaim_version(struct reclaim *reclaim, struct memtable_version *older, uint64_t sequence)
{
    note(reclaim, (struct outdated){.version = older, .sequence = sequence});
}

void reclaim_node(struct reclaim *reclaim, struct memtable_node *node, uint64_t sequence)
{
    note(reclaim, (struct outdated){.node = node, .sequence = sequence});
}

void reclaim_undo(struct reclaim *reclaim, uint64_t from_sequence)
{
    struct fifo *outdated = &reclaim->outdated;
    while (outdated->count && ((struct outdated *)fifo_at(outdated, outdated->count - 1))->sequence >= from_sequence)
        fifo_take_back(outdated, 1);
}

void reclaim_forget(struct reclaim *reclaim)
{
    fifo_clear(&reclaim->outdated);
    fifo_clear(&reclaim->taken_out);
    reclaim->unnumbered = 0;
}

bool reclaim_is_gone(const struct memtable_node *node, uint64_t sequence)
{
    const struct memtable_version *newest = memtable_at(node, UINT64_MAX);
    return newest && newest->gone && node->fresh && newest->sequence == sequence;
}

/* Who began before this was called, and after they were taken out, may be among those that are waited for: no harm. */
static void number_readers(struct reclaim *reclaim, uint64_t newest_reader)
{
    const size_t count = reclaim->taken_out.count;
    for (size_t i = count - reclaim->unnumbered; i < count; i++)
        ((struct taken_out *)fifo_at(&reclaim->taken_out, i))->reader = newest_reader;
    reclaim->unnumbered = 0;
}

static void reuse_nodes(struct reclaim *reclaim, struct memtable *memtable, uint64_t oldest_reader)
{
    while (reclaim->taken_out.count) {
        const struct taken_out *item = fifo_at(&reclaim->taken_out, 0);
        if (item->reader >= oldest_reader)
            return;
        memtable_reuse_node(memtable, item->node, item->version);
        fifo_drop(&reclaim->taken_out, 1);
    }
}

static void take_out(struct reclaim *reclaim, struct memtable *memtable, struct memtable_node *node)
{
    struct memtable_version *version = memtable_unlink(memtable, node);
    struct taken_out *place = fifo_push(&reclaim->taken_out);
    if (!place)
        return;
    *place = (struct taken_out){.node = node, .version = version};
    reclaim->unnumbered++;
}

#define FETCH_AHEAD 8

/* It was written batches ago, and has left the caches. */
static void fetch_ahead(const struct reclaim *reclaim)
{
    if (reclaim->outdated.count <= FETCH_AHEAD)
        return;
    const struct outdated *item = fifo_at(&reclaim->outdated, FETCH_AHEAD);
    if (item->version)
        __builtin_prefetch(item->version);
    else
        __builtin_prefetch(item->node);
}

void reclaim_collect(struct reclaim *reclaim, struct memtable *memtable, uint64_t oldest, uint64_t oldest_reader,
                     uint64_t newest_reader)
{
    number_readers(reclaim, newest_reader);
    reuse_nodes(reclaim, memtable, oldest_reader);
    while (reclaim->outdated.count) {
        const struct outdated item = *(struct outdated *)fifo_at(&reclaim->outdated, 0);
        if (item.sequence > oldest)
            return;
        fetch_ahead(reclaim);
        fifo_drop(&reclaim->outdated, 1);
        if (item.version)
            memtable_reuse_version(memtable, item.version);
        else if (reclaim_is_gone(item.node, item.sequence))
            take_out(reclaim, memtable, item.node);
    }
}
