/*
 * column_format.h - an open column, for the files that read one: column.c finds values,
 * column_filter.c scans. Layout at the head of column.c.
 */
#ifndef ATTR_COLUMN_FORMAT_H
#define ATTR_COLUMN_FORMAT_H

#include "attr/cells.h"
#include "attr/column.h"
#include "attr/column_index.h"

struct column {
    enum attr_type type;
    bool array;
    bool on_heap;
    uint32_t row_count;
    uint32_t dict_count;
    const uint8_t *nulls;   /* a bit per row in 64-bit words, or NULL: no row is null */
    struct cells starts;    /* arrays: row_count + 1 places in items */
    struct cells items;     /* a key per row or, in arrays, per item */
    struct cells dict_ends; /* string: dict_count + 1 places in dict */
    struct slice dict;
    bool indexed;
    struct column_index index;
};

/* Strings and uuids: their keys are places in the sorted dictionary. */
static inline bool column_has_dict(enum attr_type type)
{
    return type == ATTR_STRING || type == ATTR_UUID;
}

/* The key of a scalar that needs no dictionary: ordered as the scalars are, but that -0
 * has a key of its own just below that of 0. */
uint64_t column_key(enum attr_type type, const union scalar *v);

/* A column as it is written, but for its dictionary. */
struct column_content {
    enum attr_type type;
    bool indexed;
    uint32_t row_count, dict_count;
    uint64_t dict_size;
    const uint64_t *nulls;  /* a bit per row, or NULL: none is null */
    const uint64_t *starts; /* arrays: row_count + 1 places in keys; NULL: one a row */
    const uint64_t *keys;
};
/* Appends everything up to the dictionary, whose ends and bytes come next. */
void column_content_put(const struct column_content *c, struct buf *out);

/* The cell of a null. It counts only in a block of nothing but nulls, whose bounds it
 * gives; so it has to be a key of the type, which 0 is where there is a dictionary. */
uint64_t column_filler(enum attr_type type);

/* Entry of the dictionary; empty where damage made code too large. */
struct slice column_dict_entry(const struct column *c, uint64_t code);

/* The first code whose text is not below text or, with after, is above it. */
uint64_t column_dict_bound(const struct column *c, struct slice text, bool after);

/* Bits of the nulls among rows [64 * word, 64 * word + 64). */
uint64_t column_null_word(const struct column *c, uint64_t word);

/* Items [*first, *end) of a row of an array column; none for a null, none where damage
 * made them end before they start or more than a value can have. */
void column_items(const struct column *c, uint32_t row, uint64_t *first, uint64_t *end);

#endif
