/*
 * spool.h - large bufs whose bytes lie in a file without a name.
 *
 * What a merge writes, and what it works on, may be larger than memory. Here it is
 * pages of a file, which the kernel writes out and drops when memory is wanted, and
 * which whoever fills or reads a buf need not know of. spool_rest lets go of the pages
 * now and then, so that they are not this process's either.
 */
#ifndef NS_SPOOL_H
#define NS_SPOOL_H

#include "base/buf.h"
#include "base/err.h"

struct op;

struct spool {
    struct buf buf;       /* grows on the heap beyond its capacity */
    struct buf_room room; /* for more */
    uint8_t *map;
    size_t size;
    int fd;
    uint64_t mapped_max;
    int64_t opened_ms;
    size_t let_go, written; /* how far, of the rounds of spool_rest and spool_write */
    int lost;               /* errno of a page that could not be written */
};

/* A file in folder of so many bytes for the buf and for the room, whose space is set
 * aside: writing cannot fail later. No page is let go of while files have no more than
 * mapped bytes and 32 MiB, of the program itself and more, in the process's memory.
 * ERR_FULL, ERR_IO: there is none. */
enum err spool_open(struct op *op, const char *folder, size_t buf_size,
                    size_t room_size, uint64_t mapped, struct spool *out);
/* Takes pages out of the process's memory, if it has too many of files;
 * they come back when they are touched, which costs more than the work on them where
 * that goes to and fro in them. A millisecond at most: true if there are more. */
bool spool_rest(struct spool *s);
/*
 * Begins to write some of its pages to the disk, 2 MiB, once the file is ten seconds
 * old, and waits for those before; to be called again and again. Left alone the kernel
 * writes what has been dirty for half a minute, all of the file at once, and for as
 * long as that takes everybody else waits for the disk.
 */
void spool_write(struct spool *s);
/* ERR_IO: a page could not be written, so what was read of it since may be wrong. To be
 * asked when all has been read. */
enum err spool_check(struct op *op, struct spool *s);
void spool_close(struct spool *s); /* harmless on zeros */

#endif
