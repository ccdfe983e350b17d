/*
 * spool.h - a large buf whose bytes lie in a file without a name.
 *
 * What a merge writes may be larger than memory. Here it is pages of a file, which the
 * kernel writes out and drops when memory is wanted, and which whoever fills or reads a
 * buf need not know of.
 */
#ifndef NS_SPOOL_H
#define NS_SPOOL_H

#include "base/buf.h"
#include "base/err.h"

struct op;

struct spool {
    struct buf buf; /* grows on the heap beyond capacity */
    uint8_t *map;
    size_t capacity;
};

/* A file of capacity bytes in folder, whose space is set aside: writing cannot fail
 * later. ERR_FULL, ERR_IO: there is none. */
enum err spool_open(struct op *op, const char *folder, size_t capacity,
                    struct spool *out);
void spool_close(struct spool *s); /* harmless on zeros */

#endif
