/* Messages, methods, socket files and the client library of the IPC, without a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontends/common/link.h"
#include "frontends/ipc/client.h"
#include "frontends/ipc/method.h"
#include "frontends/ipc/peer.h"
#include "frontends/ipc/rpc.h"
#include "frontends/ipc/server.h"
#include "frontends/ipc/socket.h"

struct fixture {
    struct buffer buffer;
    msgpack_packer packer;
    msgpack_zone zone;
    char directory[64], path[96];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    msgpack_packer_init(&f->packer, &f->buffer, buffer_write);
    assert_true(msgpack_zone_init(&f->zone, 1024));
    snprintf(f->directory, sizeof f->directory, "/tmp/reeve-ipc-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof f->path, "%s/s.sock", f->directory);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    unlink(f->path);
    rmdir(f->directory);
    buffer_deinit(&f->buffer);
    msgpack_zone_destroy(&f->zone);
    free(f);
    return 0;
}

static msgpack_object unpack(struct fixture *f, const void *data, size_t size)
{
    msgpack_object object;
    size_t offset = 0;
    assert_int_equal(msgpack_unpack(data, size, &offset, &f->zone, &object), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(offset, size);
    return object;
}

static msgpack_object packed(struct fixture *f)
{
    return unpack(f, f->buffer.data, f->buffer.size);
}

static void assert_str(const struct reeve_str *str, const char *text)
{
    assert_int_equal(str->size, strlen(text));
    assert_memory_equal(str->data, text, str->size);
}

static void assert_text(const msgpack_object *object, const char *text)
{
    assert_non_null(object);
    assert_int_equal(object->type, MSGPACK_OBJECT_STR);
    assert_str(&(struct reeve_str){object->via.str.ptr, object->via.str.size}, text);
}

/* ---- Messages ---- */

static void request_is_taken_apart(void **state)
{
    struct fixture *f = *state;
    struct rpc_message message;
    const msgpack_object *map;
    rpc_pack_request(&f->packer, UINT32_MAX, "service.get");
    msgpack_pack_array(&f->packer, 1);
    msgpack_pack_map(&f->packer, 0);
    const msgpack_object object = packed(f);
    assert_null(rpc_parse(&object, &message));
    assert_int_equal(message.kind, RPC_REQUEST);
    assert_int_equal(message.id, UINT32_MAX);
    assert_str(&message.method, "service.get");
    assert_true(rpc_params_map(message.params, &map));
    assert_non_null(map);
}

static void notification_and_response_are_taken_apart(void **state)
{
    struct fixture *f = *state;
    struct rpc_message message;
    const msgpack_object notification = unpack(f, "\x93\x02\xa1x\x90", 5);
    assert_null(rpc_parse(&notification, &message));
    assert_int_equal(message.kind, RPC_NOTIFICATION);
    assert_str(&message.method, "x");
    const msgpack_object response = unpack(f, "\x94\x01\x07\xc0\x05", 5);
    assert_null(rpc_parse(&response, &message));
    assert_int_equal(message.kind, RPC_RESPONSE);
    assert_int_equal(message.id, 7);
    assert_null(message.error);
    assert_int_equal(message.result->via.u64, 5);
}

static void what_is_no_message_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"\x01", 1},                                   /* a number */
        {"\x90", 1},                                   /* too short */
        {"\x92\x02\xa1x", 4},                          /* too short a notification */
        {"\x94\x03\x01\xa1x\x90", 6},                  /* no such kind */
        {"\x94\xa0\x01\xa1x\x90", 6},                  /* kind is text */
        {"\x93\x00\xa1x\x90", 5},                      /* request without id */
        {"\x94\x00\xff\xa1x\x90", 6},                  /* negative id */
        {"\x94\x00\xcf\0\0\0\1\0\0\0\0\xa1x\x90", 14}, /* id of more than 32 bits */
        {"\x94\x00\x01\x02\x90", 5},                   /* method is a number */
        {"\x94\x00\x01\xa1x\x80", 6},                  /* params are a map */
        {"\x95\x00\x01\xa1x\x90\xc0", 7},              /* one too many */
        {"\x94\x02\x01\xa1x\x90", 6},                  /* notification with an id */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rpc_message message;
        const msgpack_object object = unpack(f, cases[i].bytes, cases[i].size);
        assert_non_null(rpc_parse(&object, &message));
    }
}

