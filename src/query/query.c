#include "query/query.h"

#include <assert.h>

#include "base/op.h"
#include "base/rowset.h"
#include "base/task.h"
#include "query/exec.h"
#include "query/text_plan.h"
#include "segment/segment_ahead.h"

enum { HYBRID_DEPTH_MIN = 100, HYBRID_DEPTH_FACTOR = 10 };

int exec_compare_ids(const void *context, const struct hit *a, const struct hit *b)
{
    const struct snapshot *s = context;
    struct doc_id x = segment_id(s->sources[a->source].segment, a->row);
    struct doc_id y = segment_id(s->sources[b->source].segment, b->row);
    return doc_id_compare(&x, &y);
}

size_t exec_depth(const struct query *q)
{
    size_t depth = q->top_k;
    if (!q->score) return depth;
    depth *= HYBRID_DEPTH_FACTOR;
    return depth < HYBRID_DEPTH_MIN ? HYBRID_DEPTH_MIN : depth;
}

uint64_t exec_allowed_count(const struct exec *x, const struct allowed *allowed,
                            uint32_t source)
{
    if (allowed->none[source]) return 0;
    return allowed->rows[source]
               ? rowset_count(allowed->rows[source])
               : segment_row_count(x->snapshot->sources[source].segment);
}

size_t exec_rows(const struct exec *x, uint32_t source, uint32_t from, uint32_t *rows,
                 size_t max)
{
    const struct rowset *allowed = x->allowed.rows[source];
    uint32_t count = segment_row_count(x->snapshot->sources[source].segment);

    if (allowed) return rowset_read(allowed, from, rows, max);
    size_t n = count - from < max ? count - from : max;
    for (size_t i = 0; i < n; i++)
        rows[i] = from + (uint32_t)i;
    return n;
}

const struct column *exec_column(const struct exec *x, uint32_t source, int attr)
{
    return x->views[source] ? segment_view_column(x->views[source], attr) : NULL;
}

/* ---- checking ---- */

static enum err check_rank(struct op *op, const struct schema *schema,
                           const struct rank *rank)
{
    if (rank->kind == RANK_VECTOR) {
        if (!schema->vector_dim)
            return op_fail(op, ERR_INVALID, "vector: this namespace has no vectors");
        if (rank->vector_field > 0)
            return op_fail(op, ERR_INVALID, "vector: there is no vector field %u",
                           rank->vector_field);
        return ERR_OK;
    }
    for (size_t i = 0; i < rank->field_count; i++) {
        const struct attr *attr = &schema->attrs[rank->fields[i].attr];
        if (!attr->full_text)
            return op_fail(
                op, ERR_INVALID,
                "full_text.field: attribute \"%s\" was not declared with full_text",
                attr->name);
    }
    return ERR_OK;
}

static bool is_joined(enum score_op op)
{
    return op == SCORE_SUM || op == SCORE_PRODUCT || op == SCORE_GREATEST;
}

static enum err check_score(struct op *op, const struct query *q,
                            const struct score *node, uint32_t depth, size_t *nodes)
{
    if (depth > QUERY_SCORE_DEPTH_MAX || ++*nodes > QUERY_SCORE_NODES_MAX)
        return op_fail(op, ERR_INVALID, "score: at most %d levels and %d nodes",
                       QUERY_SCORE_DEPTH_MAX, QUERY_SCORE_NODES_MAX);
    bool of_rank = node->op == SCORE_RANK || node->op == SCORE_RECIPROCAL ||
                   node->op == SCORE_MINMAX;
    if (of_rank && node->rank >= q->rank_count)
        return op_fail(op, ERR_INVALID, "score: there is no rank %u", node->rank);
    if (is_joined(node->op) != (node->child_count > 0))
        return op_fail(op, ERR_INVALID,
                       "score: sums, products and greatest have children, others none");
    for (size_t i = 0; i < node->child_count; i++) {
        enum err e = check_score(op, q, &node->children[i], depth + 1, nodes);
        if (e) return e;
    }
    return ERR_OK;
}

static enum err check_scalar(struct op *op, const struct schema *schema, int attr,
                             const char *where)
{
    if (!schema->attrs[attr].array) return ERR_OK;
    return op_fail(op, ERR_INVALID, "%s: attribute \"%s\" is an array", where,
                   schema->attrs[attr].name);
}

