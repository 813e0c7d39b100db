/* Doubly linked lists whose links live in what is listed. A link that is in no list points to itself. */
#ifndef REEVE_LINK_H
#define REEVE_LINK_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next, *previous;
};

/* The struct that a link is a member of. */
#define link_owner(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void link_init(struct link *link)
{
    link->next = link->previous = link;
}

/* Is it in a list; of a list's head: has it anything in it? */
static inline bool link_used(const struct link *link)
{
    return link->next != link;
}

static inline void link_remove(struct link *link)
{
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link_init(link);
}

/* Put at the end, out of whatever list it was in. */
static inline void link_append(struct link *head, struct link *link)
{
    link_remove(link);
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

#endif
