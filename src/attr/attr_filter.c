#include "attr/attr_filter.h"

#include <assert.h>
#include <stdlib.h>

#include "attr/column.h"
#include "base/op.h"
#include "base/rowset.h"

/* A row looked at by itself costs about as much as ROW_COST rows of a scan. */
enum { ROW_COST = 32, SAMPLE_ROWS = 64, ORDERED_MAX = 64, ESTIMATED_MAX = 64 };

/* What is asked of a node: the rows where it is true, or those where it is false, among
 * some or all. Both leave the unknown ones out, which only conditions need to know. */
struct question {
    const struct filter_input *input;
    bool truth;
    const struct rowset *among; /* NULL: all rows */
};

static enum err rows_of(struct op *op, const struct filter *f, struct question q,
                        struct rowset **out);

static bool is_group(const struct filter *f)
{
    return f->op == FILTER_AND || f->op == FILTER_OR || f->op == FILTER_NOT;
}

static void count_work(const struct question *q, const struct filter_work *more)
{
    struct filter_work *work = q->input->work;
    if (!work) return;
    work->indexed += more->indexed;
    work->scanned += more->scanned;
    work->checked += more->checked;
}

/* ---- conditions ---- */

static void estimate_ids(const struct filter *f, uint32_t row_count,
                         struct column_estimate *out)
{
    bool few = f->op == FILTER_EQ || f->op == FILTER_IN;
    *out = (struct column_estimate){.indexed = true};
    out->rows = few ? f->id_count : row_count / 2;
    if (out->rows > row_count) out->rows = row_count;
    out->scan_rows = f->id_count * ROW_COST;
}

/* Rows where the condition is true. */
static enum err estimate_condition(struct op *op, const struct filter *f,
                                   const struct filter_input *input, uint32_t sample,
                                   struct column_estimate *out)
{
    const struct column *column = NULL;

    if (f->attr == FILTER_ATTR_ID) {
        estimate_ids(f, input->row_count, out);
        return ERR_OK;
    }
    enum err e = input->column(op, input->context, f->attr, &column);
    if (e) return e;
    if (column) return column_estimate(op, column, f, sample, out);
    *out = (struct column_estimate){.exact = true, .indexed = true};
    if (filter_null(f) == TRUTH_TRUE) out->rows = input->row_count;
    return ERR_OK;
}

/* A segment older than the attribute: every row is null. */
static void add_rows_of_null(const struct filter *f, struct question q,
                             struct rowset *rows)
{
    if (filter_null(f) == (q.truth ? TRUTH_TRUE : TRUTH_FALSE))
        rowset_add_range(rows, 0, q.input->row_count);
}

static enum err add_rows_of_column(struct op *op, const struct filter *f,
                                   struct question q, const struct column *column,
                                   struct rowset *rows)
{
    enum err e = column_filter(op, column, f, rows);
    if (e || q.truth) return e;

    rowset_flip(rows, q.input->row_count);
    if (filter_null(f) == TRUTH_UNKNOWN) {
        struct rowset *nulls = rowset_new();
        column_nulls(column, nulls);
        rowset_andnot(rows, nulls);
        rowset_unref(nulls);
    }
    return ERR_OK;
}

/* The rows that answer the question; *narrowed: only those of q.among. */
static enum err ask_column(struct op *op, const struct filter *f, struct question q,
                           const struct column *column, struct rowset *rows,
                           bool *narrowed)
{
    struct column_estimate estimate;
    uint64_t left = q.among ? rowset_count(q.among) : 0;
    enum err e = column_estimate(op, column, f, 0, &estimate);
    if (e) return e;

    *narrowed = q.among && left * ROW_COST < estimate.scan_rows;
    if (*narrowed) {
        count_work(&q, &(struct filter_work){.checked = 1});
        enum truth wanted = q.truth ? TRUTH_TRUE : TRUTH_FALSE;
        return column_filter_among(op, column, f, wanted, q.among, rows);
    }
    count_work(&q, estimate.indexed ? &(struct filter_work){.indexed = 1}
                                    : &(struct filter_work){.scanned = 1});
    return add_rows_of_column(op, f, q, column, rows);
}

static enum err add_rows_of_condition(struct op *op, const struct filter *f,
                                      struct question q, struct rowset *rows)
{
    const struct column *column = NULL;
    bool narrowed = false;

    enum err e = op_check(op);
    if (e) return e;
    if (f->attr == FILTER_ATTR_ID) {
        e = q.input->ids(op, q.input->context, f, rows);
        count_work(&q, &(struct filter_work){.indexed = 1});
        if (!e && !q.truth) rowset_flip(rows, q.input->row_count);
    } else {
        e = q.input->column(op, q.input->context, f->attr, &column);
        if (!e && column)
            e = ask_column(op, f, q, column, rows, &narrowed);
        else if (!e)
            add_rows_of_null(f, q, rows);
    }
    if (!e && q.among && !narrowed) rowset_and(rows, q.among);
    return e;
}

static enum err rows_of_condition(struct op *op, const struct filter *f,
                                  struct question q, struct rowset **out)
{
    struct rowset *rows = rowset_new();
    enum err e = add_rows_of_condition(op, f, q, rows);
    if (e) {
        rowset_unref(rows);
        return e;
    }
    *out = rows;
    return ERR_OK;
}

/* ---- groups ---- */

struct ordered {
    const struct filter *child;
    uint64_t rows; /* that answer the question, about */
    size_t index;
};

