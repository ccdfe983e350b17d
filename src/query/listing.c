/*
 * Documents in the order of an attribute or of their ids, without a score.
 *
 * Within a source values are compared by their column's keys; across sources by value.
 * Where the attribute has an index and enough rows are allowed, the rows are taken in
 * its order until there are as many as are wanted. Else all of them are looked at, but
 * for blocks whose bounds lie behind what was found so far: each source gathers its own
 * first rows, up to twice as many as are wanted, and a block more, then the list is
 * sorted and cut, and its last row is the bar for those that follow. Rows in the order
 * of ids need no more than the first ones that are allowed.
 */
#include <stdlib.h>
#include <string.h>

#include "attr/column.h"
#include "base/op.h"
#include "base/rowset.h"
#include "query/exec.h"

/* A row's place among those of its source: nulls last, then sort, then id. */
struct entry {
    uint64_t sort; /* its key, turned when descending */
    uint32_t row;
    bool null;
};

struct listing {
    struct exec *x;
    bool by_attr, descending;
    size_t wanted;         /* of the source at hand */
    struct entry *entries; /* room for 2 * wanted + COLUMN_BLOCK */
    size_t count;
    bool full; /* bar is the last of `wanted` rows */
    struct entry bar;

    /* of the source at hand */
    uint32_t source;
    const struct column *column; /* NULL: all rows are null */
    struct entry after;          /* the place to go on from, in this column's keys */
    bool after_equal;            /* a row with its key has its value */
};

static const struct query *query_of(const struct listing *l)
{
    return l->x->query;
}

/* Of two rows, does the greater id come first? */
static bool is_backward(const struct listing *l)
{
    return !l->by_attr && l->descending;
}

static int compare_ids(const struct listing *l, uint32_t a, uint32_t b)
{
    struct hit x = {.source = l->source, .row = a}, y = {.source = l->source, .row = b};
    int order = exec_compare_ids(l->x->snapshot, &x, &y);
    return is_backward(l) ? -order : order;
}

/* Without ids: <0, 0, >0. */
static int compare_sorts(const struct entry *a, const struct entry *b)
{
    if (a->null != b->null) return a->null ? 1 : -1;
    return (a->sort > b->sort) - (a->sort < b->sort);
}

static int compare_entries(const void *a, const void *b, void *listing)
{
    const struct entry *x = a, *y = b;
    int order = compare_sorts(x, y);
    return order ? order : compare_ids(listing, x->row, y->row);
}

static uint64_t sort_of(const struct listing *l, uint64_t key)
{
    return l->descending ? ~key : key;
}

static struct entry entry_of(const struct listing *l, uint32_t row)
{
    struct entry entry = {.row = row, .null = l->by_attr};
    uint64_t key;
    if (l->column && column_key_at(l->column, row, &key)) {
        entry.null = false;
        entry.sort = sort_of(l, key);
    }
    return entry;
}

/* ---- places ---- */

/* Is the row behind the place that the listing goes on from? */
static bool is_behind(const struct listing *l, const struct entry *entry)
{
    const struct query_place *after = query_of(l)->after;
    if (!after) return true;

    int order = compare_sorts(entry, &l->after);
    /* The key at hand is that of the next greater value: it lies behind ascending, and
     * descending before, where keys were asked for from above. */
    if (order == 0 && !l->after_equal) order = l->descending ? -1 : 1;
    if (order) return order > 0;
    struct doc_id id =
        segment_id(l->x->snapshot->sources[l->source].segment, entry->row);
    int ids = doc_id_compare(&id, &after->id);
    return is_backward(l) ? ids < 0 : ids > 0;
}

static void source_start(struct listing *l, uint32_t source)
{
    const struct query *q = query_of(l);

    l->source = source;
    l->count = 0;
    l->full = false;
    l->column = l->by_attr ? exec_column(l->x, source, q->order_attr) : NULL;
    if (!q->after) return;
    l->after_equal = true;
    l->after = (struct entry){.null = l->by_attr && q->after->value.null};
    if (!l->column || l->after.null) return;
    uint64_t key = column_key_from(l->column, &q->after->value.one, &l->after_equal);
    l->after.sort = sort_of(l, key);
}

/* ---- gathering ---- */

