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
struct text_plan;

/* Which rows of each source may be found. */
struct allowed {
    struct rowset **rows; /* NULL: all of them */
    bool *none;           /* no row is allowed */
};

/* How a source is searched under the query's filter; query.h says what they mean. */
struct source_plan {
    enum plan plan;
    enum plan_basis basis;
    double fraction; /* of its rows that match, about */
    const char *why; /* static */
};

/* Is the filter asked of the source's columns, sooner or later? */
static inline bool plan_reads_filter(enum plan plan)
{
    return plan != PLAN_SKIPPED && plan != PLAN_UNFILTERED;
}

struct exec {
    struct snapshot *snapshot;
    const struct query *query;
    struct allowed allowed;    /* search first: all rows that live */
    struct source_plan *plans; /* per source */
    struct filter_work work;
    struct segment_work vectors;
    uint64_t retried;              /* sources where searching first left too little */
    uint64_t depth;                /* of the ranks' lists */
    uint64_t walked;               /* sources listed in the order of an index */
    struct segment_view **views;   /* per source: text indexes and columns */
    struct text_plan **text_plans; /* per rank: of a text that was ranked */
};

/* Order of two hits by document id; context is the snapshot. */
int exec_compare_ids(const void *context, const struct hit *a, const struct hit *b);
/* What vector ranks are to find of the nearest. */
float exec_recall(const struct query *q);
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

/* Decides how to search each source, as far as nothing of it need be read. */
void plan_begin(struct exec *x);
/* Decides the rest and finds the rows that may be found. */
enum err plan_sources(struct op *op, struct exec *x);

/* How many hits searching first asks for where `depth` are wanted. */
size_t plan_trial_depth(size_t depth, double fraction);
/* Is the source searched before it is filtered? */
bool plan_tries(const struct exec *x, const struct allowed *allowed, uint32_t source);

/* Takes out those of the source's hits that the filter does not allow. */
enum err plan_check(struct op *op, struct exec *x, uint32_t source, struct hit *hits,
                    size_t *count);
/* Too little was left: from now on the source's rows are filtered. */
enum err plan_again(struct op *op, struct exec *x, uint32_t source);

/* The k best of one rank, best first, in op's arena. */
struct ranking {
    struct hit *hits;
    size_t count;
};

enum err rank_vector(struct op *op, struct exec *x, const struct rank *rank,
                     const struct allowed *allowed, size_t depth, struct ranking *out);
enum err rank_text(struct op *op, struct exec *x, const struct rank *rank,
                   const struct allowed *allowed, size_t depth, struct ranking *out);
/* Fills in the highlights of the result's hits, whose documents were fetched. */
enum err mark_hits(struct op *op, const struct exec *x, struct query_result *r);

/* The first `count` allowed rows in the query's order, from its place on. */
enum err list_rows(struct op *op, struct exec *x, size_t count, struct ranking *out);
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

/* How deep the rankings, which were listed to depth, have to be so that no document
 * outside all of them can be among the best; depth if they are. */
size_t score_depth(const struct query *q, const struct ranking *rankings,
                   const struct scored *best, size_t count, size_t depth);

/* Fills in all but the times. */
enum err explain_query(struct op *op, const struct exec *x, struct query_explain *out);

/* The query's aggregates over the allowed rows. */
enum err aggregate_rows(struct op *op, const struct exec *x, struct query_result *r);

#endif
