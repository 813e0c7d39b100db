/* What the random words of a step ask for: a command of a client, as the model has it and as the engine is asked, or
 * what became of an attempt. */
#include <string.h>

#include "backup.h"
#include "password.h"
#include "service.h"
#include "world.h"

/* ---- Commands into requests ---- */

static const char *const names[] = {NULL, "one", "two", "a name", "name-4", "N5", "not/allowed"};
static const char *const regions[] = {"us-east-1", "eu-west-1", "nowhere"};
static const char hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const char *world_name(unsigned name)
{
    return names[name];
}

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

void world_add_report(struct inputs *inputs, const struct task *task, enum reeve_outcome_status status, bool counts)
{
    inputs->counts[inputs->reports_count] = counts;
    inputs->desired[inputs->reports_count] = task->desired;
    inputs->reports[inputs->reports_count++] = (struct report){
        .operation_id = task->operation_id,
        .attempt = task->attempt,
        .outcome = {.status = status, .code = reeve_str("sim"), .size_bytes = 7}};
}

/* One that is under way, or one of before: late, twice, or after it was cancelled. */
void world_add_outcome(struct inputs *inputs, const uint32_t *words)
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
            world_drop_task(i);
        }
        world_add_report(inputs, &old, pick_status(words[2]), again);
    } else if (world.tasks_count) {
        const unsigned index = words[1] % world.tasks_count;
        const enum reeve_outcome_status status = world.tasks[index].cancelled && words[3] & 1
                                                     ? REEVE_OUTCOME_STATUS_CANCELLED
                                                     : pick_status(words[2]);
        world_add_report(inputs, &world.tasks[index], status, true);
        world_drop_task(index);
    }
}

void world_add_command(struct inputs *inputs, const uint32_t *words)
{
    make_command(&inputs->commands[inputs->requests_count], words);
    fill_request(inputs, inputs->requests_count++);
}
