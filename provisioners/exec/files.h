/* Files of the exec provisioner: whole reads of limited size, whole writes, directories. */
#ifndef REEVE_EXEC_FILES_H
#define REEVE_EXEC_FILES_H

#include <jansson.h>

#include "base/buffer.h"

#define FILES_PATH_MAX 4096
/* What is put behind a state directory is shorter than what is left. */
#define FILES_STATE_MAX 3800

/* "directory/name"; what is too long is cut, which the limit above rules out. */
__attribute__((format(printf, 2, 3))) void files_path(char ret_path[FILES_PATH_MAX], const char *format, ...);

/* Make a directory (0700) and those above it. Returns 0 or a negated errno. */
int files_make_directories(const char *path);
/* Remove a file or a directory with all that is in it; links are removed, not followed. */
void files_remove(const char *path);

/* Append what is in a file: at most size_max bytes, of a longer one its end. False: it is not there or not readable. */
bool files_read_end(const char *path, size_t size_max, struct buffer *out);
/* The same from its start on. *ret_cut: there is more. */
bool files_read_start(const char *path, size_t size_max, struct buffer *out, bool *ret_cut);

/* Whole or not at all: written beside, flushed where `durable`, renamed. */
bool files_write(const char *path, const void *data, size_t size, bool durable);
bool files_write_json(const char *path, const json_t *json, bool durable);
/* A small file of our own; NULL: not there or not what was written. The caller owns it. */
json_t *files_read_json(const char *path);

/* Make of any bytes text that is valid UTF-8; of control characters only tab and newline stay. */
void files_append_text(struct buffer *out, const char *data, size_t size);

#endif
