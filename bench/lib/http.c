/* Lifecycles or updates over HTTP: keep-alive connections to a real daemon, one request under way on each. A request of
 * a lifecycle waits for the state it asks for, so that three of them are one lifecycle. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "bench/lib/daemon_stats.h"
#include "bench/lib/host.h"
#include "bench/lib/http_daemon.h"

enum phase { CREATING, STOPPING, DELETING, UPDATING };

struct line {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct bench *bench;
    enum phase phase;
    uint64_t sent_ns;
    bool odd; /* which of two names the next update gives */
    char service_id[37];
    size_t size; /* of what has come of the answer */
    char data[8192];
};

struct bench {
    const struct run_options *options;
    struct run_result *result;
    struct http_daemon daemon;
    struct ipc_client *ipc; /* for the counters of the daemon */
    uv_loop_t loop;
    uv_timer_t timer;
    struct line *lines;
    unsigned connected, busy; /* busy: lines with something under way */
    enum host_phase at;
    bool ending, failed;
    uint64_t started_ns;
};

static void finish(struct bench *bench)
{
    if (bench->ending)
        return;
    bench->ending = true;
    uv_close((uv_handle_t *)&bench->timer, NULL);
    for (unsigned i = 0; i < bench->options->outstanding; i++)
        uv_close((uv_handle_t *)&bench->lines[i].tcp, NULL);
}

static void fail(struct bench *bench, const char *what, const char *why)
{
    if (!bench->ending)
        fprintf(stderr, "bench: %s: %s\n", what, why);
    bench->failed = true;
    finish(bench);
}

/* ---- Requests ---- */

static struct http_request request_of(struct line *line, char *path, size_t path_size)
{
    const struct http_daemon *daemon = &line->bench->daemon;
    struct http_request request = {.path = path, .authorization = daemon->authorization, .wait = true};
    snprintf(path, path_size, "%s%s%s%s", daemon->services_path, line->phase == CREATING ? "" : "/",
             line->phase == CREATING ? "" : line->service_id, line->phase == STOPPING ? "/state" : "");
    if (line->phase == CREATING) {
        request.method = "POST";
        request.body = "{\"name\":\"bench\",\"provider\":\"aws\",\"region\":\"us-east-1\",\"tier\":\"production\"}";
    } else if (line->phase == STOPPING) {
        request.method = "PATCH";
        request.body = "{\"command\":\"stop\"}";
    } else if (line->phase == DELETING) {
        request.method = "DELETE";
    } else {
        line->odd = !line->odd;
        request.method = "PATCH";
        request.wait = false;
        request.body = line->odd ? "{\"name\":\"bench-a\"}" : "{\"name\":\"bench-b\"}";
    }
    return request;
}

static void send_request(struct line *line)
{
    char path[200], text[1500];
    const struct http_request request = request_of(line, path, sizeof path);
    uv_buf_t buf = uv_buf_init(text, (unsigned)http_request_print(&request, text, sizeof text));
    line->size = 0;
    line->sent_ns = bench_now_ns();
    /* Nothing else is on the connection: there is always room for all of it. */
    if (uv_try_write((uv_stream_t *)&line->tcp, &buf, 1) != (int)buf.len)
        fail(line->bench, "a request", "could not be sent");
}

static void take_stats(struct bench *bench, bool end)
{
    bench_usage(bench->daemon.pid, end, bench->result);
    bench->failed |= bench_daemon_stats(bench->ipc, end, bench->result) < 0;
}

static void on_measured(uv_timer_t *timer)
{
    struct bench *bench = timer->data;
    bench->result->seconds = (double)(bench_now_ns() - bench->started_ns) / 1e9;
    take_stats(bench, true);
    bench->at = HOST_DRAINING;
    bench->result->file_bytes = bench_blocks(bench->options->directory);
}

static void on_warm(uv_timer_t *timer)
{
    struct bench *bench = timer->data;
    take_stats(bench, false);
    bench->at = HOST_MEASURING;
    bench->started_ns = bench_now_ns();
    uv_timer_start(&bench->timer, on_measured, (uint64_t)(bench->options->seconds * 1000), 0);
}

static void send_all(struct bench *bench)
{
    for (unsigned i = 0; i < bench->options->outstanding && !bench->ending; i++)
        send_request(&bench->lines[i]);
}

/* ---- Answers ---- */

/* The state that was waited for must be there, else it would be another race that is run. */
static bool is_in_state(const struct http_answer *answer, const char *wanted)
{
    char state[32];
    return http_answer_text(answer, "state", state, sizeof state) && strcmp(state, wanted) == 0;
}

static bool is_answered(struct line *line, const struct http_answer *answer)
{
    static const char *const names[] = {"create", "stop", "delete", "update"};
    if (!http_answer_check(answer, names[line->phase]))
        return false;
    if (line->phase == CREATING)
        return is_in_state(answer, "running") &&
               http_answer_text(answer, "id", line->service_id, sizeof line->service_id);
    return line->phase != STOPPING || is_in_state(answer, "stopped");
}

