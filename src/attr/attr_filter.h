/*
 * attr_filter.h - a whole filter over the columns of one segment, as a row set.
 *
 * The result equals filter_matches on every row, Kleene logic included. De Morgan's
 * laws hold in it, so `not` is pushed down to the conditions, and each node needs one
 * set: the rows where it is true or, under an odd number of `not`, the rows where it is
 * false. Time: a scan per condition and column; `and` stops at the first empty set.
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
    /* Adds the rows whose id makes the condition true (filter_id). */
    enum err (*ids)(struct op *op, void *context, const struct filter *f,
                    struct rowset *out);
};

/*
 * *out is a new rowset, the caller's. Errors: those of input's calls and of the op. No
 * threads of its own; the columns may be shared.
 */
enum err attr_filter(struct op *op, const struct filter *f,
                     const struct filter_input *input, struct rowset **out);

#endif
