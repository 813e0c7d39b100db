/* What a program leaves behind: an outcome comes of it that the engine takes, and it says what was wrong. The first
 * byte picks how the program ended; up to a zero byte it is its answer, then its log. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "fuzz.h"
#include "provisioners/exec/answer.h"
#include "provisioners/exec/wrapper.h"

static void check_text(struct reeve_str text, size_t size_max)
{
    fuzz_require(text.size <= size_max, "text of an outcome is too long");
    fuzz_require(utf8_valid(text.data ? text.data : "", text.size), "text of an outcome is no text");
}

static void check(const struct reeve_outcome *outcome)
{
    switch (outcome->status) {
    case REEVE_OUTCOME_STATUS_DONE:
        fuzz_require(outcome->endpoints.count <= REEVE_ENDPOINTS_MAX, "too many endpoints");
        for (size_t i = 0; i < outcome->endpoints.count; i++)
            fuzz_require(outcome->endpoints.items[i].port >= 1 && outcome->endpoints.items[i].port <= 65535,
                         "a port that is none");
        fuzz_require(outcome->handle.size <= REEVE_HANDLE_SIZE_MAX, "a handle that is too long");
        break;
    case REEVE_OUTCOME_STATUS_RETRY:
    case REEVE_OUTCOME_STATUS_FAILED:
        fuzz_require(outcome->code.size > 0 && outcome->message.size > 0, "a failure without a reason");
        check_text(outcome->code, 63);
        check_text(outcome->message, 511);
        break;
    case REEVE_OUTCOME_STATUS_UNSET:
    case REEVE_OUTCOME_STATUS_CANCELLED:
    default:
        fuzz_require(0, "an outcome that is none");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const results[] = {"{\"exit\":0}",  "{\"exit\":65}", "{\"exit\":69}",
                                          "{\"exit\":75}", "{\"exit\":1}",  "{\"signal\":9}"};
    struct answer answer;
    if (size == 0)
        return 0;
    const unsigned kind = data[0] % 8;
    const uint8_t *zero = memchr(data + 1, 0, size - 1);
    const size_t output = zero ? (size_t)(zero - data - 1) : size - 1;
    if (kind < 6)
        fuzz_write(RUN_RESULT, results[kind], strlen(results[kind]));
    else
        fuzz_write(RUN_RESULT, data + 1, size - 1); /* and the result itself may be anything */
    fuzz_write(RUN_OUT, data + 1, output);
    fuzz_write(RUN_LOG, data + 1 + output, size - 1 - output);
    answer_read(&answer, fuzz_directory());
    check(&answer.outcome);
    answer_free(&answer);
    return 0;
}
