#include "query/text_plan.h"

#include <assert.h>
#include <stdlib.h>

#include "base/op.h"
#include "text/analyze.h"
#include "text/bm25.h"
#include "text/expand.h"
#include "text/positions.h"
#include "text/text_index.h"

/* A plan being made. */
struct maker {
    struct op *op;
    const struct exec *x;
    const struct rank *rank;
    struct text_plan *plan;
    size_t room;  /* of plan->parts */
    size_t words; /* so far, those of phrases too */
    bool merge;   /* equal words of a field become one */
};

const struct text_index *text_plan_index(const struct exec *x, uint32_t source,
                                         int attr)
{
    return x->views[source] ? segment_view_text(x->views[source], attr) : NULL;
}

/* ---- text into parts ---- */

/* The next stretch of a query, without its quotes. */
struct stretch {
    size_t begin, end, next;
    bool phrase;
};

static size_t find_quote(struct slice query, size_t from)
{
    const uint8_t *at =
        from < query.size ? memchr(query.data + from, '"', query.size - from) : NULL;
    return at ? (size_t)(at - query.data) : query.size;
}

static struct stretch stretch_at(struct slice query, size_t begin)
{
    size_t open = find_quote(query, begin), close = find_quote(query, open + 1);

    if (close == query.size)
        return (struct stretch){begin, query.size, query.size, false};
    if (open > begin) return (struct stretch){begin, open, open, false};
    return (struct stretch){open + 1, close, close + 1, true};
}

bool text_plan_has_phrase(struct slice query)
{
    return find_quote(query, find_quote(query, 0) + 1) < query.size;
}

static enum err count_word(struct maker *m)
{
    if (m->words++ < QUERY_TERMS_MAX) return ERR_OK;
    return op_fail(m->op, ERR_INVALID,
                   "full_text.query: more than %d words, counted once per field",
                   QUERY_TERMS_MAX);
}

/* A new part, or NULL with ERR_LIMIT. The parts move. */
static struct text_part *part_add(struct maker *m, enum text_part_kind kind,
                                  size_t field, size_t at)
{
    struct text_plan *plan = m->plan;
    if (plan->part_count == m->room) {
        size_t room = m->room ? 2 * m->room : 16;
        struct text_part *parts = op_new_array(m->op, struct text_part, room);
        if (!parts) return NULL;
        if (m->room) memcpy(parts, plan->parts, m->room * sizeof *parts);
        plan->parts = parts;
        m->room = room;
    }
    struct text_part *part = &plan->parts[plan->part_count++];
    *part = (struct text_part){
        .kind = kind, .field = field, .at = at, .repeats = 1, .boost = 1.0F};
    return part;
}

static bool add_repeat(const struct text_plan *plan, size_t field, struct slice term)
{
    for (size_t i = 0; i < plan->part_count; i++) {
        struct text_part *part = &plan->parts[i];
        if (part->kind != PART_TERM || part->field != field ||
            !slice_equal(part->term, term))
            continue;
        part->repeats++;
        return true;
    }
    return false;
}

static enum err add_term(struct maker *m, size_t field, struct slice term, size_t at)
{
    if (m->merge && add_repeat(m->plan, field, term)) return ERR_OK;
    enum err e = count_word(m);
    if (e) return e;
    struct text_part *part = part_add(m, PART_TERM, field, at);
    if (!part) return ERR_LIMIT;
    part->term = op_copy(m->op, term);
    return part->term.data ? ERR_OK : ERR_LIMIT;
}

static struct analyzer *analyzer_of(const struct maker *m, size_t field)
{
    int attr = m->rank->fields[field].attr;
    return analyzer_get(&m->x->snapshot->schema->attrs[attr].analysis);
}

/* The words of a stretch but the one that begins at `but`. */
static enum err add_words(struct maker *m, size_t field, const struct stretch *s,
                          size_t but)
{
    struct analyzer *analyzer = analyzer_of(m, field);
    struct token token;
    enum err e = ERR_OK;

    analyzer_start(analyzer,
                   slice_of(m->rank->text.data + s->begin, s->end - s->begin));
    while (!e && analyzer_next(analyzer, &token))
        if (s->begin + token.start != but)
            e = add_term(m, field, token.term, s->begin + token.start);
    return e;
}

/* The words of a phrase and where they stand in it: at most POSITION_GAP. */
static enum err phrase_words(struct maker *m, size_t field, const struct stretch *s,
                             struct phrase_term *terms, size_t *n)
{
    struct slice text = slice_of(m->rank->text.data + s->begin, s->end - s->begin);
    struct analyzer *analyzer = analyzer_of(m, field);
    struct token token;
    uint32_t first = 0;
    size_t count = 0;

