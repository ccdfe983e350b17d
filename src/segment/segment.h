/*
 * segment.h - one immutable searchable object.
 *
 * A segment is a byte string: header, sections, directory, footer (layout at the head
 * of segment_format.h and in docs/formats.md). It lies in the store, read by ranges
 * through the cache, or wholly in memory: the tail of a namespace is made of small
 * segments in memory, so everything that can be searched is a segment, and there is one
 * implementation of each index. Rows are dense numbers, 0 to row_count - 1; each row is
 * one document; ids are unique within a segment, and rows ascend by id. What was
 * deleted since is not in here: the snapshot keeps a row set of dead rows beside each
 * segment.
 *
 * Threads  a segment is shared by reference count and never changes; any thread may
 *          ask.
 * Time     open: one round for the last 64 KiB, another if what is kept in memory (ids
 *          above all) is larger than was to be expected. A search, view or fetch: one
 * round for all it needs, more above a few MiB of vectors and documents, so that pins
 * stay bounded. Errors   ERR_CORRUPT names the object and section; errors of the cache
 * and the op.
 */
#ifndef SEGMENT_SEGMENT_H
#define SEGMENT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attr/attr_filter.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/topk.h"
#include "doc/batch.h"
#include "doc/filter.h"
#include "doc/schema.h"

struct cache;
struct op;
struct rowset;
struct segment;
struct segment_builder;

/* ---- writing ---- */

struct segment_options {
    int zstd_level;      /* of the stored documents; 0: do not compress (tails) */
    uint32_t index_from; /* vectors from which on there is a vector index; 0: never */
    uint64_t index_seed; /* one for all segments of a namespace */
    bool index_flat;     /* the vector index without clusters (vec/ivf.h) */
    /* What a merge works on and keeps until it is written is cut from it; NULL: heap.
     */
    struct buf_room *room;
};

struct segment_builder *segment_builder_new(struct schema *schema,
                                            const struct segment_options *options);
/* Documents in any order, ids unique (asserted). The doc is copied. */
void segment_builder_add(struct segment_builder *b, const struct doc *d);
/* Appends the segment's bytes to out and frees the builder. Needs at least one row. */
enum err segment_builder_finish(struct op *op, struct segment_builder *b,
                                struct buf *out);

struct segment_input {
    struct segment *segment;
    const struct rowset *dead; /* rows to leave out, or NULL */
};
/*
 * Writes the live rows of several segments as one. Their ids must be disjoint. schema
 * is the newest: rows of older segments are null in later attributes. *row_count is 0,
 * and out unchanged, when nothing lives.
 */
enum err segment_merge(struct op *op, struct schema *schema,
                       const struct segment_options *options,
                       const struct segment_input *inputs, size_t n, struct buf *out,
                       uint32_t *row_count);

/* What a merge takes, about and rather more than less. Vectors and documents only pass
 * through, and what else grows with their size lies in the room; the heap holds some
 * bytes a row, and while a vector index is built its sample (vec/ivf.h). */
struct segment_needs {
    uint64_t result; /* bytes appended to out */
    uint64_t room;   /* of options->room, … */
    uint64_t heap;   /* … and besides; without a room both */
};
struct segment_needs segment_merge_needs(const struct segment_options *options,
                                         const struct segment_input *inputs, size_t n);

/* ---- opening ---- */

/* A stored segment. size is what the manifest says: an object of another size is
 * ERR_CORRUPT. Borrows nothing but the cache, in whose budget it counts what it holds;
 * ERR_BUSY when there is no room. */
enum err segment_open(struct op *op, struct cache *cache, const char *key,
                      uint64_t size, struct segment **out);
/* What a manifest knows of a stored segment. 0 of end_size or rows, NULL: not known. */
struct segment_object {
    const char *key;
    uint64_t size;
    uint64_t end_size;        /* segment_end_size */
    const uint8_t *tail_hash; /* 16 bytes, segment_tail_hash */
    uint32_t rows, vector_dim;
};
/* XXH3-128 of a segment's last bytes, which tells two of equal size apart. */
enum { SEGMENT_TAIL_SIZE = 64 << 10 };
void segment_tail_hash(struct slice object, uint8_t hash[16]);
/* As segment_open; with the end's size known it reads that in one round. With the rows
 * known it guesses, so that there is seldom a second one. ERR_CORRUPT too when it is
 * another segment than the hash tells. */
enum err segment_open_object(struct op *op, struct cache *cache,
                             const struct segment_object *object, struct segment **out);
/* A segment in memory; takes bytes over, also on failure. */
enum err segment_open_memory(struct op *op, struct buf *bytes, struct segment **out);
struct segment *segment_ref(struct segment *s);
void segment_unref(struct segment *s); /* NULL is fine */

/*
 * Puts into the cache what searches and filters read of s, whose bytes are those of the
 * object: each section of which most was in memory of the segments that it was made of.
 * At most half of the budget.
 */
void segment_offer(struct op *op, const struct segment *s, struct slice object,
                   const struct segment_input *inputs, size_t n);

/* ---- looking into one ---- */

/* Reads every byte once and compares it with its checksum. ERR_CORRUPT names the
 * section and block. Holds some MiB at a time, in the cache's budget. */
enum err segment_verify(struct op *op, struct segment *s);
/* Reads every document under the namespace's schema and compares what the segment says
 * of them, by which filters and searches are planned: how many have a vector, how many
 * a value of each attribute. ERR_CORRUPT with the difference. */
enum err segment_verify_counts(struct op *op, struct segment *s,
                               const struct schema *schema);
/* Counts, attributes and sections for a person to read: a line each, appended. */
void segment_describe(const struct segment *s, struct buf *out);

/* ---- asking ---- */

