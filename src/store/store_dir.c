/*
 * An object is a file whose path below root is its key. The parts: dir_start proves the
 * file system fit at start, dir_tree knows which folders are durable, dir_files opens
 * objects for reading, dir_list lists, dir_calls is the way to the system calls; here
 * is the order in which a write uses them, and what happens when space runs out.
 *
 * A write: temporary in root/.tmp, pwrite, fsync, linkat to the final name, unlink of
 * the temporary, fsync of the folder. A named temporary rather than O_TMPFILE: it costs
 * one more directory change (0.05 ms of 0.4 ms measured on ext4), and in return there
 * is one path for all file systems, without /proc or a capability, on none of which a
 * file was ever fsynced while it had no name.
 */
#include "store/store_dir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"
#include "store/dir_calls.h"
#include "store/dir_files.h"
#include "store/dir_list.h"
#include "store/dir_start.h"
#include "store/dir_tree.h"

enum {
    BALLAST_BYTES = 64 << 20,
    BALLAST_FREE_MIN = 1 << 30, /* on a smaller file system 64 MiB would be much */
    SMALL_BYTES = 64 << 10,     /* manifests and fences; they may use the ballast */
    FULL_UNTIL_PERCENT = 5,
    FULL_PAUSE_MS = 500, /* a quota may be used up though statvfs sees free space */
    LINK_ATTEMPTS = 8,
    WRITE_STEP = 512 << 10,
    WRITE_AHEAD = 4 << 20 /* on its way to the disk, of one object */
};

struct store_dir {
    struct store base;
    char *root_path;
    int root, tmp, lock_file; /* -1 while not open */
    struct dir_tree *tree;
    struct dir_files *files;
    void (*on_poison)(void *context, const char *why);
    void *poison_context;
    atomic_bool poisoned;
    atomic_bool full;   /* large writes are refused */
    struct mutex space; /* guards the rest and every change of full */
    bool has_ballast;
    int64_t full_at_ms;
};

static struct store_dir *dir_of(struct store *s)
{
    return (struct store_dir *)s;
}

static enum err kind_of(int error)
{
    switch (error) {
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_CONFLICT;
    case ENOSPC:
    case EDQUOT: return ERR_FULL;
    case EFBIG: return ERR_LIMIT;
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case EXDEV:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG: return ERR_DENIED;
    default: return ERR_IO;
    }
}

static enum err fail_errno(struct op *op, int error, const char *what)
{
    return op_fail(op, kind_of(error), "%s: %s", what, dir_error(error));
}

/* The kernel reports a failed write-back once and may have dropped the pages, so no
 * later fsync proves anything. */
static enum err poison(struct op *op, struct store_dir *d, enum err e, const char *why)
{
    if (!atomic_exchange(&d->poisoned, true)) {
        log_error(op, "store poisoned", "root=%s reason=%s", d->root_path, why);
        if (!d->on_poison) abort();
        d->on_poison(d->poison_context, why);
    }
    return op_fail(op, e, "%s: this store takes no more writes", why);
}

/* For an error of dir_tree: poison if it comes from a failed fsync. */
static enum err fail_tree(struct op *op, struct store_dir *d, int error,
                          enum err broken)
{
    if (dir_tree_broken(d->tree))
        return poison(op, d, broken, "fsync of a folder failed");
    return fail_errno(op, error, "open the folder");
}

static enum err check_writable(struct op *op, struct store_dir *d)
{
    if (d->tmp < 0)
        return op_fail(op, ERR_DENIED, "this store was opened for reading only");
    if (!atomic_load(&d->poisoned)) return ERR_OK;
    return op_fail(op, ERR_IO, "fsync failed earlier: this store takes no more writes");
}

/* Space. */

static void ballast_take(struct op *op, struct store_dir *d)
{
    struct statvfs about;
    struct stat file;

    if (fstatvfs(d->root, &about) != 0) return;
    int fd = openat(d->root, ".ballast", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
                    DIR_FILE_MODE);
    if (fd < 0) return;
    bool there =
        fstat(fd, &file) == 0 && (long long)file.st_blocks * 512 >= BALLAST_BYTES;
    if (!there && (uint64_t)about.f_bavail * about.f_frsize < BALLAST_FREE_MIN) {
        log_warn(op, "no ballast: less than 1 GiB is free", "root=%s", d->root_path);
    } else if (!there) {
        int error = posix_fallocate(fd, 0, BALLAST_BYTES);
        there = error == 0;
        if (error) log_warn(op, "no ballast", "reason=%s", dir_error(error));
    }
    (void)close(fd);
    if (!there) (void)unlinkat(d->root, ".ballast", 0);
    d->has_ballast = there;
}

