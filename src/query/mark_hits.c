/*
 * What the text ranks of a query found in the hits, marked up: from the documents as
 * they were fetched, so nothing more is read.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/op.h"
#include "query/exec.h"
#include "query/text_plan.h"
#include "text/highlight.h"

static int by_bytes(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return slice_compare(*x, *y);
}

static void terms_sort(struct highlight_query *q, struct slice *terms, size_t count)
{
    qsort(terms, count, sizeof *terms, by_bytes);
    for (size_t i = 0; i < count; i++)
        if (q->term_count == 0 || !slice_equal(terms[q->term_count - 1], terms[i]))
            terms[q->term_count++] = terms[i];
    q->terms = terms;
}

/* What the plan searches for in one field. */
static enum err field_query(struct op *op, const struct text_plan *plan, size_t field,
                            struct highlight_query *q)
{
    size_t term_room = 0, term_count = 0;
    for (size_t i = 0; i < plan->part_count; i++)
        term_room += 1 + plan->parts[i].term_count;
    struct slice *terms = op_new_array(op, struct slice, term_room);
    struct highlight_phrase *phrases =
        op_new_array(op, struct highlight_phrase, plan->part_count);
    if (!terms || !phrases) return ERR_LIMIT;

    for (size_t i = 0; i < plan->part_count; i++) {
        const struct text_part *part = &plan->parts[i];
        if (part->field != field) continue;
        switch (part->kind) {
        case PART_TERM: terms[term_count++] = part->term; break;
        case PART_PHRASE:
            phrases[q->phrase_count++] =
                (struct highlight_phrase){part->phrase, part->term_count};
            break;
        default:
            for (size_t j = 0; j < part->term_count; j++)
                terms[term_count++] = part->terms[j];
        }
    }
    terms_sort(q, terms, term_count);
    q->phrases = phrases;
    return ERR_OK;
}

static enum err mark_hit(struct op *op, const struct attr *attr, int index,
                         const struct highlight_query *q, struct query_hit *hit)
{
    struct query_highlight h = {.attr = index};
    enum err e = highlight_value(op, q, attr->array, &hit->doc.values[index],
                                 &h.fragments, &h.fragment_count);
    if (!e && h.fragment_count > 0) hit->highlights[hit->highlight_count++] = h;
    return e;
}

static enum err mark_attr(struct op *op, const struct exec *x, const struct rank *rank,
                          const struct text_plan *plan, int index,
                          struct query_result *r)
{
    const struct attr *attr = &x->snapshot->schema->attrs[index];
    struct highlight_query q = {.analysis = &attr->analysis};
    size_t field = 0;

    while (rank->fields[field].attr != index)
        field++;
    enum err e = field_query(op, plan, field, &q);
    for (size_t i = 0; !e && i < r->count; i++)
        e = mark_hit(op, attr, index, &q, &r->hits[i]);
    return e;
}

enum err mark_hits(struct op *op, const struct exec *x, struct query_result *r)
{
    const struct query *query = x->query;
    size_t room = 0;

    for (size_t i = 0; i < query->rank_count; i++)
        room += query->ranks[i].highlight_count;
    if (room == 0) return ERR_OK;
    for (size_t i = 0; i < r->count; i++) {
        r->hits[i].highlights = op_new_array(op, struct query_highlight, room);
        if (!r->hits[i].highlights) return ERR_LIMIT;
    }
    for (size_t i = 0; i < query->rank_count; i++) {
        const struct rank *rank = &query->ranks[i];
        for (size_t j = 0; x->text_plans[i] && j < rank->highlight_count; j++) {
            enum err e =
                mark_attr(op, x, rank, x->text_plans[i], rank->highlights[j], r);
            if (e) return e;
        }
    }
    return ERR_OK;
}
