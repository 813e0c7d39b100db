#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/uuid.h"
#include "check_private.h"
#include "files.h"
#include "request.h"

#define ENDS_WITHIN_MS 10000 /* a program whose time is up */
#define MOMENTS_MAX 160

/* A service that does not exist but for the plugin, and a backup of it. */
struct subject {
    struct reeve_service service;
    struct reeve_backup backup;
    char handle[REEVE_HANDLE_SIZE_MAX + 1], backup_handle[REEVE_HANDLE_SIZE_MAX + 1];
    char name[40];
    json_t *answers; /* endpoints point into them */
    struct reeve_endpoint endpoints[REEVE_ENDPOINTS_MAX];
};

static const struct reeve_access_entry everywhere = {.source = {"0.0.0.0/0", 9}};
/* SHA-256 of "conformance" */
static const unsigned char password_hash[32] = {0x6c, 0x1d, 0x6c, 0xed, 0xf2, 0x76, 0xea, 0x3f, 0xd7, 0x48, 0x6a,
                                                0x21, 0x2f, 0xd6, 0x2b, 0x32, 0xfb, 0xb9, 0xec, 0xaa, 0x4d, 0xea,
                                                0x70, 0x54, 0x54, 0x86, 0x73, 0x71, 0x99, 0xdd, 0x24, 0xed};
static const char password_hash_text[] = "6c1d6cedf276ea3fd7486a212fd62b32fbb9ecaa4dea70545486737199dd24ed";
/* Of the same password, with the salt "conformance-salt". */
static const char password_scram[] =
    "SCRAM-SHA-256$4096:Y29uZm9ybWFuY2Utc2FsdA==$/4mOfxvBtr/pLftxpwwcvDCLWjmp+bGB7jMzlS1+oTE="
    ":DYn7/KLV7nkfpRNiJKaKhy/cPQE6U4ltpcXcQZVfQAg=";

/* ---- Subjects ---- */

static struct reeve_uuid new_id(struct check *check)
{
    uint8_t random[10];
    for (int i = 0; i < 10; i++)
        random[i] = (uint8_t)check_random(check);
    return uuid_v7(clock_wall_ns() / 1000000, random);
}

static void subject_init(struct check *check, struct subject *subject)
{
    *subject = (struct subject){.answers = json_array()};
    snprintf(subject->name, sizeof subject->name, "check");
    subject->service = (struct reeve_service){
        .id = new_id(check),
        .organization_id = new_id(check),
        .name = reeve_str(subject->name),
        .provider = reeve_str("aws"),
        .region = reeve_str("us-east-1"),
        .tier = REEVE_TIER_PRODUCTION,
        .state = REEVE_SERVICE_STATE_PROVISIONING,
        .min_replica_memory_gb = 8,
        .max_replica_memory_gb = 8,
        .min_total_memory_gb = 24,
        .max_total_memory_gb = 24,
        .num_replicas = 3,
        .idle_scaling = true,
        .idle_timeout_minutes = 15,
        .ip_access_list = {&everywhere, 1},
        .desired = 1,
        .release_channel = REEVE_RELEASE_CHANNEL_DEFAULT,
        .password_sha256 = {(const char *)password_hash, sizeof password_hash},
    };
    if (check->description.passwords & 1U << REEVE_PASSWORD_FORM_SCRAM_SHA_256)
        subject->service.password_scram = reeve_str(password_scram);
    subject->backup = (struct reeve_backup){.id = new_id(check),
                                            .service_id = subject->service.id,
                                            .organization_id = subject->service.organization_id,
                                            .state = REEVE_BACKUP_STATE_IN_PROGRESS,
                                            .started_ms = clock_wall_ns() / 1000000,
                                            .provider = subject->service.provider,
                                            .region = subject->service.region,
                                            .tier = subject->service.tier};
}

static void subject_deinit(struct subject *subject)
{
    json_decref(subject->answers);
}

static void keep_handle(struct reeve_str given, char target[REEVE_HANDLE_SIZE_MAX + 1], struct reeve_str *ret)
{
    if (!given.size)
        return;
    memcpy(target, given.data, given.size);
    target[given.size] = '\0';
    *ret = (struct reeve_str){target, given.size};
}

