/* Items of one size, first in, first out; the newest can be taken back. */
#ifndef REEVE_BASE_FIFO_H
#define REEVE_BASE_FIFO_H

#include <stddef.h>

struct fifo {
    char *items;
    size_t item_size, first, count, capacity;
};

void fifo_deinit(struct fifo *fifo);
/* Room for one more at the end, not cleared; until the next push. NULL when out of memory. */
void *fifo_push(struct fifo *fifo);
void fifo_drop(struct fifo *fifo, size_t count);
void fifo_clear(struct fifo *fifo);

/* The oldest has the number 0. */
static inline void *fifo_at(const struct fifo *fifo, size_t number)
{
    return fifo->items + (fifo->first + number) * fifo->item_size;
}

static inline void fifo_take_back(struct fifo *fifo, size_t count)
{
    fifo->count -= count;
}

#endif
