/* UUID version 7 (RFC 9562): the time in front, so that what is made together is stored together. */
#ifndef REEVE_BASE_UUID_H
#define REEVE_BASE_UUID_H

#include <reeve.h>

#define UUID_V7_COUNTS 4096 /* what the first 12 of the random bits can count */

struct reeve_uuid uuid_v7(uint64_t now_ms, const uint8_t random[10]);
bool uuid_equal(const struct reeve_uuid *a, const struct reeve_uuid *b);

#endif
