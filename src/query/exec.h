/*
 * exec.h - a query on its way: what the stages of query/ share.
 *
 * Stages run top to bottom in query_run: rows that are allowed, ranks, fusion or order,
 * documents. Everything lives in the op's arena but the row sets and views, which
 * exec_release gives back.
 */
#ifndef QUERY_EXEC_H
#define QUERY_EXEC_H

#include "base/topk.h"
#include "query/query.h"
#include "segment/segment.h"

struct rowset;
struct text_plan;

struct exec {
    struct snapshot *snapshot;
    const struct query *query;
    struct rowset **allowed;     /* per source; NULL: all rows */
    bool *skip;                  /* per source: no row is allowed */
    struct segment_view **views; /* per source: text indexes and order columns */
    struct text_plan **plans;    /* per rank: of a text that was ranked, else NULL */
};

/* Order of two hits by document id; context is the snapshot. */
int exec_compare_ids(const void *context, const struct hit *a, const struct hit *b);

/* The k best of one rank, best first, in op's arena. */
struct ranking {
    struct hit *hits;
    size_t count;
};

enum err rank_vector(struct op *op, const struct exec *x, const struct rank *rank,
                     size_t depth, struct ranking *out);
enum err rank_text(struct op *op, const struct exec *x, const struct rank *rank,
                   size_t depth, struct ranking *out);
/* Fills in the highlights of the result's hits, whose documents were fetched. */
enum err mark_hits(struct op *op, const struct exec *x, struct query_result *r);
/* The first top_k allowed rows in the query's order. */
enum err list_rows(struct op *op, const struct exec *x, struct ranking *out);

/* A hit of several rankings. */
struct fused {
    double score;
    struct hit hit;
};
/* Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009): the top_k best by the sum
 * of weight / (k + rank), ties by id. */
enum err fuse_rrf(struct op *op, const struct exec *x, const struct ranking *rankings,
                  struct fused **out, size_t *count);

#endif
