/*
 * What a query tells about itself: how each source was searched, and why.
 */
#include <stdlib.h>

#include "base/op.h"
#include "query/exec.h"

static const char *plan_name(enum plan plan)
{
    switch (plan) {
    case PLAN_UNFILTERED: return "unfiltered";
    case PLAN_SKIPPED: return "skipped";
    case PLAN_FILTER_FIRST: return "filter_first";
    case PLAN_EXACT: return "exact";
    case PLAN_SEARCH_FIRST: return "search_first";
    default: return "none";
    }
}

static const char *kind_of(const struct query *q)
{
    bool vector = false, text = false;
    for (size_t i = 0; i < q->rank_count; i++) {
        vector |= q->ranks[i].kind == RANK_VECTOR;
        text |= q->ranks[i].kind == RANK_TEXT;
    }
    return vector && text ? "hybrid" : vector ? "vector" : text ? "text" : "listing";
}

static enum err explain_source(struct op *op, const struct exec *x, uint32_t index,
                               struct source_explain *out)
{
    const struct source *source = &x->snapshot->sources[index];
    const struct source_plan *plan = &x->plans[index];
    uint64_t rows = segment_row_count(source->segment);
    struct slice key = op_copy(op, slice_of(segment_key(source->segment),
                                            strlen(segment_key(source->segment)) + 1));

    if (!key.data) return ERR_LIMIT;
    *out = (struct source_explain){.segment = (const char *)key.data,
                                   .rows = rows,
                                   .live_rows = rows - source->dead_count,
                                   .estimate =
                                       (uint64_t)(plan->fraction * (double)rows + 0.5),
                                   .basis = plan->basis,
                                   .plan = plan_name(plan->plan),
                                   .why = plan->why,
                                   .counted = plan->plan != PLAN_SEARCH_FIRST};
    if (out->counted) out->matching_rows = exec_allowed_count(x, &x->allowed, index);
    return ERR_OK;
}

static int more_rows_first(const void *a, const void *b)
{
    const struct source_explain *x = a, *y = b;
    if (x->rows != y->rows) return x->rows > y->rows ? -1 : 1;
    return strcmp(x->segment, y->segment);
}

static enum err explain_sources(struct op *op, const struct exec *x,
                                struct query_explain *out)
{
    uint32_t count = x->snapshot->source_count;
    enum err e = ERR_OK;

    out->filtered = op_new_array(op, struct source_explain, count + 1);
    if (!out->filtered) return ERR_LIMIT;
    for (uint32_t i = 0; i < count && !e; i++)
        e = explain_source(op, x, i, &out->filtered[i]);
    if (e) return e;
    qsort(out->filtered, count, sizeof *out->filtered, more_rows_first);
    out->filtered_count =
        count < QUERY_EXPLAIN_SOURCES_MAX ? count : QUERY_EXPLAIN_SOURCES_MAX;
    return ERR_OK;
}

static void count_plan(const struct source_plan *plan, struct query_explain *out)
{
    out->filter_first += plan->plan == PLAN_FILTER_FIRST;
    out->exact += plan->plan == PLAN_EXACT;
    out->search_first += plan->plan == PLAN_SEARCH_FIRST;
    out->skipped += plan->plan == PLAN_SKIPPED;
    out->unfiltered += plan->plan == PLAN_UNFILTERED;
}

enum err explain_query(struct op *op, const struct exec *x, struct query_explain *out)
{
    const struct snapshot *s = x->snapshot;

    out->plan = kind_of(x->query);
    out->sources = s->source_count;
    out->live_rows = s->row_count;
    out->filter = x->work;
    out->vectors = x->vectors;
    out->retried = x->retried;
    out->walked = x->walked;
    out->depth = x->depth;
    for (uint32_t i = 0; i < s->source_count; i++) {
        uint64_t allowed = exec_allowed_count(x, &x->allowed, i);
        bool estimated = x->plans[i].plan == PLAN_SEARCH_FIRST;
        out->stored_sources += s->sources[i].stored;
        out->rows += segment_row_count(s->sources[i].segment);
        out->filtered_rows +=
            estimated ? (uint64_t)((double)allowed * x->plans[i].fraction) : allowed;
        count_plan(&x->plans[i], out);
    }
    bool told = x->query->explain && x->query->filter;
    return told ? explain_sources(op, x, out) : ERR_OK;
}
