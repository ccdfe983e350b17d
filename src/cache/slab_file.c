#include "cache/slab_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/op.h"
#include "cache/slab_format.h"

static const char FILE_NAME[] = "ranges.slab";

enum {
    PAGE = 4096,
    REGION_MAX = 64 << 20, /* unless that makes too many regions */
    REGIONS_WANTED = 64,
    REGIONS_MIN = 4,
    FREE_SHARE = 20 /* a twentieth of the file system stays free */
};
static const uint64_t FREE_MAX = (uint64_t)16 << 30;
/* Beside the regions: the folder, and how the file system keeps track of the file. */
static const uint64_t SLACK_MIN = 64 << 10;
enum { SLACK_SHARE = 1024 };

uint64_t slab_region_offset(const struct slab_file *f, uint32_t region)
{
    return SLAB_HEADER_SIZE + region * f->region_size;
}

/* ---- bytes ---- */

bool slab_file_read(const struct slab_file *f, uint64_t offset, void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = pread(f->fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

bool slab_file_read_two(const struct slab_file *f, uint64_t offset, void *first,
                        size_t first_size, void *second, size_t second_size)
{
    struct iovec parts[2] = {{.iov_base = first, .iov_len = first_size},
                             {.iov_base = second, .iov_len = second_size}};
    uint8_t *front = first, *back = second;
    ssize_t n;
    do
        n = preadv(f->fd, parts, 2, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0) return false;

    size_t got = (size_t)n;
    if (got < first_size &&
        !slab_file_read(f, offset + got, front + got, first_size - got))
        return false;
    if (got < first_size) got = first_size;
    return slab_file_read(f, offset + got, back + (got - first_size),
                          first_size + second_size - got);
}

void slab_file_expect(const struct slab_file *f, uint64_t offset, uint64_t size)
{
    (void)posix_fadvise(f->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

static enum err fail_errno(struct op *op, const char *what, const char *path)
{
    enum err e = errno == ENOSPC || errno == EDQUOT || errno == EFBIG  ? ERR_FULL
                 : errno == EACCES || errno == EPERM || errno == EROFS ? ERR_DENIED
                                                                       : ERR_IO;
    return op_fail(op, e, "%s %s: %s", what, path, strerror(errno));
}

enum err slab_file_write(struct op *op, const struct slab_file *f, uint64_t offset,
                         const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t n = pwrite(f->fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(op, "write", f->path);
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return ERR_OK;
}

enum err slab_file_write_parts(struct op *op, const struct slab_file *f,
                               uint64_t offset, const struct iovec *parts, int count)
{
    size_t size = 0;
    ssize_t n;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    do
        n = pwritev(f->fd, parts, count, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(op, "write", f->path);
    if ((size_t)n == size) return ERR_OK;
    errno = ENOSPC; /* what a short write to a file means */
    return fail_errno(op, "write", f->path);
}

enum err slab_file_sync(struct op *op, const struct slab_file *f)
{
    return fdatasync(f->fd) == 0 ? ERR_OK : fail_errno(op, "sync", f->path);
}

/* ---- opening ---- */

static enum err make_folders(struct op *op, const char *folder)
{
    char *path = op_printf(op, "%s", folder);
    if (!path) return ERR_LIMIT;
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return fail_errno(op, "make folder", path);
        *at = '/';
    }
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return fail_errno(op, "make folder", path);
    return ERR_OK;
}

/* Whether the open file is what stands at the path. */
static bool same_file(const struct slab_file *f, struct stat *open_file)
{
    struct stat there;
    return fstat(f->fd, open_file) == 0 && stat(f->path, &there) == 0 &&
           open_file->st_ino == there.st_ino && open_file->st_dev == there.st_dev;
}

static enum err open_and_lock(struct op *op, struct slab_file *f)
{
    static const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    struct stat about;

    /* Noting when the file was read would wait for the file system's journal. */
    f->fd = open(f->path, flags | O_NOATIME, 0600);
    if (f->fd < 0 && errno == EPERM) f->fd = open(f->path, flags, 0600);
    if (f->fd < 0) return fail_errno(op, "open", f->path);
    if (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return op_fail(op, ERR_BUSY, "%s is in use by another process", f->path);
        return fail_errno(op, "lock", f->path);
    }
    if (!same_file(f, &about))
        return op_fail(op, ERR_IO, "%s was replaced while it was opened", f->path);
    return ERR_OK;
}

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static uint64_t room_for_regions(uint64_t size_max)
{
    uint64_t slack = SLACK_MIN + size_max / SLACK_SHARE;
    return size_max - SLAB_HEADER_SIZE - slack;
}

static uint64_t region_size_for(uint64_t room)
{
    uint64_t size = room / REGIONS_WANTED / PAGE * PAGE;
    if (size < SLAB_REGION_MIN) size = SLAB_REGION_MIN;
    if (size > REGION_MAX) size = REGION_MAX;
    uint64_t least = round_up(room / SLAB_REGIONS_MAX + 1, PAGE);
    return size < least ? least : size;
}

static bool region_count_fits(uint64_t count)
{
    return count >= REGIONS_MIN && count <= SLAB_REGIONS_MAX;
}

static enum err start_empty(struct op *op, struct slab_file *f, uint64_t room)
{
    uint8_t header[SLAB_HEADER_SIZE];

    f->region_size = region_size_for(room);
    f->regions_max = (uint32_t)(room / f->region_size);
    if (ftruncate(f->fd, 0) != 0) return fail_errno(op, "cut", f->path);
    slab_header_encode(f->region_size, header);
    return slab_file_write(op, f, 0, header, sizeof header);
}

static enum err open_header(struct op *op, struct slab_file *f, uint64_t room,
                            uint32_t *regions)
{
    uint8_t header[SLAB_HEADER_SIZE];
    struct stat about;

    if (fstat(f->fd, &about) != 0) return fail_errno(op, "look at", f->path);
    bool known = slab_file_read(f, 0, header, sizeof header) &&
                 slab_header_decode(header, &f->region_size) &&
                 region_count_fits(room / f->region_size);
    if (!known) return start_empty(op, f, room);

    f->regions_max = (uint32_t)(room / f->region_size);
    uint64_t there = ((uint64_t)about.st_size - SLAB_HEADER_SIZE) / f->region_size;
    *regions = there < f->regions_max ? (uint32_t)there : f->regions_max;
    if (ftruncate(f->fd, (off_t)slab_region_offset(f, *regions)) != 0)
        return fail_errno(op, "cut", f->path);
    return ERR_OK;
}

enum err slab_file_open(struct op *op, const char *folder, uint64_t size_max,
                        struct slab_file *f, uint32_t *regions)
{
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/%s", folder, FILE_NAME);
    buf_append_byte(&path, 0);
    *f = (struct slab_file){.path = mem_strdup((const char *)path.data), .fd = -1};
    buf_release(&path);
    *regions = 0;
    enum err e = make_folders(op, folder);
    if (!e) e = open_and_lock(op, f);
    if (!e) e = open_header(op, f, room_for_regions(size_max), regions);
    return e;
}

void slab_file_close(struct slab_file *f)
{
    if (f->fd >= 0) (void)close(f->fd);
    mem_free(f->path);
}

bool slab_file_intact(const struct slab_file *f, uint32_t regions)
{
    struct stat about;
    return same_file(f, &about) &&
           (uint64_t)about.st_size >= slab_region_offset(f, regions);
}

/* ---- growing ---- */

/* What the file system must keep free for others. */
static bool file_system_bears(const struct slab_file *f)
{
    struct statvfs fs;
    if (fstatvfs(f->fd, &fs) != 0) return false;
    uint64_t reserve = (uint64_t)fs.f_blocks * fs.f_frsize / FREE_SHARE;
    if (reserve > FREE_MAX) reserve = FREE_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize >= reserve + f->region_size;
}

bool slab_file_grow(const struct slab_file *f, uint32_t region)
{
    if (region >= f->regions_max || !file_system_bears(f)) return false;
    int failed = fallocate(f->fd, 0, (off_t)slab_region_offset(f, region),
                           (off_t)f->region_size);
    bool cannot = failed && errno == EOPNOTSUPP;
    if (cannot) failed = ftruncate(f->fd, (off_t)slab_region_offset(f, region + 1));
    return !failed;
}
