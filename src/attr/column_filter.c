/*
 * column_filter.c - which rows of a column meet a condition.
 *
 * A condition becomes a set of keys, once: an interval for comparisons and prefixes (by
 * binary search in the dictionary where there is one), a bitmap or a sorted list for
 * lists, a bitmap over the dictionary for globs and substrings, whose text is matched
 * once per distinct value. Then blocks of cells are scanned for keys of the set; most
 * are decided by their bounds. ne and not_in are the complement of eq and in.
 */
#include "attr/column.h"

#include <assert.h>

#include "attr/column_format.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "doc/filter.h"

/* ---- rows out ---- */

/* A bit for every row of a column. */
static uint64_t *rows_new(const struct column *c)
{
    return mem_new_array(uint64_t, ((size_t)c->row_count + 63) / 64);
}

/* Moves the rows into out and frees them. */
static void rows_finish(const struct column *c, uint64_t *rows, struct rowset *out)
{
    struct rowset *set = rowset_from_bits(rows, ((size_t)c->row_count + 63) / 64);
    rowset_or(out, set);
    rowset_unref(set);
    mem_free(rows);
}

void column_nulls(const struct column *c, struct rowset *out)
{
    if (!c->nulls) return;
    uint64_t *rows = rows_new(c);
    memcpy(rows, c->nulls, ((size_t)c->row_count + 63) / 64 * sizeof *rows);
    rows_finish(c, rows, out);
}

/* ---- conditions as key sets ---- */

/* A key set and the memory it stands on, if any. */
struct wanted {
    struct key_set set;
    uint64_t *keys, *bits;
    struct key_table table;
};

static void wanted_release(struct wanted *w)
{
    mem_free(w->keys);
    mem_free(w->bits);
    mem_free(w->table.slots);
}

/* Lists whose keys lie closer than this are looked up in a bitmap: 128 KiB at most. */
enum { BITMAP_SPAN_MAX = 1 << 20 };

static const struct key_set nothing = {.empty = true};

static struct key_set interval(uint64_t low, uint64_t high)
{
    return (struct key_set){.low = low, .high = high};
}

/* Codes [first, end). */
static struct key_set codes(uint64_t first, uint64_t end)
{
    return first < end ? interval(first, end - 1) : nothing;
}

static struct slice scalar_text(const struct column *c, const union scalar *v)
{
    return c->type == ATTR_UUID ? slice_of(v->uuid, sizeof v->uuid) : v->s;
}

