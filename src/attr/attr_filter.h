/*
 * attr_filter.h - a whole filter over the columns of one segment, as a row set.
 *
 * The result equals filter_matches on every row, Kleene logic included: each node is
 * evaluated to the rows where it is true and the rows where it is unknown.
 */
#ifndef ATTR_ATTR_FILTER_H
#define ATTR_ATTR_FILTER_H

#include "base/err.h"
#include "doc/filter.h"

struct op;
struct column;
struct rowset;

/* Where the columns come from: the segment that is asked. A column the segment does not
 * have (older schema) is handed out as NULL: all its rows are null. */
struct filter_input {
    void *context;
    uint32_t row_count;
    enum err (*column)(struct op *op, void *context, int attr,
                       const struct column **out);
    /* Rows whose id makes the condition true. */
    enum err (*ids)(struct op *op, void *context, const struct filter *f,
                    struct rowset *out);
};

/* *out is a new rowset, the caller's. */
enum err attr_filter(struct op *op, const struct filter *f,
                     const struct filter_input *input, struct rowset **out);

#endif