/* What the engine would remember of an answer. */
static void subject_take(struct subject *subject, enum reeve_operation_kind kind, const struct answer *answer)
{
    const struct reeve_outcome *outcome = &answer->outcome;
    if (outcome->status != REEVE_OUTCOME_STATUS_DONE)
        return;
    if (kind == REEVE_OPERATION_KIND_BACKUP) {
        keep_handle(outcome->handle, subject->backup_handle, &subject->backup.handle);
        subject->backup.size_bytes = outcome->size_bytes;
        subject->backup.state = REEVE_BACKUP_STATE_DONE;
        return;
    }
    keep_handle(outcome->handle, subject->handle, &subject->service.handle);
    json_array_append(subject->answers, answer->json);
    if (outcome->endpoints.count) {
        memcpy(subject->endpoints, answer->endpoints, sizeof subject->endpoints);
        subject->service.endpoints = (struct reeve_endpoint_list){subject->endpoints, outcome->endpoints.count};
    }
    subject->service.provisioned |= kind == REEVE_OPERATION_KIND_PROVISION;
}

/* ---- One operation ---- */

static bool has(const struct check *check, enum reeve_operation_kind kind)
{
    return (check->description.operations & 1U << kind) != 0;
}

/* The request that the engine would make. The caller owns it. */
static json_t *request(const struct check *check, const struct subject *subject, enum reeve_operation_kind kind,
                       const struct reeve_uuid *operation_id, uint64_t attempt)
{
    const bool deletes_backup = kind == REEVE_OPERATION_KIND_DELETE_BACKUP;
    const bool restores = kind == REEVE_OPERATION_KIND_PROVISION && !reeve_uuid_is_nil(&subject->service.restored_from);
    const struct reeve_task task = {
        .operation_id = *operation_id,
        .kind = kind,
        .attempt = attempt,
        .desired = subject->service.desired,
        .organization_id = subject->service.organization_id,
        .service_id = subject->service.id,
        .backup_id = subject->backup.id,
        .service = deletes_backup ? NULL : &subject->service,
        .backup = deletes_backup || restores || kind == REEVE_OPERATION_KIND_BACKUP ? &subject->backup : NULL,
    };
    return request_of(&task, check->timeout_ms);
}

static void run_json(struct check *check, const char *operation, const json_t *json,
                     const struct disturbance *disturbance, struct check_run *ret_run)
{
    char *text = json_dumps(json, JSON_COMPACT);
    check_run(check, operation, text ? text : "", disturbance, ret_run);
    free(text);
}

static void run_kind(struct check *check, struct subject *subject, enum reeve_operation_kind kind,
                     const struct reeve_uuid *operation_id, uint64_t attempt, const struct disturbance *disturbance,
                     struct check_run *ret_run)
{
    json_t *json = request(check, subject, kind, operation_id, attempt);
    run_json(check, reeve_operation_kind_name(kind), json, disturbance, ret_run);
    json_decref(json);
    subject_take(subject, kind, &ret_run->answer);
}

static bool is_done(const struct check_run *run)
{
    return run->answer.outcome.status == REEVE_OUTCOME_STATUS_DONE;
}

/* "exit code 75 (busy: ...); its log: ..." */
static const char *reason(const struct check_run *run)
{
    static char text[1400];
    snprintf(text, sizeof text, "%s%s%s%s%s%s", run->answer.end, is_done(run) ? "" : " (",
             is_done(run) ? "" : run->answer.message, is_done(run) ? "" : ")", run->log[0] ? "; its log: " : "",
             run->log);
    return text;
}