static void params_are_one_map_or_none(void **state)
{
    struct fixture *f = *state;
    const msgpack_object *map;
    const msgpack_object none = unpack(f, "\x90", 1), nil = unpack(f, "\x91\xc0", 2), one = unpack(f, "\x91\x80", 2);
    const msgpack_object two = unpack(f, "\x92\x80\x80", 3), number = unpack(f, "\x91\x01", 2);
    assert_true(rpc_params_map(&none, &map));
    assert_null(map);
    assert_true(rpc_params_map(&nil, &map));
    assert_null(map);
    assert_true(rpc_params_map(&one, &map));
    assert_ptr_equal(map, one.via.array.ptr);
    assert_false(rpc_params_map(&two, &map));
    assert_false(rpc_params_map(&number, &map));
}

/* The bit of a command in reeve_error.allowed, by its short name. */
static uint64_t allowed_bit(const char *wanted)
{
    for (unsigned i = 0; i < 64; i++) {
        const struct reeve_error error = {.code = REEVE_ERROR_CONFLICT, .allowed = UINT64_C(1) << i};
        const char *name = reeve_allowed_name(&error, 0);
        if (name && strcmp(name, wanted) == 0)
            return error.allowed;
    }
    fail_msg("no command is called %s", wanted);
    return 0;
}

static void error_comes_back_whole(void **state)
{
    struct fixture *f = *state;
    struct reeve_error error, back;
    rpc_error_set(&error, REEVE_ERROR_CONFLICT, "serviceId", "not %s", "now");
    error.state = REEVE_SERVICE_STATE_STOPPED;
    error.allowed = allowed_bit("start") | allowed_bit("delete");
    rpc_pack_error(&f->packer, 9, &error);
    const msgpack_object object = packed(f);
    struct rpc_message message;
    assert_null(rpc_parse(&object, &message));
    assert_non_null(message.error);
    assert_text(ipc_map_get(message.error, "code"), "CONFLICT");
    assert_false(ipc_map_get(message.error, "retryable")->via.boolean);
    const msgpack_object *details = ipc_map_get(message.error, "details");
    assert_text(ipc_map_get(details, "state"), "stopped");
    assert_int_equal(ipc_map_get(details, "allowed")->via.array.size, 2);
    ipc_error_decode(message.error, &back);
    assert_int_equal(back.code, error.code);
    assert_string_equal(back.message, "not now");
    assert_string_equal(back.field, "serviceId");
    assert_int_equal(back.state, error.state);
    assert_int_equal(back.allowed, error.allowed);
}

static void every_error_has_a_map(void **state)
{
    struct fixture *f = *state;
    for (int code = REEVE_ERROR_BAD_REQUEST; code <= REEVE_ERROR_STORE_ACCESS; code++) {
        struct reeve_error error = {.code = (enum reeve_error_code)code, .resume_sequence = 12}, back;
        buffer_reset(&f->buffer);
        rpc_pack_error_notification(&f->packer, &error);
        const msgpack_object object = packed(f);
        struct rpc_message message;
        const msgpack_object *map;
        assert_null(rpc_parse(&object, &message));
        assert_str(&message.method, "error");
        assert_true(rpc_params_map(message.params, &map));
        assert_null(ipc_map_get(map, "field"));
        ipc_error_decode(map, &back);
        assert_int_equal(back.code, code);
        assert_string_equal(back.message, reeve_error_text(code));
        assert_int_equal(back.resume_sequence, code == REEVE_ERROR_LAGGED ? 12 : 0);
    }
}

/* ---- Methods ---- */

static void every_method_is_found(void **state)
{
    (void)state;
    struct method_table table;
    method_table_init(&table);
    for (unsigned i = 0; i < schema_commands_count; i++) {
        const struct method *method = method_find(&table, schema_commands[i].name, strlen(schema_commands[i].name));
        assert_non_null(method);
        assert_ptr_equal(method->command, &schema_commands[i]);
        assert_int_equal(method->local, METHOD_COMMAND);
    }
#define LOCAL(id, name, params, help) assert_int_equal(method_find(&table, name, strlen(name))->local, METHOD_##id);
#include "local.def"
    assert_null(method_find(&table, "", 0));
    assert_null(method_find(&table, "service.gex", 11));
    assert_null(method_find(&table, "service.ge", 10));
    const struct method *list = method_find(&table, "service.list", 12);
    assert_int_equal(list->limit_offset, offsetof(union reeve_params, service_list.limit));
    assert_int_equal(list->cursor_offset, offsetof(union reeve_params, service_list.cursor));
    assert_int_equal(list->from_offset, METHOD_NO_FIELD);
    assert_int_equal(method_find(&table, "event.list", 10)->from_offset, offsetof(union reeve_params, event_list.from));
}

