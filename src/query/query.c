#include "query/query.h"

#include "base/op.h"
#include "base/rowset.h"
#include "base/task.h"
#include "query/exec.h"
#include "query/text_plan.h"

enum { HYBRID_DEPTH_MIN = 100, HYBRID_DEPTH_FACTOR = 10 };

int exec_compare_ids(const void *context, const struct hit *a, const struct hit *b)
{
    const struct snapshot *s = context;
    struct doc_id x = segment_id(s->sources[a->source].segment, a->row);
    struct doc_id y = segment_id(s->sources[b->source].segment, b->row);
    return doc_id_compare(&x, &y);
}

/* ---- preparing ---- */

static enum err check_rank(struct op *op, const struct schema *schema,
                           const struct rank *rank)
{
    if (rank->kind == RANK_VECTOR) {
        if (schema->vector_dim) return ERR_OK;
        return op_fail(op, ERR_INVALID, "vector: this namespace has no vectors");
    }
    for (size_t i = 0; i < rank->field_count; i++) {
        const struct attr *attr = &schema->attrs[rank->fields[i].attr];
        if (!attr->full_text)
            return op_fail(
                op, ERR_INVALID,
                "full_text: attribute \"%s\" was not declared with full_text",
                attr->name);
    }
    return ERR_OK;
}

static enum err check(struct op *op, const struct schema *schema, const struct query *q)
{
    for (size_t i = 0; i < q->rank_count; i++) {
        enum err e = check_rank(op, schema, &q->ranks[i]);
        if (e) return e;
    }
    bool by_attr = q->ordered && q->order_attr != FILTER_ATTR_ID;
    if (by_attr && schema->attrs[q->order_attr].array)
        return op_fail(op, ERR_INVALID,
                       "order_by.field: attribute \"%s\" is an array and has no order",
                       schema->attrs[q->order_attr].name);
    return ERR_OK;
}

/* Rows of one source that match the filter and live. */
static enum err allow(struct op *op, struct exec *x, uint32_t index)
{
    const struct source *source = &x->snapshot->sources[index];

    if (x->query->filter) {
        enum err e =
            segment_filter(op, source->segment, x->query->filter, &x->allowed[index]);
        if (e) return e;
        if (source->dead) rowset_andnot(x->allowed[index], source->dead);
    } else if (source->dead) {
        x->allowed[index] = rowset_copy(source->dead);
        rowset_flip(x->allowed[index], segment_row_count(source->segment));
    }
    x->skip[index] = x->allowed[index] && rowset_count(x->allowed[index]) == 0;
    return ERR_OK;
}

/* Attributes whose text index or column the query reads in every source. */
static size_t text_attrs(const struct query *q, int *attrs)
{
    size_t n = 0;
    for (size_t i = 0; i < q->rank_count; i++) {
        for (size_t k = 0; k < q->ranks[i].field_count; k++) {
            bool known = false;
            for (size_t j = 0; j < n; j++)
                known |= attrs[j] == q->ranks[i].fields[k].attr;
            if (!known) attrs[n++] = q->ranks[i].fields[k].attr;
        }
    }
    return n;
}

static bool any_phrase(const struct query *q)
{
    bool any = false;
    for (size_t i = 0; i < q->rank_count; i++)
        any |= q->ranks[i].kind == RANK_TEXT && text_plan_has_phrase(q->ranks[i].text);
    return any;
}

static enum err open_views(struct op *op, struct exec *x)
{
    const struct query *q = x->query;
    size_t fields = 0;
    for (size_t i = 0; i < q->rank_count; i++)
        fields += q->ranks[i].field_count;
    int *attrs = op_new_array(op, int, fields + 1);
    if (!attrs) return ERR_LIMIT;
    size_t text_count = text_attrs(q, attrs);
    size_t column_count = q->ordered && q->order_attr != FILTER_ATTR_ID;
    bool positions = any_phrase(q);

