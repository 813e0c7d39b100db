/* The payload of a batch read the naive way, and what may be asked about it. */
#ifndef REEVE_FUZZ_ASKS_H
#define REEVE_FUZZ_ASKS_H

#include "core.h"

#define ASKED_MAX 16

struct payload {
    const uint8_t *at, *end;
};

struct change {
    unsigned table;
    bool gone;
    struct store_key key;
    const uint8_t *value;
    size_t size;
};

/* Where the next change begins; NULL: this is none. */
const uint8_t *payload_change(const uint8_t *at, const uint8_t *end, struct change *ret_change);
/* A number that is the payload's own. */
uint32_t payload_chance(struct payload payload);

/* In a batch: one command, by chance, to whatever of the payload it is for. The requests live until it is committed. */
void ask(struct core *core, uint32_t chance, struct payload payload, struct reeve_request requests[ASKED_MAX]);
/* Read all that the payload is about. */
void look(struct store *store, struct payload payload);

#endif
