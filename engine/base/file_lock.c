#include "file_lock.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/file.h>

#define STEP_MS 10

int file_lock(int fd, int patience_ms)
{
    int r;
    while ((r = flock(fd, LOCK_EX | LOCK_NB)) != 0 && errno == EWOULDBLOCK && patience_ms > 0) {
        poll(NULL, 0, STEP_MS);
        patience_ms -= STEP_MS;
    }
    return r;
}
