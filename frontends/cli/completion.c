/* What shells need to complete commands, printed from the tables. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const char others[] = "serve watch stats snapshot check provisioner completion openapi help version";

/* Calls print for each noun once. */
static void each_noun(void (*print)(const char *noun))
{
    char noun[32], verb[32], last[32] = "";
    for (unsigned i = 0; command_at(i); i++) {
        command_words(command_at(i), noun, verb);
        if (strcmp(noun, last) != 0)
            print(noun);
        snprintf(last, sizeof last, "%s", noun);
    }
}

static void print_verbs(const char *noun)
{
    char known_noun[32], verb[32];
    for (unsigned i = 0; command_at(i); i++) {
        command_words(command_at(i), known_noun, verb);
        if (strcmp(known_noun, noun) == 0)
            printf("%s ", verb);
    }
}

static void print_flags(const struct record_type *type)
{
    char flag[64];
    for (unsigned i = 0; i < type->count; i++) {
        if (type->fields[i].kind == FIELD_OBJ) {
            print_flags(type->fields[i].record);
            continue;
        }
        flag_name(type->fields[i].name, flag);
        printf("--%s ", flag);
    }
}

static void print_noun(const char *noun)
{
    printf("%s ", noun);
}

static void print_bash_case(const char *noun)
{
    char known_noun[32], verb[32];
    printf("    %s%s) words='", noun, strcmp(noun, "organization") == 0 ? "|org" : "");
    print_verbs(noun);
    printf("' ;;\n");
    for (unsigned i = 0; command_at(i); i++) {
        command_words(command_at(i), known_noun, verb);
        if (strcmp(known_noun, noun) != 0)
            continue;
        printf("    %s:%s) words='", noun, verb);
        print_flags(command_at(i)->params);
        print_flags(&params_type_meta);
        printf("--params --wait --timeout --socket --org --json --help' ;;\n");
    }
}

static void print_bash(void)
{
    printf(
        "_reeve() {\n  local current=${COMP_WORDS[COMP_CWORD]} key words=''\n  case $COMP_CWORD in\n"
        "  1) key=top ;;\n  2) key=${COMP_WORDS[1]} ;;\n  *) key=${COMP_WORDS[1]/#org/organization}:${COMP_WORDS[2]}\n"
        "     key=${key/#organizationanization/organization} ;;\n  esac\n  case $key in\n    top) words='org %s ",
        others);
    each_noun(print_noun);
    printf("' ;;\n    completion) words='bash zsh fish' ;;\n");
    each_noun(print_bash_case);
    printf("  esac\n  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n}\ncomplete -o default -F "
           "_reeve reeve\n");
}

static void print_zsh(void)
{
    printf("#compdef reeve\nautoload -U +X bashcompinit && bashcompinit\n");
    print_bash();
}

static void print_fish_noun(const char *noun)
{
    printf("complete -c reeve -f -n '__fish_use_subcommand' -a %s\ncomplete -c reeve -f -n "
           "'__fish_seen_subcommand_from %s' -a '",
           noun, noun);
    print_verbs(noun);
    printf("'\n");
}

static void print_fish(void)
{
    printf("complete -c reeve -f -n '__fish_use_subcommand' -a '%s'\n", others);
    each_noun(print_fish_noun);
    printf("complete -c reeve -l json\ncomplete -c reeve -l wait\ncomplete -c reeve -l help\n"
           "complete -c reeve -l socket -r\ncomplete -c reeve -l org -r\n");
}

int completion_print(const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        print_bash();
    else if (strcmp(shell, "zsh") == 0)
        print_zsh();
    else if (strcmp(shell, "fish") == 0)
        print_fish();
    else
        return CLI_USAGE;
    return CLI_OK;
}