/* Once, again with the same id, and again with a new one. False: it did not even work once. */
static bool try_thrice(struct check *check, struct subject *subject, enum reeve_operation_kind kind, const char *what,
                       uint64_t *ret_duration_ms)
{
    const char *name = reeve_operation_kind_name(kind);
    struct reeve_uuid id = new_id(check);
    struct check_run first, second, third;
    run_kind(check, subject, kind, &id, 1, NULL, &first);
    const bool done = is_done(&first);
    *ret_duration_ms = first.duration_ms;
    check_line(check, done, "%s%s: %s%s", name, what, done ? "succeeds" : "fails: ", done ? "" : reason(&first));
    if (done) {
        run_kind(check, subject, kind, &id, 2, NULL, &second);
        const bool same = is_done(&second) && json_equal(first.answer.json, second.answer.json);
        check_line(check, same, "%s%s: the same operation again %s%s", name, what,
                   same               ? "gives the same answer"
                   : is_done(&second) ? "gives another answer"
                                      : "fails: ",
                   is_done(&second) ? "" : reason(&second));
        check_run_free(&second);
        id = new_id(check);
        run_kind(check, subject, kind, &id, 1, NULL, &third);
        check_line(check, is_done(&third), "%s%s: what is there already %s%s", name, what,
                   is_done(&third) ? "succeeds" : "fails: ", is_done(&third) ? "" : reason(&third));
        check_run_free(&third);
    }
    check_run_free(&first);
    return done;
}

/* ---- A whole life ---- */

struct step {
    enum reeve_operation_kind kind;
    enum reeve_service_state state; /* that the service is in meanwhile */
    const char *what;
};

static const struct step life[] = {
    {REEVE_OPERATION_KIND_PROVISION, REEVE_SERVICE_STATE_PROVISIONING, ""},
    {REEVE_OPERATION_KIND_CONFIGURE, REEVE_SERVICE_STATE_RUNNING, ""},
    {REEVE_OPERATION_KIND_BACKUP, REEVE_SERVICE_STATE_RUNNING, ""},
    {REEVE_OPERATION_KIND_SUSPEND, REEVE_SERVICE_STATE_RUNNING, ""},
    {REEVE_OPERATION_KIND_START, REEVE_SERVICE_STATE_AWAKING, " after suspend"},
    {REEVE_OPERATION_KIND_STOP, REEVE_SERVICE_STATE_STOPPING, ""},
    {REEVE_OPERATION_KIND_START, REEVE_SERVICE_STATE_STARTING, " after stop"},
};
#define LIFE_COUNT (sizeof life / sizeof life[0])

static void grow(struct subject *subject)
{
    subject->service.min_replica_memory_gb = subject->service.max_replica_memory_gb = 16;
    subject->service.min_total_memory_gb = subject->service.max_total_memory_gb = 48;
    subject->service.ip_access_list.count = 0;
    subject->service.desired++;
}

static void check_health(struct check *check, const struct subject *subject, const char *when, bool expected)
{
    struct check_run run;
    if (!check->description.health) {
        check_skip(check, "health: not among its operations");
        return;
    }
    const struct reeve_uuid id = new_id(check);
    json_t *json = request(check, subject, REEVE_OPERATION_KIND_CONFIGURE, &id, 1);
    json_object_set_new(json, "operation", json_string("health"));
    run_json(check, "health", json, NULL, &run);
    json_decref(json);
    const json_t *running = json_object_get(run.answer.json, "running");
    const bool told = is_done(&run) && json_is_boolean(running), good = told && json_is_true(running) == expected;
    check_line(check, good, "health %s: %s%s", when,
               good   ? "tells whether it runs"
               : told ? "tells the contrary"
                      : "needs {\"running\": true or false}: ",
               told ? "" : reason(&run));
    check_run_free(&run);
}

static void restore(struct check *check, struct subject *original, uint64_t *durations)
{
    struct subject copy;
    uint64_t duration_ms;
    subject_init(check, &copy);
    copy.service.organization_id = original->service.organization_id;
    copy.service.restored_from = original->backup.id;
    copy.service.restored_service = original->service.id;
    const struct reeve_uuid own = copy.backup.id;
    copy.backup = original->backup;
    if (try_thrice(check, &copy, REEVE_OPERATION_KIND_PROVISION, " from a backup", &duration_ms))
        check_health(check, &copy, "of what was restored", true);
    copy.backup.id = own;
    try_thrice(check, &copy, REEVE_OPERATION_KIND_STOP, " of what was restored", &durations[0]);
    try_thrice(check, &copy, REEVE_OPERATION_KIND_DELETE, " of what was restored", &durations[0]);
    subject_deinit(&copy);
}

