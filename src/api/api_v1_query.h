/*
 * api_v1_query.h - queries and documents: JSON into the query algebra, hits into JSON.
 *
 * Reading has two steps: parse needs no schema, so that a wrong request costs nothing;
 * bind checks names, types and lengths against the schema of the very snapshot that the
 * query then runs on.
 */
#ifndef API_API_V1_QUERY_H
#define API_API_V1_QUERY_H

#include "api/api_call.h"
#include "api/api_v1_filter.h"
#include "api/api_v1_query_aggregate.h"
#include "ns/registry.h"
#include "query/query.h"

enum { TOP_K_DEFAULT = 10, RRF_K_DEFAULT = 60 };
#define WEIGHT_MAX 1e6

/* What of a document goes into the answer. */
struct v1_include {
    bool vector;
    bool all;            /* every attribute */
    struct slice *names; /* or these; none for include_attributes false */
    size_t name_count;
};

struct v1_text_weight {
    struct slice field;
    float weight;
};

/* A query as it was written, defaults filled in. */
struct v1_query {
    const float *vector; /* NULL: none */
    size_t vector_count;
    struct slice text;
    struct v1_text_weight *fields;
    size_t field_count;             /* 0: no full_text */
    bool fields_listed;             /* by "fields", not by "field" */
    struct v1_filter *filter;       /* NULL: none */
    struct slice order_field;       /* of order_by; .data NULL: none */
    struct slice cursor;            /* .data NULL: none */
    struct v1_aggregate *aggregate; /* NULL: none */
    struct v1_include include;
    double rrf_k;
    float vector_weight, text_weight; /* in the fusion */
    uint32_t top_k;
    float recall; /* of search; 0: not said */
    enum consistency consistency;
    struct slice *highlights;
    size_t highlight_count;
    uint8_t fuzzy;
    bool prefix;
    bool all_words;
    bool has_fusion;
    bool sum_fusion; /* of scores brought to 0 to 1; else of reciprocal ranks */
    bool count;
    bool descending;
    bool explain;
};

/* ERR_INVALID, ERR_LIMIT with the path of what is wrong. Lives in op's arena. */
enum err v1_query_parse(struct op *op, struct json_value *root, struct v1_query *out);

/* include.names become picks: their indexes in the schema, in its order. */
struct v1_picks {
    int *attrs;
    size_t count;
};
enum err v1_query_bind(struct op *op, const struct v1_query *parsed,
                       const struct snapshot *snapshot, struct query *out,
                       struct v1_picks *picks);

/* What "search" says: the recall wanted, 1 for exact. Leaves *recall alone where it
 * says nothing. */
enum err v1_search_parse(struct op *op, struct json_value *v, float *recall);

/* What is read on a snapshot. ERR_NOT_FOUND: an object that it names is not there. */
typedef enum err v1_snapshot_reader(struct op *op, struct snapshot *snapshot,
                                    void *context);
/*
 * Reads on a snapshot as fresh as the request wants it, whose token goes into the
 * answer; *used is the caller's reference even on failure. Compaction may have replaced
 * an object of the snapshot, and collected it since: then it is read again on a fresh
 * one. What a fresh one names and the store does not have is lost.
 */
enum err v1_on_snapshot(struct op *op, struct api_call *call,
                        enum consistency consistency, v1_snapshot_reader *reader,
                        void *context, struct snapshot **used);

enum err v1_query(struct op *op, struct api_call *call);
enum err v1_document(struct op *op, struct api_call *call);

/* Registers what /metrics tells of the stages of queries, at 0. */
void v1_query_metrics_init(void);

#endif
