/* Asking a program what it is, before anything depends on it. */
#ifndef REEVE_EXEC_DESCRIBE_H
#define REEVE_EXEC_DESCRIBE_H

#include <jansson.h>
#include <reeve.h>

#include "config.h"

#define DESCRIBE_TIMEOUT_MS 10000

struct description {
    char name[51];
    uint32_t operations; /* a bit for each enum reeve_operation_kind */
    bool health;         /* it has the operation health */
    uint32_t passwords;  /* what it can set them from, bits by enum reeve_password_form; 0: it does not tell */
    json_t *json;        /* the whole answer */
};

/* Run it once and wait for it. ret_error says what is wrong with a program that cannot describe itself. */
int describe_program(const struct exec_config *config, struct description *ret_description,
                     struct reeve_error *ret_error);
void description_free(struct description *description);

#endif
