#include "http_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- Answers ---- */

/* The value of a header in the head, which ends in an empty line; NULL: not there. */
static const char *header(const char *head, const char *name)
{
    const size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, size) == 0 && line[2 + size] == ':')
            return line + 2 + size + 1 + strspn(line + 2 + size + 1, " ");
    }
    return NULL;
}

/* Walks the chunks; with `to`, puts them together there. Returns as http_answer_parse() does. */
static ssize_t walk_chunks(const char *data, size_t size, char *to, size_t *ret_body_size)
{
    size_t at = 0;
    *ret_body_size = 0;
    for (;;) {
        const char *line_end = memmem(data + at, size - at, "\r\n", 2);
        char *end;
        if (!line_end)
            return 0;
        const size_t chunk = strtoul(data + at, &end, 16);
        if (end == data + at)
            return -1;
        at = (size_t)(line_end - data) + 2;
        if (chunk > size || at + chunk + 2 > size)
            return 0;
        if (to)
            memmove(to + *ret_body_size, data + at, chunk);
        *ret_body_size += chunk;
        at += chunk + 2;
        if (chunk == 0)
            return (ssize_t)at;
    }
}

static ssize_t parse_chunks(char *body, size_t size, struct http_answer *answer)
{
    const ssize_t taken = walk_chunks(body, size, NULL, &answer->body_size);
    return taken > 0 ? walk_chunks(body, size, body, &answer->body_size) : taken;
}

ssize_t http_answer_parse(char *data, size_t size, struct http_answer *ret_answer)
{
    const char *head_end = memmem(data, size, "\r\n\r\n", 4);
    if (!head_end)
        return 0;
    if (strncmp(data, "HTTP/1.1 ", 9) != 0)
        return -1;
    const size_t head_size = (size_t)(head_end - data) + 4;
    const char *length = header(data, "content-length"), *coding = header(data, "transfer-encoding");
    *ret_answer = (struct http_answer){
        .status = (unsigned)strtoul(data + 9, NULL, 10), .body = data + head_size, .body_size = 0};
    if (coding) {
        const ssize_t taken = parse_chunks(data + head_size, size - head_size, ret_answer);
        return taken > 0 ? (ssize_t)head_size + taken : taken;
    }
    ret_answer->body_size = length ? strtoul(length, NULL, 10) : 0;
    return head_size + ret_answer->body_size <= size ? (ssize_t)(head_size + ret_answer->body_size) : 0;
}

bool http_answer_text(const struct http_answer *answer, const char *name, char *ret_text, size_t size)
{
    char start[64];
    const int start_size = snprintf(start, sizeof start, "\"%s\":\"", name);
    const char *found = memmem(answer->body, answer->body_size, start, (size_t)start_size);
    if (!found)
        return false;
    const char *value = found + start_size;
    const char *end = memchr(value, '"', answer->body_size - (size_t)(value - answer->body));
    if (!end || (size_t)(end - value) >= size)
        return false;
    memcpy(ret_text, value, (size_t)(end - value));
    ret_text[end - value] = '\0';
    return true;
}

bool http_answer_check(const struct http_answer *answer, const char *what)
{
    if (answer->status == 200)
        return true;
    fprintf(stderr, "bench: %s was answered with %u: %.*s\n", what, answer->status, (int)answer->body_size,
            answer->body);
    return false;
}

/* ---- Requests ---- */

size_t http_request_print(const struct http_request *request, char *ret_text, size_t size)
{
    char body_headers[100] = "";
    if (request->body)
        snprintf(body_headers, sizeof body_headers, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                 strlen(request->body));
    const int printed = snprintf(ret_text, size, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n%s%s\r\n%s",
                                 request->method, request->path, request->authorization,
                                 request->wait ? "Prefer: wait=30\r\n" : "", body_headers,
                                 request->body ? request->body : "");
    return printed > 0 && (size_t)printed < size ? (size_t)printed : 0;
}
