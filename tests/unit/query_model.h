/*
 * query_model.h - what queries should answer, by an array of documents and loops over
 * it: too simple to be wrong, and shared by the tests of queries.
 */
#ifndef TESTS_UNIT_QUERY_MODEL_H
#define TESTS_UNIT_QUERY_MODEL_H

#include <math.h>

#include "query/query.h"
#include "unit/random_filters.h"

enum { MODEL_ATTRS_MAX = 16 };

/* A document version as the naive model sees it. */
struct version {
    struct doc doc;
    bool live;
};

struct world {
    struct op *op;
    struct schema *schema;
    struct snapshot *snapshot;
    struct version *versions; /* all rows of all sources */
    size_t count;
    uint64_t rng;
};

struct scored {
    double score;
    const struct doc *doc;
};

static inline int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return doc_id_compare(&x->doc->id, &y->doc->id);
}

static inline struct query_result run_ok(struct world *w, const struct query *q)
{
    struct query_result r = {0};
    enum err e = query_run(w->op, w->snapshot, q, &r);
    if (e) fail_msg("query: %s", w->op->error);
    return r;
}

/* ---- scores ---- */

enum { RANKS_MAX = 5 };

/* The lists that query_run gives for each rank alone, at the depth that fusion reads:
 * rounding in scores cannot change the expected order then. */
struct lists {
    const struct query *q;
    struct query_result results[RANKS_MAX];
};

static inline double naive_leaf(const struct query_result *list,
                                const struct score *node, const struct doc *d)
{
    for (size_t i = 0; i < list->count; i++) {
        if (doc_id_compare(&list->hits[i].doc.id, &d->id) != 0) continue;
        double least = list->hits[list->count - 1].score, most = list->hits[0].score;
        if (node->op == SCORE_RANK) return list->hits[i].score;
        if (node->op == SCORE_RECIPROCAL) return 1 / (node->k + (double)i + 1);
        return most > least ? (list->hits[i].score - least) / (most - least) : 1;
    }
    return 0;
}

static inline double naive_score(const struct world *w, const struct lists *l,
                                 const struct score *node, const struct doc *d)
{
    double value = node->op == SCORE_PRODUCT ? 1
                   : node->op == SCORE_SUM   ? 0
                                             : -INFINITY;
    if (node->op == SCORE_CONSTANT) return node->weight;
    if (node->op == SCORE_FILTER)
        return filter_matches(node->filter, w->schema, d) ? node->weight : 0;
    if (node->op < SCORE_FILTER)
        return node->weight * naive_leaf(&l->results[node->rank], node, d);
    for (size_t i = 0; i < node->child_count; i++) {
        double child = naive_score(w, l, &node->children[i], d);
        if (node->op == SCORE_SUM) value += child;
        if (node->op == SCORE_PRODUCT) value *= child;
        if (node->op == SCORE_GREATEST) value = fmax(value, child);
    }
    return node->weight * value;
}

static inline const struct doc *version_of(const struct world *w,
                                           const struct doc_id *id)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->versions[i].live && doc_id_compare(&w->versions[i].doc.id, id) == 0)
            return &w->versions[i].doc;
    fail_msg("a hit that does not live");
    return NULL;
}

/* The query's answer is what its score makes of the lists. */
static inline void expect_joined(struct world *w, const struct query *q,
                                 const struct lists *lists)
{
    struct lists l = *lists;
    struct scored *naive = op_new_array(w->op, struct scored, w->count + 1);
    size_t n = 0;
    for (size_t i = 0; i < q->rank_count; i++)
        for (size_t k = 0; k < l.results[i].count; k++) {
            const struct doc *d = version_of(w, &l.results[i].hits[k].doc.id);
            size_t at = 0;
            while (at < n && naive[at].doc != d)
                at++;
            if (at == n)
                naive[n++] = (struct scored){naive_score(w, &l, q->score, d), d};
        }
    qsort(naive, n, sizeof *naive, by_score);
    struct query_result r = run_ok(w, q);
    assert_int_equal(r.count, n < q->top_k ? n : q->top_k);
    for (size_t i = 0; i < r.count; i++) {
        double tolerance = 1e-12 * (1 + fabs(naive[i].score));
        const struct doc *d = version_of(w, &r.hits[i].doc.id);
        assert_true(fabs(r.hits[i].score - naive[i].score) <= tolerance);
        assert_true(fabs(r.hits[i].score - naive_score(w, &l, q->score, d)) <=
                    tolerance);
        if (i == 0) continue;
        assert_true(r.hits[i - 1].score >= r.hits[i].score);
        if (r.hits[i - 1].score == r.hits[i].score)
            assert_true(doc_id_compare(&r.hits[i - 1].doc.id, &r.hits[i].doc.id) < 0);
    }
}

static inline struct score random_score(struct world *w, size_t ranks, uint32_t depth)
{
    struct score node = {.op = (enum score_op)random_index(&w->rng, SCORE_GREATEST + 1),
                         .weight = (double)random_index(&w->rng, 5) - 1,
                         .rank = random_index(&w->rng, ranks),
                         .k = random_index(&w->rng, 100)};
    if (node.op >= SCORE_SUM && depth == 0) node.op = SCORE_RANK;
    if (node.op == SCORE_FILTER)
        node.filter = random_filter(w->op, &w->rng, w->schema, 120, 2);
    if (node.op < SCORE_SUM) return node;
    node.child_count = 1 + random_index(&w->rng, 3);
    struct score *children = op_new_array(w->op, struct score, node.child_count);
    for (size_t i = 0; i < node.child_count; i++)
        children[i] = random_score(w, ranks, depth - 1);
    node.children = children;
    return node;
}

