/* etcd doing the same durable work: a transaction compares the revision of the service, puts its record and an event.
 * Over its JSON gateway, a keep-alive connection for each that is outstanding. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/floor.h"
#include "bench/lib/http_message.h"
#include "bench/lib/wire.h"

#define FILL 100 /* services put by one transaction; it takes 128 at the most */

struct service {
    char revision[24]; /* of its last change; "0": there is none */
    uint64_t number;
    unsigned phase;
};

struct etcd {
    unsigned port;
    struct service *services; /* of the slots */
    uint64_t next_number, fill_from, event;
    bool fills;
    char record[8192], event_value[8192]; /* in base64 */
};

const char *missing_etcd(void)
{
    char path[4096];
    return server_find("etcd", NULL, path, sizeof path) ? NULL : "there is no etcd";
}

const char *about_etcd(void)
{
    static char text[400];
    char path[4096], version[200];
    if (!server_find("etcd", NULL, path, sizeof path) || server_version(path, version, sizeof version) < 0)
        return "etcd";
    snprintf(text, sizeof text,
             "%s, one member\nquota-backend-bytes 8589934592\nall else preset: each entry is "
             "flushed before its answer\ntransactions with compare over the JSON gateway, a connection for each "
             "outstanding",
             version);
    return text;
}

/* ---- Transactions ---- */

static int connect_etcd(void *arg)
{
    return server_connect_port(((struct etcd *)arg)->port);
}

static void encode(const void *data, size_t size, char *ret_text, size_t text_size)
{
    sodium_bin2base64(ret_text, text_size, data, size, sodium_base64_VARIANT_ORIGINAL);
}

static void key_of(char kind, uint64_t number, char ret_text[64])
{
    char key[32];
    const int size = snprintf(key, sizeof key, "%c/%016llx", kind, (unsigned long long)number);
    encode(key, (size_t)size, ret_text, 64);
}

static void print_request(struct buffer *out, const char *body, int size)
{
    char head[200];
    buffer_append(out, head,
                  (size_t)snprintf(head, sizeof head,
                                   "POST /v3/kv/txn HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n"
                                   "Content-Length: %d\r\n\r\n",
                                   size));
    buffer_append(out, body, (size_t)size);
}

static void ask_fill(struct etcd *etcd, struct buffer *out)
{
    static char body[FILL * 9000];
    char key[64];
    int size = snprintf(body, sizeof body, "{\"success\":[");
    for (uint64_t i = 0; i < FILL; i++) {
        key_of('o', etcd->fill_from + i, key);
        size += snprintf(body + size, sizeof body - (size_t)size,
                         "%s{\"requestPut\":{\"key\":\"%s\",\"value\":\"%s\"}}", i ? "," : "", key, etcd->record);
    }
    size += snprintf(body + size, sizeof body - (size_t)size, "]}");
    print_request(out, body, size);
}

static void ask(void *arg, unsigned slot, struct buffer *out)
{
    struct etcd *etcd = arg;
    struct service *service = &etcd->services[slot];
    static char body[20000];
    char key[64], event[64];
    if (etcd->fills) {
        ask_fill(etcd, out);
        return;
    }
    if (service->phase == 0) {
        service->number = etcd->next_number++;
        strcpy(service->revision, "0");
    }
    key_of('s', service->number, key);
    key_of('e', etcd->event++, event);
    int size = snprintf(
        body, sizeof body,
        "{\"compare\":[{\"target\":\"MOD\",\"result\":\"EQUAL\",\"key\":\"%s\",\"modRevision\":\"%s\"}],"
        "\"success\":[",
        key, service->revision);
    if (service->phase == TRANSITIONS - 1)
        size += snprintf(body + size, sizeof body - (size_t)size, "{\"requestDeleteRange\":{\"key\":\"%s\"}},", key);
    else
        size += snprintf(body + size, sizeof body - (size_t)size, "{\"requestPut\":{\"key\":\"%s\",\"value\":\"%s\"}},",
                         key, etcd->record);
    size += snprintf(body + size, sizeof body - (size_t)size, "{\"requestPut\":{\"key\":\"%s\",\"value\":\"%s\"}}]}",
                     event, etcd->event_value);
    print_request(out, body, size);
}

static ssize_t take(void *arg, unsigned slot, char *data, size_t size)
{
    struct etcd *etcd = arg;
    struct service *service = &etcd->services[slot];
    struct http_answer answer;
    const ssize_t taken = http_answer_parse(data, size, &answer);
    if (taken == 0 || (taken > 0 && etcd->fills && http_answer_check(&answer, "etcd")))
        return taken;
    /* What did not succeed has no such member. */
    if (taken < 0 || !http_answer_check(&answer, "etcd") ||
        !memmem(answer.body, answer.body_size, "\"succeeded\":true", 16) ||
        !http_answer_text(&answer, "revision", service->revision, sizeof service->revision))
        return bench_complain("etcd", "a transaction was refused");
    service->phase = (service->phase + 1) % TRANSITIONS;
    return taken;
}

/* ---- The run ---- */

static int start(void *arg, struct server *server, const char *directory)
{
    struct etcd *etcd = arg;
    char path[4096], clients[64], peers[64], cluster[80];
    server_find("etcd", NULL, path, sizeof path);
    etcd->port = server_free_port();
    snprintf(clients, sizeof clients, "http://127.0.0.1:%u", etcd->port);
    snprintf(peers, sizeof peers, "http://127.0.0.1:%u", server_free_port());
    snprintf(cluster, sizeof cluster, "bench=%s", peers);
    const char *const arguments[] = {path,         "--name",
                                     "bench",      "--data-dir",
                                     directory,    "--listen-client-urls",
                                     clients,      "--advertise-client-urls",
                                     clients,      "--listen-peer-urls",
                                     peers,        "--initial-advertise-peer-urls",
                                     peers,        "--initial-cluster",
                                     cluster,      "--quota-backend-bytes",
                                     "8589934592", "--log-level",
                                     "error",      NULL};
    return server_start(server, arguments, SERVER_SAME_USER, directory);
}

/* Once at least: it takes connections before it has elected itself, and answers after that. */
static int prepare(const struct wire_protocol *protocol, int fd, uint64_t services)
{
    struct etcd *etcd = protocol->arg;
    int r;
    etcd->fills = true;
    do {
        r = wire_call(protocol, fd, 0);
        etcd->fill_from += FILL;
    } while (r == 0 && etcd->fill_from < services);
    etcd->fills = false;
    return r;
}

static void make_values(struct etcd *etcd, const struct run_options *options)
{
    struct floor_batches sizes;
    char bytes[4096];
    memset(bytes, 'r', sizeof bytes);
    floor_begin(&sizes, options);
    encode(bytes, sizes.record_bytes, etcd->record, sizeof etcd->record);
    encode(bytes, sizes.event_bytes, etcd->event_value, sizeof etcd->event_value);
}

int run_etcd(const struct run_options *options, struct run_result *ret_result)
{
    struct etcd etcd = {.next_number = bench_now_ns(), .event = bench_now_ns()};
    const struct wire_protocol protocol = {.arg = &etcd,
                                           .connections_max = options->outstanding,
                                           .start = start,
                                           .connect = connect_etcd,
                                           .prepare = prepare,
                                           .ask = ask,
                                           .take = take};
    make_values(&etcd, options);
    etcd.services = calloc(options->outstanding, sizeof *etcd.services);
    const int r = etcd.services ? wire_run(&protocol, options, ret_result) : -1;
    free(etcd.services);
    return r;
}
