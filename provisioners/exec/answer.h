/* From what a run has left behind to the outcome of the attempt. Everything that a program may write is input from
 * outside: whatever it is, there comes an outcome of it that says what was wrong. */
#ifndef REEVE_EXEC_ANSWER_H
#define REEVE_EXEC_ANSWER_H

#include <jansson.h>
#include <reeve.h>

#define EXIT_RETRY 75
#define EXIT_PERMANENT 65
#define EXIT_UNSUPPORTED 69

struct answer {
    struct reeve_outcome outcome; /* points into what follows */
    char end[80];                 /* for people and logs: "exit code 75", "signal 9 (Killed)" */
    int exit_code;                /* -1: it did not end by itself */
    bool lost;                    /* there is no result */
    json_t *json;                 /* what it printed; NULL: nothing that can be read */
    char *handle;
    char code[64], message[512];
    struct reeve_endpoint endpoints[REEVE_ENDPOINTS_MAX];
};

/* Read result, output and log of the directory of a run. To be given back with answer_free(). */
void answer_read(struct answer *answer, const char *run_directory);
void answer_free(struct answer *answer);

/* One line of UTF-8 that ends with a whole character: the engine takes no other text, and a reason must not get lost.
 */
void answer_clean(const char *text, char *ret_text, size_t size_max);

#endif