/* The first code from low on whose text does not start with prefix. */
static uint64_t dict_prefix_end(const struct column *c, struct slice prefix,
                                uint64_t low)
{
    uint64_t high = c->dict_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (slice_starts_with(column_dict_entry(c, middle), prefix))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct key_set dict_prefix(const struct column *c, struct slice prefix)
{
    uint64_t first = column_dict_bound(c, prefix, false);
    return codes(first, dict_prefix_end(c, prefix, first));
}

/* The keys that stand for one value: one, or the two zeros of a float, or none. */
static struct key_set keys_of(const struct column *c, const union scalar *v)
{
    if (column_has_dict(c->type)) {
        struct slice text = scalar_text(c, v);
        return codes(column_dict_bound(c, text, false),
                     column_dict_bound(c, text, true));
    }
    uint64_t key = column_key(c->type, v);
    if (c->type != ATTR_FLOAT || v->f < 0 || v->f > 0) return interval(key, key);
    union scalar minus_zero = {.f = -0.0}, zero = {.f = 0.0};
    return interval(column_key(ATTR_FLOAT, &minus_zero), column_key(ATTR_FLOAT, &zero));
}

/* Keys on the wanted side of a value that has keys, itself among them or not. */
static struct key_set side_of(enum filter_op op, const struct key_set *value)
{
    switch (op) {
    case FILTER_GT:
        return value->high < UINT64_MAX ? interval(value->high + 1, UINT64_MAX)
                                        : nothing;
    case FILTER_GTE: return interval(value->low, UINT64_MAX);
    case FILTER_LT: return value->low > 0 ? interval(0, value->low - 1) : nothing;
    default: return interval(0, value->high);
    }
}

static struct key_set compared(const struct column *c, const struct filter *f)
{
    const union scalar *v = &f->values[0];
    if (!column_has_dict(c->type)) {
        struct key_set value = keys_of(c, v);
        return side_of(f->op, &value);
    }
    bool after = f->op == FILTER_GT || f->op == FILTER_LTE;
    uint64_t bound = column_dict_bound(c, scalar_text(c, v), after);
    bool upward = f->op == FILTER_GT || f->op == FILTER_GTE;
    return upward ? codes(bound, c->dict_count) : codes(0, bound);
}

/* The keys of all listed values: ascending, because the values and their keys are. */
static void list_keys(const struct column *c, const struct filter *f, struct wanted *w)
{
    uint64_t *keys = mem_new_array(uint64_t, 2 * f->value_count);
    size_t count = 0;

    for (size_t i = 0; i < f->value_count; i++) {
        struct key_set one = keys_of(c, &f->values[i]);
        if (one.empty) continue;
        keys[count++] = one.low;
        if (one.high > one.low) keys[count++] = one.high;
    }
    w->keys = keys;
    w->set = nothing;
    if (count == 0) return;
    w->set = (struct key_set){.low = keys[0],
                              .high = keys[count - 1],
                              .keys = keys,
                              .key_count = count};
}

/* Listed keys as something that is asked in constant time, for scans. */
static void wanted_hasten(const struct column *c, struct wanted *w)
{
    uint64_t low = w->set.low, span = w->set.high - low;
    if (!w->set.keys) return;
    if (span == w->set.key_count - 1) { /* without a gap */
        w->set = interval(low, w->set.high);
        return;
    }
    /* A dictionary's codes always get bits: they take no more than the dictionary. */
    if (!column_has_dict(c->type) && span >= BITMAP_SPAN_MAX) {
        key_table_make(w->set.keys, w->set.key_count, &w->table);
        w->set.table = &w->table;
        return;
    }
    w->bits = mem_new_array(uint64_t, span / 64 + 1);
    for (size_t i = 0; i < w->set.key_count; i++) {
        uint64_t index = w->set.keys[i] - low;
        w->bits[index / 64] |= (uint64_t)1 << index % 64;
    }
    w->set.bits = w->bits;
}

/* The text before the first character that is special in a glob. */
static struct slice glob_prefix(struct slice pattern)
{
    size_t size = 0;
    while (size < pattern.size && !strchr("*?[\\", pattern.data[size]))
        size++;
    return slice_of(pattern.data, size);
}

/* Asks filter_scalar once per distinct value, among those that can match at all. */
static enum err matched_codes(struct op *op, const struct column *c,
                              const struct filter *f, struct wanted *w)
{
    struct slice prefix =
        f->op == FILTER_GLOB ? glob_prefix(f->values[0].s) : SLICE_EMPTY;
    struct key_set range = dict_prefix(c, prefix);

    w->set = range;
    if (range.empty) return ERR_OK;
    w->bits = mem_new_array(uint64_t, (range.high - range.low) / 64 + 1);
    w->set.bits = w->bits;
    for (uint64_t code = range.low; code <= range.high; code++) {
        uint64_t index = code - range.low;
        enum err e = index % CELL_BLOCK == 0 ? op_check(op) : ERR_OK;
        if (e) return e;
        union scalar v = {.s = column_dict_entry(c, code)};
        if (filter_scalar(f, &v)) w->bits[index / 64] |= (uint64_t)1 << index % 64;
    }
    return ERR_OK;
}

/* The keys that make the condition true; for ne and not_in, those that make it false.
 */
static enum err wanted_keys(struct op *op, const struct column *c,
                            const struct filter *f, struct wanted *w)
{
    switch (f->op) {
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE: w->set = compared(c, f); return ERR_OK;
    case FILTER_PREFIX: w->set = dict_prefix(c, f->values[0].s); return ERR_OK;
    case FILTER_GLOB: return matched_codes(op, c, f, w);
    case FILTER_CONTAINS:
        if (!c->array) return matched_codes(op, c, f, w);
        break;
    default: break;
    }
    if (f->value_count == 1)
        w->set = keys_of(c, &f->values[0]);
    else
        list_keys(c, f, w);
    return ERR_OK;
}

/* ---- scans ---- */

/* cells_match, but for MATCH_ALL too every cell of the block has its bit. */
static enum match match_block(const struct cells *c, uint64_t block,
                              const struct key_set *set, uint64_t bits[CELL_WORDS])
{
    enum match match = cells_match(c, block, set, bits);
    size_t count = cells_in_block(c, block);
    if (match != MATCH_ALL) return match;
    for (size_t i = 0; i < CELL_WORDS; i++) {
        size_t before = i * 64;
        size_t here = count <= before ? 0 : count - before < 64 ? count - before : 64;
        bits[i] = here == 64 ? UINT64_MAX : ((uint64_t)1 << here) - 1;
    }
    return match;
}

/* Rows of a scalar column that are not null and whose key is in the set. */
static enum err scan_rows(struct op *op, const struct column *c,
                          const struct key_set *set, uint64_t *rows)
{
    for (uint64_t block = 0; block < cells_block_count(&c->items); block++) {
        uint64_t bits[CELL_WORDS], first = block * CELL_WORDS;
        size_t words = (cells_in_block(&c->items, block) + 63) / 64;

        enum err e = op_check(op);
        if (e) return e;
        if (match_block(&c->items, block, set, bits) == MATCH_NONE) continue;
        for (size_t i = 0; i < words; i++)
            rows[first + i] = bits[i] & ~column_null_word(c, first + i);
    }
    return ERR_OK;
}

/* The first row from `row` on whose items end behind `item`: doubling steps, then a
 * binary search, because the next row that matters is mostly near. */
static uint64_t row_of_item(const struct column *c, uint64_t row, uint64_t item)
{
    uint64_t low = row, step = 1;
    while (low + step < c->row_count && cells_get(&c->starts, low + step) <= item) {
        low += step;
        step *= 2;
    }
    uint64_t high = low + step < c->row_count ? low + step : c->row_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (cells_get(&c->starts, middle + 1) <= item)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/*
 * The rows of a block's items whose bits are set; *row is where to search from and
 * moves on. Every item belongs to a row, unless damage says otherwise.
 */
static void rows_of_items(const struct column *c, uint64_t first_item,
                          const uint64_t bits[CELL_WORDS], uint64_t *row,
                          uint64_t *rows)
{
    for (size_t word = 0; word < CELL_WORDS; word++)
        for (uint64_t left = bits[word]; left; left &= left - 1) {
            uint64_t item = first_item + word * 64 + (uint64_t)__builtin_ctzll(left);
            *row = row_of_item(c, *row, item);
            if (*row == c->row_count) return;
            rows[*row / 64] |= (uint64_t)1 << *row % 64;
        }
}

/* Rows of an array column with an item whose key is in the set. */
static enum err scan_items(struct op *op, const struct column *c,
                           const struct key_set *set, uint64_t *rows)
{
    uint64_t row = 0;
    for (uint64_t block = 0; block < cells_block_count(&c->items); block++) {
        uint64_t bits[CELL_WORDS];
        enum err e = op_check(op);
        if (e) return e;
        if (match_block(&c->items, block, set, bits) == MATCH_NONE) continue;
        rows_of_items(c, block * CELL_BLOCK, bits, &row, rows);
    }
    return ERR_OK;
}

static enum err scan(struct op *op, const struct column *c, struct wanted *w,
                     struct rowset *out)
{
    if (w->set.empty) return ERR_OK;
    wanted_hasten(c, w);
    uint64_t *rows = rows_new(c);
    enum err e =
        c->array ? scan_items(op, c, &w->set, rows) : scan_rows(op, c, &w->set, rows);
    rows_finish(c, rows, out);
    return e;
}

/* ---- the index ---- */

/*
 * Is the index quicker than a scan? Measured: a listed row costs about LISTED_COST rows
 * of a scan (it sets a bit somewhere), a row set about DENSE_COST for every row there
 * is.
 */
enum { LISTED_COST = 8 };

static bool index_is_quicker(const struct column *c, const struct spans *spans)
{
    return spans->listed * LISTED_COST <= c->items.count;
}

/* Rows with one of the keys, from the index or by a scan. */
static enum err rows_of_keys(struct op *op, const struct column *c, struct wanted *w,
                             struct rowset *out)
{
    struct spans spans;
    if (!c->indexed) return scan(op, c, w, out);

    column_index_find(&c->index, &w->set, &spans);
    enum err e = index_is_quicker(c, &spans)
                     ? column_index_collect(op, &c->index, &spans, out)
                     : scan(op, c, w, out);
    spans_release(&spans);
    return e;
}

/* ---- contains_all ---- */

/* The listed values, each as the interval of its keys, and who was met in which row. */
struct checklist {
    struct key_set *values; /* ascending, disjoint, none empty */
    uint64_t *met_in;       /* row + 1 */
    size_t count;
};

/* Does the row hold every listed value? Items in any order, repeated or not. */
static bool row_has_all(const struct column *c, uint32_t row, struct checklist *list)
{
    uint64_t first, end;
    size_t met = 0;

    column_items(c, row, &first, &end);
    if (end - first < list->count) return false;
    for (uint64_t i = first; i < end && met < list->count; i++) {
        uint64_t key = cells_get(&c->items, i);
        size_t low = 0, high = list->count;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (list->values[middle].high < key)
                low = middle + 1;
            else
                high = middle;
        }
        if (low == list->count || key < list->values[low].low) continue;
        if (list->met_in[low] == (uint64_t)row + 1) continue;
        list->met_in[low] = (uint64_t)row + 1;
        met++;
    }
    return met == list->count;
}

/* Those of the candidates that hold every listed value. */
static enum err keep_rows_with_all(struct op *op, const struct column *c,
                                   const struct rowset *candidates,
                                   struct checklist *list, struct rowset *out)
{
    uint32_t rows[CELL_BLOCK], from = 0;
    for (;;) {
        enum err e = op_check(op);
        if (e) return e;
        size_t count = rowset_read(candidates, from, rows, CELL_BLOCK);
        for (size_t i = 0; i < count; i++)
            if (row_has_all(c, rows[i], list)) rowset_add(out, rows[i]);
        if (count < CELL_BLOCK) return ERR_OK;
        from = rows[count - 1] + 1;
    }
}

/* The rows that hold the rarest of the values; the first one without an index. */
static enum err rows_of_rarest(struct op *op, const struct column *c,
                               const struct checklist *list, struct rowset *out)
{
    struct wanted w = {.set = list->values[0]};
    uint64_t fewest = UINT64_MAX;
    for (size_t i = 0; c->indexed && i < list->count; i++) {
        struct spans spans;
        column_index_find(&c->index, &list->values[i], &spans);
        if (spans.rows < fewest) {
            fewest = spans.rows;
            w.set = list->values[i];
        }
        spans_release(&spans);
    }
    return rows_of_keys(op, c, &w, out);
}

static enum err contains_all(struct op *op, const struct column *c,
                             const struct filter *f, struct rowset *out)
{
    struct checklist list = {mem_new_array(struct key_set, f->value_count),
                             mem_new_array(uint64_t, f->value_count), f->value_count};
    struct rowset *candidates = rowset_new();
    bool possible = true;
    enum err e = ERR_OK;

    for (size_t i = 0; i < f->value_count; i++) {
        list.values[i] = keys_of(c, &f->values[i]);
        possible &= !list.values[i].empty;
    }
    if (possible) e = rows_of_rarest(op, c, &list, candidates);
    if (possible && !e) e = keep_rows_with_all(op, c, candidates, &list, out);
    rowset_unref(candidates);
    mem_free(list.values);
    mem_free(list.met_in);
    return e;
}

/* ---- conditions ---- */

/* Rows with one of the keys that wanted_keys names. */
static enum err rows_with_keys(struct op *op, const struct column *c,
                               const struct filter *f, struct rowset *out)
{
    struct wanted w = {.keys = NULL};
    enum err e = wanted_keys(op, c, f, &w);
    if (!e) e = rows_of_keys(op, c, &w, out);
    wanted_release(&w);
    return e;
}

/* Is every value that is not null answered alike, whatever it is? */
static bool asks_for_any_value(const struct filter *f)
{
    return f->op == FILTER_EXISTS ||
           (f->op == FILTER_CONTAINS_ALL && f->value_count == 0);
}

enum err column_filter(struct op *op, const struct column *c, const struct filter *f,
                       struct rowset *out)
{
    enum err e = ERR_OK;

    assert(f->type == c->type && f->array == c->array);
    assert(rowset_count(out) == 0);
    if (asks_for_any_value(f)) {
        column_nulls(c, out);
        if (f->op != FILTER_EXISTS || f->exists) rowset_flip(out, c->row_count);
        return ERR_OK;
    }
    if (f->op == FILTER_CONTAINS_ALL)
        e = contains_all(op, c, f, out);
    else
        e = rows_with_keys(op, c, f, out);
    if (e) return e;
    if (f->with_null) column_nulls(c, out);
    if (f->op == FILTER_NE || f->op == FILTER_NOT_IN) rowset_flip(out, c->row_count);
    return ERR_OK;
}

/* ---- among few rows ---- */

enum err column_filter_among(struct op *op, const struct column *c,
                             const struct filter *f, enum truth wanted,
                             const struct rowset *among, struct rowset *out)
{
    uint32_t rows[CELL_BLOCK], from = 0;
    struct op scratch; /* the items of arrays, which go with each chunk */
    enum err e = ERR_OK;

    assert(f->type == c->type && f->array == c->array);
    for (size_t n; !e && (n = rowset_read(among, from, rows, CELL_BLOCK)) > 0;
         from = rows[n - 1] + 1) {
        op_init(&scratch, OP_NO_DEADLINE, 0);
        e = op_check(op);
        for (size_t i = 0; i < n && !e; i++) {
            struct value v;
            e = column_value(&scratch, c, rows[i], &v);
            if (!e && filter_value(f, &v) == wanted) rowset_add(out, rows[i]);
        }
        op_release(&scratch);
    }
    return e;
}

/* ---- estimates ---- */

enum { LIST_MAX = 256, DICT_COST = 16 };

/* By the rows of a sample that meet the condition; half a row if none does. */
static enum err estimate_by_sample(struct op *op, const struct column *c,
                                   const struct filter *f, uint32_t sample,
                                   struct column_estimate *out)
{
    uint32_t count = c->row_count < sample ? c->row_count : sample;
    uint64_t met = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct value v;
        uint32_t row = (uint32_t)((uint64_t)c->row_count * (2 * i + 1) / (2 * count));
        enum err e = column_value(op, c, row, &v);
        if (e) return e;
        met += filter_value(f, &v) == TRUTH_TRUE;
    }
    if (count == 0)
        out->rows = c->row_count / 2;
    else
        out->rows = met ? met * c->row_count / count : c->row_count / (2 * count);
    out->scan_rows = c->items.count;
    bool by_text = f->op == FILTER_GLOB || (f->op == FILTER_CONTAINS && !c->array);
    if (by_text) out->scan_rows += (uint64_t)c->dict_count * DICT_COST;
    return ERR_OK;
}

