/* `make test T=name` runs single cases of these programs: the runner names them in the environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

__attribute__((constructor)) static void filter(void)
{
    const char *pattern = getenv("REEVE_TEST_FILTER");
    if (pattern)
        cmocka_set_test_filter(pattern);
}
