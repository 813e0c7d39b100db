/* A lock on a file that ends with the process, however it ends. */
#ifndef REEVE_BASE_FILE_LOCK_H
#define REEVE_BASE_FILE_LOCK_H

/* 0, or -1 with errno where another process has it (EWOULDBLOCK). What a process that was killed had just forked holds
 * its descriptors until it executes something: for so long it is worth waiting. */
int file_lock(int fd, int patience_ms);

#endif
