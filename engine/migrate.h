/* Older stores are brought to the present schema when they are opened, in the same transaction that notes the version.
 */
#ifndef REEVE_MIGRATE_H
#define REEVE_MIGRATE_H

#include "core.h"

#define SCHEMA_VERSION 3

/* In a batch. Returns 0 or a negative code; the store has `version`, which is older than SCHEMA_VERSION. */
int migrate(struct core *core, uint64_t version);

#endif