    if (text_count + column_count == 0) return ERR_OK;
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        if (x->skip[i] && text_count == 0) continue;
        enum err e =
            segment_view_open(op, x->snapshot->sources[i].segment, attrs, text_count,
                              positions, &q->order_attr, column_count, &x->views[i]);
        if (e) return e;
    }
    return ERR_OK;
}

static enum err exec_init(struct op *op, struct snapshot *snapshot,
                          const struct query *q, struct exec *x)
{
    uint32_t n = snapshot->source_count;
    *x = (struct exec){.snapshot = snapshot, .query = q};
    x->allowed = op_new_array(op, struct rowset *, n + 1);
    x->skip = op_new_array(op, bool, n + 1);
    x->views = op_new_array(op, struct segment_view *, n + 1);
    x->plans = op_new_array(op, struct text_plan *, q->rank_count + 1);
    return x->allowed && x->skip && x->views && x->plans ? ERR_OK : ERR_LIMIT;
}

static void exec_release(struct exec *x)
{
    if (!x->views) return;
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        rowset_unref(x->allowed[i]);
        segment_view_close(x->views[i]);
    }
}

/* ---- stages ---- */

enum err rank_vector(struct op *op, const struct exec *x, const struct rank *rank,
                     size_t depth, struct ranking *out)
{
    const struct snapshot *s = x->snapshot;
    struct topk best;

    out->hits = op_new_array(op, struct hit, depth);
    if (!out->hits) return ERR_LIMIT;
    topk_init(&best, out->hits, depth, exec_compare_ids, s);
    for (uint32_t i = 0; i < s->source_count; i++) {
        if (x->skip[i]) continue;
        enum err e = segment_vector_search(op, s->sources[i].segment, s->schema->metric,
                                           rank->vector, x->allowed[i], i, &best);
        if (e) return e;
    }
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}

/* Adds the microseconds since *since_us to *stage_us and starts anew. */
static void lap(int64_t *since_us, uint64_t *stage_us)
{
    int64_t now_us = clock_us();
    *stage_us += (uint64_t)(now_us - *since_us);
    *since_us = now_us;
}

static enum err run_ranks(struct op *op, const struct exec *x, size_t depth,
                          struct ranking *rankings, struct query_explain *explain)
{
    int64_t since_us = clock_us();
    for (size_t i = 0; i < x->query->rank_count; i++) {
        const struct rank *rank = &x->query->ranks[i];
        bool vector = rank->kind == RANK_VECTOR;
        enum err e = vector ? rank_vector(op, x, rank, depth, &rankings[i])
                            : rank_text(op, x, rank, depth, &rankings[i]);
        if (e) return e;
        lap(&since_us, vector ? &explain->vector_us : &explain->text_us);
    }
    return ERR_OK;
}

/* What the query asks for, as hits with final scores, best first. */
static enum err rank_all(struct op *op, const struct exec *x, struct fused **hits,
                         size_t *count, struct query_explain *explain)
{
    const struct query *q = x->query;
    struct ranking rankings[QUERY_RANKS_MAX] = {{0}};
    struct ranking *only = &rankings[0];
    int64_t since_us;

    if (q->rank_count > 1) {
        size_t depth = (size_t)q->top_k * HYBRID_DEPTH_FACTOR;
        if (depth < HYBRID_DEPTH_MIN) depth = HYBRID_DEPTH_MIN;
        enum err e = run_ranks(op, x, depth, rankings, explain);
        since_us = clock_us();
        if (!e) e = fuse_rrf(op, x, rankings, hits, count);
        if (!e) lap(&since_us, &explain->fuse_us);
        return e;
    }
    since_us = clock_us();
    enum err e = q->rank_count ? run_ranks(op, x, q->top_k, rankings, explain)
                               : list_rows(op, x, only);
    if (e) return e;
    if (q->rank_count == 0) lap(&since_us, &explain->order_us);
    *hits = op_new_array(op, struct fused, only->count + 1);
    if (!*hits) return ERR_LIMIT;
    for (size_t i = 0; i < only->count; i++)
        (*hits)[i] =
            (struct fused){.score = (double)only->hits[i].score, .hit = only->hits[i]};
    *count = only->count;
    return ERR_OK;
}

