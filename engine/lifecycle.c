#include "lifecycle.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define ORIGIN_COMMAND true
#define ORIGIN_SIGNAL false

/* REEVE_EVENT_TYPE_x under the short names that the tables use. */
enum {
#define VALUE(type, id, number, name) SHORT_##type##_##id = number,
#include "enums.def"
    SHORT_event_type_NONE = 0,
};

static const struct lifecycle_rule rules[REEVE_SERVICE_STATE_COUNT][INPUT_COUNT] = {
#define RULE(state, input, next, effect, event)                                                                        \
    [REEVE_SERVICE_STATE_##state][INPUT_##input] = {REEVE_SERVICE_STATE_##next, EFFECT_##effect,                       \
                                                    (enum reeve_event_type)SHORT_event_type_##event},
#define SAME(state, input)                                                                                             \
    [REEVE_SERVICE_STATE_##state][INPUT_##input] = {REEVE_SERVICE_STATE_##state, EFFECT_SAME, REEVE_EVENT_TYPE_UNSET},
#include "lifecycle.def"
};

static const struct backup_rule backup_rules[REEVE_BACKUP_STATE_COUNT][BACKUP_INPUT_COUNT] = {
#define BACKUP_RULE(state, input, next, effect, event)                                                                 \
    [REEVE_BACKUP_STATE_##                                                                                             \
        state][BACKUP_INPUT_##input] = {REEVE_BACKUP_STATE_##next, BACKUP_EFFECT_##effect, REEVE_EVENT_TYPE_##event},
#include "backup.def"
};

static const struct {
    const char *name;
    bool is_command;
} inputs[INPUT_COUNT] = {
#define INPUT(id, name, origin) [INPUT_##id] = {name, ORIGIN_##origin},
#include "lifecycle.def"
};

static const struct {
    const char *name;
    bool is_command;
} backup_inputs[BACKUP_INPUT_COUNT] = {
#define BACKUP_INPUT(id, name, origin) [BACKUP_INPUT_##id] = {name, ORIGIN_##origin},
#include "backup.def"
};

static const enum lifecycle_class classes[REEVE_SERVICE_STATE_COUNT] = {
#define STATE(id, number, name, class) [REEVE_SERVICE_STATE_##id] = CLASS_##class,
#include "lifecycle.def"
};

_Static_assert(INPUT_COUNT <= 64, "the allowed commands of an error are one bit each");

const struct lifecycle_rule *lifecycle_step(enum reeve_service_state state, enum lifecycle_input input)
{
    assert((unsigned)state < REEVE_SERVICE_STATE_COUNT);
    assert((unsigned)input < INPUT_COUNT);
    return &rules[state][input];
}

const struct backup_rule *backup_step(enum reeve_backup_state state, enum backup_input input)
{
    assert((unsigned)state < REEVE_BACKUP_STATE_COUNT);
    assert((unsigned)input < BACKUP_INPUT_COUNT);
    return &backup_rules[state][input];
}

const char *lifecycle_input_name(enum lifecycle_input input)
{
    return (unsigned)input < INPUT_COUNT ? inputs[input].name : NULL;
}

bool lifecycle_is_command(enum lifecycle_input input)
{
    return (unsigned)input < INPUT_COUNT && inputs[input].is_command;
}

enum lifecycle_class lifecycle_class(enum reeve_service_state state)
{
    assert((unsigned)state < REEVE_SERVICE_STATE_COUNT);
    return classes[state];
}

uint64_t lifecycle_allowed(enum reeve_service_state state)
{
    uint64_t allowed = 0;
    for (unsigned input = 1; input < INPUT_COUNT; input++) {
        if (inputs[input].is_command && rules[state][input].effect != EFFECT_NONE)
            allowed |= UINT64_C(1) << input;
    }
    return allowed;
}

const char *reeve_allowed_name(const struct reeve_error *error, unsigned index)
{
    for (unsigned input = 1; input < INPUT_COUNT; input++) {
        if ((error->allowed & UINT64_C(1) << input) && index-- == 0)
            return inputs[input].name;
    }
    return NULL;
}

void lifecycle_conflict(enum reeve_service_state state, enum lifecycle_input input, struct reeve_error *ret_error)
{
    *ret_error = (struct reeve_error){
        .code = REEVE_ERROR_CONFLICT, .state = state, .allowed = lifecycle_allowed(state)};
    char allowed[160] = "";
    const char *name;
    for (unsigned i = 0; (name = reeve_allowed_name(ret_error, i)); i++) {
        const size_t used = strlen(allowed);
        snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "", name);
    }
    snprintf(ret_error->message, sizeof ret_error->message, "'%s' is not possible in state '%s'; allowed now: %s",
             lifecycle_input_name(input), reeve_service_state_name(state), allowed[0] ? allowed : "nothing");
}

void backup_conflict(enum reeve_backup_state state, enum backup_input input, struct reeve_error *ret_error)
{
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_CONFLICT};
    char allowed[64] = "";
    for (unsigned i = 1; i < BACKUP_INPUT_COUNT; i++) {
        if (backup_inputs[i].is_command && backup_rules[state][i].effect != BACKUP_EFFECT_NONE)
            snprintf(allowed, sizeof allowed, "%s", backup_inputs[i].name);
    }
    snprintf(ret_error->message, sizeof ret_error->message,
             "'%s' is not possible while the backup is '%s'; allowed now: %s", backup_inputs[input].name,
             reeve_backup_state_name(state), allowed[0] ? allowed : "nothing");
}
