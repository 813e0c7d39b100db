/* Operations as they stand in the records of services and backups: decided, retried, ended. The attempts themselves
 * are flights (flight.h). */
#ifndef REEVE_OPERATION_H
#define REEVE_OPERATION_H

#include "core.h"
#include "flight.h"

/* Whose operation it is. backup_id is nil for an operation of the service itself. */
struct operation_owner {
    struct reeve_uuid organization_id, service_id, backup_id;
};

/* What is wrong with one that was stored; NULL: nothing, or there is none. */
const char *operation_check(const struct reeve_operation *operation);
/* A new operation in place of any other: the one before is cancelled. Its first attempt waits for pause_ms. */
void operation_begin(struct core *core, struct reeve_operation *operation, enum reeve_operation_kind kind,
                     uint64_t pause_ms);
/* No operation any more; one that is in flight is cancelled. */
void operation_drop(struct core *core, struct reeve_operation *operation);
/* Ready for the next attempt: back into the queue. */
void operation_requeue(struct core *core, struct reeve_operation *operation);
/* What holds for this kind: its own number, or that for all. */
uint64_t operation_attempts_max(const struct core *core, enum reeve_operation_kind kind);
uint64_t operation_timeout_ms(const struct core *core, enum reeve_operation_kind kind);
uint64_t operation_total_ms(const struct core *core, enum reeve_operation_kind kind);
/* Keep what an attempt that did not succeed reported. */
void operation_note_failure(struct core *core, struct reeve_operation *operation, const struct flight *flight,
                            const struct reeve_outcome *outcome);
/* May it be tried again, by attempts and time? */
bool operation_may_retry(const struct core *core, const struct reeve_operation *operation);
/* first_ms, twice that, ... for each time up to max_ms; half of it is drawn, so that what failed together does not come
 * back together. `times` counts from 1. */
uint64_t operation_pause_ms(struct core *core, uint64_t first_ms, uint64_t max_ms, uint64_t times);
/* The pause before the next attempt. */
void operation_back_off(struct core *core, struct reeve_operation *operation, uint64_t retry_after_ms);
/* Keep the rows of the dispatch queue what the record says; what has become ready is offered, with the record that
 * waits for it as it is stored. */
void operation_move_queue(struct core *core, const struct operation_owner *owner, uint64_t queued_before,
                          const struct reeve_operation *operation, struct reeve_str record);
static inline bool operation_exists(const struct reeve_operation *operation)
{
    return operation->kind != REEVE_OPERATION_KIND_UNSET;
}

#endif
