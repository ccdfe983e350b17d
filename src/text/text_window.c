#include "text/text_window.h"

#include <assert.h>
#include <string.h>

#include "text/text_cursor.h"
#include "text/text_kernels.h"

void window_init(struct text_window *w)
{
    w->touched = 0;
    for (uint32_t group = 0; group < WINDOW_GROUPS; group++)
        window_clear(w, group);
}

void window_clear(struct text_window *w, uint32_t group)
{
    float *sums = w->sums + (size_t)group * WINDOW_GROUP;
    for (size_t i = 0; i < WINDOW_GROUP; i++)
        sums[i] = -0.0F;
    w->touched &= ~(1ull << group);
}

enum err window_add(struct op *op, struct text_window *w, struct cursor *c)
{
    uint64_t touched = 0;

    assert(w->end - w->base <= WINDOW_ROWS);
    for (uint32_t row = w->base; row < w->end && cursor_skip(c, row);) {
        enum err e = cursor_load(op, c);
        if (e) return e;
        cursor_rate(c);
        uint32_t first = cursor_lower(c, row);
        c->at = first;
        c->at = c->block_last < w->end ? c->rows.count : cursor_lower(c, w->end);
        for (uint32_t i = first; i < c->at; i++) {
            uint32_t at = c->rows.rows[i] - w->base;
            touched |= 1ull << at / WINDOW_GROUP;
            w->sums[at] += c->scores[i];
        }
        row = c->block_last + 1;
    }
    w->touched |= touched;
    return ERR_OK;
}

uint64_t window_reach(const struct text_window *w, uint32_t group, float need)
{
    int32_t least = 0;
    if (need > 0) memcpy(&least, &need, sizeof least);
    const void *sums = w->sums + (size_t)group * WINDOW_GROUP;
    return text_kernels()->reach(sums, least);
}
