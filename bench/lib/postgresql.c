/* PostgreSQL doing the same durable work: functions in PL/pgSQL check the state, rewrite the record and append an
 * event; pgbench calls them, prepared, each call a transaction of its own. With more outstanding than clients a call
 * takes several services, as a control plane that batches would. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/lib/floor.h"
#include "bench/lib/server.h"

#define CLIENTS_MAX 64

static const char *const settings[] = {"listen_addresses=",
                                       "fsync=on",
                                       "synchronous_commit=on",
                                       "full_page_writes=on",
                                       "wal_sync_method=fdatasync",
                                       "shared_buffers=1GB",
                                       "effective_cache_size=3GB",
                                       "max_wal_size=8GB",
                                       "checkpoint_timeout=15min",
                                       "wal_compression=on",
                                       "checkpoint_completion_target=0.9",
                                       "max_connections=200"};
#define SETTINGS (sizeof settings / sizeof settings[0])

static const char schema[] =
    "CREATE TABLE services (id uuid PRIMARY KEY, state smallint NOT NULL, record bytea NOT NULL)"
    " WITH (fillfactor = 70);\n"
    "CREATE TABLE events (sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, record bytea NOT NULL);\n"
    "CREATE FUNCTION record(size int) RETURNS bytea LANGUAGE sql IMMUTABLE AS"
    " $$ SELECT convert_to(repeat('r', size), 'UTF8') $$;\n"
    "CREATE FUNCTION ordered_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$ SELECT"
    " (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') ||"
    " substr(md5(random()::text), 1, 20))::uuid $$;\n"
    "CREATE FUNCTION create_services(n int) RETURNS uuid[] LANGUAGE plpgsql AS $$ DECLARE ids uuid[]; BEGIN\n"
    " WITH made AS (INSERT INTO services SELECT ordered_id(), 1, record(%zu) FROM generate_series(1, n) RETURNING id)"
    " SELECT array_agg(id) INTO ids FROM made;\n"
    " INSERT INTO events (record) SELECT record(%zu) FROM generate_series(1, n);\n"
    " RETURN ids; END $$;\n"
    "CREATE FUNCTION change_services(ids uuid[], before smallint, after smallint) RETURNS int LANGUAGE plpgsql AS $$"
    " DECLARE changed int; BEGIN\n"
    " IF after = 0 THEN DELETE FROM services WHERE id = ANY(ids) AND state = before;\n"
    " ELSE UPDATE services SET state = after, record = record(%zu) WHERE id = ANY(ids) AND state = before; END IF;\n"
    " GET DIAGNOSTICS changed = ROW_COUNT;\n"
    " IF changed <> array_length(ids, 1) THEN RAISE 'conflict'; END IF;\n"
    " INSERT INTO events (record) SELECT record(%zu) FROM generate_series(1, changed);\n"
    " RETURN changed; END $$;\n"
    "INSERT INTO services SELECT ordered_id(), 2, record(%zu) FROM generate_series(1, %llu);\n"
    "VACUUM ANALYZE;\n";

static const char script[] = "SELECT create_services(:n) AS ids \\gset\n"
                             "SELECT change_services(:ids, 1::smallint, 2::smallint);\n"
                             "SELECT change_services(:ids, 2::smallint, 3::smallint);\n"
                             "SELECT change_services(:ids, 3::smallint, 4::smallint);\n"
                             "SELECT change_services(:ids, 4::smallint, 5::smallint);\n"
                             "SELECT change_services(:ids, 5::smallint, 0::smallint);\n";

struct cluster {
    const struct run_options *options;
    struct server server;
    char socket_directory[64], script_path[80];
};

static bool find_program(const char *name, char *ret_path, size_t size)
{
    char pattern[100];
    snprintf(pattern, sizeof pattern, "/usr/lib/postgresql/*/bin/%s", name);
    return server_find(name, pattern, ret_path, size);
}