/* Conditions that name their keys without a look at every distinct value. */
static bool asks_for_keys(const struct filter *f)
{
    switch (f->op) {
    case FILTER_GLOB:
    case FILTER_CONTAINS_ALL:
    case FILTER_EXISTS: return false;
    case FILTER_CONTAINS: return f->array;
    default: return f->value_count <= LIST_MAX;
    }
}

uint64_t column_index_cost(uint64_t rows, uint64_t row_count)
{
    uint64_t listed = rows * LISTED_COST + row_count / 64;
    return rows * LISTED_COST <= row_count ? listed : row_count;
}

enum err column_estimate(struct op *op, const struct column *c, const struct filter *f,
                         uint32_t sample, struct column_estimate *out)
{
    struct wanted w = {.keys = NULL};
    struct spans spans;

    *out = (struct column_estimate){.rows = 0};
    if (!c->indexed || !asks_for_keys(f) || f->with_null)
        return estimate_by_sample(op, c, f, sample, out);
    enum err e = wanted_keys(op, c, f, &w);
    if (!e) {
        column_index_find(&c->index, &w.set, &spans);
        out->indexed = index_is_quicker(c, &spans);
        out->exact = !c->array;
        out->rows = spans.rows < c->row_count ? spans.rows : c->row_count;
        out->scan_rows = out->indexed ? spans.listed * LISTED_COST + c->row_count / 64
                                      : c->items.count;
        if (f->op == FILTER_NE || f->op == FILTER_NOT_IN)
            out->rows = c->row_count - out->rows;
        spans_release(&spans);
    }
    wanted_release(&w);
    return e;
}
