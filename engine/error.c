#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
    int http_status;
    bool retryable;
} errors[] = {
    [0] = {"OK", "success", 200, false},
#define ERROR(id, number, name, http, retryable, text) [number] = {name, text, http, retryable},
#include "errors.def"
};

static size_t row(int code)
{
    const size_t number = (size_t)abs(code);
    return number < sizeof errors / sizeof errors[0] && errors[number].name ? number : REEVE_ERROR_INTERNAL;
}

const char *reeve_error_name(int code)
{
    return errors[row(code)].name;
}

const char *reeve_error_text(int code)
{
    return errors[row(code)].text;
}

int reeve_error_http_status(int code)
{
    return errors[row(code)].http_status;
}

bool reeve_error_retryable(int code)
{
    return errors[row(code)].retryable;
}

int error_set(struct reeve_error *ret_error, enum reeve_error_code code, const char *field, const char *format, ...)
{
    *ret_error = (struct reeve_error){.code = code};
    if (field)
        snprintf(ret_error->field, sizeof ret_error->field, "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_error->message, sizeof ret_error->message, format, arguments);
    va_end(arguments);
    return -(int)code;
}

int error_plain(struct reeve_error *ret_error, int code)
{
    return error_set(ret_error, (enum reeve_error_code)row(code), NULL, "%s", reeve_error_text(code));
}

int check_generation(const struct reeve_request *request, uint64_t generation, struct reeve_error *ret_error)
{
    const uint64_t wanted = request->meta.if_generation;
    if (wanted == 0 || wanted == generation)
        return 0;
    return error_set(ret_error, REEVE_ERROR_STALE_GENERATION, "ifGeneration", "the generation is %llu, not %llu",
                     (unsigned long long)generation, (unsigned long long)wanted);
}

const char *reeve_version(void)
{
    return REEVE_VERSION;
}

struct reeve_str reeve_str(const char *text)
{
    return (struct reeve_str){text, text ? strlen(text) : 0};
}
