/* Floors without a disk: MessagePack alone, a hop between two threads alone, bytes there and back over a socket alone.
 */
#include <msgpack.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/arena.h"
#include "bench/lib/common.h"
#include "codec.h"

/* What all three have: so long, so many, and how often. */
struct timing {
    uint64_t started_ns, warm_until_ns, until_ns;
    struct run_result *result;
    bool measuring;
};

static void timing_begin(struct timing *timing, const struct run_options *options, struct run_result *result)
{
    *result = (struct run_result){0};
    timing->result = result;
    timing->measuring = false;
    timing->started_ns = bench_now_ns();
    timing->warm_until_ns = timing->started_ns + (uint64_t)(options->warm_seconds * 1e9);
    timing->until_ns = timing->warm_until_ns + (uint64_t)(options->seconds * 1e9);
}

static bool timing_goes_on(struct timing *timing)
{
    const uint64_t now_ns = bench_now_ns();
    if (!timing->measuring && now_ns >= timing->warm_until_ns) {
        *timing->result = (struct run_result){0};
        bench_usage(0, false, timing->result);
        timing->started_ns = now_ns;
        timing->measuring = true;
    }
    return now_ns < timing->until_ns;
}

static void timing_end(struct timing *timing)
{
    timing->result->seconds = (double)(bench_now_ns() - timing->started_ns) / 1e9;
    bench_usage(0, true, timing->result);
    timing->result->commands = timing->result->count;
}

/* ---- MessagePack: what a transition decodes and encodes, or a list decodes ---- */

int run_floor_msgpack(const struct run_options *options, struct run_result *ret_result)
{
    struct timing timing;
    struct arena arena;
    struct buffer record = {0}, event = {0};
    const struct reeve_event told = {.sequence = 1000000, .at_ms = 1700000000000, .generation = 3};
    struct reeve_service service = {.name = reeve_str("bench"),
                                    .provider = reeve_str("aws"),
                                    .region = reeve_str("us-east-1"),
                                    .state = REEVE_SERVICE_STATE_RUNNING,
                                    .tier = REEVE_TIER_PRODUCTION,
                                    .generation = 2};
    arena_init(&arena, 65536);
    codec_encode_stored(&record_type_service, &service, &record);
    timing_begin(&timing, options, ret_result);
    while (timing_goes_on(&timing)) {
        for (int i = 0; i < 100; i++) {
            arena_reset(&arena);
            codec_decode_stored(&record_type_service, record.data, record.size, &arena, &service);
            if (options->work == LISTS) /* read, not written */
                continue;
            buffer_reset(&record);
            codec_encode_stored(&record_type_service, &service, &record);
            buffer_reset(&event);
            codec_encode_stored(&record_type_event, &told, &event);
        }
        ret_result->count += 100;
    }
    timing_end(&timing);
    buffer_deinit(&record);
    buffer_deinit(&event);
    arena_deinit(&arena);
    return 0;
}

/* ---- A hop: through a queue to a thread with a loop, and back the same way ---- */

struct side {
    uv_loop_t loop;
    uv_async_t async;
    pthread_mutex_t lock;
    unsigned queued;
    bool ending;
    struct side *other;
    struct timing *timing; /* of the side that counts */
};

static void push(struct side *side, unsigned count, bool ending)
{
    pthread_mutex_lock(&side->lock);
    const bool was_empty = side->queued == 0;
    side->queued += count;
    side->ending |= ending;
    pthread_mutex_unlock(&side->lock);
    if (was_empty || ending)
        uv_async_send(&side->async);
}

static void on_queued(uv_async_t *async)
{
    struct side *side = async->data;
    pthread_mutex_lock(&side->lock);
    const unsigned count = side->queued;
    bool ending = side->ending;
    side->queued = 0;
    pthread_mutex_unlock(&side->lock);
    if (side->timing) {
        side->timing->result->count += count;
        side->timing->result->batches++;
        ending = !timing_goes_on(side->timing);
    }
    if (count || ending)
        push(side->other, count, ending);
    if (ending)
        uv_close((uv_handle_t *)async, NULL);
}