const char *missing_postgresql(void)
{
    char path[4096];
    return find_program("postgres", path, sizeof path) && find_program("pgbench", path, sizeof path)
               ? NULL
               : "there is no PostgreSQL server with pgbench";
}

const char *about_postgresql(void)
{
    static char text[1000];
    char path[4096], version[200];
    find_program("postgres", path, sizeof path);
    if (server_version(path, version, sizeof version) < 0)
        return "PostgreSQL";
    int size = snprintf(text, sizeof text, "%s\n", version);
    for (size_t i = 0; i < SETTINGS; i++)
        size += snprintf(text + size, sizeof text - (size_t)size, "%s\n", settings[i]);
    snprintf(text + size, sizeof text - (size_t)size,
             "PL/pgSQL functions, pgbench -M prepared with up to %d clients of a UNIX socket", CLIENTS_MAX);
    return text;
}

/* ---- The cluster ---- */

static int write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        return bench_complain(path, strerror(errno));
    return 0;
}

static int make_cluster(const struct cluster *cluster)
{
    char path[4096], text[10000], options[100];
    const char *directory = cluster->options->directory;
    if (bench_make_fresh(directory) < 0 || server_give(directory) < 0)
        return -1;
    find_program("initdb", path, sizeof path);
    snprintf(options, sizeof options, "--username=bench");
    return server_call((const char *[]){path, "-D", directory, options, "--auth=trust", "--encoding=UTF8", "--locale=C",
                                        "--no-sync", NULL},
                       SERVER_UNPRIVILEGED, text, sizeof text);
}

static int connect_postgresql(void *arg)
{
    char path[100];
    snprintf(path, sizeof path, "%s/.s.PGSQL.5432", ((struct cluster *)arg)->socket_directory);
    return server_connect_unix(path);
}

static int start(struct cluster *cluster)
{
    char path[4096], sockets[100];
    const char *arguments[64] = {path, "-D", cluster->options->directory, "-c", sockets};
    unsigned count = 5;
    find_program("postgres", path, sizeof path);
    snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", cluster->socket_directory);
    for (size_t i = 0; i < SETTINGS; i++) {
        arguments[count++] = "-c";
        arguments[count++] = settings[i];
    }
    if (server_start(&cluster->server, arguments, SERVER_UNPRIVILEGED, cluster->options->directory) < 0 ||
        server_wait(&cluster->server, connect_postgresql, cluster) < 0)
        return -1;
    /* It takes connections before it takes queries. */
    find_program("pg_isready", path, sizeof path);
    while (!server_succeeds((const char *[]){path, "-q", "-h", cluster->socket_directory, NULL}))
        poll(NULL, 0, 20);
    return 0;
}

static int query(const struct cluster *cluster, const char *option, const char *text, char *ret_text, size_t size)
{
    char path[4096];
    find_program("psql", path, sizeof path);
    return server_call((const char *[]){path, "-h", cluster->socket_directory, "-U", "bench", "-d", "postgres", "-v",
                                        "ON_ERROR_STOP=1", "-Atq", option, text, NULL},
                       SERVER_SAME_USER, ret_text, size);
}

static int fill(const struct cluster *cluster)
{
    struct floor_batches sizes;
    char text[sizeof schema + 200], path[100], answer[4096];
    floor_begin(&sizes, cluster->options);
    snprintf(text, sizeof text, schema, sizes.record_bytes, sizes.event_bytes, sizes.record_bytes, sizes.event_bytes,
             sizes.record_bytes, (unsigned long long)cluster->options->existing);
    snprintf(path, sizeof path, "%s/schema", cluster->socket_directory);
    if (write_file(path, text) < 0 || query(cluster, "-f", path, answer, sizeof answer) < 0)
        return -1;
    unlink(path);
    return bench_mark_filled(cluster->options->directory);
}

/* ---- The run ---- */

