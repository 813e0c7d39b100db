#include "frontend.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontends/common/worker.h"
#include "provisioners/simulated.h"

#define TURNS_MAX 200 /* after all was sent; streams and watches go on for as long as the client is there */

struct call {
    struct reeve_request request;
    bool done;
    void (*take)(struct frontend *frontend, const struct reeve_result *result);
    struct frontend *frontend;
};

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct call *call = request->data;
    fuzz_require(result->error.code == 0, result->error.message);
    call->take(call->frontend, result);
    call->done = true;
}

static void run_call(struct frontend *frontend, struct reeve_client *client, struct call *call)
{
    call->frontend = frontend;
    call->request.data = call;
    call->request.on_done = on_done;
    fuzz_require(reeve_submit(client, &call->request) == 0, "a request was not taken");
    while (!call->done)
        uv_run(&frontend->loop, UV_RUN_ONCE);
}

static void take_organization(struct frontend *frontend, const struct reeve_result *result)
{
    reeve_uuid_format(&result->answer.organization.id, frontend->organization_id);
}

static void take_service(struct frontend *frontend, const struct reeve_result *result)
{
    reeve_uuid_format(&result->answer.service_created.service.id, frontend->service_id);
}

static void take_key(struct frontend *frontend, const struct reeve_result *result)
{
    char id[37];
    const struct reeve_key_created *created = &result->answer.key_created;
    reeve_uuid_format(&created->key_id, id);
    snprintf(frontend->key, sizeof frontend->key, "%s:%.*s", id, (int)created->key_secret.size,
             created->key_secret.data);
}

static void fill(struct frontend *frontend, struct reeve_client *client)
{
    struct call organization = {.request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE}, .take = take_organization};
    struct call service = {.request = {.command = REEVE_COMMAND_SERVICE_CREATE}, .take = take_service};
    struct call key = {.request = {.command = REEVE_COMMAND_KEY_CREATE}, .take = take_key};
    organization.request.params.organization_create.name = reeve_str("fuzz");
    run_call(frontend, client, &organization);
    struct reeve_service_create_params *wanted = &service.request.params.service_create;
    reeve_uuid_parse(frontend->organization_id, 36, &wanted->organization_id);
    wanted->name = reeve_str("fuzz");
    wanted->provider = reeve_str("aws");
    wanted->region = reeve_str("us-east-1");
    run_call(frontend, client, &service);
    struct reeve_key_create_params *secret = &key.request.params.key_create;
    secret->organization_id = wanted->organization_id;
    secret->name = reeve_str("fuzz");
    secret->role = REEVE_ROLE_ADMIN;
    run_call(frontend, client, &key);
}

void frontend_open(struct frontend *frontend)
{
    static struct simulated *simulated;
    struct reeve_error error = {0};
    struct reeve_client *client;
    fuzz_require(uv_loop_init(&frontend->loop) == 0, "no loop");
    fuzz_require(simulated_new("delay-ms=0..0", &simulated, &error) == 0, error.message);
    struct reeve_options options = {.data_dir = fuzz_directory(), .provisioner = simulated_provisioner(simulated)};
    options.limits.events_max = 1000;
    fuzz_require(reeve_open(&options, &frontend->engine, &error) == 0, error.message);
    simulated_set_engine(simulated, frontend->engine);
    fuzz_require(reeve_client_open(frontend->engine, &frontend->loop, &client) == 0, "no client");
    fill(frontend, client);
}

/* What the server answers is read so that it can go on; what it says is for tests to judge. */
static bool is_over(int fd)
{
    char answer[65536];
    for (;;) {
        const ssize_t got = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return true;
        if (got < 0)
            return false;
    }
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* it only lets the loop turn */
}

/* libFuzzer's alarm may interrupt it, and it goes on then by itself. */
static void connect_to(int fd, const void *address, size_t address_size)
{
    struct pollfd connected = {.fd = fd, .events = POLLOUT};
    int error = connect(fd, address, (socklen_t)address_size) == 0 ? 0 : errno;
    socklen_t size = sizeof error;
    if (error == EINTR) {
        while (poll(&connected, 1, -1) < 0 && errno == EINTR)
            ;
        fuzz_require(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0, "no state of a socket");
    }
    if (error)
        fprintf(stderr, "connect: %s\n", strerror(error));
    fuzz_require(error == 0, "cannot connect");
}

void frontend_send(struct frontend *frontend, int fd, const void *address, size_t address_size, const void *data,
                   size_t size)
{
    static const struct linger none = {.l_onoff = 1}; /* thousands of connections a second use up all ports otherwise */
    static uv_timer_t tick;
    size_t sent = 0;
    bool told = false;
    fuzz_require(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0, "no socket");
    connect_to(fd, address, address_size);
    uv_timer_init(&frontend->loop, &tick);
    uv_timer_start(&tick, on_tick, 1, 1);
    for (unsigned turns = 0; !is_over(fd) && turns < TURNS_MAX; turns += told) {
        const ssize_t taken = sent < size
                                  ? send(fd, (const char *)data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : 0;
        sent += taken > 0 ? (size_t)taken : 0;
        if ((sent == size || (taken < 0 && errno != EAGAIN)) && !told)
            told = shutdown(fd, SHUT_WR) == 0 || errno == ENOTCONN;
        uv_run(&frontend->loop, turns < TURNS_MAX / 4 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
    close(fd);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&frontend->loop, UV_RUN_NOWAIT);
}
