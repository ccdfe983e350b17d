/*
 * column_stats.h - what is known of a column before a byte of it is read.
 *
 * A manifest keeps these few hundred bytes of each column of each segment, so that a
 * query can be planned, and a segment that holds nothing it asks for passed over,
 * without a look into the segment. Counts of nulls, the least and the greatest value,
 * and the list of values where it is complete are facts; the rest are estimates: how
 * many distinct values there are, the rows of frequent ones, and values that part the
 * rows into about equal numbers. Texts are cut to COLUMN_STATS_TEXT_MAX bytes.
 *
 * Plain values, no threads. Layout of the bytes: docs/formats.md "statistics".
 */
#ifndef ATTR_COLUMN_STATS_H
#define ATTR_COLUMN_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "doc/filter.h"

struct buf;
struct column;
struct op;
struct reader;

enum {
    COLUMN_STATS_TEXT_MAX = 24,
    COLUMN_STATS_COMMON_MAX = 8,
    COLUMN_STATS_BOUNDS_MAX = 15
};

struct column_stats {
    enum attr_type type;
    bool array;
    uint32_t row_count, value_count; /* the latter: rows that are not null */
    uint64_t item_count;             /* value_count or, of arrays, of all items */
    uint64_t distinct;               /* values, about; 0 without items */
    bool complete;                   /* every value is among the common ones */
    bool cut; /* greatest is only the beginning of the greatest text */
    union scalar least, greatest; /* of the items; least may be a text's beginning */
    uint32_t common_count, bound_count;
    union scalar *values;  /* common_count, then bound_count that part the items */
    uint32_t *common_rows; /* rows that hold each of the common values, about */
};

/* Reads the column once. Texts borrow from it; column_stats_release gives the rest
 * back. Errors of the op. */
enum err column_stats_make(struct op *op, const struct column *c,
                           struct column_stats *out);
void column_stats_release(struct column_stats *s);

/* Appends them; brief: without common values and bounds. */
void column_stats_encode(const struct column_stats *s, bool brief, struct buf *out);
/* Any bytes are fine; false if they are none of such a column. Texts borrow from the
 * reader's bytes. On success column_stats_release is due. */
bool column_stats_decode(struct op *op, struct reader *r, enum attr_type type,
                         bool array, uint32_t row_count, struct column_stats *out);

/* What a condition, or a whole filter, says of the rows of a segment. */
struct stats_answer {
    bool may_be_true, may_be_false, may_be_unknown; /* of any row; sure if not */
    double part_true, part_unknown;                 /* of the rows, about */
    bool blind; /* nothing is known of some condition: parts are a default */
};

/* A single condition, not on the id, of the column's type (asserted). */
void column_stats_ask(const struct column_stats *s, const struct filter *f,
                      struct stats_answer *out);
/* The answer where nothing is known. */
void stats_answer_blind(struct stats_answer *out);

#endif
