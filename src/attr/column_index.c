#include "attr/column_index.h"

#include <assert.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"

/* A value with a sixteenth of the rows or more is kept as a row set, which takes less
 * than a list then: a bit a row. */
enum { DENSE_PART = 16 };

/* ---- writing ---- */

struct pair {
    uint64_t key;
    uint32_t row;
};

/* Pairs in the order of rows. */
static struct pair *list_pairs(const struct index_source *s, size_t *count)
{
    size_t items = s->starts ? s->starts[s->row_count] : s->row_count;
    struct pair *pairs = mem_new_array(struct pair, items);

    *count = 0;
    for (uint32_t row = 0; row < s->row_count; row++) {
        if (s->nulls && (s->nulls[row / 64] >> row % 64 & 1)) continue;
        size_t first = s->starts ? s->starts[row] : row;
        size_t end = s->starts ? s->starts[row + 1] : row + (size_t)1;
        for (size_t i = first; i < end; i++)
            pairs[(*count)++] = (struct pair){s->keys[i], row};
    }
    return pairs;
}

/* By key; rows of one key stay ascending. Radix sort on the bytes that differ. */
static struct pair *sort_pairs(struct pair *pairs, size_t count)
{
    struct pair *from = pairs, *to = mem_new_array(struct pair, count);
    uint64_t differing = 0;

    for (size_t i = 1; i < count; i++)
        differing |= pairs[i].key ^ pairs[0].key;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t places[257] = {0};
        if (!(differing >> shift & 0xff)) continue;
        for (size_t i = 0; i < count; i++)
            places[(from[i].key >> shift & 0xff) + 1]++;
        for (size_t i = 1; i < 257; i++)
            places[i] += places[i - 1];
        for (size_t i = 0; i < count; i++)
            to[places[from[i].key >> shift & 0xff]++] = from[i];
        struct pair *held = from;
        from = to;
        to = held;
    }
    mem_free(to);
    return from;
}

static size_t drop_repeats(struct pair *pairs, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || pairs[kept - 1].key != pairs[i].key ||
            pairs[kept - 1].row != pairs[i].row)
            pairs[kept++] = pairs[i];
    return kept;
}

/* Growing arrays of u64, in bufs. */
static void put_number(struct buf *b, uint64_t v)
{
    buf_append(b, &v, sizeof v);
}

static size_t number_count(const struct buf *b)
{
    return b->size / sizeof(uint64_t);
}

static void put_cells(const struct buf *numbers, struct buf *out)
{
    cells_encode((const void *)numbers->data, number_count(numbers), NULL, out);
}

struct parts {
    struct buf keys, starts, rows, dense, dense_rows, dense_ends, sets;
};

static void parts_release(struct parts *p)
{
    buf_release(&p->keys);
    buf_release(&p->starts);
    buf_release(&p->rows);
    buf_release(&p->dense);
    buf_release(&p->dense_rows);
    buf_release(&p->dense_ends);
    buf_release(&p->sets);
}

static void add_set(struct parts *p, const struct pair *pairs, size_t count)
{
    uint32_t *rows = mem_new_array(uint32_t, count);
    for (size_t i = 0; i < count; i++)
        rows[i] = pairs[i].row;
    struct rowset *set = rowset_from(rows, count);
    put_number(&p->dense, number_count(&p->keys));
    put_number(&p->dense_rows, count);
    rowset_encode(set, &p->sets);
    put_number(&p->dense_ends, p->sets.size);
    rowset_unref(set);
    mem_free(rows);
}

/* Everything about one value, whose pairs these are. */
static void add_key(struct parts *p, const struct pair *pairs, size_t count,
                    uint32_t row_count)
{
    if (count >= row_count / DENSE_PART + 1)
        add_set(p, pairs, count);
    else
        for (size_t i = 0; i < count; i++)
            put_number(&p->rows, pairs[i].row);
    put_number(&p->keys, pairs[0].key);
    put_number(&p->starts, number_count(&p->rows));
}

void column_index_put(const struct index_source *source, struct buf *out)
{
    struct parts p = {.keys = BUF_INIT};
    size_t count;
    struct pair *pairs = list_pairs(source, &count);

    pairs = sort_pairs(pairs, count);
    count = drop_repeats(pairs, count);
    put_number(&p.starts, 0);
    put_number(&p.dense_ends, 0);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && pairs[end].key == pairs[first].key;)
            end++;
        add_key(&p, pairs + first, end - first, source->row_count);
    }
    mem_free(pairs);
    assert(!source->dict_count || number_count(&p.keys) == source->dict_count);

    put_u32(out, (uint32_t)number_count(&p.keys));
    put_u32(out, (uint32_t)number_count(&p.dense));
    put_u64(out, number_count(&p.rows));
    put_u64(out, p.sets.size);
    if (!source->dict_count) put_cells(&p.keys, out);
    put_cells(&p.starts, out);
    put_cells(&p.rows, out);
    put_cells(&p.dense, out);
    put_cells(&p.dense_rows, out);
    put_cells(&p.dense_ends, out);
    buf_append_slice(out, buf_slice(&p.sets));
    buf_append_zeros(out, -p.sets.size % 8);
    parts_release(&p);
}

