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

/* What one source is searched with. */
struct source_search {
    struct text_clause *clauses;
    struct text_list *lists; /* made for this source, one per part */
    size_t clause_count;
};

/* The clause of a part whose field the source has. */
static enum err clause_make(struct op *op, const struct rank *rank,
                            const struct text_plan *plan, const struct text_part *part,
                            const struct text_index *index, struct text_list *list,
                            struct text_clause *out)
{
    const struct text_field *field = &plan->fields[part->field];
    float weight = rank->fields[part->field].weight * (float)part->repeats * part->idf;

    *out = (struct text_clause){.index = index,
                                .term = part->term,
                                .group = part->unit,
                                .weight = weight * part->boost,
                                .inverse = field->inverse};
    if (part->kind == PART_TERM) return ERR_OK;
    out->made = list;
    return part->kind == PART_PHRASE
               ? text_list_phrase(op, index, part->phrase, part->term_count, list)
               : text_list_union(op, index, part->terms, part->term_count, list);
}

static enum err clauses_make(struct op *op, const struct exec *x,
                             const struct rank *rank, const struct text_plan *plan,
                             uint32_t source, struct source_search *s)
{
    enum err e = ERR_OK;

    s->clause_count = 0;
    for (size_t i = 0; !e && i < plan->part_count; i++) {
        const struct text_part *part = &plan->parts[i];
        const struct text_index *index =
            text_plan_index(x, source, rank->fields[part->field].attr);
        if (!part->found || !index) continue;
        e = clause_make(op, rank, plan, part, index, &s->lists[i],
                        &s->clauses[s->clause_count++]);
    }
    return e;
}

static enum err search_source(struct op *op, const struct exec *x,
                              const struct rank *rank, const struct text_plan *plan,
                              uint32_t source, struct source_search *s,
                              struct topk *best)
{
    enum err e = clauses_make(op, x, rank, plan, source, s);
    struct text_search search = {
        .clauses = s->clauses,
        .clause_count = s->clause_count,
        .group_count = plan->unit_count,
        .all_groups = rank->all_words,
        .allowed = x->allowed[source],
        .source = source,
        .row_count = segment_row_count(x->snapshot->sources[source].segment),
    };
    if (!e) e = text_index_search(op, &search, best, &op->counters.rows_scored);
    for (size_t i = 0; i < plan->part_count; i++)
        text_list_release(&s->lists[i]);
    return e;
}

enum err rank_text(struct op *op, const struct exec *x, const struct rank *rank,
                   size_t depth, struct ranking *out)
{
    struct text_plan *plan = op_new(op, struct text_plan);
    struct source_search s = {NULL, NULL, 0};

    out->hits = op_new_array(op, struct hit, depth);
    out->count = 0;
    if (!plan || !out->hits) return ERR_LIMIT;
    enum err e = text_plan_make(op, x, rank, plan);
    if (e) return e;
    x->plans[rank - x->query->ranks] = plan;
    if (plan->part_count == 0 || (plan->hopeless && rank->all_words)) return ERR_OK;

    s.clauses = op_new_array(op, struct text_clause, plan->part_count);
    s.lists = op_new_array(op, struct text_list, plan->part_count);
    if (!s.clauses || !s.lists) return ERR_LIMIT;
    struct topk best;
    topk_init(&best, out->hits, depth, exec_compare_ids, x->snapshot);
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        if (x->skip[i]) continue;
        e = search_source(op, x, rank, plan, i, &s, &best);
        if (e) return e;
    }
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}
