/* The core with services, and its provisioner and clock in our hands: what may happen next, and what matters of a
 * state. */
#include <assert.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "backup.h"
#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "operation.h"
#include "organization.h"
#include "password.h"
#include "service.h"
#include "states.h"

#define START_MS UINT64_C(1700000000000)
#define MONO_MS (START_MS - UINT64_C(1000000)) /* of the engine's clock over the monotonic one, always */
#define DEADLINES_MAX (8 * SERVICES_MAX)

/* An attempt, as the provisioner knows it. */
struct attempt {
    struct reeve_uuid operation_id;
    uint64_t attempt;
};

struct world {
    struct core core;
    struct store *store;
    struct arena arena;
    uint64_t now_ms, batches;
    struct reeve_uuid organization_id, service_ids[SERVICES_MAX];
    bool made[SERVICES_MAX];
    struct attempt last[SERVICES_MAX]; /* whose end has been told */
};

/* What is stored and in flight of one service, decoded. */
struct look {
    struct reeve_service service;
    struct reeve_backup backup; /* its only one */
    bool exists, has_backup;
    const struct flight *flight, *backup_flight; /* of the service's slot, of the backup's own */
};

const char *const input_names[INPUT_KINDS] = {
    [DO_CREATE] = "create",
    [DO_UPDATE] = "update",
    [DO_SCALE] = "scale",
    [DO_SET_PASSWORD] = "set_password",
    [DO_START] = "start",
    [DO_STOP] = "stop",
    [DO_AWAKE] = "awake",
    [DO_DELETE] = "delete",
    [DO_BACKUP] = "backup",
    [DO_BACKUP_DELETE] = "delete its backup",
    [DO_ACTIVITY] = "activity",
    [DO_HEALTH_LOST] = "health lost",
    [END_DONE] = "attempt done",
    [END_RETRY] = "attempt to be retried",
    [END_FAILED] = "attempt failed",
    [BACKUP_END_DONE] = "deletion of the backup done",
    [BACKUP_END_RETRY] = "deletion of the backup to be retried",
    [BACKUP_END_FAILED] = "deletion of the backup failed",
    [DUE_RETRY] = "pause over",
    [DUE_IDLE] = "idle for long enough",
    [DUE_SCHEDULE] = "time for a backup",
    [DUE_BACKUP_RETRY] = "pause of the backup over",
    [DUE_EXPIRY] = "retention over",
    [DUE_DEADLINE] = "time of the attempt over",
    [DUE_BACKUP_DEADLINE] = "time of the deletion of the backup over",
    [END_AGAIN] = "the attempt before ends again",
    [CRASH] = "crash",
};
uint64_t rows_taken[REEVE_SERVICE_STATE_COUNT][INPUT_COUNT];
void (*life_on_failure)(void);

static struct world world;
static struct life_options options;
static struct catalogue *catalogue;
static struct arena scratch; /* of what is looked at; no part of the state */
static bool commanded;       /* what the batch is about: a command tells by its answer which row it took */

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    va_list arguments;
    heap_leave();
    if (life_on_failure)
        life_on_failure();
    va_start(arguments, format);
    printf("wrong: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(1);
}

#define REQUIRE(condition, ...) ((condition) ? (void)0 : fail(__VA_ARGS__))

/* ---- The provisioner: it has what is in flight, see flight.h; nothing else is kept ---- */

static void on_start(void *arg, struct flight *flight)
{
    (void)arg;
    REQUIRE(!flight->cancelling, "%s is started and cancelled", reeve_operation_kind_name(flight->task.kind));
    REQUIRE(world.core.flights.count <= options.operations, "%zu operations are in flight, %u may be",
            world.core.flights.count, options.operations);
}

static void on_cancel(void *arg, struct flight *flight)
{
    (void)arg, (void)flight;
}

/* ---- Opening ---- */

static void set_limits(struct reeve_limits *limits)
{
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    limits->operations_max = options.operations;
    limits->operation_attempts_max = 2;
    limits->operation_total_ms = UINT64_C(1) << 50; /* attempts are what runs out */
    limits->retry_min_ms = limits->retry_max_ms = 1;
    limits->restart_min_ms = limits->restart_max_ms = 2;
    limits->restart_reset_ms = UINT64_C(1) << 50;
    limits->backups_per_service = 1;
    limits->overdue_per_second = 1000000;
}

