#include "ioerr/failing.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "store/dir_calls.h"

enum { SPACE_MAX = 1 << 20 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0 /* theirs is */
#else
#define OWN_MALLOC 1
#endif

const char *const failing_names[FAILING_CALLS] = {
    [FAILING_OPEN] = "open",    [FAILING_READ] = "read", [FAILING_WRITE] = "write",
    [FAILING_FSYNC] = "fsync",  [FAILING_LINK] = "link", [FAILING_UNLINK] = "unlink",
    [FAILING_MKDIR] = "mkdir",  [FAILING_STAT] = "stat", [FAILING_SPACE] = "space",
    [FAILING_MMAP] = "mmap",    [FAILING_LIST] = "list", [FAILING_THREAD] = "thread",
    [FAILING_MEMORY] = "memory"};

static struct failing_plan plan;
static atomic_bool armed;

/* In memory that a child shares with its parent. */
static struct counts {
    atomic_uint_fast64_t seen, hits;
    char library[64];
} * counts;

static int open_beneath(int root, const char *path, int flags);
static struct dir_calls calls;

bool failing_start(void)
{
    void *shared = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    counts = shared == MAP_FAILED ? NULL : shared;
    return counts != NULL;
}

void failing_arm(const struct failing_plan *wanted)
{
    plan = *wanted;
    calls = dir_calls_libc;
    calls.open_beneath = open_beneath;
    dir_calls = &calls;
    atomic_store(&counts->seen, 0);
    atomic_store(&counts->hits, 0);
    counts->library[0] = '\0';
    atomic_store(&armed, true);
}

void failing_disarm(void)
{
    atomic_store(&armed, false);
}

uint64_t failing_seen(void)
{
    return atomic_load(&counts->seen);
}

uint64_t failing_hits(void)
{
    return atomic_load(&counts->hits);
}

const char *failing_library(void)
{
    return counts->library;
}

bool failing_can(enum failing_call call)
{
    return call != FAILING_MEMORY || OWN_MALLOC;
}

/* Is this call one that fails? Sets errno. */
static bool fails(enum failing_call call)
{
    if (!atomic_load_explicit(&armed, memory_order_relaxed) || call != plan.call)
        return false;
    uint64_t number = atomic_fetch_add(&counts->seen, 1) + 1;
    bool now = plan.n && (plan.for_ever ? number >= plan.n : number == plan.n);
    if (!now) return false;
    atomic_fetch_add(&counts->hits, 1);
    errno = plan.error;
    return true;
}

/* How much of a transfer may be done: all, 1 byte, or none of it (-1). */
static ssize_t allowed(enum failing_call call, size_t size)
{
    if (!fails(call)) return (ssize_t)size;
    if (plan.error) return -1;
    return size ? 1 : 0;
}

/* ---- files: the linker sends all calls of ours here (ld --wrap) ---- */

#define WRAP(result, name, parameters)                                                 \
    result __real_##name parameters;                                                   \
    result __wrap_##name parameters;                                                   \
    result __wrap_##name parameters

static int open_beneath(int root, const char *path, int flags)
{
    return fails(FAILING_OPEN) ? -1 : dir_calls_libc.open_beneath(root, path, flags);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails(FAILING_OPEN) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails(FAILING_OPEN) ? -1 : __real_openat(folder, path, flags, mode);
}

WRAP(int, __openat_2, (int folder, const char *path, int flags))
{
    return fails(FAILING_OPEN) ? -1 : __real___openat_2(folder, path, flags);
}

WRAP(ssize_t, read, (int fd, void *data, size_t size))
{
    ssize_t n = allowed(FAILING_READ, size);
    return n < 0 ? -1 : __real_read(fd, data, (size_t)n);
}

WRAP(ssize_t, pread, (int fd, void *data, size_t size, off_t offset))
{
    ssize_t n = allowed(FAILING_READ, size);
    return n < 0 ? -1 : __real_pread(fd, data, (size_t)n, offset);
}

WRAP(ssize_t, preadv, (int fd, const struct iovec *parts, int count, off_t offset))
{
    ssize_t n = allowed(FAILING_READ, 2);
    if (n == 1) return __real_pread(fd, parts[0].iov_base, 1, offset);
    return n < 0 ? -1 : __real_preadv(fd, parts, count, offset);
}

WRAP(ssize_t, write, (int fd, const void *data, size_t size))
{
    if (fd == STDERR_FILENO) return __real_write(fd, data, size);
    ssize_t n = allowed(FAILING_WRITE, size);
    return n < 0 ? -1 : __real_write(fd, data, (size_t)n);
}

WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t offset))
{
    ssize_t n = allowed(FAILING_WRITE, size);
    return n < 0 ? -1 : __real_pwrite(fd, data, (size_t)n, offset);
}

