/* Work of a host that is no stream of commands: lists, and how long it takes to be there again. */
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

/* ---- Lists ---- */

static bool count_service(void *arg, const void *record)
{
    (void)record;
    ++*(uint64_t *)arg;
    return true;
}

static int list(struct host *host)
{
    struct reeve_error error;
    struct reeve_request request = {.command = REEVE_COMMAND_SERVICE_LIST};
    request.params.service_list.organization_id = host->organization_id;
    const uint64_t started_ns = bench_now_ns();
    if (reeve_read(host->engine, &request, count_service, &host->result->count, &error) < 0)
        return bench_complain("list", error.message);
    histogram_add(&host->result->latency, bench_now_ns() - started_ns);
    host->result->commands++;
    return 0;
}

static int run_lists(struct host *host)
{
    const struct run_options *options = host->options;
    if (host_organization(host) < 0 || list(host) < 0)
        return -1;
    host_start_measuring(host);
    while (bench_now_ns() - host->measured_ns < (uint64_t)(options->seconds * 1e9)) {
        if (list(host) < 0)
            return -1;
    }
    host_stop_measuring(host);
    return 0;
}

static int with_host(const struct run_options *options, struct run_result *result, bool holds,
                     int (*run)(struct host *host))
{
    struct host host = {.options = options, .result = result, .holds = holds};
    if (host_open(&host) < 0)
        return -1;
    const int r = run(&host);
    host_close(&host);
    return r;
}

int host_run_lists(const struct run_options *options, struct run_result *ret_result)
{
    *ret_result = (struct run_result){0};
    return with_host(options, ret_result, false, run_lists);
}

/* ---- Opening, with nothing or with much under way ---- */

struct answers {
    struct host *host;
    uint64_t left;
};

static void on_answer(struct reeve_request *request, const struct reeve_result *result)
{
    struct answers *answers = request->data;
    answers->left--;
    if (result->error.code)
        host_fail(answers->host, &result->error);
}

static int wait_for_answers(struct answers *answers)
{
    while (answers->left && !answers->host->failed)
        uv_run(&answers->host->loop, UV_RUN_ONCE);
    return answers->host->failed ? -1 : 0;
}

static int create_one(struct host *host)
{
    struct answers answers = {host, 1};
    struct reeve_request request = {.on_done = on_answer, .data = &answers};
    if (host_organization(host) < 0)
        return -1;
    host_create(host, &request);
    reeve_submit(host->client, &request);
    return wait_for_answers(&answers);
}

/* So many operations that are begun and never end. */
static int leave_under_way(struct host *host)
{
    struct answers answers = {host, 0};
    if (host_organization(host) < 0 || host_read_services(host) < 0)
        return -1;
    struct reeve_request *requests = calloc(host->count + 1, sizeof *requests);
    for (uint64_t i = 0; requests && i < host->count && i < host->options->outstanding; i++) {
        requests[i] = (struct reeve_request){.on_done = on_answer, .data = &answers};
        requests[i].command = host->are_running[i] ? REEVE_COMMAND_SERVICE_STOP : REEVE_COMMAND_SERVICE_START;
        requests[i].params.service = (struct reeve_service_params){.organization_id = host->organization_id,
                                                                   .service_id = host->ids[i]};
        answers.left++;
        if (reeve_submit(host->client, &requests[i]) < 0) { /* the queue is full */
            answers.left--;
            if (wait_for_answers(&answers) < 0)
                break;
            i--;
        }
    }
    const int r = requests ? wait_for_answers(&answers) : -1;
    free(requests);
    return r;
}

int host_run_openings(const struct run_options *options, struct run_result *ret_result)
{
    *ret_result = (struct run_result){0};
    if (options->work == RECOVERY && with_host(options, ret_result, true, leave_under_way) < 0)
        return -1;
    struct host host = {.options = options, .result = ret_result};
    const uint64_t started_ns = bench_now_ns();
    if (host_open(&host) < 0)
        return -1;
    int r = 0;
    uint64_t until_ns = 0;
    if (options->work == OPENING) {
        r = create_one(&host);
        until_ns = bench_now_ns();
    }
    if (r == 0)
        r = host_settle(&host); /* so that the next round finds the same */
    if (options->work == RECOVERY)
        until_ns = host.first_start_ns;
    bench_usage(0, false, ret_result);
    ret_result->cpu_ns = ret_result->written_bytes = ret_result->dirtied_bytes = 0;
    ret_result->file_bytes = bench_blocks(options->directory);
    ret_result->count = 1;
    ret_result->from_ns = started_ns;
    ret_result->until_ns = until_ns;
    ret_result->seconds = (double)(until_ns - started_ns) / 1e9;
    host_close(&host);
    return r;
}