static enum err check_aggregate(struct op *op, const struct schema *schema,
                                const struct aggregate *a)
{
    enum err e = ERR_OK;
    assert(a->sum_count <= QUERY_AGGREGATES_MAX &&
           a->min_count <= QUERY_AGGREGATES_MAX &&
           a->max_count <= QUERY_AGGREGATES_MAX);
    for (size_t i = 0; i < a->sum_count && !e; i++) {
        enum attr_type type = schema->attrs[a->sums[i]].type;
        e = check_scalar(op, schema, a->sums[i], "aggregate.sum");
        if (!e && type != ATTR_INT && type != ATTR_UINT && type != ATTR_FLOAT)
            e = op_fail(op, ERR_INVALID, "aggregate.sum: attribute \"%s\" is no number",
                        schema->attrs[a->sums[i]].name);
    }
    for (size_t i = 0; i < a->min_count && !e; i++)
        e = check_scalar(op, schema, a->mins[i], "aggregate.min");
    for (size_t i = 0; i < a->max_count && !e; i++)
        e = check_scalar(op, schema, a->maxs[i], "aggregate.max");
    if (!e && a->group_by != QUERY_UNGROUPED)
        e = check_scalar(op, schema, a->group_by, "aggregate.group_by");
    return e;
}

static enum err check(struct op *op, const struct schema *schema, const struct query *q)
{
    size_t nodes = 0;
    enum err e = ERR_OK;

    assert(q->rank_count <= QUERY_RANKS_MAX && (q->score || q->rank_count <= 1));
    assert(!q->after || q->rank_count == 0);
    for (size_t i = 0; i < q->rank_count && !e; i++)
        e = check_rank(op, schema, &q->ranks[i]);
    if (!e && q->score) e = check_score(op, q, q->score, 1, &nodes);
    if (!e && q->ordered && q->order_attr != FILTER_ATTR_ID)
        e = check_scalar(op, schema, q->order_attr, "order_by.field");
    if (!e && q->aggregate) e = check_aggregate(op, schema, q->aggregate);
    return e;
}

/* ---- preparing ---- */

static enum err allowed_init(struct op *op, uint32_t sources, struct allowed *out)
{
    out->rows = op_new_array(op, struct rowset *, sources + 1);
    out->none = op_new_array(op, bool, sources + 1);
    return out->rows && out->none ? ERR_OK : ERR_LIMIT;
}

static void allowed_release(const struct allowed *allowed, uint32_t sources)
{
    for (uint32_t i = 0; allowed->rows && i < sources; i++)
        rowset_unref(allowed->rows[i]);
}

/* What a rank's own filter leaves of the query's. */
static enum err allow_rank(struct op *op, struct exec *x, const struct filter *filter,
                           struct allowed *out)
{
    const struct snapshot *s = x->snapshot;
    enum err e = allowed_init(op, s->source_count, out);

    for (uint32_t i = 0; i < s->source_count && !e; i++) {
        out->none[i] = x->allowed.none[i];
        if (out->none[i]) continue;
        e = segment_filter(op, s->sources[i].segment, filter, x->allowed.rows[i],
                           &x->work, &out->rows[i]);
        if (e) break;
        out->none[i] = rowset_count(out->rows[i]) == 0;
    }
    return e;
}

struct attr_list {
    int *attrs;
    size_t count;
};

static void list_add(struct attr_list *list, int attr)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->attrs[i] == attr) return;
    list->attrs[list->count++] = attr;
}

static void list_add_all(struct attr_list *list, const int *attrs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        list_add(list, attrs[i]);
}

/* Attributes whose text index the query reads in every source. */
static void add_text_attrs(const struct query *q, struct attr_list *list)
{
    for (size_t i = 0; i < q->rank_count; i++)
        for (size_t k = 0; k < q->ranks[i].field_count; k++)
            list_add(list, q->ranks[i].fields[k].attr);
}

/* Names the terms that all ranks look up in the text, unless one of them has to look
 * around in it. */
static enum err name_terms(struct op *op, const struct exec *x,
                           struct segment_text *text)
{
    const struct query *q = x->query;
    struct text_terms terms = {.room = 0};

    for (size_t i = 0; i < q->rank_count; i++)
        for (size_t k = 0; k < q->ranks[i].field_count; k++) {
            if (q->ranks[i].fields[k].attr != text->attr) continue;
            enum err e = text_plan_terms(op, x, &q->ranks[i], k, &terms);
            if (e) return e;
        }
    if (terms.any) return ERR_OK;
    text->terms = terms.items;
    text->term_count = terms.count;
    return ERR_OK;
}

/* Is a source read from a distant store? Otherwise nobody asks for terms' names. */
static bool any_far(const struct snapshot *s)
{
    bool far = false;
    for (uint32_t i = 0; i < s->source_count; i++)
        far |= segment_is_far(s->sources[i].segment);
    return far;
}

