/*
 * query.h - the query algebra: rank, filter, score, order, aggregate; and its
 * execution.
 *
 * A query ranks documents by any number of ranks (a vector's neighbours, BM25 of
 * words), each restricted by the query's filter and by one of its own, and joins them
 * into one list by a score: a tree of sums, products and boosts over the ranks. Or it
 * lists what a filter matches, ordered by an attribute or by id, page by page. Either
 * may count and aggregate what the filter matches. JSON front ends (api/) translate
 * into this and know nothing of segments; this knows nothing of JSON or of the store.
 */
#ifndef QUERY_QUERY_H
#define QUERY_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "doc/batch.h"
#include "doc/filter.h"
#include "ns/snapshot.h"

struct op;

enum {
    QUERY_TOP_K_MAX = 10000,
    QUERY_DEPTH_MAX = 10 * QUERY_TOP_K_MAX, /* of the lists that a score joins */
    QUERY_RANKS_MAX = 16,
    QUERY_SCORE_DEPTH_MAX = 16,
    QUERY_SCORE_NODES_MAX = 256,
    QUERY_TEXT_SIZE_MAX = 64 << 10,
    QUERY_TERMS_MAX = 1024,
    QUERY_AGGREGATES_MAX = 64, /* of each of sum, min and max */
    QUERY_GROUPS_MAX = 10000,
    QUERY_UNGROUPED = -2
};

/* Part of the true neighbours that a query finds unless it says otherwise. */
#define QUERY_RECALL_DEFAULT 0.95F

/* ---- ranks ---- */

enum rank_kind { RANK_VECTOR, RANK_TEXT };

struct rank_field {
    int attr; /* a full_text attribute */
    float weight;
};

/* A sub-query: a list of documents with scores, best first. */
struct rank {
    enum rank_kind kind;
    uint32_t vector_field; /* RANK_VECTOR: schemas have one so far, number 0 */
    const float *vector;   /* RANK_VECTOR: schema->vector_dim floats */
    struct slice text;     /* RANK_TEXT */
    const struct rank_field *fields;
    size_t field_count;
    bool all_words;        /* operator and: each word in at least one of the fields */
    bool prefix;           /* the last word stands for all that begins with it */
    uint8_t fuzzy;         /* edits that a word may be away; 0: none */
    const int *highlights; /* attributes of fields, whose texts come back marked up */
    size_t highlight_count;
    const struct filter *filter; /* NULL, or what only this rank is restricted by */
};

/* ---- scores ---- */

enum score_op {
    SCORE_CONSTANT,   /* 1 */
    SCORE_RANK,       /* the document's score in ranks[rank] */
    SCORE_RECIPROCAL, /* 1 / (k + its position there, counted from 1) */
    /* (score - least) / (greatest - least), both of ranks[rank]'s list; 1 where they
     * are equal */
    SCORE_MINMAX,
    SCORE_FILTER, /* 1 if the filter matches the document, else 0 */
    SCORE_SUM,
    SCORE_PRODUCT,
    SCORE_GREATEST
};

/*
 * What a document of any of the lists is worth: weight times what op says; for a rank
 * whose list does not hold the document that is 0. Sums and products are computed in
 * double precision in the order of the children. A score that is not finite counts as
 * the largest or least finite number, one that is no number as the least.
 */
struct score {
    enum score_op op;
    double weight; /* finite */
    uint32_t rank;
    double k; /* SCORE_RECIPROCAL: 0 or more */
    const struct filter *filter;
    const struct score *children; /* SUM, PRODUCT, GREATEST: at least one */
    size_t child_count;
};

/* ---- aggregates ---- */

/* Over the documents that match the query's filter, whatever ranks them. */
struct aggregate {
    const int *sums, *mins, *maxs; /* attributes: numbers; scalars that have an order */
    size_t sum_count, min_count, max_count;
    int group_by; /* a scalar attribute, or QUERY_UNGROUPED */
};

enum sum_kind { SUM_SIGNED, SUM_UNSIGNED, SUM_FLOATING };

/* Integers are added exactly; a sum outside 64 bits is rounded to a double. */
struct aggregate_sum {
    enum sum_kind kind;
    union {
        int64_t i;
        uint64_t u;
        double f; /* finite: what a double cannot hold is cut to its largest */
    };
};

struct aggregate_group {
    struct value key; /* null: documents without the attribute, or not grouped */
    uint64_t count;
    struct aggregate_sum *sums;
    struct value *mins, *maxs; /* null where no document has a value */
};

/* ---- queries ---- */

/* A place in the order of a listing: behind the document that had this value and id. */
struct query_place {
    struct value value; /* of the attribute that orders; null when ordered by id */
    struct doc_id id;
};

