/*
 * In the order of full keys a folder counts as its name with the '/': "a-b" and "a.b"
 * come before everything in "a/", "a0" after. So the names of one folder are compared
 * as they stand in keys, and each level can be done by itself: pick the smallest names
 * behind a bound, go into the folders among them, and come back for more while there is
 * room (a folder may turn out to hold nothing).
 */
#include "store/dir_list.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/dir_calls.h"
#include "store/store.h"

/* Some folders are empty, so a page picks a few more names than it has room for. */
enum { PICKS_MIN = 64 };

struct page {
    struct op *op;
    char delimiter;
    const char **keys;
    size_t count, room;
};

/* The smallest names of one folder: a heap with the largest on top, then sorted. */
struct picks {
    char **names; /* folders end with '/' */
    size_t count, room, max;
    bool more; /* some were left out */
};

/* Which names of a folder are wanted. */
struct filter {
    const char *prefix; /* of the name as it stands in keys */
    const char *bound;  /* only keys above it, relative to this folder */
    const char *past;   /* only names above it */
    bool fold;
};

static void picks_clear(struct picks *p)
{
    for (size_t i = 0; i < p->count; i++)
        mem_free(p->names[i]);
    p->count = 0;
    p->more = false;
}

static void picks_release(struct picks *p)
{
    picks_clear(p);
    mem_free(p->names);
}

static void swap(char **a, char **b)
{
    char *old = *a;
    *a = *b;
    *b = old;
}

static void sift_up(struct picks *p, size_t at)
{
    for (size_t above; at > 0; at = above) {
        above = (at - 1) / 2;
        if (strcmp(p->names[above], p->names[at]) >= 0) return;
        swap(&p->names[above], &p->names[at]);
    }
}

static void sift_down(struct picks *p, size_t at)
{
    for (size_t below; (below = 2 * at + 1) < p->count; at = below) {
        if (below + 1 < p->count && strcmp(p->names[below + 1], p->names[below]) > 0)
            below++;
        if (strcmp(p->names[at], p->names[below]) >= 0) return;
        swap(&p->names[at], &p->names[below]);
    }
}

static void pick(struct picks *p, const char *name)
{
    if (p->count == p->max) {
        p->more = true;
        if (strcmp(name, p->names[0]) >= 0) return;
        mem_free(p->names[0]);
        p->names[0] = mem_strdup(name);
        sift_down(p, 0);
        return;
    }
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : PICKS_MIN;
        p->names = mem_realloc(p->names, p->room * sizeof *p->names);
    }
    p->names[p->count++] = mem_strdup(name);
    sift_up(p, p->count - 1);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* name: as it stands in keys. */
static bool wanted(const struct filter *f, const char *name, bool folder)
{
    if (!starts_with(name, f->prefix)) return false;
    if (*f->past && strcmp(name, f->past) <= 0) return false;
    if (!folder || f->fold) return strcmp(name, f->bound) > 0;
    /* All keys in the folder begin with name, so some may be above a bound in it. */
    return strcmp(name, f->bound) >= 0 || starts_with(f->bound, name);
}

