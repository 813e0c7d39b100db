/* A daemon of the bench's own that serves HTTP, and a client that calls it and waits. */
#ifndef REEVE_BENCH_HTTP_DAEMON_H
#define REEVE_BENCH_HTTP_DAEMON_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/lib/http_message.h"

struct http_daemon {
    pid_t pid;
    struct sockaddr_in address;
    char organization_id[37];
    char services_path[100]; /* of its organization */
    char authorization[512];
};

/* A provisioner that is done at once, and limits that let the bench be the limit. */
extern const char *const http_daemon_simulated;
extern const char *const http_daemon_unlimited[];

/* Starts `binary` on an empty directory, with more arguments up to NULL, and returns when it answers; 0, or -1 after it
 * has said what went wrong. */
int http_daemon_start(struct http_daemon *daemon, const char *binary, const char *directory, const char *provisioner,
                      const char *const *arguments);
/* Takes one that was not started, too. */
void http_daemon_stop(struct http_daemon *daemon);
/* Memory of it that is resident; of `kind`: "VmRSS", "RssAnon". 0 where that cannot be told. */
uint64_t http_daemon_memory(const struct http_daemon *daemon, const char *kind);

struct http_caller {
    int fd;
    size_t size;
    char data[16384];
};

/* Returns the socket, which blocks; -1 with errno. */
int http_connect(const struct http_daemon *daemon);
int http_caller_open(struct http_caller *caller, const struct http_daemon *daemon);
void http_caller_close(struct http_caller *caller);
/* The answer is good until the next call. Returns 0, or -1 after it has said what went wrong. */
int http_call(struct http_caller *caller, const char *request, size_t size, struct http_answer *ret_answer);
/* Returns when the service runs. */
int http_create_service(struct http_caller *caller, const struct http_daemon *daemon, char ret_id[37]);

#endif
