/*
 * query.h - the query algebra: rank, filter, fuse, order; and its execution.
 *
 * A query ranks documents by one or more ranks (a vector's neighbours, BM25 of words),
 * restricts them by a filter, and fuses the ranks into one list; or it lists what a
 * filter matches, ordered by an attribute or by id. JSON front ends (api/) translate
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
    QUERY_RANKS_MAX = 16,
    QUERY_TEXT_SIZE_MAX = 64 << 10,
    QUERY_TERMS_MAX = 1024
};

enum rank_kind { RANK_VECTOR, RANK_TEXT };

struct rank_field {
    int attr; /* a full_text attribute */
    float weight;
};

struct rank {
    enum rank_kind kind;
    float weight;        /* in the fusion */
    const float *vector; /* RANK_VECTOR: schema->vector_dim floats */
    struct slice text;   /* RANK_TEXT */
    const struct rank_field *fields;
    size_t field_count;
    bool all_words;        /* operator and: each word in at least one of the fields */
    bool prefix;           /* the last word stands for all that begins with it */
    uint8_t fuzzy;         /* edits that a word may be away; 0: none */
    const int *highlights; /* attributes of fields, whose texts come back marked up */
    size_t highlight_count;
};

enum fusion { FUSION_RRF };

struct query {
    const struct rank *ranks; /* none: a listing */
    size_t rank_count;
    enum fusion fusion;
    double rrf_k;
    const struct filter *filter; /* NULL: everything */
    bool ordered;                /* listing by order_attr, else by id */
    int order_attr;              /* FILTER_ATTR_ID: by id */
    bool descending;
    uint32_t top_k;
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

/* Microseconds and counts per stage, for explain. */
struct query_explain {
    uint64_t filter_us, vector_us, text_us, order_us, fuse_us, fetch_us, total_us;
    uint64_t sources, stored_sources, rows, live_rows, filtered_rows;
    const char *plan; /* static: "vector", "text", "hybrid", "listing" */
};

struct query_result {
    struct query_hit *hits; /* in op's arena */
    size_t count;
    struct query_explain explain;
};

/*
 * Runs the query on the snapshot. Exact in this order: score (higher first), then id.
 * Hybrid: each rank to depth max(10 * top_k, 100), then the sum of weight / (k + rank).
 * Errors of segment.h; ERR_INVALID for what the
 * schema forbids (a rank on a field that has no full text) naming the field.
 */
enum err query_run(struct op *op, struct snapshot *snapshot, const struct query *query,
                   struct query_result *result);

#endif
