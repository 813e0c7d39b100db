#include "socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peer.h"
#include "rpc.h"

/* The kernel cuts this down to net.core.somaxconn. */
#define SOCKET_BACKLOG 8192

int socket_address(const char *path, struct sockaddr_un *ret_address, struct reeve_error *ret_error)
{
    if (!path || !path[0])
        return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "socket", "no path of a socket was given");
    const size_t size = strlen(path);
    if (size >= sizeof ret_address->sun_path)
        return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "socket",
                             "the path has %zu bytes, a socket may have %zu: %s", size,
                             sizeof ret_address->sun_path - 1, path);
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_address->sun_path, path, size + 1);
    return 0;
}

static int refuse(struct reeve_error *ret_error, const char *what, const char *path, int error_number)
{
    return rpc_error_set(ret_error, REEVE_ERROR_UNAVAILABLE, "socket", "%s %s: %s", what, path, strerror(error_number));
}

/* Something is there already. Is it a socket that nobody listens on any more? Then remove it. */
static int remove_stale(const struct sockaddr_un *address, struct reeve_error *ret_error)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0)
        return errno == ENOENT ? 0 : refuse(ret_error, "cannot look at", address->sun_path, errno);
    if (!S_ISSOCK(status.st_mode))
        return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "socket",
                             "%s exists and is not a socket; remove it or name another path", address->sun_path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return refuse(ret_error, "cannot make a socket for", address->sun_path, errno);
    const int r = connect(fd, (const struct sockaddr *)address, sizeof *address);
    const int connect_errno = errno;
    close(fd);
    if (r == 0 || connect_errno == EAGAIN)
        return rpc_error_set(ret_error, REEVE_ERROR_STORE_LOCKED, "socket", "another server is listening on %s",
                             address->sun_path);
    if (connect_errno == ENOENT)
        return 0;
    if (connect_errno != ECONNREFUSED)
        return refuse(ret_error, "cannot tell whether a server listens on", address->sun_path, connect_errno);
    if (unlink(address->sun_path) < 0 && errno != ENOENT)
        return refuse(ret_error, "cannot remove the stale socket", address->sun_path, errno);
    return 0;
}

static int set_access(const struct socket_options *options, struct reeve_error *ret_error)
{
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;
    if (options->owner && !peer_user_find(options->owner, &uid))
        return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "socket-owner", "there is no user '%s'",
                             options->owner);
    if (options->group && !peer_group_find(options->group, &gid))
        return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "socket-group", "there is no group '%s'",
                             options->group);
    if ((options->owner || options->group) && chown(options->path, uid, gid) < 0)
        return refuse(ret_error, "cannot change the owner of", options->path, errno);
    if (chmod(options->path, (mode_t)options->mode) < 0)
        return refuse(ret_error, "cannot change the mode of", options->path, errno);
    return 0;
}

/* Owner and mode are set before listen(): nobody can connect until then. */
static int bind_and_listen(const struct socket_options *options, const struct sockaddr_un *address, int fd,
                           struct socket_identity *ret_identity, struct reeve_error *ret_error)
{
    int r = bind(fd, (const struct sockaddr *)address, sizeof *address);
    if (r < 0 && errno == EADDRINUSE) {
        r = remove_stale(address, ret_error);
        if (r < 0)
            return r;
        r = bind(fd, (const struct sockaddr *)address, sizeof *address);
    }
    if (r < 0)
        return refuse(ret_error, "cannot make the socket", options->path, errno);
    struct stat status;
    if (lstat(options->path, &status) < 0)
        return refuse(ret_error, "cannot look at", options->path, errno);
    *ret_identity = (struct socket_identity){(uint64_t)status.st_dev, (uint64_t)status.st_ino};
    r = set_access(options, ret_error);
    if (r == 0 && listen(fd, SOCKET_BACKLOG) < 0)
        r = refuse(ret_error, "cannot listen on", options->path, errno);
    if (r < 0)
        socket_remove(options->path, ret_identity);
    return r;
}

int socket_listen(const struct socket_options *options, int *ret_fd, struct socket_identity *ret_identity,
                  struct reeve_error *ret_error)
{
    struct sockaddr_un address;
    int r = socket_address(options->path, &address, ret_error);
    if (r < 0)
        return r;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return refuse(ret_error, "cannot make a socket for", options->path, errno);
    r = bind_and_listen(options, &address, fd, ret_identity, ret_error);
    if (r < 0)
        close(fd);
    else
        *ret_fd = fd;
    return r;
}

void socket_remove(const char *path, const struct socket_identity *identity)
{
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode) && (uint64_t)status.st_dev == identity->device &&
        (uint64_t)status.st_ino == identity->inode)
        unlink(path);
}
