#include "daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "dev.h"
#include "frontends/common/refuse.h"
#include "frontends/http/server.h"
#include "frontends/ipc/server.h"
#include "log.h"
#include "notify.h"
#include "options.h"
#include "provisioners/exec/exec.h"
#include "provisioners/simulated.h"
#include "provisioners/workers.h"

static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
#define SIGNAL_COUNT (sizeof signals / sizeof signals[0])

struct daemon {
    struct daemon_options options;
    int argc;
    char **argv;
    uv_loop_t loop;
    uv_signal_t signals[SIGNAL_COUNT];
    uv_timer_t watchdog;
    /* One of them, or none. */
    struct simulated *simulated;
    struct exec *exec;
    struct workers *workers;
    struct reeve_engine *engine;
    struct ipc_server *ipc;
    struct ipc_stats ipc_stats; /* for the metrics page */
    struct door *door;
    bool door_open;
    struct door_stats door_stats;
    struct exec_stats exec_stats;
    bool health_watched;
    struct http_server *http;
    char url[128], cloud_url[128];
    unsigned frontends_open;
    bool stopping;
    int exit_code;
};

static void print_error(const struct reeve_error *error)
{
    fprintf(stderr, "reeve serve: %s%s%s\n", error->field, error->field[0] ? ": " : "", error->message);
}

/* ---- Stopping ---- */

/* Where no loop runs any more, while the engine is being closed. */
static void stop_at_once(int number)
{
    (void)number;
    _exit(130);
}

static void close_handles(struct daemon *daemon)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        uv_close((uv_handle_t *)&daemon->signals[i], NULL);
    uv_close((uv_handle_t *)&daemon->watchdog, NULL);
    signal(SIGTERM, stop_at_once);
    signal(SIGINT, stop_at_once);
    signal(SIGHUP, SIG_IGN);
}

static void on_frontend_closed(void *arg)
{
    struct daemon *daemon = arg;
    if (--daemon->frontends_open == 0)
        close_handles(daemon);
}

static void stop(struct daemon *daemon)
{
    daemon->stopping = true;
    notify_send("STOPPING=1");
    daemon->frontends_open = 1U + (daemon->ipc ? 1 : 0) + (daemon->http ? 1 : 0) + (daemon->door_open ? 1 : 0) +
                             (daemon->health_watched ? 1 : 0);
    if (daemon->http)
        http_server_close(daemon->http, on_frontend_closed, daemon);
    daemon->http = NULL;
    if (daemon->ipc)
        ipc_server_close(daemon->ipc, on_frontend_closed, daemon);
    daemon->ipc = NULL;
    if (daemon->door_open)
        door_close(daemon->door, on_frontend_closed, daemon);
    daemon->door_open = false;
    if (daemon->health_watched)
        exec_unwatch_health(daemon->exec, on_frontend_closed, daemon);
    daemon->health_watched = false;
    on_frontend_closed(daemon);
}

#define EXEC_OPERATIONS_MAX 16

/* Programs and the servers that they start share this host: fewer at once than where others do the work. */
static struct reeve_limits engine_limits(const struct daemon *daemon, const struct daemon_options *options)
{
    struct reeve_limits limits = options->limits;
    if (daemon->exec && limits.operations_max == 0)
        limits.operations_max = EXEC_OPERATIONS_MAX;
    return limits;
}

static void reload(struct daemon *daemon)
{
    struct daemon_options fresh;
    struct reeve_error error;
    int r = daemon_options_read(&fresh, daemon->argc, daemon->argv, &error);
    if (r == 0) {
        const struct reeve_options options = {
            .limits = engine_limits(daemon, &fresh), .catalogue = fresh.catalogue, .log_level = fresh.log_level_number};
        r = reeve_reload(daemon->engine, &options, &error);
    }
    if (r == 0) {
        log_configure(daemon->options.log_json, fresh.log_level_number);
        ipc_server_reload(daemon->ipc, &fresh.ipc_limits);
        if (daemon->door)
            door_reload(daemon->door, &fresh.door_limits);
        if (daemon->exec)
            exec_reload(daemon->exec, &fresh.exec_limits);
        r = daemon->http ? http_server_reload(daemon->http, &fresh.http_limits, fresh.log_level_number, &error) : 0;
    }
    if (r == 0) {
        log_format(REEVE_LOG_INFO, "reloaded limits, catalogue, log level and certificate");
    } else {
        log_format(REEVE_LOG_ERROR, "not reloaded, what is at fault stays as it was: %s%s%s", error.field,
                   error.field[0] ? ": " : "", error.message);
    }
    daemon_options_free(&fresh);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;
    if (number == SIGHUP) {
        if (!daemon->stopping)
            reload(daemon);
        return;
    }
    if (daemon->stopping) {
        log_format(REEVE_LOG_WARNING, "stopped at once; what was acknowledged is on disk");
        _exit(130);
    }
    log_format(REEVE_LOG_INFO, "stopping: finishing what is queued (%s again stops at once)",
               number == SIGINT ? "Ctrl-C" : "SIGTERM");
    stop(daemon);
}

