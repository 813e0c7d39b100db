/* The same idempotency key with the same request gets the first answer again. Only answers of success are kept: a
 * refusal has changed nothing, so asking again asks anew. */
#ifndef REEVE_IDEMPOTENCY_H
#define REEVE_IDEMPOTENCY_H

#include "core.h"

/* 0: not seen before. 1: result is the first answer. Negative: refused or a fault, with the error filled. */
int idempotency_find(struct core *core, const struct reeve_request *request, struct reeve_result *result);
void idempotency_keep(struct core *core, const struct reeve_request *request, const struct reeve_result *result);
void idempotency_due(struct core *core, const struct reeve_uuid *scope, const struct reeve_uuid *hash, uint64_t due_ms);

#endif