/* Whether a write of this size may be tried. */
static enum err admit(struct op *op, struct store_dir *d, uint64_t size)
{
    struct statvfs about;

    if (!atomic_load_explicit(&d->full, memory_order_relaxed)) return ERR_OK;
    mutex_lock(&d->space);
    if (atomic_load(&d->full) && clock_ms() - d->full_at_ms >= FULL_PAUSE_MS &&
        fstatvfs(d->root, &about) == 0 &&
        (uint64_t)about.f_bavail * 100 >=
            (uint64_t)about.f_blocks * FULL_UNTIL_PERCENT) {
        log_info(op, "store has space again", "root=%s", d->root_path);
        atomic_store(&d->full, false);
        if (!d->has_ballast) ballast_take(op, d);
    }
    bool full = atomic_load(&d->full);
    mutex_unlock(&d->space);

    if (!full || size <= SMALL_BYTES) return ERR_OK;
    op->retry_after_ms = FULL_PAUSE_MS;
    return op_fail(op, ERR_FULL, "refused until %d %% of the file system is free",
                   FULL_UNTIL_PERCENT);
}

/* Space ran out. True when the ballast was dropped for a small write: try again. */
static bool make_room(struct op *op, struct store_dir *d, uint64_t size)
{
    mutex_lock(&d->space);
    if (!atomic_exchange(&d->full, true))
        log_error(op, "store is full", "root=%s", d->root_path);
    d->full_at_ms = clock_ms();
    bool dropped = false;
    if (size <= SMALL_BYTES && d->has_ballast) {
        dropped = unlinkat(d->root, ".ballast", 0) == 0;
        d->has_ballast = false;
        log_warn(op, "ballast dropped", "root=%s", d->root_path);
    }
    mutex_unlock(&d->space);
    return dropped;
}

/* Writes. */

/* Where a part lies in pages of a file that are not mapped now, a write finds that out
 * page by page, with much of its work in vain. A hint: it may fail. */
static void make_present(const uint8_t *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)data & ~(page - 1), end = (uintptr_t)data + size;
    (void)madvise((void *)first, end - first, MADV_POPULATE_READ);
}

/*
 * Begins to write a step of a large object to the disk, and waits for the one some
 * before it: left to the fsync at its end, all of it would stand in the way of what
 * others read and sync. 0, or the errno of a write to the disk that failed, of which no
 * fsync tells any more.
 */
static int write_out(int fd, off_t offset, off_t size)
{
    if (dir_calls->sync_file_range(fd, offset, size, SYNC_FILE_RANGE_WRITE) != 0)
        return 0; /* a file system that cannot; fsync tells of everything else */
    if (offset < WRITE_AHEAD ||
        dir_calls->sync_file_range(fd, offset - WRITE_AHEAD, size,
                                   SYNC_FILE_RANGE_WAIT_BEFORE) == 0)
        return 0;
    return errno == EIO || errno == ENOSPC || errno == EDQUOT ? errno : 0;
}

/* 0 or errno; *lost: that of what had been written already. */
static int write_all(struct op *op, int fd, const struct slice *parts, size_t n,
                     int *lost)
{
    off_t offset = 0;

    for (size_t i = 0; i < n; i++) {
        for (size_t done = 0; done < parts[i].size && !*lost;) {
            size_t left = parts[i].size - done;
            size_t size = left < WRITE_STEP ? left : WRITE_STEP;
            if (left > WRITE_STEP) make_present(parts[i].data + done, size);
            ssize_t wrote = dir_calls->pwrite(fd, parts[i].data + done, size, offset);
            if (wrote < 0 && errno == EINTR) continue;
            if (wrote <= 0) return wrote < 0 ? errno : EIO;
            if (left > WRITE_STEP) *lost = write_out(fd, offset, wrote);
            op_rest(op);
            done += (size_t)wrote;
            offset += wrote;
        }
    }
    return 0;
}

