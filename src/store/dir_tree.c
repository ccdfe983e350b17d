/*
 * A folder is known when it, and every folder above it, has been fsynced by this
 * process since anybody but a writer now inside it last added a name. A writer counts
 * itself in before its name becomes visible and out after the fsync, so a reader that
 * finds a known folder without writers need do nothing; one that finds writers cannot
 * tell whose name it saw and fsyncs.
 *
 * Making folders, meeting them first and removing them happen under the tree lock, one
 * at a time, because each looks at several levels at once. Everything else takes only
 * the folders lock, which is never held across an fsync.
 */
#include "store/dir_tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/task.h"
#include "store/dir_calls.h"
#include "store/store.h"

enum { BUCKETS = 4096, FOLDERS_MAX = 65536 };

struct folder {
    struct folder *next; /* in its bucket */
    unsigned writers;
    char path[];
};

struct dir_tree {
    int root;
    atomic_int broken;
    struct mutex tree;    /* guards making, meeting and removing; taken first */
    struct mutex folders; /* guards what follows */
    struct folder *buckets[BUCKETS];
    size_t count;
};

struct dir_tree *dir_tree_new(int root)
{
    struct dir_tree *t = mem_new(struct dir_tree);
    t->root = root;
    atomic_init(&t->broken, 0);
    mutex_init(&t->tree);
    mutex_init(&t->folders);
    return t;
}

void dir_tree_free(struct dir_tree *t)
{
    if (!t) return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (t->buckets[i]) {
            struct folder *next = t->buckets[i]->next;
            mem_free(t->buckets[i]);
            t->buckets[i] = next;
        }
    }
    mutex_release(&t->folders);
    mutex_release(&t->tree);
    mem_free(t);
}

int dir_tree_broken(struct dir_tree *t)
{
    return atomic_load(&t->broken);
}

static int sync_folder(struct dir_tree *t, int fd)
{
    if (dir_tree_broken(t)) return EIO;
    int error = dir_fsync(fd);
    if (error) atomic_store(&t->broken, error);
    return error ? EIO : 0;
}

/* The link that points at the folder of this path, or at the NULL where it belongs. */
static struct folder **find(struct dir_tree *t, const char *path)
{
    struct folder **at = &t->buckets[xxh3_64(path, strlen(path)) % BUCKETS];
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    return at;
}

static void forget(struct dir_tree *t, struct folder **at)
{
    struct folder *gone = *at;
    assert(gone->writers == 0);
    *at = gone->next;
    mem_free(gone);
    t->count--;
}

static void forget_idle(struct dir_tree *t)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct folder **at = &t->buckets[i];
        while (*at) {
            if ((*at)->writers)
                at = &(*at)->next;
            else
                forget(t, at);
        }
    }
}

static struct folder *remember(struct dir_tree *t, const char *path)
{
    struct folder **at = find(t, path);
    if (*at) return *at;
    if (t->count >= FOLDERS_MAX) {
        forget_idle(t);
        at = find(t, path);
    }

    size_t size = strlen(path) + 1;
    struct folder *folder = mem_alloc(sizeof *folder + size);
    folder->next = NULL;
    folder->writers = 0;
    memcpy(folder->path, path, size);
    *at = folder;
    t->count++;
    return folder;
}

static bool known(struct dir_tree *t, const char *path)
{
    mutex_lock(&t->folders);
    bool yes = *find(t, path) != NULL;
    mutex_unlock(&t->folders);
    return yes;
}

/* Opens the folder `name` in the open folder `parent`; made tells whether we made it.
 */
static int open_child(int parent, const char *name, bool make, int *fd, bool *made)
{
    static const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

    *made = false;
    *fd = openat(parent, name, flags);
    if (*fd >= 0) return 0;
    if (errno != ENOENT || !make) return errno;

    if (dir_calls->mkdirat(parent, name, DIR_FOLDER_MODE) == 0)
        *made = true;
    else if (errno != EEXIST)
        return errno;
    *fd = openat(parent, name, flags);
    return *fd >= 0 ? 0 : errno;
}

/* The path and all folders above it are known from now on. */
static void remember_all(struct dir_tree *t, const char *path)
{
    char so_far[STORE_KEY_MAX + 1];
    size_t path_size = strlen(path);

    mutex_lock(&t->folders);
    (void)remember(t, "");
    for (size_t i = 1; i <= path_size; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(so_far, path, i);
        so_far[i] = '\0';
        (void)remember(t, so_far);
    }
    mutex_unlock(&t->folders);
}

/*
 * Goes down from the root to path and fsyncs each folder on the way that is not known,
 * and the parent of each that is not. Then path, open, is in *out, and all of them are
 * known. Under the tree lock.
 */
