/* The rules for values that need more than one look: multiples, other fields, the tier, the catalogue. Each returns 0
 * or -BAD_REQUEST with ret_error naming the field. */
#ifndef REEVE_RULES_H
#define REEVE_RULES_H

#include "catalogue.h"
#include "core.h"

int rule_name(struct reeve_str name, const char *field, struct reeve_error *ret_error);
int rule_region(const struct catalogue *catalogue, struct reeve_str provider, struct reeve_str region,
                struct reeve_error *ret_error);
/* Check the sources of an access list and its length. */
int rule_access_list(const struct reeve_access_entry_list *list, const char *field, uint64_t count_max,
                     struct reeve_error *ret_error);
/* base64 or hex of a SHA-256 into 32 bytes. */
int rule_password_hash(struct reeve_str hash, const char *field, uint8_t ret_sha256[32], struct reeve_error *ret_error);

/* hex of a SHA-1 of a SHA-1 into 20 bytes. */
int rule_double_sha1_hash(struct reeve_str hash, const char *field, uint8_t ret_sha1[20],
                          struct reeve_error *ret_error);

/* What is asked for. 0 and false where not given. */
struct memory_bound {
    bool total_given, replica_given;
    uint64_t total_gb, replica_gb;
};
struct scaling {
    struct memory_bound min, max;
    bool idle_given, idle_scaling;
    uint64_t idle_timeout_minutes, num_replicas;
    enum reeve_autoscaling_mode autoscaling_mode;
};
/* Apply to a service: its tier and present values count. */
int rule_scaling(const struct scaling *scaling, bool paid, struct reeve_service *service,
                 struct reeve_error *ret_error);

int rule_tags(const struct reeve_tag_list *tags, const char *field, struct reeve_error *ret_error);
/* Remove by key, then add: one tag per key, the later one counts. */
int tags_patch(struct core *core, const struct reeve_tag_list *tags, const struct reeve_tag_list *remove,
               const struct reeve_tag_list *add, struct reeve_tag_list *ret_tags);

int rule_backup_configuration(const struct reeve_backup_configuration *configuration, struct reeve_error *ret_error);

/* Entries to take away are found by their source, tags by their key. */
int rule_removed(const struct reeve_access_entry_list *entries, const struct reeve_tag_list *tags,
                 struct reeve_error *ret_error);

/* Remove, then add: entries keep their order and their text; one entry per source, the later one counts. */
int access_list_patch(struct core *core, const struct reeve_access_entry_list *list,
                      const struct reeve_access_entry_list *remove, const struct reeve_access_entry_list *add,
                      struct reeve_access_entry_list *ret_list);

#endif