WRAP(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t offset))
{
    ssize_t n = allowed(FAILING_WRITE, 2);
    if (n == 1) return __real_pwrite(fd, parts[0].iov_base, 1, offset);
    return n < 0 ? -1 : __real_pwritev(fd, parts, count, offset);
}

WRAP(int, fsync, (int fd))
{
    return fails(FAILING_FSYNC) ? -1 : __real_fsync(fd);
}

WRAP(int, fdatasync, (int fd))
{
    return fails(FAILING_FSYNC) ? -1 : __real_fdatasync(fd);
}

WRAP(int, linkat, (int from, const char *old, int to, const char *name, int flags))
{
    return fails(FAILING_LINK) ? -1 : __real_linkat(from, old, to, name, flags);
}

WRAP(int, unlinkat, (int folder, const char *name, int flags))
{
    return fails(FAILING_UNLINK) ? -1 : __real_unlinkat(folder, name, flags);
}

WRAP(int, mkdir, (const char *path, mode_t mode))
{
    return fails(FAILING_MKDIR) ? -1 : __real_mkdir(path, mode);
}

WRAP(int, mkdirat, (int folder, const char *path, mode_t mode))
{
    return fails(FAILING_MKDIR) ? -1 : __real_mkdirat(folder, path, mode);
}

WRAP(int, fstat, (int fd, struct stat *about))
{
    return fails(FAILING_STAT) ? -1 : __real_fstat(fd, about);
}

WRAP(int, stat, (const char *path, struct stat *about))
{
    return fails(FAILING_STAT) ? -1 : __real_stat(path, about);
}

WRAP(int, fstatat, (int folder, const char *path, struct stat *about, int flags))
{
    return fails(FAILING_STAT) ? -1 : __real_fstatat(folder, path, about, flags);
}

WRAP(int, fstatvfs, (int fd, struct statvfs *about))
{
    return fails(FAILING_STAT) ? -1 : __real_fstatvfs(fd, about);
}

WRAP(int, ftruncate, (int fd, off_t size))
{
    return fails(FAILING_SPACE) ? -1 : __real_ftruncate(fd, size);
}

WRAP(int, fallocate, (int fd, int mode, off_t offset, off_t size))
{
    return fails(FAILING_SPACE) ? -1 : __real_fallocate(fd, mode, offset, size);
}

/* The store's ballast would cost most of the time of a case. */
WRAP(int, posix_fallocate, (int fd, off_t offset, off_t size))
{
    if (size > SPACE_MAX) size = SPACE_MAX;
    return fails(FAILING_SPACE) ? plan.error : __real_posix_fallocate(fd, offset, size);
}

WRAP(void *, mmap, (void *at, size_t size, int rights, int how, int fd, off_t offset))
{
    if (fails(FAILING_MMAP)) return MAP_FAILED;
    return __real_mmap(at, size, rights, how, fd, offset);
}

WRAP(DIR *, fdopendir, (int fd))
{
    return fails(FAILING_LIST) ? NULL : __real_fdopendir(fd);
}

WRAP(struct dirent *, readdir, (DIR * folder))
{
    return fails(FAILING_LIST) ? NULL : __real_readdir(folder);
}

WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *how, void *(*run)(void *), void *arg))
{
    if (fails(FAILING_THREAD)) return plan.error;
    return __real_pthread_create(thread, how, run, arg);
}

/* ---- memory: the libraries' too, so these are defined and not wrapped ---- */

#if OWN_MALLOC

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

/* Is this allocation refused, and who asked for it? */
static bool refused(const void *caller)
{
    Dl_info ours, theirs;
    if (!fails(FAILING_MEMORY)) return false;
    bool found = dladdr(&plan, &ours) && dladdr(caller, &theirs);
    bool library = found && theirs.dli_fbase != ours.dli_fbase;
    const char *slash = library ? strrchr(theirs.dli_fname, '/') : NULL;
    (void)snprintf(counts->library, sizeof counts->library, "%s",
                   slash ? slash + 1 : "");
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL
                                                : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *p =
        refused(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
    if (p) *out = p;
    return p ? 0 : ENOMEM;
}

#endif
