/*
 * api_v1_query_bind.h - a parsed query in terms of the schema it is asked of.
 *
 * Binding checks names, types and lengths against the schema of the very snapshot that
 * the query then runs on.
 */
#ifndef API_API_V1_QUERY_BIND_H
#define API_API_V1_QUERY_BIND_H

#include "api/api_v1_query_parse.h"
#include "query/query.h"

/* The attributes of an answer: indexes into the schema, in its order and each once,
 * whatever order they were asked in. */
struct v1_picks {
    int *attrs;
    size_t count;
};

/* What they make lives in op's arena. ERR_INVALID with the path of what is wrong. */
enum err v1_include_bind(struct op *op, const struct v1_include *include,
                         const struct schema *schema, struct v1_picks *out);
enum err v1_query_bind(struct op *op, const struct v1_query *parsed,
                       const struct snapshot *snapshot, struct query *out,
                       struct v1_picks *picks);

#endif