/* ---- Lists ---- */

static void links_move_between_lists(void **state)
{
    (void)state;
    struct link one, other, a, b;
    link_init(&one);
    link_init(&other);
    link_init(&a);
    link_init(&b);
    link_append(&one, &a);
    link_append(&one, &b);
    link_append(&one, &a);
    assert_ptr_equal(one.next, &b);
    assert_ptr_equal(b.next, &a);
    link_append(&other, &b);
    assert_ptr_equal(one.next, &a);
    assert_ptr_equal(other.next, &b);
    link_remove(&a);
    link_remove(&a);
    assert_false(link_used(&one));
    assert_false(link_used(&a));
}

/* ---- Socket files and peers ---- */

static int listen_at(const char *path, int *ret_fd, struct socket_identity *ret_identity, struct reeve_error *error)
{
    const struct socket_options options = {.path = path, .mode = 0600};
    return socket_listen(&options, ret_fd, ret_identity, error);
}

static void stale_socket_is_replaced_and_a_live_one_is_not(void **state)
{
    struct fixture *f = *state;
    struct socket_identity first, second;
    struct reeve_error error;
    struct stat status;
    int fd, other;
    assert_int_equal(listen_at(f->path, &fd, &first, &error), 0);
    assert_int_equal(stat(f->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(listen_at(f->path, &other, &second, &error), -REEVE_ERROR_STORE_LOCKED);
    assert_non_null(strstr(error.message, f->path));
    close(fd);
    assert_int_equal(listen_at(f->path, &fd, &second, &error), 0);
    socket_remove(f->path, &(struct socket_identity){second.device, second.inode + 1});
    assert_int_equal(access(f->path, F_OK), 0);
    socket_remove(f->path, &second);
    assert_int_equal(access(f->path, F_OK), -1);
    close(fd);
}

static void other_files_and_long_paths_are_refused(void **state)
{
    struct fixture *f = *state;
    struct socket_identity identity;
    struct reeve_error error;
    int fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(listen_at(f->path, &fd, &identity, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_non_null(strstr(error.message, "is not a socket"));
    assert_int_equal(access(f->path, F_OK), 0);
    char path[200];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    assert_int_equal(listen_at(path, &fd, &identity, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_string_equal(error.field, "socket");
    assert_int_equal(listen_at("/nonexistent/s.sock", &fd, &identity, &error), -REEVE_ERROR_UNAVAILABLE);
}

static void rules_say_who_may_connect(void **state)
{
    (void)state;
    struct peer_rules rules;
    struct reeve_error error;
    int pair[2];
    uid_t uid;
    bool allowed;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(peer_rules_parse(NULL, NULL, &rules, &error), 0);
    peer_check(&rules, pair[0], &uid, &allowed);
    assert_true(allowed);
    assert_int_equal(uid, geteuid());
    assert_int_equal(peer_rules_parse("4000000000, 3999999999", "", &rules, &error), 0);
    assert_int_equal(rules.uids_count, 2);
    peer_check(&rules, pair[0], &uid, &allowed);
    assert_false(allowed);
    char group[32];
    snprintf(group, sizeof group, "%lu", (unsigned long)getegid());
    assert_int_equal(peer_rules_parse("", group, &rules, &error), 0);
    peer_check(&rules, pair[0], &uid, &allowed);
    assert_true(allowed);
    assert_int_equal(peer_rules_parse("no-such-user", NULL, &rules, &error), -REEVE_ERROR_BAD_REQUEST);
    assert_non_null(strstr(error.message, "no-such-user"));
    assert_int_equal(peer_rules_parse(NULL, "no-such-group", &rules, &error), -REEVE_ERROR_BAD_REQUEST);
    close(pair[0]);
    close(pair[1]);
}

/* ---- Client ---- */

/* A client and the server's end of its connection. */
static int connected(struct fixture *f, struct ipc_client **ret_client)
{
    struct socket_identity identity;
    struct reeve_error error;
    int listener;
    assert_int_equal(listen_at(f->path, &listener, &identity, &error), 0);
    assert_int_equal(ipc_client_connect(f->path, ret_client, &error), 0);
    const int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    close(listener);
    return fd;
}

static void write_all(int fd, const void *data, size_t size)
{
    assert_int_equal(write(fd, data, size), size);
}

static void client_needs_a_server(void **state)
{
    struct fixture *f = *state;
    struct ipc_client *client;
    struct reeve_error error;
    assert_int_equal(ipc_client_connect(f->path, &client, &error), -REEVE_ERROR_UNAVAILABLE);
    assert_null(client);
    assert_non_null(strstr(error.message, f->path));
    ipc_client_close(NULL);
}

static void client_puts_pieces_together(void **state)
{
    struct fixture *f = *state;
    struct ipc_client *client;
    struct ipc_message message;
    const int fd = connected(f, &client);
    const char bytes[] = "\x94\x01\x05\xc0\xa3yes";
    write_all(fd, bytes, 4);
    assert_int_equal(ipc_client_receive(client, 0, &message), -REEVE_ERROR_BUSY);
    write_all(fd, bytes + 4, sizeof bytes - 5);
    assert_int_equal(ipc_client_receive(client, 1000, &message), 0);
    assert_int_equal(message.id, 5);
    assert_false(message.is_error || message.is_notification);
    assert_text(&message.body, "yes");
    close(fd);
    assert_int_equal(ipc_client_receive(client, 1000, &message), -REEVE_ERROR_UNAVAILABLE);
    ipc_client_close(client);
}

static void client_keeps_what_a_call_passes_over(void **state)
{
    struct fixture *f = *state;
    struct ipc_client *client;
    struct ipc_message message;
    const int fd = connected(f, &client);
    uint32_t first;
    assert_int_equal(ipc_client_send(client, "a", NULL, 0, &first), 0);
    /* The answers are there before the questions: call() takes the next id. */
    const char bytes[] = "\x93\x02\xa6"
                         "events\x91\x81\xa5watch\x07\x94\x01\x00\xc0\x2a\x94\x01\x01\xc0\x2b";
    write_all(fd, bytes, sizeof bytes - 1);
    assert_int_equal(ipc_client_call(client, "b", "\x80", 1, &message), 0);
    assert_int_equal(message.body.via.u64, 0x2b);
    assert_int_equal(ipc_client_receive(client, 0, &message), 0);
    assert_true(message.is_notification);
    assert_str(&message.method, "events");
    assert_int_equal(ipc_map_get(&message.body, "watch")->via.u64, 7);
    assert_int_equal(ipc_client_receive(client, 0, &message), 0);
    assert_int_equal(message.id, first);
    assert_int_equal(message.body.via.u64, 0x2a);
    assert_int_equal(ipc_client_receive(client, 0, &message), -REEVE_ERROR_BUSY);
    close(fd);
    ipc_client_close(client);
}

static void client_tells_why_it_was_disconnected(void **state)
{
    struct fixture *f = *state;
    struct ipc_client *client;
    struct ipc_message message;
    struct reeve_error error;
    const int fd = connected(f, &client);
    rpc_error_set(&error, REEVE_ERROR_FORBIDDEN, "", "not you");
    rpc_pack_error_notification(&f->packer, &error);
    write_all(fd, f->buffer.data, f->buffer.size);
    close(fd);
    assert_int_equal(ipc_client_call(client, "hello", NULL, 0, &message), -REEVE_ERROR_FORBIDDEN);
    assert_string_equal(ipc_client_error(client)->message, "not you");
    ipc_client_close(client);
}

static void client_refuses_what_is_no_message(void **state)
{
    struct fixture *f = *state;
    struct ipc_client *client;
    struct ipc_message message;
    const int fd = connected(f, &client);
    write_all(fd, "\x93\x02\xa1x\x90\xc1", 6);
    assert_int_equal(ipc_client_receive(client, 0, &message), -REEVE_ERROR_INTERNAL);
    assert_int_equal(ipc_client_receive(client, 0, &message), -REEVE_ERROR_INTERNAL);
    close(fd);
    ipc_client_close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(request_is_taken_apart),
        TEST(notification_and_response_are_taken_apart),
        TEST(what_is_no_message_is_refused),
        TEST(params_are_one_map_or_none),
        TEST(error_comes_back_whole),
        TEST(every_error_has_a_map),
        TEST(every_method_is_found),
        TEST(links_move_between_lists),
        TEST(stale_socket_is_replaced_and_a_live_one_is_not),
        TEST(other_files_and_long_paths_are_refused),
        TEST(rules_say_who_may_connect),
        TEST(client_needs_a_server),
        TEST(client_puts_pieces_together),
        TEST(client_keeps_what_a_call_passes_over),
        TEST(client_tells_why_it_was_disconnected),
        TEST(client_refuses_what_is_no_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