/* ---- Starting ---- */

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    notify_send("WATCHDOG=1");
}

/* Reading a page of the store's map failed: the disk, or a file that was cut short. Only what may be called in a
 * signal's handler. */
static void on_bad_page(int number)
{
    static const char text[] =
        "reeve serve: the store cannot be read: its disk fails, or its file is damaged (SIGBUS); "
        "`reeve check DIRECTORY` tells more\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    _exit(1);
}

static void prepare_process(const struct daemon_options *options)
{
    struct rlimit files, core;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGBUS, on_bad_page);
    signal(SIGHUP, SIG_IGN); /* until there is something to reload */
    umask(077);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            log_format(REEVE_LOG_WARNING, "the limit of open files could not be raised: %s", strerror(errno));
    }
    if (!options->core_dumps && getrlimit(RLIMIT_CORE, &core) == 0) {
        core.rlim_cur = 0; /* programs that it runs may raise theirs */
        if (setrlimit(RLIMIT_CORE, &core) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
            log_format(REEVE_LOG_WARNING, "core dumps could not be turned off: %s", strerror(errno));
    }
}

static int open_provisioner(struct daemon *daemon, struct reeve_error *ret_error)
{
    const char *spec = daemon->options.provisioner;
    if (strcmp(spec, "none") == 0)
        return 0;
    if (strcmp(spec, "simulated") == 0)
        return simulated_new("", &daemon->simulated, ret_error);
    if (strncmp(spec, "simulated:", 10) == 0)
        return simulated_new(spec + 10, &daemon->simulated, ret_error);
    if (strncmp(spec, "exec:", 5) == 0)
        return exec_new(spec + 5, daemon->options.data_dir, &daemon->loop, log_line, &daemon->exec, ret_error);
    if (strcmp(spec, "workers") == 0)
        return workers_new("", &daemon->loop, &daemon->workers, ret_error);
    if (strncmp(spec, "workers:", 8) == 0)
        return workers_new(spec + 8, &daemon->loop, &daemon->workers, ret_error);
    *ret_error = (struct reeve_error){.code = REEVE_ERROR_BAD_REQUEST, .field = "provisioner"};
    snprintf(ret_error->message, sizeof ret_error->message,
             "must be simulated[:SETTINGS], exec:PROGRAM, workers[:SETTINGS] or none, not '%.100s'", spec);
    return -REEVE_ERROR_BAD_REQUEST;
}

/* The door's own files are beside those of the provisioner whose services it is for. */
static int make_door(struct daemon *daemon, struct reeve_error *ret_error)
{
    const struct daemon_options *options = &daemon->options;
    char state[4400];
    if (!options->door)
        return 0;
    if (!daemon->exec)
        return refuse_field(ret_error, "door", "is for --provisioner exec:PROGRAM: others have no servers");
    snprintf(state, sizeof state, "%s/doors", exec_state_directory(daemon->exec));
    const struct door_settings settings = {.ports = options->door,
                                           .host = options->door_host,
                                           .state_dir = state,
                                           .limits = options->door_limits,
                                           .log = log_line};
    const int r = door_new(&settings, &daemon->loop, &daemon->door, ret_error);
    if (r == 0)
        exec_set_outcome(daemon->exec, door_outcome, daemon->door);
    return r;
}

static const struct reeve_provisioner *provisioner_of(struct daemon *daemon)
{
    if (daemon->simulated)
        return simulated_provisioner(daemon->simulated);
    if (daemon->exec)
        return exec_provisioner(daemon->exec);
    return daemon->workers ? workers_provisioner(daemon->workers) : NULL;
}

