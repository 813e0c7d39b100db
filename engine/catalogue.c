#include "catalogue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "error.h"

static const char built_in[] =
    "aws: ap-northeast-1 ap-south-1 ap-southeast-1 ap-southeast-2 eu-central-1 eu-west-1 eu-west-2 me-central-1"
    " us-east-1 us-east-2 us-west-2;"
    "gcp: asia-southeast1 europe-west2 europe-west4 us-central1 us-east1;"
    "azure: eastus2 germanywestcentral westus3";

struct entry {
    struct reeve_str provider, region; /* into the text */
};

struct catalogue {
    char *text;
    struct entry *entries;
    size_t count, capacity;
};

static int add(struct catalogue *catalogue, struct reeve_str provider, struct reeve_str region)
{
    if (catalogue->count == catalogue->capacity) {
        const size_t capacity = catalogue->capacity ? catalogue->capacity * 2 : 32;
        struct entry *entries = realloc(catalogue->entries, capacity * sizeof *entries);
        if (!entries)
            return -REEVE_ERROR_NO_MEMORY;
        catalogue->entries = entries;
        catalogue->capacity = capacity;
    }
    catalogue->entries[catalogue->count++] = (struct entry){provider, region};
    return 0;
}

/* The next word, of what may stand in a name; empty at the end or at anything else. */
static struct reeve_str word(const char **text)
{
    *text += strspn(*text, " \t\n,");
    const size_t size = strspn(*text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    const struct reeve_str result = {*text, size};
    *text += size;
    return result;
}

static int parse(struct catalogue *catalogue, struct reeve_error *ret_error)
{
    const char *text = catalogue->text;
    for (;;) {
        text += strspn(text, " \t\n;");
        if (*text == '\0')
            break;
        const struct reeve_str provider = word(&text);
        text += strspn(text, " \t");
        if (provider.size == 0 || provider.size > 50 || *text != ':')
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "catalogue",
                             "must read 'provider: region region; provider: region', stuck at '%.20s'", text);
        text++;
        struct reeve_str region;
        size_t regions = 0;
        while ((region = word(&text)).size > 0) {
            regions++;
            if (region.size > 50)
                return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "catalogue", "the region '%.20s…' is too long",
                                 region.data);
            if (add(catalogue, provider, region) < 0)
                return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
        }
        if (regions == 0 || (*text != ';' && *text != '\0'))
            return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "catalogue",
                             "provider '%.*s' needs regions up to a ';', stuck at '%.20s'", (int)provider.size,
                             provider.data, text);
    }
    if (catalogue->count == 0)
        return error_set(ret_error, REEVE_ERROR_BAD_REQUEST, "catalogue", "names no provider");
    return 0;
}

int catalogue_new(const char *text, struct catalogue **ret_catalogue, struct reeve_error *ret_error)
{
    *ret_catalogue = NULL;
    struct catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (catalogue)
        catalogue->text = strdup(text ? text : built_in);
    if (!catalogue || !catalogue->text) {
        catalogue_free(catalogue);
        return error_plain(ret_error, -REEVE_ERROR_NO_MEMORY);
    }
    const int r = parse(catalogue, ret_error);
    if (r < 0) {
        catalogue_free(catalogue);
        return r;
    }
    *ret_catalogue = catalogue;
    return 0;
}

void catalogue_free(struct catalogue *catalogue)
{
    if (!catalogue)
        return;
    free(catalogue->text);
    free(catalogue->entries);
    free(catalogue);
}

static bool same(struct reeve_str a, struct reeve_str b)
{
    return bytes_equal(a.data, a.size, b.data, b.size);
}

bool catalogue_has_provider(const struct catalogue *catalogue, struct reeve_str provider)
{
    for (size_t i = 0; i < catalogue->count; i++) {
        if (same(catalogue->entries[i].provider, provider))
            return true;
    }
    return false;
}

bool catalogue_has_region(const struct catalogue *catalogue, struct reeve_str provider, struct reeve_str region)
{
    for (size_t i = 0; i < catalogue->count; i++) {
        if (same(catalogue->entries[i].provider, provider) && same(catalogue->entries[i].region, region))
            return true;
    }
    return false;
}

static void append(char *text, size_t size, struct reeve_str name)
{
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s'%.*s'", used ? ", " : "", (int)name.size, name.data);
}

void catalogue_list_providers(const struct catalogue *catalogue, char *ret_text, size_t size)
{
    ret_text[0] = '\0';
    for (size_t i = 0; i < catalogue->count; i++) {
        if (i == 0 || !same(catalogue->entries[i].provider, catalogue->entries[i - 1].provider))
            append(ret_text, size, catalogue->entries[i].provider);
    }
}

void catalogue_list_regions(const struct catalogue *catalogue, struct reeve_str provider, char *ret_text, size_t size)
{
    ret_text[0] = '\0';
    for (size_t i = 0; i < catalogue->count; i++) {
        if (same(catalogue->entries[i].provider, provider))
            append(ret_text, size, catalogue->entries[i].region);
    }
}
