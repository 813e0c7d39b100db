/* All help is printed from the tables. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const char global_flags[] =
    "Flags of all commands:\n"
    "  --socket PATH          the daemon's socket (default: REEVE_SOCKET)\n"
    "  --org ID               the organization (default: REEVE_ORG_ID)\n"
    "  --json                 for programs: answers as they are sent, lists as one object a line\n"
    "  --help                 what the command does and takes\n";

static const char *const others[][2] = {
    {"watch", "show events as they happen"},
    {"stats", "what the engine counts"},
    {"snapshot PATH", "copy the store to a new directory, while it serves"},
    {"check [DIR]", "verify the store, through the daemon or of a directory"},
    {"provisioner check PROGRAM", "try out a plugin for `serve --provisioner exec:PROGRAM`"},
    {"openapi [plain|cloud]", "print the HTTP API as an OpenAPI document"},
    {"completion bash|zsh|fish", "print what a shell needs to complete commands"},
    {"help [NOUN [VERB]]", "this, or more of one command"},
    {"version", "print the version"},
};

void help_all(void)
{
    char noun[32], verb[32], last[32] = "";
    printf("usage: reeve serve --dev | --data DIR     run the daemon (`reeve serve --help`)\n"
           "       reeve NOUN VERB [ID...] [flags]    ask it for something\n\n");
    for (unsigned i = 0; command_at(i); i++) {
        const struct command_type *command = command_at(i);
        char words[72];
        command_words(command, noun, verb);
        if (strcmp(noun, last) != 0)
            printf("%s", *last ? "\n" : "");
        snprintf(last, sizeof last, "%s", noun);
        snprintf(words, sizeof words, "%s %s", strcmp(noun, "organization") == 0 ? "org" : noun, verb);
        printf("  %-30s %s\n", words, command->help);
    }
    printf("\n");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        printf("  %-30s %s\n", others[i][0], others[i][1]);
    printf("\n");
    printf("%s  --wait                 wait for the end of what was started, show how it goes\n"
           "  --timeout SECONDS      wait that long at the most\n\n"
           "Exit codes: 0 done, 1 refused, 2 usage, 3 no daemon there, 4 waited and it failed, 5 waited too long,\n"
           "6 the check found something.\n",
           global_flags);
}

void help_noun(const char *noun)
{
    char known_noun[32], verb[32];
    for (unsigned i = 0; command_at(i); i++) {
        command_words(command_at(i), known_noun, verb);
        if (command_find(noun, verb) == command_at(i))
            printf("  reeve %s %-16s %s\n", noun, verb, command_at(i)->help);
    }
    printf("\n`reeve %s VERB --help` tells more.\n", noun);
}

static void print_value(const struct field *field)
{
    switch (field->kind) {
    case FIELD_BOOL:
        printf("[=true|false]");
        break;
    case FIELD_U64:
        printf(" N");
        break;
    case FIELD_TIME:
    case FIELD_STAMP:
        printf(" TIME");
        break;
    case FIELD_UUID:
        printf(" ID");
        break;
    case FIELD_ENUM:
        for (unsigned i = 0; i < field->words->count; i++)
            printf("%s%s", i ? "|" : " ", field->words->values[i].name);
        break;
    case FIELD_WORDS:
        printf(" WORD");
        break;
    case FIELD_LIST:
        printf(" SOURCE[=DESCRIPTION]");
        break;
    case FIELD_STR:
    case FIELD_BIN:
    case FIELD_OBJ:
        printf(" TEXT");
        break;
    }
}

static void print_flag(const struct field *field)
{
    char flag[64];
    if (field->kind == FIELD_OBJ) {
        for (unsigned i = 0; i < field->record->count; i++)
            print_flag(&field->record->fields[i]);
        return;
    }
    flag_name(field->name, flag);
    printf("  --%s", flag);
    print_value(field);
    printf("%s\n        %s%s\n", field->use == USE_REQUIRED ? "   (required)" : "", field->text,
           field->kind == FIELD_LIST ? "; may be given several times" : "");
}

void help_command(const struct command_type *command)
{
    char noun[32], verb[32];
    command_words(command, noun, verb);
    printf("usage: reeve %s %s", noun, verb);
    for (unsigned i = 0; i < command->params->count; i++) {
        const struct field *field = &command->params->fields[i];
        char flag[64];
        flag_name(field->name, flag);
        if (argument_position(command, field) >= 0)
            printf(" %s", flag);
    }
    printf(" [flags]\n\n%c%s.\n\n", command->help[0] - 'a' + 'A', command->help + 1);
    for (unsigned i = 0; i < command->params->count; i++) {
        const struct field *field = &command->params->fields[i];
        if (argument_position(command, field) < 0 && strcmp(field->c_name, "organization_id") != 0)
            print_flag(field);
    }
    for (unsigned i = 0; i < params_type_meta.count; i++) {
        const bool taken = command->mode == REEVE_MODE_CHANGE || (command->mode == REEVE_MODE_WRITE && i == 0);
        if (taken)
            print_flag(&params_type_meta.fields[i]);
    }
    printf("  --params JSON|-\n        all parameters at once, as they are sent; - reads standard input\n");
    if (wait_is_possible(command->id))
        printf("  --wait, --timeout SECONDS\n        wait for the end of it\n");
    printf("\n%s", global_flags);
}
