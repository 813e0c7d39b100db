/* Servers of others: started in a directory of the bench's own, stopped again. */
#ifndef REEVE_BENCH_SERVER_H
#define REEVE_BENCH_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct server {
    pid_t pid;
};

/* As whom: this user, or where that is root, one who may nothing. */
enum server_user { SERVER_SAME_USER, SERVER_UNPRIVILEGED };

/* Full path of a program: the last that fits the pattern (NULL: none), else in PATH. False: there is none. */
bool server_find(const char *name, const char *pattern, char *ret_path, size_t size);
/* First line of what it says to --version; -1 after its complaint is on standard error. */
int server_version(const char *path, char *ret_text, size_t size);
/* `arguments` end with NULL; what it says goes to a file beside its directory. 0, or -1 after it has said what went
 * wrong. */
int server_start(struct server *server, const char *const *arguments, enum server_user user, const char *directory);
/* Takes one that was not started. */
void server_stop(struct server *server, int signal);
/* Until there is a connection: `connect` returns its descriptor, or -1. */
int server_wait(struct server *server, int (*connect)(void *arg), void *arg);
int server_connect_unix(const char *path);
int server_connect_port(unsigned port);
/* A port that is free now; 0: none. */
unsigned server_free_port(void);
/* Runs a program to its end, and takes what it prints; -1 after its complaint is on standard error. */
int server_call(const char *const *arguments, enum server_user user, char *ret_text, size_t size);
/* The same, quietly: is that its end? */
bool server_succeeds(const char *const *arguments);
/* Gives the directory to whom SERVER_UNPRIVILEGED means. */
int server_give(const char *directory);

#endif
