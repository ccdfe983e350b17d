#include "attr/attr_filter.h"

#include <assert.h>

#include "attr/column.h"
#include "base/op.h"
#include "base/rowset.h"

/* What is asked of a node: the rows where it is true, or those where it is false. Both
 * leave the unknown ones out, which only conditions need to know. */
struct question {
    const struct filter_input *input;
    bool truth;
};

static enum err rows_of(struct op *op, const struct filter *f, struct question q,
                        struct rowset **out);

/* Rows that answer every child's question. */
static enum err rows_of_all(struct op *op, const struct filter *f, struct question q,
                            struct rowset **out)
{
    struct rowset *rows = NULL;
    enum err e = ERR_OK;

    for (size_t i = 0; i < f->child_count && !e; i++) {
        struct rowset *child = NULL;
        if (rows && rowset_count(rows) == 0) break;
        e = rows_of(op, f->children[i], q, &child);
        if (rows && !e) {
            rowset_and(rows, child);
            rowset_unref(child);
        } else if (!e) {
            rows = child;
        }
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

    for (size_t i = 0; i < f->child_count; i++) {
        struct rowset *child = NULL;
        if (rowset_count(rows) == q.input->row_count) break;
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

static enum err add_rows_of_condition(struct op *op, const struct filter *f,
                                      struct question q, struct rowset *rows)
{
    const struct column *column = NULL;
    enum err e;

    if (f->attr == FILTER_ATTR_ID) {
        e = q.input->ids(op, q.input->context, f, rows);
        if (!e && !q.truth) rowset_flip(rows, q.input->row_count);
        return e;
    }
    e = q.input->column(op, q.input->context, f->attr, &column);
    if (e) return e;
    if (column) return add_rows_of_column(op, f, q, column, rows);
    add_rows_of_null(f, q, rows);
    return ERR_OK;
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

static enum err rows_of(struct op *op, const struct filter *f, struct question q,
                        struct rowset **out)
{
    struct question opposite = {q.input, !q.truth};

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
                     const struct filter_input *input, struct rowset **out)
{
    return rows_of(op, f, (struct question){input, true}, out);
}