/* Attributes whose column it reads where rows are allowed. */
static void add_column_attrs(const struct query *q, struct attr_list *list)
{
    const struct aggregate *a = q->aggregate;
    if (q->ordered && q->order_attr != FILTER_ATTR_ID) list_add(list, q->order_attr);
    if (!a) return;
    list_add_all(list, a->sums, a->sum_count);
    list_add_all(list, a->mins, a->min_count);
    list_add_all(list, a->maxs, a->max_count);
    if (a->group_by != QUERY_UNGROUPED) list_add(list, a->group_by);
}

static bool any_phrase(const struct query *q)
{
    bool any = false;
    for (size_t i = 0; i < q->rank_count; i++)
        any |= q->ranks[i].kind == RANK_TEXT && text_plan_has_phrase(q->ranks[i].text);
    return any;
}

/* What views are opened for. */
static enum err list_viewed(struct op *op, const struct exec *x,
                            struct segment_want *out)
{
    size_t room = x->snapshot->schema->attr_count + 1;
    struct attr_list attrs = {.attrs = op_new_array(op, int, room)};
    struct attr_list columns = {.attrs = op_new_array(op, int, room)};
    struct segment_text *texts = op_new_array(op, struct segment_text, room);
    bool positions = any_phrase(x->query), far = any_far(x->snapshot);
    enum err e = ERR_OK;

    if (!attrs.attrs || !columns.attrs || !texts) return ERR_LIMIT;
    add_text_attrs(x->query, &attrs);
    add_column_attrs(x->query, &columns);
    for (size_t i = 0; i < attrs.count && !e; i++) {
        texts[i] = (struct segment_text){.attr = attrs.attrs[i]};
        if (far && !positions) e = name_terms(op, x, &texts[i]);
    }
    *out = (struct segment_want){.texts = texts,
                                 .text_count = attrs.count,
                                 .columns = columns.attrs,
                                 .column_count = columns.count,
                                 .positions = positions};
    return e;
}

static enum err open_views(struct op *op, struct exec *x,
                           const struct segment_want *want)
{
    enum err e = ERR_OK;

    if (want->text_count + want->column_count == 0) return ERR_OK;
    for (uint32_t i = 0; i < x->snapshot->source_count && !e; i++)
        if (!x->allowed.none[i] || want->text_count > 0)
            e = segment_view_open(op, x->snapshot->sources[i].segment, want,
                                  &x->views[i]);
    return e;
}

static enum err exec_init(struct op *op, struct snapshot *snapshot,
                          const struct query *q, struct exec *x)
{
    uint32_t n = snapshot->source_count;
    *x = (struct exec){.snapshot = snapshot, .query = q};
    x->views = op_new_array(op, struct segment_view *, n + 1);
    x->plans = op_new_array(op, struct source_plan, n + 1);
    x->text_plans = op_new_array(op, struct text_plan *, q->rank_count + 1);
    if (!x->views || !x->plans || !x->text_plans) return ERR_LIMIT;
    return allowed_init(op, n, &x->allowed);
}

static void exec_release(struct exec *x)
{
    if (!x->snapshot) return;
    allowed_release(&x->allowed, x->snapshot->source_count);
    for (uint32_t i = 0; x->views && i < x->snapshot->source_count; i++)
        segment_view_close(x->views[i]);
}

/* ---- stages ---- */

/* Adds the microseconds since *since_us to *stage_us and starts anew. */
static void lap(int64_t *since_us, uint64_t *stage_us)
{
    int64_t now_us = clock_us();
    *stage_us += (uint64_t)(now_us - *since_us);
    *since_us = now_us;
}

static enum err run_rank(struct op *op, struct exec *x, const struct rank *rank,
                         size_t depth, struct ranking *out)
{
    struct allowed own = {NULL, NULL};
    enum err e = ERR_OK;

    if (rank->filter) e = allow_rank(op, x, rank->filter, &own);
    const struct allowed *allowed = rank->filter ? &own : &x->allowed;
    if (!e)
        e = rank->kind == RANK_VECTOR ? rank_vector(op, x, rank, allowed, depth, out)
                                      : rank_text(op, x, rank, allowed, depth, out);
    allowed_release(&own, x->snapshot->source_count);
    return e;
}

static enum err run_ranks(struct op *op, struct exec *x, size_t depth,
                          struct ranking *rankings, struct query_explain *explain)
{
    int64_t since_us = clock_us();
    for (size_t i = 0; i < x->query->rank_count; i++) {
        const struct rank *rank = &x->query->ranks[i];
        enum err e = run_rank(op, x, rank, depth, &rankings[i]);
        if (e) return e;
        lap(&since_us,
            rank->kind == RANK_VECTOR ? &explain->vector_us : &explain->text_us);
    }
    return ERR_OK;
}

