/*
 * The dictionaries are walked side by side (a heap of walks by their terms). The
 * postings of one term are an ascending run per input that has it; the runs are joined
 * two by two. What is stored of positions depends on their posting only, so it is
 * copied.
 */
#include "text/text_merge.h"

#include <assert.h>

#include "base/merge_heap.h"
#include "base/op.h"
#include "text/text_layout.h"

enum { TERMS_PER_CHECK = 128, ROOM_SPARE = 256 << 10, ROOM_GAP = 64 };

/* A posting under its new row, and where its numbers are. */
struct entry {
    struct posting posting;
    size_t numbers;
};

struct walk {
    const struct text_merge_input *input;
    struct dictionary_walk terms;
};

struct merge {
    struct op *op;
    struct walk *walks;
    struct merge_heap heap;      /* walks that are at a term, the least term first */
    struct buf entries, other;   /* struct entry */
    struct buf run_ends;         /* size_t, in entries */
    struct buf numbers;          /* uint32_t */
    struct postings_block *rows; /* room */
    uint8_t *lengths;
    struct text_totals totals;
    struct text_term_rooms rooms;
    struct dictionary_writer dictionary;
};

bool text_merge_takes(const struct text_index *t, const struct analysis *analysis)
{
    const struct analysis *a = &t->analysis;
    return t->has_positions && a->language == analysis->language &&
           a->stemming == analysis->stemming &&
           a->remove_stopwords == analysis->remove_stopwords &&
           a->case_sensitive == analysis->case_sensitive &&
           a->ascii_folding == analysis->ascii_folding;
}

static enum err damaged(const struct merge *m)
{
    return op_fail(m->op, ERR_CORRUPT, "text index: damaged lists");
}

/* ---- the least term ---- */

static struct slice walk_term(const struct walk *w)
{
    return slice_of(w->terms.term, w->terms.size);
}

/* By term, then by input, so that runs come in the order of the inputs. */
static bool is_before(const void *context, size_t a, size_t b)
{
    const struct merge *m = context;
    int order = slice_compare(walk_term(&m->walks[a]), walk_term(&m->walks[b]));
    return order ? order < 0 : a < b;
}

/* Moves the first walk on. */
static enum err heap_next(struct merge *m)
{
    struct walk *w = &m->walks[m->heap.walks[0]];
    bool over = !dictionary_walk_next(&w->terms);
    if (over && w->terms.damaged) return damaged(m);
    merge_heap_next(&m->heap, over);
    return ERR_OK;
}

static enum err heap_fill(struct merge *m, const struct text_merge_input *inputs,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct walk *w = &m->walks[i];
        w->input = &inputs[i];
        dictionary_walk_seek(&inputs[i].index->dictionary, SLICE_EMPTY, &w->terms);
        if (dictionary_walk_next(&w->terms)) merge_heap_add(&m->heap, i);
        if (w->terms.damaged) return damaged(m);
    }
    return ERR_OK;
}

/* ---- one term ---- */

/* Copies the numbers of one posting; they are not kept where its row is gone. */
static bool numbers_copy(struct merge *m, struct position_walk *w, uint32_t frequency,
                         bool keep)
{
    uint32_t position;

    w->left = frequency;
    w->next = 0;
    for (uint32_t i = 0; i < frequency; i++) {
        uint64_t least = w->next;
        if (!position_next(w, &position)) return false;
        uint32_t number = (uint32_t)(position - least);
        if (keep) buf_append(&m->numbers, &number, sizeof number);
    }
    return true;
}

/* Appends the postings of a block whose rows stay. */
static bool block_copy(struct merge *m, const struct text_merge_input *input,
                       const struct positions *positions, uint32_t block)
{
    struct position_walk walk;

    positions_walk(positions, block, m->rows, 0, &walk);
    for (uint32_t i = 0; i < m->rows->count; i++) {
        uint32_t row = input->rows[m->rows->rows[i]];
        struct entry e = {{row, m->rows->frequencies[i]},
                          m->numbers.size / sizeof(uint32_t)};
        bool keep = row != TEXT_ROW_GONE;
        if (!text_frequency_fits(input->index, m->rows->rows[i], e.posting.frequency) ||
            !numbers_copy(m, &walk, e.posting.frequency, keep))
            return false;
        if (keep) buf_append(&m->entries, &e, sizeof e);
    }
    return true;
}

/* The run of the term that the walk is at. */
static enum err run_copy(struct merge *m, const struct walk *w)
{
    struct postings list;
    struct positions positions;

    const struct dictionary_entry entry = {w->terms.body, w->terms.lists};
    if (!text_body_open(w->input->index, &entry, &list, &positions)) return damaged(m);
    for (uint32_t block = 0; block < list.block_count; block++)
        if (!postings_decode(&list, block, m->rows) ||
            !block_copy(m, w->input, &positions, block))
            return damaged(m);
    size_t end = m->entries.size / sizeof(struct entry);
    buf_append(&m->run_ends, &end, sizeof end);
    return ERR_OK;
}

/* Joins [first, middle) and [middle, end) of from, both ascending. */
static void runs_join(const struct entry *from, size_t first, size_t middle, size_t end,
                      struct entry *to)
{
    size_t a = first, b = middle;
    for (size_t i = first; i < end; i++) {
        bool left =
            b == end || (a < middle && from[a].posting.row < from[b].posting.row);
        to[i] = left ? from[a++] : from[b++];
    }
}

