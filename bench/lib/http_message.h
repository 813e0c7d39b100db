/* HTTP/1.1 as the benches need it: requests with a key, answers with a length or in chunks. */
#ifndef REEVE_BENCH_HTTP_MESSAGE_H
#define REEVE_BENCH_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct http_answer {
    unsigned status;
    const char *body; /* in the bytes that were parsed */
    size_t body_size;
};

/* Returns how many bytes the answer takes, 0 while it is not whole, -1 where it is no answer. A body in chunks is put
 * together where it stands. */
ssize_t http_answer_parse(char *data, size_t size, struct http_answer *ret_answer);
/* Copies the first member of that name whose value is text; false: there is none, or it is longer. */
bool http_answer_text(const struct http_answer *answer, const char *name, char *ret_text, size_t size);
/* Complains on standard error and returns false when it is not a success. */
bool http_answer_check(const struct http_answer *answer, const char *what);

struct http_request {
    const char *method, *path;
    const char *authorization; /* value of the header */
    bool wait;                 /* for the state that is asked for */
    const char *body;          /* NULL: none */
};

/* Returns the size, or 0 when it does not fit. */
size_t http_request_print(const struct http_request *request, char *ret_text, size_t size);

#endif
