#include "ns/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/op.h"
#include "base/task.h"

enum {
    MAPPED_ALWAYS = 32 << 20,
    LET_GO_SIZE = 2 << 20, /* at once: a page takes up to a microsecond */
    WRITE_SIZE = 2 << 20,
    WRITE_AFTER_MS = 10000
};

static enum err fail(struct op *op, int error, const char *folder, size_t capacity)
{
    char words[128];
    enum err e = error == ENOSPC || error == EDQUOT ? ERR_FULL : ERR_IO;
    return op_fail(op, e, "a file of %zu bytes for merging in %s: %s", capacity, folder,
                   strerror_r(error, words, sizeof words));
}

enum err spool_open(struct op *op, const char *folder, size_t buf_size,
                    size_t room_size, uint64_t mapped, struct spool *out)
{
    size_t size = buf_size + room_size;
    /* Nothing else may have needed the folder yet. */
    if (mkdir(folder, 0700) && errno != EEXIST) return fail(op, errno, folder, size);
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return fail(op, errno, folder, size);

    int error = posix_fallocate(fd, 0, (off_t)size);
    void *map = MAP_FAILED;
    if (!error) {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) error = errno;
    }
    /* Or the kernel reads ahead, by huge pages where the file system knows them, and
     * ext4 looks at each of their 512 blocks whenever a page of them is written. */
    if (!error) (void)madvise(map, size, MADV_RANDOM);
    if (error) {
        (void)close(fd);
        return fail(op, error, folder, size);
    }
    *out = (struct spool){.map = map,
                          .size = size,
                          .fd = fd,
                          .mapped_max = MAPPED_ALWAYS + mapped,
                          .opened_ms = clock_ms()};
    out->buf = buf_lent(map, buf_size);
    out->room = (struct buf_room){.data = out->map + buf_size, .size = room_size};
    return ERR_OK;
}

/* Bytes of files that are in this process's memory. */
static uint64_t mapped_bytes(void)
{
    char line[128] = "", *at = line; /* pages in all, in memory, of these of files */
    unsigned long pages[3] = {0};
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && !fgets(line, sizeof line, f)) line[0] = 0;
    if (f) (void)fclose(f);
    for (size_t i = 0; i < 3; i++)
        pages[i] = strtoul(at, &at, 10);
    return (uint64_t)pages[2] * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool spool_rest(struct spool *s)
{
    if (!s->map || (s->let_go == 0 && mapped_bytes() <= s->mapped_max)) return false;
    size_t left = s->size - s->let_go, size = left < LET_GO_SIZE ? left : LET_GO_SIZE;
    /* Of the mapping, not the file. */
    (void)madvise(s->map + s->let_go, size, MADV_DONTNEED);
    s->let_go = size < left ? s->let_go + size : 0;
    return s->let_go > 0;
}

/* Waits for what is on its way to the disk; 0 bytes: all behind offset. */
static void await_written(struct spool *s, size_t offset, size_t size)
{
    if (sync_file_range(s->fd, (off_t)offset, (off_t)size,
                        SYNC_FILE_RANGE_WAIT_BEFORE) != 0 &&
        (errno == EIO || errno == ENOSPC || errno == EDQUOT))
        s->lost = errno;
}

void spool_write(struct spool *s)
{
    if (!s->map || clock_ms() - s->opened_ms < WRITE_AFTER_MS) return;
    size_t left = s->size - s->written, size = left < WRITE_SIZE ? left : WRITE_SIZE;
    if (s->written >= WRITE_SIZE) await_written(s, s->written - WRITE_SIZE, WRITE_SIZE);
    /* A hint: what is not written now is written later. */
    (void)sync_file_range(s->fd, (off_t)s->written, (off_t)size, SYNC_FILE_RANGE_WRITE);
    s->written = size < left ? s->written + size : 0;
}

enum err spool_check(struct op *op, struct spool *s)
{
    char words[128];
    if (!s->map) return ERR_OK;
    await_written(s, 0, 0);
    if (!s->lost) return ERR_OK;
    return op_fail(op, ERR_IO, "the file a merge works in could not be written: %s",
                   strerror_r(s->lost, words, sizeof words));
}

void spool_close(struct spool *s)
{
    buf_release(&s->buf);
    if (s->map) {
        (void)munmap(s->map, s->size);
        (void)close(s->fd);
    }
    *s = (struct spool){0};
}
