/* Lifecycles or updates over HTTP: keep-alive connections to a real daemon, one request under way on each. A request of
 * a lifecycle waits for the state it asks for, so that three of them are one lifecycle. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "bench/lib/daemon_stats.h"
#include "bench/lib/http_daemon.h"
#include "bench/lib/run.h"

enum phase { CREATING, STOPPING, DELETING, UPDATING };

struct slot {
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
    struct slot *slots;
    unsigned connected, ready; /* ready: services that stopped before updates begin */
    bool ending, failed;
    uint64_t started_ns;
};

static void finish(struct bench *bench)
{
    if (bench->ending)
        return;
    bench->ending = true;
    bench->result->seconds = (double)(bench_now_ns() - bench->started_ns) / 1e9;
    bench->failed |= bench_daemon_stats(bench->ipc, true, bench->result) < 0;
    uv_close((uv_handle_t *)&bench->timer, NULL);
    for (unsigned i = 0; i < bench->options->outstanding; i++)
        uv_close((uv_handle_t *)&bench->slots[i].tcp, NULL);
}

static void fail(struct bench *bench, const char *what, const char *why)
{
    if (!bench->ending)
        fprintf(stderr, "bench: %s: %s\n", what, why);
    bench->failed = true;
    finish(bench);
}

/* ---- Requests ---- */

static struct http_request request_of(struct slot *slot, char *path, size_t path_size)
{
    const struct http_daemon *daemon = &slot->bench->daemon;
    struct http_request request = {.path = path, .authorization = daemon->authorization, .wait = true};
    snprintf(path, path_size, "%s%s%s%s", daemon->services_path, slot->phase == CREATING ? "" : "/",
             slot->phase == CREATING ? "" : slot->service_id, slot->phase == STOPPING ? "/state" : "");
    if (slot->phase == CREATING) {
        request.method = "POST";
        request.body = "{\"name\":\"bench\",\"provider\":\"aws\",\"region\":\"us-east-1\",\"tier\":\"production\"}";
    } else if (slot->phase == STOPPING) {
        request.method = "PATCH";
        request.body = "{\"command\":\"stop\"}";
    } else if (slot->phase == DELETING) {
        request.method = "DELETE";
    } else {
        slot->odd = !slot->odd;
        request.method = "PATCH";
        request.wait = false;
        request.body = slot->odd ? "{\"name\":\"bench-a\"}" : "{\"name\":\"bench-b\"}";
    }
    return request;
}

static void send_request(struct slot *slot)
{
    char path[200], text[1500];
    const struct http_request request = request_of(slot, path, sizeof path);
    uv_buf_t buf = uv_buf_init(text, (unsigned)http_request_print(&request, text, sizeof text));
    slot->size = 0;
    slot->sent_ns = bench_now_ns();
    /* Nothing else is on the connection: there is always room for all of it. */
    if (uv_try_write((uv_stream_t *)&slot->tcp, &buf, 1) != (int)buf.len)
        fail(slot->bench, "a request", "could not be sent");
}

static void on_time(uv_timer_t *timer)
{
    finish(timer->data);
}

static void start_measuring(struct bench *bench)
{
    bench->result->latency = (struct histogram){0};
    bench->result->commands = 0;
    bench->failed |= bench_daemon_stats(bench->ipc, false, bench->result) < 0;
    bench->started_ns = bench_now_ns();
    uv_timer_start(&bench->timer, on_time, (uint64_t)(bench->options->seconds * 1000), 0);
}

static void send_all(struct bench *bench)
{
    for (unsigned i = 0; i < bench->options->outstanding && !bench->ending; i++)
        send_request(&bench->slots[i]);
}

/* ---- Answers ---- */

/* The state that was waited for must be there, else it would be another race that is run. */
static bool is_in_state(const struct http_answer *answer, const char *wanted)
{
    char state[32];
    return http_answer_text(answer, "state", state, sizeof state) && strcmp(state, wanted) == 0;
}

