/* Redis doing the same durable work: a Lua script checks the state, rewrites the record and appends an event; the
 * answer comes after the flush of the append-only file. Commands are pipelined. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/floor.h"
#include "bench/lib/wire.h"

#define CONNECTIONS_MAX 64
#define FILL 1000 /* services made by one command */

static const char *const settings[] = {"--port", "0", "--appendonly", "yes", "--appendfsync", "always",
                                       "--save", "",  "--maxclients", "1000"};

/* KEYS: service, events. ARGV: state before, state after, sizes of record and event. */
static const char step_script[] =
    "local state = redis.call('HGET', KEYS[1], 'state') or '0' "
    "if state ~= ARGV[1] then return redis.error_reply('CONFLICT ' .. state) end "
    "if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else "
    "redis.call('HSET', KEYS[1], 'state', ARGV[2], 'record', string.rep('r', tonumber(ARGV[3]))) end "
    "redis.call('XADD', KEYS[2], 'MAXLEN', '~', '1000000', '*', 'e', string.rep('e', tonumber(ARGV[4]))) "
    "return redis.status_reply('OK')";
/* ARGV: number of the first, how many, size of a record. */
static const char fill_script[] =
    "for i = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1 do "
    "redis.call('HSET', 's:old:' .. i, 'state', '2', 'record', string.rep('r', tonumber(ARGV[3]))) end "
    "return redis.status_reply('OK')";

struct redis {
    char socket_path[64];
    char step[41], fill[41]; /* names of the scripts */
    unsigned *phases;        /* of the slots */
    uint64_t *numbers;       /* of their services */
    uint64_t next_number;
    struct floor_batches sizes;
    enum { PINGING, LOAD_STEP, LOAD_FILL, FILLING, STEPPING } asks;
    uint64_t fill_from;
};

const char *missing_redis(void)
{
    char path[4096];
    return server_find("redis-server", NULL, path, sizeof path) ? NULL : "there is no redis-server";
}

const char *about_redis(void)
{
    static char text[600];
    char path[4096], version[200];
    if (!server_find("redis-server", NULL, path, sizeof path) || server_version(path, version, sizeof version) < 0)
        return "redis-server";
    int size = snprintf(text, sizeof text, "%s\n", version);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i += 2)
        size += snprintf(text + size, sizeof text - (size_t)size, "%s %s\n", settings[i] + 2,
                         *settings[i + 1] ? settings[i + 1] : "\"\"");
    snprintf(text + size, sizeof text - (size_t)size,
             "a Lua script per transition, pipelined over up to %d connections "
             "of a UNIX socket",
             CONNECTIONS_MAX);
    return text;
}

/* ---- The protocol ---- */

static int connect_redis(void *arg)
{
    return server_connect_unix(((struct redis *)arg)->socket_path);
}

