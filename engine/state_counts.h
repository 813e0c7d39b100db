/* How many services and backups there are in each state: kept in the store, so that nobody has to count a million
 * records to draw a chart. */
#ifndef REEVE_STATE_COUNTS_H
#define REEVE_STATE_COUNTS_H

#include "core.h"

#define STATE_COUNTS_KEY "state_counts"
#define STATE_COUNTS_SIZE ((REEVE_SERVICE_STATE_COUNT + REEVE_BACKUP_STATE_COUNT) * 8)

/* In a batch, when the store is opened: what is stored, or, where that is not there or of other states, what is
 * counted. Returns 0 or a negative code. */
int state_counts_load(struct core *core);
/* The same by counting all records. */
int state_counts_make(struct core *core);
/* A record went from one state to another; NONE and GONE are none. */
void state_counts_move_service(struct core *core, enum reeve_service_state before, enum reeve_service_state after);
void state_counts_move_backup(struct core *core, enum reeve_backup_state before, enum reeve_backup_state after);
/* At the end of a batch: write what changed. */
void state_counts_save(struct core *core);
/* False: not what is stored here. */
bool state_counts_decode(struct reeve_str value, struct reeve_state_counts *ret_counts);

#endif
