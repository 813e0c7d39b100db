/* Who is at the other end of a UNIX socket, and may they be. */
#ifndef REEVE_IPC_PEER_H
#define REEVE_IPC_PEER_H

#include <reeve.h>
#include <sys/types.h>

#define PEER_RULES_MAX 64

struct peer_rules {
    uid_t uids[PEER_RULES_MAX];
    gid_t gids[PEER_RULES_MAX];
    unsigned uids_count, gids_count;
};

/* Names or numbers, separated by commas or spaces. Both NULL: the user of this process and root. */
int peer_rules_parse(const char *users, const char *groups, struct peer_rules *ret_rules,
                     struct reeve_error *ret_error);

/* The user of a connected socket and whether the rules let it in. False in *ret_allowed also where nobody can tell. */
void peer_check(const struct peer_rules *rules, int fd, uid_t *ret_uid, bool *ret_allowed);

/* One name or number. False: there is no such user or group. */
bool peer_user_find(const char *text, uid_t *ret_uid);
bool peer_group_find(const char *text, gid_t *ret_gid);

#endif
