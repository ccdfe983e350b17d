/*
 * text_window.h - the sums of several clauses' scores over a stretch of rows, and which
 * of these rows reach a score.
 *
 * A row without a score holds -0, which is less than any score in the order of the bits
 * as signed numbers, and which adding a score leaves unrounded. So nothing else needs
 * to be kept to tell it from a row whose score is 0.
 */
#ifndef TEXT_TEXT_WINDOW_H
#define TEXT_TEXT_WINDOW_H

#include <stdint.h>

#include "base/err.h"

struct cursor;
struct op;

enum {
    WINDOW_GROUP = 64,
    WINDOW_GROUPS = 64,
    WINDOW_ROWS = WINDOW_GROUP * WINDOW_GROUPS
};

struct text_window {
    uint32_t base, end; /* rows; at most WINDOW_ROWS */
    uint64_t touched;   /* groups of rows in which there are scores */
    _Alignas(64) float sums[WINDOW_ROWS];
};

/* No row has a score. Each window ends with its groups cleared, so once will do. */
void window_init(struct text_window *w);
/* Adds the scores of the cursor's rows in the window: the float sum in the order of
 * adding. The cursor ends behind the window. ERR_CORRUPT. */
enum err window_add(struct op *op, struct text_window *w, struct cursor *c);
/* Bit i: row base + group * 64 + i has a score, and it is at least `need`. */
uint64_t window_reach(const struct text_window *w, uint32_t group, float need);
/* Takes all scores out of a group. */
void window_clear(struct text_window *w, uint32_t group);

#endif