static void put_words(struct buffer *out, unsigned count, const char *const *words)
{
    char head[32];
    buffer_append(out, head, (size_t)snprintf(head, sizeof head, "*%u\r\n", count));
    for (unsigned i = 0; i < count; i++) {
        buffer_append(out, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", strlen(words[i])));
        buffer_append(out, words[i], strlen(words[i]));
        buffer_append(out, "\r\n", 2);
    }
}

static void ask_step(struct redis *redis, unsigned slot, struct buffer *out)
{
    char key[32], before[8], after[8], record[24], event[24];
    if (redis->phases[slot] == 0)
        redis->numbers[slot] = redis->next_number++;
    snprintf(key, sizeof key, "s:%llx", (unsigned long long)redis->numbers[slot]);
    snprintf(before, sizeof before, "%u", redis->phases[slot]);
    snprintf(after, sizeof after, "%u", (redis->phases[slot] + 1) % TRANSITIONS);
    snprintf(record, sizeof record, "%zu", redis->sizes.record_bytes);
    snprintf(event, sizeof event, "%zu", redis->sizes.event_bytes);
    put_words(out, 9, (const char *[]){"EVALSHA", redis->step, "2", key, "events", before, after, record, event});
}

static void ask(void *arg, unsigned slot, struct buffer *out)
{
    struct redis *redis = arg;
    char from[24], size[24];
    snprintf(from, sizeof from, "%llu", (unsigned long long)redis->fill_from);
    snprintf(size, sizeof size, "%zu", redis->sizes.record_bytes);
    switch (redis->asks) {
    case PINGING:
        put_words(out, 1, (const char *[]){"PING"});
        break;
    case LOAD_STEP:
        put_words(out, 3, (const char *[]){"SCRIPT", "LOAD", step_script});
        break;
    case LOAD_FILL:
        put_words(out, 3, (const char *[]){"SCRIPT", "LOAD", fill_script});
        break;
    case FILLING:
        put_words(out, 6, (const char *[]){"EVALSHA", redis->fill, "0", from, "1000", size});
        break;
    case STEPPING:
        ask_step(redis, slot, out);
        break;
    }
}

static ssize_t take(void *arg, unsigned slot, char *data, size_t size)
{
    struct redis *redis = arg;
    const char *end = memchr(data, '\n', size);
    if (!end)
        return 0;
    const ssize_t line = end - data + 1;
    if (redis->asks == PINGING) /* refused while it reads its file */
        return *data == '+' ? line : -1;
    if (redis->asks == LOAD_STEP || redis->asks == LOAD_FILL) { /* $40, the name */
        if ((ssize_t)size < line + 42)
            return 0;
        snprintf(redis->asks == LOAD_STEP ? redis->step : redis->fill, 41, "%s", end + 1);
        return line + 42;
    }
    if (*data != '+') {
        fprintf(stderr, "bench: redis: %.*s", (int)line, data);
        return -1;
    }
    if (redis->asks == STEPPING)
        redis->phases[slot] = (redis->phases[slot] + 1) % TRANSITIONS;
    return line;
}

/* ---- The run ---- */

static int start(void *arg, struct server *server, const char *directory)
{
    char path[4096];
    const char *arguments[32] = {path, "--unixsocket", ((struct redis *)arg)->socket_path, "--dir", directory};
    unsigned count = 5;
    server_find("redis-server", NULL, path, sizeof path);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        arguments[count++] = settings[i];
    return server_start(server, arguments, SERVER_SAME_USER, directory);
}

static int prepare(const struct wire_protocol *protocol, int fd, uint64_t services)
{
    struct redis *redis = protocol->arg;
    int r = 0;
    for (redis->asks = PINGING; r == 0 && wire_call(protocol, fd, 0) < 0;)
        r = poll(NULL, 0, 10) < 0 ? -1 : 0;
    for (redis->asks = LOAD_STEP; r == 0 && redis->asks < FILLING; redis->asks++)
        r = wire_call(protocol, fd, 0);
    for (; r == 0 && redis->fill_from < services; redis->fill_from += FILL)
        r = wire_call(protocol, fd, 0);
    redis->asks = STEPPING;
    return r;
}

int run_redis(const struct run_options *options, struct run_result *ret_result)
{
    struct redis redis = {.next_number = bench_now_ns()};
    const struct wire_protocol protocol = {.arg = &redis,
                                           .connections_max = CONNECTIONS_MAX,
                                           .start = start,
                                           .connect = connect_redis,
                                           .prepare = prepare,
                                           .ask = ask,
                                           .take = take};
    floor_begin(&redis.sizes, options);
    snprintf(redis.socket_path, sizeof redis.socket_path, "/tmp/reeve-bench-redis-%d", (int)getpid());
    redis.phases = calloc(options->outstanding, sizeof *redis.phases);
    redis.numbers = calloc(options->outstanding, sizeof *redis.numbers);
    const int r = redis.phases && redis.numbers ? wire_run(&protocol, options, ret_result) : -1;
    unlink(redis.socket_path);
    free(redis.phases);
    free(redis.numbers);
    return r;
}
