#include "tests/lib/directory.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

void directory_make(const char *parent, char ret_path[DIRECTORY_PATH_MAX])
{
    snprintf(ret_path, DIRECTORY_PATH_MAX, "%s/reeve-test-XXXXXX", parent);
    if (mkdtemp(ret_path))
        return;
    perror(ret_path);
    abort();
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

void directory_remove(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
