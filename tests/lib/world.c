#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

bool world_is_guest;

int world_on_a_thread(void **state)
{
    (void)state;
    world_is_guest = false;
    return 0;
}

int world_as_guest(void **state)
{
    (void)state;
    world_is_guest = true;
    return 0;
}

void world_open(struct world *world, const struct reeve_limits *limits, const struct reeve_provisioner *provisioner)
{
    struct reeve_error error;
    *world = (struct world){0};
    directory_make("/tmp", world->directory);
    uv_loop_init(&world->loop);
    const struct reeve_options options = {.data_dir = world->directory,
                                          .provisioner = provisioner,
                                          .loop = world_is_guest ? &world->loop : NULL,
                                          .limits = *limits};
    assert_int_equal(reeve_open(&options, &world->engine, &error), 0);
    assert_int_equal(reeve_client_open(world->engine, &world->loop, &world->client), 0);
}

void world_close(struct world *world)
{
    struct reeve_error error;
    struct reeve_check_summary summary;
    reeve_client_close(world->client, NULL, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    reeve_close(world->engine);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    assert_int_equal(reeve_check(world->directory, NULL, NULL, &summary, &error), 0);
    assert_int_equal(summary.findings, 0);
    assert_int_equal(summary.organizations, world->answered - world->refused);
    directory_remove(world->directory);
}

static void on_done(struct reeve_request *request, const struct reeve_result *result)
{
    struct world *world = request->data;
    world->answered++;
    world->refused += result->error.code != REEVE_OK;
    free(request);
}

int world_submit(struct world *world, const char *actor)
{
    struct reeve_request *request = calloc(1, sizeof *request);
    request->command = REEVE_COMMAND_ORGANIZATION_CREATE;
    request->params.organization_create.name = reeve_str("acme");
    request->actor = reeve_str(actor);
    request->on_done = on_done;
    request->data = world;
    const int r = reeve_submit(world->client, request);
    if (r < 0)
        free(request);
    return r;
}

void world_wait(struct world *world, size_t answered)
{
    while (world->answered < answered)
        uv_run(&world->loop, UV_RUN_ONCE);
}
