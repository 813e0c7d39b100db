/* Words of the command line: parameters come of them, or a message. The first byte picks the command; each word ends
 * with a zero byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontends/cli/cli.h"
#include "fuzz.h"

#define WORDS_MAX 24

/* What is wrong is printed: not here. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_require(freopen("/dev/null", "w", stdout) != NULL, "no /dev/null");
    return 0;
}

static unsigned commands(void)
{
    unsigned count = 0;
    while (command_at(count))
        count++;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *words[WORDS_MAX];
    int count = 0;
    struct cli cli = {0};
    json_t *params = NULL;
    if (size == 0)
        return 0;
    char *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    copy[size - 1] = '\0';
    for (size_t at = 0; at < size - 1 && count < WORDS_MAX; at += strlen(copy + at) + 1)
        words[count++] = copy + at;
    if (arguments_read(&cli, command_at(data[0] % commands()), count, words, &params) == 0 && params) {
        struct buffer packed = {0};
        msgpack_packer packer;
        msgpack_packer_init(&packer, &packed, buffer_write);
        json_to_msgpack(params, &packer);
        buffer_deinit(&packed);
    }
    json_decref(params);
    free(copy);
    return 0;
}
