/* What the kernel counted of the processes of a subject: processor time, bytes written, anonymous memory, blocks of
 * files. A server's children count with it; those that have ended are in the counters of their parent. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

struct usage {
    uint64_t cpu_ns, written_bytes, dirtied_bytes, resident_bytes;
};

/* The number after `name` in a file of lines; 0 where there is none. */
static uint64_t number_after(pid_t pid, const char *file_name, const char *name)
{
    char path[64], line[256];
    uint64_t number = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file_name);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, strlen(name)) == 0)
            number = strtoull(line + strlen(name), NULL, 10);
    }
    if (file)
        fclose(file);
    return number;
}

/* Fields of /proc/PID/stat behind the name, which may hold anything: state is number 3, user and system time 14 and 15,
 * the same of children that were waited for 16 and 17. */
static uint64_t ticks_of(pid_t pid)
{
    char path[64], line[1024] = "";
    unsigned long ticks[4] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    const char *fields = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    if (file)
        fclose(file);
    if (!fields || sscanf(fields, ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu %lu %lu", &ticks[0], &ticks[1],
                          &ticks[2], &ticks[3]) != 4)
        return 0;
    return ticks[0] + ticks[1] + ticks[2] + ticks[3];
}

static void add(pid_t pid, uint64_t ticks, struct usage *usage)
{
    usage->cpu_ns += ticks * 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
    usage->written_bytes += number_after(pid, "io", "wchar:");
    usage->dirtied_bytes += number_after(pid, "io", "write_bytes:");
    usage->resident_bytes += number_after(pid, "status", "RssAnon:") * 1024;
}

/* The process and what it has begot, which is one generation for all that are measured. */
static struct usage measure(pid_t pid)
{
    struct usage usage = {0};
    char path[64];
    int child;
    add(pid, ticks_of(pid), &usage);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%d", &child) == 1)
        add(child, ticks_of(child), &usage);
    if (file)
        fclose(file);
    return usage;
}

static struct usage measure_self(void)
{
    struct usage usage = {0};
    struct timespec used;
    add(getpid(), 0, &usage);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    usage.cpu_ns = (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    return usage;
}

void bench_usage(pid_t pid, bool end, struct run_result *result)
{
    const struct usage usage = pid ? measure(pid) : measure_self();
    *(end ? &result->until_ns : &result->from_ns) = bench_now_ns();
    result->cpu_ns = end ? usage.cpu_ns - result->cpu_ns : usage.cpu_ns;
    result->written_bytes = end ? usage.written_bytes - result->written_bytes : usage.written_bytes;
    result->dirtied_bytes = end ? usage.dirtied_bytes - result->dirtied_bytes : usage.dirtied_bytes;
    result->resident_bytes = usage.resident_bytes;
}

static uint64_t blocks;

static int add_blocks(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)path, (void)type, (void)ftw;
    blocks += (uint64_t)stat->st_blocks * 512;
    return 0;
}

uint64_t bench_blocks(const char *path)
{
    blocks = 0;
    nftw(path, add_blocks, 16, FTW_PHYS);
    return blocks;
}
