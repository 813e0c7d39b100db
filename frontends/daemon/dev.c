#include "dev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dev {
    struct reeve_client *client;
    struct reeve_request request;
    char path[4096], reach[24576]; /* the lines that tell how to reach the daemon */
    char organization_id[37];
    struct reeve_error error;
    void (*on_done)(void *arg, const struct reeve_error *error);
    void *arg;
};

static void on_client_closed(void *arg)
{
    struct dev *dev = arg;
    dev->on_done(dev->arg, dev->error.code ? &dev->error : NULL);
    free(dev);
}

static void finish(struct dev *dev, const struct reeve_error *error)
{
    if (error)
        dev->error = *error;
    reeve_client_close(dev->client, on_client_closed, dev);
}

static void fail(struct dev *dev, const char *what)
{
    struct reeve_error error = {.code = REEVE_ERROR_STORE_ACCESS};
    snprintf(error.message, sizeof error.message, "cannot write %.150s: %s", what, strerror(errno));
    finish(dev, &error);
}

/* Whole or not at all: written beside, flushed, renamed. */
static bool write_whole(const char *path, const char *text)
{
    char part[4200];
    snprintf(part, sizeof part, "%s.part", path);
    const int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const size_t size = strlen(text);
    bool done = fd >= 0 && write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    if (fd >= 0)
        done = close(fd) == 0 && done;
    return done && rename(part, path) == 0;
}

/* Between quotes of a shell. */
static void quote(const char *text, char *ret_text, size_t size)
{
    size_t used = 0;
    for (; *text && used + 5 < size; text++) {
        const char *piece = *text == '\'' ? "'\\''" : NULL;
        if (piece)
            memcpy(ret_text + used, piece, 4);
        else
            ret_text[used] = *text;
        used += piece ? 4 : 1;
    }
    ret_text[used] = '\0';
}

/* Absolute, so that it works from wherever the file is read. */
static void make_absolute(const char *path, char *ret_path, size_t size)
{
    char whole[8200];
    char *directory = path[0] == '/' ? NULL : getcwd(NULL, 0);
    if (directory && strncmp(path, "./", 2) == 0)
        path += 2;
    snprintf(whole, sizeof whole, "%s%s%s", directory ? directory : "", directory ? "/" : "", path);
    free(directory);
    quote(whole, ret_path, size);
}

static void on_key(struct reeve_request *request, const struct reeve_result *result)
{
    struct dev *dev = request->data;
    const struct reeve_key_created *created = &result->answer.key_created;
    char text[28672], key_id[37];
    if (result->error.code) {
        finish(dev, &result->error);
        return;
    }
    reeve_uuid_format(&created->key_id, key_id);
    snprintf(text, sizeof text,
             "%sexport REEVE_ORG_ID='%s'\nexport REEVE_KEY_ID='%s'\nexport REEVE_KEY_SECRET='%.*s'\n", dev->reach,
             dev->organization_id, key_id, (int)created->key_secret.size, created->key_secret.data);
    if (write_whole(dev->path, text))
        finish(dev, NULL);
    else
        fail(dev, dev->path);
}

static bool is_reach(const char *line)
{
    static const char *const names[] = {"REEVE_SOCKET=", "REEVE_URL=", "REEVE_CLOUD_URL="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(line, "export ", 7) == 0 && strncmp(line + 7, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

/* A file of an earlier start stays, with the addresses of this one. */
static bool renew(struct dev *dev)
{
    char text[28672], kept[2048] = "", line[1024];
    FILE *file = fopen(dev->path, "re");
    if (!file)
        return false;
    while (fgets(line, sizeof line, file)) {
        if (!is_reach(line) && strlen(kept) + strlen(line) < sizeof kept)
            strcat(kept, line);
    }
    fclose(file);
    snprintf(text, sizeof text, "%s%s", dev->reach, kept);
    return write_whole(dev->path, text);
}

static void submit(struct dev *dev, reeve_done_cb on_done)
{
    dev->request.data = dev;
    dev->request.actor = reeve_str("dev");
    dev->request.on_done = on_done;
    const int r = reeve_submit(dev->client, &dev->request);
    if (r < 0) {
        const struct reeve_error error = {.code = (enum reeve_error_code) - r};
        finish(dev, &error);
    }
}

static void on_organization(struct reeve_request *request, const struct reeve_result *result)
{
    struct dev *dev = request->data;
    if (result->error.code) {
        finish(dev, &result->error);
        return;
    }
    const struct reeve_uuid id = result->answer.organization.id;
    reeve_uuid_format(&id, dev->organization_id);
    dev->request = (struct reeve_request){.command = REEVE_COMMAND_KEY_CREATE};
    dev->request.params.key_create = (struct reeve_key_create_params){
        .organization_id = id, .name = reeve_str("dev"), .role = REEVE_ROLE_ADMIN};
    dev->request.meta.idempotency_key = reeve_str("dev-key");
    submit(dev, on_key);
}

static void write_reach(struct dev *dev, const struct dev_addresses *addresses)
{
    char socket_path[16384];
    make_absolute(addresses->socket_path, socket_path, sizeof socket_path);
    size_t used = (size_t)snprintf(dev->reach, sizeof dev->reach, "export REEVE_SOCKET='%s'\n", socket_path);
    if (addresses->url)
        used += (size_t)snprintf(dev->reach + used, sizeof dev->reach - used, "export REEVE_URL='%s'\n",
                                 addresses->url);
    if (addresses->cloud_url)
        snprintf(dev->reach + used, sizeof dev->reach - used, "export REEVE_CLOUD_URL='%s'\n", addresses->cloud_url);
}

int dev_start(struct reeve_engine *engine, uv_loop_t *loop, const struct dev_addresses *addresses,
              void (*on_done)(void *arg, const struct reeve_error *error), void *arg)
{
    struct dev *dev = calloc(1, sizeof *dev);
    if (!dev)
        return -REEVE_ERROR_NO_MEMORY;
    dev->on_done = on_done;
    dev->arg = arg;
    snprintf(dev->path, sizeof dev->path, "%s/dev.env", addresses->data_dir);
    write_reach(dev, addresses);
    const int r = reeve_client_open(engine, loop, &dev->client);
    if (r < 0) {
        free(dev);
        return r;
    }
    if (access(dev->path, R_OK) == 0) { /* made by an earlier start */
        if (renew(dev))
            finish(dev, NULL);
        else
            fail(dev, dev->path);
        return 0;
    }
    dev->request = (struct reeve_request){.command = REEVE_COMMAND_ORGANIZATION_CREATE};
    dev->request.params.organization_create = (struct reeve_organization_create_params){.name = reeve_str("dev"),
                                                                                        .paid = true};
    /* A start that ended in between has the same answers again. */
    dev->request.meta.idempotency_key = reeve_str("dev-organization");
    submit(dev, on_organization);
    return 0;
}
