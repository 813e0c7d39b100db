/* A refusal that names what is at fault: a flag, a key of a file, a parameter. */
#ifndef REEVE_REFUSE_H
#define REEVE_REFUSE_H

#include <reeve.h>

/* Fills ret_error and returns -BAD_REQUEST. */
__attribute__((format(printf, 3, 4))) int refuse_field(struct reeve_error *ret_error, const char *field,
                                                       const char *format, ...);

#endif
