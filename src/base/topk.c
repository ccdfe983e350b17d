#include "base/topk.h"

#include <assert.h>
#include <math.h>

/* Does a come before b in the final order? */
static bool better(const struct topk *t, const struct hit *a, const struct hit *b)
{
    if (a->score > b->score) return true;
    if (a->score < b->score) return false;
    return t->compare(t->context, a, b) < 0;
}

/* Puts hit into the hole at index and lets it sink below every worse child. */
static void sink(struct topk *t, size_t index, size_t count, struct hit hit)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= count) break;
        if (child + 1 < count && better(t, &t->hits[child], &t->hits[child + 1]))
            child++;
        if (better(t, &t->hits[child], &hit)) break;
        t->hits[index] = t->hits[child];
        index = child;
    }
    t->hits[index] = hit;
}

static void rise(struct topk *t, size_t index, struct hit hit)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (!better(t, &t->hits[parent], &hit)) break;
        t->hits[index] = t->hits[parent];
        index = parent;
    }
    t->hits[index] = hit;
}

void topk_init(struct topk *t, struct hit *hits, size_t k, hit_compare compare,
               const void *context)
{
    assert(k > 0);
    *t = (struct topk){.hits = hits, .k = k, .compare = compare, .context = context};
}

float topk_needed(const struct topk *t, const struct hit *next)
{
    if (t->count < t->k) return -INFINITY;
    float worst = t->hits[0].score;
    bool wins = t->compare(t->context, next, &t->hits[0]) < 0;
    return wins ? worst : nextafterf(worst, INFINITY);
}

void topk_push(struct topk *t, struct hit hit)
{
    assert(hit.score == hit.score); /* not NaN */
    if (t->count < t->k)
        rise(t, t->count++, hit);
    else if (better(t, &hit, &t->hits[0]))
        sink(t, 0, t->count, hit);
}

void topk_finish(struct topk *t)
{
    for (size_t left = t->count; left > 1; left--) {
        struct hit worst = t->hits[0];
        sink(t, 0, left - 1, t->hits[left - 1]);
        t->hits[left - 1] = worst;
    }
}
