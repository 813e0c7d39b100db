/* From words to parameters, by the tables. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "frontends/common/nearest.h"

__attribute__((format(printf, 1, 2))) static int usage(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "reeve: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    return -CLI_USAGE;
}

void flag_name(const char *name, char ret_flag[64])
{
    size_t used = 0;
    for (; *name && used < 61; name++) {
        if (isupper((unsigned char)*name))
            ret_flag[used++] = '-';
        ret_flag[used++] = *name == '_' ? '-' : (char)tolower((unsigned char)*name);
    }
    ret_flag[used] = '\0';
}

/* ---- Finding a command ---- */

/* The one method of schemas/local.def that is about a record. It stands behind the others of its noun. */
static const struct command_type operation_log = {
    .name = "operation.log",
    .mode = REEVE_MODE_READ,
    .params = &params_type_operation,
    .answer = &record_type_none,
    .help = "show what was written by the program that does or did an operation",
};

const struct command_type *command_at(unsigned index)
{
    unsigned place = 0;
    while (place < schema_commands_count && schema_commands[place].id != REEVE_COMMAND_OPERATION_LIST)
        place++;
    if (index == ++place)
        return &operation_log;
    index -= index > place;
    return index < schema_commands_count ? &schema_commands[index] : NULL;
}

void command_words(const struct command_type *command, char ret_noun[32], char ret_verb[32])
{
    const char *dot = strchr(command->name, '.');
    snprintf(ret_noun, 32, "%.*s", (int)(dot - command->name), command->name);
    snprintf(ret_verb, 32, "%s", dot + 1);
    for (char *c = ret_noun; *c; c++)
        *c = *c == '_' ? '-' : *c;
    for (char *c = ret_verb; *c; c++)
        *c = *c == '_' ? '-' : *c;
}

static const char *full_noun(const char *noun)
{
    return strcmp(noun, "org") == 0 ? "organization" : noun;
}

const struct command_type *command_find(const char *noun, const char *verb)
{
    char known_noun[32], known_verb[32];
    for (unsigned i = 0; command_at(i); i++) {
        command_words(command_at(i), known_noun, known_verb);
        if (strcmp(known_noun, full_noun(noun)) == 0 && strcmp(known_verb, verb) == 0)
            return command_at(i);
    }
    return NULL;
}

bool noun_exists(const char *noun)
{
    char known_noun[32], known_verb[32];
    for (unsigned i = 0; command_at(i); i++) {
        command_words(command_at(i), known_noun, known_verb);
        if (strcmp(known_noun, full_noun(noun)) == 0)
            return true;
    }
    return false;
}

int argument_position(const struct command_type *command, const struct field *field)
{
    int position = 0;
    for (unsigned i = 0; i < command->params->count; i++) {
        const struct field *other = &command->params->fields[i];
        if (other->kind != FIELD_UUID || other->use != USE_REQUIRED)
            continue;
        /* The organization has a flag and an environment variable, where it is not itself the object. */
        if (strcmp(other->c_name, "organization_id") == 0 && strcmp(command->params->name, "organization") != 0 &&
            strcmp(command->params->name, "organization_update") != 0)
            continue;
        if (other == field)
            return position;
        position++;
    }
    return -1;
}

/* ---- Values ---- */

static json_t *access_entry(const char *text)
{
    const char *equals = strchr(text, '=');
    json_t *entry = json_object();
    json_object_set_new(entry, "source", json_stringn(text, equals ? (size_t)(equals - text) : strlen(text)));
    if (equals)
        json_object_set_new(entry, "description", json_string(equals + 1));
    return entry;
}

/* NULL: not a value of that kind. */
static json_t *value_of(const struct field *field, const char *text)
{
    char *end;
    if (field->use == USE_NULLABLE && strcmp(text, "null") == 0)
        return json_null();
    if (field->kind == FIELD_BOOL)
        return strcmp(text, "true") == 0 ? json_true() : strcmp(text, "false") == 0 ? json_false() : NULL;
    if (field->kind != FIELD_U64)
        return json_string(text);
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    return *text && *end == '\0' && errno == 0 ? json_integer(number) : NULL;
}

