#include "options.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/common/nearest.h"
#include "frontends/common/refuse.h"

/* Flags that are text; those that are numbers stand in schemas/options.def and the limits.def of the frontends. */
static const struct text_option {
    const char *name;
    size_t offset;
    const char *value, *text;
    bool repeats; /* given again, it adds */
} texts[] = {
#define TEXT(c_name, name, value, text)                                                                                \
    {                                                                                                                  \
        name, offsetof(struct daemon_options, c_name), value, text, false                                              \
    }
#define TEXTS(c_name, name, value, text)                                                                               \
    {                                                                                                                  \
        name, offsetof(struct daemon_options, c_name), value, text, true                                               \
    }
    TEXT(data_dir, "data", "DIR", "data directory; required without --dev, then ./reeve-dev"),
    TEXT(socket_path, "socket", "PATH", "UNIX socket to listen on; default DIR/reeve.sock"),
    TEXTS(http, "http", "ADDR:PORT",
          "HTTP API to listen on, plain dialect; may be repeated; --dev: 127.0.0.1:8080 [::1]:8080"),
    TEXTS(http_cloud, "http-cloud", "ADDR:PORT", "the same, cloud dialect; --dev: 127.0.0.1:2023 [::1]:2023"),
    TEXT(http_certificate, "http-cert", "FILE", "TLS certificate chain (PEM) for all of them; SIGHUP reads it again"),
    TEXT(http_key, "http-key", "FILE", "its key (PEM)"),
    TEXT(door, "door", "ADDR:FIRST-LAST",
         "public ports of services, owned by reeve: idle services wake on connect; for exec"),
    TEXT(door_host, "door-host", "NAME", "how clients are told to reach them; default the address of --door"),
    TEXT(provisioner, "provisioner", "NAME[:SETTINGS]", "what does the work; default simulated, see below"),
    TEXT(config_path, "config", "FILE", "configuration file: lines of key = value, the keys are these flags"),
    TEXT(socket_mode, "socket-mode", "OCTAL", "access mode of the socket; default 0600"),
    TEXT(socket_owner, "socket-owner", "USER", "owner of the socket; default who runs the daemon"),
    TEXT(socket_group, "socket-group", "GROUP", "group of the socket"),
    TEXT(allowed_users, "allow-users", "USERS",
         "who may connect, names or numbers; default who runs the daemon, and root"),
    TEXT(allowed_groups, "allow-groups", "GROUPS", "whose members may connect"),
    TEXT(catalogue, "catalogue", "TEXT", "providers and regions: 'aws: us-east-1 eu-west-1; gcp: us-central1'"),
    TEXT(endpoint_domain, "endpoint-domain", "NAME", "end of the host names of services; default reeve.local"),
    TEXT(log_format, "log-format", "FORMAT", "text or json; default text"),
    TEXT(log_level, "log-level", "LEVEL", "error, warning, info or debug; default info"),
#undef TEXT
#undef TEXTS
};
#define TEXT_COUNT (sizeof texts / sizeof texts[0])

/* Flags without a value; in the configuration file they are true or false. */
static const struct switch_option {
    const char *name;
    size_t offset;
    const char *why_not_in_file; /* NULL: it may stand there */
    const char *text;
} switches[] = {
    {"dev", offsetof(struct daemon_options, dev), "is a flag only: it is not for machines that stay",
     "try things out: makes an organization and a key, writes DIR/dev.env, opens HTTP"},
    {"insecure", offsetof(struct daemon_options, insecure), NULL,
     "HTTP without TLS also on addresses that are not of loopback"},
    {"core-dumps", offsetof(struct daemon_options, core_dumps), NULL,
     "may leave core dumps and be debugged by its user: its memory has secrets in it"},
};
#define SWITCH_COUNT (sizeof switches / sizeof switches[0])

