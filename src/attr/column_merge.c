/*
 * Merging columns. Keys that are numbers are copied. Where there is a dictionary, those
 * of the inputs are walked side by side (a heap of walks by their strings), which gives
 * each entry that a living row uses its place in the new one; the strings themselves
 * are copied at the end, in one more walk over the places.
 */
#include <assert.h>
#include <string.h>

#include "attr/column.h"
#include "attr/column_format.h"
#include "base/mem.h"
#include "base/merge_heap.h"
#include "base/op.h"

enum {
    UNUSED = UINT32_MAX,
    USED = UINT32_MAX - 1, /* its place is not known yet */
    ROWS_PER_CHECK = 4096
};

/* An entry of an input's dictionary. */
struct origin {
    uint32_t input, code;
};

struct merge {
    struct op *op;
    enum attr_type type;
    bool array;
    const struct column_merge_input *inputs;
    size_t input_count;
    uint32_t row_count, value_count;
    uint64_t *nulls;        /* a bit per new row */
    uint64_t *starts;       /* arrays: as in the column */
    uint64_t *keys;         /* of items */
    uint32_t **places;      /* by input and code: its place among entries, or UNUSED */
    uint32_t *at;           /* by input: the code that its walk is at */
    struct merge_heap heap; /* inputs whose walks are not over, the least first */
    struct buf entries;     /* struct origin, in the order of strings */
    uint64_t dict_size;
};

static enum err damaged(struct op *op, const char *what)
{
    return op_fail(op, ERR_CORRUPT, "column: %s", what);
}

static bool is_null(const struct column *c, uint32_t row)
{
    return column_null_word(c, row / 64) >> row % 64 & 1;
}

/* The items of a row: places among the column's. */
static void items_of(const struct column *c, uint32_t row, uint64_t *first,
                     uint64_t *end)
{
    *first = row;
    *end = (uint64_t)row + 1;
    if (c->array) column_items(c, row, first, end);
}

/* ---- which values ---- */

static enum err use_codes(struct merge *m, size_t input, uint64_t first, uint64_t end)
{
    const struct column *c = m->inputs[input].column;
    for (uint64_t i = first; i < end; i++) {
        uint64_t code = cells_get(&c->items, i);
        if (code >= c->dict_count) return damaged(m->op, "a code without a string");
        m->places[input][code] = USED;
    }
    return ERR_OK;
}

static enum err survey_row(struct merge *m, size_t input, uint32_t row)
{
    const struct column_merge_input *in = &m->inputs[input];
    uint32_t to = in->rows[row];
    uint64_t first, end;

    if (to == COLUMN_ROW_GONE || is_null(in->column, row)) return ERR_OK;
    assert(to < m->row_count);
    items_of(in->column, row, &first, &end);
    m->nulls[to / 64] &= ~((uint64_t)1 << to % 64);
    m->value_count++;
    if (m->array) m->starts[to + 1] = end - first;
    return m->places[input] ? use_codes(m, input, first, end) : ERR_OK;
}

static enum err survey(struct merge *m)
{
    for (size_t input = 0; input < m->input_count; input++) {
        const struct column *c = m->inputs[input].column;
        if (!c) continue;
        if (column_has_dict(m->type)) {
            m->places[input] = mem_alloc(c->dict_count * sizeof(uint32_t));
            memset(m->places[input], 0xff, c->dict_count * sizeof(uint32_t));
        }
        for (uint32_t row = 0; row < c->row_count; row++) {
            enum err e = row % ROWS_PER_CHECK == 0 ? op_check(m->op) : ERR_OK;
            if (!e) e = survey_row(m, input, row);
            if (e) return e;
        }
    }
    for (uint32_t row = 0; m->array && row < m->row_count; row++)
        m->starts[row + 1] += m->starts[row];
    return ERR_OK;
}

/* ---- the dictionary ---- */

static struct slice text_at(const struct merge *m, size_t input)
{
    return column_dict_entry(m->inputs[input].column, m->at[input]);
}

static bool is_before(const void *context, size_t a, size_t b)
{
    const struct merge *m = context;
    return slice_compare(text_at(m, a), text_at(m, b)) < 0;
}

/* Moves a walk to the first used code from `code` on; false at the end. */
static bool walk_to(struct merge *m, size_t input, uint32_t code)
{
    uint32_t count = m->inputs[input].column->dict_count;
    while (code < count && m->places[input][code] == UNUSED)
        code++;
    m->at[input] = code;
    return code < count;
}

static void heap_fill(struct merge *m)
{
    for (size_t input = 0; input < m->input_count; input++)
        if (m->places[input] && walk_to(m, input, 0)) merge_heap_add(&m->heap, input);
}

/* Gives the least string its place, in all inputs that have it. before: the one that
 * was least before. */
static enum err take_least(struct merge *m, struct slice before, struct slice *least)
{
    size_t input = m->heap.walks[0];
    size_t place = m->entries.size / sizeof(struct origin);
    struct origin origin = {(uint32_t)input, m->at[input]};

    *least = text_at(m, input);
    if (place > 0 && slice_compare(before, *least) >= 0)
        return damaged(m->op, "its strings are not in order");
    if (place >= USED) return op_fail(m->op, ERR_LIMIT, "too many distinct values");
    buf_append(&m->entries, &origin, sizeof origin);
    m->dict_size += least->size;
    while (m->heap.count > 0 && slice_equal(text_at(m, m->heap.walks[0]), *least)) {
        input = m->heap.walks[0];
        m->places[input][m->at[input]] = (uint32_t)place;
        merge_heap_next(&m->heap, !walk_to(m, input, m->at[input] + 1));
    }
    return ERR_OK;
}