static int set_value(json_t *params, const struct field *field, const char *flag, const char *text)
{
    if (field->kind == FIELD_LIST) {
        json_t *list = json_object_get(params, field->name);
        if (!list) {
            list = json_array();
            json_object_set_new(params, field->name, list);
        }
        if (*text) /* an empty word: the empty list */
            json_array_append_new(list, access_entry(text));
        return 0;
    }
    json_t *value = value_of(field, text);
    if (!value)
        return usage("--%s: must be %s, not '%s'", flag, field->kind == FIELD_BOOL ? "true or false" : "a whole number",
                     text);
    json_object_set_new(params, field->name, value);
    return 0;
}

/* ---- Flags of a command ---- */

struct match {
    const struct field *field;
    json_t *target; /* the object the field goes into */
};

static bool is_named(const struct field *field, const char *name, size_t size)
{
    char flag[64];
    flag_name(field->name, flag);
    return (strlen(flag) == size && memcmp(flag, name, size) == 0) ||
           (strlen(field->name) == size && memcmp(field->name, name, size) == 0);
}

static json_t *inner_object(json_t *params, const char *name)
{
    json_t *object = json_object_get(params, name);
    if (!object) {
        object = json_object();
        json_object_set_new(params, name, object);
    }
    return object;
}

/* Fields of an object inside (ipAccessList.add) have flags of their own (--add). */
static bool find_flag(const struct record_type *type, json_t *params, const char *name, size_t size, struct match *ret)
{
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (field->kind != FIELD_OBJ && is_named(field, name, size)) {
            *ret = (struct match){field, params};
            return true;
        }
    }
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (field->kind != FIELD_OBJ)
            continue;
        for (unsigned n = 0; n < field->record->count; n++) {
            if (is_named(&field->record->fields[n], name, size)) {
                *ret = (struct match){&field->record->fields[n], inner_object(params, field->name)};
                return true;
            }
        }
    }
    return false;
}

static bool takes_meta(const struct command_type *command, const struct field *field)
{
    return command->mode == REEVE_MODE_CHANGE ||
           (command->mode == REEVE_MODE_WRITE && strcmp(field->c_name, "idempotency_key") == 0);
}

static bool find_any_flag(const struct command_type *command, json_t *params, const char *name, size_t size,
                          struct match *ret)
{
    if (find_flag(command->params, params, name, size, ret))
        return true;
    return find_flag(&params_type_meta, params, name, size, ret) && takes_meta(command, ret->field);
}

static int unknown_flag(const struct command_type *command, const char *word)
{
    char best[64] = "", flag[64], noun[32], verb[32];
    for (unsigned i = 0; i < command->params->count; i++) {
        flag_name(command->params->fields[i].name, flag);
        if (!best[0] || nearest_distance(word + 2, flag) < nearest_distance(word + 2, best))
            memcpy(best, flag, sizeof best);
    }
    command_words(command, noun, verb);
    if (best[0] && nearest_distance(word + 2, best) <= 3)
        return usage("%s is not known; did you mean --%s? `reeve %s %s --help` lists the flags", word, best, noun,
                     verb);
    return usage("%s is not known; `reeve %s %s --help` lists the flags", word, noun, verb);
}

/* How many words were taken. */
static int take_flag(const struct command_type *command, json_t *params, int argc, char **argv, int index)
{
    const char *word = argv[index], *equals = strchr(word, '=');
    const size_t size = (equals ? (size_t)(equals - word) : strlen(word)) - 2;
    struct match match;
    int r;
    if (!equals && strncmp(word, "--no-", 5) == 0 && find_any_flag(command, params, word + 5, size - 3, &match) &&
        match.field->kind == FIELD_BOOL) {
        json_object_set_new(match.target, match.field->name, json_false());
        return 1;
    }
    if (!find_any_flag(command, params, word + 2, size, &match))
        return unknown_flag(command, word);
    if (equals) {
        r = set_value(match.target, match.field, match.field->name, equals + 1);
        return r < 0 ? r : 1;
    }
    const bool has_next = index + 1 < argc;
    if (match.field->kind == FIELD_BOOL &&
        !(has_next && (strcmp(argv[index + 1], "true") == 0 || strcmp(argv[index + 1], "false") == 0))) {
        json_object_set_new(match.target, match.field->name, json_true());
        return 1;
    }
    if (!has_next)
        return usage("%s needs a value", word);
    r = set_value(match.target, match.field, word + 2, argv[index + 1]);
    return r < 0 ? r : 2;
}

