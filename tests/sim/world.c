/* The engine's side of a run, and the comparison of what it did with what the model says. */
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backup.h"
#include "catalogue.h"
#include "core.h"
#include "flight.h"
#include "password.h"
#include "service.h"
#include "sim.h"

#define TASKS_MAX 256
#define PAST_MAX 64
#define INPUTS_MAX 8
#define SEALED_MAX 2
#define KEPT_MAX (2 * INPUTS_MAX)
#define START_MS UINT64_C(1700000000000)
#define DRAIN_ROUNDS_MAX 400

/* An attempt that the provisioner has. */
struct task {
    struct reeve_uuid operation_id, slot_id;
    enum reeve_operation_kind kind;
    uint64_t attempt, desired, started_mono_ms;
    bool cancelled;
    uint64_t cancelled_mono_ms;
};

/* One batch: reports come first, then requests, as in the engine. */
struct inputs {
    struct report reports[4 * INPUTS_MAX];
    uint64_t desired[4 * INPUTS_MAX];
    bool counts[4 * INPUTS_MAX]; /* the engine has that attempt in flight: else it asks for it (again) later */
    unsigned reports_count;
    struct command commands[INPUTS_MAX];
    struct reeve_request requests[INPUTS_MAX];
    unsigned requests_count;
    /* memory of the requests */
    char texts[INPUTS_MAX][4][64];
    struct reeve_access_entry entries[INPUTS_MAX][2][3];
    char sources[INPUTS_MAX][2][3][32];
};

/* A batch that is sealed, and not settled yet. */
struct sealed_batch {
    struct inputs inputs;
    struct core_batch batch;
    struct model model; /* with it */
    uint64_t sequence;  /* of its last event */
    struct arena arena;
};

enum fault { FAULT_NONE, FAULT_BATCH, FAULT_FLUSH, FAULT_CHECKPOINT, FAULTS };

struct world {
    char directory[64];
    struct core core;
    struct store *store;
    struct catalogue *catalogue;
    struct arena arena;
    uint64_t now_ms, mono_ms, random;
    struct reeve_uuid organizations[SIM_ORGANIZATIONS + 1]; /* the last one does not exist */
    struct model durable, model, next; /* as of the last durable batch; of the last sealed one; with this one */
    struct sealed_batch sealed[SEALED_MAX];
    unsigned sealed_count;
    struct task tasks[TASKS_MAX];
    unsigned tasks_count;
    struct task past[PAST_MAX]; /* of which an answer may still come */
    unsigned past_count;
    uint64_t sequence, durable_sequence; /* of the last event that was compared, and that is durable */
    struct report kept[KEPT_MAX];        /* reports of a batch that failed: they come again */
    uint64_t kept_desired[KEPT_MAX];
    bool kept_counts[KEPT_MAX];
    unsigned kept_count;
    enum crash_point crash;
    enum fault fault;
    unsigned failing_checkpoints; /* those of so many batches more */
    bool in_batch, reading;
    struct store_read read;
};

static struct world world;
bool sim_trace;

__attribute__((format(printf, 1, 2))) static void trace(const char *format, ...)
{
    va_list arguments;
    if (!sim_trace)
        return;
    va_start(arguments, format);
    printf("%10llu.%03llu  ", (unsigned long long)(world.now_ms / 1000 % 10000000),
           (unsigned long long)(world.now_ms % 1000));
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}
static jmp_buf out_of_run;
static char failure_text[600];

void sim_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure_text, sizeof failure_text, format, arguments);
    va_end(arguments);
    longjmp(out_of_run, 1);
}