/* ---- listings ---- */

static struct {
    const struct query *q;
    const struct schema *schema;
} listing;

static inline int by_order(const void *a, const void *b)
{
    const struct doc *x = ((const struct scored *)a)->doc;
    const struct doc *y = ((const struct scored *)b)->doc;
    const struct query *q = listing.q;
    int ids = doc_id_compare(&x->id, &y->id);
    if (!q->ordered || q->order_attr == FILTER_ATTR_ID)
        return q->descending ? -ids : ids;
    const struct value *v = &x->values[q->order_attr], *u = &y->values[q->order_attr];
    if (v->null || u->null) return v->null == u->null ? ids : v->null ? 1 : -1;
    int order =
        scalar_compare(listing.schema->attrs[q->order_attr].type, &v->one, &u->one);
    if (order == 0) return ids;
    return q->descending ? -order : order;
}

static inline struct scored *naive_listing(struct world *w, const struct query *q,
                                           size_t *n)
{
    struct scored *naive = op_new_array(w->op, struct scored, w->count + 1);
    *n = 0;
    for (size_t i = 0; i < w->count; i++)
        if (w->versions[i].live &&
            (!q->filter || filter_matches(q->filter, w->schema, &w->versions[i].doc)))
            naive[(*n)++].doc = &w->versions[i].doc;
    listing.q = q;
    listing.schema = w->schema;
    qsort(naive, *n, sizeof *naive, by_order);
    return naive;
}

/* ---- aggregates ---- */

static inline bool same_value(enum attr_type type, const struct value *a,
                              const struct value *b)
{
    if (a->null || b->null) return a->null == b->null;
    return scalar_compare(type, &a->one, &b->one) == 0;
}

/* One group against a loop over the matching documents. */
static inline void expect_group(struct world *w, const struct query *q,
                                const struct aggregate_group *g,
                                const struct scored *naive, size_t n)
{
    const struct aggregate *a = q->aggregate;
    const struct attr *attrs = w->schema->attrs;
    uint64_t count = 0;
    long double sums[MODEL_ATTRS_MAX] = {0}, sizes[MODEL_ATTRS_MAX] = {0};
    struct value mins[MODEL_ATTRS_MAX], maxs[MODEL_ATTRS_MAX];
    for (size_t i = 0; i < MODEL_ATTRS_MAX; i++)
        mins[i] = maxs[i] = VALUE_NULL;
    for (size_t k = 0; k < n; k++) {
        const struct value *values = naive[k].doc->values;
        if (a->group_by != QUERY_UNGROUPED &&
            !same_value(attrs[a->group_by].type, &values[a->group_by], &g->key))
            continue;
        count++;
        for (size_t i = 0; i < a->sum_count; i++) {
            const struct value *v = &values[a->sums[i]];
            enum attr_type type = attrs[a->sums[i]].type;
            if (v->null) continue;
            long double one = type == ATTR_FLOAT  ? (long double)v->one.f
                              : type == ATTR_UINT ? (long double)v->one.u
                                                  : (long double)v->one.i;
            sums[i] += one;
            sizes[i] += fabsl(one);
        }
        for (size_t i = 0; i < a->min_count; i++) {
            const struct value *v = &values[a->mins[i]];
            if (!v->null && (mins[i].null || scalar_compare(attrs[a->mins[i]].type,
                                                            &v->one, &mins[i].one) < 0))
                mins[i] = *v;
        }
        for (size_t i = 0; i < a->max_count; i++) {
            const struct value *v = &values[a->maxs[i]];
            if (!v->null && (maxs[i].null || scalar_compare(attrs[a->maxs[i]].type,
                                                            &v->one, &maxs[i].one) > 0))
                maxs[i] = *v;
        }
    }
    assert_int_equal(g->count, count);
    assert_true(count > 0 || a->group_by == QUERY_UNGROUPED);
    for (size_t i = 0; i < a->sum_count; i++) {
        const struct aggregate_sum *s = &g->sums[i];
        long double sum = s->kind == SUM_SIGNED     ? (long double)s->i
                          : s->kind == SUM_UNSIGNED ? (long double)s->u
                                                    : (long double)s->f;
        long double limit =
            fminl((long double)DBL_MAX, fmaxl(-(long double)DBL_MAX, sums[i]));
        /* Valgrind's long double has the digits of a double. */
        assert_true(fabsl(sum - limit) <= BY_VALGRIND(1e-15L, 1e-12L) * (1 + sizes[i]));
    }
    for (size_t i = 0; i < a->min_count; i++)
        assert_true(same_value(attrs[a->mins[i]].type, &g->mins[i], &mins[i]));
    for (size_t i = 0; i < a->max_count; i++)
        assert_true(same_value(attrs[a->maxs[i]].type, &g->maxs[i], &maxs[i]));
}

#endif