    analyzer_start(analyzer, text);
    while (analyzer_next(analyzer, &token)) {
        if (count == 0) first = token.position;
        if (token.position - first >= POSITION_GAP)
            return op_fail(m->op, ERR_INVALID,
                           "full_text.query: a phrase has at most %d words",
                           POSITION_GAP);
        enum err e = count_word(m);
        if (e) return e;
        terms[count].term = op_copy(m->op, token.term);
        terms[count].offset = token.position - first;
        if (!terms[count++].term.data) return ERR_LIMIT;
    }
    *n = count;
    return ERR_OK;
}

static enum err add_phrase(struct maker *m, size_t field, const struct stretch *s)
{
    struct phrase_term terms[POSITION_GAP];
    size_t count = 0;

    enum err e = phrase_words(m, field, s, terms, &count);
    if (e || count == 0) return e;
    if (count == 1) {
        m->words--; /* it was counted as part of a phrase */
        return add_term(m, field, terms[0].term, s->begin);
    }
    struct text_part *part = part_add(m, PART_PHRASE, field, s->begin);
    if (!part) return ERR_LIMIT;
    part->phrase = op_new_array(m->op, struct phrase_term, count);
    if (!part->phrase) return ERR_LIMIT;
    memcpy(part->phrase, terms, count * sizeof *terms);
    part->term_count = count;
    return ERR_OK;
}

/* The words of the last stretch; the very last one stands for what begins with it. */
static enum err add_words_prefix(struct maker *m, size_t field, const struct stretch *s)
{
    struct slice text = slice_of(m->rank->text.data + s->begin, s->end - s->begin);
    struct token token;

    if (!analyzer_last(analyzer_of(m, field), text, &token))
        return add_words(m, field, s, SIZE_MAX);
    size_t at = s->begin + token.start;
    struct slice begins = op_copy(m->op, token.term);
    if (!begins.data) return ERR_LIMIT;
    enum err e = add_words(m, field, s, at);
    if (!e) e = count_word(m);
    if (e) return e;
    struct text_part *part = part_add(m, PART_PREFIX, field, at);
    if (!part) return ERR_LIMIT;
    part->term = begins;
    return ERR_OK;
}

static enum err add_field(struct maker *m, size_t field)
{
    struct slice query = m->rank->text;
    enum err e = ERR_OK;

    for (size_t at = 0; !e && at < query.size;) {
        struct stretch s = stretch_at(query, at);
        at = s.next;
        bool last = at == query.size;
        if (s.phrase)
            e = add_phrase(m, field, &s);
        else if (m->rank->prefix && last)
            e = add_words_prefix(m, field, &s);
        else
            e = add_words(m, field, &s, SIZE_MAX);
    }
    return e;
}

static enum err terms_add(struct op *op, struct text_terms *terms, struct slice term)
{
    if (terms->count == terms->room) {
        size_t room = terms->room ? 2 * terms->room : 16;
        struct slice *items = op_new_array(op, struct slice, room);
        if (!items) return ERR_LIMIT;
        if (terms->count) memcpy(items, terms->items, terms->count * sizeof *items);
        terms->items = items;
        terms->room = room;
    }
    terms->items[terms->count++] = term;
    return ERR_OK;
}

enum err text_plan_terms(struct op *op, const struct exec *x, const struct rank *rank,
                         size_t field, struct text_terms *terms)
{
    struct text_plan plan = {.part_count = 0};
    struct maker m = {.op = op, .x = x, .rank = rank, .plan = &plan, .merge = true};

    enum err e = add_field(&m, field);
    if (!e && !terms->items) /* no terms are still named ones */
        terms->items = op_new(op, struct slice);
    if (!e && !terms->items) e = ERR_LIMIT;
    for (size_t i = 0; !e && i < plan.part_count; i++) {
        if (plan.parts[i].kind == PART_TERM)
            e = terms_add(op, terms, plan.parts[i].term);
        else
            terms->any = true;
    }
    terms->any |= rank->fuzzy > 0;
    return e;
}

/* ---- terms of the dictionaries ---- */

struct candidate {
    struct slice term;
    uint64_t frequency; /* over all sources */
    uint8_t edits, length;
};

static int by_term(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return slice_compare(x->term, y->term);
}

/* The nearest first, then the most frequent. */
static int by_promise(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->edits != y->edits) return x->edits < y->edits ? -1 : 1;
    if (x->frequency != y->frequency) return x->frequency > y->frequency ? -1 : 1;
    return slice_compare(x->term, y->term);
}

/* Adds up equal terms of several sources; how many different ones there are. */
static size_t candidates_join(struct candidate *c, size_t count)
{
    size_t kept = 0;
    qsort(c, count, sizeof *c, by_term);
    for (size_t i = 0; i < count; i++) {
        if (kept && slice_equal(c[kept - 1].term, c[i].term))
            c[kept - 1].frequency += c[i].frequency;
        else
            c[kept++] = c[i];
    }
    return kept;
}

