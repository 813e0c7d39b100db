/* A disk that lies, preloaded under a daemon: calls on files below a directory fail, are cut short, or end in a power
 * cut.
 *
 *   REEVE_FAULTS_DIR    the directory
 *   REEVE_FAULTS        a file with the rules, read at each call: it may change while the daemon runs
 *   REEVE_FAULTS_SEED   for what a power cut leaves behind; with it, what is not synced is remembered
 *
 * A rule is a line `CALL EFFECT SKIP COUNT [FILE]`: let SKIP calls pass, then spoil COUNT (0: all), of those that are
 * about a file whose name begins so. When the text of the rules changes, counting starts again. CALL is one of the
 * names below, or `any`; `syncwrite` is a write through a descriptor that syncs by itself, which is how LMDB makes a
 * batch the valid one and how the journal writes; `direct` is an open that wants to go past the page cache. EFFECT is
 *
 *   EIO ENOSPC EDQUOT EINTR EINVAL EMFILE ENOMEM   the call fails so and does nothing
 *   short                            half of a write is done, and said
 *   cut                              the power fails: of each page that was written since the last sync, and of the
 * write that was about to be made, all, nothing or any of its sectors are there
 *
 * The page cache cannot be taken away from a mapping. So what was there before is kept, and put back at the cut. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 65536
#define RULES_MAX 8
#define PAGE 4096
#define SECTOR 512
#define NAME_BYTES 32

enum call { OPEN, DIRECT, WRITE, PWRITE, WRITEV, SYNCWRITE, FDATASYNC, FSYNC, MSYNC, FTRUNCATE, MMAP, ANY };
static const char *const calls[] = {"open",      "direct", "write", "pwrite",    "writev", "syncwrite",
                                    "fdatasync", "fsync",  "msync", "ftruncate", "mmap",   "any"};

enum { SHORT = -1, CUT = -2 }; /* effects besides error numbers */
static const struct {
    const char *name;
    int effect;
} effects[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR}, {"EINVAL", EINVAL},
               {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"short", SHORT},   {"cut", CUT}};

struct rule {
    enum call call;
    int effect;
    unsigned long skip, count, passed;
    char file[NAME_BYTES]; /* what its name begins with */
};

/* A page as it was at the last sync. */
struct page {
    struct page *next;
    ino_t file;
    off_t at;
    char bytes[PAGE];
};

static struct {
    pthread_mutex_t lock;
    char text[1024];
    struct rule rules[RULES_MAX];
    unsigned count;
    struct page *pages;
    uint64_t luck;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct descriptor {
    bool ours, writes, syncs;
    ino_t file;
    char name[NAME_BYTES];
} descriptors[DESCRIPTORS];

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_fdatasync)(int), (*real_fsync)(int);
static int (*real_msync)(void *, size_t, int);
static int (*real_ftruncate)(int, off_t);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);

static void find(void *function, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    memcpy(function, &found, sizeof found);
}

__attribute__((constructor)) static void find_all(void)
{
    if (real_open)
        return;
    find(&real_close, "close");
    find(&real_write, "write");
    find(&real_pwrite, "pwrite");
    find(&real_writev, "writev");
    find(&real_fdatasync, "fdatasync");
    find(&real_fsync, "fsync");
    find(&real_msync, "msync");
    find(&real_ftruncate, "ftruncate");
    find(&real_mmap, "mmap");
    find(&real_open, "open");
    const char *seed = getenv("REEVE_FAULTS_SEED");
    state.luck = seed ? strtoull(seed, NULL, 10) * 2 + 1 : 0;
}

/* ---- Rules ---- */

static void add_rule(const char *line)
{
    char call[16], effect[16];
    struct rule *rule = &state.rules[state.count];
    *rule = (struct rule){.call = ANY + 1, .effect = 0};
    if (state.count == RULES_MAX ||
        sscanf(line, "%15s %15s %lu %lu %31s", call, effect, &rule->skip, &rule->count, rule->file) < 4)
        abort(); /* a rule that is misread must not look like a fault that was survived */
    for (unsigned i = 0; i <= ANY; i++) {
        if (strcmp(call, calls[i]) == 0)
            rule->call = (enum call)i;
    }
    for (size_t i = 0; i < sizeof effects / sizeof effects[0]; i++) {
        if (strcmp(effect, effects[i].name) == 0)
            rule->effect = effects[i].effect;
    }
    if (rule->call > ANY || rule->effect == 0)
        abort();
    state.count++;
}

