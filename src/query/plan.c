/*
 * How each source is searched under a filter. What the filter would cost and leave
 * comes from the source's indexes and a few sampled rows; what a search costs grows
 * with the number of hits it is asked for.
 */
#include "base/op.h"
#include "base/rowset.h"
#include "query/exec.h"

enum {
    EXACT_ROWS_MAX = 1000,
    CANDIDATE_COST = 64,  /* a hit more to find and to check, in rows of a scan */
    SCAN_ROWS_MIN = 50000 /* below it a filter is not worth thinking about */
};
/* Searching first finds 1 / fraction times as many hits as are wanted, and half as many
 * again, since the best hits need not match as often as all rows do. */
static const double FRACTION_MIN = 0.1, MARGIN = 1.5;

static size_t trial_depth(size_t depth, double fraction)
{
    return (size_t)((double)depth / fraction * MARGIN) + 16;
}

/* Words need the best only; counts and whatever else the filter itself decides need all
 * of its rows, and a scan of vectors is the shorter the fewer are left. */
static bool may_search_first(const struct query *q)
{
    if (q->rank_count == 0 || q->count || q->aggregate) return false;
    for (size_t i = 0; i < q->rank_count; i++)
        if (q->ranks[i].filter || q->ranks[i].kind == RANK_VECTOR) return false;
    return true;
}

static enum err prefers_search(struct op *op, const struct exec *x, uint32_t source,
                               bool *prefers)
{
    const struct query *q = x->query;
    struct segment *s = x->snapshot->sources[source].segment;
    struct filter_estimate estimate;

    *prefers = false;
    if (!may_search_first(q) || segment_row_count(s) < SCAN_ROWS_MIN) return ERR_OK;
    enum err e = segment_filter_estimate(op, s, q->filter, &estimate);
    if (e || !estimate.known || estimate.fraction < FRACTION_MIN) return e;
    double hits = (double)trial_depth(exec_depth(q), estimate.fraction);
    double cost = hits * CANDIDATE_COST * (double)q->rank_count;
    *prefers = estimate.scan_rows >= SCAN_ROWS_MIN && cost < (double)estimate.scan_rows;
    x->fractions[source] = estimate.fraction;
    return ERR_OK;
}

static enum err filter_now(struct op *op, struct exec *x, uint32_t index)
{
    const struct source *source = &x->snapshot->sources[index];
    struct rowset **rows = &x->allowed.rows[index];

    rowset_unref(*rows);
    *rows = NULL;
    enum err e =
        segment_filter(op, source->segment, x->query->filter, NULL, &x->work, rows);
    if (e) return e;
    if (source->dead) rowset_andnot(*rows, source->dead);
    uint64_t count = rowset_count(*rows);
    x->allowed.none[index] = count == 0;
    x->plans[index] = count <= EXACT_ROWS_MAX ? PLAN_EXACT : PLAN_FILTER_FIRST;
    return ERR_OK;
}

static void allow_live(struct exec *x, uint32_t index)
{
    const struct source *source = &x->snapshot->sources[index];
    if (!source->dead) return;
    x->allowed.rows[index] = rowset_copy(source->dead);
    rowset_flip(x->allowed.rows[index], segment_row_count(source->segment));
    x->allowed.none[index] = rowset_count(x->allowed.rows[index]) == 0;
}

enum err plan_source(struct op *op, struct exec *x, uint32_t source)
{
    bool prefers = false;
    enum err e = ERR_OK;

    x->plans[source] = PLAN_NO_FILTER;
    if (x->query->filter) e = prefers_search(op, x, source, &prefers);
    if (e) return e;
    if (x->query->filter && !prefers) return filter_now(op, x, source);
    if (prefers) x->plans[source] = PLAN_SEARCH_FIRST;
    allow_live(x, source);
    return ERR_OK;
}

/* ---- trials ---- */

enum err trial_begin(struct op *op, const struct exec *x, const struct allowed *allowed,
                     uint32_t source, size_t depth, bool *tries, struct trial *trial)
{
    *tries = x->plans[source] == PLAN_SEARCH_FIRST && allowed == &x->allowed;
    if (!*tries) return ERR_OK;
    size_t room = trial_depth(depth, x->fractions[source]);
    struct hit *hits = op_new_array(op, struct hit, room);
    if (!hits) return ERR_LIMIT;
    trial->wanted = depth;
    topk_init(&trial->best, hits, room, exec_compare_ids, x->snapshot);
    return ERR_OK;
}

/* The rows of the hits that match the filter. */
static enum err check_hits(struct op *op, struct exec *x, uint32_t source,
                           const struct topk *best, struct rowset **out)
{
    struct rowset *among = rowset_new();
    for (size_t i = 0; i < best->count; i++)
        rowset_add(among, best->hits[i].row);
    enum err e = segment_filter(op, x->snapshot->sources[source].segment,
                                x->query->filter, among, &x->work, out);
    rowset_unref(among);
    return e;
}

enum err trial_end(struct op *op, struct exec *x, uint32_t source, struct trial *trial,
                   struct topk *best, bool *again)
{
    bool complete = trial->best.count < trial->best.k; /* these are all there are */
    struct rowset *matching = NULL;

    *again = false;
    enum err e = check_hits(op, x, source, &trial->best, &matching);
    if (e) return e;
    if (complete || rowset_count(matching) >= trial->wanted) {
        for (size_t i = 0; i < trial->best.count; i++)
            if (rowset_has(matching, trial->best.hits[i].row))
                topk_push(best, trial->best.hits[i]);
    } else {
        *again = true;
        x->retried++;
        e = filter_now(op, x, source);
    }
    rowset_unref(matching);
    return e;
}
