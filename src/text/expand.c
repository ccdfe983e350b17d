/*
 * Fuzzy: the table of edit distances (Wagner and Fischer 1974, with exchanges of
 * neighbours) of the word and each term, kept as a stack of rows: the terms ascend, so
 * the rows of what a term shares with the one before are still right. Where all of a
 * row is beyond the limit no term with these first characters is near enough, and the
 * walk goes on behind them.
 */
#include "text/expand.h"

#include <assert.h>

#include "base/codec.h"
#include "base/op.h"
#include "text/text_layout.h"

enum {
    CHARS_MAX = DICTIONARY_TERM_MAX,
    TERMS_PER_CHECK = 4096,
    NEAR = 8 /* terms that are passed one by one before it is worth to seek */
};

void expansions_release(struct expansions *e)
{
    buf_release(&e->items);
    buf_release(&e->bytes);
}

static enum err damaged(struct op *op)
{
    return op_fail(op, ERR_CORRUPT, "text index: damaged dictionary");
}

static enum err expansion_add(struct op *op, const struct text_index *t,
                              const struct dictionary_walk *w, uint32_t edits,
                              size_t length, struct expansions *out)
{
    struct reader r = reader_of(w->body);
    struct expansion x = {.term = out->bytes.size,
                          .term_size = w->size,
                          .edits = (uint8_t)edits,
                          .length = (uint8_t)length};

    x.frequency = (uint32_t)get_varint_max(&r, t->document_count);
    if (r.failed || x.frequency == 0) return damaged(op);
    buf_append(&out->bytes, w->term, w->size);
    buf_append(&out->items, &x, sizeof x);
    return ERR_OK;
}

enum err expand_prefix(struct op *op, const struct text_index *t, struct slice prefix,
                       struct expansions *out)
{
    struct dictionary_walk w;

    assert(prefix.size > 0);
    dictionary_walk_seek(&t->dictionary, prefix, &w);
    for (uint32_t i = 0; dictionary_walk_next(&w); i++) {
        if (!slice_starts_with(slice_of(w.term, w.size), prefix)) return ERR_OK;
        enum err e = i % TERMS_PER_CHECK == 0 ? op_check(op) : ERR_OK;
        if (!e) e = expansion_add(op, t, &w, 0, 0, out);
        if (e) return e;
    }
    return w.damaged ? damaged(op) : ERR_OK;
}

/* ---- fuzzy ---- */

/* Characters of some bytes; what is no UTF-8 is a character per byte. */
struct chars {
    uint32_t codes[CHARS_MAX];
    uint8_t ends[CHARS_MAX]; /* in bytes */
    size_t count;
};

/* The character at `at`; how many bytes it takes. */
static size_t char_read(struct slice s, size_t at, uint32_t *code)
{
    uint8_t first = s.data[at];
    size_t size = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    *code = first;
    if (size > s.size - at) return 1;
    for (size_t i = 1; i < size; i++)
        *code = *code << 8 | s.data[at + i];
    return size;
}

/* The first `kept` characters stay as they are. */
static void chars_read(struct chars *c, size_t kept, struct slice s)
{
    size_t at = kept ? c->ends[kept - 1] : 0;
    c->count = kept;
    while (at < s.size) {
        at += char_read(s, at, &c->codes[c->count]);
        c->ends[c->count++] = (uint8_t)at;
    }
}

struct fuzzy {
    struct chars word, term;
    uint32_t edits;
    size_t rows_known; /* of the rows; row i is that of the term's first i characters */
    uint8_t term_bytes[DICTIONARY_TERM_MAX];
    size_t term_size;
    uint8_t rows[CHARS_MAX + 1][CHARS_MAX + 1];
};

