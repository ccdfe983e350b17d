/*
 * The rankings of a query joined: each document that is in any of them gets one cell
 * per ranking (its score and position there), then the score's tree is evaluated on the
 * cells.
 */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/op.h"
#include "base/rowset.h"
#include "query/exec.h"

struct cell {
    float score;
    uint32_t position; /* from 1; 0: not in this ranking */
};

struct range {
    double least, greatest;
};

struct table {
    const struct exec *x;
    struct scored *items; /* in the order they were met */
    struct cell *cells;   /* rank_count per item */
    size_t count;
    uint32_t *slots; /* index + 1 into items, 0 is empty */
    size_t mask;
    struct range *ranges; /* of each ranking */
};

static size_t find_or_add(struct table *t, const struct hit *hit)
{
    uint64_t key = (uint64_t)hit->source << 32 | hit->row;
    size_t slot = (size_t)(key * 0x9e3779b97f4a7c15u >> 32) & t->mask;

    for (; t->slots[slot]; slot = (slot + 1) & t->mask) {
        size_t index = t->slots[slot] - 1;
        const struct hit *other = &t->items[index].hit;
        if (other->source == hit->source && other->row == hit->row) return index;
    }
    t->items[t->count] = (struct scored){.hit = *hit};
    t->slots[slot] = (uint32_t)++t->count;
    return t->count - 1;
}

static enum err table_init(struct op *op, const struct exec *x,
                           const struct ranking *rankings, struct table *t)
{
    size_t ranks = x->query->rank_count, total = 0;

    *t = (struct table){.x = x, .mask = 15};
    for (size_t i = 0; i < ranks; i++)
        total += rankings[i].count;
    while (t->mask + 1 < 2 * total)
        t->mask = t->mask * 2 + 1;
    t->items = op_new_array(op, struct scored, total + 1);
    t->cells = op_new_array(op, struct cell, (total + 1) * ranks);
    t->slots = op_new_array(op, uint32_t, t->mask + 1);
    t->ranges = op_new_array(op, struct range, ranks);
    return t->items && t->cells && t->slots && t->ranges ? ERR_OK : ERR_LIMIT;
}

static void add_ranking(struct table *t, size_t rank, const struct ranking *ranking)
{
    if (ranking->count == 0) return;
    t->ranges[rank] = (struct range){(double)ranking->hits[ranking->count - 1].score,
                                     (double)ranking->hits[0].score};
    for (size_t i = 0; i < ranking->count; i++) {
        size_t item = find_or_add(t, &ranking->hits[i]);
        t->cells[item * t->x->query->rank_count + rank] =
            (struct cell){ranking->hits[i].score, (uint32_t)i + 1};
    }
}

/* ---- the tree ---- */

/* Rows that match a SCORE_FILTER, per source. */
static struct rowset **filter_rows(struct op *op, const struct exec *x,
                                   const struct filter *f, enum err *e)
{
    const struct snapshot *s = x->snapshot;
    struct rowset **rows = op_new_array(op, struct rowset *, s->source_count + 1);
    *e = rows ? ERR_OK : ERR_LIMIT;
    for (uint32_t i = 0; i < s->source_count && !*e; i++)
        if (!x->allowed.none[i])
            *e = segment_filter(op, s->sources[i].segment, f, NULL, NULL, &rows[i]);
    return rows;
}

static double node_leaf(const struct table *t, const struct score *node, size_t item)
{
    const struct cell *cell = &t->cells[item * t->x->query->rank_count + node->rank];
    const struct range *range = &t->ranges[node->rank];
    double width = range->greatest - range->least;

    if (cell->position == 0) return 0;
    if (node->op == SCORE_RANK) return (double)cell->score * node->weight;
    if (node->op == SCORE_RECIPROCAL)
        return node->weight / (node->k + (double)cell->position);
    return node->weight *
           (width > 0 ? ((double)cell->score - range->least) / width : 1);
}

/* values[i]: what child i is worth. */
static double node_join(const struct score *node, const double *values, size_t stride)
{
    double joined = values[0];
    for (size_t i = 1; i < node->child_count; i++) {
        double v = values[i * stride];
        if (node->op == SCORE_SUM)
            joined += v;
        else if (node->op == SCORE_PRODUCT)
            joined *= v;
        else if (v > joined)
            joined = v;
    }
    return node->weight * joined;
}

/* What the node is worth for every item, into out. Depth is bounded by the check. */
static enum err evaluate(struct op *op, const struct table *t, const struct score *node,
                         double *out);

static enum err evaluate_filter(struct op *op, const struct table *t,
                                const struct score *node, double *out)
{
    enum err e;
    struct rowset **rows = filter_rows(op, t->x, node->filter, &e);

    for (size_t i = 0; i < t->count && !e; i++) {
        const struct hit *hit = &t->items[i].hit;
        out[i] = rowset_has(rows[hit->source], hit->row) ? node->weight : 0;
    }
    for (uint32_t i = 0; rows && i < t->x->snapshot->source_count; i++)
        rowset_unref(rows[i]);
    return e;
}

