#include "text/text_list.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/op.h"
#include "text/text_cursor.h"
#include "text/text_layout.h"

void text_list_release(struct text_list *l)
{
    buf_release(&l->bytes);
    l->count = 0;
}

/* Makes a list of postings by ascending rows. */
static void list_encode(const struct text_index *t, const struct buf *found,
                        struct text_list *out)
{
    const struct posting *postings = (const void *)found->data;
    size_t count = found->size / sizeof *postings;
    int64_t before = -1;

    out->count = (uint32_t)count;
    if (count > POSTINGS_SMALL) {
        postings_encode(postings, count, t->lengths, &out->bytes);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        postings_put(&out->bytes, before, postings[i]);
        before = postings[i].row;
    }
}

/* ---- phrases ---- */

struct phrase_word {
    struct cursor cursor;
    struct positions positions;
    struct position_walk walk;
    uint32_t offset;
    uint32_t position; /* where the walk is; valid unless it has ended */
    bool ended;
};

static int by_count(const void *a, const void *b)
{
    const struct phrase_word *x = a, *y = b;
    return (x->cursor.list.count > y->cursor.list.count) -
           (x->cursor.list.count < y->cursor.list.count);
}

/* *found is false when no row has the term. */
static enum err word_open(struct op *op, const struct text_index *t,
                          const struct text_clause *clause,
                          const struct phrase_term *term, struct phrase_word *w,
                          bool *found)
{
    struct dictionary_entry entry;
    struct postings list;

    *found = false;
    enum dictionary_found in = dictionary_find(&t->dictionary, term->term, &entry);
    if (in == DICTIONARY_ABSENT) return ERR_OK;
    if (in == DICTIONARY_DAMAGED || !text_body_open(t, &entry, &list, &w->positions))
        return op_fail(op, ERR_CORRUPT, "text index: damaged positions of \"%.*s\"",
                       (int)term->term.size, (const char *)term->term.data);
    *found = true;
    w->offset = term->offset;
    return cursor_open(op, &w->cursor, clause, &list);
}

static void word_next(struct phrase_word *w)
{
    w->ended = !position_next(&w->walk, &w->position);
}

/* Moves to the first position that is at least this far. */
static bool word_seek(struct phrase_word *w, uint64_t position)
{
    while (!w->ended && w->position < position)
        word_next(w);
    return !w->ended && w->position == position;
}

/* Where the phrase would begin by the position of the rarest word; false: nowhere. */
static bool phrase_begin(const struct phrase_word *lead, uint64_t *begin)
{
    *begin = (uint64_t)lead->position - lead->offset;
    return lead->position >= lead->offset;
}

/* How often the phrase stands in the row that all cursors are at. */
static enum err phrase_frequency(struct op *op, const struct text_index *t,
                                 struct phrase_word *words, size_t count,
                                 uint32_t *frequency)
{
    bool damaged = false;

    *frequency = 0;
    for (size_t i = 0; i < count; i++) {
        struct cursor *c = &words[i].cursor;
        postings_frequencies(&c->rows);
        if (!text_frequency_fits(t, c->rows.rows[c->at], c->rows.frequencies[c->at]))
            return op_fail(op, ERR_CORRUPT, "text index: damaged frequencies");
        positions_walk(&words[i].positions, c->block, &c->rows, c->at, &words[i].walk);
        word_next(&words[i]);
    }
    for (; !words[0].ended; word_next(&words[0])) {
        uint64_t begin;
        bool match = phrase_begin(&words[0], &begin);
        for (size_t i = 1; match && i < count; i++)
            match = word_seek(&words[i], begin + words[i].offset);
        *frequency += match;
    }
    for (size_t i = 0; i < count; i++)
        damaged |= words[i].walk.damaged;
    return damaged ? op_fail(op, ERR_CORRUPT, "text index: damaged positions") : ERR_OK;
}

/* The next row from `row` on that all words have; UINT32_MAX: none. */
static enum err phrase_row(struct op *op, struct phrase_word *words, size_t count,
                           uint32_t row, uint32_t *out)
{
    uint32_t at = row;
    size_t agreed = 0;

    for (size_t i = 0; agreed < count && at != UINT32_MAX; i = (i + 1) % count) {
        enum err e = cursor_seek(op, &words[i].cursor, at, &row);
        if (e) return e;
        agreed = row == at ? agreed + 1 : 1;
        at = row;
    }
    *out = at;
    return ERR_OK;
}

