/*
 * api_v1_query_explain.h - how a query was done: for the answer to "explain", and the
 * times of its stages for /metrics.
 *
 * Threads  any.
 */
#ifndef API_API_V1_QUERY_EXPLAIN_H
#define API_API_V1_QUERY_EXPLAIN_H

#include "base/json_write.h"
#include "base/op.h"
#include "query/query.h"

/* The answer's member "explain", with its name. */
void v1_explain_write(struct json_writer *w, const struct op_counters *cost,
                      const struct query_explain *x);

/* Adds the times of its stages to /metrics; init registers them at 0. */
void v1_explain_count(const struct query_explain *x);
void v1_explain_metrics_init(void);

#endif