/* What the part's term stands for, over all sources: appended to *found. */
static enum err expand(const struct maker *m, const struct text_part *part,
                       struct expansions *found)
{
    int attr = m->rank->fields[part->field].attr;
    enum err e = ERR_OK;

    for (uint32_t i = 0; !e && i < m->x->snapshot->source_count; i++) {
        const struct text_index *t = text_plan_index(m->x, i, attr);
        if (!t) continue;
        e = part->kind == PART_PREFIX
                ? expand_prefix(m->op, t, part->term, found)
                : expand_fuzzy(m->op, t, part->term, m->rank->fuzzy, found);
    }
    return e;
}

/* The max best terms that the part's term stands for, in op's arena. */
static enum err candidates_find(const struct maker *m, const struct text_part *part,
                                size_t max, struct candidate **out, size_t *count)
{
    struct expansions found = {BUF_INIT, BUF_INIT};
    struct candidate *all = NULL;

    *count = 0;
    enum err e = expand(m, part, &found);
    const struct expansion *items = (const void *)found.items.data;
    size_t n = found.items.size / sizeof *items;
    if (!e && n > 0) {
        all = mem_new_array(struct candidate, n);
        for (size_t i = 0; i < n; i++)
            all[i] =
                (struct candidate){slice_of(found.bytes.data + items[i].term,
                                            items[i].term_size),
                                   items[i].frequency, items[i].edits, items[i].length};
        n = candidates_join(all, n);
        qsort(all, n, sizeof *all, by_promise);
        if (n > max) n = max;
        *out = op_new_array(m->op, struct candidate, n);
        if (!*out) e = ERR_LIMIT;
        for (size_t i = 0; !e && i < n; i++) {
            (*out)[i] = all[i];
            (*out)[i].term = op_copy(m->op, all[i].term);
            if (!(*out)[i].term.data) e = ERR_LIMIT;
        }
        if (!e) *count = n;
    }
    mem_free(all);
    expansions_release(&found);
    return e;
}

static uint64_t frequency_most(const struct candidate *c, size_t count)
{
    uint64_t most = 0;
    for (size_t i = 0; i < count; i++)
        if (c[i].frequency > most) most = c[i].frequency;
    return most;
}

/* ---- how rare a part is ---- */

/* Sums over all sources, also those without an allowed row: a filter does not change
 * what is rare. */
static void count_field(const struct exec *x, int attr, struct text_field *field)
{
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        const struct text_index *t = text_plan_index(x, i, attr);
        if (!t) continue;
        field->document_count += text_index_document_count(t);
        field->total_length += text_index_total_length(t);
    }
    double average = field->document_count
                         ? (double)field->total_length / (double)field->document_count
                         : 1.0;
    bm25_norms(average, field->inverse);
}

static uint64_t term_frequency(const struct maker *m, size_t field, struct slice term)
{
    uint64_t frequency = 0;
    for (uint32_t i = 0; i < m->x->snapshot->source_count; i++) {
        const struct text_index *t =
            text_plan_index(m->x, i, m->rank->fields[field].attr);
        if (t) frequency += text_index_frequency(t, term);
    }
    return frequency;
}

static float idf_of(const struct maker *m, size_t field, uint64_t frequency)
{
    return bm25_idf(m->plan->fields[field].document_count, frequency);
}

static void rate_term(const struct maker *m, struct text_part *part)
{
    uint64_t frequency = term_frequency(m, part->field, part->term);
    part->found = frequency > 0;
    part->idf = idf_of(m, part->field, frequency);
}

/* As in Lucene a phrase is as rare as its words together. */
static void rate_phrase(const struct maker *m, struct text_part *part)
{
    double sum = 0;
    part->found = true;
    for (size_t i = 0; i < part->term_count; i++) {
        uint64_t frequency = term_frequency(m, part->field, part->phrase[i].term);
        part->found &= frequency > 0;
        sum += (double)idf_of(m, part->field, frequency);
    }
    part->idf = (float)sum;
}

/*
 * The terms that begin so, and the one that the word is if it is whole (its stem may be
 * shorter than what was typed of it).
 */
static enum err rate_prefix(const struct maker *m, struct text_part *part)
{
    struct candidate *c = NULL;
    struct token token;
    size_t count;

    enum err e = candidates_find(m, part, PREFIX_TERMS_MAX, &c, &count);
    if (e) return e;
    part->terms = op_new_array(m->op, struct slice, count + 1);
    if (!part->terms) return ERR_LIMIT;
    for (size_t i = 0; i < count; i++)
        part->terms[part->term_count++] = c[i].term;
    uint64_t most = frequency_most(c, count);

