/* Attempts that are with the provisioner now: in memory only, bounded by the limits, made again from the queue table
 * after a restart. At most one for each service; what must wait for it (the operation that replaced it, a backup)
 * waits in it. Free places go round the organizations.
 */
#ifndef REEVE_FLIGHT_H
#define REEVE_FLIGHT_H

#include <stdatomic.h>
#include <stddef.h>

#include "core.h"

#define FLIGHT_MEMORY 1024

struct waiting {
    struct reeve_uuid operation_id, backup_id;
    uint64_t number; /* place in the queue; 0: nobody waits */
};

struct flight {
    struct reeve_task task; /* what the provisioner sees; points to the records below */

    struct reeve_uuid slot_id; /* the service, or the backup that is deleted */
    uint64_t started_ms, deadline_mono_ms, progress_mono_ms;
    bool paused;               /* nobody is at work on it yet: it has no deadline and is in no list */
    bool cancelling;           /* the provisioner was told to give up; its answer does not count any more */
    bool reported;             /* an outcome has been accepted */
    bool overdue;              /* a batch that is not settled yet has seen to its deadline */
    struct waiting waiting[2]; /* an operation of the service, one of a backup */
    bool others_wait;          /* more backups than one: they are found in the queue table when it lands */
    struct flight *previous, *next;
    atomic_int references; /* the core's and those of messages on the way to the provisioner's loop */
    struct arena arena;    /* what the records point to, in `memory` where it fits */

    /* not cleared */
    struct reeve_service service;
    struct reeve_backup backup;
    _Alignas(max_align_t) char memory[FLIGHT_MEMORY];
};

void flights_deinit(struct core *core);
/* Deadlines, in a batch. */
void flights_due(struct core *core);
uint64_t flights_next_deadline(const struct core *core);
/* The batches that are not settled have not happened. */
void flights_roll_back(struct core *core);
uint64_t flight_started_ms(const struct flight *flight);
void flight_release(struct flight *flight);

/* What an attempt's end or progress means for the record; in a batch. (service.c, backup.c by kind) */
void operation_ended(struct core *core, const struct flight *flight, const struct reeve_outcome *outcome);
void operation_progressed(struct core *core, const struct flight *flight, const struct reeve_progress *progress);

#endif
