#include "common.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
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

/* ---- Which round ---- */

double bench_rate(const struct run_result *result, enum work work)
{
    const uint64_t count = work == LIFECYCLES ? result->lifecycles : result->commands;
    return result->seconds > 0 ? (double)count / result->seconds : 0;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

const struct run_result *bench_median(const struct run_result *results, unsigned rounds, enum work work)
{
    double rates[ROUNDS_MAX] = {0};
    for (unsigned i = 0; i < rounds; i++)
        rates[i] = bench_rate(&results[i], work);
    qsort(rates, rounds, sizeof rates[0], compare);
    for (unsigned i = 0; i < rounds; i++) {
        const double rate = bench_rate(&results[i], work);
        if (rate >= rates[rounds / 2] && rate <= rates[rounds / 2])
            return &results[i];
    }
    return &results[0];
}

double bench_microseconds(const struct histogram *latency, double fraction)
{
    return (double)histogram_percentile(latency, fraction) / 1000;
}
