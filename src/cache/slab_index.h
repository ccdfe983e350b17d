/*
 * slab_index.h - where on disk a range is: a table of fixed size from tags to places.
 *
 * A tag's bucket has eight slots. A slot holds a place, or only the memory that the tag
 * was asked for once (a ghost). Places in a region that was written anew are dead at
 * once: a slot names the region's sequence, and the caller says which one is current.
 * A full bucket loses its oldest slot. Being told a wrong place, or none, is always
 * fine: what is read is compared with what was wanted.
 *
 * Threads  none of its own: the caller's lock. Memory: slots of 16 bytes, rounded down
 *          to a power of two; pages of slots never used are never touched.
 */
#ifndef CACHE_SLAB_INDEX_H
#define CACHE_SLAB_INDEX_H

#include <stdbool.h>
#include <stdint.h>

struct slab_index;

struct slab_place {
    uint32_t sequence; /* of the region */
    uint32_t unit;     /* in the region */
};

/* current: of each region the sequence in use, 0 for none; sequence s is of region
 * s % SLAB_REGIONS_MAX. Borrowed. */
struct slab_index *slab_index_new(uint64_t bytes_max, const uint32_t *current);
void slab_index_free(struct slab_index *index);

/* False if there is no place. */
bool slab_index_find(const struct slab_index *index, uint64_t tag,
                     struct slab_place *place);
/* A younger place of the same tag stays. */
void slab_index_put(struct slab_index *index, uint64_t tag, struct slab_place place);
void slab_index_remove(struct slab_index *index, uint64_t tag);

/* Marks a place as used since it was put; false if there is none. */
bool slab_index_touch(struct slab_index *index, uint64_t tag);
/* True if this very place was touched since it was put. */
bool slab_index_touched(const struct slab_index *index, uint64_t tag,
                        struct slab_place place);

/* Remembers a tag without a place; true if it was remembered already. */
bool slab_index_remember(struct slab_index *index, uint64_t tag);

uint64_t slab_index_bytes(const struct slab_index *index);

#endif