static enum err phrase_walk(struct op *op, const struct text_index *t,
                            struct phrase_word *words, size_t count, struct buf *found)
{
    uint32_t last_block = UINT32_MAX;

    for (uint32_t row = 0;; row++) {
        struct posting p;
        enum err e = phrase_row(op, words, count, row, &row);
        if (e || row == UINT32_MAX) return e;
        if (words[0].cursor.block != last_block) e = op_check(op);
        last_block = words[0].cursor.block;
        if (!e) e = phrase_frequency(op, t, words, count, &p.frequency);
        if (e) return e;
        p.row = row;
        if (p.frequency > 0) buf_append(found, &p, sizeof p);
    }
}

enum err text_list_phrase(struct op *op, const struct text_index *t,
                          const struct phrase_term *terms, size_t count,
                          struct text_list *out)
{
    static const float no_scores[256];
    const struct text_clause clause = {.index = t, .inverse = no_scores};
    struct buf found = BUF_INIT;
    bool all = true;
    enum err e = ERR_OK;

    assert(count > 0);
    *out = (struct text_list){.count = 0};
    if (!t->has_positions)
        return op_fail(op, ERR_INVALID,
                       "a phrase cannot be searched here: this part of the namespace "
                       "was written by a version without phrases; compact it first");

    struct phrase_word *words = mem_aligned(64, count * sizeof *words);
    for (size_t i = 0; all && !e && i < count; i++)
        e = word_open(op, t, &clause, &terms[i], &words[i], &all);
    if (!e && all) {
        qsort(words, count, sizeof *words, by_count);
        e = phrase_walk(op, t, words, count, &found);
    }
    if (!e) list_encode(t, &found, out);
    mem_free(words);
    buf_release(&found);
    return e;
}

/* ---- unions ---- */

/* Sums by row, and which rows have one: fresh memory costs only where it is touched. */
struct sums {
    uint32_t *frequencies;
    uint64_t *bits;
};

static enum err sums_add(struct op *op, const struct text_index *t, struct slice term,
                         struct postings_block *rows, struct sums *sums)
{
    struct postings list;
    bool found;

    enum err e = text_index_list(op, t, term, &found, &list);
    if (e || !found) return e;
    for (uint32_t block = 0; block < list.block_count; block++) {
        e = op_check(op);
        if (!e && !postings_decode(&list, block, rows))
            e = op_fail(op, ERR_CORRUPT, "text index: damaged postings");
        if (e) return e;
        for (uint32_t i = 0; i < rows->count; i++) {
            uint32_t row = rows->rows[i];
            uint32_t *sum = &sums->frequencies[row];
            sums->bits[row / 64] |= 1ull << row % 64;
            if (__builtin_add_overflow(*sum, rows->frequencies[i], sum))
                *sum = UINT32_MAX;
        }
    }
    return ERR_OK;
}

static void sums_collect(const struct sums *sums, size_t words, struct buf *found)
{
    for (size_t word = 0; word < words; word++)
        for (uint64_t left = sums->bits[word]; left; left &= left - 1) {
            uint32_t row = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left);
            struct posting p = {row, sums->frequencies[row]};
            buf_append(found, &p, sizeof p);
        }
}

enum err text_list_union(struct op *op, const struct text_index *t,
                         const struct slice *terms, size_t count, struct text_list *out)
{
    size_t words = ((size_t)t->row_count + 63) / 64;
    struct sums sums = {mem_new_array(uint32_t, t->row_count),
                        mem_new_array(uint64_t, words)};
    struct postings_block *rows = mem_aligned(64, sizeof *rows);
    struct buf found = BUF_INIT;
    enum err e = ERR_OK;

    *out = (struct text_list){.count = 0};
    for (size_t i = 0; !e && i < count; i++)
        e = sums_add(op, t, terms[i], rows, &sums);
    if (!e) {
        sums_collect(&sums, words, &found);
        list_encode(t, &found, out);
    }
    mem_free(sums.frequencies);
    mem_free(sums.bits);
    mem_free(rows);
    buf_release(&found);
    return e;
}
