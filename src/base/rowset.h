/*
 * rowset.h - a set of row numbers of one segment (CRoaring behind one file).
 *
 * Rows are dense 32-bit numbers, 0 to row_count - 1. A rowset is a value owned by one
 * place; share it only once nothing changes it any more (rowset_ref / rowset_unref
 * count such sharing, atomically). All functions take time proportional to what they
 * touch; none fails.
 */
#ifndef BASE_ROWSET_H
#define BASE_ROWSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct op;
struct rowset; /* heap object with a reference count */

struct rowset *rowset_new(void);                                /* empty */
struct rowset *rowset_range(uint32_t first, uint32_t end);      /* [first, end) */
struct rowset *rowset_from(const uint32_t *rows, size_t count); /* any order */
/* Rows whose bits are set: row i by bit i % 64 of bits[i / 64]. */
struct rowset *rowset_from_bits(const uint64_t *bits, size_t words);
struct rowset *rowset_copy(const struct rowset *set);
struct rowset *rowset_ref(struct rowset *set); /* NULL stays NULL */
void rowset_unref(struct rowset *set);         /* NULL is fine */

void rowset_add(struct rowset *set, uint32_t row);
void rowset_add_range(struct rowset *set, uint32_t first, uint32_t end);
bool rowset_has(const struct rowset *set, uint32_t row);
uint64_t rowset_count(const struct rowset *set);
/* Rows of the set in [first, end). */
uint64_t rowset_count_range(const struct rowset *set, uint32_t first, uint32_t end);

/* In place: set = set op other. */
void rowset_and(struct rowset *set, const struct rowset *other);
void rowset_or(struct rowset *set, const struct rowset *other);
void rowset_andnot(struct rowset *set, const struct rowset *other);
/* set = [0, end) without set. */
void rowset_flip(struct rowset *set, uint32_t end);

/*
 * Copies the rows of the set that are >= from, ascending, at most max of them; returns
 * how many. Walk a set with from = last row + 1.
 */
size_t rowset_read(const struct rowset *set, uint32_t from, uint32_t *rows, size_t max);
/*
 * Writes the membership of rows [first, first + 64 * words) as bits, row first + i in
 * bit i % 64 of bits[i / 64]; for kernels that test whole windows.
 */
void rowset_bits(const struct rowset *set, uint32_t first, uint64_t *bits,
                 size_t words);

/* Portable roaring bytes. */
void rowset_encode(const struct rowset *set, struct buf *out);
/* ERR_CORRUPT unless the bytes are one whole set whose rows are all < row_count. */
enum err rowset_decode(struct op *op, struct slice bytes, uint32_t row_count,
                       struct rowset **out);

#endif
