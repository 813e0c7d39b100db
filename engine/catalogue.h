/* Which providers and regions there are. Immutable once made. */
#ifndef REEVE_CATALOGUE_H
#define REEVE_CATALOGUE_H

#include <reeve.h>

struct catalogue;

/* "aws: us-east-1 eu-west-1; gcp: us-central1". NULL: built in. */
int catalogue_new(const char *text, struct catalogue **ret_catalogue, struct reeve_error *ret_error);
void catalogue_free(struct catalogue *catalogue);
bool catalogue_has_provider(const struct catalogue *catalogue, struct reeve_str provider);
bool catalogue_has_region(const struct catalogue *catalogue, struct reeve_str provider, struct reeve_str region);
/* "'aws', 'gcp'", cut where it does not fit. */
void catalogue_list_providers(const struct catalogue *catalogue, char *ret_text, size_t size);
void catalogue_list_regions(const struct catalogue *catalogue, struct reeve_str provider, char *ret_text, size_t size);

#endif
