/* Backup jobs: records of their own, with a small table of their own (backup.def). They outlive their service. */
#ifndef REEVE_BACKUP_H
#define REEVE_BACKUP_H

#include "core.h"
#include "service.h"

struct backup_edit {
    struct reeve_backup record;
    uint64_t queued_before, due_before_ms;
    enum reeve_backup_state state_before;
};

bool backup_load(struct core *core, const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id,
                 struct backup_edit *ret_edit);
void backup_save(struct core *core, struct backup_edit *edit);
uint64_t backup_due_ms(const struct reeve_backup *backup);
const char *backup_check(const struct reeve_backup *backup);

/* A new job for a service in the middle of its step. */
void backup_begin(struct core *core, struct reeve_service *service, bool scheduled, struct reeve_str actor,
                  struct reeve_backup *ret_backup);
/* The service is stopped or lost: its job in progress, if any, ends in error. */
void backup_cancel(struct core *core, struct reeve_service *service, const char *code, const char *message);
/* A restore holds on to its backup until provisioning has succeeded or the service is gone. */
void backup_pin(struct core *core, const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id, int by);
void backup_due(struct core *core, const struct reeve_uuid *service_id, const struct reeve_uuid *backup_id,
                uint64_t due_ms);
void backup_ended(struct core *core, const struct flight *flight, const struct reeve_outcome *outcome);

int backup_create(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int backup_delete(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int backup_configure(struct core *core, const struct reeve_request *request, struct reeve_result *result);

/* The next time the schedule starts a backup, after now. */
uint64_t backup_next_ms(const struct reeve_backup_configuration *configuration, uint64_t now_ms);

#endif