/* A whole and durable file called name in .tmp; nothing on failure. */
static enum err write_temporary(struct op *op, struct store_dir *d, const char *name,
                                const struct slice *parts, size_t n)
{
    enum err e = ERR_OK;
    int lost = 0;
    int fd = openat(d->tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    DIR_FILE_MODE);
    if (fd < 0) {
        int error = errno;
        /* A lost .tmp is trouble with the disk, not a missing object. */
        return fail_errno(op, error == ENOENT ? EIO : error, "make a temporary");
    }

    int error = write_all(op, fd, parts, n, &lost);
    if (!error && !lost) lost = dir_fsync(fd);
    if (error) {
        e = fail_errno(op, error, "write");
    } else if (lost) {
        /* No space is no lost page: the file is thrown away whole. */
        e = kind_of(lost) == ERR_FULL ? fail_errno(op, lost, "fsync")
                                      : poison(op, d, ERR_IO, "fsync of a file failed");
    }
    if (close(fd) != 0 && errno != EINTR && !e) e = fail_errno(op, errno, "close");
    if (e) (void)dir_calls->unlinkat(d->tmp, name, 0);
    return e;
}

/* Gives the temporary its final name, durably. */
static enum err publish(struct op *op, struct store_dir *d, const char *temporary,
                        const char *key)
{
    char folder[STORE_KEY_MAX + 1];
    const char *name = dir_split(key, folder);
    int error = ENOENT;

    /* ENOENT: somebody else removed the empty folder under us. Make it again. */
    for (int attempt = 0; attempt < LINK_ATTEMPTS && error == ENOENT; attempt++) {
        struct dir_entry entry;
        error = dir_tree_enter(d->tree, folder, &entry);
        if (error == ENOENT) continue;
        if (error) return fail_tree(op, d, error, ERR_IO);

        bool linked = dir_calls->linkat(d->tmp, temporary, entry.fd, name, 0) == 0;
        error = linked ? 0 : errno;
        if (linked) (void)dir_calls->unlinkat(d->tmp, temporary, 0);
        if (dir_tree_leave(d->tree, &entry, linked))
            return poison(op, d, ERR_UNKNOWN, "fsync of a folder failed");
    }
    if (!error) return ERR_OK;
    return fail_errno(op, error == ENOENT ? EIO : error, "link");
}

static enum err try_write(struct op *op, struct store_dir *d, const char *key,
                          const struct slice *parts, size_t n)
{
    char temporary[DIR_TEMP_NAME_MAX];

    dir_temp_name(temporary);
    enum err e = write_temporary(op, d, temporary, parts, n);
    if (e) return e;
    e = publish(op, d, temporary, key);
    if (e) (void)dir_calls->unlinkat(d->tmp, temporary, 0);
    return e;
}

static enum err write_object(struct op *op, struct store_dir *d, const char *key,
                             const struct slice *parts, size_t n)
{
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;

    enum err e = check_writable(op, d);
    if (!e) e = admit(op, d, size);
    if (!e) e = try_write(op, d, key, parts, n);
    if (e == ERR_FULL && make_room(op, d, size)) {
        op_clear_error(op);
        e = try_write(op, d, key, parts, n);
    }
    return e;
}

static enum err store_dir_create(struct op *op, struct store *s, const char *key,
                                 struct slice data)
{
    enum err e = write_object(op, dir_of(s), key, &data, 1);
    return e ? op_fail(op, e, "create %s", key) : ERR_OK;
}

/* Reads. */

/* Exactly size bytes from offset. ERR_CORRUPT when the file ends before. */
static enum err read_exactly(struct op *op, int fd, uint8_t *data, size_t size,
                             uint64_t offset)
{
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return op_fail(op, ERR_CORRUPT, "shorter than expected");
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, data + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return op_fail(op, ERR_IO, "read: %s", dir_error(errno));
        if (got == 0) return op_fail(op, ERR_CORRUPT, "shorter than expected");
        done += (size_t)got;
    }
    return ERR_OK;
}

/* An empty range reads nothing, but the object must reach so far. */
static enum err check_reach(struct op *op, int fd, uint64_t offset)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return op_fail(op, ERR_IO, "stat: %s", dir_error(errno));
    if (offset > (uint64_t)about.st_size)
        return op_fail(op, ERR_CORRUPT, "shorter than expected");
    return ERR_OK;
}

static enum err read_range(struct op *op, struct store_dir *d, struct store_range *r)
{
    struct dir_file file = {-1, NULL};
    int error = dir_files_open(d->files, r->key, &file);
    enum err e = ERR_OK;