static enum err keep_scores(struct op *op, const struct ranking *ranking,
                            struct scored **hits, size_t *count)
{
    *hits = op_new_array(op, struct scored, ranking->count + 1);
    if (!*hits) return ERR_LIMIT;
    for (size_t i = 0; i < ranking->count; i++)
        (*hits)[i] = (struct scored){.score = (double)ranking->hits[i].score,
                                     .hit = ranking->hits[i]};
    *count = ranking->count;
    return ERR_OK;
}

static enum err copy_place(struct op *op, const struct exec *x, struct query_place *p)
{
    const struct query *q = x->query;
    if (p->id.kind == ID_STRING) {
        p->id.string = op_copy(op, p->id.string);
        if (!p->id.string.data) return ERR_LIMIT;
    }
    bool text =
        !p->value.null && x->snapshot->schema->attrs[q->order_attr].type == ATTR_STRING;
    if (!text) return ERR_OK;
    p->value.one.s = op_copy(op, p->value.one.s);
    return p->value.one.s.data ? ERR_OK : ERR_LIMIT;
}

/* One row more than was asked for says whether there is more. */
static enum err run_listing(struct op *op, struct exec *x, struct scored **hits,
                            struct query_result *r)
{
    struct ranking list = {NULL, 0};
    int64_t since_us = clock_us();

    enum err e = list_rows(op, x, (size_t)x->query->top_k + 1, &list);
    if (e) return e;
    r->more = list.count > x->query->top_k;
    list.count -= r->more;
    for (size_t i = 0; i < list.count; i++)
        list.hits[i].score = 0;
    if (list.count > 0) {
        r->last = list_place(x, &list.hits[list.count - 1]);
        e = copy_place(op, x, &r->last);
    }
    if (!e) e = keep_scores(op, &list, hits, &r->count);
    lap(&since_us, &r->explain.order_us);
    return e;
}

/* Joins the lists, deeper ones if a document that none of them holds could be among the
 * best. A deeper list begins with the shorter one, so the best only gain and the second
 * depth is enough, but for scores that take something off. */
static enum err join_ranks(struct op *op, struct exec *x, struct scored **hits,
                           struct query_result *r)
{
    const struct query *q = x->query;
    struct ranking rankings[QUERY_RANKS_MAX] = {{0}};
    enum err e = ERR_OK;

    for (size_t depth = exec_depth(q); !e && x->depth != depth;) {
        x->depth = depth;
        e = run_ranks(op, x, depth, rankings, &r->explain);
        int64_t since_us = clock_us();
        if (!e) e = score_rankings(op, x, rankings, hits, &r->count);
        if (!e) depth = score_depth(q, rankings, *hits, r->count, depth);
        lap(&since_us, &r->explain.fuse_us);
    }
    return e;
}

/* What the query asks for, with final scores, best first. */
static enum err rank_all(struct op *op, struct exec *x, struct scored **hits,
                         struct query_result *r)
{
    const struct query *q = x->query;
    struct ranking only = {NULL, 0};

    if (q->rank_count == 0) return run_listing(op, x, hits, r);
    if (q->score) return join_ranks(op, x, hits, r);
    x->depth = exec_depth(q);
    enum err e = run_ranks(op, x, x->depth, &only, &r->explain);
    return e ? e : keep_scores(op, &only, hits, &r->count);
}

static bool wants_highlights(const struct query *q)
{
    bool wants = false;
    for (size_t i = 0; i < q->rank_count; i++)
        wants |= q->ranks[i].highlight_count > 0;
    return wants;
}

/* The hits of one source: their rows, and which hits they are. */
static size_t hits_of(const struct scored *hits, size_t count, uint32_t source,
                      uint32_t *rows, size_t *places)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (hits[i].hit.source != source) continue;
        rows[n] = hits[i].hit.row;
        places[n++] = i;
    }
    return n;
}

/* Reads the documents of the hits: of all sources in one round, then one call per
 * source that has any. */
static enum err fetch(struct op *op, const struct exec *x, const struct scored *hits,
                      struct query_result *result)
{
    const struct snapshot *s = x->snapshot;
    struct segment_fetch what = {.vector = x->query->include_vector,
                                 .attributes = x->query->include_attributes ||
                                               wants_highlights(x->query)};
    uint32_t *rows = op_new_array(op, uint32_t, result->count + 1);
    size_t *places = op_new_array(op, size_t, result->count + 1), n;
    struct doc *docs = op_new_array(op, struct doc, result->count + 1);
    if (!rows || !places || !docs) return ERR_LIMIT;

