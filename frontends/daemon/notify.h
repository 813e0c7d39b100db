/* Telling a service manager how it goes: datagrams to NOTIFY_SOCKET, see sd_notify(3). Does nothing without one. */
#ifndef REEVE_DAEMON_NOTIFY_H
#define REEVE_DAEMON_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=..." */
void notify_send(const char *state);
/* How often a sign of life is wanted: half of what the manager waits; 0: never. */
uint64_t notify_watchdog_ms(void);

#endif