static const struct switch_option *find_switch(const char *name)
{
    for (size_t i = 0; i < SWITCH_COUNT; i++) {
        if (strcmp(name, switches[i].name) == 0)
            return &switches[i];
    }
    return NULL;
}

static void turn_on(struct daemon_options *options, const struct switch_option *which)
{
    *(bool *)(void *)((char *)options + which->offset) = true;
}

struct number_table {
    const struct option_type *rows;
    unsigned count;
    size_t offset; /* of the struct with the numbers */
    const char *title;
};

#define TABLES 5

static void number_tables(struct number_table ret_tables[TABLES])
{
    ret_tables[0] = (struct number_table){schema_options, schema_options_count, offsetof(struct daemon_options, limits),
                                          "Engine"};
    ret_tables[1] = (struct number_table){ipc_options, ipc_options_count, offsetof(struct daemon_options, ipc_limits),
                                          "Socket"};
    ret_tables[2] = (struct number_table){http_options, http_options_count,
                                          offsetof(struct daemon_options, http_limits), "HTTP"};
    ret_tables[3] = (struct number_table){door_options, door_options_count,
                                          offsetof(struct daemon_options, door_limits), "Door"};
    ret_tables[4] = (struct number_table){exec_options, exec_options_count,
                                          offsetof(struct daemon_options, exec_limits), "Health of services, for exec"};
}

/* ---- Finding a row ---- */

static const char *nearest(const char *name)
{
    const char *best = "help";
    struct number_table tables[TABLES];
    number_tables(tables);
    for (size_t i = 0; i < SWITCH_COUNT; i++)
        best = nearest_distance(name, switches[i].name) < nearest_distance(name, best) ? switches[i].name : best;
    for (size_t i = 0; i < TEXT_COUNT; i++)
        best = nearest_distance(name, texts[i].name) < nearest_distance(name, best) ? texts[i].name : best;
    for (size_t t = 0; t < TABLES; t++) {
        for (unsigned i = 0; i < tables[t].count; i++)
            best = nearest_distance(name, tables[t].rows[i].name) < nearest_distance(name, best)
                       ? tables[t].rows[i].name
                       : best;
    }
    return best;
}

/* ---- Taking a value ---- */

static int take_text(struct daemon_options *options, size_t index, const char *value, bool adds,
                     struct reeve_error *ret_error)
{
    char **target = (char **)(void *)((char *)options + texts[index].offset);
    char *copy = NULL;
    if (asprintf(&copy, "%s%s%s", adds ? *target : "", adds ? " " : "", value) < 0)
        return refuse_field(ret_error, texts[index].name, "out of memory");
    free(*target);
    *target = copy;
    return 0;
}

static int take_number(struct daemon_options *options, const struct number_table *table, unsigned index,
                       const char *value, struct reeve_error *ret_error)
{
    const struct option_type *option = &table->rows[index];
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || number < option->min || number > option->max)
        return refuse_field(ret_error, option->name, "must be a number from %llu to %llu (%s), not '%s'",
                            (unsigned long long)option->min, (unsigned long long)option->max, option->unit, value);
    const uint64_t stored = number;
    memcpy((char *)options + table->offset + option->offset, &stored, sizeof stored);
    return 0;
}

/* Where an option stands: its number among all of them, and its row in the texts (`table` is NULL) or in a table. */
struct place {
    size_t number;
    const struct number_table *table;
    size_t row;
};

static bool find_option(const struct number_table tables[TABLES], const char *name, struct place *ret_place)
{
    *ret_place = (struct place){0};
    for (size_t i = 0; i < TEXT_COUNT; i++, ret_place->number++) {
        ret_place->row = i;
        if (strcmp(texts[i].name, name) == 0)
            return true;
    }
    for (size_t t = 0; t < TABLES; t++) {
        ret_place->table = &tables[t];
        for (unsigned i = 0; i < tables[t].count; i++, ret_place->number++) {
            ret_place->row = i;
            if (strcmp(tables[t].rows[i].name, name) == 0)
                return true;
        }
    }
    return false;
}