static bool is_answered(struct slot *slot, const struct http_answer *answer)
{
    static const char *const names[] = {"create", "stop", "delete", "update"};
    if (!http_answer_check(answer, names[slot->phase]))
        return false;
    if (slot->phase == CREATING)
        return is_in_state(answer, "running") &&
               http_answer_text(answer, "id", slot->service_id, sizeof slot->service_id);
    return slot->phase != STOPPING || is_in_state(answer, "stopped");
}

static void on_stopped(struct slot *slot)
{
    struct bench *bench = slot->bench;
    if (bench->options->work == LIFECYCLES) {
        slot->phase = DELETING;
        send_request(slot);
        return;
    }
    slot->phase = UPDATING;
    if (++bench->ready == bench->options->outstanding) {
        start_measuring(bench);
        send_all(bench);
    }
}

static void go_on(struct slot *slot)
{
    if (slot->phase == STOPPING) {
        on_stopped(slot);
        return;
    }
    if (slot->phase == DELETING) {
        slot->bench->result->lifecycles++;
        slot->phase = CREATING;
    } else if (slot->phase == CREATING) {
        slot->phase = STOPPING;
    }
    send_request(slot);
}

static void take_answer(struct slot *slot)
{
    struct bench *bench = slot->bench;
    struct http_answer answer;
    const ssize_t taken = http_answer_parse(slot->data, slot->size, &answer);
    if (taken == 0)
        return;
    if (taken != (ssize_t)slot->size || !is_answered(slot, &answer)) {
        fail(bench, "an answer", "is not the one that was asked for");
        return;
    }
    histogram_add(&bench->result->latency, bench_now_ns() - slot->sent_ns);
    bench->result->commands++;
    go_on(slot);
}

/* ---- Connections ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct slot *slot = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init(slot->data + slot->size, (unsigned)(sizeof slot->data - slot->size - 1));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct slot *slot = stream->data;
    (void)buf;
    if (size < 0) {
        fail(slot->bench, "a connection", uv_strerror((int)size));
        return;
    }
    slot->size += (size_t)size;
    slot->data[slot->size] = '\0';
    if (size > 0 && !slot->bench->ending)
        take_answer(slot);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct slot *slot = connect->data;
    struct bench *bench = slot->bench;
    if (status < 0) {
        fail(bench, "a connection", uv_strerror(status));
        return;
    }
    uv_tcp_nodelay(&slot->tcp, 1);
    uv_read_start((uv_stream_t *)&slot->tcp, on_room, on_read);
    if (++bench->connected < bench->options->outstanding)
        return;
    start_measuring(bench);
    /* Updates need services first: they are measured once those are stopped. */
    if (bench->options->work == UPDATES)
        uv_timer_stop(&bench->timer);
    send_all(bench);
}

static void connect_all(struct bench *bench)
{
    for (unsigned i = 0; i < bench->options->outstanding; i++) {
        struct slot *slot = &bench->slots[i];
        slot->bench = bench;
        slot->tcp.data = slot->connect.data = slot;
        uv_tcp_init(&bench->loop, &slot->tcp);
    }
    for (unsigned i = 0; i < bench->options->outstanding && !bench->ending; i++) {
        struct slot *slot = &bench->slots[i];
        const int r = uv_tcp_connect(&slot->connect, &slot->tcp, (const struct sockaddr *)&bench->daemon.address,
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
    fprintf(stderr, "bench: %s %s\n", reeve_error_name(error.code), error.message);
    return NULL;
}

int run_http(const struct run_options *options, struct run_result *ret_result)
{
    struct bench bench = {.options = options, .result = ret_result};
    int r = -1;
    *ret_result = (struct run_result){0};
    bench.slots = calloc(options->outstanding, sizeof *bench.slots);
    if (bench.slots &&
        http_daemon_start(&bench.daemon, options->binary, options->directory, http_daemon_simulated,
                          http_daemon_unlimited) == 0 &&
        (bench.ipc = open_ipc(options->directory)))
        r = run(&bench);
    ipc_client_close(bench.ipc);
    http_daemon_stop(&bench.daemon);
    free(bench.slots);
    return r;
}