/* Every operation in an order that makes sense. Durations by kind, for what comes after. */
static void check_life(struct check *check, uint64_t *durations)
{
    struct subject subject;
    uint64_t other;
    bool backed_up = false;
    subject_init(check, &subject);
    for (size_t i = 0; i < LIFE_COUNT; i++) {
        const struct step *step = &life[i];
        subject.service.state = step->state;
        if (step->kind == REEVE_OPERATION_KIND_CONFIGURE)
            grow(&subject);
        if (!has(check, step->kind)) {
            check_skip(check, "%s: not among its operations", reeve_operation_kind_name(step->kind));
            continue;
        }
        const bool done = try_thrice(check, &subject, step->kind, step->what, &durations[step->kind]);
        backed_up |= done && step->kind == REEVE_OPERATION_KIND_BACKUP;
        if (step->kind == REEVE_OPERATION_KIND_PROVISION || step->kind == REEVE_OPERATION_KIND_STOP)
            check_health(check, &subject, step->kind == REEVE_OPERATION_KIND_STOP ? "when stopped" : "when running",
                         step->kind != REEVE_OPERATION_KIND_STOP);
    }
    if (backed_up)
        restore(check, &subject, &other);
    subject.service.state = REEVE_SERVICE_STATE_STOPPING;
    try_thrice(check, &subject, REEVE_OPERATION_KIND_STOP, " before delete", &other);
    subject.service.state = REEVE_SERVICE_STATE_DELETING;
    try_thrice(check, &subject, REEVE_OPERATION_KIND_DELETE, "", &durations[REEVE_OPERATION_KIND_DELETE]);
    if (backed_up)
        try_thrice(check, &subject, REEVE_OPERATION_KIND_DELETE_BACKUP, " after its service is gone",
                   &durations[REEVE_OPERATION_KIND_DELETE_BACKUP]);
    subject_deinit(&subject);
}

/* ---- Killed ---- */

/* Kill an operation at a random moment of its time, then run it to its end. */
static void kill_one(struct check *check, struct subject *subject, enum reeve_operation_kind kind, uint64_t duration_ms,
                     char moments[MOMENTS_MAX], char problem[1500])
{
    const struct reeve_uuid id = new_id(check);
    const struct disturbance kill = {SIGQUIT, check_random(check) % (duration_ms + duration_ms / 5 + 2)};
    struct check_run broken, whole;
    const size_t used = strlen(moments);
    run_kind(check, subject, kind, &id, 1, &kill, &broken);
    snprintf(moments + used, MOMENTS_MAX - used, "%s%llu", used ? ", " : "", (unsigned long long)kill.after_ms);
    run_kind(check, subject, kind, &id, 2, NULL, &whole);
    if (!is_done(&whole) && !problem[0])
        snprintf(problem, 1500, "killed after %llu ms and run again: %s", (unsigned long long)kill.after_ms,
                 reason(&whole));
    check_run_free(&broken);
    check_run_free(&whole);
}

static void kill_all(struct check *check, struct subject *subjects, enum reeve_operation_kind kind, const char *what,
                     const uint64_t *durations)
{
    char moments[MOMENTS_MAX] = "", problem[1500] = "";
    const char *name = reeve_operation_kind_name(kind);
    if (!has(check, kind))
        return;
    for (uint64_t i = 0; i < check->rounds; i++)
        kill_one(check, &subjects[i], kind, durations[kind], moments, problem);
    if (problem[0])
        check_line(check, false, "%s%s: %s", name, what, problem);
    else
        check_line(check, true, "%s%s: killed after %s ms and run again, succeeds", name, what, moments);
}

