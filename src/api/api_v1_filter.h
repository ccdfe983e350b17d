/*
 * api_v1_filter.h - filters: from JSON, then bound to a schema.
 *
 * Two steps, because a condition's value may come before its field, and because the
 * schema a query runs on is known only once its consistency was read. Parsing knows no
 * schema; binding knows no JSON but says the path of what it refuses:
 *     filter.conditions[1].value: expected int (a number), got a string
 */
#ifndef API_API_V1_FILTER_H
#define API_API_V1_FILTER_H

#include "api/api_v1_value.h"
#include "doc/filter.h"

_Static_assert((int)JSON_DEPTH_MAX <= 2 * (int)FILTER_DEPTH_MAX,
               "depth of v1's filters");

/* A filter as it was written. */
struct v1_filter {
    enum filter_op op;
    struct v1_filter *children; /* and, or, not */
    size_t child_count;
    struct slice field; /* conditions */
    const struct v1_literal *values;
    size_t value_count;
    bool list; /* the value was an array */
};

/* A level takes two of JSON's, and the request's object one. */
enum { V1_FILTER_LEVELS_MAX = (JSON_DEPTH_MAX - 1) / 2 + 1 };

/* ERR_INVALID, also above V1_FILTER_LEVELS_MAX, FILTER_NODES_MAX, FILTER_VALUES_MAX.
 * The result lives in op's arena. */
enum err v1_filter_parse(struct op *op, struct json_value *v, struct v1_filter **out);

/*
 * Types, operators and names checked against schema; lists sorted, without repeats.
 * id_kind is the namespace's: conditions on ids must be of it (ID_NONE: of any one).
 */
enum err v1_filter_bind(struct op *op, const struct v1_filter *parsed,
                        const struct schema *schema, enum id_kind id_kind,
                        struct filter **out);

#endif
