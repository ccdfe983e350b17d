/*
 * exec.h - a query on its way: what the stages of query/ share.
 *
 * Stages run top to bottom in query_run: rows that are allowed, aggregates, ranks,
 * score or order, documents. Everything lives in the op's arena but the row sets and
 * views, which exec_release gives back.
 */
#ifndef QUERY_EXEC_H
#define QUERY_EXEC_H

#include "base/topk.h"
#include "query/query.h"
#include "segment/segment.h"

struct rowset;

/* Which rows of each source may be found. */
struct allowed {
    struct rowset **rows; /* NULL: all of them */
    bool *none;           /* no row is allowed */
};

/*
 * How a source is searched under the query's filter.
 *
 *   filter first   the filter's rows are found, and handed to the search
 *   exact          the same, and they are so few that each of them is scored
 *   search first   more is searched for than was asked, and the filter is asked about
 *                  that; where too little is left, the filter comes first after all
 */
enum plan { PLAN_NO_FILTER, PLAN_FILTER_FIRST, PLAN_EXACT, PLAN_SEARCH_FIRST };

struct exec {
    struct snapshot *snapshot;
    const struct query *query;
    struct allowed allowed; /* search first: all rows that live */
    enum plan *plans;       /* per source */
    double *fractions;      /* of rows that match, about: of sources searched first */
    struct filter_work work;
    struct segment_work vectors;
    uint64_t retried;            /* sources where searching first left too little */
    struct segment_view **views; /* per source: text indexes and columns */
};

/* Order of two hits by document id; context is the snapshot. */
int exec_compare_ids(const void *context, const struct hit *a, const struct hit *b);
/* How many hits each rank is listed to. */
size_t exec_depth(const struct query *q);
/* How many rows of the source are allowed. */
uint64_t exec_allowed_count(const struct exec *x, const struct allowed *allowed,
                            uint32_t source);
/* The next allowed rows of the source from `from` on, ascending, at most max. */
size_t exec_rows(const struct exec *x, uint32_t source, uint32_t from, uint32_t *rows,
                 size_t max);
/* The attribute's column, NULL where all its values are null. Only of attributes that
 * the query orders by or aggregates. */
const struct column *exec_column(const struct exec *x, uint32_t source, int attr);

/* Decides how to search a source and finds the rows that may be found. */
enum err plan_source(struct op *op, struct exec *x, uint32_t source);

/* A search before the filter. */
struct trial {
    struct topk best;
    size_t wanted;
};
/* Is the source searched first? Then the search fills trial->best. */
enum err trial_begin(struct op *op, const struct exec *x, const struct allowed *allowed,
                     uint32_t source, size_t depth, bool *tries, struct trial *trial);
/* Hands on what the filter leaves of it to best, or asks to search *again: from now on
 * the source's rows are filtered. */
enum err trial_end(struct op *op, struct exec *x, uint32_t source, struct trial *trial,
                   struct topk *best, bool *again);

/* The k best of one rank, best first, in op's arena. */
struct ranking {
    struct hit *hits;
    size_t count;
};

enum err rank_vector(struct op *op, struct exec *x, const struct rank *rank,
                     const struct allowed *allowed, size_t depth, struct ranking *out);
enum err rank_text(struct op *op, struct exec *x, const struct rank *rank,
                   const struct allowed *allowed, size_t depth, struct ranking *out);

/* The first `count` allowed rows in the query's order, from its place on. */
enum err list_rows(struct op *op, const struct exec *x, size_t count,
                   struct ranking *out);
/* Where a hit stands in the query's order; its id borrows from the segment. */
struct query_place list_place(const struct exec *x, const struct hit *hit);

/* A document that is in at least one ranking. */
struct scored {
    double score;
    struct hit hit;
};
/* Every document of the rankings, scored by the query's score: the top_k best, ties by
 * id. */
enum err score_rankings(struct op *op, const struct exec *x,
                        const struct ranking *rankings, struct scored **out,
                        size_t *count);

/* The query's aggregates over the allowed rows. */
enum err aggregate_rows(struct op *op, const struct exec *x, struct query_result *r);

#endif