static void check_kills(struct check *check, const uint64_t *durations)
{
    struct subject *subjects = calloc(check->rounds, sizeof *subjects);
    if (!subjects)
        return;
    for (uint64_t i = 0; i < check->rounds; i++)
        subject_init(check, &subjects[i]);
    for (size_t step = 0; step < LIFE_COUNT; step++) {
        for (uint64_t i = 0; i < check->rounds; i++) {
            subjects[i].service.state = life[step].state;
            if (life[step].kind == REEVE_OPERATION_KIND_CONFIGURE)
                grow(&subjects[i]);
        }
        kill_all(check, subjects, life[step].kind, life[step].what, durations);
    }
    kill_all(check, subjects, REEVE_OPERATION_KIND_STOP, " before delete", durations);
    kill_all(check, subjects, REEVE_OPERATION_KIND_DELETE, "", durations);
    if (has(check, REEVE_OPERATION_KIND_BACKUP))
        kill_all(check, subjects, REEVE_OPERATION_KIND_DELETE_BACKUP, "", durations);
    for (uint64_t i = 0; i < check->rounds; i++)
        subject_deinit(&subjects[i]);
    free(subjects);
}

/* ---- Time ---- */

static void check_deadline(struct check *check)
{
    struct subject subject;
    struct check_run run;
    subject_init(check, &subject);
    struct reeve_uuid id = new_id(check);
    json_t *json = request(check, &subject, REEVE_OPERATION_KIND_PROVISION, &id, 1);
    json_object_set_new(json, "deadlineMs", json_integer((json_int_t)(clock_wall_ns() / 1000000) - 1000));
    run_json(check, "provision", json, NULL, &run);
    json_decref(json);
    const bool good = run.duration_ms < ENDS_WITHIN_MS &&
                      (run.answer.exit_code == 0 || run.answer.exit_code == EXIT_RETRY);
    check_line(check, good, "deadline: whose time is up ends soon, done or to be tried again%s%s",
               good ? "" : ", not with ", good ? "" : reason(&run));
    check_run_free(&run);
    run_kind(check, &subject, REEVE_OPERATION_KIND_PROVISION, &id, 2, NULL, &run);
    check_line(check, is_done(&run), "deadline: with more time the same operation %s%s",
               is_done(&run) ? "succeeds" : "fails: ", is_done(&run) ? "" : reason(&run));
    check_run_free(&run);
    id = new_id(check);
    run_kind(check, &subject, REEVE_OPERATION_KIND_STOP, &id, 1, NULL, &run);
    check_run_free(&run);
    id = new_id(check);
    run_kind(check, &subject, REEVE_OPERATION_KIND_DELETE, &id, 1, NULL, &run);
    check_run_free(&run);
    subject_deinit(&subject);
}

static void check_sigterm(struct check *check, uint64_t duration_ms)
{
    struct subject subject;
    struct check_run run;
    subject_init(check, &subject);
    struct reeve_uuid id = new_id(check);
    const struct disturbance end = {SIGTERM, duration_ms / 2};
    run_kind(check, &subject, REEVE_OPERATION_KIND_PROVISION, &id, 1, &end, &run);
    check_line(check, !run.was_killed, "SIGTERM: %s", run.was_killed ? "it had to be killed" : "ends it within 5 s");
    check_run_free(&run);
    /* What undoes a cancelled operation is its opposite. */
    id = new_id(check);
    subject.service.state = REEVE_SERVICE_STATE_DELETING;
    run_kind(check, &subject, REEVE_OPERATION_KIND_DELETE, &id, 1, NULL, &run);
    check_line(check, is_done(&run), "SIGTERM: what was begun can be deleted%s%s", is_done(&run) ? "" : ": ",
               is_done(&run) ? "" : reason(&run));
    check_run_free(&run);
    subject_deinit(&subject);
}

/* ---- Bad input ---- */

static void expect(struct check *check, const char *what, const char *operation, const char *input, int code)
{
    struct check_run run;
    check_run(check, operation, input, NULL, &run);
    const bool good = run.answer.exit_code == code;
    check_line(check, good, "%s: %s%d%s%s", what, good ? "exit code " : "needs exit code ", code, good ? "" : ", not ",
               good ? "" : reason(&run));
    const char *message = json_string_value(json_object_get(json_object_get(run.answer.json, "error"), "message"));
    if (good)
        check_line(check, message && *message, "%s: %s", what,
                   message ? "says why" : "needs {\"error\":{\"code\",\"message\"}}");
    check_run_free(&run);
}