static int anchor(struct dir_tree *t, const char *path, bool make, int *out)
{
    char so_far[STORE_KEY_MAX + 1], segment[STORE_KEY_MAX + 1];
    size_t size = 0, path_size = strlen(path);
    bool here_known = known(t, "");
    int error = 0, at = dir_open(t->root, "", O_RDONLY | O_DIRECTORY);

    if (at < 0) return errno;
    while (size < path_size) {
        size_t start = size ? size + 1 : 0;
        const char *slash = strchr(path + start, '/');
        size = slash ? (size_t)(slash - path) : path_size;
        memcpy(so_far, path, size);
        so_far[size] = '\0';
        memcpy(segment, so_far + start, size - start + 1);

        int child = -1;
        bool made = false;
        error = open_child(at, segment, make, &child, &made);
        if (error) goto done;
        bool child_known = !made && known(t, so_far);
        if (!here_known || !child_known) error = sync_folder(t, at);
        (void)close(at);
        at = child;
        if (error) goto done;
        here_known = child_known || made; /* one just made holds no names yet */
    }
    if (!here_known) error = sync_folder(t, at);
    if (error) goto done;
    remember_all(t, path);
    *out = at;
    at = -1; /* the caller's now */
done:
    if (at >= 0) (void)close(at);
    return error;
}

/* Counts a writer into a known folder; NULL if it is not known. */
static struct folder *count_in(struct dir_tree *t, const char *path)
{
    mutex_lock(&t->folders);
    struct folder *folder = *find(t, path);
    if (folder) folder->writers++;
    mutex_unlock(&t->folders);
    return folder;
}

static void count_out(struct dir_tree *t, struct folder *folder)
{
    mutex_lock(&t->folders);
    assert(folder->writers > 0);
    folder->writers--;
    mutex_unlock(&t->folders);
}

int dir_tree_enter(struct dir_tree *t, const char *path, struct dir_entry *out)
{
    *out = (struct dir_entry){-1, NULL};
    if (dir_tree_broken(t)) return EIO;

    struct folder *folder = count_in(t, path);
    if (folder) {
        int fd = dir_open(t->root, path, O_RDONLY | O_DIRECTORY);
        if (fd >= 0) {
            *out = (struct dir_entry){fd, folder};
            return 0;
        }
        /* Somebody else removed it; it is made anew below. */
        count_out(t, folder);
        if (errno != ENOENT) return errno;
    }

    int fd = -1;
    mutex_lock(&t->tree);
    int error = anchor(t, path, true, &fd);
    if (!error) *out = (struct dir_entry){fd, count_in(t, path)};
    mutex_unlock(&t->tree);
    return error;
}

int dir_tree_leave(struct dir_tree *t, struct dir_entry *entry, bool linked)
{
    int error = linked ? sync_folder(t, entry->fd) : 0;
    count_out(t, entry->folder);
    (void)close(entry->fd);
    *entry = (struct dir_entry){-1, NULL};
    return error;
}

int dir_tree_meet(struct dir_tree *t, const char *path)
{
    mutex_lock(&t->folders);
    struct folder *folder = *find(t, path);
    bool durable = folder && folder->writers == 0;
    mutex_unlock(&t->folders);
    /* A writer that failed counted itself out after it broke the tree. */
    if (dir_tree_broken(t)) return EIO;
    if (durable) return 0;

    int fd = -1, error = 0;
    if (folder) {
        fd = dir_open(t->root, path, O_RDONLY | O_DIRECTORY);
        error = fd >= 0 ? sync_folder(t, fd) : errno;
    } else {
        mutex_lock(&t->tree);
        error = anchor(t, path, false, &fd);
        mutex_unlock(&t->tree);
    }
    if (fd >= 0) (void)close(fd);
    return error == ENOENT ? 0 : error;
}

/* True when it was removed. */
static bool remove_empty(struct dir_tree *t, const char *path)
{
    char parent[STORE_KEY_MAX + 1];
    const char *name = dir_split(path, parent);
    int fd = dir_open(t->root, parent, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return false;

    mutex_lock(&t->folders);
    struct folder **at = find(t, path);
    bool removed =
        !(*at && (*at)->writers) && dir_calls->unlinkat(fd, name, AT_REMOVEDIR) == 0;
    if (removed && *at) forget(t, at);
    mutex_unlock(&t->folders);
    (void)close(fd);
    return removed;
}

void dir_tree_prune(struct dir_tree *t, const char *path)
{
    char at[STORE_KEY_MAX + 1], parent[STORE_KEY_MAX + 1];

    memcpy(at, path, strlen(path) + 1);
    mutex_lock(&t->tree);
    while (*at && remove_empty(t, at)) {
        (void)dir_split(at, parent);
        memcpy(at, parent, strlen(parent) + 1);
    }
    mutex_unlock(&t->tree);
}
