#include "text/highlight.h"

#include <assert.h>
#include <stdlib.h>

#include "base/op.h"
#include "text/analyze.h"
#include "text/positions.h"

/* A word of the text that became a term. */
struct word {
    uint32_t start, end, position;
    uint32_t term; /* of all terms of the query, those of phrases behind the others */
    bool mark;
};

/* Marks that are close to each other: words [first, last]. */
struct fragment {
    struct slice text; /* the whole of it */
    const struct word *words;
    size_t first, last;
    size_t kinds, marks; /* different terms among the marks; marks */
    size_t number;       /* in the order of the texts */
};

struct highlighter {
    struct op *op;
    const struct highlight_query *query;
    struct fragment best[HIGHLIGHT_FRAGMENTS_MAX]; /* the best first */
    size_t count, seen;
};

enum { TERM_UNKNOWN = UINT32_MAX };

/* ---- marks ---- */

static int compare_terms(const void *key, const void *item)
{
    const struct slice *a = key, *b = item;
    return slice_compare(*a, *b);
}

static bool is_term(const struct highlight_query *q, struct slice term,
                    uint32_t *number)
{
    const struct slice *at = q->term_count ? bsearch(&term, q->terms, q->term_count,
                                                     sizeof *q->terms, compare_terms)
                                           : NULL;
    if (at) *number = (uint32_t)(at - q->terms);
    return at;
}

/* The term of a phrase, numbered behind those of the query. */
static bool is_phrase_term(const struct highlight_query *q, struct slice term,
                           uint32_t *number)
{
    uint32_t base = (uint32_t)q->term_count;
    for (size_t i = 0; i < q->phrase_count; i++) {
        for (size_t j = 0; j < q->phrases[i].count; j++)
            if (slice_equal(q->phrases[i].terms[j].term, term)) {
                *number = base + (uint32_t)j;
                return true;
            }
        base += (uint32_t)q->phrases[i].count;
    }
    return false;
}

/* The words of the text that are terms of the query, alone or in a phrase. */
static enum err words_read(struct highlighter *h, struct slice text, struct buf *words)
{
    struct analyzer *analyzer = analyzer_get(h->query->analysis);
    struct token token;
    enum err e = op_check(h->op);

    analyzer_start(analyzer, text);
    while (!e && analyzer_next(analyzer, &token)) {
        struct word w = {token.start, token.end, token.position, TERM_UNKNOWN, false};
        w.mark = is_term(h->query, token.term, &w.term);
        if (w.mark || is_phrase_term(h->query, token.term, &w.term))
            buf_append(words, &w, sizeof w);
    }
    return e;
}

/* The number of a phrase's j-th term, as words have it. */
static uint32_t phrase_number(const struct highlight_query *q, size_t phrase, size_t j)
{
    const struct highlight_phrase *p = &q->phrases[phrase];
    uint32_t number;
    bool known = is_term(q, p->terms[j].term, &number) ||
                 is_phrase_term(q, p->terms[j].term, &number);
    assert(known);
    return number;
}

/* The word at a position, from `from` on; NULL if it is not of the query. */
static struct word *word_at(struct word *words, size_t count, size_t from,
                            uint64_t position)
{
    while (from < count && words[from].position < position)
        from++;
    return from < count && words[from].position == position ? &words[from] : NULL;
}

/* Marks the phrase if it begins with the word. */
static void mark_phrase(const struct highlight_query *q, size_t phrase,
                        const uint32_t *numbers, struct word *words, size_t count,
                        size_t first)
{
    const struct highlight_phrase *p = &q->phrases[phrase];
    struct word *found[POSITION_GAP];

    assert(p->count <= POSITION_GAP);
    for (size_t j = 0; j < p->count; j++) {
        uint64_t position = (uint64_t)words[first].position + p->terms[j].offset;
        found[j] = word_at(words, count, first, position);
        if (!found[j] || found[j]->term != numbers[j]) return;
    }
    for (size_t j = 0; j < p->count; j++)
        found[j]->mark = true;
}

static void mark_phrases(const struct highlight_query *q, struct word *words,
                         size_t count)
{
    for (size_t i = 0; i < q->phrase_count; i++) {
        uint32_t numbers[POSITION_GAP];
        assert(q->phrases[i].count > 0 && q->phrases[i].count <= POSITION_GAP);
        for (size_t j = 0; j < q->phrases[i].count; j++)
            numbers[j] = phrase_number(q, i, j);
        for (size_t first = 0; first < count; first++)
            if (words[first].term == numbers[0])
                mark_phrase(q, i, numbers, words, count, first);
    }
}

static size_t keep_marks(struct word *words, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (words[i].mark) words[kept++] = words[i];
    return kept;
}

/* ---- fragments ---- */

static bool is_better(const struct fragment *a, const struct fragment *b)
{
    if (a->kinds != b->kinds) return a->kinds > b->kinds;
    if (a->marks != b->marks) return a->marks > b->marks;
    return a->number < b->number;
}

static void fragment_keep(struct highlighter *h, const struct fragment *f)
{
    size_t at = h->count;
    while (at > 0 && is_better(f, &h->best[at - 1]))
        at--;
    if (at == HIGHLIGHT_FRAGMENTS_MAX) return;
    if (h->count < HIGHLIGHT_FRAGMENTS_MAX) h->count++;
    for (size_t i = h->count - 1; i > at; i--)
        h->best[i] = h->best[i - 1];
    h->best[at] = *f;
}

static size_t count_kinds(const struct word *words, size_t first, size_t last)
{
    size_t kinds = 0;
    for (size_t i = first; i <= last; i++) {
        size_t same = first;
        while (words[same].term != words[i].term)
            same++;
        kinds += same == i;
    }
    return kinds;
}