    struct slice rest =
        slice_of(m->rank->text.data + part->at, m->rank->text.size - part->at);
    struct analyzer *analyzer = analyzer_of(m, part->field);
    analyzer_start(analyzer, rest);
    if (analyzer_next(analyzer, &token) && token.position == 0 &&
        !slice_starts_with(token.term, part->term)) {
        uint64_t frequency = term_frequency(m, part->field, token.term);
        struct slice *whole = &part->terms[part->term_count];
        *whole = op_copy(m->op, token.term);
        if (!whole->data) return ERR_LIMIT;
        part->term_count += frequency > 0;
        if (frequency > most) most = frequency;
    }
    part->found = most > 0;
    part->idf = idf_of(m, part->field, most);
    return ERR_OK;
}

static enum err rate_parts(const struct maker *m)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < m->plan->part_count; i++) {
        struct text_part *part = &m->plan->parts[i];
        switch (part->kind) {
        case PART_TERM: rate_term(m, part); break;
        case PART_PHRASE: rate_phrase(m, part); break;
        default: e = rate_prefix(m, part);
        }
    }
    return e;
}

/* ---- words spelt otherwise ---- */

/*
 * The word gives way to the terms near it. They count as equally rare, or else a
 * misspelling would be worth more than what was meant; each edit takes off its share of
 * the shorter word, as in Lucene.
 */
static enum err add_near(struct maker *m, const struct text_part *word)
{
    struct candidate *c = NULL;
    size_t count;

    enum err e = candidates_find(m, word, FUZZY_TERMS_MAX, &c, &count);
    float idf = idf_of(m, word->field, frequency_most(c, count));
    for (size_t i = 0; !e && i < count; i++) {
        struct text_part *part = part_add(m, PART_TERM, word->field, word->at);
        if (!part) return ERR_LIMIT;
        part->repeats = word->repeats;
        part->term = c[i].term;
        part->boost = 1.0F - (float)c[i].edits / (float)c[i].length;
        part->idf = idf;
        part->found = true;
    }
    if (e || count > 0) return e;
    struct text_part *part = part_add(m, PART_TERM, word->field, word->at);
    if (part) *part = *word; /* found nowhere: its unit is hopeless */
    return part ? ERR_OK : ERR_LIMIT;
}

static enum err add_fuzzy(struct maker *m)
{
    const struct text_part *parts = m->plan->parts;
    size_t count = m->plan->part_count, words = 0;
    enum err e = ERR_OK;

    for (size_t i = 0; i < count; i++)
        words += parts[i].kind == PART_TERM;
    if (words > FUZZY_WORDS_MAX)
        return op_fail(m->op, ERR_INVALID,
                       "full_text.fuzzy: at most %d words, counted once per field",
                       FUZZY_WORDS_MAX);
    m->plan->parts = NULL;
    m->plan->part_count = m->room = 0;
    for (size_t i = 0; !e && i < count; i++) {
        if (parts[i].kind == PART_TERM) {
            e = add_near(m, &parts[i]);
            continue;
        }
        struct text_part *part = part_add(m, parts[i].kind, 0, 0);
        if (!part) return ERR_LIMIT;
        *part = parts[i];
    }
    return e;
}

/* ---- units ---- */

static void number_units(struct text_plan *plan)
{
    for (size_t i = 0; i < plan->part_count; i++) {
        size_t same = 0;
        while (plan->parts[same].at != plan->parts[i].at)
            same++;
        plan->parts[i].unit = same < i ? plan->parts[same].unit : plan->unit_count++;
    }
    for (uint32_t unit = 0; unit < plan->unit_count; unit++) {
        bool found = false;
        for (size_t i = 0; i < plan->part_count; i++)
            found |= plan->parts[i].unit == unit && plan->parts[i].found;
        plan->hopeless |= !found;
    }
}

enum err text_plan_make(struct op *op, const struct exec *x, const struct rank *rank,
                        struct text_plan *out)
{
    struct maker m = {.op = op, .x = x, .rank = rank, .plan = out};

    *out = (struct text_plan){.part_count = 0};
    m.merge = !rank->all_words || rank->field_count == 1;
    out->fields = op_new_array(op, struct text_field, rank->field_count);
    if (!out->fields) return ERR_LIMIT;
    for (size_t i = 0; i < rank->field_count; i++) {
        enum err e = add_field(&m, i);
        if (e) return e;
        count_field(x, rank->fields[i].attr, &out->fields[i]);
    }
    enum err e = rate_parts(&m);
    if (!e && rank->fuzzy) e = add_fuzzy(&m);
    if (!e) number_units(out);
    return e;
}
