#include "refuse.h"

#include <stdarg.h>
#include <stdio.h>

int refuse_field(struct reeve_error *ret_error, const char *field, const char *format, ...)
{
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST};
    snprintf(ret_error->field, sizeof ret_error->field, "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_error->message, sizeof ret_error->message, format, arguments);
    va_end(arguments);
    return -REEVE_ERROR_BAD_REQUEST;
}