/* Scripts per second, each of which was a lifecycle for so many services. */
static int run_pgbench(const struct cluster *cluster, unsigned clients, unsigned services, double seconds,
                       double *ret_seconds, double *ret_rate)
{
    char path[4096], text[8192], clients_text[24], services_text[24], seconds_text[24];
    find_program("pgbench", path, sizeof path);
    snprintf(clients_text, sizeof clients_text, "%u", clients);
    snprintf(services_text, sizeof services_text, "n=%u", services);
    snprintf(seconds_text, sizeof seconds_text, "%u", seconds < 1 ? 1 : (unsigned)(seconds + 0.5));
    if (server_call((const char *[]){path,          "-h",         cluster->socket_directory,
                                     "-U",          "bench",      "-n",
                                     "-M",          "prepared",   "-c",
                                     clients_text,  "-j",         clients > 1 ? "2" : "1",
                                     "-T",          seconds_text, "-D",
                                     services_text, "-f",         cluster->script_path,
                                     "postgres",    NULL},
                    SERVER_SAME_USER, text, sizeof text) < 0)
        return -1;
    const char *tps = strstr(text, "tps = ");
    *ret_rate = tps ? strtod(tps + 6, NULL) : 0;
    *ret_seconds = strtod(seconds_text, NULL);
    return 0; /* without the line not one script has ended */
}

static int read_wal(const struct cluster *cluster, bool end, struct run_result *result)
{
    char text[200];
    unsigned long long syncs, bytes;
    if (query(cluster, "-c", "SELECT wal_sync, wal_bytes FROM pg_stat_wal", text, sizeof text) < 0 ||
        sscanf(text, "%llu|%llu", &syncs, &bytes) != 2)
        return bench_complain("pg_stat_wal", text);
    result->batches = end ? syncs - result->batches : syncs;
    result->bytes = end ? bytes - result->bytes : bytes;
    return 0;
}

static int measure(struct cluster *cluster, struct run_result *result)
{
    const unsigned outstanding = cluster->options->outstanding;
    const unsigned clients = outstanding < CLIENTS_MAX ? outstanding : CLIENTS_MAX;
    const unsigned services = outstanding / clients;
    double rate;
    if (write_file(cluster->script_path, script) < 0 ||
        run_pgbench(cluster, clients, services, cluster->options->warm_seconds, &result->seconds, &rate) < 0 ||
        read_wal(cluster, false, result) < 0)
        return -1;
    bench_usage(cluster->server.pid, false, result);
    if (run_pgbench(cluster, clients, services, cluster->options->seconds, &result->seconds, &rate) < 0)
        return -1;
    /* Asked after another query: until then those that served pgbench have ended, and were counted. */
    const int r = read_wal(cluster, true, result);
    bench_usage(cluster->server.pid, true, result);
    result->count = (uint64_t)(rate * services * result->seconds);
    result->commands = result->batch_inputs = result->count * TRANSITIONS;
    return r;
}

int run_postgresql(const struct run_options *options, struct run_result *ret_result)
{
    struct cluster cluster = {.options = options, .socket_directory = "/tmp/reeve-bench-XXXXXX"};
    *ret_result = (struct run_result){0};
    if (!mkdtemp(cluster.socket_directory) || server_give(cluster.socket_directory) < 0)
        return bench_complain(cluster.socket_directory, strerror(errno));
    snprintf(cluster.script_path, sizeof cluster.script_path, "%s/script", cluster.socket_directory);
    const bool is_filled = bench_is_filled(options->directory);
    int r = is_filled ? 0 : make_cluster(&cluster);
    if (r == 0)
        r = start(&cluster);
    if (r == 0 && !is_filled)
        r = fill(&cluster);
    if (r == 0)
        r = measure(&cluster, ret_result);
    ret_result->file_bytes = bench_blocks(options->directory);
    server_stop(&cluster.server, SIGINT); /* fast: clients are not waited for */
    bench_remove_tree(cluster.socket_directory);
    return r;
}
