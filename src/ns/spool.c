#include "ns/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/op.h"

static enum err fail(struct op *op, int error, const char *folder, size_t capacity)
{
    char words[128];
    enum err e = error == ENOSPC || error == EDQUOT ? ERR_FULL : ERR_IO;
    return op_fail(op, e, "a file of %zu bytes for merging in %s: %s", capacity, folder,
                   strerror_r(error, words, sizeof words));
}

enum err spool_open(struct op *op, const char *folder, size_t capacity,
                    struct spool *out)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return fail(op, errno, folder, capacity);

    int error = posix_fallocate(fd, 0, (off_t)capacity);
    void *map = MAP_FAILED;
    if (!error) {
        map = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) error = errno;
    }
    (void)close(fd); /* the mapping keeps the file */
    if (error) return fail(op, error, folder, capacity);
    *out = (struct spool){.map = map, .capacity = capacity};
    out->buf = buf_lent(map, capacity);
    return ERR_OK;
}

void spool_close(struct spool *s)
{
    buf_release(&s->buf);
    if (s->map) (void)munmap(s->map, s->capacity);
    *s = (struct spool){0};
}