static int open_engine(struct daemon *daemon, struct reeve_error *ret_error)
{
    const struct daemon_options *options = &daemon->options;
    const struct reeve_options engine_options = {
        .data_dir = options->data_dir,
        .provisioner = provisioner_of(daemon),
        .log = log_line,
        .log_level = options->log_level_number,
        .catalogue = options->catalogue,
        .endpoint_domain = options->endpoint_domain,
        .limits = engine_limits(daemon, options),
    };
    const int r = reeve_open(&engine_options, &daemon->engine, ret_error);
    if (r == 0 && daemon->simulated)
        simulated_set_engine(daemon->simulated, daemon->engine);
    if (r == 0 && daemon->exec)
        exec_set_engine(daemon->exec, daemon->engine);
    if (r == 0 && daemon->workers)
        workers_set_engine(daemon->workers, daemon->engine);
    return r;
}

static bool operation_log(void *arg, const struct reeve_operation_params *which, struct buffer *log,
                          struct buffer *progress)
{
    return exec_read_log(arg, which, log, progress);
}

static int open_ipc(struct daemon *daemon, struct reeve_error *ret_error)
{
    const struct daemon_options *options = &daemon->options;
    const struct ipc_server_options ipc_options_given = {
        .socket_path = options->socket_path,
        .socket_mode = options->socket_mode_number,
        .socket_owner = options->socket_owner,
        .socket_group = options->socket_group,
        .allowed_users = options->allowed_users,
        .allowed_groups = options->allowed_groups,
        .limits = options->ipc_limits,
        .workers = daemon->workers ? workers_source(daemon->workers) : NULL,
        .log = log_line,
        .operation_log = daemon->exec ? operation_log : NULL,
        .operation_log_arg = daemon->exec,
    };
    return ipc_server_open(&ipc_options_given, &daemon->loop, daemon->engine, &daemon->ipc, ret_error);
}

/* The counters of socket, door and health, for the metrics page of the HTTP server. */
static size_t other_counters(void *arg, unsigned index, const struct counter_type **ret_types, const void **ret_values)
{
    struct daemon *daemon = arg;
    if (index == 0 && daemon->ipc) {
        ipc_server_get_stats(daemon->ipc, &daemon->ipc_stats);
        *ret_types = ipc_counters;
        *ret_values = &daemon->ipc_stats;
        return ipc_counters_count;
    }
    if (index == 1 && daemon->door) {
        door_get_stats(daemon->door, &daemon->door_stats);
        *ret_types = door_counters;
        *ret_values = &daemon->door_stats;
        return door_counters_count;
    }
    if (index == (daemon->door ? 2 : 1) && daemon->exec) {
        exec_get_stats(daemon->exec, &daemon->exec_stats);
        *ret_types = exec_counters;
        *ret_values = &daemon->exec_stats;
        return exec_counters_count;
    }
    return 0;
}

/* The first address of each dialect is the one that is told. */
static void note_urls(struct daemon *daemon)
{
    enum http_dialect dialect;
    const char *address;
    for (unsigned i = 0; (address = http_server_address(daemon->http, i, &dialect)); i++) {
        char *url = dialect == HTTP_PLAIN ? daemon->url : daemon->cloud_url;
        if (!url[0])
            snprintf(url, sizeof daemon->url, "http%s://%s", daemon->options.http_certificate ? "s" : "", address);
        log_format(REEVE_LOG_INFO, "listening http%s=%s tls=%s", dialect == HTTP_CLOUD ? "-cloud" : "", address,
                   daemon->options.http_certificate ? "yes" : "no");
    }
}

static int open_http(struct daemon *daemon, struct reeve_error *ret_error)
{
    const struct daemon_options *options = &daemon->options;
    const struct http_server_options given = {
        .plain_addresses = options->http,
        .cloud_addresses = options->http_cloud,
        .skip_unsupported = options->http_preset,
        .certificate_path = options->http_certificate,
        .key_path = options->http_key,
        .insecure = options->insecure,
        .limits = options->http_limits,
        .log_level = options->log_level_number,
        .log = log_line,
        .extra_counters = other_counters,
        .extra_arg = daemon,
        .operation_log = daemon->exec ? operation_log : NULL,
        .operation_log_arg = daemon->exec,
    };
    if (!options->http && !options->http_cloud)
        return 0;
    const int r = http_server_open(&given, &daemon->loop, daemon->engine, &daemon->http, ret_error);
    if (r == 0)
        note_urls(daemon);
    return r;
}

static void announce(struct daemon *daemon)
{
    log_format(REEVE_LOG_INFO, "ready socket=%s data=%s provisioner=%s version=%s", daemon->options.socket_path,
               daemon->options.data_dir, daemon->options.provisioner, reeve_version());
    notify_send("READY=1");
}