static void cut(struct listing *l)
{
    qsort_r(l->entries, l->count, sizeof *l->entries, compare_entries, l);
    if (l->count < l->wanted) return;
    l->count = l->wanted;
    l->full = true;
    l->bar = l->entries[l->count - 1];
}

/* Can no row of the block come before the bar? Its rows lie behind the bar's, so equal
 * values have greater ids. */
static bool is_hopeless(const struct listing *l, uint32_t block)
{
    uint64_t least, most;
    if (!l->full || l->bar.null || !l->column) return false;
    column_block_keys(l->column, block, &least, &most);
    return sort_of(l, l->descending ? most : least) >= l->bar.sort;
}

static void consider(struct listing *l, uint32_t row)
{
    struct entry entry = entry_of(l, row);
    if (l->full && compare_entries(&entry, &l->bar, l) > 0) return;
    if (is_behind(l, &entry)) l->entries[l->count++] = entry;
}

/* Does the whole window lie before the place to go on from? Rows ascend by id. */
static bool is_passed(const struct listing *l, uint32_t first, uint32_t end)
{
    const struct query_place *after = query_of(l)->after;
    if (!after || l->by_attr) return false;
    const struct segment *s = l->x->snapshot->sources[l->source].segment;
    struct doc_id id = segment_id(s, l->descending ? first : end - 1);
    int order = doc_id_compare(&id, &after->id);
    return l->descending ? order >= 0 : order <= 0;
}

/* By id rows are found in their order: further ones would come behind. */
static bool has_all(const struct listing *l)
{
    return !l->by_attr && l->count >= l->wanted;
}

/* A bit for each row of [first, end) that is allowed; at most COLUMN_BLOCK rows. */
static void allowed_bits(const struct listing *l, uint32_t first, uint32_t end,
                         uint64_t bits[COLUMN_BLOCK / 64])
{
    const struct rowset *allowed = l->x->allowed.rows[l->source];
    uint32_t rows = end - first;
    size_t words = (rows + 63) / 64;

    if (allowed) {
        rowset_bits(allowed, first, bits, words);
        return;
    }
    memset(bits, 0xff, words * sizeof *bits);
    if (rows % 64) bits[words - 1] = (UINT64_C(1) << rows % 64) - 1;
}

/* The allowed rows of [first, end), until there are enough. */
static void consider_window(struct listing *l, uint32_t first, uint32_t end)
{
    size_t words = (end - first + 63) / 64;
    bool backward = is_backward(l);
    uint64_t bits[COLUMN_BLOCK / 64];

    allowed_bits(l, first, end, bits);
    for (size_t i = 0; i < words && !has_all(l); i++) {
        size_t word = backward ? words - 1 - i : i;
        uint64_t left = bits[word];
        while (left && !has_all(l)) {
            unsigned bit = (unsigned)(backward ? 63 - __builtin_clzll(left)
                                               : __builtin_ctzll(left));
            left &= ~(UINT64_C(1) << bit);
            consider(l, first + (uint32_t)(word * 64) + bit);
        }
    }
}

/* Window by window, in the order of ids: when the listing is by id, it ends with the
 * window that fills it. */
static enum err scan_source(struct op *op, struct listing *l)
{
    uint32_t rows = segment_row_count(l->x->snapshot->sources[l->source].segment);
    uint32_t windows = rows / COLUMN_BLOCK + (rows % COLUMN_BLOCK != 0);

    for (uint32_t i = 0; i < windows; i++) {
        uint32_t window = is_backward(l) ? windows - 1 - i : i;
        uint32_t first = window * COLUMN_BLOCK;
        uint32_t end = rows - first < COLUMN_BLOCK ? rows : first + COLUMN_BLOCK;
        enum err e = op_check(op);
        if (e) return e;
        if (is_passed(l, first, end) || is_hopeless(l, window)) continue;
        consider_window(l, first, end);
        if (has_all(l)) break;
        if (l->count > 2 * l->wanted) cut(l);
    }
    cut(l);
    return ERR_OK;
}

/* ---- by the index ---- */

/* A row of the index costs about as much as so many of a scan. */
enum { WALK_COST = 16, WALK_ROWS = 256 };

