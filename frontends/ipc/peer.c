#include "peer.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc.h"

/* Supplementary groups of a peer that are looked at; Linux allows more, nobody has them. */
#define PEER_GROUPS_MAX 1024
/* Of the entry of one user or group, with all members by name. */
#define PEER_ENTRY_BYTES_MAX 65536

static bool parse_number(const char *text, unsigned long *ret_number)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    const unsigned long number = strtoul(text, &end, 10);
    if (*end || number >= UINT32_MAX) /* the largest one means "unchanged" to chown */
        return false;
    *ret_number = number;
    return true;
}

bool peer_user_find(const char *text, uid_t *ret_uid)
{
    unsigned long number;
    if (parse_number(text, &number)) {
        *ret_uid = (uid_t)number;
        return true;
    }
    char strings[PEER_ENTRY_BYTES_MAX];
    struct passwd entry, *user = NULL;
    if (getpwnam_r(text, &entry, strings, sizeof strings, &user) != 0 || !user)
        return false;
    *ret_uid = user->pw_uid;
    return true;
}

bool peer_group_find(const char *text, gid_t *ret_gid)
{
    unsigned long number;
    if (parse_number(text, &number)) {
        *ret_gid = (gid_t)number;
        return true;
    }
    char strings[PEER_ENTRY_BYTES_MAX];
    struct group entry, *group = NULL;
    if (getgrnam_r(text, &entry, strings, sizeof strings, &group) != 0 || !group)
        return false;
    *ret_gid = group->gr_gid;
    return true;
}

/* Take the next word off a list; false at its end. Words longer than a name can be are cut and then not found. */
static bool next_word(const char **list, char word[128])
{
    const char *at = *list + strspn(*list, ", \t");
    const size_t size = strcspn(at, ", \t");
    *list = at + size;
    const size_t kept = size < 127 ? size : 127;
    memcpy(word, at, kept);
    word[kept] = '\0';
    return size > 0;
}

static int too_many(struct reeve_error *ret_error, const char *field)
{
    return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, field, "more than %d entries", PEER_RULES_MAX);
}

static int parse_users(const char *list, struct peer_rules *rules, struct reeve_error *ret_error)
{
    char word[128];
    while (next_word(&list, word)) {
        if (rules->uids_count == PEER_RULES_MAX)
            return too_many(ret_error, "allow-users");
        if (!peer_user_find(word, &rules->uids[rules->uids_count++]))
            return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "allow-users", "there is no user '%s'", word);
    }
    return 0;
}

static int parse_groups(const char *list, struct peer_rules *rules, struct reeve_error *ret_error)
{
    char word[128];
    while (next_word(&list, word)) {
        if (rules->gids_count == PEER_RULES_MAX)
            return too_many(ret_error, "allow-groups");
        if (!peer_group_find(word, &rules->gids[rules->gids_count++]))
            return rpc_error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "allow-groups", "there is no group '%s'", word);
    }
    return 0;
}

int peer_rules_parse(const char *users, const char *groups, struct peer_rules *ret_rules, struct reeve_error *ret_error)
{
    struct peer_rules rules = {0};
    if (!users && !groups) {
        rules.uids[rules.uids_count++] = geteuid();
        rules.uids[rules.uids_count++] = 0;
    }
    int r = users ? parse_users(users, &rules, ret_error) : 0;
    if (r == 0 && groups)
        r = parse_groups(groups, &rules, ret_error);
    if (r == 0)
        *ret_rules = rules;
    return r;
}

static bool group_listed(const struct peer_rules *rules, gid_t gid)
{
    for (unsigned i = 0; i < rules->gids_count; i++) {
        if (rules->gids[i] == gid)
            return true;
    }
    return false;
}

static bool any_group_listed(const struct peer_rules *rules, int fd, gid_t primary)
{
    if (rules->gids_count == 0)
        return false;
    if (group_listed(rules, primary))
        return true;
#ifdef SO_PEERGROUPS
    gid_t groups[PEER_GROUPS_MAX];
    socklen_t size = sizeof groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
        return false;
    for (size_t i = 0; i < size / sizeof groups[0]; i++) {
        if (group_listed(rules, groups[i]))
            return true;
    }
#endif
    return false;
}

void peer_check(const struct peer_rules *rules, int fd, uid_t *ret_uid, bool *ret_allowed)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    *ret_uid = (uid_t)-1;
    *ret_allowed = false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return;
    *ret_uid = peer.uid;
    for (unsigned i = 0; i < rules->uids_count && !*ret_allowed; i++)
        *ret_allowed = rules->uids[i] == peer.uid;
    if (!*ret_allowed)
        *ret_allowed = any_group_listed(rules, fd, peer.gid);
}
