#include "store/dir_start.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/dir_calls.h"
#include "store/store.h"

static enum err fail_start(struct op *op, const char *what, const char *name)
{
    enum err e = errno == ENOSPC || errno == EDQUOT                    ? ERR_FULL
                 : errno == EACCES || errno == EPERM || errno == EROFS ? ERR_DENIED
                                                                       : ERR_IO;
    return op_fail(op, e, "%s %s: %s", what, name, dir_error(errno));
}

/* Makes what has just been named in path's parent durable. */
static int sync_parent(const char *path)
{
    char *parent = mem_strdup(path);
    char *slash = strrchr(parent, '/');
    if (slash == parent)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';

    int fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd >= 0 ? dir_fsync(fd) : errno;
    if (fd >= 0) (void)close(fd);
    mem_free(parent);
    errno = error;
    return error;
}

enum err dir_make_root(struct op *op, const char *root, int *fd)
{
    char *path = mem_strdup(root);
    enum err e = ERR_OK;

    for (size_t i = 1; i <= strlen(root) && !e; i++) {
        if (root[i] != '/' && root[i] != '\0') continue;
        if (root[i - 1] == '/') continue;
        path[i] = '\0';
        if (mkdir(path, DIR_FOLDER_MODE) == 0) {
            if (sync_parent(path)) e = fail_start(op, "sync the parent of", path);
        } else if (errno != EEXIST) {
            e = fail_start(op, "make folder", path);
        }
        path[i] = root[i];
    }
    mem_free(path);
    if (e) return e;

    *fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd >= 0 ? ERR_OK : fail_start(op, "open", root);
}

enum err dir_lock(struct op *op, int root, int *lock)
{
    char pid[32] = "";
    int fd =
        openat(root, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, DIR_FILE_MODE);
    if (fd < 0) return fail_start(op, "open", ".lock");

    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum err e = ERR_IO;
        if (errno == EWOULDBLOCK) {
            ssize_t size = pread(fd, pid, sizeof pid - 1, 0);
            pid[size > 0 ? size : 0] = '\0';
            pid[strcspn(pid, "\n")] = '\0';
            e = op_fail(op, ERR_BUSY, "another process (pid %s) uses this folder",
                        *pid ? pid : "unknown");
        } else {
            e = fail_start(op, "lock", ".lock");
        }
        (void)close(fd);
        return e;
    }

    int size = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)size, 0) != size)
        log_warn(op, "lock file without pid", "reason=%s", dir_error(errno));
    *lock = fd;
    return ERR_OK;
}

static const char *unsafe_kind(long long magic)
{
    switch (magic) {
    case MSDOS_SUPER_MAGIC: return "FAT";
    case 0x2011bab0: return "exFAT";
    case 0x65735546: return "FUSE";
    case NFS_SUPER_MAGIC: return "NFS";
    case SMB_SUPER_MAGIC:
    case 0xfe534d42:
    case 0xff534d42: return "SMB";
    case V9FS_MAGIC: return "9P";
    default: return NULL;
    }
}

static const char *doubtful_kind(long long magic)
{
    switch (magic) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC: return "tmpfs: contents do not outlive the machine";
    case OVERLAYFS_SUPER_MAGIC:
        return "overlay: contents may not outlive the container";
    default: return NULL;
    }
}

enum err dir_check_kind(struct op *op, int root, bool allow_unsafe)
{
    struct statfs about;
    if (fstatfs(root, &about) != 0) return fail_start(op, "statfs", "root");

    long long magic = (long long)about.f_type & 0xffffffff;
    const char *unsafe = unsafe_kind(magic), *doubtful = doubtful_kind(magic);
    if (doubtful) log_warn(op, "store on a doubtful file system", "kind=%s", doubtful);
    if (!unsafe) return ERR_OK;
    if (!allow_unsafe)
        return op_fail(op, ERR_INVALID,
                       "%s does not keep the promises a store needs "
                       "(allow_unsafe_fs = true overrides)",
                       unsafe);
    log_warn(op, "store on an unsafe file system", "kind=%s", unsafe);
    return ERR_OK;
}