    struct segment_ahead *ahead = segment_ahead_new();
    for (uint32_t i = 0; i < s->source_count; i++) {
        n = hits_of(hits, result->count, i, rows, places);
        segment_ahead_fetch(ahead, s->sources[i].segment, rows, n, what);
    }
    enum err e = segment_ahead_read(op, ahead);
    for (uint32_t source = 0; source < s->source_count && !e; source++) {
        n = hits_of(hits, result->count, source, rows, places);
        if (n == 0) continue;
        e = segment_fetch(op, s->sources[source].segment, s->schema, rows, n, what,
                          docs);
        for (size_t i = 0; i < n && !e; i++)
            result->hits[places[i]].doc = docs[i];
    }
    segment_ahead_free(ahead);
    return e;
}

/* Counts and aggregates what the filter matches. */
static enum err survey(struct op *op, const struct exec *x, struct query_result *r)
{
    int64_t since_us = clock_us();
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < x->snapshot->source_count; i++)
        r->match_count += exec_allowed_count(x, &x->allowed, i);
    if (x->query->aggregate) e = aggregate_rows(op, x, r);
    lap(&since_us, &r->explain.aggregate_us);
    return e;
}

static enum err put_hits(struct op *op, const struct exec *x, const struct scored *hits,
                         struct query_result *r)
{
    int64_t since_us = clock_us();
    r->hits = op_new_array(op, struct query_hit, r->count + 1);
    if (!r->hits) return ERR_LIMIT;
    for (size_t i = 0; i < r->count; i++)
        r->hits[i].score = hits[i].score;
    enum err e = fetch(op, x, hits, r);
    if (!e) e = mark_hits(op, x, r);
    lap(&since_us, &r->explain.fetch_us);
    return e;
}

/* What filters, ranks, orders and aggregates will look at in a source. That a filter
 * may leave nothing of it, and its columns are not needed then, is not waited for. */
static void add_ahead(struct segment_ahead *ahead, const struct exec *x,
                      uint32_t source, const struct segment_want *want)
{
    const struct segment *s = x->snapshot->sources[source].segment;
    const struct query *q = x->query;
    struct segment_want here = *want;
    bool any = !x->allowed.none[source];

    if (q->filter && plan_reads_filter(x->plans[source].plan))
        segment_ahead_filter(ahead, s, q->filter);
    for (size_t i = 0; i < q->rank_count; i++)
        if (any && q->ranks[i].filter)
            segment_ahead_filter(ahead, s, q->ranks[i].filter);
    if (!any) here.column_count = 0;
    segment_ahead_view(ahead, s, &here);
}

/* Filters all sources and opens their views: one round for all that is read. */
static enum err plan_all(struct op *op, struct exec *x, struct segment_ahead *ahead,
                         struct query_explain *explain)
{
    struct segment_want want;
    int64_t since_us = clock_us();

    enum err e = list_viewed(op, x, &want);
    if (e) return e;
    plan_begin(x);
    for (uint32_t i = 0; i < x->snapshot->source_count; i++)
        add_ahead(ahead, x, i, &want);
    e = segment_ahead_read(op, ahead);
    if (!e) e = plan_sources(op, x);
    lap(&since_us, &explain->filter_us);
    return e ? e : open_views(op, x, &want);
}

/* What was read ahead stays pinned until the ranks' own filters have looked at it. */
static enum err run(struct op *op, struct exec *x, struct query_result *r)
{
    struct segment_ahead *ahead = segment_ahead_new();
    struct scored *hits = NULL;

    enum err e = plan_all(op, x, ahead, &r->explain);
    if (!e) e = survey(op, x, r);
    if (!e) e = rank_all(op, x, &hits, r);
    segment_ahead_free(ahead);
    return e ? e : put_hits(op, x, hits, r);
}

enum err query_run(struct op *op, struct snapshot *snapshot, const struct query *query,
                   struct query_result *result)
{
    struct query_result r = {0};
    struct exec x = {0};
    int64_t began_us = clock_us();

    enum err e = check(op, snapshot->schema, query);
    if (!e) e = exec_init(op, snapshot, query, &x);
    if (!e) e = run(op, &x, &r);
    if (!e) e = explain_query(op, &x, &r.explain);
    if (!e) {
        lap(&began_us, &r.explain.total_us);
        op->counters.segments += snapshot->source_count;
        *result = r;
    }
    exec_release(&x);
    return e;
}
