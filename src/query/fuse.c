#include <stdlib.h>

#include "base/op.h"
#include "query/exec.h"

struct table {
    struct fused *items; /* in the order they were met */
    size_t count;
    uint32_t *slots; /* index + 1 into items, 0 is empty */
    size_t mask;
};

static struct fused *find_or_add(struct table *t, const struct hit *hit)
{
    uint64_t key = (uint64_t)hit->source << 32 | hit->row;
    size_t slot = (size_t)(key * 0x9e3779b97f4a7c15u >> 32) & t->mask;

    for (; t->slots[slot]; slot = (slot + 1) & t->mask) {
        struct fused *f = &t->items[t->slots[slot] - 1];
        if (f->hit.source == hit->source && f->hit.row == hit->row) return f;
    }
    t->items[t->count] = (struct fused){.hit = *hit};
    t->slots[slot] = (uint32_t)++t->count;
    return &t->items[t->count - 1];
}

static int better(const void *a, const void *b, void *snapshot)
{
    const struct fused *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return exec_compare_ids(snapshot, &x->hit, &y->hit);
}

enum err fuse_rrf(struct op *op, const struct exec *x, const struct ranking *rankings,
                  struct fused **out, size_t *count)
{
    const struct query *q = x->query;
    struct table t = {.mask = 15};
    size_t total = 0;

    for (size_t i = 0; i < q->rank_count; i++)
        total += rankings[i].count;
    while (t.mask + 1 < 2 * total)
        t.mask = t.mask * 2 + 1;
    t.items = op_new_array(op, struct fused, total + 1);
    t.slots = op_new_array(op, uint32_t, t.mask + 1);
    if (!t.items || !t.slots) return ERR_LIMIT;

    for (size_t i = 0; i < q->rank_count; i++) {
        for (size_t position = 1; position <= rankings[i].count; position++) {
            struct fused *f = find_or_add(&t, &rankings[i].hits[position - 1]);
            f->score += (double)q->ranks[i].weight / (q->rrf_k + (double)position);
        }
    }
    qsort_r(t.items, t.count, sizeof *t.items, better, x->snapshot);
    *out = t.items;
    *count = t.count < q->top_k ? t.count : q->top_k;
    return ERR_OK;
}