static int exists(int folder, const char *name)
{
    struct stat about;
    return fstatat(folder, name, &about, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum err prove(struct op *op, int tmp, int fd, const char *name)
{
    char linked[DIR_TEMP_NAME_MAX + 8], shouted[DIR_TEMP_NAME_MAX + 8];
    char longest[STORE_SEGMENT_MAX + 1];
    enum err e = ERR_OK;
    int error;

    (void)snprintf(linked, sizeof linked, "%s-x", name);
    (void)snprintf(shouted, sizeof shouted, "%s-X", name);
    memset(longest, 'n', STORE_SEGMENT_MAX);
    longest[STORE_SEGMENT_MAX] = '\0';
    memcpy(longest, name, strlen(name));

    if (dir_calls->pwrite(fd, "probe", 5, 0) != 5)
        e = fail_start(op, "write", "a probe file");
    else if ((error = dir_fsync(fd)))
        e = op_fail(op, ERR_INVALID, "fsync of a file: %s", dir_error(error));
    else if (dir_calls->linkat(tmp, name, tmp, linked, 0) != 0)
        e = op_fail(op, ERR_INVALID, "link of a file: %s", dir_error(errno));
    else if (dir_calls->linkat(tmp, name, tmp, linked, 0) == 0 || errno != EEXIST)
        e = op_fail(op, ERR_INVALID, "link does not refuse a name that is taken");
    else if (exists(tmp, shouted))
        e = op_fail(op, ERR_INVALID, "names are the same in upper and lower case");
    else if (dir_calls->linkat(tmp, name, tmp, longest, 0) != 0)
        e = op_fail(op, ERR_INVALID, "a name of %d bytes: %s", STORE_SEGMENT_MAX,
                    dir_error(errno));
    else if ((error = dir_fsync(tmp)))
        e = op_fail(op, ERR_INVALID, "fsync of a folder: %s", dir_error(error));

    (void)dir_calls->unlinkat(tmp, linked, 0);
    (void)dir_calls->unlinkat(tmp, longest, 0);
    return e;
}

enum err dir_self_test(struct op *op, int tmp)
{
    char name[DIR_TEMP_NAME_MAX];

    dir_temp_name(name);
    int fd = openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    DIR_FILE_MODE);
    if (fd < 0) return fail_start(op, "make", "a probe file");
    enum err e = prove(op, tmp, fd, name);
    (void)close(fd);
    (void)dir_calls->unlinkat(tmp, name, 0);
    return e;
}

/* Who made a temporary. A pid is used again, but not with the same start time in the
 * same boot. */
struct owner {
    char boot[40];
    long pid;
    unsigned long long start;
};

static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, text, size - 1);
    (void)close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* The start time of a process in ticks since boot, 0 when there is none. */
static unsigned long long start_time(long pid)
{
    char path[64], stat[1024];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (!read_text(path, stat, sizeof stat)) return 0;

    /* Field 2, the name, is in parentheses and may hold anything; 22 is wanted. */
    const char *at = strrchr(stat, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static struct owner ourselves(void)
{
    struct owner us = {.pid = (long)getpid()};
    char id[64] = "";

    (void)read_text("/proc/sys/kernel/random/boot_id", id, sizeof id);
    size_t size = 0;
    for (const char *p = id; *p && size < 32; p++)
        if (*p != '-' && *p != '\n') us.boot[size++] = *p;
    if (size == 0) us.boot[size++] = '0';
    us.boot[size] = '\0';
    us.start = start_time(us.pid);
    return us;
}

void dir_temp_name(char name[DIR_TEMP_NAME_MAX])
{
    static atomic_ullong counter;
    static _Thread_local struct owner us;

    if (us.pid != (long)getpid()) us = ourselves();
    (void)snprintf(name, DIR_TEMP_NAME_MAX, "%s-%ld-%llu-%llu", us.boot, us.pid,
                   us.start, atomic_fetch_add(&counter, 1));
}

static bool parse_owner(const char *name, struct owner *owner)
{
    size_t size = strspn(name, "0123456789abcdef");
    char *end;

    if (size == 0 || size >= sizeof owner->boot || name[size] != '-') return false;
    memcpy(owner->boot, name, size);
    owner->boot[size] = '\0';
    owner->pid = strtol(name + size + 1, &end, 10);
    if (*end != '-') return false;
    owner->start = strtoull(end + 1, &end, 10);
    if (*end != '-') return false;
    (void)strtoull(end + 1, &end, 10);
    return *end == '\0';
}

static bool is_gone(const struct owner *owner, const struct owner *us)
{
    return strcmp(owner->boot, us->boot) != 0 || owner->pid <= 0 ||
           start_time(owner->pid) != owner->start;
}

enum err dir_sweep(struct op *op, int tmp)
{
    struct owner us = ourselves(), owner;
    const struct dirent *entry;
    unsigned swept = 0;

    int fd = dir_open(tmp, "", O_RDONLY | O_DIRECTORY);
    DIR *names = fd >= 0 ? fdopendir(fd) : NULL;
    if (!names) {
        enum err e = fail_start(op, "open", ".tmp");
        if (fd >= 0) (void)close(fd);
        return e;
    }
    while ((entry = readdir(names))) { /* NOLINT(concurrency-mt-unsafe): our own */
        if (entry->d_name[0] == '.') continue;
        if (!parse_owner(entry->d_name, &owner))
            log_warn(op, "stranger in the folder of temporaries", "name=%s",
                     entry->d_name);
        else if (is_gone(&owner, &us) &&
                 dir_calls->unlinkat(tmp, entry->d_name, 0) == 0)
            swept++;
    }
    (void)closedir(names);
    if (swept) log_info(op, "temporaries of dead processes swept", "count=%u", swept);
    return ERR_OK;
}