static enum err evaluate_joined(struct op *op, const struct table *t,
                                const struct score *node, double *out)
{
    double *values = op_new_array(op, double, node->child_count * t->count + 1);
    if (!values) return ERR_LIMIT;
    for (size_t i = 0; i < node->child_count; i++) {
        enum err e = evaluate(op, t, &node->children[i], values + i * t->count);
        if (e) return e;
    }
    for (size_t i = 0; i < t->count; i++)
        out[i] = node_join(node, values + i, t->count);
    return ERR_OK;
}

static enum err evaluate(struct op *op, const struct table *t, const struct score *node,
                         double *out)
{
    switch (node->op) {
    case SCORE_FILTER: return evaluate_filter(op, t, node, out);
    case SCORE_SUM:
    case SCORE_PRODUCT:
    case SCORE_GREATEST: return evaluate_joined(op, t, node, out);
    case SCORE_CONSTANT:
        for (size_t i = 0; i < t->count; i++)
            out[i] = node->weight;
        return ERR_OK;
    default:
        for (size_t i = 0; i < t->count; i++)
            out[i] = node_leaf(t, node, i);
        return ERR_OK;
    }
}

static double bounded(double score)
{
    if (isnan(score) || score < -DBL_MAX) return -DBL_MAX;
    return score > DBL_MAX ? DBL_MAX : score;
}

static int better(const void *a, const void *b, void *snapshot)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return exec_compare_ids(snapshot, &x->hit, &y->hit);
}

enum err score_rankings(struct op *op, const struct exec *x,
                        const struct ranking *rankings, struct scored **out,
                        size_t *count)
{
    const struct query *q = x->query;
    struct table t;

    enum err e = table_init(op, x, rankings, &t);
    if (e) return e;
    for (size_t i = 0; i < q->rank_count; i++)
        add_ranking(&t, i, &rankings[i]);
    double *scores = op_new_array(op, double, t.count + 1);
    if (!scores) return ERR_LIMIT;
    e = evaluate(op, &t, q->score, scores);
    if (e) return e;
    for (size_t i = 0; i < t.count; i++)
        t.items[i].score = bounded(scores[i]);
    if (t.count > 0) qsort_r(t.items, t.count, sizeof *t.items, better, x->snapshot);
    *out = t.items;
    *count = t.count < q->top_k ? t.count : q->top_k;
    return ERR_OK;
}

/* ---- how deep the lists have to be ---- */

static struct range scaled(struct range r, double weight)
{
    double a = weight * r.least, b = weight * r.greatest;
    return a < b ? (struct range){a, b} : (struct range){b, a};
}

static struct range joined(enum score_op op, struct range a, struct range b)
{
    if (op == SCORE_SUM)
        return (struct range){a.least + b.least, a.greatest + b.greatest};
    if (op == SCORE_GREATEST)
        return (struct range){fmax(a.least, b.least), fmax(a.greatest, b.greatest)};
    double w = a.least * b.least, x = a.least * b.greatest;
    double y = a.greatest * b.least, z = a.greatest * b.greatest;
    return (struct range){fmin(fmin(w, x), fmin(y, z)), fmax(fmax(w, x), fmax(y, z))};
}

/* What a document may be worth that stands behind `depth` in each list that goes on so
 * far. False: the tree holds scores themselves, not places. */
static bool unseen_range(const struct score *node, const bool *complete, size_t depth,
                         struct range *out)
{
    struct range child;
    *out = (struct range){0, 0};
    switch (node->op) {
    case SCORE_CONSTANT: *out = (struct range){node->weight, node->weight}; return true;
    case SCORE_FILTER: *out = scaled((struct range){0, 1}, node->weight); return true;
    case SCORE_RECIPROCAL: {
        double most = complete[node->rank] ? 0 : 1 / (node->k + (double)depth + 1);
        *out = scaled((struct range){0, most}, node->weight);
        return true;
    }
    case SCORE_RANK:
    case SCORE_MINMAX: return false;
    default: break;
    }
    for (size_t i = 0; i < node->child_count; i++) {
        if (!unseen_range(&node->children[i], complete, depth, &child)) return false;
        *out = i == 0 ? child : joined(node->op, *out, child);
    }
    *out = scaled(*out, node->weight);
    return true;
}

size_t score_depth(const struct query *q, const struct ranking *rankings,
                   const struct scored *best, size_t count, size_t depth)
{
    bool complete[QUERY_RANKS_MAX], all = true;
    struct range unseen;

    for (size_t i = 0; i < q->rank_count; i++) {
        complete[i] = rankings[i].count < depth;
        all &= complete[i];
    }
    if (all || count < q->top_k) return depth;
    double bar = best[count - 1].score;
    for (; depth < QUERY_DEPTH_MAX; depth *= 2) {
        if (!unseen_range(q->score, complete, depth, &unseen)) return depth;
        if (unseen.greatest < bar || unseen.greatest <= 0) return depth;
    }
    return QUERY_DEPTH_MAX;
}