static void read_rules(void)
{
    char text[sizeof state.text] = "";
    const char *path = getenv("REEVE_FAULTS");
    const int fd = path ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        const ssize_t size = pread(fd, text, sizeof text - 1, 0);
        text[size > 0 ? size : 0] = '\0';
        real_close(fd);
    }
    if (strcmp(text, state.text) == 0)
        return;
    memcpy(state.text, text, sizeof text);
    state.count = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        if (*line)
            add_rule(line);
    }
}

/* ---- The power cut ---- */

static bool is_saved(ino_t file, off_t at)
{
    for (const struct page *page = state.pages; page; page = page->next) {
        if (page->file == file && page->at == at)
            return true;
    }
    return false;
}

/* Keep what a write is about to replace. */
static void save(int fd, off_t at, size_t size)
{
    const ino_t file = descriptors[fd].file;
    for (off_t from = at / PAGE * PAGE; from < at + (off_t)size; from += PAGE) {
        if (is_saved(file, from))
            continue;
        struct page *page = calloc(1, sizeof *page); /* zeros: what is behind the end of the file */
        if (!page || pread(fd, page->bytes, PAGE, from) < 0)
            abort();
        page->file = file;
        page->at = from;
        page->next = state.pages;
        state.pages = page;
    }
}

/* This much of it would be there after a power cut. */
static void note_synced(int fd, const char *bytes, off_t at, size_t size)
{
    for (struct page *page = state.pages; page; page = page->next) {
        if (page->file != descriptors[fd].file)
            continue;
        const off_t from = at > page->at ? at : page->at;
        const off_t end = page->at + PAGE, until = at + (off_t)size < end ? at + (off_t)size : end;
        if (from < until)
            memcpy(page->bytes + (from - page->at), bytes + (from - at), (size_t)(until - from));
    }
}

static void forget(ino_t file)
{
    struct page **link = &state.pages;
    while (*link) {
        struct page *page = *link;
        if (page->file != file) {
            link = &page->next;
            continue;
        }
        *link = page->next;
        free(page);
    }
}

static unsigned draw(unsigned below)
{
    state.luck = state.luck * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state.luck >> 33) % below;
}

/* Of what is there instead of something else: all, nothing, or some sectors. */
static void write_by_chance(int fd, const char *bytes, size_t size, off_t at)
{
    const unsigned fate = draw(3);
    for (size_t done = 0, part; done < size; done += part) {
        part = SECTOR - (size_t)(at + (off_t)done) % SECTOR;
        part = part < size - done ? part : size - done;
        if ((fate == 1 || (fate == 2 && draw(2))) && real_pwrite(fd, bytes + done, part, at + (off_t)done) < 0)
            abort();
    }
}

static void put_back(const struct page *page)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        if (descriptors[fd].ours && descriptors[fd].writes && descriptors[fd].file == page->file) {
            write_by_chance(fd, page->bytes, PAGE, page->at);
            return;
        }
    }
}

/* A write that is about to be made. */
struct attempt {
    int fd;
    const char *bytes;
    size_t size;
    off_t at;
};

static void cut(const struct attempt *attempt)
{
    if (!state.luck)
        abort();                               /* nothing was remembered */
    for (int fd = 0; fd < DESCRIPTORS; fd++) { /* sectors, at any place in memory */
        if (descriptors[fd].ours && descriptors[fd].writes)
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT);
    }
    for (const struct page *page = state.pages; page; page = page->next)
        put_back(page);
    if (attempt)
        write_by_chance(attempt->fd, attempt->bytes, attempt->size, attempt->at);
    raise(SIGKILL);
}

/* ---- Calls ---- */

/* What becomes of this call: 0, an error number or SHORT. Under the lock. */
static int effect_on(enum call call, const char *name, const struct attempt *attempt)
{
    read_rules();
    for (unsigned i = 0; i < state.count; i++) {
        struct rule *rule = &state.rules[i];
        if ((rule->call != call && rule->call != ANY) || strncmp(name, rule->file, strlen(rule->file)) != 0)
            continue;
        const unsigned long number = rule->passed++;
        if (number < rule->skip || (rule->count && number >= rule->skip + rule->count))
            continue;
        if (rule->effect == CUT)
            cut(attempt);
        return rule->effect;
    }
    return 0;
}

static const struct descriptor *descriptor_of(int fd)
{
    static const struct descriptor other;
    return fd >= 0 && fd < DESCRIPTORS && descriptors[fd].ours ? &descriptors[fd] : &other;
}

static ssize_t failed(int error)
{
    errno = error;
    return -1;
}

