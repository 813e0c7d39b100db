/* Filling struct reeve_error where something is refused. */
#ifndef REEVE_ERROR_H
#define REEVE_ERROR_H

#include <reeve.h>

/* The first two return -code. `field` may be NULL. */
__attribute__((format(printf, 4, 5))) int error_set(struct reeve_error *ret_error, enum reeve_error_code code,
                                                    const char *field, const char *format, ...);
/* With the sentence of errors.def. */
int error_plain(struct reeve_error *ret_error, int code);
/* A command that names a generation is refused where the record has another. Returns 0 or -STALE_GENERATION. */
int check_generation(const struct reeve_request *request, uint64_t generation, struct reeve_error *ret_error);

#endif
