/*
 * Neighbours of a vector over all sources of a snapshot. Sources that are searched
 * before they are filtered are one search, for more than is wanted; when the filter
 * leaves enough of it, that is their part of the list, and else they are filtered and
 * searched like the others.
 */
#include "base/op.h"
#include "query/exec.h"

float exec_recall(const struct query *q)
{
    return q->recall > 0 ? q->recall : QUERY_RECALL_DEFAULT;
}

/* Does the score ask for more of the rank than who comes before whom? */
static bool asks_for_scores(const struct score *s, uint32_t rank)
{
    if ((s->op == SCORE_RANK || s->op == SCORE_MINMAX) && s->rank == rank) return true;
    for (size_t i = 0; i < s->child_count; i++)
        if (asks_for_scores(s->children + i, rank)) return true;
    return false;
}

struct vector_rank {
    struct exec *x;
    struct segment_near near;
    const struct allowed *allowed;
    struct segment_target *targets; /* room for all sources */
    size_t target_count;
};

/* The sources that are searched first, or all others. */
static void pick_targets(struct vector_rank *v, bool tried)
{
    const struct snapshot *s = v->x->snapshot;
    v->target_count = 0;
    for (uint32_t i = 0; i < s->source_count; i++)
        if (!v->allowed->none[i] && plan_tries(v->x, v->allowed, i) == tried)
            v->targets[v->target_count++] =
                (struct segment_target){s->sources[i].segment, v->allowed->rows[i], i};
}

/* The least part of the rows that matches in one of them. */
static double least_fraction(const struct vector_rank *v)
{
    double least = 1;
    for (size_t i = 0; i < v->target_count; i++) {
        double fraction = v->x->plans[v->targets[i].source].fraction;
        if (fraction < least) least = fraction;
    }
    return least;
}

static enum err filter_all(struct op *op, const struct vector_rank *v)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < v->target_count && !e; i++)
        e = plan_again(op, v->x, v->targets[i].source);
    return e;
}

/* segment_near.check */
static enum err check(struct op *op, void *context, struct hit *hits, size_t *count)
{
    const struct vector_rank *v = context;
    enum err e = ERR_OK;
    for (size_t i = 0; i < v->target_count && !e; i++)
        e = plan_check(op, v->x, v->targets[i].source, hits, count);
    return e;
}

/* Searches the targets before the filter; in vain: they are filtered from now on. */
static enum err search_first(struct op *op, struct vector_rank *v, struct topk *best)
{
    struct topk matching;
    struct hit *hits = op_new_array(op, struct hit, best->k);
    if (!hits) return ERR_LIMIT;
    topk_init(&matching, hits, best->k, exec_compare_ids, v->x->snapshot);

    struct segment_near near = v->near;
    near.check = check;
    near.context = v;
    near.sought = (uint32_t)plan_trial_depth(best->k, least_fraction(v));
    enum err e = segment_nearest(op, v->targets, v->target_count, &near, &matching,
                                 &v->x->vectors);
    if (e) return e;
    if (matching.count < best->k) return filter_all(op, v);
    for (size_t i = 0; i < matching.count; i++)
        topk_push(best, hits[i]);
    return ERR_OK;
}

/* A list of which only the places count: beyond those that the best documents come from
 * one more or less does not matter, and each would be a vector to read. */
static uint32_t exact_scores(const struct query *q, const struct rank *rank)
{
    uint32_t index = (uint32_t)(rank - q->ranks);
    return q->score && !asks_for_scores(q->score, index) ? q->top_k : 0;
}

enum err rank_vector(struct op *op, struct exec *x, const struct rank *rank,
                     const struct allowed *allowed, size_t depth, struct ranking *out)
{
    const struct snapshot *s = x->snapshot;
    struct vector_rank v = {.x = x,
                            .near = {.metric = s->schema->metric,
                                     .query = rank->vector,
                                     .recall = exec_recall(x->query),
                                     .exact = exact_scores(x->query, rank),
                                     .documents = x->query->rank_count == 1 &&
                                                  x->query->include_attributes},
                            .allowed = allowed,
                            .targets = op_new_array(op, struct segment_target,
                                                    s->source_count + 1)};
    struct topk best;
    enum err e = ERR_OK;

    out->hits = op_new_array(op, struct hit, depth);
    if (!out->hits || !v.targets) return ERR_LIMIT;
    topk_init(&best, out->hits, depth, exec_compare_ids, s);
    pick_targets(&v, true);
    if (v.target_count) e = search_first(op, &v, &best);
    if (e) return e;
    pick_targets(&v, false);
    e = segment_nearest(op, v.targets, v.target_count, &v.near, &best, &x->vectors);
    if (e) return e;
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}
