/* In the place of libFuzzer: a target tried with the files of a directory, in the order of their names, and with
 * nothing. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void try_file(const char *directory, const char *name)
{
    char path[512];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    uint8_t *data = fuzz_read(path, &size);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

int main(int argc, char **argv)
{
    struct dirent **entries;
    const char *directory = argc > 1 ? argv[1] : "";
    const int count = scandir(directory, &entries, is_visible, alphasort);
    fuzz_require(count > 0, "there are no inputs");
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 0; i < count; i++) {
        fprintf(stderr, "%s/%s\n", directory, entries[i]->d_name); /* the last line where it ends */
        try_file(directory, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return 0;
}