uint32_t segment_row_count(const struct segment *s);
uint64_t segment_size(const struct segment *s);     /* bytes of the object */
uint64_t segment_end_size(const struct segment *s); /* what opening it reads */
uint64_t segment_memory(const struct segment *s); /* bytes it holds outside the cache */
const char *segment_key(const struct segment *s); /* "memory" for one in memory */

/* The id of a row; strings borrow from the segment. Never fails: ids are in memory. */
struct doc_id segment_id(const struct segment *s, uint32_t row);
/* Rows of n ids (any order, of the segment's kind or not), UINT32_MAX where absent. */
void segment_find(const struct segment *s, const struct doc_id *ids, size_t n,
                  uint32_t *rows);

/* Rows for which the filter is true, dead or not, among those given (NULL: all); a new
 * rowset. Adds to *work, unless it is NULL, how the conditions were answered. */
enum err segment_filter(struct op *op, struct segment *s, const struct filter *f,
                        const struct rowset *among, struct filter_work *work,
                        struct rowset **out);
/* What segment_filter would find and cost, by a few look-ups and samples. */
enum err segment_filter_estimate(struct op *op, struct segment *s,
                                 const struct filter *f, struct filter_estimate *out);

/*
 * Exact scan: pushes allowed rows that have a vector. Score: cosine similarity (right
 * to 1e-6; 0 with a vector of length 0), minus squared distance for l2, dot product;
 * always finite, what float cannot hold is cut to its largest. allowed NULL: all rows.
 * Blocks without allowed rows are not read.
 */
enum err segment_vector_search(struct op *op, struct segment *s,
                               enum metric_kind metric, const float *query,
                               const struct rowset *allowed, uint32_t source,
                               struct topk *best);
/* Number of rows that have a vector. */
uint32_t segment_vector_count(const struct segment *s);
/* Is it read by ranges from a distant store (cache_is_far)? */
bool segment_is_far(const struct segment *s);
/* Has the segment a vector index? */
bool segment_indexed(const struct segment *s);

/* Is comparing the vectors of so many allowed rows one by one as quick as looking for
 * the nearest by the index? Always for 512 rows or fewer, for 64 of an index in memory;
 * by a few measured costs. */
bool segment_scans(const struct segment *s, uint64_t rows, float recall);

/* A segment, and those of its rows that may be found. */
struct segment_target {
    struct segment *segment;
    const struct rowset *allowed; /* NULL: all rows */
    uint32_t source;              /* of the hits */
};

struct segment_near {
    enum metric_kind metric;
    const float *query;
    float recall; /* wanted, of the nearest that there are; 1 or more: exact */
    /* Without a filter, of the best so many the scores must be exact; those of the
     * others may be by codes. 0: all. */
    uint32_t exact;
    /* A filter that comes last: of the nearest `sought` rows, at least, it takes out
     * those that it does not allow, before any vector is read. They come best first,
     * and stay in that order. NULL: none. */
    enum err (*check)(struct op *op, void *context, struct hit *hits, size_t *count);
    void *context;
    uint32_t sought;
    /* The documents of the results will be fetched next: where the store is far away
     * those of all that may become one are read beside their vectors. */
    bool documents;
};

/* What a search of neighbours looked at. */
struct segment_work {
    uint64_t indexed;  /* segments searched by their index */
    uint64_t clusters; /* of those, and the bytes of their records */
    uint64_t bytes;
    uint64_t codes; /* compared by 1 bit a coordinate */
    uint64_t rows;  /* by 8 bits */
    uint64_t exact; /* vectors of results scored again */
};

/*
 * The best->k nearest rows of all targets. Segments with an index are searched by it:
 * some of the rows are missed then, so many as `recall` says, but scores are exact.
 * Segments without, and those where few rows are allowed, are scanned. Rounds: one for
 * the records of all segments, seldom more; one for exact scores, with a filter
 * sometimes two; with one that leaves few rows one more before; those of the scans.
 * What best holds already counts: rows that cannot get in are not looked for. Adds to
 * *work.
 */
enum err segment_nearest(struct op *op, const struct segment_target *targets, size_t n,
                         const struct segment_near *near, struct topk *best,
                         struct segment_work *work);

struct segment_view; /* sections pinned for one query */

/* What a query looks up in a text index: these terms; with NULL whatever it likes. */
struct segment_text {
    int attr;
    const struct slice *terms;
    size_t term_count;
};
struct segment_want {
    const struct segment_text *texts;
    size_t text_count;
    const int *columns; /* attributes */
    size_t column_count;
    bool positions; /* the texts can be asked for phrases; their terms are not named */
};

/*
 * Pins the text indexes and columns asked for, all in one round, and opens them. An
 * index whose terms are named may be read by ranges (text_index_of_chunks). Repeats of
 * columns are fine, and attributes that the segment does not have (older schema).
 */
enum err segment_view_open(struct op *op, struct segment *s,
                           const struct segment_want *want, struct segment_view **out);
/* NULL if it was not asked for or the segment has none: the attribute is null in all
 * its rows. Valid while the view is open. */
const struct text_index *segment_view_text(const struct segment_view *v, int attr);
const struct column *segment_view_column(const struct segment_view *v, int attr);
void segment_view_close(struct segment_view *v); /* NULL is fine */

/* What to read of a row. */
struct segment_fetch {
    bool vector;
    bool attributes;
};
/*
 * Documents of n rows, in op's arena: id always, the rest as asked. values has
 * schema->attr_count entries (the namespace's schema, which may be newer), vector is
 * NULL when absent or not asked for. One round.
 */
enum err segment_fetch(struct op *op, struct segment *s, const struct schema *schema,
                       const uint32_t *rows, size_t n, struct segment_fetch what,
                       struct doc *out);

#endif
