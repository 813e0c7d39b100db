#include "logs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "wrapper.h"

#define RUN_BYTES_MAX (LOG_BYTES_MAX - 256) /* of one run, so that its head line stays above it */
#define LINE_BYTES 1024
#define OWNER_BYTES 74 /* "ORGANIZATION SERVICE\n", which the file starts with */

static void owner_line(const struct log_owner *owner, char ret_line[OWNER_BYTES + 1])
{
    char organization[37], service[37];
    reeve_uuid_format(&owner->organization_id, organization);
    reeve_uuid_format(&owner->service_id, service);
    snprintf(ret_line, OWNER_BYTES + 1, "%s %s\n", organization, service);
}

static void kept_path(const char *state, const struct log_owner *owner, const char *ending,
                      char ret_path[FILES_PATH_MAX])
{
    char operation[37];
    reeve_uuid_format(&owner->operation_id, operation);
    files_path(ret_path, "%s/logs/%s%s", state, operation, ending);
}

static void append_file(const char *directory, const char *name, struct buffer *out)
{
    char path[FILES_PATH_MAX];
    struct buffer raw = {0};
    files_path(path, "%s/%s", directory, name);
    if (files_read_end(path, RUN_BYTES_MAX, &raw))
        files_append_text(out, raw.data, raw.size);
    if (raw.size > 0 && out->size > 0 && out->data[out->size - 1] != '\n')
        buffer_append(out, "\n", 1);
    buffer_deinit(&raw);
}

void logs_append_run(const char *run_directory, const char *head, struct buffer *log, struct buffer *progress)
{
    buffer_append(log, "== ", 3);
    buffer_append(log, head, strlen(head));
    buffer_append(log, "\n", 1);
    append_file(run_directory, RUN_LOG, log);
    append_file(run_directory, RUN_PROGRESS, progress);
}

/* ---- Keeping ---- */

static int is_log(const struct dirent *entry)
{
    struct reeve_uuid id;
    return strlen(entry->d_name) == 36 && reeve_uuid_parse(entry->d_name, 36, &id);
}

/* Ids of operations start with the time: the first names are the oldest. */
static void forget_oldest(const char *state)
{
    char directory[FILES_PATH_MAX], path[FILES_PATH_MAX];
    struct dirent **names;
    files_path(directory, "%s/logs", state);
    const int count = scandir(directory, &names, is_log, alphasort);
    for (int i = 0; i < count; i++) {
        if (i < count - LOGS_KEPT) {
            files_path(path, "%s/%s", directory, names[i]->d_name);
            unlink(path);
            files_path(path, "%s/%s.progress", directory, names[i]->d_name);
            unlink(path);
        }
        free(names[i]);
    }
    if (count >= 0)
        free(names);
}

/* The end of it, from the start of a line on where that is not far. */
static void write_end(const char *path, const char *head, const struct buffer *text)
{
    const size_t size = text->size < LOG_BYTES_MAX ? text->size : LOG_BYTES_MAX;
    const char *from = text->data + text->size - size;
    struct buffer whole = {0};
    if (size < text->size) {
        const char *line = memchr(from, '\n', LINE_BYTES);
        from = line ? line + 1 : from;
    }
    buffer_append(&whole, head, strlen(head));
    buffer_append(&whole, from, (size_t)(text->data + text->size - from));
    if (!whole.failed && !text->failed)
        files_write(path, whole.data, whole.size, false);
    buffer_deinit(&whole);
}

void logs_keep(const char *state, const struct log_owner *owner, const char *run_directory, const char *head)
{
    char path[FILES_PATH_MAX], line[OWNER_BYTES + 1];
    struct buffer log = {0}, progress = {0};
    logs_read(state, owner, &log, &progress);
    logs_append_run(run_directory, head, &log, &progress);
    owner_line(owner, line);
    kept_path(state, owner, "", path);
    write_end(path, line, &log);
    kept_path(state, owner, ".progress", path);
    if (progress.size > 0)
        write_end(path, "", &progress);
    buffer_deinit(&log);
    buffer_deinit(&progress);
    forget_oldest(state);
}

bool logs_read(const char *state, const struct log_owner *owner, struct buffer *log, struct buffer *progress)
{
    char path[FILES_PATH_MAX], line[OWNER_BYTES + 1];
    struct buffer raw = {0};
    owner_line(owner, line);
    kept_path(state, owner, "", path);
    const bool found = files_read_end(path, LOG_BYTES_MAX + OWNER_BYTES, &raw) && raw.size >= OWNER_BYTES &&
                       memcmp(raw.data, line, OWNER_BYTES) == 0;
    if (found)
        files_append_text(log, raw.data + OWNER_BYTES, raw.size - OWNER_BYTES);
    buffer_deinit(&raw);
    kept_path(state, owner, ".progress", path);
    if (found && files_read_end(path, LOG_BYTES_MAX, &raw))
        files_append_text(progress, raw.data, raw.size);
    buffer_deinit(&raw);
    return found;
}
