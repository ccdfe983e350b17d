/*
 * text_cursor.h - one clause's way through its list: forward only, blocks decoded and
 * scored as they are needed, and what a stretch of rows can score at most.
 */
#ifndef TEXT_TEXT_CURSOR_H
#define TEXT_TEXT_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/postings.h"
#include "text/text_index.h"

struct op;

struct cursor {
    const struct text_clause *clause;
    struct postings list;
    const uint8_t *lengths;
    bool essential;      /* text_search's, for the window at hand */
    double bound;        /* likewise */
    uint32_t block;      /* the first block that does not lie wholly behind us */
    uint32_t block_last; /* its last row */
    uint32_t bound_block;
    float block_bound; /* best score in bound_block */
    uint32_t loaded;   /* the block in rows */
    uint32_t rated;    /* the block in scores */
    uint32_t at;       /* in the loaded block */
    uint64_t scored;   /* postings looked at so far */
    struct postings_block rows;
    float scores[POSTINGS_BLOCK];
};

/* A cursor at the start of the clause's list. ERR_CORRUPT. */
enum err cursor_open(struct op *op, struct cursor *c, const struct text_clause *clause,
                     const struct postings *list);

/* Moves to the block that may hold row, or to the one behind it; false when the list
 * ends before row. */
bool cursor_skip(struct cursor *c, uint32_t row);
/* Decodes the block at hand. ERR_CORRUPT. */
enum err cursor_load(struct op *op, struct cursor *c);
/* Fills in the scores of the loaded block. */
void cursor_rate(struct cursor *c);
/* The score of the posting we are at, which is the row's. */
float cursor_score(const struct cursor *c, uint32_t row);
/* Moves to the block that may hold row; *has: it does, and we are at it. ERR_CORRUPT.
 */
enum err cursor_find(struct op *op, struct cursor *c, uint32_t row, bool *has);
/* cursor_seek where the block at hand does not serve. */
enum err cursor_seek_far(struct op *op, struct cursor *c, uint32_t row,
                         uint32_t *found);

/* Best score of any posting in the block at hand. */
float cursor_block_bound(struct cursor *c);
/* A score that no posting from the block at hand to the row before end exceeds: the
 * best one, or where these are more than blocks_max blocks the clause's weight. */
float cursor_bound(struct cursor *c, uint32_t end, uint32_t blocks_max);

/* In the loaded block: index of the first row >= row, not before c->at. */
static inline uint32_t cursor_lower(const struct cursor *c, uint32_t row)
{
    const uint32_t *base = c->rows.rows + c->at;
    uint32_t size = c->rows.count - c->at;

    if (size == 0 || *base >= row) return c->at;
    while (size > 1) {
        uint32_t half = size / 2;
        base = base[half - 1] < row ? base + half : base;
        size -= half;
    }
    return (uint32_t)(base - c->rows.rows) + (*base < row);
}

/* Does the row lie within the block that is loaded? */
static inline bool cursor_covers(const struct cursor *c, uint32_t row)
{
    return c->loaded == c->block && !c->rows.bits && c->rows.rows[0] <= row &&
           row <= c->block_last;
}

/* Moves to the first row >= row; UINT32_MAX when there is none. ERR_CORRUPT. */
static inline enum err cursor_seek(struct op *op, struct cursor *c, uint32_t row,
                                   uint32_t *found)
{
    if (row > c->block_last || c->loaded != c->block || c->rows.bits)
        return cursor_seek_far(op, c, row, found);
    c->at = cursor_lower(c, row);
    *found = c->rows.rows[c->at];
    return ERR_OK;
}

#endif
