/*
 * topk.h - the k best results, higher score first.
 *
 * Equal scores are ordered by the caller's compare function (by document id), which is
 * asked only on a tie, so results do not depend on the order in which rows arrive.
 * Scores are never NaN (asserted). One thread at a time.
 */
#ifndef BASE_TOPK_H
#define BASE_TOPK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hit {
    float score;
    uint32_t source; /* index into the snapshot's sources */
    uint32_t row;    /* row of that source */
};

/* <0 when a comes before b at equal score; never 0 for different hits. */
typedef int (*hit_compare)(const void *context, const struct hit *a,
                           const struct hit *b);

struct topk {
    struct hit *hits; /* a heap, the worst kept hit at the root */
    size_t count;
    size_t k;
    hit_compare compare;
    const void *context;
};

/* hits has room for k; it stays the caller's. k > 0. */
void topk_init(struct topk *t, struct hit *hits, size_t k, hit_compare compare,
               const void *context);
/* The score a hit must reach to have a chance: below it, do not bother. -inf while not
 * full. A hit that equals it may still win its tie. */
static inline float topk_floor(const struct topk *t)
{
    return t->count < t->k ? -__builtin_inff() : t->hits[0].score;
}
/* The least score with which a hit at the place of `next` (its score does not count)
 * would be kept, and any hit that comes behind it at equal score; -inf while not full.
 */
float topk_needed(const struct topk *t, const struct hit *next);
/* Keeps the hit if it is among the k best so far. */
void topk_push(struct topk *t, struct hit hit);
/* Sorts hits best first; nothing may be pushed afterwards. */
void topk_finish(struct topk *t);

#endif
