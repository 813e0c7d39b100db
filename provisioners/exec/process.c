#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "files.h"

#define FIELD_STATE 3
#define FIELD_START_TIME 22

static bool read_small(const char *path, char *ret_text, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const size_t got = fread(ret_text, 1, size - 1, file);
    ret_text[got] = '\0';
    fclose(file);
    return got > 0;
}

bool process_start_time(pid_t pid, uint64_t *ret_ticks)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_small(path, text, sizeof text))
        return false;
    char *at = strrchr(text, ')'); /* the name before it may have anything in it */
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return false;
    at += 2;
    for (int field = FIELD_STATE; field < FIELD_START_TIME && at; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    if (!at)
        return false;
    *ret_ticks = strtoull(at, NULL, 10);
    return true;
}

static bool boot_id(char ret_text[64])
{
    if (!read_small("/proc/sys/kernel/random/boot_id", ret_text, 64))
        return false;
    ret_text[strcspn(ret_text, "\n")] = '\0';
    return true;
}

json_t *process_describe(pid_t pid)
{
    char boot[64];
    uint64_t ticks;
    if (!process_start_time(pid, &ticks) || !boot_id(boot))
        return NULL;
    return json_pack("{s:i, s:I, s:s}", "pid", (int)pid, "startTime", (json_int_t)ticks, "bootId", boot);
}

int process_open(const json_t *description)
{
    const char *then = json_string_value(json_object_get(description, "bootId"));
    const json_int_t pid = json_integer_value(json_object_get(description, "pid"));
    const json_int_t started = json_integer_value(json_object_get(description, "startTime"));
    char now[64];
    uint64_t ticks;
    if (!then || !boot_id(now) || strcmp(then, now) != 0 || pid <= 0)
        return -1;
    const int fd = pidfd_open((pid_t)pid, 0);
    /* After it is open the number cannot come to mean another one unnoticed. */
    if (fd >= 0 && (!process_start_time((pid_t)pid, &ticks) || ticks != (uint64_t)started)) {
        close(fd);
        return -1;
    }
    return fd;
}