static int compare_ordered(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    if (x->rows != y->rows) return x->rows < y->rows ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* Groups are not looked into: whoever does so at every level looks at the lowest ones
 * once a level. */
static enum err estimate_child(struct op *op, const struct filter *f, struct question q,
                               uint64_t *rows)
{
    struct column_estimate estimate;
    *rows = q.input->row_count;
    if (is_group(f) && f->child_count == 0 &&
        f->op == (q.truth ? FILTER_OR : FILTER_AND))
        *rows = 0;
    if (is_group(f)) return ERR_OK;
    enum err e = estimate_condition(op, f, q.input, SAMPLE_ROWS, &estimate);
    if (e) return e;
    *rows = q.truth ? estimate.rows : q.input->row_count - estimate.rows;
    return ERR_OK;
}

/* The children, those that leave the fewest rows first. */
static enum err order_children(struct op *op, const struct filter *f, struct question q,
                               struct ordered **out)
{
    bool worth = f->child_count > 1 && f->child_count <= ORDERED_MAX;
    struct ordered *children = op_new_array(op, struct ordered, f->child_count + 1);
    if (!children) return ERR_LIMIT;
    for (size_t i = 0; i < f->child_count; i++) {
        children[i] = (struct ordered){.child = f->children[i], .index = i};
        enum err e =
            worth ? estimate_child(op, f->children[i], q, &children[i].rows) : ERR_OK;
        if (e) return e;
    }
    qsort(children, f->child_count, sizeof *children, compare_ordered);
    *out = children;
    return ERR_OK;
}

/* Rows that answer every child's question. */
static enum err rows_of_all(struct op *op, const struct filter *f, struct question q,
                            struct rowset **out)
{
    struct rowset *rows = q.among ? rowset_copy(q.among) : NULL;
    struct ordered *children = NULL;
    enum err e = order_children(op, f, q, &children);

    for (size_t i = 0; i < f->child_count && !e; i++) {
        struct rowset *child = NULL;
        if (rows && rowset_count(rows) == 0) break;
        struct question narrower = {q.input, q.truth, rows};
        e = rows_of(op, children[i].child, narrower, &child);
        if (e) break;
        rowset_unref(rows);
        rows = child;
    }
    if (e) {
        rowset_unref(rows);
        return e;
    }
    *out = rows ? rows : rowset_range(0, q.input->row_count);
    return ERR_OK;
}

/* Rows that answer any child's question. */
static enum err rows_of_any(struct op *op, const struct filter *f, struct question q,
                            struct rowset **out)
{
    struct rowset *rows = rowset_new();
    uint64_t most = q.among ? rowset_count(q.among) : q.input->row_count;

    for (size_t i = 0; i < f->child_count; i++) {
        struct rowset *child = NULL;
        if (rowset_count(rows) == most) break;
        enum err e = rows_of(op, f->children[i], q, &child);
        if (e) {
            rowset_unref(rows);
            return e;
        }
        rowset_or(rows, child);
        rowset_unref(child);
    }
    *out = rows;
    return ERR_OK;
}

static enum err rows_of(struct op *op, const struct filter *f, struct question q,
                        struct rowset **out)
{
    struct question opposite = {q.input, !q.truth, q.among};

    switch (f->op) {
    case FILTER_AND:
        return q.truth ? rows_of_all(op, f, q, out) : rows_of_any(op, f, q, out);
    case FILTER_OR:
        return q.truth ? rows_of_any(op, f, q, out) : rows_of_all(op, f, q, out);
    case FILTER_NOT:
        assert(f->child_count == 1);
        return rows_of(op, f->children[0], opposite, out);
    default: return rows_of_condition(op, f, q, out);
    }
}

enum err attr_filter(struct op *op, const struct filter *f,
                     const struct filter_input *input, const struct rowset *among,
                     struct rowset **out)
{
    return rows_of(op, f, (struct question){input, true, among}, out);
}

/* ---- estimates of a whole filter ---- */

struct guess {
    const struct filter_input *input;
    size_t nodes;
    uint64_t scan_rows;
};

static enum err guess_node(struct op *op, const struct filter *f, struct guess *g,
                           double *fraction)
{
    struct column_estimate estimate;
    double others = 1; /* and: that match all; or: that match none */
    enum err e = ERR_OK;

    *fraction = 1;
    if (++g->nodes > ESTIMATED_MAX) return ERR_OK;
    if (!is_group(f)) {
        e = estimate_condition(op, f, g->input, SAMPLE_ROWS, &estimate);
        if (e) return e;
        g->scan_rows += estimate.scan_rows;
        *fraction = (double)estimate.rows / ((double)g->input->row_count + 1e-9);
        return ERR_OK;
    }
    for (size_t i = 0; i < f->child_count && !e; i++) {
        double one;
        e = guess_node(op, f->children[i], g, &one);
        others *= f->op == FILTER_AND ? one : 1 - one;
    }
    *fraction = f->op == FILTER_OR ? 1 - others : others;
    return e;
}

enum err attr_filter_estimate(struct op *op, const struct filter *f,
                              const struct filter_input *input,
                              struct filter_estimate *out)
{
    struct guess g = {.input = input};
    double fraction;
    enum err e = guess_node(op, f, &g, &fraction);
    *out = (struct filter_estimate){.fraction = fraction,
                                    .scan_rows = g.scan_rows,
                                    .known = g.nodes <= ESTIMATED_MAX};
    return e;
}
