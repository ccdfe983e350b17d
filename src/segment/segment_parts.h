/*
 * segment_parts.h - what an open segment is made of. Private to segment/.
 *
 * The end of the object from resident_offset on (presence, document index, ids,
 * directory, footer) is held in memory. An object that the first read brings whole, or
 * that was given in memory, is held whole: then there is no cache, and pins point into
 * it. Bytes are checked once: held ones when the segment is opened, others when the
 * cache got them from the store (cache_pin.check), so every byte that is looked at was
 * checked and a warm read checks nothing.
 */
#ifndef SEGMENT_SEGMENT_PARTS_H
#define SEGMENT_SEGMENT_PARTS_H

#include <stdatomic.h>

#include "base/codec.h"
#include "cache/cache.h"
#include "segment/segment.h"
#include "segment/segment_format.h"
#include "vec/ivf.h"

struct column;
struct segment_stats;
struct text_index;

/* Of a text index that is not held. */
struct segment_head {
    struct text_index *index;   /* segment_terms.h; NULL: there is none */
    atomic_uint_fast64_t asked; /* what ranges have cost so far, in bytes */
};

struct segment {
    atomic_uint refs;
    struct cache *cache;  /* NULL: held whole */
    struct cache *budget; /* NULL: counted elsewhere (tails) */
    uint64_t reserved;    /* of it */
    char *key;
    uint64_t size;
    struct buf held; /* [held_offset, size) of the object */
    uint64_t held_offset;
    struct segment_layout layout;
    const struct section *vectors, *documents; /* NULL where there are none */
    uint32_t unit_slots;                       /* vectors in a unit */

    struct ivf *ivf; /* NULL: no vector index */
    const struct section *records;

    struct buf unpacked_ids; /* empty where they are not packed */
    /* Ids by row, ascending; of one kind, the other's are NULL. */
    const uint64_t *ids;
    const uint32_t *id_ends;
    const uint8_t *id_bytes;

    /* Only where some rows have a vector and some do not. */
    const uint64_t *presence;
    uint32_t *ranks; /* vectors before each word of presence */
    struct rowset *present;

    struct document_block *blocks; /* NULL: no values at all */
    uint32_t block_count;

    struct segment_stats *stats; /* NULL: its manifest says nothing */

    /* By attribute, NULL where there is none; the arrays are NULL unless held whole. */
    struct column **columns;
    struct text_index **texts;
    struct segment_head *heads; /* by attribute; NULL where there are none */
};

/* ---- reading sections ---- */

/* A pin for a range that starts and ends with check blocks. */
struct cache_pin segment_range(const struct segment *s, uint64_t offset, uint64_t size);
/* All of a section. */
struct cache_pin segment_section_range(const struct segment *s,
                                       const struct section *section);
/* As cache_pin and cache_unpin; pins of what is held cost nothing. */
enum err segment_pin(struct op *op, const struct segment *s, struct cache_pin *pins,
                     size_t n);
void segment_unpin(const struct segment *s, struct cache_pin *pins, size_t n);

/* ERR_CORRUPT unless the segment can be one of a namespace with this schema. */
enum err segment_fits(struct op *op, const struct segment *s,
                      const struct schema *schema);

/* ---- vectors: the slot-th vector is that of the slot-th row that has one ---- */

bool segment_has_vector(const struct segment *s, uint32_t row);
uint32_t segment_slot(const struct segment *s, uint32_t row); /* row has a vector */
uint32_t segment_slot_row(const struct segment *s, uint32_t slot);

static inline enum ivf_metric segment_ivf_metric(enum metric_kind metric)
{
    return metric == METRIC_L2 ? IVF_L2 : metric == METRIC_DOT ? IVF_DOT : IVF_COSINE;
}

/* Vectors are read by units of s->unit_slots: a few check blocks. The pin of a unit. */
struct cache_pin segment_unit_range(const struct segment *s, uint32_t unit);
/* For one vector: its check block, and the vector in it. */
struct cache_pin segment_vector_range(const struct segment *s, uint32_t slot);
const float *segment_range_vector(const struct segment *s, struct slice data,
                                  uint32_t slot);
/* The vector of a slot of the unit that data holds. */
const float *segment_unit_vector(const struct segment *s, struct slice data,
                                 uint32_t slot);

/* ---- documents ---- */

uint32_t segment_block_of(const struct segment *s, uint32_t row);
struct cache_pin segment_block_range(const struct segment *s, uint32_t block);

/* Walks over the records of one block, forward. Starts as all zeros. */
struct record_cursor {
    struct buf expanded;
    struct reader records; /* at the record of next_row */
    bool loaded;
    uint32_t block, next_row;
};
/*
 * The record of a row. stored: the bytes of the row's block, which stay pinned while
 * the cursor is in that block. The record is valid until the next call. Any order of
 * rows is right, ascending is fast. ERR_CORRUPT.
 */
enum err record_cursor_get(struct op *op, struct record_cursor *c,
                           const struct segment *s, uint32_t row, struct slice stored,
                           struct slice *record);
void record_cursor_release(struct record_cursor *c);

enum { SEGMENT_OPEN_TAIL = SEGMENT_TAIL_SIZE }; /* what segment_open reads first */
/* segment_nearest that, without `scans`, looks for few allowed rows by the index too;
 * for tests. */
enum err segment_nearest_from(struct op *op, const struct segment_target *targets,
                              size_t n, const struct segment_near *near, bool scans,
                              struct topk *best, struct segment_work *work);

/* segment_open with a first read of tail_size bytes; tests make it small. */
enum err segment_open_tail(struct op *op, struct cache *cache, const char *key,
                           uint64_t size, uint64_t tail_size, struct segment **out);

/* The ranges at the end of an object that are read first: the tail, which has the
 * footer, and all that is held where its size is known; else a body before it, as long
 * as so many rows need. A range of no bytes: not wanted. */
struct segment_end {
    struct cache_pin tail, body;
};
struct segment_end segment_end_of(const struct segment_object *object,
                                  uint64_t tail_size);
/* Where what they hold begins. */
static inline uint64_t segment_end_offset(const struct segment_end *end)
{
    return end->body.size ? end->body.offset : end->tail.offset;
}

#endif