/* ---- opening ---- */

bool column_index_get(struct reader *r, uint32_t row_count, bool numbered,
                      uint32_t dict_count, uint64_t least, uint64_t most,
                      struct column_index *out)
{
    struct column_index x = {.row_count = row_count, .numbered = numbered};

    x.key_count = get_u32(r);
    x.dense_count = get_u32(r);
    uint64_t listed = get_u64(r), sets_size = get_u64(r);
    uint64_t last_key = x.key_count ? x.key_count - 1 : 0;
    if (r->failed || x.dense_count > x.key_count) return false;
    if (numbered && x.key_count != dict_count) return false;
    if (!numbered && !cells_open(r, x.key_count, least, most, &x.keys)) return false;
    if (!cells_open(r, (uint64_t)x.key_count + 1, 0, listed, &x.starts) ||
        !cells_open(r, listed, 0, row_count ? row_count - 1 : 0, &x.rows) ||
        !cells_open(r, x.dense_count, 0, last_key, &x.dense) ||
        !cells_open(r, x.dense_count, 0, row_count, &x.dense_rows) ||
        !cells_open(r, (uint64_t)x.dense_count + 1, 0, sets_size, &x.dense_ends))
        return false;
    x.sets = get_bytes(r, sets_size);
    (void)get_bytes(r, -sets_size % 8);
    *out = x;
    return !r->failed;
}

/* ---- finding ---- */

/* The first of count ascending cells that is not below key, from `from` on. */
static uint32_t cells_bound(const struct cells *c, uint32_t from, uint64_t key)
{
    uint64_t low = from, step = 1;
    while (low + step < c->count && cells_get(c, low + step - 1) < key) {
        low += step;
        step *= 2;
    }
    uint64_t high = low + step < c->count ? low + step : c->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (cells_get(c, middle) < key)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint32_t)low;
}

/* The number of the first value from `from` on whose key is not below key. */
static uint32_t number_of(const struct column_index *x, uint32_t from, uint64_t key)
{
    if (!x->numbered) return cells_bound(&x->keys, from, key);
    uint32_t number = key < x->key_count ? (uint32_t)key : x->key_count;
    return number > from ? number : from;
}

static void spans_add(struct spans *s, uint32_t first, uint32_t end)
{
    if (first >= end) return;
    if (s->count > 0 && s->items[s->count - 1].end == first) {
        s->items[s->count - 1].end = end;
        return;
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 16;
        s->items = mem_realloc(s->items, s->capacity * sizeof *s->items);
    }
    s->items[s->count++] = (struct span){first, end};
}

void spans_release(struct spans *s)
{
    mem_free(s->items);
    *s = (struct spans){.items = NULL};
}

static uint32_t after_key(const struct column_index *x, uint32_t from, uint64_t key)
{
    return key == UINT64_MAX ? x->key_count : number_of(x, from, key + 1);
}

static void find_listed(const struct column_index *x, const struct key_set *set,
                        struct spans *out)
{
    uint32_t from = 0;
    for (size_t i = 0; i < set->key_count && from < x->key_count; i++) {
        from = number_of(x, from, set->keys[i]);
        uint32_t end = after_key(x, from, set->keys[i]);
        spans_add(out, from, end);
        from = end;
    }
}

/* Only dictionaries' codes are given as bits alone: they are numbers. */
static void find_bits(const struct column_index *x, const struct key_set *set,
                      struct spans *out)
{
    assert(x->numbered);
    uint64_t end = set->high < x->key_count ? set->high + 1 : x->key_count;
    for (uint64_t number = set->low; number < end; number++) {
        uint64_t bit = number - set->low;
        if (set->bits[bit / 64] >> bit % 64 & 1)
            spans_add(out, (uint32_t)number, (uint32_t)number + 1);
    }
}

static void count_rows(const struct column_index *x, struct spans *s)
{
    for (size_t i = 0; i < s->count; i++) {
        uint64_t first = cells_get(&x->starts, s->items[i].first);
        uint64_t end = cells_get(&x->starts, s->items[i].end);
        s->listed += end > first ? end - first : 0;
    }
    s->rows = s->listed;
    for (size_t i = 0, k = 0; k < x->dense_count; k++) {
        uint64_t number = cells_get(&x->dense, k);
        while (i < s->count && s->items[i].end <= number)
            i++;
        if (i < s->count && s->items[i].first <= number)
            s->rows += cells_get(&x->dense_rows, k);
    }
}