static void expect_changed(struct check *check, const char *what, const char *operation, const char *key, json_t *value,
                           int code)
{
    struct subject subject;
    subject_init(check, &subject);
    const struct reeve_uuid id = new_id(check);
    json_t *json = request(check, &subject, REEVE_OPERATION_KIND_PROVISION, &id, 1);
    json_object_set_new(json, "operation", json_string(operation));
    if (value)
        json_object_set_new(json, key, value);
    else
        json_object_del(json, key);
    char *text = json_dumps(json, JSON_COMPACT);
    expect(check, what, operation, text ? text : "", code);
    free(text);
    json_decref(json);
    subject_deinit(&subject);
}

static void check_input(struct check *check)
{
    expect(check, "input that is empty", "provision", "", EXIT_PERMANENT);
    expect(check, "input that is not JSON", "provision", "{\"api\":1,", EXIT_PERMANENT);
    expect(check, "input that is no object", "provision", "[1]", EXIT_PERMANENT);
    expect_changed(check, "input without serviceId", "provision", "serviceId", NULL, EXIT_PERMANENT);
    expect_changed(check, "input without operationId", "provision", "operationId", NULL, EXIT_PERMANENT);
    expect_changed(check, "input without the service", "provision", "service", json_null(), EXIT_PERMANENT);
    expect_changed(check, "a serviceId that is no UUID", "provision", "serviceId", json_string("../../outside"),
                   EXIT_PERMANENT);
    expect_changed(check, "an operationId that is no UUID", "provision", "operationId", json_string("../../outside"),
                   EXIT_PERMANENT);
    expect_changed(check, "api 2", "provision", "api", json_integer(2), EXIT_UNSUPPORTED);
    expect_changed(check, "an unknown operation", "explode", "api", json_integer(EXEC_API), EXIT_UNSUPPORTED);
}

/* ---- What is not there ---- */

static void check_gone(struct check *check)
{
    struct subject subject;
    struct check_run run;
    const enum reeve_operation_kind kinds[] = {REEVE_OPERATION_KIND_DELETE, REEVE_OPERATION_KIND_DELETE_BACKUP};
    subject_init(check, &subject);
    for (int i = 0; i < 2; i++) {
        if (!has(check, kinds[i]))
            continue;
        const struct reeve_uuid id = new_id(check);
        run_kind(check, &subject, kinds[i], &id, 1, NULL, &run);
        check_line(check, is_done(&run), "%s of what was never there %s%s", reeve_operation_kind_name(kinds[i]),
                   is_done(&run) ? "succeeds" : "fails: ", is_done(&run) ? "" : reason(&run));
        check_run_free(&run);
    }
    subject_deinit(&subject);
}

static void check_description(struct check *check)
{
    struct description again;
    struct reeve_error error = {0};
    check_line(check, true, "describe: api %d, name %s", EXEC_API, check->description.name);
    const bool same = describe_program(&check->config, &again, &error) == 0 &&
                      json_equal(check->description.json, again.json);
    check_line(check, same, "describe: %s%s", same ? "the same answer again" : "another answer: ", error.message);
    description_free(&again);
}

void check_suite(struct check *check)
{
    uint64_t durations[REEVE_OPERATION_KIND_DELETE_BACKUP + 1] = {0};
    check->secrets[0] = password_hash_text;
    check->secrets[1] = password_scram;
    check_description(check);
    check_life(check, durations);
    check_gone(check);
    check_deadline(check);
    check_sigterm(check, durations[REEVE_OPERATION_KIND_PROVISION]);
    check_input(check);
    check_kills(check, durations);
    check_line(check, !check->leak[0], "secrets: the password's hash was seen in %s",
               check->leak[0] ? check->leak : "no arguments, environment or log");
    const unsigned left = check_processes(check);
    check_line(check, left == 0, "at the end: %u processes are left", left);
}
