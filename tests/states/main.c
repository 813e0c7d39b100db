/* states [--services N] [--operations N] [--backups] [--depth N]: every state that can be reached, breadth first, and
 * what must hold for the whole of them:
 *
 *   - nothing is stuck: where an operation is under way something comes of it without a command and without a crash,
 *     and from every state everything can come to rest by attempts and timers alone;
 *   - from every state both services can be stopped or gone, by commands, attempts and timers;
 *   - what was refused, and ends that come late or twice, change nothing;
 *   - every row of schemas/lifecycle.def was taken.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "states.h"

#define NOBODY UINT32_MAX
#define STATES_MAX (1U << 23)
#define PATH_MAX_STEPS 400

enum edge_class {
    EDGE_COMMAND,
    EDGE_PROGRESS, /* attempts and timers */
    EDGE_CRASH,
};

struct state {
    uint8_t key[KEY_BYTES];
    struct image *image; /* until it has been expanded */
    uint32_t parent, first_edge, edges_count, depth;
    uint8_t input, service;
    bool busy, all_done, expanded;
};

struct edge {
    uint32_t to : 30, class : 2;
};

static struct state *states;
static uint32_t *table; /* by key -> place + 1 */
static struct edge *edges;
static uint32_t count, table_size = 1U << 24;
static size_t edges_count, edges_room;
static uint64_t executed;
static struct life_options options = {.services = 2, .operations = 2};
static uint32_t depth_max = UINT32_MAX;
static uint32_t current; /* being expanded, by this: */
static enum input_kind current_kind = INPUT_KINDS;
static unsigned current_service;

/* ---- Telling ---- */

static void tell_path(uint32_t to)
{
    uint32_t path[PATH_MAX_STEPS];
    unsigned steps = 0;
    for (uint32_t at = to; at != NOBODY && steps < PATH_MAX_STEPS; at = states[at].parent)
        path[steps++] = at;
    life_put_back(states[0].image);
    while (steps-- > 0) {
        const struct state *state = &states[path[steps]];
        if (state->parent != NOBODY) {
            life_apply((enum input_kind)state->input, state->service);
            printf("  %u: %-36s ", state->service + 1, input_names[state->input]);
        } else {
            printf("  %-39s ", "");
        }
        life_tell(stdout);
    }
}

static void tell_current(void)
{
    static bool told;
    if (told || current_kind == INPUT_KINDS)
        return;
    told = true;
    tell_path(current);
    printf("  %u: %s\n", current_service + 1, input_names[current_kind]);
}

/* ---- States ---- */

static uint64_t hash_of(const uint8_t key[KEY_BYTES])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325), word;
    for (unsigned i = 0; i < KEY_BYTES; i += sizeof word) {
        memcpy(&word, key + i, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

/* The place of the state that the world is in; a new one where it was not there. */
static uint32_t intern(uint32_t parent, enum input_kind kind, unsigned service)
{
    uint8_t key[KEY_BYTES];
    life_key(key);
    uint64_t slot = hash_of(key) & (table_size - 1);
    for (; table[slot]; slot = (slot + 1) & (table_size - 1)) {
        if (memcmp(states[table[slot] - 1].key, key, KEY_BYTES) == 0)
            return table[slot] - 1;
    }
    if (count == STATES_MAX) {
        printf("more than %u states\n", STATES_MAX);
        exit(2);
    }
    struct state *state = &states[count];
    const struct life_view view = life_view();
    *state = (struct state){.parent = parent, .input = (uint8_t)kind, .service = (uint8_t)service, .busy = view.busy};
    memcpy(state->key, key, KEY_BYTES);
    state->depth = parent == NOBODY ? 0 : states[parent].depth + 1;
    state->all_done = true;
    for (unsigned i = 0; i < options.services; i++)
        state->all_done = state->all_done &&
                          (view.states[i] == REEVE_SERVICE_STATE_NONE ||
                           view.states[i] == REEVE_SERVICE_STATE_STOPPED || view.states[i] == REEVE_SERVICE_STATE_GONE);
    state->image = life_take();
    table[slot] = ++count;
    return count - 1;
}

static void add_edge(uint32_t to, enum edge_class class)
{
    if (edges_count == edges_room) {
        edges_room = edges_room ? 2 * edges_room : 1 << 20;
        edges = realloc(edges, edges_room * sizeof *edges);
        if (!edges)
            abort();
    }
    edges[edges_count++] = (struct edge){.to = to & 0x3fffffff, .class = class & 3};
}

static void expand(uint32_t at)
{
    bool moved = true;
    states[at].first_edge = (uint32_t)edges_count;
    for (unsigned kind = 0; kind < INPUT_KINDS; kind++) {
        for (unsigned service = 0; service < (kind == CRASH ? 1 : options.services); service++) {
            current = at;
            current_kind = (enum input_kind)kind;
            current_service = service;
            if (moved)
                life_put_back(states[at].image);
            moved = life_apply((enum input_kind)kind, service);
            if (!moved)
                continue;
            executed++;
            const uint32_t to = intern(at, (enum input_kind)kind, service);
            if (kind == END_AGAIN && to != at) {
                tell_current();
                printf("wrong: an end that came twice has changed something\n");
                exit(1);
            }
            if (to != at)
                add_edge(to, kind <= DO_HEALTH_LOST ? EDGE_COMMAND : kind == CRASH ? EDGE_CRASH : EDGE_PROGRESS);
        }
    }
    current_kind = INPUT_KINDS;
    states[at].edges_count = (uint32_t)edges_count - states[at].first_edge;
    states[at].expanded = true;
    if (at != 0) { /* paths are told from there */
        image_free(states[at].image);
        states[at].image = NULL;
    }
}

/* ---- What must hold ---- */

/* Marks all from which a marked one is reached by edges of these classes. What was not expanded counts as marked:
 * nothing is known of it. */
static void mark_backwards(bool *marked, bool with_commands)
{
    uint32_t *heads = calloc(count + 1, sizeof *heads), *froms = malloc((edges_count + 1) * sizeof *froms);
    uint32_t *work = malloc((count + 1) * sizeof *work), left = 0;
    if (!heads || !froms || !work)
        abort();
    for (size_t i = 0; i < edges_count; i++)
        heads[edges[i].to + 1]++;
    for (uint32_t i = 0; i < count; i++)
        heads[i + 1] += heads[i];
    uint32_t *next = malloc((count + 1) * sizeof *next);
    if (!next)
        abort();
    memcpy(next, heads, (count + 1) * sizeof *next);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < states[i].edges_count; j++) {
            const struct edge *edge = &edges[states[i].first_edge + j];
            froms[next[edge->to]++] = edge->class == EDGE_PROGRESS || (with_commands && edge->class == EDGE_COMMAND)
                                          ? i
                                          : NOBODY;
        }
        if (marked[i])
            work[left++] = i;
    }
    while (left > 0) {
        const uint32_t at = work[--left];
        for (uint32_t i = heads[at]; i < heads[at + 1]; i++) {
            if (froms[i] != NOBODY && !marked[froms[i]]) {
                marked[froms[i]] = true;
                work[left++] = froms[i];
            }
        }
    }
    free(heads), free(froms), free(work), free(next);
}