static void open_core(void)
{
    struct reeve_error error = {0};
    struct core *core = &world.core;
    *core = (struct core){.store = world.store, .catalogue = catalogue, .endpoint_domain = reeve_str("states")};
    set_limits(&core->limits);
    core->hooks = (struct core_hooks){.has_provisioner = true,
                                      .password_forms = 1U << REEVE_PASSWORD_FORM_SHA_256,
                                      .start = on_start,
                                      .cancel = on_cancel};
    REQUIRE(core_init(core, world.now_ms, &error) == 0, "the core cannot be opened: %s", error.message);
}

/* ---- Batches ---- */

/* The row that an event tells of; commands say by their answer which one it was. */
static void on_event(const void *value, size_t size)
{
    struct reeve_event event;
    if (codec_decode_stored(&record_type_event, value, size, &scratch, &event) != 0)
        fail("an event cannot be read");
    if (commanded)
        return;
    for (unsigned input = INPUT_IDLE_DUE; input < INPUT_COUNT; input++) {
        const struct lifecycle_rule *rule = lifecycle_step(event.from, (enum lifecycle_input)input);
        if (rule->effect > EFFECT_SAME && rule->event == event.type && rule->next == event.to)
            rows_taken[event.from][input]++;
    }
}

static struct reeve_result run_batch(const struct reeve_request *request, struct report *report)
{
    uint8_t seed[CORE_SEED_SIZE] = {0};
    struct reeve_result result = {0};
    world.batches++;                                        /* ids must be new */
    memcpy(seed + 8, &world.batches, sizeof world.batches); /* the core counts in the first bytes */
    commanded = request != NULL;
    heap_enter();
    arena_reset(&world.arena);
    core_begin(&world.core, &world.arena, world.now_ms, world.now_ms - MONO_MS, seed);
    if (report)
        core_report(&world.core, report);
    if (request)
        result = *core_request(&world.core, request);
    core_due(&world.core);
    REQUIRE(core_commit(&world.core) == 0, "a batch could not be made durable");
    core_dispatch(&world.core);
    heap_leave();
    return result;
}

void life_begin(const struct life_options *wanted)
{
    struct reeve_error error;
    options = *wanted;
    store_on_event = on_event;
    arena_init(&scratch, 64 * 1024);
    if (sodium_init() < 0 || catalogue_new(NULL, &catalogue, &error) != 0)
        abort();
    world.now_ms = START_MS;
    heap_enter();
    arena_init(&world.arena, 1024);
    store_open(NULL, &world.store, &error);
    open_core();
    heap_leave();
    struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    request.params.organization_create = (struct reeve_organization_create_params){.name = reeve_str("o"),
                                                                                   .paid = true};
    const struct reeve_result result = run_batch(&request, NULL);
    world.organization_id = result.answer.organization.id;
}

struct image *life_take(void)
{
    return image_take(&world, sizeof world);
}

void life_put_back(const struct image *image)
{
    image_put_back(image, &world, sizeof world);
}

/* ---- Looking ---- */

static bool on_backup(void *arg, const struct store_item *item)
{
    struct look *look = arg;
    const struct reeve_uuid service_id = uuid_at(item->key);
    if (!uuid_equal(&service_id, &look->service.id))
        return true;
    REQUIRE(!look->has_backup, "a service has two backups");
    look->has_backup = codec_decode_stored(&record_type_backup, item->value, item->value_size, &scratch,
                                           &look->backup) == 0;
    look->backup.id = uuid_at(item->key + 16);
    return true;
}