void column_index_find(const struct column_index *x, const struct key_set *set,
                       struct spans *out)
{
    *out = (struct spans){.items = NULL};
    if (set->empty) return;
    if (set->keys) {
        find_listed(x, set, out);
    } else if (set->bits) {
        find_bits(x, set, out);
    } else {
        uint32_t first = number_of(x, 0, set->low);
        spans_add(out, first, after_key(x, first, set->high));
    }
    count_rows(x, out);
}

/* ---- rows ---- */

static enum err dense_set(struct op *op, const struct column_index *x, size_t index,
                          struct rowset **out)
{
    uint64_t start = cells_get(&x->dense_ends, index);
    uint64_t end = cells_get(&x->dense_ends, index + 1);
    struct slice bytes =
        start < end ? slice_of(x->sets.data + start, end - start) : SLICE_EMPTY;
    enum err e = rowset_decode(op, bytes, x->row_count, out);
    return e ? op_fail(op, e, "damaged index") : ERR_OK;
}

uint32_t column_index_number(const struct column_index *x, uint64_t key)
{
    return number_of(x, 0, key);
}

enum err column_index_set(struct op *op, const struct column_index *x, uint32_t number,
                          struct rowset **out)
{
    uint32_t at = cells_bound(&x->dense, 0, number);
    *out = NULL;
    bool frequent = at < x->dense_count && cells_get(&x->dense, at) == number;
    return frequent ? dense_set(op, x, at, out) : ERR_OK;
}

/* Adds the row sets of the spans' frequent values to out. */
static enum err add_dense(struct op *op, const struct column_index *x,
                          const struct spans *spans, struct rowset *out)
{
    for (size_t i = 0, k = 0; k < x->dense_count; k++) {
        uint64_t number = cells_get(&x->dense, k);
        struct rowset *set = NULL;
        while (i < spans->count && spans->items[i].end <= number)
            i++;
        if (i == spans->count) break;
        if (spans->items[i].first > number) continue;
        enum err e = dense_set(op, x, k, &set);
        if (e) return e;
        rowset_or(out, set);
        rowset_unref(set);
    }
    return ERR_OK;
}

/* The listed rows of a span, a block at a time, from *at on. 0 at the end. */
static size_t next_rows(const struct column_index *x, const struct span *span,
                        uint64_t *at, uint64_t rows[CELL_BLOCK])
{
    uint64_t end = cells_get(&x->starts, span->end);
    if (*at >= end) return 0;
    size_t n = end - *at < CELL_BLOCK ? (size_t)(end - *at) : CELL_BLOCK;
    cells_read(&x->rows, *at, n, rows);
    *at += n;
    return n;
}

/* Adds the rows of the spans to the bits of row_count rows. ERR_CORRUPT. */
static enum err add_bits(struct op *op, const struct column_index *x,
                         const struct spans *spans, uint64_t *bits)
{
    uint64_t rows[CELL_BLOCK];

    for (size_t i = 0; i < spans->count; i++) {
        uint64_t at = cells_get(&x->starts, spans->items[i].first);
        enum err e = i % CELL_BLOCK == 0 ? op_check(op) : ERR_OK;
        if (e) return e;
        for (size_t n; (n = next_rows(x, &spans->items[i], &at, rows)) > 0;)
            for (size_t k = 0; k < n; k++)
                bits[rows[k] / 64] |= (uint64_t)1 << rows[k] % 64;
    }
    return ERR_OK;
}

/* Listed rows come by way of bits, unless they are so few that looking over all bits
 * would cost more. */
enum { FEW_PART = 1024 };

static enum err add_listed(struct op *op, const struct column_index *x,
                           const struct spans *spans, struct rowset *out)
{
    size_t words = ((size_t)x->row_count + 63) / 64;
    uint64_t *bits = mem_new_array(uint64_t, words);
    enum err e = add_bits(op, x, spans, bits);
    if (!e) {
        struct rowset *set = rowset_from_bits(bits, words);
        rowset_or(out, set);
        rowset_unref(set);
    }
    mem_free(bits);
    return e;
}

static void add_few(const struct column_index *x, const struct spans *spans,
                    struct rowset *out)
{
    uint64_t rows[CELL_BLOCK];
    for (size_t i = 0; i < spans->count; i++) {
        uint64_t at = cells_get(&x->starts, spans->items[i].first);
        for (size_t n; (n = next_rows(x, &spans->items[i], &at, rows)) > 0;)
            for (size_t k = 0; k < n; k++)
                rowset_add(out, (uint32_t)rows[k]);
    }
}

enum err column_index_collect(struct op *op, const struct column_index *x,
                              const struct spans *spans, struct rowset *out)
{
    enum err e = ERR_OK;
    if (spans->listed <= x->row_count / FEW_PART + 16)
        add_few(x, spans, out);
    else
        e = add_listed(op, x, spans, out);
    return e ? e : add_dense(op, x, spans, out);
}