/* `again`: whether a value that is there is replaced (flags) or stays (the file, read after them). NULL: the value is
 * missing. */
static int take(struct daemon_options *options, const char *name, const char *value, bool again,
                struct reeve_error *ret_error)
{
    struct number_table tables[TABLES];
    struct place place;
    number_tables(tables);
    if (!find_option(tables, name, &place))
        return refuse_field(ret_error, name, "is not known; did you mean %s?", nearest(name));
    if (!value)
        return refuse_field(ret_error, name, "needs a value");
    bool *given = &options->given[place.number];
    if (*given && !again)
        return 0;
    const bool adds = !place.table && texts[place.row].repeats && *given;
    *given = again;
    return place.table ? take_number(options, place.table, (unsigned)place.row, value, ret_error)
                       : take_text(options, place.row, value, adds, ret_error);
}

/* ---- The command line ---- */

static int take_argument(struct daemon_options *options, int *index, int argc, char **argv,
                         struct reeve_error *ret_error)
{
    const char *argument = argv[*index];
    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        options->help = true;
        return 0;
    }
    if (strncmp(argument, "--", 2) == 0 && find_switch(argument + 2)) {
        turn_on(options, find_switch(argument + 2));
        return 0;
    }
    if (strncmp(argument, "--", 2) != 0)
        return refuse_field(ret_error, argument, "is not a flag; `reeve serve --help` lists them");
    char name[64];
    const char *equals = strchr(argument, '=');
    const size_t size = equals ? (size_t)(equals - argument) - 2 : strlen(argument) - 2;
    if (size >= sizeof name)
        return refuse_field(ret_error, argument, "is not known");
    memcpy(name, argument + 2, size);
    name[size] = '\0';
    if (equals)
        return take(options, name, equals + 1, true, ret_error);
    return take(options, name, *index + 1 < argc ? argv[++*index] : NULL, true, ret_error);
}

/* ---- The file ---- */

struct file_reader {
    struct daemon_options *options;
    struct reeve_error *error;
    const char *path;
    FILE *file;
    unsigned line;
    bool failed;
    char last[64]; /* key of the line before */
};

/* The lines are counted here: inih as Debian builds it does not tell their numbers. */
static char *next_line(char *text, int size, void *arg)
{
    struct file_reader *reader = arg;
    /* inih would take the rest of a long line for a line of its own. */
    if (!fgets(text, size, reader->file))
        return NULL;
    reader->line++;
    if (!strchr(text, '\n') && strlen(text) + 1 == (size_t)size) {
        refuse_field(reader->error, "config", "%.150s, line %u: is too long; a line has at most %d bytes", reader->path,
                     reader->line, size - 2);
        reader->failed = true;
        return NULL;
    }
    return text;
}

/* An indented line goes on with the value above it, which is of use for the catalogue alone. */
static int take_line(struct file_reader *reader, const char *name, const char *value, struct reeve_error *ret_error)
{
    if (strcmp(name, reader->last) != 0) {
        snprintf(reader->last, sizeof reader->last, "%s", name);
        return take(reader->options, name, value, false, ret_error);
    }
    if (strcmp(name, "catalogue") != 0)
        return refuse_field(ret_error, name,
                            "is given twice, or goes on in an indented line; give it once, on one line");
    char *whole;
    if (asprintf(&whole, "%s %s", reader->options->catalogue ? reader->options->catalogue : "", value) < 0)
        return refuse_field(ret_error, name, "out of memory");
    const int r = take(reader->options, name, whole, false, ret_error);
    free(whole);
    return r;
}