/* One write of any kind, whose place is known. */
static ssize_t write_at(enum call call, int fd, const char *bytes, size_t size, off_t at)
{
    const struct descriptor *descriptor = descriptor_of(fd);
    if (!descriptor->ours)
        return real_pwrite(fd, bytes, size, at);
    pthread_mutex_lock(&state.lock);
    if (state.luck && !descriptor->syncs)
        save(fd, at, size);
    const struct attempt attempt = {fd, bytes, size, at};
    const int effect = effect_on(descriptor->syncs ? SYNCWRITE : call, descriptor->name, &attempt);
    if (effect == SHORT)
        size /= 2;
    const ssize_t done = effect > 0 ? failed(effect) : real_pwrite(fd, bytes, size, at);
    if (state.luck && descriptor->syncs && done > 0)
        note_synced(fd, bytes, at, (size_t)done);
    pthread_mutex_unlock(&state.lock);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    find_all();
    return write_at(PWRITE, fd, bytes, size, at);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    find_all();
    const off_t at = descriptor_of(fd)->ours ? lseek(fd, 0, SEEK_CUR) : -1;
    if (at < 0)
        return real_write(fd, bytes, size);
    const ssize_t done = write_at(WRITE, fd, bytes, size, at);
    if (done > 0)
        lseek(fd, done, SEEK_CUR);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    find_all();
    const off_t at = descriptor_of(fd)->ours ? lseek(fd, 0, SEEK_CUR) : -1;
    if (at < 0)
        return real_writev(fd, parts, count);
    size_t size = 0, used = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    char *all = malloc(size);
    if (!all)
        return failed(ENOMEM);
    for (int i = 0; i < count; used += parts[i++].iov_len)
        memcpy(all + used, parts[i].iov_base, parts[i].iov_len);
    const ssize_t done = write_at(WRITEV, fd, all, size, at);
    const int error = errno;
    free(all);
    if (done > 0)
        lseek(fd, done, SEEK_CUR);
    errno = error;
    return done;
}

static int sync_file(enum call call, int (*real)(int), int fd)
{
    const struct descriptor *descriptor = descriptor_of(fd);
    if (!descriptor->ours)
        return real(fd);
    pthread_mutex_lock(&state.lock);
    const int effect = effect_on(call, descriptor->name, NULL);
    int r = effect > 0 ? (int)failed(effect) : state.luck ? 0 : real(fd); /* a power cut that is played needs no disk */
    if (r == 0)
        forget(descriptor->file);
    pthread_mutex_unlock(&state.lock);
    return r;
}

int fdatasync(int fd)
{
    find_all();
    return sync_file(FDATASYNC, real_fdatasync, fd);
}

int fsync(int fd)
{
    find_all();
    return sync_file(FSYNC, real_fsync, fd);
}

/* A call that has an effect on the whole of a file, or on none: may it be done? */
static bool may(enum call call, const char *name)
{
    pthread_mutex_lock(&state.lock);
    const int effect = effect_on(call, name, NULL);
    pthread_mutex_unlock(&state.lock);
    if (effect > 0)
        errno = effect;
    return effect <= 0;
}

static bool may_descriptor(enum call call, int fd)
{
    const struct descriptor *descriptor = descriptor_of(fd);
    return !descriptor->ours || may(call, descriptor->name);
}

int ftruncate(int fd, off_t size)
{
    find_all();
    return may_descriptor(FTRUNCATE, fd) ? real_ftruncate(fd, size) : -1;
}

int msync(void *address, size_t size, int flags)
{
    find_all();
    return may(MSYNC, "") ? real_msync(address, size, flags) : -1;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t at)
{
    find_all();
    if (fd >= 0 && !may_descriptor(MMAP, fd))
        return MAP_FAILED;
    return real_mmap(address, size, protection, flags, fd, at);
}

static bool is_below(const char *path)
{
    const char *directory = getenv("REEVE_FAULTS_DIR");
    const size_t size = directory ? strlen(directory) : 0;
    return size && strncmp(path, directory, size) == 0 && path[size] == '/';
}

static int open_any(const char *path, int flags, mode_t mode)
{
    find_all();
    if (!is_below(path))
        return real_open(path, flags, mode);
    const char *name = strrchr(path, '/') + 1;
    if (!may(OPEN, name) || (flags & O_DIRECT && !may(DIRECT, name)))
        return -1;
    const int fd = real_open(path, flags, mode);
    struct stat stat;
    if (fd >= 0 && fd < DESCRIPTORS && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
        descriptors[fd] = (struct descriptor){.ours = true,
                                              .writes = (flags & O_ACCMODE) != O_RDONLY,
                                              .syncs = (flags & O_DSYNC) != 0,
                                              .file = stat.st_ino};
        snprintf(descriptors[fd].name, NAME_BYTES, "%s", name);
    }
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int close(int fd)
{
    find_all();
    if (fd >= 0 && fd < DESCRIPTORS)
        descriptors[fd] = (struct descriptor){0};
    return real_close(fd);
}