static struct look look_at(unsigned at)
{
    struct look look = {0};
    struct reeve_str value;
    struct store_read read = {.store = world.store};
    const struct reeve_uuid id = world.service_ids[at];
    const struct store_key key = key_pair(&world.organization_id, &id);
    if (world.made[at] && store_get(world.store, TABLE_SERVICES, &key, &value)) {
        REQUIRE(codec_decode_stored(&record_type_service, value.data, value.size, &scratch, &look.service) == 0,
                "a service cannot be read");
        look.exists = true;
        const char *problem = service_check(&look.service);
        REQUIRE(!problem, "%s", problem);
    }
    look.service.id = id;
    if (world.made[at])
        store_read_each(&read, TABLE_BACKUPS, &(struct store_key){0}, false, on_backup, &look);
    look.flight = world.made[at] ? map_get(&world.core.flights.by_slot, &id) : NULL;
    look.backup_flight = look.has_backup ? map_get(&world.core.flights.by_slot, &look.backup.id) : NULL;
    return look;
}

static enum reeve_service_state state_of(unsigned at, const struct look *look)
{
    return look->exists ? look->service.state : world.made[at] ? REEVE_SERVICE_STATE_GONE : REEVE_SERVICE_STATE_NONE;
}

struct life_view life_view(void)
{
    struct life_view view = {0};
    arena_reset(&scratch);
    for (unsigned i = 0; i < options.services; i++) {
        const struct look look = look_at(i);
        view.states[i] = state_of(i, &look);
        view.busy |= operation_exists(&look.service.operation) || operation_exists(&look.backup.operation);
    }
    return view;
}

/* ---- What matters ---- */

/* Times that are waited for, in their order: only that counts. */
struct deadlines {
    uint64_t *at[DEADLINES_MAX];
    unsigned count;
};

struct attempt_key {
    uint8_t there, kind, current, cancelling, desired, waits, backup_waits, others;
};

struct operation_key {
    uint8_t kind, attempt, waits, passed, desired;
};

struct part {
    uint8_t state, provisioned, behind, restarted, backup_state, backup_current, backup_count, backup_kept;
    struct operation_key operation, backup_operation;
    struct attempt_key flight, backup_flight;
    uint8_t ranks[8];
};
_Static_assert(SERVICES_MAX * sizeof(struct part) + 1 <= KEY_BYTES, "a key has room for all");

static struct attempt_key key_of_flight(const struct flight *flight, const struct look *look, bool backup)
{
    struct attempt_key key = {0};
    if (!flight)
        return key;
    const struct reeve_operation *operation = backup ? &look->backup.operation : &look->service.operation;
    if (!backup && flight->task.kind == REEVE_OPERATION_KIND_BACKUP)
        operation = &look->backup.operation;
    key.there = 1;
    key.kind = (uint8_t)flight->task.kind;
    key.current = uuid_equal(&operation->id, &flight->task.operation_id) && operation->attempt == flight->task.attempt;
    REQUIRE(key.current == !flight->cancelling, "%s is in flight, and %s", reeve_operation_kind_name(flight->task.kind),
            key.current ? "told to give up though it is wanted" : "wanted by nobody");
    key.cancelling = flight->cancelling;
    key.desired = flight->task.desired == look->service.desired;
    const struct waiting *waiting = flight->waiting;
    if (waiting[0].number)
        key.waits = uuid_equal(&waiting[0].operation_id, &look->service.operation.id) ? 1 : 2;
    if (waiting[1].number)
        key.backup_waits = uuid_equal(&waiting[1].operation_id, &look->backup.operation.id) ? 1 : 2;
    key.others = flight->others_wait;
    return key;
}

static struct operation_key key_of_operation(const struct reeve_operation *operation, const struct look *look)
{
    const struct org_place {
        size_t count;
        uint64_t place;
    } *org = map_get(&world.core.flights.by_organization, &world.organization_id);
    if (!operation_exists(operation))
        return (struct operation_key){0};
    return (struct operation_key){.kind = (uint8_t)operation->kind,
                                  .attempt = (uint8_t)operation->attempt,
                                  .waits = operation->queued != 0,
                                  .passed = org && operation->queued && operation->queued <= org->place,
                                  .desired = operation->desired == look->service.desired};
}

