/*
 * slab.h - pieces of objects in one file of a hard size, found again after a restart.
 *
 * Regions are written one after the other; when the file has its size, the oldest is
 * written anew, and the pieces in it that were asked for since move on to the newest
 * (FIFO with reinsertion). So everything is written in large sequential steps and what
 * a crash can tear is the end of one region. A piece read is compared with what was
 * wanted, key, place and checksum; nothing in the file is believed.
 *
 * Sizes   header and regions never take more than size_max of the file system; space of
 *         a region is allocated before it is used. The file stops growing while less
 *         than a twentieth of the file system (at most 16 GiB) would be left free.
 * Threads slab_append, slab_finish, slab_intact: one at a time. Everything else: any.
 * Memory  the index is a table of fixed size (slab_index.h); a region's table grows
 *         with the pieces in it, 16 bytes each.
 */
#ifndef CACHE_SLAB_H
#define CACHE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cache/slab_format.h"

struct op;
struct slab;

/* Smaller ones cannot hold the few regions that a slab needs. */
enum { SLAB_SIZE_MIN = 1 << 20 };

/*
 * Opens folder/ranges.slab (folders and file are made), takes its lock, and rebuilds
 * the index from the regions' tables. A file of another version or damaged at its head
 * starts empty; one that is too large is cut.
 * ERR_BUSY: another process has it. ERR_LIMIT: size_max below SLAB_SIZE_MIN.
 * ERR_DENIED, ERR_FULL, ERR_IO with the path and the reason.
 */
enum err slab_open(struct op *op, const char *folder, uint64_t size_max,
                   uint64_t index_max, struct slab **out);
struct slab *slab_ref(struct slab *s);
void slab_unref(struct slab *s); /* the last one closes the file; NULL is fine */

/* The largest piece it takes; a larger range is split (disk_cache.c). */
uint32_t slab_piece_max(const struct slab *s);

/* Whether id is believed to be there; the kernel is asked to read it ahead if
 * read_ahead. */
bool slab_has(struct slab *s, const struct slab_id *id, bool read_ahead);

enum slab_found { SLAB_HIT, SLAB_MISS, SLAB_DAMAGED };
/* Reads id.size bytes into data. SLAB_DAMAGED: what was there is not what had been
 * written, or could not be read; it is forgotten. data is undefined unless SLAB_HIT. */
enum slab_found slab_read(struct slab *s, const struct slab_id *id, uint8_t *data);
void slab_forget(struct slab *s, const struct slab_id *id);

/* Whether a piece in hand should be written. Once: it was asked for, for the first time
 * as far as the caller knows. */
enum slab_interest { SLAB_HAS, SLAB_WANTS, SLAB_NOT_YET };
enum slab_interest slab_interest(struct slab *s, const struct slab_id *id, bool once);

/*
 * Writes a piece; it can be read at once. One that is there already stays.
 * ERR_FULL: the file system has no room for even two regions; ERR_IO: the file is no
 * good any more, open it again later.
 */
enum err slab_append(struct op *op, struct slab *s, const struct slab_id *id,
                     const uint8_t *data);
/* Completes the region being written, so that the next start need not walk it. */
void slab_finish(struct slab *s);
/* False if the file is no longer the one at its path, or was cut. */
bool slab_intact(const struct slab *s);

struct slab_usage {
    uint64_t size_max;    /* given */
    uint64_t bytes;       /* of the file */
    uint64_t region_size; /* bytes */
    uint64_t index_bytes;
    uint32_t regions, regions_max;
    uint64_t recovered; /* pieces found when it was opened */
};
struct slab_usage slab_usage(struct slab *s);

#endif
