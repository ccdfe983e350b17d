/*
 * column_index.h - which rows hold which value: the part of a column that is there
 * where the attribute is declared `indexed`. Private to attr/; layout at the head of
 * column.c.
 *
 * Distinct values are numbered in their order (in columns with a dictionary that is
 * their code). The rows of one value lie one behind the other in one long list, value
 * after value, so a range of values is a slice of it; those of a frequent value are a
 * row set of their own instead. Counting rows is two look-ups whatever the range.
 */
#ifndef ATTR_COLUMN_INDEX_H
#define ATTR_COLUMN_INDEX_H

#include "attr/cells.h"
#include "base/buf.h"
#include "base/err.h"

struct op;
struct reader;
struct rowset;

struct column_index {
    uint32_t row_count, key_count, dense_count;
    bool numbered;       /* a key is its number: there is a dictionary */
    struct cells keys;   /* else: the keys, ascending */
    struct cells starts; /* key_count + 1 places in rows */
    struct cells rows;
    struct cells dense;      /* numbers of the frequent values, ascending */
    struct cells dense_rows; /* how many rows each has */
    struct cells dense_ends; /* dense_count + 1 places in sets */
    struct slice sets;
};

/* Numbers [first, end). */
struct span {
    uint32_t first, end;
};

/* Numbers to look for: ascending, apart from each other. */
struct spans {
    struct span *items;
    size_t count, capacity;
    uint64_t rows;   /* that they have, a row once for each of its values */
    uint64_t listed; /* of those, the ones that are not in row sets */
};

struct index_source {
    const uint64_t *keys;   /* of all items; any for a null */
    const uint64_t *starts; /* arrays: row_count + 1 places in keys; NULL: one a row */
    const uint64_t *nulls;  /* a bit per row, or NULL */
    uint32_t row_count;
    uint32_t dict_count; /* 0: keys are not numbers of a dictionary */
};

/* Appends the index, a multiple of 8 bytes. */
void column_index_put(const struct index_source *source, struct buf *out);
/* False if the bytes are none. Row sets are looked at when they are asked for. least
 * and most bound the keys of the type. */
bool column_index_get(struct reader *r, uint32_t row_count, bool numbered,
                      uint32_t dict_count, uint64_t least, uint64_t most,
                      struct column_index *out);

/* The values of a key set. */
void column_index_find(const struct column_index *x, const struct key_set *set,
                       struct spans *out);
void spans_release(struct spans *s);
/* The number of the first value whose key is not below key; key_count: none. */
uint32_t column_index_number(const struct column_index *x, uint64_t key);
/* Is the value a frequent one, whose rows are this set? Then *out is a new rowset. */
enum err column_index_set(struct op *op, const struct column_index *x, uint32_t number,
                          struct rowset **out);
/* Adds the rows of the spans to out, for few. ERR_CORRUPT. */
enum err column_index_collect(struct op *op, const struct column_index *x,
                              const struct spans *spans, struct rowset *out);

#endif
