/* Which of the known names somebody may have meant. */
#ifndef REEVE_NEAREST_H
#define REEVE_NEAREST_H

#include <stddef.h>

/* How many letters must be changed, put in or left out to get from a to b. */
size_t nearest_distance(const char *a, const char *b);

#endif
