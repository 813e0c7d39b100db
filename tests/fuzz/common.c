#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static char directory[64];

void fuzz_require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static void remove_directory(void)
{
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_directory(void)
{
    if (!directory[0]) {
        snprintf(directory, sizeof directory, "/dev/shm/reeve-fuzz-XXXXXX");
        fuzz_require(mkdtemp(directory) != NULL, "no directory in /dev/shm");
        atexit(remove_directory);
    }
    return directory;
}

const char *fuzz_write(const char *name, const void *data, size_t size)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", fuzz_directory(), name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    fuzz_require(fd >= 0 && write(fd, data, size) == (ssize_t)size, "a file could not be written");
    close(fd);
    return path;
}

uint8_t *fuzz_read(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    fuzz_require(file && fseek(file, 0, SEEK_END) == 0, "a file cannot be read");
    *ret_size = (size_t)ftell(file);
    uint8_t *bytes = malloc(*ret_size + 1);
    rewind(file);
    fuzz_require(bytes && fread(bytes, 1, *ret_size, file) == *ret_size, "a file cannot be read");
    fclose(file);
    return bytes;
}
