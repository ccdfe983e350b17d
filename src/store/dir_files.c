#include "store/dir_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/task.h"
#include "store/dir_calls.h"

/* Few enough that looking at all of them costs less than opening a file. */
enum { SLOTS = 128 };

struct dir_slot {
    uint64_t hash;
    char *key; /* NULL: unused, or forgotten while in use */
    int fd;
    unsigned users;
    uint64_t last_use;
};

struct dir_files {
    int root;
    struct mutex lock; /* guards what follows */
    uint64_t uses;
    uint64_t forgets; /* a file opened before one of these may be the old object */
    struct dir_slot slots[SLOTS];
};

struct dir_files *dir_files_new(int root)
{
    struct dir_files *f = mem_new(struct dir_files);
    f->root = root;
    mutex_init(&f->lock);
    return f;
}

static void empty(struct dir_slot *slot)
{
    assert(slot->users == 0);
    if (!slot->key) return;
    (void)close(slot->fd);
    mem_free(slot->key);
    slot->key = NULL;
}

void dir_files_free(struct dir_files *f)
{
    if (!f) return;
    for (size_t i = 0; i < SLOTS; i++)
        empty(&f->slots[i]);
    mutex_release(&f->lock);
    mem_free(f);
}

static struct dir_slot *find(struct dir_files *f, uint64_t hash, const char *key)
{
    for (size_t i = 0; i < SLOTS; i++) {
        struct dir_slot *slot = &f->slots[i];
        if (slot->key && slot->hash == hash && strcmp(slot->key, key) == 0) return slot;
    }
    return NULL;
}

static struct dir_slot *use(struct dir_files *f, struct dir_slot *slot)
{
    slot->users++;
    slot->last_use = ++f->uses;
    return slot;
}

/* The slot unused for longest, emptied; NULL while all are in use. */
static struct dir_slot *free_slot(struct dir_files *f)
{
    struct dir_slot *oldest = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        struct dir_slot *slot = &f->slots[i];
        if (slot->users) continue;
        if (!slot->key) return slot;
        if (!oldest || slot->last_use < oldest->last_use) oldest = slot;
    }
    if (oldest) empty(oldest);
    return oldest;
}

int dir_files_open_once(int root, const char *key, int *out)
{
    static const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    struct stat about;
    /* To note the time of a file's first read the kernel waits for the file system's
     * journal, tens of milliseconds while others sync. Of a file that is not ours it is
     * not allowed to leave that out. */
    int fd = dir_open(root, key, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) fd = dir_open(root, key, flags);
    if (fd < 0) return errno == ENOTDIR ? ENOENT : errno;
    int error = fstat(fd, &about) == 0 ? 0 : errno;
    if (!error && S_ISREG(about.st_mode)) {
        *out = fd;
        return 0;
    }
    (void)close(fd);
    return error ? error : ENOENT;
}

int dir_files_open(struct dir_files *f, const char *key, struct dir_file *out)
{
    uint64_t hash = xxh3_64(key, strlen(key));

    mutex_lock(&f->lock);
    struct dir_slot *slot = find(f, hash, key);
    if (slot) *out = (struct dir_file){slot->fd, use(f, slot)};
    uint64_t forgets = f->forgets;
    mutex_unlock(&f->lock);
    if (slot) return 0;

    int fd = -1;
    int error = dir_files_open_once(f->root, key, &fd);
    if (error) return error;

    mutex_lock(&f->lock);
    *out = (struct dir_file){fd, NULL};
    if (f->forgets == forgets && !find(f, hash, key)) slot = free_slot(f);
    if (slot) {
        slot->hash = hash;
        slot->key = mem_strdup(key);
        slot->fd = fd;
        out->slot = use(f, slot);
    }
    mutex_unlock(&f->lock);
    return 0;
}

void dir_files_close(struct dir_files *f, struct dir_file *file)
{
    struct dir_slot *slot = file->slot;
    bool last = true;

    if (file->fd < 0) return;
    if (slot) {
        mutex_lock(&f->lock);
        assert(slot->users > 0);
        slot->users--;
        last = slot->users == 0 && !slot->key;
        mutex_unlock(&f->lock);
    }
    if (last) (void)close(file->fd);
    *file = (struct dir_file){-1, NULL};
}

void dir_files_forget(struct dir_files *f, const char *key)
{
    mutex_lock(&f->lock);
    f->forgets++;
    struct dir_slot *slot = find(f, xxh3_64(key, strlen(key)), key);
    if (slot && slot->users) {
        mem_free(slot->key); /* the last user closes it */
        slot->key = NULL;
    } else if (slot) {
        empty(slot);
    }
    mutex_unlock(&f->lock);
}
