#include "fifo.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64

void fifo_deinit(struct fifo *fifo)
{
    free(fifo->items);
    *fifo = (struct fifo){.item_size = fifo->item_size};
}

/* To the front, where what has gone left enough room that it is not done all the time; else into more memory. */
static int make_room(struct fifo *fifo)
{
    if (fifo->first > fifo->capacity / 2) {
        memmove(fifo->items, fifo_at(fifo, 0), fifo->count * fifo->item_size);
        fifo->first = 0;
        return 0;
    }
    const size_t capacity = fifo->capacity ? fifo->capacity * 2 : CAPACITY_MIN;
    char *larger = realloc(fifo->items, capacity * fifo->item_size);
    if (!larger)
        return -1;
    fifo->items = larger;
    fifo->capacity = capacity;
    return 0;
}

void *fifo_push(struct fifo *fifo)
{
    if (fifo->first + fifo->count == fifo->capacity && make_room(fifo) < 0)
        return NULL;
    return fifo_at(fifo, fifo->count++);
}

void fifo_drop(struct fifo *fifo, size_t count)
{
    fifo->count -= count;
    fifo->first = fifo->count ? fifo->first + count : 0;
}

void fifo_clear(struct fifo *fifo)
{
    fifo->first = fifo->count = 0;
}