static uint8_t least(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* Fills in row i > 0; the least of it. Cells further than `edits` from the diagonal are
 * beyond the limit whatever they hold. */
static uint8_t row_fill(struct fuzzy *f, size_t i)
{
    uint8_t beyond = (uint8_t)(f->edits + 1), best = beyond;
    size_t first = i > f->edits ? i - f->edits : 0;
    size_t last = i + f->edits < f->word.count ? i + f->edits : f->word.count;
    uint8_t *row = f->rows[i], *up = f->rows[i - 1];
    uint32_t c = f->term.codes[i - 1];

    if (first > 0) row[first - 1] = beyond;
    for (size_t j = first; j <= last; j++) {
        if (j == 0) {
            row[0] = (uint8_t)i;
            best = least(best, row[0]);
            continue;
        }
        bool same = f->word.codes[j - 1] == c;
        uint8_t cell = (uint8_t)(up[j - 1] + !same);
        cell = least(cell, (uint8_t)(least(up[j], row[j - 1]) + 1));
        bool exchanged = i > 1 && j > 1 && f->word.codes[j - 2] == c &&
                         f->word.codes[j - 1] == f->term.codes[i - 2];
        if (exchanged) cell = least(cell, (uint8_t)(f->rows[i - 2][j - 2] + 1));
        row[j] = least(cell, beyond);
        best = least(best, row[j]);
    }
    if (last < f->word.count) row[last + 1] = beyond;
    return best;
}

/*
 * Takes the term in. *dead: how many of its first bytes no near term begins with, 0 if
 * its distance is known; then *edits is it, at most one beyond the limit.
 */
static void fuzzy_measure(struct fuzzy *f, struct slice term, size_t *dead,
                          uint32_t *edits)
{
    size_t shared = 0, kept = 0;
    while (shared < f->term_size && shared < term.size &&
           f->term_bytes[shared] == term.data[shared])
        shared++;
    while (kept < f->term.count && f->term.ends[kept] <= shared)
        kept++;
    if (kept < f->rows_known) f->rows_known = kept;
    chars_read(&f->term, kept, term);
    memcpy(f->term_bytes, term.data, term.size);
    f->term_size = term.size;

    *dead = 0;
    *edits = f->edits + 1;
    for (size_t i = f->rows_known + 1; i <= f->term.count; i++) {
        uint8_t best = row_fill(f, i);
        f->rows_known = i;
        if (best <= f->edits) continue;
        f->rows_known = i - 1; /* to be found dead again */
        *dead = f->term.ends[i - 1];
        return;
    }
    bool far = f->term.count > f->word.count + f->edits ||
               f->word.count > f->term.count + f->edits;
    if (!far) *edits = f->rows[f->term.count][f->word.count];
}

/* Moves behind the terms that begin as the term at hand does; false at the end. */
static bool pass_over(const struct text_index *t, struct dictionary_walk *w,
                      size_t dead)
{
    uint8_t bytes[DICTIONARY_TERM_MAX];
    memcpy(bytes, w->term, dead);
    struct slice prefix = slice_of(bytes, dead);

    for (size_t i = 0; i < NEAR; i++) {
        if (!dictionary_walk_next(w)) return false;
        if (!slice_starts_with(slice_of(w->term, w->size), prefix)) return true;
    }
    while (dead > 0 && bytes[dead - 1] == 0xff)
        dead--;
    if (dead == 0) return false;
    bytes[dead - 1]++;
    dictionary_walk_seek(&t->dictionary, slice_of(bytes, dead), w);
    return dictionary_walk_next(w);
}

static void fuzzy_init(struct fuzzy *f, struct slice word, uint8_t edits)
{
    f->edits = edits;
    f->rows_known = 0;
    f->term_size = 0;
    f->term.count = 0;
    chars_read(&f->word, 0, word);
    for (size_t j = 0; j <= f->word.count; j++)
        f->rows[0][j] = (uint8_t)(j <= edits ? j : edits + 1u);
}

enum err expand_fuzzy(struct op *op, const struct text_index *t, struct slice word,
                      uint8_t edits, struct expansions *out)
{
    struct dictionary_walk w;

    assert(word.size > 0 && word.size <= DICTIONARY_TERM_MAX);
    assert(edits <= FUZZY_EDITS_MAX);
    struct fuzzy *f = mem_alloc(sizeof *f);
    fuzzy_init(f, word, edits);
    dictionary_walk_seek(&t->dictionary, SLICE_EMPTY, &w);
    bool more = dictionary_walk_next(&w);
    enum err e = ERR_OK;
    for (uint32_t i = 0; more && !e; i++) {
        size_t dead;
        uint32_t distance;
        if (i % TERMS_PER_CHECK == 0) e = op_check(op);
        fuzzy_measure(f, slice_of(w.term, w.size), &dead, &distance);
        if (dead) {
            more = pass_over(t, &w, dead);
            continue;
        }
        size_t length = f->term.count < f->word.count ? f->term.count : f->word.count;
        if (!e && distance <= edits && distance < length)
            e = expansion_add(op, t, &w, distance, length, out);
        more = dictionary_walk_next(&w);
    }
    if (!e && w.damaged) e = damaged(op);
    mem_free(f);
    return e;
}
