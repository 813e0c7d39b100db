/* The tables of lifecycle.def and backup.def, and the look-up that is the only way to a new state. Pure. */
#ifndef REEVE_LIFECYCLE_H
#define REEVE_LIFECYCLE_H

#include <reeve.h>

enum lifecycle_input {
    INPUT_NONE = 0,
#define INPUT(id, name, origin) INPUT_##id,
#include "lifecycle.def"
    INPUT_COUNT,
};

enum lifecycle_effect {
    EFFECT_NONE = 0, /* no rule: refused */
    EFFECT_SAME,     /* already so or under way */
#define EFFECT(id, text) EFFECT_##id,
#include "lifecycle.def"
    EFFECT_COUNT,
};

enum lifecycle_class {
    CLASS_REST,
    CLASS_BUSY,
    CLASS_UP,
    CLASS_IDLE,
};

enum backup_input {
    BACKUP_INPUT_NONE = 0,
#define BACKUP_INPUT(id, name, origin) BACKUP_INPUT_##id,
#include "backup.def"
    BACKUP_INPUT_COUNT,
};

enum backup_effect {
    BACKUP_EFFECT_NONE = 0, /* no rule: refused */
#define BACKUP_EFFECT(id, text) BACKUP_EFFECT_##id,
#include "backup.def"
    BACKUP_EFFECT_COUNT,
};

struct lifecycle_rule {
    enum reeve_service_state next;
    enum lifecycle_effect effect; /* EFFECT_NONE: not allowed */
    enum reeve_event_type event;  /* 0: nobody is told */
};

struct backup_rule {
    enum reeve_backup_state next;
    enum backup_effect effect; /* BACKUP_EFFECT_NONE: not allowed */
    enum reeve_event_type event;
};

const struct lifecycle_rule *lifecycle_step(enum reeve_service_state state, enum lifecycle_input input);
const struct backup_rule *backup_step(enum reeve_backup_state state, enum backup_input input);

const char *lifecycle_input_name(enum lifecycle_input input);
bool lifecycle_is_command(enum lifecycle_input input);
enum lifecycle_class lifecycle_class(enum reeve_service_state state);

/* Bit (1 << input) of each command that the state allows, SAME rows included. */
uint64_t lifecycle_allowed(enum reeve_service_state state);

/* Fill a CONFLICT: current state, allowed commands, and a sentence that has both. */
void lifecycle_conflict(enum reeve_service_state state, enum lifecycle_input input, struct reeve_error *ret_error);
void backup_conflict(enum reeve_backup_state state, enum backup_input input, struct reeve_error *ret_error);

#endif
