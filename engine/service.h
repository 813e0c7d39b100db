/* Services: the record in the hands of one step, and the step itself. service_step() is the only code that changes a
 * state, and it changes it only to what the table says. */
#ifndef REEVE_SERVICE_H
#define REEVE_SERVICE_H

#include "core.h"
#include "flight.h"
#include "operation.h"

/* A record between load and save, with the places that its rows in the queue and due tables had. */
struct service_edit {
    struct reeve_service record;
    uint64_t queued_before, due_before_ms;
    enum reeve_service_state state_before;
};

/* What a step is told besides its input. */
struct step {
    enum lifecycle_input input;
    struct reeve_str actor;
    struct reeve_str changed;            /* commands that change what is asked for: the fields, for the event */
    const struct flight *flight;         /* OP_* */
    const struct reeve_outcome *outcome; /* OP_* */
    struct reeve_failure reason;         /* HEALTH_LOST */
};

bool service_load(struct core *core, const struct reeve_uuid *organization_id, const struct reeve_uuid *service_id,
                  struct service_edit *ret_edit);
/* Write the record and its rows; a service that is gone is removed. */
void service_save(struct core *core, struct service_edit *edit);
/* Returns 0, or -CONFLICT with ret_error filled (may be NULL for signals, which are counted). ret_changed: false where
 * the input asks for what already is. */
int service_step(struct core *core, struct service_edit *edit, const struct step *step, bool *ret_changed,
                 struct reeve_error *ret_error);
/* Append the event of a change that is not a step (name, backup configuration). */
void service_event(struct core *core, const struct reeve_service *service, enum reeve_event_type type,
                   struct reeve_str actor);

/* Fill what is not stored: ids and totals. */
void service_derive(struct reeve_service *service, const struct reeve_uuid *organization_id,
                    const struct reeve_uuid *service_id);
/* When the record has to be looked at next; 0: not at all. */
uint64_t service_due_ms(const struct reeve_service *service);
/* What a record in this state must and must not have. NULL if all is well, else what is wrong. */
const char *service_check(const struct reeve_service *service);

/* A due row came up. */
void service_due(struct core *core, const struct reeve_uuid *organization_id, const struct reeve_uuid *service_id,
                 uint64_t due_ms);

int service_create(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int service_update(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int service_scale(struct core *core, const struct reeve_request *request, struct reeve_result *result);
int service_set_password(struct core *core, const struct reeve_request *request, struct reeve_result *result);
/* start, stop, awake, delete, activity, health_lost: the input is the command's column in commands.def */
int service_command(struct core *core, const struct reeve_request *request, struct reeve_result *result);

#endif