static void on_dev(void *arg, const struct reeve_error *error)
{
    struct daemon *daemon = arg;
    if (error) {
        print_error(error);
        daemon->exit_code = 1;
        if (!daemon->stopping)
            stop(daemon);
        return;
    }
    if (daemon->stopping) /* asked to stop meanwhile */
        return;
    printf("\nreeve is serving %s\n\nIn another terminal:\n\n    . %s/dev.env\n    reeve service create --name demo "
           "--provider aws "
           "--region us-east-1 --wait\n    reeve service list\n    reeve watch --from 1\n",
           daemon->options.data_dir, daemon->options.data_dir);
    if (daemon->url[0])
        printf("    curl -u $REEVE_KEY_ID:$REEVE_KEY_SECRET $REEVE_URL/v1/organizations/$REEVE_ORG_ID/services\n\n"
               "%s/docs has the HTTP API.",
               daemon->url);
    printf("\n\nCtrl-C stops it.\n\n");
    fflush(stdout);
    announce(daemon);
}

static void start_handles(struct daemon *daemon)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        uv_signal_init(&daemon->loop, &daemon->signals[i]);
        daemon->signals[i].data = daemon;
        uv_signal_start(&daemon->signals[i], on_signal, signals[i]);
    }
    uv_timer_init(&daemon->loop, &daemon->watchdog);
    const uint64_t period_ms = notify_watchdog_ms();
    if (period_ms)
        uv_timer_start(&daemon->watchdog, on_watchdog, period_ms, period_ms);
}

static int serve(struct daemon *daemon, struct reeve_error *ret_error)
{
    int r = open_provisioner(daemon, ret_error);
    if (r == 0)
        r = make_door(daemon, ret_error);
    if (r == 0)
        r = open_engine(daemon, ret_error);
    if (r < 0)
        return r;
    start_handles(daemon);
    if (daemon->door) {
        r = door_start(daemon->door, daemon->engine, ret_error);
        daemon->door_open = true;
    }
    if (r == 0 && daemon->exec) {
        r = exec_watch_health(daemon->exec, &daemon->options.exec_limits, ret_error);
        daemon->health_watched = r == 0;
    }
    if (r == 0)
        r = open_ipc(daemon, ret_error);
    if (r == 0)
        r = open_http(daemon, ret_error);
    const struct dev_addresses addresses = {.data_dir = daemon->options.data_dir,
                                            .socket_path = daemon->options.socket_path,
                                            .url = daemon->url[0] ? daemon->url : NULL,
                                            .cloud_url = daemon->cloud_url[0] ? daemon->cloud_url : NULL};
    if (r < 0)
        stop(daemon);
    else if (!daemon->options.dev)
        announce(daemon);
    else if ((r = dev_start(daemon->engine, &daemon->loop, &addresses, on_dev, daemon)) < 0) {
        *ret_error = (struct reeve_error){.code = (enum reeve_error_code) - r, .field = "dev"};
        snprintf(ret_error->message, sizeof ret_error->message, "%s", reeve_error_text(r));
        stop(daemon);
    }
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    return r;
}

int daemon_main(int argc, char **argv)
{
    static struct daemon daemon;
    struct reeve_error error = {0};
    daemon.argc = argc;
    daemon.argv = argv;
    int r = daemon_options_read(&daemon.options, argc, argv, &error);
    if (r < 0) {
        print_error(&error);
        fprintf(stderr, "`reeve serve --help` tells what there is.\n");
        daemon_options_free(&daemon.options);
        return 2;
    }
    if (daemon.options.help) {
        daemon_options_help();
        daemon_options_free(&daemon.options);
        return 0;
    }
    log_configure(daemon.options.log_json, daemon.options.log_level_number);
    prepare_process(&daemon.options);
    if (uv_loop_init(&daemon.loop) != 0) {
        fprintf(stderr, "reeve serve: cannot make an event loop\n");
        return 1;
    }
    r = serve(&daemon, &error);
    if (r < 0) {
        print_error(&error);
        daemon.exit_code = 1;
    }
    reeve_close(daemon.engine);
    simulated_free(daemon.simulated);
    exec_close(daemon.exec);
    workers_free(daemon.workers);
    uv_run(&daemon.loop, UV_RUN_DEFAULT);
    exec_free(daemon.exec);
    door_free(daemon.door);
    uv_loop_close(&daemon.loop);
    if (daemon.exit_code == 0)
        log_format(REEVE_LOG_INFO, "stopped");
    daemon_options_free(&daemon.options);
    return daemon.exit_code;
}
