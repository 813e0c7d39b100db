#include "organization.h"

#include "rules.h"

struct org_edit {
    struct reeve_organization record; /* first: handed out */
    bool touched, removed;
};

struct reeve_organization *organization_find(struct core *core, const struct reeve_uuid *id)
{
    struct org_edit *edit = map_get(&core->organizations, id);
    if (edit)
        return edit->removed ? NULL : &edit->record;
    const struct store_key key = key_uuid(id);
    struct reeve_organization record;
    if (!core_load(core, TABLE_ORGANIZATIONS, &key, &record_type_organization, &record))
        return NULL;
    edit = core_alloc(core, sizeof *edit);
    if (!edit)
        return NULL;
    edit->record = record;
    edit->record.id = *id;
    if (!map_put(&core->organizations, id, edit)) {
        core_fault(core, -REEVE_ERROR_NO_MEMORY);
        return NULL;
    }
    return &edit->record;
}

void organization_touch(struct core *core, struct reeve_organization *organization)
{
    (void)core;
    ((struct org_edit *)organization)->touched = true;
}

void organizations_flush(struct core *core)
{
    for (size_t i = 0; core->organizations.count && i < core->organizations.capacity; i++) {
        const struct org_edit *edit = core->organizations.slots[i].value;
        if (!edit || !edit->touched)
            continue;
        const struct store_key key = key_uuid(&edit->record.id);
        if (edit->removed)
            store_delete(core->store, TABLE_ORGANIZATIONS, &key);
        else
            core_save(core, TABLE_ORGANIZATIONS, &key, &record_type_organization, &edit->record);
    }
}

static void append_event(struct core *core, const struct reeve_organization *organization, enum reeve_event_type type,
                         struct reeve_str actor)
{
    event_append(core, &(struct reeve_event){.type = type,
                                             .organization_id = organization->id,
                                             .generation = organization->generation,
                                             .actor = actor});
}

int organization_create(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_organization_create_params *params = &request->params.organization_create;
    const int r = rule_name(params->name, "name", &result->error);
    if (r < 0)
        return r;
    struct org_edit *edit = core_alloc(core, sizeof *edit);
    if (!edit)
        return error_plain(&result->error, -REEVE_ERROR_NO_MEMORY);
    edit->touched = true;
    edit->record = (struct reeve_organization){.id = core_new_id(core),
                                               .name = params->name,
                                               .paid = params->paid,
                                               .service_quota = params->service_quota,
                                               .created_ms = core->now_ms,
                                               .generation = 1};
    if (!map_put(&core->organizations, &edit->record.id, edit))
        return error_plain(&result->error, -REEVE_ERROR_NO_MEMORY);
    append_event(core, &edit->record, REEVE_EVENT_TYPE_ORGANIZATION_CREATE, request->actor);
    result->answer.organization = edit->record;
    return 0;
}

static int find_for(struct core *core, const struct reeve_request *request, const struct reeve_uuid *id,
                    struct reeve_organization **ret_organization, struct reeve_error *ret_error)
{
    *ret_organization = organization_find(core, id);
    if (!*ret_organization)
        return error_set(ret_error, REEVE_ERROR_NOT_FOUND, NULL, "there is no such organization");
    return check_generation(request, (*ret_organization)->generation, ret_error);
}

int organization_update(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    const struct reeve_organization_update_params *params = &request->params.organization_update;
    struct reeve_organization *organization;
    int r = find_for(core, request, &params->organization_id, &organization, &result->error);
    if (r == 0 && params->name.size)
        r = rule_name(params->name, "name", &result->error);
    if (r < 0)
        return r;
    const uint64_t quota_bit = REEVE_GIVEN_ORGANIZATION_UPDATE_SERVICE_QUOTA;
    const bool quota_given = params->service_quota || (params->given | params->null) & quota_bit;
    if (params->given & quota_bit && params->service_quota == 0)
        return error_set(&result->error, REEVE_ERROR_BAD_REQUEST, "serviceQuota", "must be at least 1; null unsets it");
    if (params->name.size)
        organization->name = core_copy(core, params->name);
    if (params->paid || params->given & REEVE_GIVEN_ORGANIZATION_UPDATE_PAID)
        organization->paid = params->paid;
    if (quota_given)
        organization->service_quota = params->service_quota;
    organization->generation++;
    organization_touch(core, organization);
    append_event(core, organization, REEVE_EVENT_TYPE_ORGANIZATION_UPDATE, request->actor);
    result->answer.organization = *organization;
    return 0;
}

int organization_delete(struct core *core, const struct reeve_request *request, struct reeve_result *result)
{
    struct reeve_organization *organization;
    const int r = find_for(core, request, &request->params.organization.organization_id, &organization, &result->error);
    if (r < 0)
        return r;
    if (organization->service_count)
        return error_set(&result->error, REEVE_ERROR_CONFLICT, NULL,
                         "the organization still has %llu services; delete them first",
                         (unsigned long long)organization->service_count);
    apikeys_drop(core, &organization->id); /* keys go with their organization; services must have gone before */
    ((struct org_edit *)organization)->removed = true;
    organization_touch(core, organization);
    append_event(core, organization, REEVE_EVENT_TYPE_ORGANIZATION_DELETE, request->actor);
    return 0;
}
