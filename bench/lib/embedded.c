/* Work through libreeve: so many slots, each with one command under way, for as long as it is told. */
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

#define OPEN_LOOP_SLOTS 16384

/* ---- Warm up, measure, let what is under way end ---- */

static void on_measured(uv_timer_t *timer)
{
    struct host *host = timer->data;
    host_stop_measuring(host);
    if (host->busy == 0)
        uv_stop(&host->loop);
}

static void on_warm(uv_timer_t *timer)
{
    struct host *host = timer->data;
    host_start_measuring(host);
    uv_timer_start(&host->timer, on_measured, (uint64_t)(host->options->seconds * 1000), 0);
}

static void on_event(struct reeve_watch *watch, const struct reeve_event *event)
{
    host_event(watch->data, event);
}

static int start_watches(struct host *host)
{
    struct reeve_error error;
    host->watch = (struct reeve_watch){.on_event = on_event, .data = host};
    if (reeve_watch_start(host->client, &host->watch, &error) < 0)
        return bench_complain("watches", error.message);
    return watching_start(host->engine, host->options->watchers, &host->watching);
}

/* ---- Commands at their own time ---- */

/* A command that finds no slot keeps its time, and waits. */
static void on_pace(uv_poll_t *poll, int status, int events)
{
    struct host *host = poll->data;
    struct pace *pace = &host->pace;
    const double now_ns = (double)bench_now_ns();
    (void)status, (void)events;
    while (pace->next_ns <= now_ns && host->free_slots && host->phase != HOST_DRAINING) {
        struct slot *slot = host->free_slots;
        host->free_slots = slot->next;
        slot->sent_ns = (uint64_t)pace->next_ns;
        host_begin(slot);
        pace->next_ns += pace->period_ns;
    }
    if (host->phase == HOST_DRAINING)
        uv_poll_stop(poll);
    else
        pace_arm(pace);
}

static void start_pace(struct host *host)
{
    host->poll.data = host;
    uv_poll_init(&host->loop, &host->poll, host->pace.timer);
    uv_poll_start(&host->poll, UV_READABLE, on_pace);
    pace_arm(&host->pace);
}

static void stop_pace(struct host *host)
{
    uv_close((uv_handle_t *)&host->poll, NULL);
    pace_close(&host->pace);
}

/* ---- The run ---- */

static int make_slots(struct host *host, unsigned slots)
{
    host->slots = calloc(slots, sizeof *host->slots);
    if (!host->slots)
        return bench_complain("slots", "out of memory");
    for (unsigned i = 0; i < slots; i++) {
        host->slots[i].host = host;
        host->slots[i].next = host->free_slots;
        host->free_slots = &host->slots[i];
    }
    return 0;
}

static bool needs_services(enum work work)
{
    return work == START_STOP || work == READ_MIX || work == OPEN_LOOP;
}

/* At its own time a command may find any number of others under way, but no two have the same service. */
static unsigned slots_of(const struct run_options *options)
{
    if (options->work != OPEN_LOOP)
        return options->outstanding;
    return options->existing < OPEN_LOOP_SLOTS ? (unsigned)options->existing : OPEN_LOOP_SLOTS;
}

static int set_up(struct host *host)
{
    const bool is_open = host->options->work == OPEN_LOOP;
    if (host_organization(host) < 0 || (needs_services(host->options->work) && host_read_services(host) < 0))
        return -1;
    if (make_slots(host, slots_of(host->options)) < 0)
        return -1;
    if (is_open && pace_open(&host->pace, host->options->rate) < 0)
        return -1;
    return start_watches(host);
}

static void work(struct host *host)
{
    const bool is_open = host->options->work == OPEN_LOOP;
    uv_timer_init(&host->loop, &host->timer);
    host->timer.data = host;
    uv_timer_start(&host->timer, on_warm, (uint64_t)(host->options->warm_seconds * 1000), 0);
    if (is_open)
        start_pace(host);
    for (unsigned i = 0; i < host->options->outstanding && !is_open; i++)
        host_begin(&host->slots[i]);
    uv_run(&host->loop, UV_RUN_DEFAULT);
    reeve_watch_stop(&host->watch);
    watching_stop(host->watching);
    uv_close((uv_handle_t *)&host->timer, NULL);
    if (is_open)
        stop_pace(host);
}

static int run(const struct run_options *options, struct run_result *ret_result)
{
    struct host *host = calloc(1, sizeof *host);
    *ret_result = (struct run_result){.rate = options->rate};
    if (!host)
        return -1;
    host->options = options;
    host->result = ret_result;
    host->steps = &host_steps[options->work];
    int r = host_open(host);
    if (r == 0) {
        r = set_up(host);
        if (r == 0)
            work(host);
        host_close(host);
    }
    r = r < 0 || host->failed ? -1 : 0;
    free(host);
    return r;
}

int run_embedded(const struct run_options *options, struct run_result *ret_result)
{
    struct reeve_uuid organization_id;
    if (host_fill(options->directory, options->existing, &organization_id) < 0)
        return -1;
    if (options->work == LISTS)
        return host_run_lists(options, ret_result);
    if (options->work == OPENING || options->work == RECOVERY)
        return host_run_openings(options, ret_result);
    return run(options, ret_result);
}

int run_guest(const struct run_options *options, struct run_result *ret_result)
{
    struct run_options guest = *options;
    guest.is_guest = true;
    return run_embedded(&guest, ret_result);
}
