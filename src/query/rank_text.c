/*
 * BM25 over all sources of a snapshot. The words of the query become clauses, one per
 * word and field; document frequencies and lengths are summed over all sources first,
 * so every source scores alike; then each source pushes into one heap.
 */
#include <assert.h>

#include "base/op.h"
#include "query/exec.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/text_index.h"

struct word {
    size_t field; /* index into rank->fields */
    struct slice term;
    uint32_t position; /* in the query's text */
    uint32_t repeats;
    float idf;
    bool found; /* some source has it */
};

struct words {
    struct word *items;
    size_t count;
    bool merge; /* equal terms of a field become one word */
};

struct field_stats {
    uint64_t documents;
    uint64_t length;
    float inverse[256];
};

static bool add_repeat(struct words *w, size_t field, struct slice term)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->items[i].field != field || !slice_equal(w->items[i].term, term))
            continue;
        w->items[i].repeats++;
        return true;
    }
    return false;
}

static enum err add_words(struct op *op, const struct exec *x, const struct rank *rank,
                          size_t field, struct words *w)
{
    const struct attr *attr = &x->snapshot->schema->attrs[rank->fields[field].attr];
    struct analyzer *analyzer = analyzer_get(&attr->analysis);
    struct token token;

    analyzer_start(analyzer, rank->text);
    while (analyzer_next(analyzer, &token)) {
        if (w->merge && add_repeat(w, field, token.term)) continue;
        if (w->count == QUERY_TERMS_MAX)
            return op_fail(
                op, ERR_INVALID,
                "full_text.query: more than %d words, counted once per field",
                QUERY_TERMS_MAX);
        struct slice term = op_copy(op, token.term);
        if (!term.data) return ERR_LIMIT;
        w->items[w->count++] = (struct word){.field = field,
                                             .term = term,
                                             .position = token.position,
                                             .repeats = 1};
    }
    return ERR_OK;
}

static const struct text_index *index_of(const struct exec *x, uint32_t source,
                                         int attr)
{
    return x->views[source] ? segment_view_text(x->views[source], attr) : NULL;
}

/* Sums over all sources, skipped ones too: a filter does not change what is rare. */
static void count_field(const struct exec *x, int attr, struct field_stats *stats)
{
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        const struct text_index *t = index_of(x, i, attr);
        if (!t) continue;
        stats->documents += text_index_document_count(t);
        stats->length += text_index_total_length(t);
    }
    double average =
        stats->documents ? (double)stats->length / (double)stats->documents : 1.0;
    bm25_norms(average, stats->inverse);
}

static void count_word(const struct exec *x, int attr, const struct field_stats *stats,
                       struct word *word)
{
    uint64_t frequency = 0;
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        const struct text_index *t = index_of(x, i, attr);
        if (t) frequency += text_index_frequency(t, word->term);
    }
    word->found = frequency > 0;
    word->idf = bm25_idf(stats->documents, frequency);
}

/*
 * Numbers the words' positions densely into groups. For `and`, a position none of whose
 * words exists anywhere makes the result empty: *hopeless.
 */
static uint32_t number_groups(const struct words *w, uint32_t *groups, bool *hopeless)
{
    uint32_t count = 0;
    *hopeless = false;
    for (size_t i = 0; i < w->count; i++) {
        size_t same = 0;
        while (w->items[same].position != w->items[i].position)
            same++;
        groups[i] = same < i ? groups[same] : count++;
    }
    for (uint32_t group = 0; group < count; group++) {
        bool found = false;
        for (size_t i = 0; i < w->count; i++)
            found |= groups[i] == group && w->items[i].found;
        *hopeless |= !found;
    }
    return count;
}

/* What every source is asked. */
struct text_query {
    const struct rank *rank;
    const struct words *words;
    const struct field_stats *stats; /* per field of the rank */
    const uint32_t *groups;          /* per word */
    uint32_t group_count;
    struct text_clause *clauses; /* room for one per word */
};

/* Scores one source with the clauses whose field it has. */
static enum err search_source(struct op *op, const struct exec *x,
                              const struct text_query *q, uint32_t source,
                              const struct allowed *allowed, struct topk *best)
{
    struct text_search search = {
        .clauses = q->clauses,
        .group_count = q->group_count,
        .all_groups = q->rank->all_words,
        .allowed = allowed->rows[source],
        .source = source,
        .row_count = segment_row_count(x->snapshot->sources[source].segment),
    };
    if (allowed->none[source]) return ERR_OK;
    for (size_t i = 0; i < q->words->count; i++) {
        const struct word *word = &q->words->items[i];
        const struct rank_field *field = &q->rank->fields[word->field];
        if (!word->found) continue;
        q->clauses[search.clause_count++] = (struct text_clause){
            .index = index_of(x, source, field->attr),
            .term = word->term,
            .group = q->groups[i],
            .weight = field->weight * (float)word->repeats * word->idf,
            .inverse = q->stats[word->field].inverse,
        };
    }
    return text_index_search(op, &search, best, &op->counters.rows_scored);
}

enum err rank_text(struct op *op, struct exec *x, const struct rank *rank,
                   const struct allowed *allowed, size_t depth, struct ranking *out)
{
    struct words w = {.merge = !rank->all_words || rank->field_count == 1};
    bool hopeless;

    w.items = op_new_array(op, struct word, QUERY_TERMS_MAX);
    struct field_stats *stats = op_new_array(op, struct field_stats, rank->field_count);
    struct text_clause *clauses = op_new_array(op, struct text_clause, QUERY_TERMS_MAX);
    uint32_t *groups = op_new_array(op, uint32_t, QUERY_TERMS_MAX);
    out->hits = op_new_array(op, struct hit, depth);
    out->count = 0;
    if (!w.items || !stats || !clauses || !groups || !out->hits) return ERR_LIMIT;

    for (size_t i = 0; i < rank->field_count; i++) {
        enum err e = add_words(op, x, rank, i, &w);
        if (e) return e;
        count_field(x, rank->fields[i].attr, &stats[i]);
    }
    for (size_t i = 0; i < w.count; i++) {
        size_t field = w.items[i].field;
        count_word(x, rank->fields[field].attr, &stats[field], &w.items[i]);
    }
    uint32_t group_count = number_groups(&w, groups, &hopeless);
    if (w.count == 0 || (hopeless && rank->all_words)) return ERR_OK;

    struct topk best;
    topk_init(&best, out->hits, depth, exec_compare_ids, x->snapshot);
    struct text_query query = {rank, &w, stats, groups, group_count, clauses};
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        struct trial trial;
        bool tries, again = false;
        enum err e = trial_begin(op, x, allowed, i, depth, &tries, &trial);
        if (!e)
            e = search_source(op, x, &query, i, allowed, tries ? &trial.best : &best);
        if (!e && tries) e = trial_end(op, x, i, &trial, &best, &again);
        if (!e && again) e = search_source(op, x, &query, i, allowed, &best);
        if (e) return e;
    }
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}
