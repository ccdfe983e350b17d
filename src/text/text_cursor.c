#include "text/text_cursor.h"

#include <assert.h>

#include "base/op.h"
#include "text/bm25.h"
#include "text/text_layout.h"

enum { NO_BLOCK = UINT32_MAX };

enum err cursor_open(struct op *op, struct cursor *c, const struct text_clause *clause,
                     const struct postings *list)
{
    c->clause = clause;
    c->list = *list;
    c->lengths = clause->index->lengths;
    c->essential = true;
    c->block = 0;
    c->bound_block = NO_BLOCK;
    c->loaded = NO_BLOCK;
    c->rated = NO_BLOCK;
    c->rows.count = 0;
    c->rows.bits = NULL;
    c->at = 0;
    c->scored = 0;
    if (!list->small) {
        c->block_last = postings_last_row(list, 0);
        return ERR_OK;
    }

    /* A small list has no table: what it would say is read off its postings. */
    enum err e = cursor_load(op, c);
    if (e) return e;
    cursor_rate(c);
    c->block_last = c->rows.rows[c->rows.count - 1];
    c->bound_block = 0;
    c->block_bound = 0;
    for (uint32_t i = 0; i < c->rows.count; i++)
        if (c->scores[i] > c->block_bound) c->block_bound = c->scores[i];
    return ERR_OK;
}

bool cursor_skip(struct cursor *c, uint32_t row)
{
    uint32_t count = c->list.block_count;

    if (c->block == count) return false;
    if (row <= c->block_last) return true;
    if (c->list.small) {
        c->block = count;
        return false;
    }

    /* Gallop, then halve: low is the first block that is not known to end before row.
     */
    uint32_t low = c->block + 1, high = low, step = 1;
    while (high < count && postings_last_row(&c->list, high) < row) {
        low = high + 1;
        high = count - high > step ? high + step : count;
        step *= 2;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (postings_last_row(&c->list, middle) < row)
            low = middle + 1;
        else
            high = middle;
    }
    c->block = low;
    if (low == count) return false;
    c->block_last = postings_last_row(&c->list, low);
    return true;
}

/* Rows that are bits stay so. */
static enum err load_lazy(struct op *op, struct cursor *c)
{
    assert(c->block < c->list.block_count);
    if (c->loaded == c->block) return ERR_OK;
    c->loaded = NO_BLOCK;
    if (!postings_load(&c->list, c->block, &c->rows))
        return op_fail(op, ERR_CORRUPT, "text index: damaged postings");
    c->loaded = c->block;
    c->at = 0;
    c->scored += c->rows.count;
    return ERR_OK;
}

enum err cursor_load(struct op *op, struct cursor *c)
{
    enum err e = load_lazy(op, c);
    if (!e && c->rows.bits) {
        postings_rows(&c->rows);
        c->at = 0;
    }
    return e;
}

enum err cursor_find(struct op *op, struct cursor *c, uint32_t row, bool *has)
{
    *has = false;
    if (!cursor_skip(c, row)) return ERR_OK;
    enum err e = load_lazy(op, c);
    if (e) return e;
    if (c->rows.bits) {
        *has = postings_has(&c->rows, row, &c->at);
        return ERR_OK;
    }
    c->at = cursor_lower(c, row);
    *has = c->at < c->rows.count && c->rows.rows[c->at] == row;
    return ERR_OK;
}

typedef uint32_t count4 __attribute__((vector_size(16)));
typedef float float4 __attribute__((vector_size(16)));

/* Four at a time, by the operations of bm25_score, which round the same in each lane.
 */
static inline float4 score4(float weight, const uint32_t frequencies[4],
                            const float inverse[4])
{
    count4 frequency;
    float4 norm;
    memcpy(&frequency, frequencies, sizeof frequency);
    memcpy(&norm, inverse, sizeof norm);
    float4 f = __builtin_convertvector(frequency, float4);
    return weight - weight / (1.0f + f * norm);
}

void cursor_rate(struct cursor *c)
{
    _Alignas(16) float inverse[POSTINGS_BLOCK];
    float weight = c->clause->weight;
    uint32_t count = c->rows.count;

    if (c->rated == c->loaded) return;
    postings_frequencies(&c->rows);
    for (uint32_t i = 0; i < count; i++)
        inverse[i] = c->clause->inverse[c->lengths[c->rows.rows[i]]];
    for (uint32_t i = count; i % 4; i++)
        inverse[i] = 0;
    for (uint32_t i = 0; i < count; i += 4) {
        float4 score = score4(weight, c->rows.frequencies + i, inverse + i);
        memcpy(c->scores + i, &score, sizeof score);
    }
    c->rated = c->loaded;
}

float cursor_score(const struct cursor *c, uint32_t row)
{
    if (c->rated == c->loaded) return c->scores[c->at];
    float inverse = c->clause->inverse[c->lengths[row]];
    return bm25_score(c->clause->weight, postings_frequency(&c->rows, c->at), inverse);
}

enum err cursor_seek_far(struct op *op, struct cursor *c, uint32_t row, uint32_t *found)
{
    *found = UINT32_MAX;
    if (!cursor_skip(c, row)) return ERR_OK;
    enum err e = cursor_load(op, c);
    if (e) return e;

    c->at = cursor_lower(c, row);
    assert(c->at < c->rows.count); /* the block's last row is >= row */
    *found = c->rows.rows[c->at];
    return ERR_OK;
}

static float pairs_bound(const struct cursor *c, uint32_t block)
{
    struct postings_bounds b;
    float inverse[POSTINGS_PAIRS];

    postings_bounds(&c->list, block, &b);
    for (size_t i = 0; i < POSTINGS_PAIRS; i++)
        inverse[i] = c->clause->inverse[b.lengths[i]];
    float4 scores = score4(c->clause->weight, b.frequencies, inverse);
    float left = scores[0] > scores[1] ? scores[0] : scores[1];
    float right = scores[2] > scores[3] ? scores[2] : scores[3];
    return left > right ? left : right;
}

float cursor_block_bound(struct cursor *c)
{
    assert(c->block < c->list.block_count);
    if (c->bound_block != c->block) {
        c->block_bound = pairs_bound(c, c->block);
        c->bound_block = c->block;
    }
    return c->block_bound;
}

float cursor_bound(struct cursor *c, uint32_t end, uint32_t blocks_max)
{
    float best = cursor_block_bound(c);
    if (c->block_last >= end - 1) return best;
    if (c->list.block_count - c->block > blocks_max &&
        postings_last_row(&c->list, c->block + blocks_max - 1) < end - 1)
        return c->clause->weight;

    for (uint32_t block = c->block + 1; block < c->list.block_count; block++) {
        float bound = pairs_bound(c, block);
        if (bound > best) best = bound;
        if (postings_last_row(&c->list, block) >= end - 1) break;
    }
    return best;
}