static int take_switch(struct daemon_options *options, const struct switch_option *which, const char *value,
                       struct reeve_error *ret_error)
{
    const bool yes = strcmp(value, "true") == 0;
    if (which->why_not_in_file)
        return refuse_field(ret_error, which->name, "%s", which->why_not_in_file);
    if (!yes && strcmp(value, "false") != 0)
        return refuse_field(ret_error, which->name, "must be true or false, not '%s'", value);
    if (yes)
        turn_on(options, which);
    return 0;
}

static int on_line(void *arg, const char *section, const char *name, const char *value)
{
    struct file_reader *reader = arg;
    struct reeve_error error;
    int r = 0;
    if (*section)
        r = refuse_field(&error, section, "sections are not known here");
    else if (strcmp(name, "config") == 0)
        r = refuse_field(&error, name, "cannot be set in the file itself");
    else if (find_switch(name))
        r = take_switch(reader->options, find_switch(name), value ? value : "", &error);
    else
        r = take_line(reader, name, value ? value : "", &error);
    if (r == 0)
        return 1;
    refuse_field(reader->error, error.field, "%.150s (%.80s, line %u)", error.message, reader->path, reader->line);
    reader->failed = true;
    return 0;
}

static int read_file(struct daemon_options *options, struct reeve_error *ret_error)
{
    struct file_reader reader = {.options = options, .error = ret_error, .path = options->config_path};
    reader.file = fopen(options->config_path, "re");
    if (!reader.file)
        return refuse_field(ret_error, "config", "cannot read %.180s: %s", options->config_path, strerror(errno));
    const int r = ini_parse_stream(next_line, &reader, on_line, &reader);
    fclose(reader.file);
    if (reader.failed)
        return -REEVE_ERROR_BAD_REQUEST;
    if (r != 0)
        return refuse_field(ret_error, "config", "%.180s, line %d: must read key = value", options->config_path, r);
    return 0;
}

/* ---- What follows from them ---- */

/* False when out of memory. */
static bool set_default(char **text, const char *directory, const char *value)
{
    if (*text)
        return true;
    return asprintf(text, "%s%s", directory, value) >= 0;
}

/* Told nothing about HTTP, --dev opens both dialects where a browser and today's clients look for them. */
static bool set_dev_addresses(struct daemon_options *options)
{
    if (!options->dev || options->http || options->http_cloud)
        return true;
    options->http_preset = true;
    return set_default(&options->http, "", "127.0.0.1:8080 [::1]:8080") &&
           set_default(&options->http_cloud, "", "127.0.0.1:2023 [::1]:2023");
}

static int finish(struct daemon_options *options, struct reeve_error *ret_error)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    if (!options->data_dir && !options->dev)
        return refuse_field(ret_error, "data", "is required: --data DIR, or --dev to try things out in ./reeve-dev");
    if (!set_default(&options->data_dir, "", "./reeve-dev") ||
        !set_default(&options->socket_path, options->data_dir, "/reeve.sock") ||
        !set_default(&options->provisioner, "", "simulated") || !set_default(&options->log_format, "", "text") ||
        !set_default(&options->log_level, "", "info") || !set_dev_addresses(options))
        return refuse_field(ret_error, "", "out of memory");
    options->log_json = strcmp(options->log_format, "json") == 0;
    if (!options->log_json && strcmp(options->log_format, "text") != 0)
        return refuse_field(ret_error, "log-format", "must be text or json, not '%s'", options->log_format);
    options->log_level_number = (enum reeve_log_level)0;
    for (int i = 0; i < 4; i++) {
        if (strcmp(levels[i], options->log_level) == 0)
            options->log_level_number = (enum reeve_log_level)(i + 1);
    }
    if (!options->log_level_number)
        return refuse_field(ret_error, "log-level", "must be error, warning, info or debug, not '%s'",
                            options->log_level);
    options->socket_mode_number = 0;
    if (options->socket_mode) {
        char *end;
        const unsigned long mode = strtoul(options->socket_mode, &end, 8);
        if (*end != '\0' || end == options->socket_mode || mode == 0 || mode > 0777)
            return refuse_field(ret_error, "socket-mode", "must be octal from 0001 to 0777, not '%s'",
                                options->socket_mode);
        options->socket_mode_number = (unsigned)mode;
    }
    return 0;
}

