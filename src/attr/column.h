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
#include "doc/value.h"

struct op;
struct filter;
struct rowset;
struct column;
struct column_builder;

struct column_builder *column_builder_new(enum attr_type type, bool array);
/* Rows come in order, none left out; v's bytes are copied. */
void column_builder_add(struct column_builder *b, const struct value *v);
/* Appends the column's bytes to out and frees the builder. */
void column_builder_finish(struct column_builder *b, struct buf *out);
void column_builder_free(
    struct column_builder *b); /* without finishing; NULL is fine */

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
 * Rows whose value makes a single condition true (not and/or/not). The condition's type
 * is the column's (asserted). Time is bounded by the column; op is checked once a
 * block.
 */
enum err column_filter(struct op *op, const struct column *c, const struct filter *f,
                       struct rowset *out);
/* Adds the rows that are null. */
void column_nulls(const struct column *c, struct rowset *out);

#endif
