#include "common.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

/* ---- Where ---- */

void bench_find_paths(struct bench_paths *ret_paths)
{
    char here[3900] = "";
    const ssize_t size = readlink("/proc/self/exe", here, sizeof here - 1);
    const char *binary = getenv("REEVE_BIN");
    if (size > 0)
        *strrchr(here, '/') = '\0';
    snprintf(ret_paths->directory, sizeof ret_paths->directory, "%s/data", here);
    if (binary)
        snprintf(ret_paths->binary, sizeof ret_paths->binary, "%s", binary);
    else
        snprintf(ret_paths->binary, sizeof ret_paths->binary, "%s/../reeve", here);
}

int bench_make_directory(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    fprintf(stderr, "bench: cannot make %s: %s\n", path, strerror(errno));
    return -1;
}

int bench_make_fresh(const char *path)
{
    bench_remove_tree(path);
    return bench_make_directory(path);
}

static int remove_path(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

void bench_remove_tree(const char *path)
{
    nftw(path, remove_path, 16, FTW_DEPTH | FTW_PHYS);
}

const char *bench_filesystem(const char *path)
{
    static char name[32];
    struct statfs info;
    if (statfs(path, &info) != 0)
        return "unknown";
    const unsigned long type = (unsigned long)info.f_type;
    if (type == 0x01021994)
        return "tmpfs: figures of a disk that never flushes";
    if (type == 0xef53)
        return "ext4";
    if (type == 0x58465342)
        return "xfs";
    if (type == 0x9123683e)
        return "btrfs";
    if (type == 0x794c7630)
        return "overlay";
    snprintf(name, sizeof name, "type 0x%lx", type);
    return name;
}

bool bench_is_filled(const char *directory)
{
    char mark[4200];
    snprintf(mark, sizeof mark, "%s.filled", directory);
    return access(mark, F_OK) == 0;
}

int bench_mark_filled(const char *directory)
{
    char mark[4200];
    snprintf(mark, sizeof mark, "%s.filled", directory);
    FILE *file = fopen(mark, "we");
    return file && fclose(file) == 0 ? 0 : bench_complain(mark, strerror(errno));
}

int bench_complain(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    return -1;
}

/* ---- Figures ---- */

double bench_rate(const struct run_result *result)
{
    return result->seconds > 0 ? (double)result->count / result->seconds : 0;
}

double bench_microseconds(const struct histogram *latency, double fraction)
{
    return (double)histogram_percentile(latency, fraction) / 1000;
}

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t bench_draw(struct bench_chance *chance, uint64_t below)
{
    uint64_t z = chance->state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return below ? (z ^ z >> 31) % below : z ^ z >> 31;
}

void bench_fill(struct bench_chance *chance, void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)bench_draw(chance, 256);
}
