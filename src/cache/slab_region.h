/*
 * slab_region.h - what a region of a slab's file is found to hold, whatever happened to
 * it: from its table and trailer where it was completed, else record by record.
 *
 * Nothing that is found is believed to be whole: who reads a record looks at its
 * checksum.
 */
#ifndef CACHE_SLAB_REGION_H
#define CACHE_SLAB_REGION_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "cache/slab_file.h"
#include "cache/slab_format.h"

struct slab_region {
    uint32_t region, sequence;
    uint64_t end; /* in the region, behind its last record; 0: it holds nothing */
    struct buf table;
};

/* Finds out what the region holds. The caller releases r->table. */
void slab_region_read(const struct slab_file *f, uint32_t region,
                      struct slab_region *r);
/* Lets the kernel fetch what the first so many regions are read from, all at once. */
void slab_regions_expect(const struct slab_file *f, uint32_t count);

/* Where the region may hold records up to, with so many bytes of table. */
uint64_t slab_region_room(const struct slab_file *f, uint64_t table_size);

/* ---- a table: of each record its tag and where in the region it is ---- */

void slab_table_add(struct buf *table, uint64_t tag, uint64_t offset);
size_t slab_table_count(const struct buf *table);
struct slab_table_entry slab_table_at(const struct buf *table, size_t index);

#endif
