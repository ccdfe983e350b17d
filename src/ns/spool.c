#include "ns/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/op.h"

enum { MAPPED_MAX = 128 << 20 };

static enum err fail(struct op *op, int error, const char *folder, size_t capacity)
{
    char words[128];
    enum err e = error == ENOSPC || error == EDQUOT ? ERR_FULL : ERR_IO;
    return op_fail(op, e, "a file of %zu bytes for merging in %s: %s", capacity, folder,
                   strerror_r(error, words, sizeof words));
}

enum err spool_open(struct op *op, const char *folder, size_t buf_size,
                    size_t room_size, struct spool *out)
{
    size_t size = buf_size + room_size;
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return fail(op, errno, folder, size);

    int error = posix_fallocate(fd, 0, (off_t)size);
    void *map = MAP_FAILED;
    if (!error) {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) error = errno;
    }
    (void)close(fd); /* the mapping keeps the file */
    if (error) return fail(op, error, folder, size);
    *out = (struct spool){.map = map, .size = size};
    out->buf = buf_lent(map, buf_size);
    out->room = (struct buf_room){.data = out->map + buf_size, .size = room_size};
    return ERR_OK;
}

/* Bytes of files that are in this process's memory. */
static uint64_t mapped_bytes(void)
{
    unsigned long total, resident, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu %lu %lu", &total, &resident, &shared) != 3) shared = 0;
    if (f) (void)fclose(f);
    return (uint64_t)shared * (uint64_t)sysconf(_SC_PAGESIZE);
}

void spool_rest(struct spool *s)
{
    if (s->map && mapped_bytes() > MAPPED_MAX)
        (void)madvise(s->map, s->size,
                      MADV_DONTNEED); /* of the mapping, not the file */
}

void spool_close(struct spool *s)
{
    buf_release(&s->buf);
    if (s->map) (void)munmap(s->map, s->size);
    *s = (struct spool){0};
}
