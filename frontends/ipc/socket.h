/* The UNIX socket that the server listens on, as a file: made, replaced where its server is gone, removed. */
#ifndef REEVE_IPC_SOCKET_H
#define REEVE_IPC_SOCKET_H

#include <reeve.h>
#include <sys/un.h>

struct socket_options {
    const char *path;
    unsigned mode;
    const char *owner, *group; /* names or numbers; NULL: unchanged */
};

/* Which file a socket is, so that only our own is removed. */
struct socket_identity {
    uint64_t device, inode;
};

/* Fill an address; refuses an empty path and one that is longer than the kernel takes (107 bytes). */
int socket_address(const char *path, struct sockaddr_un *ret_address, struct reeve_error *ret_error);

/* A non-blocking listening socket. */
int socket_listen(const struct socket_options *options, int *ret_fd, struct socket_identity *ret_identity,
                  struct reeve_error *ret_error);

/* Remove the file if it is still the one that was made. */
void socket_remove(const char *path, const struct socket_identity *identity);

#endif