static struct part part_of(unsigned at, struct look *look)
{
    const struct reeve_service *service = &look->service;
    struct part part = {.state = (uint8_t)state_of(at, look),
                        .provisioned = service->provisioned,
                        .behind = service->desired > service->applied,
                        .restarted = service->restarts != 0,
                        .backup_state = (uint8_t)look->backup.state,
                        .backup_current = !reeve_uuid_is_nil(&service->current_backup),
                        .backup_count = (uint8_t)service->backup_count,
                        .backup_kept = look->has_backup};
    part.operation = key_of_operation(&service->operation, look);
    part.backup_operation = key_of_operation(&look->backup.operation, look);
    part.flight = key_of_flight(look->flight, look, false);
    part.backup_flight = key_of_flight(look->backup_flight, look, true);
    return part;
}

/* The times of one service; 0: none. Those of attempts on the same clock. */
static void times_of(const struct look *look, uint64_t ret_times[8])
{
    const bool running = look->exists && look->service.state == REEVE_SERVICE_STATE_RUNNING;
    ret_times[0] = look->service.operation.retry_at_ms;
    ret_times[1] = running ? look->service.idle_at_ms : 0;
    ret_times[2] = running && options.backups ? look->service.backup_at_ms : 0;
    ret_times[3] = look->backup.operation.retry_at_ms;
    ret_times[4] = look->has_backup && !look->backup.operation.retry_at_ms ? backup_due_ms(&look->backup) : 0;
    ret_times[5] = look->flight ? look->flight->deadline_mono_ms + MONO_MS : 0;
    ret_times[6] = look->backup_flight ? look->backup_flight->deadline_mono_ms + MONO_MS : 0;
    ret_times[7] = 0;
}

/* Places in the queue matter where not all of it is in flight. */
static void rank(uint64_t (*times)[8], struct part *parts)
{
    for (unsigned i = 0; i < 8 * options.services; i++) {
        const uint64_t time = times[i / 8][i % 8];
        uint8_t before = time != 0;
        for (unsigned j = 0; j < 8 * options.services && time; j++) {
            const uint64_t other = times[j / 8][j % 8];
            bool first = other && other < time;
            for (unsigned k = 0; k < j && first; k++)
                first = times[k / 8][k % 8] != other;
            before = (uint8_t)(before + first);
        }
        parts[i / 8].ranks[i % 8] = before;
    }
}

void life_key(uint8_t ret_key[KEY_BYTES])
{
    struct part parts[SERVICES_MAX] = {0};
    uint64_t times[SERVICES_MAX][8] = {0};
    arena_reset(&scratch);
    memset(ret_key, 0, KEY_BYTES);
    for (unsigned i = 0; i < options.services; i++) {
        struct look look = look_at(i);
        parts[i] = part_of(i, &look);
        times_of(&look, times[i]);
    }
    rank(times, parts);
    /* Nobody knows which is the first. */
    const bool swapped = options.services == 2 && memcmp(&parts[0], &parts[1], sizeof parts[0]) > 0;
    memcpy(ret_key, &parts[swapped ? 1 : 0], sizeof parts[0]);
    if (options.services == 2)
        memcpy(ret_key + sizeof parts[0], &parts[swapped ? 0 : 1], sizeof parts[0]);
    ret_key[KEY_BYTES - 1] = world.core.flights.backlog;
}

/* ---- Commands ---- */

static const struct {
    enum reeve_command command;
    enum lifecycle_input input;
} commands[] = {
    [DO_CREATE] = {REEVE_COMMAND_SERVICE_CREATE, INPUT_CREATE},
    [DO_UPDATE] = {REEVE_COMMAND_SERVICE_UPDATE, INPUT_UPDATE},
    [DO_SCALE] = {REEVE_COMMAND_SERVICE_SCALE, INPUT_SCALE},
    [DO_SET_PASSWORD] = {REEVE_COMMAND_SERVICE_SET_PASSWORD, INPUT_SET_PASSWORD},
    [DO_START] = {REEVE_COMMAND_SERVICE_START, INPUT_START},
    [DO_STOP] = {REEVE_COMMAND_SERVICE_STOP, INPUT_STOP},
    [DO_AWAKE] = {REEVE_COMMAND_SERVICE_AWAKE, INPUT_AWAKE},
    [DO_DELETE] = {REEVE_COMMAND_SERVICE_DELETE, INPUT_DELETE},
    [DO_BACKUP] = {REEVE_COMMAND_BACKUP_CREATE, INPUT_BACKUP},
    [DO_BACKUP_DELETE] = {REEVE_COMMAND_BACKUP_DELETE, INPUT_NONE},
    [DO_ACTIVITY] = {REEVE_COMMAND_SERVICE_ACTIVITY, INPUT_ACTIVITY},
    [DO_HEALTH_LOST] = {REEVE_COMMAND_SERVICE_HEALTH_LOST, INPUT_HEALTH_LOST},
};

