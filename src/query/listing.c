/*
 * Documents in the order of an attribute or of their ids, without a score: a heap of
 * the top_k first rows, where the order itself is the tie-break of equal scores.
 */
#include "attr/column.h"
#include "base/op.h"
#include "base/rowset.h"
#include "query/exec.h"

struct order {
    struct op *op;
    const struct exec *x;
    enum attr_type type;
};

static struct value value_of(const struct order *o, const struct hit *hit)
{
    int attr = o->x->query->order_attr;
    const struct segment_view *view = o->x->views[hit->source];
    const struct column *column = view ? segment_view_column(view, attr) : NULL;
    struct value v = VALUE_NULL;

    /* Scalars need no memory, so this cannot fail. */
    if (column) (void)column_value(o->op, column, hit->row, &v);
    return v;
}

/* Nulls come last in both directions; equal values are in the order of their ids. */
static int compare_by_attr(const void *context, const struct hit *a,
                           const struct hit *b)
{
    const struct order *o = context;
    struct value x = value_of(o, a), y = value_of(o, b);

    if (x.null != y.null) return x.null ? 1 : -1;
    int order = x.null ? 0 : scalar_compare(o->type, &x.one, &y.one);
    if (order) return o->x->query->descending ? -order : order;
    return exec_compare_ids(o->x->snapshot, a, b);
}

static int compare_by_id(const void *context, const struct hit *a, const struct hit *b)
{
    const struct order *o = context;
    int order = exec_compare_ids(o->x->snapshot, a, b);
    return o->x->query->descending ? -order : order;
}

static void push_range(struct topk *best, uint32_t source, uint32_t count)
{
    for (uint32_t row = 0; row < count; row++)
        topk_push(best, (struct hit){.source = source, .row = row});
}

static enum err push_allowed(struct op *op, struct topk *best, uint32_t source,
                             const struct rowset *allowed)
{
    enum { CHUNK = 1024 };
    uint32_t rows[CHUNK], from = 0;

    for (size_t n; (n = rowset_read(allowed, from, rows, CHUNK)) > 0;
         from = rows[n - 1] + 1) {
        enum err e = op_check(op);
        if (e) return e;
        for (size_t i = 0; i < n; i++)
            topk_push(best, (struct hit){.source = source, .row = rows[i]});
    }
    return ERR_OK;
}

enum err list_rows(struct op *op, const struct exec *x, struct ranking *out)
{
    const struct query *q = x->query;
    const struct snapshot *s = x->snapshot;
    bool by_attr = q->ordered && q->order_attr != FILTER_ATTR_ID;
    struct order order = {.op = op, .x = x};
    struct topk best;

    if (by_attr) order.type = s->schema->attrs[q->order_attr].type;
    out->hits = op_new_array(op, struct hit, q->top_k);
    if (!out->hits) return ERR_LIMIT;
    topk_init(&best, out->hits, q->top_k, by_attr ? compare_by_attr : compare_by_id,
              &order);
    for (uint32_t i = 0; i < s->source_count; i++) {
        if (x->skip[i]) continue;
        enum err e = op_check(op);
        if (!e && x->allowed[i])
            e = push_allowed(op, &best, i, x->allowed[i]);
        else if (!e)
            push_range(&best, i, segment_row_count(s->sources[i].segment));
        if (e) return e;
    }
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}
