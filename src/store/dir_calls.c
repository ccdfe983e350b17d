#include "store/dir_calls.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/store.h"

static int open_beneath(int root, const char *path, int flags)
{
    struct open_how how = {
        .flags = (unsigned long long)flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

const struct dir_calls dir_calls_libc = {pwrite,         fsync,   linkat,
                                         unlinkat,       mkdirat, open_beneath,
                                         sync_file_range};
const struct dir_calls *dir_calls = &dir_calls_libc;

/* Kernels before 5.6 (ENOSYS) and sandboxes that refuse the call (EPERM): one segment
 * at a time. A segment is never "..", since no key segment starts with a dot. */
static int open_by_steps(int root, const char *path, int flags)
{
    char segment[STORE_KEY_MAX + 1];
    int at = root;

    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        size_t size = (size_t)(slash - path);
        assert(size < sizeof segment);
        memcpy(segment, path, size);
        segment[size] = '\0';

        int next = openat(at, segment, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int error = errno;
        if (at != root) (void)close(at);
        errno = error;
        if (next < 0) return -1;
        at = next;
    }
    int fd = openat(at, path, flags | O_NOFOLLOW);
    int error = errno;
    if (at != root) (void)close(at);
    errno = error;
    return fd;
}

int dir_open(int root, const char *path, int flags)
{
    flags |= O_CLOEXEC;
    if (*path == '\0') path = ".";
    for (;;) {
        int fd = dir_calls->open_beneath(root, path, flags);
        if (fd >= 0) return fd;
        if (errno == ENOSYS || errno == EPERM) return open_by_steps(root, path, flags);
        if (errno != EINTR && errno != EAGAIN) return -1;
    }
}

const char *dir_error(int error)
{
    const char *words = strerrordesc_np(error);
    return words ? words : "unknown error";
}

int dir_fsync(int fd)
{
    while (dir_calls->fsync(fd) != 0)
        if (errno != EINTR) return errno;
    return 0;
}

const char *dir_split(const char *path, char *parent)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;

    assert(size <= STORE_KEY_MAX);
    memcpy(parent, path, size);
    parent[size] = '\0';
    return slash ? slash + 1 : path;
}