/* ---- Flags of all commands ---- */

static int take_timeout(struct cli *cli, const char *text)
{
    char *end;
    cli->timeout_s = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || cli->timeout_s == 0 || cli->timeout_s > 86400)
        return usage("--timeout: must be seconds from 1 to 86400, not '%s'", text);
    cli->wait = true;
    return 2;
}

int arguments_take_global(struct cli *cli, int argc, char **argv, int index)
{
    const char *word = argv[index], *next = index + 1 < argc ? argv[index + 1] : NULL;
    if (strcmp(word, "--json") == 0)
        return cli->json = true, 1;
    if (strcmp(word, "--wait") == 0)
        return cli->wait = true, 1;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return cli->help = true, 1;
    if (strncmp(word, "--socket=", 9) == 0)
        return cli->socket_path = word + 9, 1;
    if (strncmp(word, "--org=", 6) == 0)
        return cli->organization = word + 6, 1;
    const bool known = strcmp(word, "--socket") == 0 || strcmp(word, "--org") == 0 || strcmp(word, "--timeout") == 0;
    if (!known)
        return 0;
    if (!next)
        return usage("%s needs a value", word);
    if (strcmp(word, "--timeout") == 0)
        return take_timeout(cli, next);
    if (strcmp(word, "--socket") == 0)
        cli->socket_path = next;
    else
        cli->organization = next;
    return 2;
}

/* ---- --params: all of them at once ---- */

static int take_params(json_t *params, const char *text)
{
    json_error_t error;
    json_t *given = strcmp(text, "-") == 0 ? json_loadf(stdin, JSON_REJECT_DUPLICATES, &error)
                                           : json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!given)
        return usage("--params: not JSON, line %d: %s", error.line, error.text);
    if (!json_is_object(given)) {
        json_decref(given);
        return usage("--params: must be a JSON object");
    }
    json_object_update(params, given);
    json_decref(given);
    return 2;
}

/* ---- All together ---- */

static int take_position(const struct command_type *command, json_t *params, int position, const char *word)
{
    for (unsigned i = 0; i < command->params->count; i++) {
        const struct field *field = &command->params->fields[i];
        if (argument_position(command, field) == position) {
            json_object_set_new(params, field->name, json_string(word));
            return 1;
        }
    }
    return usage("'%s' is one word too many; flags start with --", word);
}

static int check_complete(const struct cli *cli, const struct command_type *command, json_t *params)
{
    char flag[64];
    for (unsigned i = 0; i < command->params->count; i++) {
        const struct field *field = &command->params->fields[i];
        if (field->use != USE_REQUIRED || json_object_get(params, field->name))
            continue;
        flag_name(field->name, flag);
        if (strcmp(field->c_name, "organization_id") == 0 && argument_position(command, field) < 0) {
            if (!cli->organization)
                return usage(
                    "which organization? --org ID, or REEVE_ORG_ID (`. DIR/dev.env` sets it for `reeve serve --dev`)");
            json_object_set_new(params, field->name, json_string(cli->organization));
        } else if (argument_position(command, field) >= 0) {
            return usage("the %s is missing: %s", flag, field->text);
        } else {
            return usage("--%s is missing: %s", flag, field->text);
        }
    }
    return 0;
}

int arguments_read(struct cli *cli, const struct command_type *command, int argc, char **argv, json_t **ret_params)
{
    json_t *params = json_object();
    int position = 0, r = 0;
    for (int i = 0; i < argc && r >= 0; i += r) {
        r = arguments_take_global(cli, argc, argv, i);
        if (r != 0)
            continue;
        if (strcmp(argv[i], "--params") == 0)
            r = i + 1 < argc ? take_params(params, argv[i + 1]) : usage("--params needs a value");
        else if (strncmp(argv[i], "--", 2) == 0)
            r = take_flag(command, params, argc, argv, i);
        else
            r = take_position(command, params, position++, argv[i]);
    }
    if (r >= 0 && !cli->help)
        r = check_complete(cli, command, params);
    if (r < 0) {
        json_decref(params);
        params = NULL;
    }
    *ret_params = params;
    return r < 0 ? r : 0;
}
