/*
 * BM25 over all sources of a snapshot. The query becomes a plan of words and phrases
 * per field; document frequencies and lengths are summed over all sources first, so
 * every source scores alike; then each source pushes into one heap.
 */
#include <assert.h>

#include "base/op.h"
#include "query/exec.h"
#include "query/text_plan.h"
#include "text/text_index.h"

/* What every source is asked. */
struct source_query {
    const struct rank *rank;
    const struct text_plan *plan;
    struct text_clause *clauses; /* room for one per part */
    struct text_list *lists;     /* made for the source at hand, one per part */
};

/* The clause of a part whose field the source has. */
static enum err clause_make(struct op *op, const struct source_query *q, size_t part,
                            const struct text_index *index, struct text_clause *out)
{
    const struct text_part *p = &q->plan->parts[part];
    struct text_list *list = &q->lists[part];
    float weight = q->rank->fields[p->field].weight * (float)p->repeats * p->idf;

    *out = (struct text_clause){.index = index,
                                .term = p->term,
                                .group = p->unit,
                                .weight = weight * p->boost,
                                .inverse = q->plan->fields[p->field].inverse};
    if (p->kind == PART_TERM) return ERR_OK;
    out->made = list;
    return p->kind == PART_PHRASE
               ? text_list_phrase(op, index, p->phrase, p->term_count, list)
               : text_list_union(op, index, p->terms, p->term_count, list);
}

static enum err clauses_make(struct op *op, const struct exec *x,
                             const struct source_query *q, uint32_t source,
                             size_t *count)
{
    enum err e = ERR_OK;

    *count = 0;
    for (size_t i = 0; !e && i < q->plan->part_count; i++) {
        const struct text_part *part = &q->plan->parts[i];
        const struct text_index *index =
            text_plan_index(x, source, q->rank->fields[part->field].attr);
        if (part->found && index)
            e = clause_make(op, q, i, index, &q->clauses[(*count)++]);
    }
    return e;
}

static enum err search_source(struct op *op, const struct exec *x,
                              const struct source_query *q, uint32_t source,
                              const struct allowed *allowed, struct topk *best)
{
    struct text_search search = {
        .clauses = q->clauses,
        .group_count = q->plan->unit_count,
        .all_groups = q->rank->all_words,
        .allowed = allowed->rows[source],
        .source = source,
        .row_count = segment_row_count(x->snapshot->sources[source].segment),
    };
    if (allowed->none[source]) return ERR_OK;
    enum err e = clauses_make(op, x, q, source, &search.clause_count);
    if (!e) e = text_index_search(op, &search, best, &op->counters.rows_scored);
    for (size_t i = 0; i < q->plan->part_count; i++)
        text_list_release(&q->lists[i]);
    return e;
}

/* Searches for more than is wanted, and filters that; where it leaves too little, the
 * filter comes first after all. */
static enum err search_first(struct op *op, struct exec *x,
                             const struct source_query *q, uint32_t source,
                             const struct allowed *allowed, struct topk *best)
{
    struct topk found;
    size_t room = plan_trial_depth(best->k, x->plans[source].fraction);
    struct hit *hits = op_new_array(op, struct hit, room);
    if (!hits) return ERR_LIMIT;
    topk_init(&found, hits, room, exec_compare_ids, x->snapshot);

    enum err e = search_source(op, x, q, source, allowed, &found);
    size_t matching = found.count;
    if (!e) e = plan_check(op, x, source, hits, &matching);
    if (e) return e;
    bool complete = found.count < found.k; /* these are all there are */
    if (complete || matching >= best->k) {
        for (size_t i = 0; i < matching; i++)
            topk_push(best, hits[i]);
        return ERR_OK;
    }
    e = plan_again(op, x, source);
    return e ? e : search_source(op, x, q, source, allowed, best);
}

enum err rank_text(struct op *op, struct exec *x, const struct rank *rank,
                   const struct allowed *allowed, size_t depth, struct ranking *out)
{
    struct text_plan *plan = op_new(op, struct text_plan);

    out->hits = op_new_array(op, struct hit, depth);
    out->count = 0;
    if (!plan || !out->hits) return ERR_LIMIT;
    enum err e = text_plan_make(op, x, rank, plan);
    if (e) return e;
    x->text_plans[rank - x->query->ranks] = plan;
    if (plan->part_count == 0 || (plan->hopeless && rank->all_words)) return ERR_OK;

    struct source_query query = {.rank = rank,
                                 .plan = plan,
                                 .clauses = op_new_array(op, struct text_clause,
                                                         plan->part_count),
                                 .lists = op_new_array(op, struct text_list,
                                                       plan->part_count)};
    if (!query.clauses || !query.lists) return ERR_LIMIT;
    struct topk best;
    topk_init(&best, out->hits, depth, exec_compare_ids, x->snapshot);
    for (uint32_t i = 0; i < x->snapshot->source_count && !e; i++)
        e = plan_tries(x, allowed, i) ? search_first(op, x, &query, i, allowed, &best)
                                      : search_source(op, x, &query, i, allowed, &best);
    if (e) return e;
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}
