/* What the stories have that are told to the core: a fixture of their own for each, whose store has to pass its check
 * in the end. */
#ifndef REEVE_TESTS_STORY_H
#define REEVE_TESTS_STORY_H

#include "tests/lib/fixture.h"

#define MINUTE_MS 60000
#define HOUR_MS (60 * MINUTE_MS)

static inline int setup(void **state)
{
    static struct fixture fixture;
    fixture_open(&fixture);
    *state = &fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    const uint64_t findings = fixture_check(f);
    fixture_close(f);
    return findings ? -1 : 0;
}

static inline enum reeve_service_state state_of(struct fixture *f, const struct reeve_uuid *id)
{
    struct reeve_service service;
    return fixture_load_service(f, id, &service) ? service.state : REEVE_SERVICE_STATE_GONE;
}

static inline void finish(struct fixture *f, enum reeve_outcome_status status)
{
    fixture_finish(f, fixture_task(f, &f->service_id), status);
}

static inline int rename_service(struct fixture *f, const char *name)
{
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_UPDATE};
    request.params.service_update = (struct reeve_service_update_params){
        .organization_id = f->organization_id, .service_id = f->service_id, .name = reeve_str(name)};
    return fixture_submit(f, &request);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
