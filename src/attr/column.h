/*
 * column.h - one attribute of all rows of a segment: bytes in, bytes out.
 *
 * Built row by row, read at random. Layout at the head of column.c. Strings are
 * dictionary coded with a sorted dictionary, so comparisons, prefix and glob look at
 * distinct values. Blocks carry least and greatest. No I/O, no threads; a column is
 * immutable and may be read by many threads; it borrows its bytes.
 */
#ifndef ATTR_COLUMN_H
#define ATTR_COLUMN_H

#include "base/buf.h"
#include "base/err.h"
#include "doc/filter.h"

struct op;
struct rowset;
struct column;
struct column_builder;

/* Columns of fewer rows are scanned as quickly as an index is opened. */
enum { COLUMN_INDEX_ROWS_MIN = 4096 };
/* indexed: with an index of which rows hold which value, for filters. */
struct column_builder *column_builder_new(enum attr_type type, bool array,
                                          bool indexed);
/* Rows come in order, none left out; v's bytes are copied. */
void column_builder_add(struct column_builder *b, const struct value *v);
/* Appends the column's bytes to out and frees the builder. */
void column_builder_finish(struct column_builder *b, struct buf *out);
void column_builder_free(
    struct column_builder *b); /* without finishing; NULL is fine */

struct column_merge_input {
    const struct column *column; /* NULL: all its rows are null */
    const uint32_t *rows;        /* by row of the column: the new one, ascending, or
                                    COLUMN_ROW_GONE */
};
enum { COLUMN_ROW_GONE = UINT32_MAX };
/*
 * Appends one column of row_count rows made of several of one type, and counts the
 * values that are not null; appends nothing when there are none. Each new row comes
 * from one input at most; those that come from none are null. The bytes are those that
 * a builder makes. Memory: some 16 bytes a row and item and 12 a distinct string or
 * uuid, an index 32 bytes an item; strings are only passed on. ERR_CORRUPT, ERR_LIMIT,
 * and those of op_check.
 */
enum err column_merge(struct op *op, enum attr_type type, bool array, bool indexed,
                      const struct column_merge_input *inputs, size_t count,
                      uint32_t row_count, struct buf *out, uint32_t *value_count);

/*
 * Checks the bytes (whatever they are) and opens them; the column lives in op's arena
 * or, with op NULL, on the heap until column_close. ERR_CORRUPT unless they are a
 * column of that type with row_count rows. Looks at a head per 4096 rows, not at every
 * row: the checksum of whatever holds the column finds other damage, and no read goes
 * out of bounds or yields what is no value of the type, whatever the bytes are.
 */
enum err column_open(struct op *op, struct slice bytes, enum attr_type type, bool array,
                     uint32_t row_count, struct column **out);
void column_close(struct column *c); /* NULL is fine */

/* The value of a row. Strings borrow from the column's bytes; items of an array are put
 * into op's arena. ERR_LIMIT only. */
enum err column_value(struct op *op, const struct column *c, uint32_t row,
                      struct value *out);

/*
 * Scalar columns as unsigned keys: within a column they are ordered as the values are,
 * and equal values have equal keys.
 */
enum { COLUMN_BLOCK = 4096 };
/* False: the row is null. */
bool column_key_at(const struct column *c, uint32_t row, uint64_t *key);
/* The value that a key of this column stands for; strings borrow from its bytes. */
union scalar column_key_scalar(const struct column *c, uint64_t key);
/* Bounds of the keys of rows [block * COLUMN_BLOCK, (block + 1) * COLUMN_BLOCK). */
void column_block_keys(const struct column *c, uint32_t block, uint64_t *least,
                       uint64_t *most);
/* The first key whose value is not below v; *equal: it is v itself. All keys are below
 * where there is none. */
uint64_t column_key_from(const struct column *c, const union scalar *v, bool *equal);
/* Distinct values of a string or uuid column, whose keys are below it; else 0. */
uint32_t column_dict_count(const struct column *c);

/*
 * The rows of a scalar column with an index in the order of their values, from a key
 * on: of one value ascending, nulls left out. Starts with column_walk_begin, which is
 * false where there is no index to do so.
 */
struct column_walk {
    const struct column *column;
    bool descending, open;  /* open: `number` is at hand */
    uint32_t number, count; /* the next value, and how many come yet */
    uint64_t at, end;       /* rows of the value at hand in the list, or */
    struct rowset *set;     /* its set, and the row to go on from */
    uint32_t from;
};
/* Descending from `key` downwards; UINT64_MAX is fine. */
bool column_walk_begin(const struct column *c, bool descending, uint64_t key,
                       struct column_walk *out);
/* The next rows, at most max, all of one value; *n is 0 at the end. ERR_CORRUPT. */
enum err column_walk_next(struct op *op, struct column_walk *w, uint32_t *rows,
                          size_t max, size_t *n, uint64_t *key);
void column_walk_end(struct column_walk *w);

/* What it would take to evaluate a condition on all rows. */
struct column_estimate {
    uint64_t rows;      /* that make it true, about */
    bool exact;         /* or exactly */
    bool indexed;       /* rows come out of the index, not of a scan */
    uint64_t scan_rows; /* the work, in rows scanned */
};

/*
 * Rows whose value makes a single condition true (not and/or/not). The condition's type
 * is the column's (asserted). Time is bounded by the column; op is checked once a
 * block. out is empty before.
 */
enum err column_filter(struct op *op, const struct column *c, const struct filter *f,
                       struct rowset *out);
/* Those of a few rows of which the condition says `wanted`, each looked at by itself.
 */
enum err column_filter_among(struct op *op, const struct column *c,
                             const struct filter *f, enum truth wanted,
                             const struct rowset *among, struct rowset *out);
/* The cost, in rows of a scan, of as many rows that come out of the index of row_count
 * rows; a scan where that is quicker. */
uint64_t column_index_cost(uint64_t rows, uint64_t row_count);
/* A few look-ups in the index; without one by `sample` rows, or a blind half for 0. */
enum err column_estimate(struct op *op, const struct column *c, const struct filter *f,
                         uint32_t sample, struct column_estimate *out);
/* Adds the rows that are null. */
void column_nulls(const struct column *c, struct rowset *out);

#endif