uint64_t sim_random(uint64_t *state)
{
    uint64_t x = (*state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* ---- The provisioner ---- */

static void on_start(void *arg, struct flight *flight)
{
    (void)arg;
    const struct m_operation *operation = model_operation(&world.durable, &flight->task.operation_id);
    trace("started: %s, attempt %llu", reeve_operation_kind_name(flight->task.kind),
          (unsigned long long)flight->task.attempt);
    coverage->tasks++;
    SIM_REQUIRE(operation, "an attempt at %s was started that nothing waits for",
                reeve_operation_kind_name(flight->task.kind));
    SIM_REQUIRE(operation->kind == flight->task.kind && operation->attempt == flight->task.attempt,
                "attempt %llu at %s was started, not attempt %llu at %s", (unsigned long long)flight->task.attempt,
                reeve_operation_kind_name(flight->task.kind), (unsigned long long)operation->attempt,
                reeve_operation_kind_name(operation->kind));
    SIM_REQUIRE(!operation->pauses, "an attempt was started in its pause");
    for (unsigned i = 0; i < PAST_MAX; i++)
        SIM_REQUIRE(memcmp(&world.past[i].operation_id, &flight->task.operation_id, 16) != 0 ||
                        world.past[i].attempt != flight->task.attempt || world.past[i].desired == flight->task.desired,
                    "the same attempt is told to bring about %llu, and was told %llu",
                    (unsigned long long)flight->task.desired, (unsigned long long)world.past[i].desired);
    for (unsigned i = 0; i < world.tasks_count; i++)
        SIM_REQUIRE(memcmp(&world.tasks[i].slot_id, &flight->slot_id, 16) != 0,
                    "two attempts at once for one service: %s while %s is under way",
                    reeve_operation_kind_name(flight->task.kind), reeve_operation_kind_name(world.tasks[i].kind));
    SIM_REQUIRE(world.tasks_count < TASKS_MAX, "more attempts than there is room for");
    world.tasks[world.tasks_count++] = (struct task){.operation_id = flight->task.operation_id,
                                                     .slot_id = flight->slot_id,
                                                     .kind = flight->task.kind,
                                                     .attempt = flight->task.attempt,
                                                     .desired = flight->task.desired,
                                                     .started_mono_ms = world.mono_ms};
}

static void on_cancel(void *arg, struct flight *flight)
{
    (void)arg;
    trace("cancelled: %s, attempt %llu", reeve_operation_kind_name(flight->task.kind),
          (unsigned long long)flight->task.attempt);
    for (unsigned i = 0; i < world.tasks_count; i++) {
        if (memcmp(&world.tasks[i].operation_id, &flight->task.operation_id, 16) == 0 && !world.tasks[i].cancelled) {
            world.tasks[i].cancelled = true;
            world.tasks[i].cancelled_mono_ms = world.mono_ms;
        }
    }
}

static void remember(const struct task *task)
{
    world.past[world.past_count++ % PAST_MAX] = *task;
}

static void drop_task(unsigned index)
{
    remember(&world.tasks[index]);
    world.tasks[index] = world.tasks[--world.tasks_count];
}

/* ---- Opening and dying ---- */

static void set_limits(struct reeve_limits *limits)
{
    for (unsigned i = 0; i < schema_options_count; i++)
        memcpy((char *)limits + schema_options[i].offset, &schema_options[i].preset, sizeof(uint64_t));
    limits->operation_attempts_max = SIM_ATTEMPTS_MAX;
    limits->operation_timeout_ms = SIM_TIMEOUT_MS;
    limits->operation_total_ms = 604800000;
    limits->cancel_grace_ms = SIM_GRACE_MS;
    limits->retry_min_ms = SIM_RETRY_MIN_MS;
    limits->retry_max_ms = SIM_RETRY_MAX_MS;
    limits->restart_min_ms = SIM_RESTART_MIN_MS;
    limits->restart_max_ms = SIM_RESTART_MAX_MS;
    limits->restart_reset_ms = SIM_RESTART_RESET_MS;
    limits->backups_per_service = SIM_BACKUPS_PER_SERVICE;
    limits->idempotency_ms = SIM_IDEMPOTENCY_MS;
    limits->overdue_per_second = 1000000;
    limits->map_initial_bytes = 1 << 20;      /* it has to grow */
    limits->journal_segment_bytes = 32 << 10; /* a few batches */
    limits->journal_max_bytes = 192 << 10;
    limits->table_max_bytes = 256 << 10;
}

static void open_core(void)
{
    struct reeve_error error = {0};
    struct core *core = &world.core;
    *core = (struct core){0};
    set_limits(&core->limits);
    const struct store_options options = {.directory = world.directory,
                                          .map_initial_bytes = core->limits.map_initial_bytes,
                                          .map_max_bytes = core->limits.map_max_bytes,
                                          .journal_segment_bytes = core->limits.journal_segment_bytes,
                                          .journal_max_bytes = core->limits.journal_max_bytes,
                                          .table_max_bytes = core->limits.table_max_bytes,
                                          .single_threaded = true};
    SIM_REQUIRE(store_open(&options, &world.store, &error) == 0, "the store cannot be opened: %s", error.message);
    core->store = world.store;
    core->catalogue = world.catalogue;
    core->endpoint_domain = reeve_str("sim");
    core->hooks = (struct core_hooks){.has_provisioner = true,
                                      .password_forms = 1U << REEVE_PASSWORD_FORM_SHA_256,
                                      .start = on_start,
                                      .cancel = on_cancel};
    SIM_REQUIRE(core_init(core, world.now_ms, &error) == 0, "the core cannot be opened: %s", error.message);
}

static void close_core(void)
{
    if (world.in_batch)
        store_abort(world.store);
    world.in_batch = false;
    core_deinit(&world.core);
    store_abandon(world.store);
    world.store = NULL;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

/* ---- Commands into requests ---- */

static const char *const names[] = {NULL, "one", "two", "a name", "name-4", "N5", "not/allowed"};
static const char *const regions[] = {"us-east-1", "eu-west-1", "nowhere"};
static const char hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static struct reeve_access_entry_list list_of(struct inputs *inputs, unsigned at, unsigned which,
                                              const unsigned *sources, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char *text = inputs->sources[at][which][i];
        snprintf(text, 32, "10.0.%u.0/24", sources[i]);
        inputs->entries[at][which][i] = (struct reeve_access_entry){.source = reeve_str(text)};
    }
    return (struct reeve_access_entry_list){count ? inputs->entries[at][which] : NULL, count};
}

static struct reeve_uuid service_id_of(const struct command *command)
{
    static const struct reeve_uuid nobody = {{9}};
    return command->service >= 0 ? world.model.services[command->service].id : nobody;
}

static struct reeve_uuid backup_id_of(const struct command *command)
{
    static const struct reeve_uuid nothing = {{0}}, nobody = {{8}};
    return command->backup == -2 ? nothing : command->backup >= 0 ? world.model.backups[command->backup].id : nobody;
}

static struct reeve_str password_of(const struct command *command)
{
    return command->password == 0 ? (struct reeve_str){0} : reeve_str(command->password == 1 ? hash : "no hash");
}

static void fill_create(struct inputs *inputs, unsigned at, const struct command *command,
                        struct reeve_service_create_params *params)
{
    *params = (struct reeve_service_create_params){
        .organization_id = world.organizations[command->organization],
        .name = reeve_str(names[command->name]),
        .provider = reeve_str("aws"),
        .region = reeve_str(regions[command->region]),
        .tier = (enum reeve_tier)command->tier,
        .min_total_memory_gb = command->min_gb,
        .max_total_memory_gb = command->max_gb,
        .idle_scaling = command->idle == 2,
        .idle_timeout_minutes = command->idle_minutes,
        .ip_access_list = list_of(inputs, at, 0, command->add, command->add_count),
        .backup_id = backup_id_of(command),
        .password_hash = password_of(command)};
    if (command->idle == 1)
        params->given |= REEVE_GIVEN_SERVICE_CREATE_IDLE_SCALING;
}

static void fill_scale(const struct command *command, struct reeve_service_scale_params *params)
{
    *params = (struct reeve_service_scale_params){.organization_id = world.organizations[command->organization],
                                                  .service_id = service_id_of(command),
                                                  .min_total_memory_gb = command->min_gb,
                                                  .max_total_memory_gb = command->max_gb,
                                                  .idle_scaling = command->idle == 2,
                                                  .idle_timeout_minutes = command->idle_minutes};
    if (command->idle == 1)
        params->given |= REEVE_GIVEN_SERVICE_SCALE_IDLE_SCALING;
}

static void fill_request(struct inputs *inputs, unsigned at)
{
    const struct command *command = &inputs->commands[at];
    struct reeve_request *request = &inputs->requests[at];
    const struct reeve_uuid organization_id = world.organizations[command->organization],
                            service_id = service_id_of(command);
    *request = (struct reeve_request){.command = command->kind, .actor = reeve_str("sim")};
    switch ((int)command->kind) {
    case REEVE_COMMAND_SERVICE_CREATE:
        fill_create(inputs, at, command, &request->params.service_create);
        break;
    case REEVE_COMMAND_SERVICE_UPDATE:
        request->params.service_update = (struct reeve_service_update_params){
            .organization_id = organization_id,
            .service_id = service_id,
            .name = reeve_str(names[command->name]),
            .ip_access_list = {.add = list_of(inputs, at, 0, command->add, command->add_count),
                               .remove = list_of(inputs, at, 1, command->remove, command->remove_count)}};
        break;
    case REEVE_COMMAND_SERVICE_SCALE:
        fill_scale(command, &request->params.service_scale);
        break;
    case REEVE_COMMAND_SERVICE_SET_PASSWORD:
        request->params.service_set_password = (struct reeve_service_set_password_params){
            .organization_id = organization_id, .service_id = service_id, .password_hash = password_of(command)};
        break;
    case REEVE_COMMAND_SERVICE_HEALTH_LOST:
        request->params.service_health = (struct reeve_service_health_params){.organization_id = organization_id,
                                                                              .service_id = service_id};
        break;
    case REEVE_COMMAND_BACKUP_DELETE:
        request->params.backup = (struct reeve_backup_params){
            .organization_id = organization_id,
            .service_id = command->backup >= 0 ? world.model.backups[command->backup].service_id : service_id,
            .backup_id = backup_id_of(command)};
        break;
    default:
        request->params.service = (struct reeve_service_params){.organization_id = organization_id,
                                                                .service_id = service_id};
        break;
    }
    request->meta.if_generation = command->generation;
    if (command->key) {
        snprintf(inputs->texts[at][0], sizeof inputs->texts[at][0], "key-%u", command->key);
        request->meta.idempotency_key = reeve_str(inputs->texts[at][0]);
    }
    password_prepare(request, world.core.hooks.password_forms);
}

/* ---- Steps into commands ---- */

static const struct {
    enum reeve_command kind;
    unsigned weight;
} weights[] = {
    {REEVE_COMMAND_SERVICE_CREATE, 14},      {REEVE_COMMAND_SERVICE_UPDATE, 8}, {REEVE_COMMAND_SERVICE_SCALE, 8},
    {REEVE_COMMAND_SERVICE_SET_PASSWORD, 6}, {REEVE_COMMAND_SERVICE_START, 10}, {REEVE_COMMAND_SERVICE_STOP, 12},
    {REEVE_COMMAND_SERVICE_AWAKE, 6},        {REEVE_COMMAND_SERVICE_DELETE, 8}, {REEVE_COMMAND_SERVICE_ACTIVITY, 8},
    {REEVE_COMMAND_SERVICE_HEALTH_LOST, 6},  {REEVE_COMMAND_BACKUP_CREATE, 10}, {REEVE_COMMAND_BACKUP_DELETE, 4},
};

static enum reeve_command pick_kind(uint32_t word)
{
    unsigned total = 0, at;
    for (unsigned i = 0; i < sizeof weights / sizeof weights[0]; i++)
        total += weights[i].weight;
    at = word % total;
    for (unsigned i = 0;; i++) {
        if (at < weights[i].weight)
            return weights[i].kind;
        at -= weights[i].weight;
    }
}

/* The n-th of those that exist, now and then none. */
static int pick_service(uint32_t word)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++)
        count += world.model.services[i].exists;
    if (count == 0 || word % 32 == 0)
        return -1;
    unsigned at = word / 32 % count;
    for (int i = 0;; i++) {
        if (world.model.services[i].exists && at-- == 0)
            return i;
    }
}

