/*
 * ivf.h - the vector index of one segment: bytes in, bytes out.
 *
 * Rows lie in clusters of at most 512. A query compares itself with the centroids, asks
 * for the records of the nearest clusters, scans their 1-bit codes, looks at the 8-bit
 * codes of those rows whose lower bound is below the k-th distance so far, and, if
 * wanted, at the caller's exact vectors of the best few.
 *
 * Which clusters are looked at follows from the k-th distance so far: a row of a
 * cluster can be nearer only if it leaves its centroid in the query's direction, by a
 * cosine that follows from the distances. In many dimensions large cosines are rare, so
 * clusters that need one above the cut are left out. The cut of a wanted recall was
 * measured when the index was built, with rows of the data as queries; because the rule
 * is about geometry and not about a number of clusters, it also holds for other k, for
 * filters and beside other segments, whose rows have brought the k-th distance down.
 * Where all rows may be found, a number of clusters that was measured together with a
 * cut ends the search sooner.
 *
 * An index is three byte strings (layout in ivf_format.h), which the caller stores and
 * reads: head (read whole, kept), slots (where each row lies, 4 bytes a row: only
 * needed for filters that allow few rows) and records (read by ranges, one a cluster).
 * The head carries checksums of itself and of the records; slots are checked as far as
 * safety needs, their checksum is the caller's.
 *
 * Scores are those of the contract: cosine similarity, minus squared distance, dot
 * product; approximate (about 1e-3 of the spread) unless exact vectors are given.
 *
 * Threads  an index never changes; any thread may search it. A search is one thread's.
 * Memory   an open index borrows its head. A search lives in its op's arena: a few
 *          dozen KiB.
 * Errors   ERR_CORRUPT: the bytes are not an index, or not of this one. ERR_LIMIT: the
 *          op's memory.
 */
#ifndef VEC_IVF_H
#define VEC_IVF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/topk.h"

struct op;
struct ivf;
struct ivf_search;
struct rowset;

enum ivf_metric { IVF_COSINE, IVF_L2, IVF_DOT };

/* ---- building ---- */

/* The vectors of a segment, float32, finite. */
struct ivf_source {
    /* Vectors first .. first + count - 1, dim floats each, into out. */
    void (*read)(const void *context, uint32_t first, uint32_t count, float *out);
    const void *context;
    uint32_t count; /* of vectors, > 0 */
    uint32_t dim;
    const uint32_t *rows; /* the segment's row of each, ascending; NULL: 0, 1, ... */
    uint32_t row_count;   /* of the segment: all rows are below */
    /* Of each vector the cluster, below cluster_count, in which it lies already in an
     * index of many of these vectors, IVF_NO_CLUSTER if in none. Such clusters are kept
     * as far as they suit all, which costs a fraction. NULL: start anew. */
    const uint32_t *clusters;
    uint32_t cluster_count;
};

#define IVF_NO_CLUSTER UINT32_MAX

struct ivf_build_options {
    enum ivf_metric metric;
    uint64_t seed;         /* of the rotation: one for all segments of a namespace */
    uint32_t cluster_size; /* rows wished for in a cluster; 0: the default */
    /* No clusters are looked for and nothing is measured: of runs of rows, coded from
     * the mean of all, a query looks at every code. A tenth of the work of building,
     * for a few thousand rows that will soon be indexed with others. */
    bool flat;
    struct buf_room *room; /* slots and records are cut from it; NULL: on the heap */
};

struct ivf_bytes {
    struct buf head, slots, records;
};

/*
 * Builds the index of a source. Memory: out, a sample of at most 512 MiB, a few bytes a
 * row. ERR_LIMIT: a vector longer than IVF_LENGTH_MAX: search such a segment exactly.
 * ERR_TIMEOUT, ERR_CANCELED.
 */
enum err ivf_build(struct op *op, const struct ivf_source *source,
                   const struct ivf_build_options *options, struct ivf_bytes *out);
void ivf_bytes_release(struct ivf_bytes *b);
/* Of the index, about and rather more; what building it takes besides. known: the
 * source has the clusters of some rows. */
uint64_t ivf_bytes_per_vector(uint32_t dim);
uint64_t ivf_build_memory(uint32_t dim, uint64_t count, bool known);

/* ---- opening ---- */

/* head must outlive the index. Free with ivf_close. */
enum err ivf_open(struct op *op, struct slice head, struct ivf **out);
void ivf_close(struct ivf *ivf); /* NULL is fine */

uint32_t ivf_count(const struct ivf *ivf); /* of vectors */
uint32_t ivf_clusters(const struct ivf *ivf);
uint32_t ivf_largest_cluster(const struct ivf *ivf);
uint64_t ivf_slots_size(const struct ivf *ivf);
uint64_t ivf_records_size(const struct ivf *ivf);
uint64_t ivf_memory(const struct ivf *ivf); /* bytes it holds besides the head */
/* Clusters that a query looks at, at most or nearly always, for the wanted recall of
 * the 10 nearest. reranked: exact vectors decide between the best ivf_rerank(10) in the
 * end. */
uint32_t ivf_probes(const struct ivf *ivf, float recall, bool reranked);

/* Was it built flat? Its clusters say nothing about where rows lie. An index that found
 * nothing to measure, of one row or equal ones, is as good as flat. */