    if (error)
        e = fail_errno(op, error, "open");
    else if (r->size == 0)
        e = check_reach(op, file.fd, r->offset);
    else
        e = read_exactly(op, file.fd, r->data, r->size, r->offset);
    dir_files_close(d->files, &file);
    return e ? op_fail(op, e, "read %s", r->key) : ERR_OK;
}

/* Starts the disk on a range without waiting, so that a round's reads overlap. */
static void read_ahead(struct store_dir *d, const struct store_range *r)
{
    struct dir_file file = {-1, NULL};
    if (r->offset > INT64_MAX || r->size > INT64_MAX - r->offset) return;
    if (dir_files_open(d->files, r->key, &file)) return;
    (void)posix_fadvise(file.fd, (off_t)r->offset, (off_t)r->size, POSIX_FADV_WILLNEED);
    dir_files_close(d->files, &file);
}

static enum err store_dir_read(struct op *op, struct store *s,
                               struct store_range *ranges, size_t n)
{
    struct store_dir *d = dir_of(s);
    enum err first = ERR_OK;

    for (size_t i = 0; n > 1 && i < n; i++)
        read_ahead(d, &ranges[i]);
    for (size_t i = 0; i < n; i++) {
        ranges[i].err = read_range(op, d, &ranges[i]);
        if (!first) first = ranges[i].err;
    }
    return first;
}

static enum err read_whole(struct op *op, int fd, size_t size_max, struct buf *out)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return op_fail(op, ERR_IO, "stat: %s", dir_error(errno));
    if ((uint64_t)about.st_size > size_max)
        return op_fail(op, ERR_LIMIT, "%lld bytes, at most %zu expected",
                       (long long)about.st_size, size_max);

    size_t size = (size_t)about.st_size;
    buf_reserve(out, size);
    enum err e = read_exactly(op, fd, out->data + out->size, size, 0);
    if (!e) out->size += size;
    return e;
}

static enum err store_dir_get(struct op *op, struct store *s, const char *key,
                              size_t size_max, struct buf *out)
{
    struct store_dir *d = dir_of(s);
    char folder[STORE_KEY_MAX + 1];
    size_t before = out->size;
    int fd = -1;

    int error = dir_files_open_once(d->root, key, &fd);
    if (error) return op_fail(op, kind_of(error), "get %s: %s", key, dir_error(error));

    enum err e = read_whole(op, fd, size_max, out);
    (void)close(fd);
    if (!e) {
        /* What this answer says is there must still be there after a power failure. */
        (void)dir_split(key, folder);
        error = dir_tree_meet(d->tree, folder);
        if (error) e = fail_tree(op, d, error, ERR_IO);
    }
    if (e) out->size = before;
    return e ? op_fail(op, e, "get %s", key) : ERR_OK;
}

/* Whether the object holds just these bytes. */
static enum err compare(struct op *op, struct store *s, const char *key,
                        const struct slice *parts, size_t n, bool *same)
{
    struct buf wanted = BUF_INIT, found = BUF_INIT;
    for (size_t i = 0; i < n; i++)
        buf_append_slice(&wanted, parts[i]);
    enum err e = store_dir_get(op, s, key, wanted.size, &found);
    *same = !e && slice_equal(buf_slice(&wanted), buf_slice(&found));
    buf_release(&wanted);
    buf_release(&found);
    return e == ERR_LIMIT ? ERR_OK : e;
}

static enum err store_dir_put(struct op *op, struct store *s, const char *key,
                              const struct slice *parts, size_t n)
{
    bool same = false;
    enum err e = write_object(op, dir_of(s), key, parts, n);
    if (e == ERR_CONFLICT) {
        /* Nobody else uses this name: it is an earlier attempt of this very put. */
        op_clear_error(op);
        e = compare(op, s, key, parts, n, &same);
        if (!e && !same) e = op_fail(op, ERR_CONFLICT, "other bytes are there");
    }
    /* A put may be repeated, so nobody need know that its fate is open. */
    if (e == ERR_UNKNOWN) e = ERR_IO;
    return e ? op_fail(op, e, "put %s", key) : ERR_OK;
}

static enum err store_dir_list(struct op *op, struct store *s, const char *prefix,
                               const char *after, char delimiter, const char **keys,
                               size_t *n)
{
    return dir_list(op, dir_of(s)->root, prefix, after, delimiter, keys, n);
}

/* Deletes. */

/* Unlinks the keys that share the folder of the first one; *n of them, in sequence. The
 * folder is fsynced even if all were gone: another's unlink may not be durable yet. */