static int pick_backup(uint32_t word)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SIM_BACKUPS_MAX; i++)
        count += world.model.backups[i].exists;
    if (count == 0 || word % 16 == 0)
        return -1;
    unsigned at = word / 16 % count;
    for (int i = 0;; i++) {
        if (world.model.backups[i].exists && at-- == 0)
            return i;
    }
}

static unsigned pick_memory(uint32_t word)
{
    static const unsigned sizes[] = {0, 0, 0, 24, 48, 96, 360, 372, 720, 732, 12, 25};
    return sizes[word % (sizeof sizes / sizeof sizes[0])];
}

static unsigned pick_sources(uint32_t word, unsigned ret_sources[3])
{
    const unsigned count = word % 8 < 4 ? 0 : word % 8 - 4;
    for (unsigned i = 0; i < count; i++)
        ret_sources[i] = word >> (8 + 4 * i) & 0xf ? (word >> (8 + 4 * i)) % SIM_SOURCES : 0;
    return count;
}

static uint64_t fingerprint_of(const struct command *command)
{
    const unsigned char *bytes = (const unsigned char *)command;
    const struct reeve_uuid ids[] = {service_id_of(command), backup_id_of(command)}; /* places are used again */
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof *command; i++)
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < sizeof ids; i++)
        sum = (sum ^ ((const unsigned char *)ids)[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* Only what the command has of it counts. */
static void fill_fields(struct command *command, const uint32_t *words)
{
    const bool create = command->kind == REEVE_COMMAND_SERVICE_CREATE,
               change = command->kind == REEVE_COMMAND_SERVICE_UPDATE;
    if (create || change) {
        command->name = words[2] % 24 == 0 ? 6 : create ? 1 + words[2] % 5 : words[2] % 6;
        command->add_count = pick_sources(words[3], command->add);
        command->remove_count = change ? pick_sources(words[3] >> 3, command->remove) : 0;
    }
    if (create || command->kind == REEVE_COMMAND_SERVICE_SCALE) {
        command->min_gb = pick_memory(words[4]);
        command->max_gb = pick_memory(words[4] >> 8);
        command->idle = words[4] >> 16 & 7 ? 0 : 1 + (words[4] >> 20) % 2;
        command->idle_minutes = words[4] >> 24 & 3 ? 0 : 5 + (words[4] >> 26) % 20;
    }
    if (create) {
        command->tier = words[5] % 4 == 0 ? REEVE_TIER_DEVELOPMENT : REEVE_TIER_PRODUCTION;
        command->region = words[5] >> 2 & 15 ? words[5] >> 6 & 1 : 2;
    }
    if (create || command->kind == REEVE_COMMAND_SERVICE_SET_PASSWORD)
        command->password = words[5] >> 8 & 3 ? 0 : 1 + (words[5] >> 10 & 3 ? 0 : 1);
}

static void aim(struct command *command, const uint32_t *words)
{
    command->service = command->backup = -1;
    if (command->kind == REEVE_COMMAND_SERVICE_CREATE) {
        command->organization = words[1] % 40 == 0 ? SIM_ORGANIZATIONS : words[1] % SIM_ORGANIZATIONS;
        command->backup = words[1] >> 8 & 3 ? -2 : pick_backup(words[1] >> 10);
        if (command->backup >= 0 && words[5] >> 20 & 7) { /* mostly one that fits */
            const struct m_backup *backup = &world.model.backups[command->backup];
            command->organization = backup->organization;
            command->region = backup->region;
            command->tier = backup->tier;
        }
        return;
    }
    if (command->kind == REEVE_COMMAND_BACKUP_DELETE) {
        command->backup = pick_backup(words[1]);
        command->organization = command->backup >= 0 ? world.model.backups[command->backup].organization : 0;
    } else {
        command->service = pick_service(words[1]);
        command->organization = command->service >= 0 ? world.model.services[command->service].organization : 0;
    }
    if ((words[5] >> 24) % 32 == 0) /* somebody else's */
        command->organization = (command->organization + 1) % (SIM_ORGANIZATIONS + 1);
}

static bool has_generation(enum reeve_command kind)
{
    return kind != REEVE_COMMAND_SERVICE_CREATE && kind != REEVE_COMMAND_BACKUP_CREATE;
}

static void make_command(struct command *command, const uint32_t *words)
{
    memset(command, 0, sizeof *command);
    command->kind = pick_kind(words[0]);
    if (command->kind == REEVE_COMMAND_SERVICE_CREATE && model_is_full(&world.model))
        command->kind = REEVE_COMMAND_SERVICE_STOP;
    fill_fields(command, words);
    aim(command, words);
    command->fingerprint = fingerprint_of(command);
    command->key = words[0] >> 16 & 3 || world.model.keys_count + INPUTS_MAX >= SIM_KEYS_MAX
                       ? 0
                       : 1 + (words[0] >> 18) % 12;
    if (has_generation(command->kind) && (words[0] >> 24) % 8 == 0) {
        const uint64_t now = command->kind == REEVE_COMMAND_BACKUP_DELETE
                                 ? (command->backup >= 0 ? world.model.backups[command->backup].generation : 1)
                                 : (command->service >= 0 ? world.model.services[command->service].generation : 1);
        command->generation = now > 1 && words[0] >> 28 & 1 ? now - 1 : now;
    }
}

static enum reeve_outcome_status pick_status(uint32_t word)
{
    const unsigned at = word % 20;
    return at < 14 ? REEVE_OUTCOME_STATUS_DONE : at < 18 ? REEVE_OUTCOME_STATUS_RETRY : REEVE_OUTCOME_STATUS_FAILED;
}

static void add_report(struct inputs *inputs, const struct task *task, enum reeve_outcome_status status, bool counts)
{
    inputs->counts[inputs->reports_count] = counts;
    inputs->desired[inputs->reports_count] = task->desired;
    inputs->reports[inputs->reports_count++] = (struct report){
        .operation_id = task->operation_id,
        .attempt = task->attempt,
        .outcome = {.status = status, .code = reeve_str("sim"), .size_bytes = 7}};
}

/* One that is under way, or one of before: late, twice, or after it was cancelled. */
static void add_outcome(struct inputs *inputs, const uint32_t *words)
{
    const unsigned past = world.past_count < PAST_MAX ? world.past_count : PAST_MAX;
    if (past && (words[0] % 8 == 0 || world.tasks_count == 0)) {
        const struct task old = world.past[words[1] % past];
        bool again = false; /* the same attempt was asked for again after a crash */
        for (unsigned i = world.tasks_count; i-- > 0;) {
            if (memcmp(&world.tasks[i].operation_id, &old.operation_id, 16) != 0 ||
                world.tasks[i].attempt != old.attempt)
                continue;
            again = true;
            drop_task(i);
        }
        add_report(inputs, &old, pick_status(words[2]), again);
    } else if (world.tasks_count) {
        const unsigned index = words[1] % world.tasks_count;
        const enum reeve_outcome_status status = world.tasks[index].cancelled && words[3] & 1
                                                     ? REEVE_OUTCOME_STATUS_CANCELLED
                                                     : pick_status(words[2]);
        add_report(inputs, &world.tasks[index], status, true);
        drop_task(index);
    }
}

/* ---- Comparing ---- */

static bool read_record(struct store_read *read, enum store_table table, const struct store_key *key,
                        const struct record_type *type, void *ret_record)
{
    struct reeve_str value;
    if (!store_read_get(read, table, key, &value))
        return false;
    SIM_REQUIRE(codec_decode_stored(type, value.data, value.size, &world.arena, ret_record) == 0,
                "a record cannot be read");
    return true;
}

/* What the engine has drawn is learned, after a look whether it could be. */
static void compare_operation(struct m_operation *wanted, const struct reeve_operation *found, const char *of)
{
    SIM_REQUIRE(wanted->kind == found->kind, "%s: its operation is '%s', not '%s'", of,
                found->kind ? reeve_operation_kind_name(found->kind) : "none",
                wanted->kind ? reeve_operation_kind_name(wanted->kind) : "none");
    if (wanted->kind == REEVE_OPERATION_KIND_UNSET)
        return;
    SIM_REQUIRE(wanted->attempt == found->attempt, "%s: attempt %llu, not %llu", of, (unsigned long long)found->attempt,
                (unsigned long long)wanted->attempt);
    SIM_REQUIRE(wanted->is_new != (memcmp(&wanted->id, &found->id, 16) == 0), "%s: %s", of,
                wanted->is_new ? "a new operation has the id of another one" : "its operation has another id now");
    SIM_REQUIRE(wanted->pauses == (found->retry_at_ms != 0), "%s: its operation %s", of,
                wanted->pauses ? "should wait" : "waits and should not");
    if (wanted->pauses && wanted->retry_at_ms == 0) {
        SIM_REQUIRE(found->retry_at_ms >= wanted->retry_low_ms && found->retry_at_ms <= wanted->retry_high_ms,
                    "%s: the pause ends at %llu, not from %llu to %llu", of, (unsigned long long)found->retry_at_ms,
                    (unsigned long long)wanted->retry_low_ms, (unsigned long long)wanted->retry_high_ms);
        wanted->retry_at_ms = found->retry_at_ms;
    }
    SIM_REQUIRE(!wanted->pauses || wanted->retry_at_ms == found->retry_at_ms, "%s: its pause has moved", of);
    wanted->id = found->id;
    wanted->is_new = false;
}

static void compare_lists(const struct m_service *wanted, const struct reeve_service *found, const char *of)
{
    char source[32];
    SIM_REQUIRE(wanted->sources_count == found->ip_access_list.count, "%s: %zu entries in its access list, not %u", of,
                found->ip_access_list.count, wanted->sources_count);
    for (unsigned i = 0; i < wanted->sources_count; i++) {
        const struct reeve_str text = found->ip_access_list.items[i].source;
        snprintf(source, sizeof source, "10.0.%u.0/24", wanted->sources[i]);
        SIM_REQUIRE(text.size == strlen(source) && memcmp(text.data, source, text.size) == 0,
                    "%s: entry %u of its access list is %.*s, not %s", of, i, (int)text.size, text.data, source);
    }
}

#define SAME(field, wanted_value, found_value)                                                                         \
    SIM_REQUIRE((uint64_t)(wanted_value) == (uint64_t)(found_value), "%s: " field " is %llu, not %llu", of,            \
                (unsigned long long)(found_value), (unsigned long long)(wanted_value))

static void compare_times(struct m_service *wanted, const struct reeve_service *found, const char *of)
{
    SAME("idleAt", wanted->idle_at_ms, found->idle_at_ms);
    if (wanted->backup_drawn) {
        SIM_REQUIRE(found->backup_at_ms >= wanted->backup_low_ms &&
                        found->backup_at_ms < wanted->backup_low_ms + 9 * UINT64_C(60000),
                    "%s: a backup that was missed is due at %llu", of, (unsigned long long)found->backup_at_ms);
        wanted->backup_at_ms = found->backup_at_ms;
        wanted->backup_drawn = false;
    }
    SAME("nextBackupAt", wanted->backup_at_ms, found->backup_at_ms);
}

static void compare_service(struct store_read *read, struct m_service *wanted, int place)
{
    struct reeve_service record, *found = &record;
    char of[40];
    const struct store_key key = key_pair(&world.organizations[wanted->organization], &wanted->id);
    snprintf(of, sizeof of, "service %d", place);
    SIM_REQUIRE(read_record(read, TABLE_SERVICES, &key, &record_type_service, found), "%s is not there", of);
    SIM_REQUIRE(wanted->state == (unsigned)found->state, "%s is %s, not %s", of, reeve_service_state_name(found->state),
                reeve_service_state_name((enum reeve_service_state)wanted->state));
    SAME("generation", wanted->generation, found->generation);
    SAME("desired", wanted->desired, found->desired);
    SAME("applied", wanted->applied, found->applied);
    SAME("provisioned", wanted->provisioned, found->provisioned);
    SAME("the memory of a replica at least", wanted->min_gb, found->min_replica_memory_gb);
    SAME("the memory of a replica at most", wanted->max_gb, found->max_replica_memory_gb);
    SAME("idleScaling", wanted->idle_scaling, found->idle_scaling);
    SAME("idleTimeoutMinutes", wanted->idle_minutes, found->idle_timeout_minutes);
    SAME("backupCount", wanted->backup_count, found->backup_count);
    SAME("restarts", wanted->restarts, found->restarts);
    SAME("lostAt", wanted->lost_ms, found->lost_ms);
    SAME("name", strlen(names[wanted->name]), found->name.size);
    SIM_REQUIRE(memcmp(names[wanted->name], found->name.data, found->name.size) == 0, "%s has another name", of);
    SIM_REQUIRE((wanted->current_backup >= 0) != reeve_uuid_is_nil(&found->current_backup),
                "%s: whether a backup is in progress", of);
    compare_lists(wanted, found, of);
    compare_times(wanted, found, of);
    compare_operation(&wanted->operation, &found->operation, of);
}

static void compare_backup(struct store_read *read, struct m_backup *wanted, int place)
{
    struct reeve_backup record, *found = &record;
    char of[40];
    const struct store_key key = key_pair(&wanted->service_id, &wanted->id);
    snprintf(of, sizeof of, "backup %d", place);
    SIM_REQUIRE(read_record(read, TABLE_BACKUPS, &key, &record_type_backup, found), "%s is not there", of);
    SAME("state", wanted->state, found->state);
    SAME("generation", wanted->generation, found->generation);
    SAME("expiresAt", wanted->expires_ms, found->expires_ms);
    SAME("restores", wanted->restores, found->restores);
    compare_operation(&wanted->operation, &found->operation, of);
}

static bool is_of(const struct m_event *wanted, const struct reeve_event *found)
{
    if (wanted->backup >= 0)
        return memcmp(&world.next.backups[wanted->backup].id, &found->object_id, 16) == 0;
    return memcmp(&world.next.services[wanted->service].id, &found->service_id, 16) == 0 &&
           (found->type == REEVE_EVENT_TYPE_BACKUP_CREATE || reeve_uuid_is_nil(&found->object_id));
}

static bool on_event(void *arg, const struct store_item *item)
{
    struct reeve_event event;
    (void)arg;
    SIM_REQUIRE(get_be64(item->key) == world.sequence + 1, "event %llu is missing",
                (unsigned long long)world.sequence + 1);
    SIM_REQUIRE(codec_decode_stored(&record_type_event, item->value, item->value_size, &world.arena, &event) == 0,
                "an event cannot be read");
    world.sequence++;
    for (unsigned i = 0; i < world.next.events_count; i++) {
        struct m_event *wanted = &world.next.events[i];
        if (wanted->type == REEVE_EVENT_TYPE_UNSET || !is_of(wanted, &event))
            continue;
        SIM_REQUIRE(wanted->type == (unsigned)event.type, "the event is '%s', not '%s'",
                    reeve_event_type_name(event.type), reeve_event_type_name((enum reeve_event_type)wanted->type));
        SIM_REQUIRE(wanted->backup >= 0 || (wanted->from == (unsigned)event.from && wanted->to == (unsigned)event.to),
                    "the event '%s' is told from %s to %s", reeve_event_type_name(event.type),
                    reeve_service_state_name(event.from), reeve_service_state_name(event.to));
        wanted->type = REEVE_EVENT_TYPE_UNSET;
        return true;
    }
    sim_fail("an event that nothing explains: %s", reeve_event_type_name(event.type));
}

static void compare_events(struct store_read *read)
{
    const struct store_key from = key_number(world.sequence + 1);
    store_read_each(read, TABLE_EVENTS, &from, false, on_event, NULL);
    for (unsigned i = 0; i < world.next.events_count; i++)
        SIM_REQUIRE(world.next.events[i].type == REEVE_EVENT_TYPE_UNSET, "the event '%s' was not told",
                    reeve_event_type_name((enum reeve_event_type)world.next.events[i].type));
    world.next.events_count = 0;
}

/* Backups that the schedule made: nobody was told their ids but by the record of their service. */
static void learn_backups(struct store_read *read)
{
    struct reeve_service record;
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++) {
        const struct m_service *service = &world.next.services[i];
        struct m_backup *backup = service->exists && service->current_backup >= 0
                                      ? &world.next.backups[service->current_backup]
                                      : NULL;
        const struct store_key key = key_pair(&world.organizations[service->organization], &service->id);
        if (backup && reeve_uuid_is_nil(&backup->id) &&
            read_record(read, TABLE_SERVICES, &key, &record_type_service, &record))
            backup->id = record.current_backup;
    }
}

static bool on_last_event(void *arg, const struct store_item *item)
{
    *(uint64_t *)arg = get_be64(item->key);
    return false;
}

/* Readers see what is durable and nothing of what is on its way; the next batch sees that, too, and so do we. */
static void compare(void)
{
    struct store_read *read = &world.read;
    uint64_t last = 0;
    arena_reset(&world.arena);
    SIM_REQUIRE(store_read_begin(world.store, read) == 0, "the store cannot be read");
    world.reading = true;
    store_read_each(read, TABLE_EVENTS, &(struct store_key){0}, true, on_last_event, &last);
    SIM_REQUIRE(last >= world.durable_sequence, "event %llu is durable, and %llu is the last that is seen",
                (unsigned long long)world.durable_sequence, (unsigned long long)last);
    SIM_REQUIRE(last <= world.sequence, "an event is seen that is not durable");
    read->view.sequence = UINT64_MAX;
    learn_backups(read);
    compare_events(read);
    uint64_t services = 0, backups = 0;
    for (int i = 0; i < SIM_SERVICES_MAX; i++) {
        services += world.next.services[i].exists;
        if (world.next.services[i].exists)
            compare_service(read, &world.next.services[i], i);
    }
    for (int i = 0; i < SIM_BACKUPS_MAX; i++) {
        backups += world.next.backups[i].exists;
        if (world.next.backups[i].exists)
            compare_backup(read, &world.next.backups[i], i);
    }
    SIM_REQUIRE(store_read_count(read, TABLE_SERVICES) == services, "%llu services are stored, not %llu",
                (unsigned long long)store_read_count(read, TABLE_SERVICES), (unsigned long long)services);
    SIM_REQUIRE(store_read_count(read, TABLE_BACKUPS) == backups, "%llu backups are stored, not %llu",
                (unsigned long long)store_read_count(read, TABLE_BACKUPS), (unsigned long long)backups);
    SIM_REQUIRE(store_read_count(read, TABLE_IDEMPOTENCY) == world.next.keys_count,
                "%llu idempotency keys are stored, not %u",
                (unsigned long long)store_read_count(read, TABLE_IDEMPOTENCY), world.next.keys_count);
    store_read_end(read);
    world.reading = false;
}

/* ---- A batch ---- */

static void learn(const struct command *command, const struct reeve_result *result)
{
    const int place = world.next.created;
    const bool service = command->kind == REEVE_COMMAND_SERVICE_CREATE;
    const struct reeve_uuid *id = service ? &result->answer.service_created.service.id : &result->answer.backup.id;
    if (world.next.replayed) {
        coverage->replays++;
        SIM_REQUIRE(result->replayed, "an answer was not given again");
        SIM_REQUIRE(reeve_uuid_is_nil(&world.next.replayed_object) || memcmp(id, &world.next.replayed_object, 16) == 0,
                    "an answer that was given again names another thing");
        return;
    }
    SIM_REQUIRE(!result->replayed, "an answer was given again that was not given before");
    if (place < 0)
        return;
    if (service)
        world.next.services[place].id = *id;
    else
        world.next.backups[place].id = *id;
    if (command->key)
        world.next.keys[world.next.keys_count - 1].object = *id;
}

static void apply(struct inputs *inputs)
{
    struct core *core = &world.core;
    world.next = world.model;
    world.next.now_ms = world.now_ms;
    for (unsigned i = 0; i < inputs->reports_count; i++) {
        trace("outcome %s of attempt %llu", reeve_outcome_status_name(inputs->reports[i].outcome.status),
              (unsigned long long)inputs->reports[i].attempt);
        if (inputs->counts[i])
            model_outcome(&world.next, &inputs->reports[i].operation_id, inputs->reports[i].attempt, inputs->desired[i],
                          inputs->reports[i].outcome.status);
        else
            coverage->stale_outcomes++;
        core_report(core, &inputs->reports[i]);
    }
    for (unsigned i = 0; i < inputs->requests_count; i++) {
        const struct command *command = &inputs->commands[i];
        const int wanted = model_command(&world.next, command);
        const struct reeve_result *result = core_request(core, &inputs->requests[i]);
        trace("%s of service %d, backup %d: %s", schema_command(command->kind)->name, command->service, command->backup,
              wanted ? reeve_error_name(wanted) : "done");
        SIM_REQUIRE(result && (int)result->error.code == wanted, "%s was answered with %s (%s), not with %s",
                    schema_command(command->kind)->name, reeve_error_name((int)result->error.code),
                    result->error.message, reeve_error_name(wanted));
        coverage->errors[wanted]++;
        if (wanted == 0)
            learn(command, result);
    }
}

/* Attempts whose time is up count as to be tried again, and are cancelled. */
static void time_out(void)
{
    for (unsigned i = 0; i < world.tasks_count; i++) {
        const struct task *task = &world.tasks[i];
        if (!task->cancelled && task->started_mono_ms + SIM_TIMEOUT_MS <= world.mono_ms)
            model_outcome(&world.next, &task->operation_id, task->attempt, task->desired, REEVE_OUTCOME_STATUS_RETRY);
    }
}

/* The engine waits no longer for attempts that were cancelled long ago. */
static void give_up_cancelled(void)
{
    for (unsigned i = world.tasks_count; i-- > 0;) {
        if (world.tasks[i].cancelled && world.tasks[i].cancelled_mono_ms + SIM_GRACE_MS <= world.mono_ms)
            drop_task(i);
    }
}

static void die(enum crash_point point);

static bool dies(enum crash_point point)
{
    if (world.crash != point)
        return false;
    die(point);
    return true;
}

#define DIED 1000

/* Writes fail, whoever makes them. */
static void spoil_writes(bool spoilt)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = spoilt ? 0 : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* A store without threads makes its checkpoints here. Where they have failed for so long that it is full, they end
 * failing. */
static int begin_batch(struct arena *arena, const uint8_t seed[CORE_SEED_SIZE])
{
    const bool fails = world.failing_checkpoints > 0 && world.failing_checkpoints--;
    spoil_writes(fails);
    int r = core_begin(&world.core, arena, world.now_ms, world.mono_ms, seed);
    spoil_writes(false);
    if (r < 0 && fails) {
        world.failing_checkpoints = 0;
        coverage->full++;
        r = core_begin(&world.core, arena, world.now_ms, world.mono_ms, seed);
    }
    return r;
}

static int make_batch(struct inputs *inputs, struct sealed_batch *sealed)
{
    struct core *core = &world.core;
    uint8_t seed[CORE_SEED_SIZE];
    for (size_t i = 0; i < sizeof seed; i += 8) {
        const uint64_t word = sim_random(&world.random);
        memcpy(seed + i, &word, 8);
    }
    arena_reset(&sealed->arena);
    SIM_REQUIRE(begin_batch(&sealed->arena, seed) == 0, "a batch cannot be begun: %s", store_failure(world.store));
    world.in_batch = true;
    apply(inputs);
    time_out();
    model_due(&world.next);
    core_due(core);
    if (dies(CRASH_IN_BATCH))
        return DIED;
    if (world.fault == FAULT_BATCH)
        core_fault(core, -REEVE_ERROR_STORE_ACCESS);
    world.in_batch = false;
    return core_seal(core, false, &sealed->batch);
}

/* Reports of a batch that has not happened come again, as the engine keeps them. */
static void keep(const struct inputs *inputs)
{
    const unsigned count = inputs->reports_count, at = world.kept_count;
    memcpy(world.kept + at, inputs->reports, count * sizeof world.kept[0]);
    memcpy(world.kept_desired + at, inputs->desired, count * sizeof world.kept_desired[0]);
    memcpy(world.kept_counts + at, inputs->counts, count * sizeof world.kept_counts[0]);
    world.kept_count += count;
}

/* An answer of before a crash, kept, that comes again when the engine has asked again meanwhile: it is the answer. */
static bool has_come_to_count(const struct report *report, struct inputs *inputs)
{
    for (unsigned i = world.tasks_count; i-- > 0;) {
        if (memcmp(&world.tasks[i].operation_id, &report->operation_id, 16) == 0 &&
            world.tasks[i].attempt == report->attempt) {
            drop_task(i);
            return true;
        }
    }
    for (unsigned i = 0; i < inputs->reports_count; i++) {
        if (inputs->counts[i] && inputs->reports[i].attempt == report->attempt &&
            memcmp(&inputs->reports[i].operation_id, &report->operation_id, 16) == 0) {
            inputs->counts[i] = false;
            return true;
        }
    }
    return false;
}

static void put_kept_first(struct inputs *inputs)
{
    for (unsigned i = 0; i < world.kept_count; i++) {
        if (!world.kept_counts[i])
            world.kept_counts[i] = has_come_to_count(&world.kept[i], inputs);
    }
    memmove(inputs->reports + world.kept_count, inputs->reports, inputs->reports_count * sizeof inputs->reports[0]);
    memmove(inputs->desired + world.kept_count, inputs->desired, inputs->reports_count * sizeof inputs->desired[0]);
    memmove(inputs->counts + world.kept_count, inputs->counts, inputs->reports_count * sizeof inputs->counts[0]);
    memcpy(inputs->counts, world.kept_counts, world.kept_count * sizeof world.kept_counts[0]);
    memcpy(inputs->reports, world.kept, world.kept_count * sizeof world.kept[0]);
    memcpy(inputs->desired, world.kept_desired, world.kept_count * sizeof world.kept_desired[0]);
    inputs->reports_count += world.kept_count;
    world.kept_count = 0;
}

/* Would the reports of all that is under way find room if they came again? */
static bool may_fail(const struct inputs *inputs)
{
    unsigned count = inputs->reports_count;
    for (unsigned i = 0; i < world.sealed_count; i++)
        count += world.sealed[i].inputs.reports_count;
    return count <= KEPT_MAX;
}

/* What is durable of the sealed batches; the rest has not happened. */
static void take_durable(uint64_t number)
{
    unsigned count = 0;
    while (count < world.sealed_count && world.sealed[count].batch.number <= number)
        count++;
    if (count) {
        world.durable = world.sealed[count - 1].model;
        world.durable_sequence = world.sealed[count - 1].sequence;
    }
}

/* Answers, events, effects. */
static bool finish_batch(uint64_t durable)
{
    struct sealed_batch *sealed = &world.sealed[0];
    core_settle(&world.core, &sealed->batch);
    SIM_REQUIRE(world.core.durable.sequence == sealed->sequence, "after a batch the newest event is %llu, not %llu",
                (unsigned long long)world.core.durable.sequence, (unsigned long long)sealed->sequence);
    if (dies(CRASH_BEFORE_REPLY) || dies(CRASH_BEFORE_DISPATCH))
        return false;
    give_up_cancelled();
    core_dispatch_batch(&world.core, &sealed->batch, durable);
    if (dies(CRASH_AFTER_DISPATCH))
        return false;
    const struct arena arena = sealed->arena;
    memmove(sealed, sealed + 1, (SEALED_MAX - 1) * sizeof *sealed);
    world.sealed[SEALED_MAX - 1].arena = arena;
    world.sealed_count--;
    return true;
}

static void roll_back(void)
{
    trace("flushing fails: %u batches have not happened", world.sealed_count);
    coverage->roll_backs++;
    core_roll_back(&world.core);
    for (unsigned i = 0; i < world.sealed_count; i++)
        keep(&world.sealed[i].inputs);
    world.sealed_count = 0;
    world.model = world.durable;
    world.sequence = world.durable_sequence;
}

/* False where the process dies of it. */
static bool settle(void)
{
    uint64_t durable;
    if (world.sealed_count == 0)
        return true;
    const int r = store_settle(world.store, &durable);
    take_durable(durable);
    while (world.sealed_count && world.sealed[0].batch.number <= durable) {
        if (!finish_batch(durable))
            return false; /* and so does what was behind it */
    }
    SIM_REQUIRE(r == 0 || world.fault == FAULT_FLUSH, "batches could not be made durable: %s",
                store_failure(world.store));
    if (r < 0)
        roll_back();
    return true;
}

/* Until nothing is on its way; false where the process dies of it. */
static bool settle_all(void)
{
    if (!settle())
        return false;
    const bool fails = world.fault == FAULT_FLUSH && world.sealed_count;
    spoil_writes(fails);
    store_wait(world.store);
    spoil_writes(false);
    if (!settle())
        return false;
    if (fails)
        world.fault = FAULT_NONE;
    SIM_REQUIRE(world.sealed_count == 0, "a batch is neither durable nor refused");
    return true;
}

static void make_checkpoint(void)
{
    store_wait(world.store);
    spoil_writes(world.fault == FAULT_CHECKPOINT);
    const int r = store_checkpoint(world.store);
    spoil_writes(false);
    SIM_REQUIRE(r == 0 || world.fault == FAULT_CHECKPOINT, "a checkpoint has failed: %s", store_failure(world.store));
    trace("a checkpoint%s", r < 0 ? " fails" : "");
    if (r < 0)
        world.failing_checkpoints = (unsigned)(sim_random(&world.random) % 96);
    *(r < 0 ? &coverage->checkpoint_failures : &coverage->checkpoints) += 1;
    world.fault = world.fault == FAULT_CHECKPOINT ? FAULT_NONE : world.fault;
}

static bool by_chance(unsigned of)
{
    return sim_random(&world.random) % of == 0;
}

/* It has not happened; those before it may. */
static void batch_failed(const struct inputs *inputs)
{
    coverage->faults++;
    world.fault = FAULT_NONE;
    if (!settle_all())
        return;
    core_roll_back(&world.core);
    world.sequence = world.durable_sequence;
    keep(inputs);
}

static void run_batch(struct inputs *inputs)
{
    coverage->batches++;
    put_kept_first(inputs);
    if (!may_fail(inputs))
        world.fault = FAULT_NONE;
    if (dies(CRASH_BEFORE_BATCH))
        return;
    if (world.fault == FAULT_CHECKPOINT || (world.failing_checkpoints == 0 && by_chance(16)))
        make_checkpoint();
    struct sealed_batch *sealed = &world.sealed[world.sealed_count];
    const int r = make_batch(inputs, sealed);
    if (r == DIED)
        return;
    SIM_REQUIRE((r < 0) == (world.fault == FAULT_BATCH), "a batch that could %sbe made was%s",
                world.fault == FAULT_BATCH ? "not " : "", r < 0 ? " not" : "");
    if (r < 0) {
        batch_failed(inputs);
        return;
    }
    compare();
    coverage->stacked += world.sealed_count > 0;
    world.model = world.next;
    sealed->inputs = *inputs;
    sealed->model = world.next;
    sealed->sequence = world.sequence;
    world.sealed_count++;
    if (dies(CRASH_SEALED))
        return;
    if (by_chance(3))
        store_wait(world.store); /* durable, and nobody knows */
    if (world.sealed_count == SEALED_MAX || by_chance(2))
        settle_all();
}

/* What is not durable is gone; the provisioner's programs may still answer, and the engine asks again. */
static void die(enum crash_point point)
{
    static struct inputs nothing;
    uint64_t durable;
    coverage->crashes[point]++;
    trace("the process dies, at point %d", (int)point);
    coverage->restarts++;
    world.crash = CRASH_NONE;
    world.fault = FAULT_NONE;
    world.failing_checkpoints = 0;
    world.kept_count = 0;
    while (world.tasks_count)
        drop_task(0);
    if (world.in_batch)
        store_abort(world.store);
    world.in_batch = false;
    if (by_chance(2))
        store_wait(world.store);
    store_settle(world.store, &durable); /* only to know */
    take_durable(durable);
    world.sealed_count = 0;
    world.model = world.durable;
    world.sequence = world.durable_sequence;
    close_core();
    open_core();
    memset(&nothing, 0, sizeof nothing);
    run_batch(&nothing);
}

/* ---- A run ---- */

static void pass(uint32_t word)
{
    static const uint64_t spans_ms[] = {1, 50, 300, 1000, 5000, 30000, 120000, 700000, 3700000, 40000000};
    const uint64_t span_ms = spans_ms[word % (sizeof spans_ms / sizeof spans_ms[0])] + (word >> 8) % 7;
    world.now_ms += span_ms;
    world.mono_ms += word >> 16 & 15 ? span_ms : span_ms / 2; /* a clock that was set drifts */
}

static void make_organizations(void)
{
    static struct inputs inputs;
    for (unsigned i = 0; i < SIM_ORGANIZATIONS; i++) {
        struct reeve_request request = {.command = REEVE_COMMAND_ORGANIZATION_CREATE};
        uint8_t seed[CORE_SEED_SIZE] = {(uint8_t)(i + 1)};
        request.params.organization_create.name = reeve_str("sim");
        request.params.organization_create.paid = i > 0;
        request.params.organization_create.service_quota = i == 0 ? SIM_SERVICE_QUOTA : 0;
        arena_reset(&world.arena);
        SIM_REQUIRE(core_begin(&world.core, &world.arena, world.now_ms, world.mono_ms, seed) == 0, "no batch");
        const struct reeve_result *result = core_request(&world.core, &request);
        SIM_REQUIRE(result->error.code == 0, "no organization: %s", result->error.message);
        world.organizations[i] = result->answer.organization.id;
        SIM_REQUIRE(core_commit(&world.core) == 0, "no organization");
        core_dispatch(&world.core);
    }
    world.organizations[SIM_ORGANIZATIONS].bytes[0] = 7;
    world.sequence = world.durable_sequence = world.core.durable.sequence;
    memset(&inputs, 0, sizeof inputs);
    run_batch(&inputs);
}

static void add_step(struct inputs *inputs, const struct sim_step *step)
{
    coverage->steps++;
    switch (step->kind) {
    case STEP_COMMAND:
        coverage->commands++;
        make_command(&inputs->commands[inputs->requests_count], step->words);
        fill_request(inputs, inputs->requests_count++);
        break;
    case STEP_OUTCOME:
        add_outcome(inputs, step->words);
        break;
    case STEP_PASS:
        pass(step->words[0]);
        break;
    case STEP_CRASH:
        world.crash = (enum crash_point)(1 + step->words[0] % (CRASH_POINTS - 1));
        break;
    case STEP_FAULT:
        world.fault = (enum fault)(1 + step->words[0] % (FAULTS - 1));
        break;
    default:
        break;
    }
}

static void check_store(void)
{
    char path[96];
    struct reeve_error error = {0};
    struct reeve_check_summary summary;
    snprintf(path, sizeof path, "%s/copy", world.directory);
    SIM_REQUIRE(store_copy(world.store, path, &error) == 0, "the store cannot be copied: %s", error.message);
    SIM_REQUIRE(reeve_check(path, NULL, NULL, &summary, &error) == 0, "the store cannot be checked: %s", error.message);
    SIM_REQUIRE(summary.findings == 0, "the check finds %llu things wrong", (unsigned long long)summary.findings);
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    coverage->checks++;
}

/* Something that is still to be done; NULL: nothing. */
static const struct m_operation *busy(void)
{
    for (unsigned i = 0; i < SIM_SERVICES_MAX; i++) {
        if (world.model.services[i].exists && world.model.services[i].operation.kind)
            return &world.model.services[i].operation;
    }
    for (unsigned i = 0; i < SIM_BACKUPS_MAX; i++) {
        if (world.model.backups[i].exists && world.model.backups[i].operation.kind)
            return &world.model.backups[i].operation;
    }
    return NULL;
}

/* From here on everything succeeds and nobody asks for anything: all must come to rest. */
static void drain(void)
{
    static struct inputs inputs;
    trace("from here on all succeeds");
    const struct m_operation *left;
    for (unsigned round = 0; (left = busy()); round++) {
        SIM_REQUIRE(round < DRAIN_ROUNDS_MAX, "%s, attempt %llu, is never started",
                    reeve_operation_kind_name(left->kind), (unsigned long long)left->attempt);
        memset(&inputs, 0, sizeof inputs);
        while (world.tasks_count && inputs.reports_count < INPUTS_MAX) {
            add_report(&inputs, &world.tasks[0], REEVE_OUTCOME_STATUS_DONE, true);
            drop_task(0);
        }
        if (inputs.reports_count == 0) {
            world.now_ms += 1000;
            world.mono_ms += 1000;
        }
        run_batch(&inputs);
        settle_all();
    }
    settle_all();
    SIM_REQUIRE(world.core.flights.count == world.tasks_count, "%zu attempts are in flight, the provisioner has %u",
                world.core.flights.count, world.tasks_count);
}

static void run_steps(const struct sim_step *steps, size_t count, size_t *ret_at)
{
    static struct inputs inputs;
    for (size_t i = 0; i < count;) {
        memset(&inputs, 0, sizeof inputs);
        *ret_at = i;
        do
            add_step(&inputs, &steps[i++]);
        while (i < count && steps[i].joins && inputs.requests_count < INPUTS_MAX && inputs.reports_count < INPUTS_MAX);
        run_batch(&inputs);
    }
    *ret_at = count;
    world.crash = CRASH_NONE;
    world.fault = FAULT_NONE;
    world.failing_checkpoints = 0;
    drain();
    check_store();
}

void world_run(const struct sim_step *steps, size_t count, uint64_t seed, struct failure *ret_failure)
{
    static size_t at;
    struct reeve_error error;
    memset(&world, 0, sizeof world);
    memset(ret_failure, 0, sizeof *ret_failure);
    snprintf(world.directory, sizeof world.directory, "/dev/shm/reeve-sim-XXXXXX");
    if (!mkdtemp(world.directory) || catalogue_new(NULL, &world.catalogue, &error) != 0)
        abort();
    arena_init(&world.arena, 256 * 1024);
    for (unsigned i = 0; i < SEALED_MAX; i++)
        arena_init(&world.sealed[i].arena, 256 * 1024);
    signal(SIGXFSZ, SIG_IGN); /* spoil_writes() */
    world.now_ms = START_MS;
    world.mono_ms = 1000000;
    world.random = seed;
    coverage->runs++;
    if (setjmp(out_of_run) == 0) {
        open_core();
        make_organizations();
        run_steps(steps, count, &at);
    } else {
        spoil_writes(false);
        if (world.reading)
            store_read_end(&world.read);
        ret_failure->failed = true;
        ret_failure->step = at;
        memcpy(ret_failure->text, failure_text, sizeof failure_text);
    }
    if (world.store)
        close_core();
    catalogue_free(world.catalogue);
    arena_deinit(&world.arena);
    for (unsigned i = 0; i < SEALED_MAX; i++)
        arena_deinit(&world.sealed[i].arena);
    nftw(world.directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