/* What comes after an answer; a line is through when its service is gone and nothing more is wanted. */
static void go_on(struct line *line)
{
    struct bench *bench = line->bench;
    const bool drains = bench->at == HOST_DRAINING, updates = bench->options->work == UPDATES;
    const enum phase unit = updates ? UPDATING : DELETING;
    bench->result->count += line->phase == unit && bench->at == HOST_MEASURING;
    if (bench->options->limit && bench->result->count == bench->options->limit && !drains)
        uv_timer_start(&bench->timer, on_measured, 0, 0);
    if (line->phase == DELETING && drains) {
        if (--bench->busy == 0)
            finish(bench);
        return;
    }
    if (line->phase == STOPPING || line->phase == UPDATING)
        line->phase = updates && !drains ? UPDATING : DELETING;
    else
        line->phase = line->phase == DELETING ? CREATING : STOPPING;
    send_request(line);
}

static void take_answer(struct line *line)
{
    struct bench *bench = line->bench;
    struct http_answer answer;
    const ssize_t taken = http_answer_parse(line->data, line->size, &answer);
    if (taken == 0)
        return;
    if (taken != (ssize_t)line->size || !is_answered(line, &answer)) {
        fail(bench, "an answer", "is not the one that was asked for");
        return;
    }
    if (bench->at == HOST_MEASURING) {
        histogram_add(&bench->result->latency, bench_now_ns() - line->sent_ns);
        bench->result->commands++;
    }
    go_on(line);
}

/* ---- Connections ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct line *line = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init(line->data + line->size, (unsigned)(sizeof line->data - line->size - 1));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct line *line = stream->data;
    (void)buf;
    if (size < 0) {
        fail(line->bench, "a connection", uv_strerror((int)size));
        return;
    }
    line->size += (size_t)size;
    line->data[line->size] = '\0';
    if (size > 0 && !line->bench->ending)
        take_answer(line);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct line *line = connect->data;
    struct bench *bench = line->bench;
    if (status < 0) {
        fail(bench, "a connection", uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&line->tcp, 1);
    uv_read_start((uv_stream_t *)&line->tcp, on_room, on_read);
    if (++bench->connected < bench->options->outstanding)
        return;
    bench->busy = bench->options->outstanding;
    uv_timer_start(&bench->timer, on_warm, (uint64_t)(bench->options->warm_seconds * 1000), 0);
    send_all(bench);
}

static void connect_all(struct bench *bench)
{
    for (unsigned i = 0; i < bench->options->outstanding; i++) {
        struct line *line = &bench->lines[i];
        line->bench = bench;
        line->tcp.data = line->connect.data = line;
        uv_tcp_init(&bench->loop, &line->tcp);
    }
    for (unsigned i = 0; i < bench->options->outstanding && !bench->ending; i++) {
        struct line *line = &bench->lines[i];
        const int r = uv_tcp_connect(&line->connect, &line->tcp, (const struct sockaddr *)&bench->daemon.address,
                                     on_connected);
        if (r < 0)
            fail(bench, "a connection", uv_strerror(r));
    }
}

/* ---- The run ---- */

static int run(struct bench *bench)
{
    signal(SIGPIPE, SIG_IGN); /* a daemon that went away is told of by the write that failed */
    uv_loop_init(&bench->loop);
    uv_timer_init(&bench->loop, &bench->timer);
    bench->timer.data = bench;
    connect_all(bench);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    uv_loop_close(&bench->loop);
    return bench->failed ? -1 : 0;
}

static struct ipc_client *open_ipc(const char *directory)
{
    char path[4200];
    struct ipc_client *client;
    struct reeve_error error;
    snprintf(path, sizeof path, "%s/reeve.sock", directory);
    if (ipc_client_connect(path, &client, &error) == 0)
        return client;
    fprintf(stderr, "bench: %s %s\n", reeve_error_name((int)error.code), error.message);
    return NULL;
}

int run_http(const struct run_options *options, struct run_result *ret_result)
{
    struct bench bench = {.options = options, .result = ret_result};
    int r = -1;
    struct reeve_uuid organization_id;
    *ret_result = (struct run_result){0};
    if (host_fill(options->directory, options->existing, &organization_id) < 0)
        return -1;
    bench.lines = calloc(options->outstanding, sizeof *bench.lines);
    if (bench.lines &&
        http_daemon_start(&bench.daemon, options->binary, options->directory, http_daemon_simulated,
                          http_daemon_unlimited) == 0 &&
        (bench.ipc = open_ipc(options->directory)))
        r = run(&bench);
    ipc_client_close(bench.ipc);
    http_daemon_stop(&bench.daemon);
    free(bench.lines);
    return r;
}