static enum err delete_together(struct op *op, struct store_dir *d,
                                const char *const *keys, size_t *n)
{
    char folder[STORE_KEY_MAX + 1], next[STORE_KEY_MAX + 1];
    size_t count = 0, max = *n;
    enum err e = ERR_OK;

    (void)dir_split(keys[0], folder);
    int fd = dir_open(d->root, folder, O_RDONLY | O_DIRECTORY);
    if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
        return fail_errno(op, errno, "open the folder");

    for (; count < max; count++) {
        const char *name = dir_split(keys[count], next);
        if (strcmp(next, folder) != 0) break;
        if (fd < 0) continue;
        if (dir_calls->unlinkat(fd, name, 0) == 0)
            dir_files_forget(d->files, keys[count]);
        else if (errno != ENOENT && !e)
            e = fail_errno(op, errno, "unlink");
    }
    *n = count;
    if (fd < 0) return e;

    if (dir_fsync(fd)) e = poison(op, d, ERR_IO, "fsync of a folder failed");
    (void)close(fd);
    if (!e) dir_tree_prune(d->tree, folder);
    return e;
}

static enum err store_dir_delete(struct op *op, struct store *s,
                                 const char *const *keys, size_t n)
{
    struct store_dir *d = dir_of(s);
    enum err e = check_writable(op, d);

    for (size_t i = 0, count; i < n && !e; i += count) {
        count = n - i;
        e = delete_together(op, d, keys + i, &count);
        if (e) (void)op_fail(op, e, "delete %s", keys[i]);
    }
    return e;
}

static void store_dir_free(struct store *s)
{
    struct store_dir *d = dir_of(s);
    dir_files_free(d->files);
    dir_tree_free(d->tree);
    if (d->tmp >= 0) (void)close(d->tmp);
    if (d->root >= 0) (void)close(d->root);
    if (d->lock_file >= 0) (void)close(d->lock_file);
    mutex_release(&d->space);
    mem_free(d->root_path);
    mem_free(d);
}

static const struct store_ops dir_ops = {
    .name = "dir",
    .read = store_dir_read,
    .get = store_dir_get,
    .create = store_dir_create,
    .put = store_dir_put,
    .list = store_dir_list,
    .delete = store_dir_delete,
    .free = store_dir_free,
};

static enum err open_tmp(struct op *op, struct store_dir *d)
{
    if (dir_calls->mkdirat(d->root, ".tmp", DIR_FOLDER_MODE) != 0 && errno != EEXIST)
        return fail_errno(op, errno, "make .tmp");
    d->tmp = openat(d->root, ".tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return d->tmp >= 0 ? ERR_OK : fail_errno(op, errno, "open .tmp");
}

static enum err open_root(struct op *op, struct store_dir *d, const char *root)
{
    d->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return d->root >= 0 ? ERR_OK : fail_errno(op, errno, "open");
}

static enum err open_for_writing(struct op *op, struct store_dir *d,
                                 const struct store_dir_options *options)
{
    enum err e = dir_make_root(op, options->root, &d->root);
    if (!e && !options->shared) e = dir_lock(op, d->root, &d->lock_file);
    if (!e) e = dir_check_kind(op, d->root, options->allow_unsafe_fs);
    if (!e) e = open_tmp(op, d);
    if (!e && !options->shared) e = dir_sweep(op, d->tmp);
    if (!e) e = dir_self_test(op, d->tmp);
    if (!e && !options->shared) ballast_take(op, d);
    return e;
}

enum err store_dir_open(struct op *op, const struct store_dir_options *options,
                        struct store **out)
{
    assert(options->root && *options->root);
    struct store_dir *d = mem_new(struct store_dir);
    d->base.ops = &dir_ops;
    d->root_path = mem_strdup(options->root);
    d->root = d->tmp = d->lock_file = -1;
    d->on_poison = options->on_poison;
    d->poison_context = options->poison_context;
    atomic_init(&d->poisoned, false);
    atomic_init(&d->full, false);
    mutex_init(&d->space);
    *out = NULL;

    enum err e = options->read_only ? open_root(op, d, options->root)
                                    : open_for_writing(op, d, options);
    if (e) {
        store_dir_free(&d->base);
        return op_fail(op, e, "open the store in %s", options->root);
    }
    d->tree = dir_tree_new(d->root);
    d->files = dir_files_new(d->root);
    *out = &d->base;
    return ERR_OK;
}
