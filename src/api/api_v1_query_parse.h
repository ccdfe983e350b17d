/*
 * api_v1_query_parse.h - a query as it is written in JSON.
 *
 * Parsing needs no schema, so that a wrong request costs nothing.
 */
#ifndef API_API_V1_QUERY_PARSE_H
#define API_API_V1_QUERY_PARSE_H

#include "api/api_v1_filter.h"
#include "api/api_v1_query_aggregate.h"
#include "ns/registry.h"

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

/* What "search" says: the recall wanted, 1 for exact. Leaves *recall alone where it
 * says nothing. */
enum err v1_search_parse(struct op *op, struct json_value *v, float *recall);

#endif
