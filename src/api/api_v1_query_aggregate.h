/*
 * api_v1_query_aggregate.h - aggregates: from JSON, bound to a schema, and to JSON.
 *
 *     "aggregate": {"count": true, "sum": ["price"], "min": "year", "group_by":
 * "color"}
 */
#ifndef API_API_V1_QUERY_AGGREGATE_H
#define API_API_V1_QUERY_AGGREGATE_H

#include "base/json.h"
#include "base/json_write.h"
#include "query/query.h"

struct v1_names {
    struct slice *items;
    size_t count;
    bool listed; /* as an array, not as one name */
};

/* An aggregate as it was written. */
struct v1_aggregate {
    bool count;
    struct v1_names sum, min, max;
    struct slice group_by; /* .data NULL: not grouped */
};

/* Lives in op's arena. */
enum err v1_aggregate_parse(struct op *op, struct json_value *v,
                            struct v1_aggregate **out);
enum err v1_aggregate_bind(struct op *op, const struct v1_aggregate *parsed,
                           const struct schema *schema, struct aggregate *out);
/* The answer's member "aggregate", with its name. */
void v1_aggregate_write(struct json_writer *w, const struct v1_aggregate *parsed,
                        const struct aggregate *aggregate, const struct schema *schema,
                        const struct query_result *result);

#endif