bool ivf_is_flat(const struct ivf *ivf);

/*
 * Can the index find so many? In one or two dimensions distances between neighbours are
 * below what 8-bit codes tell, whatever is looked at: such vectors, where the
 * calibration saw it, are to be searched exactly. Of a flat index 0.99 is known.
 */
bool ivf_reaches(const struct ivf *ivf, float recall);
/*
 * Do the codes alone tell the nearest well enough, for at most a quarter more clusters
 * than where exact vectors decide? Then whoever pays dearly for each vector, but not
 * for clusters, need only read those of the results. It was measured with searches that
 * keep ivf_rerank(k) rows: those look farther than one that keeps k.
 */
bool ivf_decides(const struct ivf *ivf, float recall);
/* The cluster that a row with a vector lies in. slots: all of it. */
uint32_t ivf_row_cluster(const struct ivf *ivf, struct slice slots, uint32_t row);

/* Is this the index of that many vectors among that many rows? */
bool ivf_fits(const struct ivf *ivf, enum ivf_metric metric, uint32_t dim,
              uint32_t count, uint32_t row_count);
/* Would a search among so many allowed rows look them up by slot? */
bool ivf_walks(const struct ivf *ivf, uint64_t allowed);
/* Vectors and queries longer than this, whose squares float cannot hold, are not for an
 * index. */
#define IVF_LENGTH_MAX 1e15

/* A stretch of records to read: the record of one cluster. */
struct ivf_record {
    uint32_t cluster;
    uint64_t offset;
    size_t size;
    struct slice bytes; /* filled in by the caller */
};

struct ivf_record ivf_record_of(const struct ivf *ivf, uint32_t cluster);
/* Compares the bytes of the record that starts at offset with their checksum. */
enum err ivf_record_check(struct op *op, const struct ivf *ivf, uint64_t offset,
                          struct slice bytes);

/* ---- searching ---- */

/* So many rows, decided by exact vectors, leave k results that the rounding of the
 * 8-bit codes has no part in. */
static inline uint32_t ivf_rerank(uint32_t k)
{
    return k + k / 8 + 4;
}

struct ivf_options {
    uint32_t k;
    float recall; /* wanted, 0 to 1 */
    float share;  /* of all rows that are searched, those of this index; 0: all */
    float cut;    /* instead of recall, if probes say no more; 0: by recall */
    uint32_t
        probes; /* clusters to look at, those beyond the cut left out; 0: by recall */
    uint32_t rerank; /* the best so many will be decided by exact vectors; 0: none */
    uint32_t keep;   /* rows to find, if that is more than k and rerank */
    uint32_t spare;  /* rows besides, of those that it compares by 8 bits anyway */
    float eps;       /* width of the error bound; 0: the default, 1.9 */
    const struct rowset *allowed; /* rows that may be found; NULL: all */
    struct slice slots;           /* all of it, or empty: then never walk by rows */
    /* What it finds goes to `best` at once, as hits of source, so that the searches of
     * other indexes leave out what cannot get in. */
    bool shares;
    uint32_t source;
    /* Another search of the same op, whose room for codes this one uses too: never are
     * both in ivf_search_scan. NULL: its own. */
    const struct ivf_search *beside;
};

/* What a search has looked at. */
struct ivf_counters {
    uint32_t clusters;
    uint64_t codes; /* by their 1 bit */
    uint64_t rows;  /* by their 8 bits */
    uint64_t exact;
};

/* query: dim finite floats. k > 0. The search dies with op. */
enum err ivf_search_begin(struct op *op, const struct ivf *ivf, const float *query,
                          const struct ivf_options *options, struct ivf_search **out);
/*
 * The clusters to read next, at most max, nearest first; none when the search is
 * complete. The first answer is nearly always all that is needed. Ask again after
 * scanning these. best, or NULL, is what other sources have found: what cannot get in
 * is left out early.
 */
enum err ivf_search_next(struct op *op, struct ivf_search *s, const struct topk *best,
                         struct ivf_record *records, size_t max, size_t *n);
/* Scans records of the last ivf_search_next, but those that the ones before made
 * needless; or, of a search for UINT32_MAX probes, any that it has not scanned yet.
 * best as there. */
enum err ivf_search_scan(struct op *op, struct ivf_search *s,
                         const struct ivf_record *records, size_t n, struct topk *best);
/* The rows found, k or as many as will be reranked or kept, and at most `spare` more,
 * from which rows as near may be missing; best first, in the op's arena; scores are
 * approximate. Ends the search: call it once. */
void ivf_search_found(struct ivf_search *s, struct hit **hits, size_t *count);
struct ivf_counters ivf_search_counters(const struct ivf_search *s);

/* Exact score of one row, for the rerank. */
typedef float (*ivf_exact)(const void *context, uint32_t row);

/*
 * All of the above over an index in memory: pushes the best rows to best, as hits of
 * source, those to be reranked with exact scores; all approximate if exact is NULL.
 */
enum err ivf_search(struct op *op, const struct ivf *ivf, struct slice records,
                    const float *query, const struct ivf_options *options,
                    ivf_exact exact, const void *context, uint32_t source,
                    struct topk *best, struct ivf_counters *counters);

#endif