int daemon_options_read(struct daemon_options *options, int argc, char **argv, struct reeve_error *ret_error)
{
    *options = (struct daemon_options){0};
    options->given = calloc(TEXT_COUNT + schema_options_count + ipc_options_count + http_options_count +
                                door_options_count + exec_options_count,
                            sizeof(bool));
    if (!options->given)
        return refuse_field(ret_error, "", "out of memory");
    for (int i = 1; i < argc; i++) {
        const int r = take_argument(options, &i, argc, argv, ret_error);
        if (r < 0 || options->help)
            return r;
    }
    if (options->config_path) {
        const int r = read_file(options, ret_error);
        if (r < 0)
            return r;
    }
    return finish(options, ret_error);
}

void daemon_options_free(struct daemon_options *options)
{
    for (size_t i = 0; i < TEXT_COUNT; i++)
        free(*(char **)(void *)((char *)options + texts[i].offset));
    free(options->given);
    *options = (struct daemon_options){0};
}

void daemon_options_help(void)
{
    struct number_table tables[TABLES];
    number_tables(tables);
    printf(
        "usage: reeve serve --data DIR [flags]\n       reeve serve --dev [flags]\n\n"
        "Serves the data directory over a UNIX socket, and over HTTP where told so, until SIGTERM or SIGINT; a second "
        "one stops at once.\n"
        "SIGHUP reads the configuration file again: limits, catalogue, log level and TLS certificate take "
        "effect.\n\n");
    for (size_t i = 0; i < SWITCH_COUNT; i++)
        printf("  --%-28s %s\n", switches[i].name, switches[i].text);
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", texts[i].name, texts[i].value);
        printf("  %-30s %s\n", left, texts[i].text);
    }
    for (size_t t = 0; t < TABLES; t++) {
        printf("\n%s limits (default, range):\n", tables[t].title);
        for (unsigned i = 0; i < tables[t].count; i++) {
            const struct option_type *option = &tables[t].rows[i];
            char left[64];
            if (strchr(option->name, '.')) /* of one kind of operation: told once, below */
                continue;
            snprintf(left, sizeof left, "--%s N", option->name);
            printf("  %-30s %s (%llu %s; %llu to %llu)\n", left, option->text, (unsigned long long)option->preset,
                   option->unit, (unsigned long long)option->min, (unsigned long long)option->max);
        }
    }
    printf("\nThe operation limits also for one kind of operation: --KIND.operation-timeout-ms N and so on; KIND is\n"
           "provision, start, stop, suspend, configure, delete, backup or delete_backup.\n");
    printf(
        "\nProvisioners:\n"
        "  simulated[:SETTINGS]           does nothing, as slowly and unreliably as told: delay-ms=50..250, "
        "fail=0.01,\n"
        "                                 fatal=0, hang=0, duplicate=0, seed=1; each also for one kind of operation:\n"
        "                                 provision.delay-ms=500\n"
        "  exec:PROGRAM[,SETTINGS]        runs PROGRAM for each operation, see docs/provisioners.md: state=DIR "
        "(default\n"
        "                                 DATA/provisioner), backups=DIR (default STATE/backups), env.NAME=VALUE\n"
        "  workers[:SETTINGS]             clients of the socket do the work: worker.subscribe in docs/ipc.md. "
        "lease-ms=30000:\n"
        "                                 one that is silent for longer loses its operations to others; "
        "passwords=sha-256:\n"
        "                                 what they set passwords from, or scram-sha-256, or both with a plus between\n"
        "  none                           operations wait until a daemon with a provisioner opens the directory\n\n"
        "Exit codes: 0 stopped cleanly, 1 could not start, 2 usage, 130 stopped at once by a second signal.\n");
}