static bool wants_highlights(const struct query *q)
{
    bool wants = false;
    for (size_t i = 0; i < q->rank_count; i++)
        wants |= q->ranks[i].highlight_count > 0;
    return wants;
}

/* Reads the documents of the hits, one call per source that has any. */
static enum err fetch(struct op *op, const struct exec *x, const struct fused *hits,
                      struct query_result *result)
{
    const struct snapshot *s = x->snapshot;
    struct segment_fetch what = {.vector = x->query->include_vector,
                                 .attributes = x->query->include_attributes ||
                                               wants_highlights(x->query)};
    uint32_t *rows = op_new_array(op, uint32_t, result->count + 1);
    size_t *places = op_new_array(op, size_t, result->count + 1);
    struct doc *docs = op_new_array(op, struct doc, result->count + 1);
    if (!rows || !places || !docs) return ERR_LIMIT;

    for (uint32_t source = 0; source < s->source_count; source++) {
        size_t n = 0;
        for (size_t i = 0; i < result->count; i++) {
            if (hits[i].hit.source != source) continue;
            rows[n] = hits[i].hit.row;
            places[n++] = i;
        }
        if (n == 0) continue;
        enum err e = segment_fetch(op, s->sources[source].segment, s->schema, rows, n,
                                   what, docs);
        if (e) return e;
        for (size_t i = 0; i < n; i++)
            result->hits[places[i]].doc = docs[i];
    }
    return ERR_OK;
}

static void describe(const struct exec *x, struct query_explain *explain)
{
    const struct snapshot *s = x->snapshot;
    bool vector = false, text = false;

    for (size_t i = 0; i < x->query->rank_count; i++) {
        vector |= x->query->ranks[i].kind == RANK_VECTOR;
        text |= x->query->ranks[i].kind == RANK_TEXT;
    }
    explain->plan = vector && text ? "hybrid"
                    : vector       ? "vector"
                    : text         ? "text"
                                   : "listing";
    explain->sources = s->source_count;
    explain->live_rows = s->row_count;
    for (uint32_t i = 0; i < s->source_count; i++) {
        uint32_t rows = segment_row_count(s->sources[i].segment);
        explain->stored_sources += s->sources[i].stored;
        explain->rows += rows;
        explain->filtered_rows += x->allowed[i] ? rowset_count(x->allowed[i]) : rows;
    }
}

enum err query_run(struct op *op, struct snapshot *snapshot, const struct query *query,
                   struct query_result *result)
{
    struct query_result r = {0};
    struct exec x = {0};
    struct fused *hits = NULL;
    int64_t began_us = clock_us(), since_us = began_us;

    enum err e = check(op, snapshot->schema, query);
    if (!e) e = exec_init(op, snapshot, query, &x);
    for (uint32_t i = 0; !e && i < snapshot->source_count; i++)
        e = allow(op, &x, i);
    if (e) goto done;
    lap(&since_us, &r.explain.filter_us);

    e = open_views(op, &x);
    if (!e) e = rank_all(op, &x, &hits, &r.count, &r.explain);
    if (e) goto done;
    r.hits = op_new_array(op, struct query_hit, r.count + 1);
    if (!r.hits) {
        e = ERR_LIMIT;
        goto done;
    }
    for (size_t i = 0; i < r.count; i++)
        r.hits[i].score = query->rank_count ? hits[i].score : 0;
    since_us = clock_us();
    e = fetch(op, &x, hits, &r);
    if (!e) e = mark_hits(op, &x, &r);
    if (e) goto done;
    lap(&since_us, &r.explain.fetch_us);
    describe(&x, &r.explain);
    r.explain.total_us = (uint64_t)(clock_us() - began_us);
    op->counters.segments += snapshot->source_count;
    *result = r;
done:
    exec_release(&x);
    return e;
}
