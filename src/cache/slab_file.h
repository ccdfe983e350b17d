/*
 * slab_file.h - a slab's file on the disk: every call to the system that a slab makes.
 *
 * It finds and locks the file, holds it against its budget and the file system's, and
 * reads and writes bytes in it; what they say is slab_region.h's and slab.h's.
 *
 * Threads  opening, growing, syncing: one at a time. Reading and writing: any.
 */
#ifndef CACHE_SLAB_FILE_H
#define CACHE_SLAB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct iovec;
struct op;

/* Its members are for reading, by whoever; slab_file_* write them. */
struct slab_file {
    char *path;
    int fd;
    uint64_t region_size; /* of each of the regions behind the header */
    uint32_t regions_max; /* so many does the budget bear */
};

/*
 * Opens folder/ranges.slab for a slab of size_max bytes in all, at least 1 MiB; folders
 * and file are made. *regions: so many whole regions it has. A file with no header of
 * this version, or with regions of a size that size_max cannot be divided into, is made
 * empty; one that is larger than size_max is cut. Regions keep their size otherwise, so
 * that a change of the budget does not empty the cache.
 * ERR_BUSY: another process has it. ERR_DENIED, ERR_FULL, ERR_IO with the path and the
 * reason. slab_file_close in any case.
 */
enum err slab_file_open(struct op *op, const char *folder, uint64_t size_max,
                        struct slab_file *f, uint32_t *regions);
void slab_file_close(struct slab_file *f);

uint64_t slab_region_offset(const struct slab_file *f, uint32_t region);

/* True if all of it was there. */
bool slab_file_read(const struct slab_file *f, uint64_t offset, void *out, size_t size);
/* Two things that stand one behind the other, each to where it belongs. */
bool slab_file_read_two(const struct slab_file *f, uint64_t offset, void *first,
                        size_t first_size, void *second, size_t second_size);
/* The kernel should read this ahead. */
void slab_file_expect(const struct slab_file *f, uint64_t offset, uint64_t size);

/* ERR_FULL, ERR_DENIED, ERR_IO with the path and the reason. */
enum err slab_file_write(struct op *op, const struct slab_file *f, uint64_t offset,
                         const void *data, size_t size);
/* In one call, all or ERR_FULL. */
enum err slab_file_write_parts(struct op *op, const struct slab_file *f,
                               uint64_t offset, const struct iovec *parts, int count);
/* Not for safety, which checksums see to: for errors of the disk to show, and so that
 * no more than a region waits to be written. */
enum err slab_file_sync(struct op *op, const struct slab_file *f);

/* Adds this region, the next one, its space allocated. False where the budget or the
 * file system, of which a twentieth (at most 16 GiB) stays free, does not bear it. */
bool slab_file_grow(const struct slab_file *f, uint32_t region);

/* False if the file is no longer the one at its path, or has not all its regions. */
bool slab_file_intact(const struct slab_file *f, uint32_t regions);

#endif