/* Joins the runs two by two until one is left. */
static void entries_sort(struct merge *m)
{
    size_t *ends = (void *)m->run_ends.data;
    size_t runs = m->run_ends.size / sizeof *ends;

    while (runs > 1) {
        size_t joined = 0, first = 0;
        buf_clear(&m->other);
        buf_reserve(&m->other, m->entries.size);
        for (size_t i = 0; i < runs; i += 2) {
            size_t end = i + 1 < runs ? ends[i + 1] : ends[i];
            runs_join((const void *)m->entries.data, first, ends[i], end,
                      (void *)m->other.data);
            first = ends[joined++] = end;
        }
        m->other.size = m->entries.size;
        struct buf swapped = m->entries;
        m->entries = m->other;
        m->other = swapped;
        runs = joined;
    }
}

static void term_write(struct merge *m, struct slice term, struct buf *positions)
{
    const struct entry *entries = (const void *)m->entries.data;
    const uint32_t *numbers = (const void *)m->numbers.data;
    size_t count = m->entries.size / sizeof *entries;
    size_t number_count = m->numbers.size / sizeof *numbers, at = 0;

    if (count == 0) return;
    text_term_reserve(&m->rooms, count, number_count);
    for (size_t i = 0; i < count; i++) {
        uint32_t frequency = entries[i].posting.frequency;
        assert(i == 0 || entries[i - 1].posting.row < entries[i].posting.row);
        m->rooms.postings[i] = entries[i].posting;
        memcpy(m->rooms.numbers + at, numbers + entries[i].numbers,
               frequency * sizeof *numbers);
        at += frequency;
    }
    text_term_write(&m->rooms, term, (uint32_t)count, number_count, m->lengths,
                    positions, &m->dictionary);
    m->totals.total_length += number_count;
    m->totals.term_count++;
}

/* Takes the least term off all walks that are at it, and writes it. */
static enum err term_merge(struct merge *m, struct buf *positions)
{
    uint8_t bytes[DICTIONARY_TERM_MAX];
    struct slice first = walk_term(&m->walks[m->heap.walks[0]]);
    struct slice term = slice_of(bytes, first.size);

    memcpy(bytes, first.data, first.size);
    buf_clear(&m->entries);
    buf_clear(&m->numbers);
    buf_clear(&m->run_ends);
    while (m->heap.count > 0 &&
           slice_equal(walk_term(&m->walks[m->heap.walks[0]]), term)) {
        enum err e = run_copy(m, &m->walks[m->heap.walks[0]]);
        if (!e) e = heap_next(m);
        if (e) return e;
    }
    entries_sort(m);
    term_write(m, term, positions);
    return ERR_OK;
}

/* ---- the whole ---- */

static void lengths_copy(struct merge *m, const struct text_merge_input *input)
{
    for (uint32_t row = 0; row < input->index->row_count; row++) {
        uint32_t to = input->rows[row];
        if (to == TEXT_ROW_GONE) continue;
        assert(to < m->totals.row_count);
        m->lengths[to] = input->index->lengths[row];
        m->totals.document_count += m->lengths[to] > 0;
    }
}

static void merge_release(struct merge *m)
{
    mem_free(m->walks);
    merge_heap_release(&m->heap);
    mem_free(m->rows);
    mem_free(m->lengths);
    buf_release(&m->entries);
    buf_release(&m->other);
    buf_release(&m->run_ends);
    buf_release(&m->numbers);
    text_term_release(&m->rooms);
    dictionary_writer_release(&m->dictionary);
}

/* Lists of several inputs as one are seldom larger than they were, and never much. */
static struct buf cut(struct buf_room *room, uint64_t input_bytes)
{
    return buf_cut(room, (size_t)(input_bytes + input_bytes / 8 + ROOM_SPARE));
}

uint64_t text_merge_room(uint64_t input_bytes)
{
    return input_bytes + input_bytes / 8 + (uint64_t)(ROOM_SPARE + ROOM_GAP);
}

static void rooms_cut(struct merge *m, const struct text_merge_input *inputs,
                      size_t count, struct buf_room *room)
{
    uint64_t chunks = 0;
    for (size_t i = 0; i < count; i++) {
        chunks += inputs[i].index->postings.size;
        chunks += inputs[i].index->dictionary.pages.size;
    }
    m->dictionary.pages = cut(room, chunks);
}

enum err text_merge(struct op *op, const struct analysis *analysis,
                    const struct text_merge_input *inputs, size_t count,
                    uint32_t row_count, struct buf_room *room, struct buf *out,
                    struct buf *positions)
{
    struct merge m = {.op = op};

    rooms_cut(&m, inputs, count, room);
    m.walks = mem_new_array(struct walk, count);
    merge_heap_init(&m.heap, count, is_before, &m);
    m.rows = mem_aligned(64, sizeof *m.rows);
    m.lengths = mem_new_array(uint8_t, row_count);
    m.totals.row_count = row_count;
    for (size_t i = 0; i < count; i++) {
        assert(text_merge_takes(inputs[i].index, analysis));
        lengths_copy(&m, &inputs[i]);
    }
    enum err e = heap_fill(&m, inputs, count);
    for (uint32_t i = 0; !e && m.heap.count > 0; i++) {
        if (i % TERMS_PER_CHECK == 0) e = op_check(op);
        if (!e) e = term_merge(&m, positions);
    }
    if (!e) text_layout_write(analysis, &m.totals, m.lengths, &m.dictionary, out);
    merge_release(&m);
    return e;
}