static enum err merge_dicts(struct merge *m)
{
    struct slice least = SLICE_EMPTY;
    enum err e = ERR_OK;

    heap_fill(m);
    for (uint32_t i = 0; !e && m->heap.count > 0; i++) {
        struct slice before = least;
        if (i % ROWS_PER_CHECK == 0) e = op_check(m->op);
        if (!e) e = take_least(m, before, &least);
    }
    return e;
}

static void put_strings(const struct merge *m, struct buf *out)
{
    const struct origin *entries = (const void *)m->entries.data;
    size_t count = m->entries.size / sizeof *entries;

    if (m->type == ATTR_STRING) {
        uint64_t *ends = mem_new_array(uint64_t, count + 1);
        for (size_t i = 0; i < count; i++)
            ends[i + 1] =
                ends[i] +
                column_dict_entry(m->inputs[entries[i].input].column, entries[i].code)
                    .size;
        cells_encode(ends, count + 1, NULL, out);
        mem_free(ends);
    }
    for (size_t i = 0; i < count; i++)
        buf_append_slice(out, column_dict_entry(m->inputs[entries[i].input].column,
                                                entries[i].code));
}

/* ---- the keys ---- */

static uint64_t key_of(const struct merge *m, size_t input, uint64_t item)
{
    uint64_t key = cells_get(&m->inputs[input].column->items, item);
    return m->places[input] ? m->places[input][key] : key;
}

/* A builder gives nulls the place of the first string that it met. */
static uint64_t filler(const struct merge *m)
{
    uint32_t first = UINT32_MAX;
    uint64_t key = column_filler(m->type);

    for (size_t input = 0; column_has_dict(m->type) && input < m->input_count;
         input++) {
        const struct column_merge_input *in = &m->inputs[input];
        if (!in->column) continue;
        for (uint32_t row = 0; row < in->column->row_count; row++) {
            uint32_t to = in->rows[row];
            if (to == COLUMN_ROW_GONE || is_null(in->column, row)) continue;
            if (to < first) key = key_of(m, input, row);
            if (to < first) first = to;
            break;
        }
    }
    return key;
}

static void copy_keys(struct merge *m, size_t input)
{
    const struct column_merge_input *in = &m->inputs[input];
    for (uint32_t row = 0; row < in->column->row_count; row++) {
        uint32_t to = in->rows[row];
        uint64_t first, end;
        if (to == COLUMN_ROW_GONE || is_null(in->column, row)) continue;
        items_of(in->column, row, &first, &end);
        uint64_t *keys = m->keys + (m->array ? m->starts[to] : to);
        for (uint64_t i = first; i < end; i++)
            *keys++ = key_of(m, input, i);
    }
}

static void make_keys(struct merge *m)
{
    uint64_t count = m->array ? m->starts[m->row_count] : m->row_count;

    m->keys = mem_alloc(count * sizeof *m->keys);
    if (!m->array) {
        uint64_t null = filler(m);
        for (uint64_t i = 0; i < count; i++)
            m->keys[i] = null;
    }
    for (size_t input = 0; input < m->input_count; input++)
        if (m->inputs[input].column) copy_keys(m, input);
}

/* ---- the whole ---- */

static void merge_init(struct merge *m)
{
    size_t words = ((size_t)m->row_count + 63) / 64;

    m->nulls = mem_alloc(words * sizeof *m->nulls);
    memset(m->nulls, 0xff, words * sizeof *m->nulls);
    if (m->row_count % 64) m->nulls[words - 1] >>= 64 - m->row_count % 64;
    if (m->array) m->starts = mem_new_array(uint64_t, (size_t)m->row_count + 1);
    m->places = mem_new_array(uint32_t *, m->input_count);
    m->at = mem_new_array(uint32_t, m->input_count);
    merge_heap_init(&m->heap, m->input_count, is_before, m);
}

static void merge_release(struct merge *m)
{
    for (size_t i = 0; i < m->input_count; i++)
        mem_free(m->places[i]);
    mem_free(m->places);
    mem_free(m->at);
    merge_heap_release(&m->heap);
    mem_free(m->nulls);
    mem_free(m->starts);
    mem_free(m->keys);
    buf_release(&m->entries);
}

static void put(const struct merge *m, bool indexed, struct buf *out)
{
    struct column_content content = {.type = m->type,
                                     .indexed = indexed,
                                     .row_count = m->row_count,
                                     .dict_count = (uint32_t)(m->entries.size /
                                                              sizeof(struct origin)),
                                     .dict_size = m->dict_size,
                                     .nulls = m->value_count < m->row_count ? m->nulls
                                                                            : NULL,
                                     .starts = m->starts,
                                     .keys = m->keys};
    column_content_put(&content, out);
    if (column_has_dict(m->type)) put_strings(m, out);
}

enum err column_merge(struct op *op, enum attr_type type, bool array, bool indexed,
                      const struct column_merge_input *inputs, size_t count,
                      uint32_t row_count, struct buf *out, uint32_t *value_count)
{
    struct merge m = {.op = op,
                      .type = type,
                      .array = array,
                      .inputs = inputs,
                      .input_count = count,
                      .row_count = row_count};

    merge_init(&m);
    enum err e = survey(&m);
    if (!e && column_has_dict(type)) e = merge_dicts(&m);
    if (!e && m.value_count > 0) {
        make_keys(&m);
        put(&m, indexed, out);
    }
    *value_count = m.value_count;
    merge_release(&m);
    return e;
}