/* Cuts the marks of a text into fragments, left to right. */
static void fragments_make(struct highlighter *h, struct slice text,
                           const struct word *words, size_t count)
{
    for (size_t first = 0, last; first < count; first = last + 1) {
        last = first;
        while (last + 1 < count &&
               words[last + 1].end - words[first].start <= HIGHLIGHT_SPAN)
            last++;
        struct fragment f = {.text = text,
                             .words = words,
                             .first = first,
                             .last = last,
                             .kinds = count_kinds(words, first, last),
                             .marks = last + 1 - first,
                             .number = h->seen++};
        fragment_keep(h, &f);
    }
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool is_inside_char(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Where the fragment begins: with a word, or if there is no space with a character, at
 * most HIGHLIGHT_AROUND bytes before its first mark. */
static size_t fragment_begin(struct slice text, size_t mark, size_t floor)
{
    if (mark - floor <= HIGHLIGHT_AROUND && floor == 0) return 0;
    size_t at = mark - floor > HIGHLIGHT_AROUND ? mark - HIGHLIGHT_AROUND : floor;
    for (size_t i = at; i < mark; i++)
        if (is_space(text.data[i])) return i + 1;
    while (at < mark && is_inside_char(text.data[at]))
        at++;
    return at;
}

static size_t fragment_end(struct slice text, size_t mark, size_t ceiling)
{
    if (ceiling - mark <= HIGHLIGHT_AROUND && ceiling == text.size) return ceiling;
    size_t at = ceiling - mark > HIGHLIGHT_AROUND ? mark + HIGHLIGHT_AROUND : ceiling;
    for (size_t i = at; i > mark; i--)
        if (is_space(text.data[i - 1])) return i - 1;
    while (at > mark && at < text.size && is_inside_char(text.data[at]))
        at--;
    return at;
}

/* ---- HTML ---- */

static void escape(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        switch (text.data[i]) {
        case '&': buf_append_str(out, "&amp;"); break;
        case '<': buf_append_str(out, "&lt;"); break;
        case '>': buf_append_str(out, "&gt;"); break;
        case '"': buf_append_str(out, "&quot;"); break;
        case '\'': buf_append_str(out, "&#39;"); break;
        default: buf_append_byte(out, text.data[i]);
        }
}

static void fragment_write(const struct fragment *f, size_t floor, size_t ceiling,
                           struct buf *out)
{
    size_t at = fragment_begin(f->text, f->words[f->first].start, floor);
    size_t end = fragment_end(f->text, f->words[f->last].end, ceiling);

    for (size_t i = f->first; i <= f->last; i++) {
        const struct word *w = &f->words[i];
        escape(out, slice_of(f->text.data + at, w->start - at));
        buf_append_str(out, "<em>");
        escape(out, slice_of(f->text.data + w->start, w->end - w->start));
        buf_append_str(out, "</em>");
        at = w->end;
    }
    escape(out, slice_of(f->text.data + at, end - at));
}

/* ---- the whole ---- */

static enum err text_add(struct highlighter *h, struct slice text)
{
    struct buf words = BUF_INIT;
    struct slice start = text;

    if (start.size > HIGHLIGHT_TEXT_MAX) {
        start.size = HIGHLIGHT_TEXT_MAX;
        while (start.size > 0 && is_inside_char(text.data[start.size]))
            start.size--;
    }
    enum err e = words_read(h, start, &words);
    size_t count = words.size / sizeof(struct word);
    mark_phrases(h->query, (void *)words.data, count);
    count = keep_marks((void *)words.data, count);
    struct word *marks = op_new_array(h->op, struct word, count);
    if (!e && count > 0 && !marks) e = ERR_LIMIT;
    if (!e && count > 0) {
        assert(words.data);
        memcpy(marks, words.data, count * sizeof *marks);
        fragments_make(h, text, marks, count);
    }
    buf_release(&words);
    return e;
}

static int by_number(const void *a, const void *b)
{
    const struct fragment *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* Fragments do not overlap: each ends before its neighbour's first mark begins. */
static enum err fragments_write(struct highlighter *h, struct slice *out)
{
    struct buf html = BUF_INIT;
    enum err e = ERR_OK;
    size_t floor = 0;

    qsort(h->best, h->count, sizeof *h->best, by_number);
    for (size_t i = 0; !e && i < h->count; i++) {
        const struct fragment *f = &h->best[i], *next = f + 1;
        bool same_before = i > 0 && f[-1].words == f->words;
        bool same_behind = i + 1 < h->count && next->words == f->words;
        size_t ceiling = same_behind ? next->words[next->first].start : f->text.size;
        size_t last = f->words[f->last].end;
        if (!same_before) floor = 0;
        buf_clear(&html);
        fragment_write(f, floor, ceiling, &html);
        floor = fragment_end(f->text, last, ceiling);
        out[i] = op_copy(h->op, buf_slice(&html));
        if (!out[i].data) e = ERR_LIMIT;
    }
    buf_release(&html);
    return e;
}

enum err highlight_value(struct op *op, const struct highlight_query *q, bool array,
                         const struct value *v, struct slice **fragments, size_t *count)
{
    struct highlighter h = {.op = op, .query = q};
    enum err e = ERR_OK;

    *count = 0;
    if (v->null) return ERR_OK;
    if (array)
        for (uint32_t i = 0; !e && i < v->count; i++)
            e = text_add(&h, v->items[i].s);
    else
        e = text_add(&h, v->one.s);
    if (e || h.count == 0) return e;

    *fragments = op_new_array(op, struct slice, h.count);
    if (!*fragments) return ERR_LIMIT;
    e = fragments_write(&h, *fragments);
    if (!e) *count = h.count;
    return e;
}
