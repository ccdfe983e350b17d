/*
 * attr_filter.h - a whole filter over the columns of one segment, as a row set.
 *
 * The result equals filter_matches on every row, Kleene logic included. De Morgan's
 * laws hold in it, so `not` is pushed down to the conditions, and each node needs one
 * set: the rows where it is true or, under an odd number of `not`, the rows where it is
 * false. A condition is answered by the column's index, by a scan, or, where few rows
 * are left, row by row. `and` begins with the condition that seems to leave the fewest
 * rows, asks the others about those only, and stops when none is left.
 */
#ifndef ATTR_ATTR_FILTER_H
#define ATTR_ATTR_FILTER_H

#include "base/err.h"
#include "doc/filter.h"

struct op;
struct column;
struct rowset;

/* Conditions that were answered by an index, by a scan, row by row. */
struct filter_work {
    uint64_t indexed, scanned, checked;
};

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
    struct filter_work *work; /* is added to, or NULL */
};

/*
 * *out is a new rowset, the caller's: the rows that match, among those given (NULL:
 * all). Errors: those of input's calls and of the op. No threads of its own; the
 * columns may be shared.
 */
enum err attr_filter(struct op *op, const struct filter *f,
                     const struct filter_input *input, const struct rowset *among,
                     struct rowset **out);

struct filter_estimate {
    double fraction;    /* of the rows that match, about */
    uint64_t scan_rows; /* the work of attr_filter, in rows scanned */
    bool known;         /* false: there were too many conditions to look at */
};
/* A guess from indexes and samples; conditions are taken to be independent. */
enum err attr_filter_estimate(struct op *op, const struct filter *f,
                              const struct filter_input *input,
                              struct filter_estimate *out);

#endif