static const char hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static void fill(struct reeve_request *request, enum input_kind kind, unsigned at, const struct look *look)
{
    const struct reeve_uuid organization_id = world.organization_id, service_id = world.service_ids[at];
    switch ((int)kind) {
    case DO_CREATE:
        request->params.service_create = (struct reeve_service_create_params){.organization_id = organization_id,
                                                                              .name = reeve_str("s"),
                                                                              .provider = reeve_str("aws"),
                                                                              .region = reeve_str("us-east-1"),
                                                                              .tier = REEVE_TIER_PRODUCTION,
                                                                              .password_hash = reeve_str(hash)};
        return;
    case DO_UPDATE:
        request->params.service_update = (struct reeve_service_update_params){
            .organization_id = organization_id,
            .service_id = service_id,
            .name = reeve_str(look->service.name.size == 1 ? "ss" : "s")};
        return;
    case DO_SCALE:
        request->params.service_scale = (struct reeve_service_scale_params){
            .organization_id = organization_id,
            .service_id = service_id,
            .max_total_memory_gb = look->service.max_replica_memory_gb == 16 ? 72 : 48};
        return;
    case DO_SET_PASSWORD:
        request->params.service_set_password = (struct reeve_service_set_password_params){
            .organization_id = organization_id, .service_id = service_id, .password_hash = reeve_str(hash)};
        return;
    case DO_HEALTH_LOST:
        request->params.service_health = (struct reeve_service_health_params){.organization_id = organization_id,
                                                                              .service_id = service_id};
        return;
    case DO_BACKUP_DELETE:
        request->params.backup = (struct reeve_backup_params){
            .organization_id = organization_id, .service_id = service_id, .backup_id = look->backup.id};
        return;
    default:
        request->params.service = (struct reeve_service_params){.organization_id = organization_id,
                                                                .service_id = service_id};
        return;
    }
}

static bool command(enum input_kind kind, unsigned at, const struct look *look)
{
    const enum reeve_service_state state = state_of(at, look);
    const bool of_backup = kind == DO_BACKUP || kind == DO_BACKUP_DELETE;
    if ((kind == DO_CREATE) != !world.made[at] && kind != DO_BACKUP_DELETE)
        return false; /* each is made once: what is gone stays so */
    if ((of_backup && !options.backups) || (kind == DO_BACKUP_DELETE && !look->has_backup))
        return false;
    if (kind != DO_BACKUP_DELETE && state == REEVE_SERVICE_STATE_GONE)
        return false;
    struct reeve_request request = {.command = commands[kind].command, .actor = reeve_str("states")};
    fill(&request, kind, at, look);
    password_prepare(&request, world.core.hooks.password_forms);
    const struct reeve_result result = run_batch(&request, NULL);
    const enum reeve_error_code code = result.error.code;
    REQUIRE(code == REEVE_OK || code == REEVE_ERROR_CONFLICT || (code == REEVE_ERROR_QUOTA_EXCEEDED && of_backup),
            "%s was refused: %s", input_names[kind], result.error.message);
    if (kind == DO_BACKUP_DELETE)
        return true;
    const bool allowed = lifecycle_step(state, commands[kind].input)->effect != EFFECT_NONE;
    REQUIRE(allowed || code != REEVE_OK, "%s was done in state %s", input_names[kind], reeve_service_state_name(state));
    REQUIRE(!allowed || code == REEVE_OK || of_backup, "%s was refused in state %s: %s", input_names[kind],
            reeve_service_state_name(state), result.error.message);
    rows_taken[state][commands[kind].input] += code == REEVE_OK;
    if (kind == DO_CREATE) {
        world.service_ids[at] = result.answer.service_created.service.id;
        world.made[at] = true;
    }
    return true;
}

