#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

#define OWN_FILE_MAX 65536

void files_path(char ret_path[FILES_PATH_MAX], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_path, FILES_PATH_MAX, format, arguments);
    va_end(arguments);
}

/* ---- Directories ---- */

int files_make_directories(const char *path)
{
    char part[FILES_PATH_MAX];
    for (const char *at = path; at && *at;) {
        at = strchr(at + 1, '/');
        files_path(part, "%.*s", at ? (int)(at - path) : (int)strlen(path), path);
        if (mkdir(part, 0700) < 0 && errno != EEXIST)
            return -errno;
    }
    struct stat status;
    if (stat(path, &status) < 0)
        return -errno;
    return S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)walk;
    if (type == FTW_DP || type == FTW_D || type == FTW_DNR)
        rmdir(path);
    else
        unlink(path);
    return 0;
}

void files_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- Reading ---- */

/* No program of others is waited for: what is no plain file is not read. */
static int open_plain(const char *path, struct stat *ret_status)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, ret_status) < 0 || !S_ISREG(ret_status->st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool read_part(int fd, off_t from, size_t size, struct buffer *out)
{
    char *room = size > 0 ? buffer_reserve(out, size) : NULL;
    ssize_t got = 0;
    size_t whole = 0;
    while (room && whole < size && (got = pread(fd, room + whole, size - whole, from + (off_t)whole)) > 0)
        whole += (size_t)got;
    out->size += whole;
    return (room || size == 0) && got >= 0;
}

bool files_read_end(const char *path, size_t size_max, struct buffer *out)
{
    struct stat status;
    const int fd = open_plain(path, &status);
    if (fd < 0)
        return false;
    const size_t size = (uint64_t)status.st_size < size_max ? (size_t)status.st_size : size_max;
    const bool done = read_part(fd, status.st_size - (off_t)size, size, out);
    close(fd);
    return done;
}

bool files_read_start(const char *path, size_t size_max, struct buffer *out, bool *ret_cut)
{
    struct stat status;
    const int fd = open_plain(path, &status);
    if (fd < 0)
        return false;
    *ret_cut = (uint64_t)status.st_size > size_max;
    const bool done = read_part(fd, 0, *ret_cut ? size_max : (size_t)status.st_size, out);
    close(fd);
    return done;
}

json_t *files_read_json(const char *path)
{
    struct buffer text = {0};
    bool cut = false;
    json_t *json = NULL;
    if (files_read_start(path, OWN_FILE_MAX, &text, &cut) && !cut)
        json = json_loadb(text.data ? text.data : "", text.size, 0, NULL);
    buffer_deinit(&text);
    return json;
}

/* ---- Writing ---- */

static bool write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        const ssize_t done = write(fd, data, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done;
        size -= (size_t)done;
    }
    return true;
}

bool files_write(const char *path, const void *data, size_t size, bool durable)
{
    char part[FILES_PATH_MAX];
    files_path(part, "%s.tmp", path);
    const int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool done = write_all(fd, data, size) && (!durable || fsync(fd) == 0);
    done = close(fd) == 0 && done && rename(part, path) == 0;
    if (!done)
        unlink(part);
    return done;
}

bool files_write_json(const char *path, const json_t *json, bool durable)
{
    char *text = json_dumps(json, JSON_COMPACT);
    const bool done = text && files_write(path, text, strlen(text), durable);
    free(text);
    return done;
}

/* ---- Text ---- */

/* Bytes of the character at the start; 0: none. */
static size_t character_size(const char *data, size_t size)
{
    if (*data == '\n' || *data == '\t')
        return 1;
    for (size_t i = 1; i <= 4 && i <= size; i++) {
        if (utf8_valid(data, i))
            return i;
    }
    return 0;
}

void files_append_text(struct buffer *out, const char *data, size_t size)
{
    while (size > 0) {
        const size_t good = character_size(data, size);
        buffer_append(out, good ? data : "?", good ? good : 1);
        data += good ? good : 1;
        size -= good ? good : 1;
    }
}