static bool all_marked(const bool *marked, const char *what)
{
    uint32_t first = NOBODY, missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (marked[i])
            continue;
        if (missing++ == 0)
            first = i;
    }
    if (missing == 0)
        return true;
    tell_path(first);
    printf("wrong: %s (%" PRIu32 " such states)\n", what, missing);
    return false;
}

static bool check_ways_on(bool *marked)
{
    for (uint32_t i = 0; i < count; i++) {
        marked[i] = !states[i].expanded || !states[i].busy;
        for (uint32_t j = 0; j < states[i].edges_count && !marked[i]; j++)
            marked[i] = edges[states[i].first_edge + j].class == EDGE_PROGRESS;
    }
    return all_marked(marked, "an operation is under way, and nothing comes of it any more");
}

static bool check_rest(bool *marked)
{
    for (uint32_t i = 0; i < count; i++)
        marked[i] = !states[i].expanded || !states[i].busy;
    mark_backwards(marked, false);
    return all_marked(marked, "it never comes to rest by itself");
}

static bool check_ends(bool *marked)
{
    for (uint32_t i = 0; i < count; i++)
        marked[i] = !states[i].expanded || states[i].all_done;
    mark_backwards(marked, true);
    return all_marked(marked, "there is no way to stopped or gone for all");
}

static bool check_rows(bool demanded)
{
    unsigned rows = 0, taken = 0;
    for (unsigned state = 0; state < REEVE_SERVICE_STATE_COUNT; state++) {
        for (unsigned input = 1; input < INPUT_COUNT; input++) {
            if (lifecycle_step((enum reeve_service_state)state, (enum lifecycle_input)input)->effect == EFFECT_NONE ||
                (input == INPUT_BACKUP && !options.backups))
                continue;
            rows++;
            taken += rows_taken[state][input] != 0;
            if (rows_taken[state][input] == 0 && demanded)
                printf("wrong: the row %s, %s was never taken\n",
                       reeve_service_state_name((enum reeve_service_state)state),
                       lifecycle_input_name((enum lifecycle_input)input));
        }
    }
    printf("%u of %u rows of the lifecycle taken\n", taken, rows);
    return taken == rows || !demanded;
}

/* ---- Options ---- */

static unsigned number(const char *name, const char *text, unsigned max)
{
    char *end;
    errno = 0;
    const unsigned long value = strtoul(text ? text : "", &end, 10);
    if (!text || errno || *end || end == text || value == 0 || value > max) {
        fprintf(stderr, "states: %s must be a number from 1 to %u\n", name, max);
        exit(2);
    }
    return (unsigned)value;
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--backups") == 0)
            options.backups = true;
        else if (strcmp(name, "--services") == 0)
            options.services = number(name, argv[++i], SERVICES_MAX);
        else if (strcmp(name, "--operations") == 0)
            options.operations = number(name, argv[++i], 100);
        else if (strcmp(name, "--depth") == 0)
            depth_max = number(name, argv[++i], 1000000);
        else {
            fprintf(stderr, "usage: states [--services N] [--operations N] [--backups] [--depth N]\n");
            exit(2);
        }
    }
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
    struct timespec start;
    read_options(argc, argv);
    clock_gettime(CLOCK_MONOTONIC, &start);
    states = calloc(STATES_MAX, sizeof *states);
    table = calloc(table_size, sizeof *table);
    if (!states || !table)
        abort();
    life_on_failure = tell_current;
    life_begin(&options);
    intern(NOBODY, INPUT_KINDS, 0);
    uint32_t at = 0;
    for (; at < count && states[at].depth < depth_max; at++)
        expand(at);
    bool *marked = malloc(count * sizeof *marked);
    if (!marked)
        abort();
    bool good = check_ways_on(marked);
    good = check_rest(marked) && good;
    good = check_ends(marked) && good;
    good = check_rows(at == count) && good;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%u services, %u operations in flight%s: %" PRIu32 " states, %" PRIu64 " transitions, depth %" PRIu32
           "%s, %.1f s, %ld MiB\n%s\n",
           options.services, options.operations, options.backups ? ", backups" : "", count, executed,
           states[count - 1].depth, at == count ? " (all there are)" : "", seconds_since(&start),
           usage.ru_maxrss / 1024, good ? "fine" : "FAILED");
    return good ? 0 : 1;
}
