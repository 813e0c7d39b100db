#include "cli.h"
#include "frontends/http/document.h"
#include "frontends/http/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Lists: page after page, so that memory does not grow with them ---- */

static bool advance(json_t *params, const json_t *answer, const json_t *items)
{
    const json_t *cursor = json_object_get(answer, "cursor"), *next = json_object_get(answer, "next");
    if (json_is_integer(next)) {
        json_object_set(params, "from", (json_t *)(uintptr_t)next);
        return json_array_size(items) > 0;
    }
    if (!json_is_string(cursor))
        return false;
    json_object_set(params, "cursor", (json_t *)(uintptr_t)cursor);
    return true;
}

static int list(struct cli *cli, const struct command_type *command, json_t *params)
{
    const bool limited = json_object_get(params, "limit") != NULL;
    bool more = true, first = true, any = false;
    int r = 0;
    while (more && r == 0) {
        json_t *answer;
        r = cli_call(cli, command->name, params, &answer);
        if (r == 0) {
            const json_t *items = json_object_get(answer, "items");
            output_rows(cli, command->answer->name, items, first);
            any |= json_array_size(items) > 0;
            first = false;
            more = !limited && advance(params, answer, items);
        }
        json_decref(answer);
    }
    if (r == 0 && !any && !cli->json)
        printf("none\n");
    return -r;
}

static int call(struct cli *cli, const struct command_type *command, json_t *params)
{
    json_t *answer;
    if (command->mode == REEVE_MODE_LIST)
        return list(cli, command, params);
    if (cli->wait && wait_is_possible(command->id))
        return wait_call(cli, command, params);
    const int r = cli_call(cli, command->name, params, &answer);
    if (r == 0 && strcmp(command->name, "operation.log") == 0)
        output_log(cli, answer);
    else if (r == 0)
        output_record(cli, answer);
    json_decref(answer);
    return -r;
}

static int run_command(struct cli *cli, const struct command_type *command, int argc, char **argv)
{
    json_t *params;
    const int r = arguments_read(cli, command, argc, argv, &params);
    if (r < 0)
        return -r;
    int code = CLI_OK;
    if (cli->help) {
        help_command(command);
    } else if (cli->wait && !wait_is_possible(command->id)) {
        fprintf(stderr, "reeve: there is nothing to wait for after %s\n", command->name);
        code = CLI_USAGE;
    } else {
        code = call(cli, command, params);
    }
    json_decref(params);
    return code;
}

/* ---- Words that are not of the tables ---- */

static int help(int argc, char **argv)
{
    if (argc == 0) {
        help_all();
        return CLI_OK;
    }
    const struct command_type *command = argc > 1 ? command_find(argv[0], argv[1]) : NULL;
    if (command)
        help_command(command);
    else if (argc == 1 && noun_exists(argv[0]))
        help_noun(argv[0]);
    else {
        fprintf(stderr, "reeve: there is no such command; `reeve help` lists them\n");
        return CLI_USAGE;
    }
    return CLI_OK;
}

/* Flags of all commands, and at most one word besides. Negative: usage. */
static int take_word(struct cli *cli, int argc, char **argv, const char **ret_word)
{
    *ret_word = NULL;
    for (int i = 0; i < argc;) {
        const int r = arguments_take_global(cli, argc, argv, i);
        if (r < 0)
            return r;
        if (r == 0 && (*ret_word || argv[i][0] == '-')) {
            fprintf(stderr, "reeve: '%s' is not understood here\n", argv[i]);
            return -CLI_USAGE;
        }
        if (r == 0)
            *ret_word = argv[i];
        i += r ? r : 1;
    }
    return 0;
}

static int openapi_print(enum http_dialect dialect)
{
    struct buffer out = {0};
    if (view_init())
        document_openapi(&out, dialect);
    const bool done = out.size > 0 && !out.failed && fwrite(out.data, 1, out.size, stdout) == out.size;
    buffer_deinit(&out);
    return done ? CLI_OK : CLI_REFUSED;
}

static int run_other(struct cli *cli, const char *name, int argc, char **argv)
{
    const char *word;
    if (strcmp(name, "watch") == 0)
        return watch_main(cli, argc, argv);
    if (take_word(cli, argc, argv, &word) < 0)
        return CLI_USAGE;
    if (cli->help) {
        help_all();
        return CLI_OK;
    }
    if (strcmp(name, "stats") == 0 && !word)
        return maintenance_stats(cli);
    if (strcmp(name, "check") == 0)
        return maintenance_check(cli, word);
    if (strcmp(name, "snapshot") == 0 && word)
        return maintenance_snapshot(cli, word);
    if (strcmp(name, "completion") == 0 && word && completion_print(word) == CLI_OK)
        return CLI_OK;
    if (strcmp(name, "openapi") == 0 && (!word || strcmp(word, "plain") == 0 || strcmp(word, "cloud") == 0))
        return openapi_print(word && strcmp(word, "cloud") == 0 ? HTTP_CLOUD : HTTP_PLAIN);
    if (strcmp(name, "version") == 0 && !word) {
        printf("reeve %s\n", reeve_version());
        return CLI_OK;
    }
    fprintf(stderr, "reeve: usage: reeve %s\n",
            strcmp(name, "snapshot") == 0     ? "snapshot PATH"
            : strcmp(name, "completion") == 0 ? "completion bash|zsh|fish"
            : strcmp(name, "openapi") == 0    ? "openapi [plain|cloud]"
                                              : name);
    return CLI_USAGE;
}

static bool is_other(const char *name)
{
    static const char *const names[] = {"watch", "stats", "check", "snapshot", "completion", "openapi", "version"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
    int at = 1;
    while (at < argc) {
        const int r = arguments_take_global(cli, argc, argv, at);
        if (r < 0)
            return CLI_USAGE;
        if (r == 0)
            break;
        at += r;
    }
    if (at >= argc) {
        help_all();
        return cli->help ? CLI_OK : CLI_USAGE;
    }
    const char *noun = argv[at];
    if (strcmp(noun, "help") == 0)
        return help(argc - at - 1, argv + at + 1);
    if (strcmp(noun, "--version") == 0)
        noun = "version";
    if (is_other(noun))
        return run_other(cli, noun, argc - at - 1, argv + at + 1);
    const struct command_type *command = at + 1 < argc ? command_find(noun, argv[at + 1]) : NULL;
    if (command)
        return run_command(cli, command, argc - at - 2, argv + at + 2);
    if (noun_exists(noun)) {
        if (at + 1 < argc && argv[at + 1][0] != '-')
            fprintf(stderr, "reeve: '%s' has no '%s'. There is:\n", noun, argv[at + 1]);
        help_noun(noun);
        return at + 1 < argc && strcmp(argv[at + 1], "--help") == 0 ? CLI_OK : CLI_USAGE;
    }
    fprintf(stderr, "reeve: '%s' is not known; `reeve help` lists the commands\n", noun);
    return CLI_USAGE;
}

int cli_main(int argc, char **argv)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    struct cli cli = {
        .socket_path = getenv("REEVE_SOCKET"),
        .organization = getenv("REEVE_ORG_ID"),
        .colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && !(term && strcmp(term, "dumb") == 0),
    };
    const int code = dispatch(&cli, argc, argv);
    ipc_client_close(cli.client);
    return code;
}