/* ---- Everything else ---- */

static bool end(const struct flight *flight, enum reeve_outcome_status status, unsigned at, bool of_service)
{
    if (!flight || (flight->cancelling && status != REEVE_OUTCOME_STATUS_DONE))
        return false; /* what was cancelled counts the same, however it ends */
    const struct attempt attempt = {flight->task.operation_id, flight->task.attempt};
    struct report report = {.operation_id = attempt.operation_id,
                            .attempt = attempt.attempt,
                            .outcome = {.status = status, .code = reeve_str("c"), .message = reeve_str("m")}};
    if (of_service)
        world.last[at] = attempt;
    run_batch(NULL, &report);
    return true;
}

static bool end_again(unsigned at)
{
    const struct attempt *last = &world.last[at];
    struct report report = {
        .operation_id = last->operation_id, .attempt = last->attempt, .outcome = {.status = REEVE_OUTCOME_STATUS_DONE}};
    if (reeve_uuid_is_nil(&last->operation_id))
        return false;
    run_batch(NULL, &report);
    return true;
}

static bool pass_until(uint64_t due_ms)
{
    if (due_ms == 0)
        return false;
    if (due_ms > world.now_ms)
        world.now_ms = due_ms;
    run_batch(NULL, NULL);
    return true;
}

/* Whatever the process died in, what was durable is what it goes on from: dying between two batches is all there is. */
static bool crash(void)
{
    heap_enter();
    core_deinit(&world.core);
    open_core();
    heap_leave();
    run_batch(NULL, NULL);
    return true;
}

bool life_apply(enum input_kind kind, unsigned at)
{
    static const enum reeve_outcome_status ends[] = {REEVE_OUTCOME_STATUS_DONE, REEVE_OUTCOME_STATUS_RETRY,
                                                     REEVE_OUTCOME_STATUS_FAILED};
    static const unsigned due[] = {
        [DUE_RETRY] = 0,  [DUE_IDLE] = 1,     [DUE_SCHEDULE] = 2,       [DUE_BACKUP_RETRY] = 3,
        [DUE_EXPIRY] = 4, [DUE_DEADLINE] = 5, [DUE_BACKUP_DEADLINE] = 6};
    uint64_t times[8];
    arena_reset(&scratch);
    if (kind == CRASH)
        return crash();
    const struct look look = look_at(at);
    if (kind <= DO_HEALTH_LOST)
        return command(kind, at, &look);
    if (kind <= END_FAILED)
        return end(look.flight, ends[kind - END_DONE], at, true);
    if (kind <= BACKUP_END_FAILED)
        return end(look.backup_flight, ends[kind - BACKUP_END_DONE], at, false);
    if (kind == END_AGAIN)
        return end_again(at);
    times_of(&look, times);
    return pass_until(times[due[kind]]);
}

static void tell_operation(FILE *out, const struct reeve_operation *operation, const struct flight *flight)
{
    if (operation_exists(operation))
        fprintf(out, " (%s, attempt %d%s)", reeve_operation_kind_name(operation->kind), (int)operation->attempt,
                operation->retry_at_ms ? ", in its pause" : "");
    if (flight)
        fprintf(out, " [%s in flight%s]", reeve_operation_kind_name(flight->task.kind),
                flight->cancelling ? ", told to give up" : "");
}

void life_tell(FILE *out)
{
    arena_reset(&scratch);
    for (unsigned i = 0; i < options.services; i++) {
        const struct look look = look_at(i);
        fprintf(out, "%s%u %s", i ? "; " : "", i + 1, reeve_service_state_name(state_of(i, &look)));
        tell_operation(out, &look.service.operation, look.flight);
        if (look.has_backup) {
            fprintf(out, ", backup %s", reeve_backup_state_name(look.backup.state));
            tell_operation(out, &look.backup.operation, look.backup_flight);
        }
    }
    fprintf(out, "\n");
}
