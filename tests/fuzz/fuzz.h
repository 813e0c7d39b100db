/* What the fuzz targets share. Each target is a program of its own, see `make fuzz`. */
#ifndef REEVE_FUZZ_H
#define REEVE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run with the input that did it. */
void fuzz_require(int condition, const char *what);
/* A directory in memory, removed when the run ends. */
const char *fuzz_directory(void);
/* Its file of that name has these bytes. The path is good until the next call. */
const char *fuzz_write(const char *name, const void *data, size_t size);
/* What a file has; to be freed. */
uint8_t *fuzz_read(const char *path, size_t *ret_size);

#endif
