/* Organizations within a batch: read once, changed in memory, written once at its end. */
#ifndef REEVE_ORGANIZATION_H
#define REEVE_ORGANIZATION_H

#include "core.h"

/* NULL where there is none, or on a fault. */
struct reeve_organization *organization_find(struct core *core, const struct reeve_uuid *id);
void organization_touch(struct core *core, struct reeve_organization *organization);
/* Write what was touched. */
void organizations_flush(struct core *core);

int organization_create(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int organization_update(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int organization_delete(struct core *core, const struct reeve_request *request, struct reeve_result *result);

int apikey_create(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int apikey_update(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int apikey_revoke(struct core *core, const struct reeve_request *request, struct reeve_result *result);
void apikey_due(struct core *core, const struct reeve_uuid *organization_id, const struct reeve_uuid *key_id,
                uint64_t due_ms);
/* All keys of an organization that is deleted. */
void apikeys_drop(struct core *core, const struct reeve_uuid *organization_id);

#endif
