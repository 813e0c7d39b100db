/* From a request to its answer: the handler of each mutating command, and what all of them share. */
#include <assert.h>

#include "backup.h"
#include "idempotency.h"
#include "organization.h"
#include "service.h"

typedef int (*handler)(struct core *core, const struct reeve_request *request, struct reeve_result *result);

static handler handler_of(enum reeve_command command)
{
    switch (command) {
    case REEVE_COMMAND_ORGANIZATION_CREATE:
        return organization_create;
    case REEVE_COMMAND_ORGANIZATION_UPDATE:
        return organization_update;
    case REEVE_COMMAND_ORGANIZATION_DELETE:
        return organization_delete;
    case REEVE_COMMAND_KEY_CREATE:
        return apikey_create;
    case REEVE_COMMAND_KEY_UPDATE:
        return apikey_update;
    case REEVE_COMMAND_KEY_REVOKE:
        return apikey_revoke;
    case REEVE_COMMAND_SERVICE_CREATE:
        return service_create;
    case REEVE_COMMAND_SERVICE_UPDATE:
        return service_update;
    case REEVE_COMMAND_SERVICE_SCALE:
        return service_scale;
    case REEVE_COMMAND_SERVICE_SET_PASSWORD:
        return service_set_password;
    case REEVE_COMMAND_SERVICE_START:
    case REEVE_COMMAND_SERVICE_STOP:
    case REEVE_COMMAND_SERVICE_AWAKE:
    case REEVE_COMMAND_SERVICE_DELETE:
    case REEVE_COMMAND_SERVICE_ACTIVITY:
    case REEVE_COMMAND_SERVICE_HEALTH_LOST:
        return service_command;
    case REEVE_COMMAND_BACKUP_CREATE:
        return backup_create;
    case REEVE_COMMAND_BACKUP_DELETE:
        return backup_delete;
    case REEVE_COMMAND_BACKUP_CONFIGURATION_UPDATE:
        return backup_configure;
    case REEVE_COMMAND_NONE:
    case REEVE_COMMAND_ORGANIZATION_GET:
    case REEVE_COMMAND_ORGANIZATION_LIST:
    case REEVE_COMMAND_KEY_GET:
    case REEVE_COMMAND_KEY_LIST:
    case REEVE_COMMAND_SERVICE_GET:
    case REEVE_COMMAND_SERVICE_LIST:
    case REEVE_COMMAND_BACKUP_GET:
    case REEVE_COMMAND_BACKUP_LIST:
    case REEVE_COMMAND_BACKUP_CONFIGURATION_GET:
    case REEVE_COMMAND_OPERATION_GET:
    case REEVE_COMMAND_OPERATION_LIST:
    case REEVE_COMMAND_EVENT_LIST:
        break;
    }
    return NULL;
}

void core_fetch_requests(struct core *core, const struct reeve_request *requests)
{
    struct store_key keys[STORE_FETCH_MAX];
    size_t count = 0;
    for (size_t i = 0; requests && i < STORE_FETCH_MAX; requests = requests->internal.next, i++) {
        const struct reeve_service_params *params = &requests->params.service;
        if (schema_command(requests->command)->params == &params_type_service)
            keys[count++] = key_pair(&params->organization_id, &params->service_id);
    }
    store_fetch(core->store, TABLE_SERVICES, keys, count);
}

const struct reeve_result *core_request(struct core *core, const struct reeve_request *request)
{
    struct reeve_result *result = core_alloc(core, sizeof *result);
    if (!result)
        return NULL;
    const handler handle = handler_of(request->command);
    assert(handle); /* reeve_submit() takes no other */
    core->delta.commands++;
    int r = idempotency_find(core, request, result);
    if (r == 0) {
        r = handle(core, request, result);
        if (r == 0)
            idempotency_keep(core, request, result);
    }
    if (r < 0) {
        if (result->error.code == REEVE_OK)
            error_plain(&result->error, r);
        core->delta.commands_refused++;
    }
    return result;
}