static void *run_side(void *arg)
{
    struct side *side = arg;
    uv_run(&side->loop, UV_RUN_DEFAULT);
    return NULL;
}

int run_floor_hop(const struct run_options *options, struct run_result *ret_result)
{
    struct timing timing;
    struct side sides[2] = {{.lock = PTHREAD_MUTEX_INITIALIZER}, {.lock = PTHREAD_MUTEX_INITIALIZER}};
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        sides[i].other = &sides[1 - i];
        sides[i].async.data = &sides[i];
        uv_loop_init(&sides[i].loop);
        uv_async_init(&sides[i].loop, &sides[i].async, on_queued);
    }
    sides[0].timing = &timing;
    timing_begin(&timing, options, ret_result);
    if (pthread_create(&thread, NULL, run_side, &sides[1]) != 0)
        return bench_complain("hop", "no thread");
    push(&sides[1], options->outstanding, false);
    run_side(&sides[0]);
    pthread_join(thread, NULL);
    timing_end(&timing);
    for (int i = 0; i < 2; i++)
        uv_loop_close(&sides[i].loop);
    return 0;
}

/* ---- Echo: a libuv server on a UNIX socket, messages of the size of a command ---- */

#define MESSAGE_BYTES 120

struct echo {
    uv_loop_t loop;
    uv_pipe_t pipe;
    char data[65536];
};

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct echo *echo = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init(echo->data, sizeof echo->data);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    if (size < 0) {
        uv_close((uv_handle_t *)stream, NULL);
        return;
    }
    for (ssize_t sent = 0; sent < size;) {
        const uv_buf_t rest = uv_buf_init(buf->base + sent, (unsigned)(size - sent));
        const int r = uv_try_write(stream, &rest, 1);
        if (r < 0 && r != UV_EAGAIN)
            break; /* nobody reads any more; the next read says so */
        sent += r > 0 ? r : 0;
    }
}

static void *run_echo(void *arg)
{
    struct echo *echo = arg;
    uv_read_start((uv_stream_t *)&echo->pipe, on_room, on_read);
    uv_run(&echo->loop, UV_RUN_DEFAULT);
    uv_loop_close(&echo->loop);
    return NULL;
}

/* All messages go out at once, then as many as came back. */
static int talk(int fd, struct timing *timing, unsigned outstanding)
{
    static char data[65536];
    size_t owed = (size_t)outstanding * MESSAGE_BYTES, got = 0;
    while (timing_goes_on(timing)) {
        while (owed > 0) {
            const ssize_t sent = send(fd, data, owed < sizeof data ? owed : sizeof data, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0)
                break;
            owed -= (size_t)sent;
        }
        const ssize_t size = recv(fd, data, sizeof data, 0);
        if (size <= 0)
            return bench_complain("echo", "disconnected");
        owed += (size_t)size;
        got += (size_t)size;
        timing->result->count += got / MESSAGE_BYTES;
        got %= MESSAGE_BYTES;
    }
    return 0;
}

int run_floor_echo(const struct run_options *options, struct run_result *ret_result)
{
    struct timing timing;
    pthread_t thread;
    int fds[2];
    struct echo *echo = calloc(1, sizeof *echo);
    if (!echo || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        free(echo);
        return bench_complain("echo", "no socket");
    }
    uv_loop_init(&echo->loop);
    uv_pipe_init(&echo->loop, &echo->pipe, 0);
    uv_pipe_open(&echo->pipe, fds[1]);
    echo->pipe.data = echo;
    timing_begin(&timing, options, ret_result);
    int r = pthread_create(&thread, NULL, run_echo, echo) == 0 ? 0 : -1;
    if (r == 0) {
        r = talk(fds[0], &timing, options->outstanding);
        shutdown(fds[0], SHUT_RDWR);
        pthread_join(thread, NULL);
    }
    timing_end(&timing);
    close(fds[0]);
    free(echo);
    return r;
}