/* The first row whose id lies behind the place to go on from: rows ascend by id. */
static uint32_t row_behind(const struct listing *l)
{
    const struct segment *s = l->x->snapshot->sources[l->source].segment;
    uint32_t low = 0, high = segment_row_count(s);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct doc_id id = segment_id(s, middle);
        if (doc_id_compare(&id, &query_of(l)->after->id) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Adds those of the rows that are allowed, from first_row on, as far as they are
 * wanted. */
static void take_rows(struct listing *l, const uint32_t *rows, size_t n,
                      uint32_t first_row, uint64_t key, bool null)
{
    const struct rowset *allowed = l->x->allowed.rows[l->source];
    for (size_t i = 0; i < n && l->count < l->wanted; i++) {
        if (rows[i] < first_row || (allowed && !rowset_has(allowed, rows[i]))) continue;
        l->entries[l->count++] = (struct entry){.sort = null ? 0 : sort_of(l, key),
                                                .row = rows[i],
                                                .null = null};
    }
}

/* Rows without a value come last, by id. */
static void take_nulls(struct listing *l)
{
    struct rowset *nulls = rowset_new();
    uint32_t rows[WALK_ROWS], from = 0;
    size_t n = WALK_ROWS;

    if (query_of(l)->after && l->after.null) from = row_behind(l);
    column_nulls(l->column, nulls);
    while (n == WALK_ROWS && l->count < l->wanted) {
        n = rowset_read(nulls, from, rows, WALK_ROWS);
        take_rows(l, rows, n, 0, 0, true);
        if (n > 0) from = rows[n - 1] + 1;
    }
    rowset_unref(nulls);
}

/* Where the walk begins: at the key of the place to go on from, or just beyond it where
 * no row has its value. False: there is nothing there but nulls. */
static bool first_key(const struct listing *l, uint64_t *key)
{
    *key = l->descending ? UINT64_MAX : 0;
    if (!query_of(l)->after) return true;
    if (l->after.null) return false;
    *key = sort_of(l, l->after.sort);
    if (l->after_equal || !l->descending) return true;
    return (*key)-- > 0;
}

/* Looks at so many rows of the index at most; *done: it was enough. */
static enum err walk_index(struct op *op, struct listing *l, uint64_t rows_max,
                           bool *done)
{
    bool after = query_of(l)->after && l->after_equal && !l->after.null;
    uint64_t key, first, looked_at = 0;
    uint32_t rows[WALK_ROWS], behind = after ? row_behind(l) : 0;
    struct column_walk walk;
    size_t n = 0;

    bool any = first_key(l, &first);
    if (!column_walk_begin(l->column, l->descending, any ? first : 0, &walk))
        return ERR_OK;
    while (any && l->count < l->wanted && looked_at <= rows_max) {
        enum err e = op_check(op);
        if (!e) e = column_walk_next(op, &walk, rows, WALK_ROWS, &n, &key);
        if (e) {
            column_walk_end(&walk);
            return e;
        }
        if (n == 0) break;
        take_rows(l, rows, n, after && key == first ? behind : 0, key, false);
        looked_at += n;
    }
    column_walk_end(&walk);
    *done = looked_at <= rows_max || l->count == l->wanted;
    if (*done && l->count < l->wanted) take_nulls(l);
    return ERR_OK;
}

/* How many rows of the index are worth looking at: what a scan of the allowed ones
 * costs. 0: it would not do. */
static uint64_t walk_rows_max(const struct listing *l)
{
    double rows = segment_row_count(l->x->snapshot->sources[l->source].segment);
    double allowed = (double)exec_allowed_count(l->x, &l->x->allowed, l->source);
    if (!l->column) return 0;
    double expected = (double)l->wanted * rows / (allowed + 1);
    double worth = allowed / WALK_COST;
    return expected < worth ? (uint64_t)worth : 0;
}

/* The first rows of the source, sorted; at most wanted. */
static enum err list_source(struct op *op, struct listing *l, uint32_t source,
                            size_t wanted)
{
    bool done = false;
    enum err e = ERR_OK;

    l->wanted = wanted;
    source_start(l, source);
    uint64_t rows_max = walk_rows_max(l);
    if (rows_max > 0) e = walk_index(op, l, rows_max, &done);
    l->x->walked += done;
    if (e || done) return e;
    l->count = 0;
    return scan_source(op, l);
}

/* ---- before the filter ---- */

/* The entries whose rows match the filter, in their order. */
static enum err keep_matching(struct op *op, struct listing *l)
{
    struct rowset *among = rowset_new(), *rows = NULL;
    size_t kept = 0;

    for (size_t i = 0; i < l->count; i++)
        rowset_add(among, l->entries[i].row);
    enum err e = segment_filter(op, l->x->snapshot->sources[l->source].segment,
                                query_of(l)->filter, among, &l->x->work, &rows);
    for (size_t i = 0; i < l->count && !e; i++)
        if (rowset_has(rows, l->entries[i].row)) l->entries[kept++] = l->entries[i];
    l->count = kept;
    rowset_unref(among);
    rowset_unref(rows);
    return e;
}

/* More rows than are wanted, of which the filter is asked; where it leaves too few, it
 * comes first after all. */
static enum err list_first(struct op *op, struct listing *l, uint32_t source,
                           size_t wanted)
{
    size_t room = plan_trial_depth(wanted, l->x->plans[source].fraction);
    enum err e = list_source(op, l, source, room);
    bool complete = l->count < room;
    if (!e) e = keep_matching(op, l);
    if (e || complete || l->count >= wanted) return e;
    e = plan_again(op, l->x, source);
    if (!e && !l->x->allowed.none[source]) e = list_source(op, l, source, wanted);
    if (l->x->allowed.none[source]) l->count = 0;
    return e;
}

/* ---- across sources ---- */

struct query_place list_place(const struct exec *x, const struct hit *hit)
{
    const struct query *q = x->query;
    struct query_place place = {
        .value = VALUE_NULL,
        .id = segment_id(x->snapshot->sources[hit->source].segment, hit->row)};
    const struct column *column = NULL;
    uint64_t key;

    if (q->ordered && q->order_attr != FILTER_ATTR_ID)
        column = exec_column(x, hit->source, q->order_attr);
    if (column && column_key_at(column, hit->row, &key))
        place.value = (struct value){.one = column_key_scalar(column, key)};
    return place;
}

/* Nulls come last in both directions; equal values are in the order of their ids. */
static int compare_hits(const void *context, const struct hit *a, const struct hit *b)
{
    const struct listing *l = context;
    const struct query *q = query_of(l);
    int ids = exec_compare_ids(l->x->snapshot, a, b);
    if (!l->by_attr) return l->descending ? -ids : ids;

    struct value x = list_place(l->x, a).value, y = list_place(l->x, b).value;
    if (x.null != y.null) return x.null ? 1 : -1;
    enum attr_type type = l->x->snapshot->schema->attrs[q->order_attr].type;
    int order = x.null ? 0 : scalar_compare(type, &x.one, &y.one);
    if (order == 0) return ids;
    return l->descending ? -order : order;
}

/* How many entries the largest list of a source takes. */
static size_t entries_max(const struct exec *x, size_t count)
{
    size_t most = count;
    for (uint32_t i = 0; i < x->snapshot->source_count; i++) {
        if (!plan_tries(x, &x->allowed, i)) continue;
        size_t room = plan_trial_depth(count, x->plans[i].fraction);
        if (room > most) most = room;
    }
    return 2 * most + COLUMN_BLOCK;
}

enum err list_rows(struct op *op, struct exec *x, size_t count, struct ranking *out)
{
    const struct query *q = x->query;
    const struct snapshot *s = x->snapshot;
    struct listing l = {.x = x,
                        .by_attr = q->ordered && q->order_attr != FILTER_ATTR_ID,
                        .descending = q->descending};
    struct topk best;
    enum err e = ERR_OK;

    out->hits = op_new_array(op, struct hit, count);
    l.entries = op_new_array(op, struct entry, entries_max(x, count));
    if (!out->hits || !l.entries) return ERR_LIMIT;
    topk_init(&best, out->hits, count, compare_hits, &l);
    for (uint32_t i = 0; i < s->source_count && !e; i++) {
        if (x->allowed.none[i]) continue;
        e = plan_tries(x, &x->allowed, i) ? list_first(op, &l, i, count)
                                          : list_source(op, &l, i, count);
        for (size_t k = 0; k < l.count && k < count && !e; k++)
            topk_push(&best, (struct hit){.source = i, .row = l.entries[k].row});
    }
    if (e) return e;
    topk_finish(&best);
    out->count = best.count;
    return ERR_OK;
}
