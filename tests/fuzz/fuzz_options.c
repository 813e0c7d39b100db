/* Flags and configuration file of the daemon: read, or refused by name. Up to the first zero byte it is the file, then
 * come flags with a zero byte after each. */
#include <stdlib.h>
#include <string.h>

#include "frontends/daemon/options.h"
#include "fuzz.h"

#define FLAGS_MAX 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *arguments[FLAGS_MAX + 5] = {(char *)(uintptr_t) "serve"};
    int count = 1;
    struct daemon_options options = {0};
    struct reeve_error error = {0};
    char *copy = malloc(size + 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    copy[size] = '\0';
    const size_t file = strlen(copy);
    arguments[count++] = (char *)(uintptr_t) "--config";
    arguments[count++] = (char *)(uintptr_t)fuzz_write("reeve.conf", copy, file);
    for (size_t at = file + 1; at < size && count < FLAGS_MAX + 4; at += strlen(copy + at) + 1)
        arguments[count++] = copy + at;
    const int r = daemon_options_read(&options, count, arguments, &error);
    fuzz_require(r == 0 || (error.code && error.message[0]), "a refusal without a reason");
    daemon_options_free(&options);
    free(copy);
    return 0;
}