struct query {
    const struct rank *ranks; /* none: a listing */
    size_t rank_count;
    const struct score *score;   /* NULL only with at most one rank: its own score */
    const struct filter *filter; /* NULL: everything */
    bool ordered;                /* listing by order_attr, else by id */
    int order_attr;              /* FILTER_ATTR_ID: by id */
    bool descending;
    const struct query_place *after;   /* a listing goes on behind it; NULL: from the
                                          start */
    const struct aggregate *aggregate; /* NULL: none */
    bool count;
    uint32_t top_k;
    float recall; /* of vector ranks: wanted; 1: exact, 0: the default */
    bool include_vector;
    bool include_attributes; /* all of them are fetched; the front end picks */
    bool explain;
};

/* What is marked up of one attribute of a hit. */
struct query_highlight {
    int attr;
    struct slice *fragments; /* text/highlight.h; at least one */
    size_t fragment_count;
};

struct query_hit {
    double score; /* 0 in a listing */
    struct doc doc;
    struct query_highlight *highlights;
    size_t highlight_count;
};

/* How a source is searched under the query's filter. */
enum plan {
    PLAN_NONE,
    PLAN_UNFILTERED,   /* every row matches: the filter is not asked */
    PLAN_SKIPPED,      /* no row matches: nothing of it is read */
    PLAN_FILTER_FIRST, /* the filter's rows are found, and handed to the search */
    PLAN_EXACT,        /* the same, and they are so few that each of them is scored */
    /* More is searched for than was asked, and the filter is asked about that; where
     * too little is left, the filter comes first after all. */
    PLAN_SEARCH_FIRST
};

/* What the estimate stands on. */
enum plan_basis { PLANNED_BLINDLY, PLANNED_BY_STATISTICS, PLANNED_BY_SAMPLES };

enum { QUERY_EXPLAIN_SOURCES_MAX = 100 };

struct source_explain {
    const char *segment; /* its key */
    uint64_t rows, live_rows;
    uint64_t estimate;      /* rows that match, about, dead ones too */
    enum plan_basis basis;  /* of the estimate */
    const char *plan;       /* the last one, in a word; static */
    const char *why;        /* static */
    bool counted;           /* the rows that match were found: */
    uint64_t matching_rows; /* live ones */
};

/* Microseconds and counts per stage, for explain. */
struct query_explain {
    uint64_t filter_us, vector_us, text_us, order_us, fuse_us, aggregate_us, fetch_us;
    uint64_t total_us;
    uint64_t sources, stored_sources, rows, live_rows;
    uint64_t filtered_rows; /* estimated in sources that were searched first */
    /* Sources by the way they were searched. */
    uint64_t filter_first, exact, search_first, skipped, unfiltered;
    uint64_t retried; /* searched first in vain */
    uint64_t depth;   /* to which each rank was listed; 0 in a listing */
    uint64_t walked;  /* listed in the order of an index, not by a look at all rows */
    struct filter_work filter;
    struct segment_work vectors;
    const char *plan; /* static: "vector", "text", "hybrid", "listing" */
    /* With a filter: of each source, but no more than QUERY_EXPLAIN_SOURCES_MAX, those
     * with the most rows; in op's arena. */
    struct source_explain *filtered;
    size_t filtered_count;
};

struct query_result {
    struct query_hit *hits; /* in op's arena */
    size_t count;
    uint64_t match_count;    /* with query.count: documents that match the filter */
    bool more;               /* a listing goes on behind its last hit, */
    struct query_place last; /* which is here */
    struct aggregate_group
        *groups; /* ascending by key, null last; one if not grouped */
    size_t group_count;
    struct query_explain explain;
};

/*
 * Runs the query on the snapshot. Order: score (higher first), then id. Scores are
 * exact; a vector rank may miss rows that are among the nearest, so many as recall
 * allows, and nothing else may. With a score, each rank is listed to depth
 * max(10 * top_k, 100); a document is worth nothing in a list that does not hold it.
 * Where the score is made of places (SCORE_RECIPROCAL), the lists are made deeper, up
 * to QUERY_DEPTH_MAX, until no document outside all of them could be among the top_k
 * wherever it stood behind their ends: the threshold of Fagin, Lotem and Naor ("Optimal
 * aggregation algorithms for middleware", PODS 2001). SCORE_RANK and SCORE_MINMAX take
 * the lists as they are: their ends are part of what a score is worth. Nulls come last
 * in a listing of either direction, equal values by id. Errors of segment.h;
 * ERR_INVALID for what the schema forbids (a rank on a field that has no full text)
 * naming the field, and for more than QUERY_GROUPS_MAX groups.
 */
enum err query_run(struct op *op, struct snapshot *snapshot, const struct query *query,
                   struct query_result *result);

#endif