/* What a directory entry is to us: a key's segment, a folder, or nothing. */
static bool classify(int fd, const struct dirent *entry, bool *folder)
{
    struct stat about;
    unsigned char type = entry->d_type;

    if (entry->d_name[0] == '.' || !store_key_valid(entry->d_name)) return false;
    if (type == DT_UNKNOWN) {
        if (fstatat(fd, entry->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) return false;
        type = S_ISREG(about.st_mode)   ? DT_REG
               : S_ISDIR(about.st_mode) ? DT_DIR
                                        : DT_UNKNOWN;
    }
    *folder = type == DT_DIR;
    return type == DT_REG || type == DT_DIR;
}

/* Opens a folder to read its names. ERR_OK and NULL when there is none. */
static enum err open_names(struct op *op, int at, const char *path, DIR **out)
{
    int fd = dir_open(at, path, O_RDONLY | O_DIRECTORY);
    *out = fd >= 0 ? fdopendir(fd) : NULL;
    if (*out) return ERR_OK;
    int error = errno;
    if (fd >= 0) (void)close(fd);
    if (error == ENOENT || error == ENOTDIR || error == ELOOP) return ERR_OK;
    return op_fail(op, error == EACCES ? ERR_DENIED : ERR_IO, "list %s: %s", path,
                   dir_error(error));
}

/* The next entry that is ours; NULL in *entry at the end. */
static enum err next_entry(struct op *op, DIR *names, const struct dirent **entry,
                           bool *folder)
{
    for (unsigned seen = 1;; seen++) {
        errno = 0;
        *entry = readdir(names); /* NOLINT(concurrency-mt-unsafe): our own */
        if (!*entry && errno) return op_fail(op, ERR_IO, "list: %s", dir_error(errno));
        if (!*entry || classify(dirfd(names), *entry, folder)) return ERR_OK;
        enum err e = seen % 1024 == 0 ? op_check(op) : ERR_OK;
        if (e) return e;
    }
}

static enum err scan(struct op *op, DIR *names, const struct filter *f, struct picks *p)
{
    const struct dirent *entry;
    bool folder = false;

    picks_clear(p);
    rewinddir(names);
    for (unsigned seen = 1;; seen++) {
        enum err e = next_entry(op, names, &entry, &folder);
        if (e || !entry) return e;
        char name[STORE_SEGMENT_MAX + 2];
        size_t size = strlen(entry->d_name);
        memcpy(name, entry->d_name, size + 1);
        if (folder) memcpy(name + size, "/", 2);
        if (wanted(f, name, folder)) pick(p, name);
        if (seen % 1024 == 0 && (e = op_check(op))) return e;
    }
}

/* Whether any key is below the folder `name` of `at`. Empty ones are left by deletes.
 */
static enum err holds_keys(struct op *op, int at, const char *name, unsigned depth,
                           bool *yes)
{
    DIR *names;
    const struct dirent *entry = NULL;
    bool folder = false;
    enum err e = open_names(op, at, name, &names);

    *yes = false;
    if (e || !names) return e;
    while (!*yes && !(e = next_entry(op, names, &entry, &folder)) && entry) {
        if (!folder)
            *yes = true;
        else if (depth > 0)
            e = holds_keys(op, dirfd(names), entry->d_name, depth - 1, yes);
        if (e) break;
    }
    (void)closedir(names);
    return e;
}

static enum err add(struct page *page, const char *path, const char *name)
{
    const char *key = op_printf(page->op, "%s%s", path, name);
    if (!key) return ERR_LIMIT;
    page->keys[page->count++] = key;
    return ERR_OK;
}

static enum err walk(struct page *page, int at, const char *name, const char *path,
                     const char *prefix, const char *bound);

/* One picked name: a key, a folded folder, or a folder to go into. */
static enum err visit(struct page *page, int at, const char *path, char *name,
                      const char *bound)
{
    size_t size = strlen(name), path_size = strlen(path);
    if (path_size + size > STORE_KEY_MAX) return ERR_OK; /* no key of ours */
    if (name[size - 1] != '/') return add(page, path, name);

    if (page->delimiter) {
        bool yes = false;
        name[size - 1] = '\0';
        enum err e = holds_keys(page->op, at, name, STORE_KEY_MAX / 2, &yes);
        name[size - 1] = '/';
        return e || !yes ? e : add(page, path, name);
    }

    char below[STORE_KEY_MAX + 1];
    int whole = snprintf(below, sizeof below, "%s%s", path, name);
    assert(whole >= 0 && (size_t)whole == path_size + size);
    bound = starts_with(bound, name) ? bound + size : "";
    name[size - 1] = '\0';
    enum err e = walk(page, at, name, below, "", bound);
    name[size - 1] = '/';
    return e;
}

/*
 * Adds the keys of the folder `name`, opened from `at`, whose keys begin with path,
 * until the page is full. prefix and bound are relative to path.
 */
static enum err walk(struct page *page, int at, const char *name, const char *path,
                     const char *prefix, const char *bound)
{
    struct picks picks = {0};
    char past[STORE_SEGMENT_MAX + 2] = "";
    struct filter filter = {prefix, bound, past, page->delimiter != 0};
    DIR *names;
    enum err e = open_names(page->op, at, name, &names);
    if (e || !names) return e;

    do {
        picks.max = page->room - page->count;
        if (picks.max < PICKS_MIN) picks.max = PICKS_MIN;
        e = scan(page->op, names, &filter, &picks);
        if (e) break;
        if (picks.count)
            qsort(picks.names, picks.count, sizeof *picks.names, compare_names);
        for (size_t i = 0; i < picks.count && page->count < page->room && !e; i++)
            e = visit(page, dirfd(names), path, picks.names[i], bound);
        if (picks.more)
            (void)snprintf(past, sizeof past, "%s", picks.names[picks.count - 1]);
    } while (!e && picks.more && page->count < page->room);

    picks_release(&picks);
    (void)closedir(names);
    return e;
}

enum err dir_list(struct op *op, int root, const char *prefix, const char *after,
                  char delimiter, const char **keys, size_t *n)
{
    char folder[STORE_KEY_MAX + 1], path[STORE_KEY_MAX + 2];
    struct page page = {op, delimiter, keys, 0, *n};
    size_t prefix_size = strlen(prefix);
    bool above = strcmp(after, prefix) >= 0;

    /* Keys with the prefix are all below an `after` that is above it without having it,
     * and all above an `after` that is below it. */
    if (prefix_size > STORE_KEY_MAX || (above && !starts_with(after, prefix))) {
        *n = 0;
        return ERR_OK;
    }

    const char *rest = dir_split(prefix, folder);
    size_t path_size = (size_t)(rest - prefix);
    if (path_size && !store_key_valid(folder)) {
        *n = 0;
        return ERR_OK;
    }
    memcpy(path, prefix, path_size);
    path[path_size] = '\0';
    enum err e = walk(&page, root, folder, path, rest, above ? after + path_size : "");
    if (!e) *n = page.count;
    return e;
}
