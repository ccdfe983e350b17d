#include "base/merge_heap.h"

#include <assert.h>

#include "base/mem.h"

void merge_heap_init(struct merge_heap *h, size_t max, walk_before is_before,
                     const void *context)
{
    *h = (struct merge_heap){.walks = mem_new_array(size_t, max),
                             .is_before = is_before,
                             .context = context};
}

void merge_heap_release(struct merge_heap *h)
{
    mem_free(h->walks);
    *h = (struct merge_heap){0};
}

static bool is_before(const struct merge_heap *h, size_t a, size_t b)
{
    return h->is_before(h->context, h->walks[a], h->walks[b]);
}

static void swap(struct merge_heap *h, size_t a, size_t b)
{
    size_t moved = h->walks[a];
    h->walks[a] = h->walks[b];
    h->walks[b] = moved;
}

void merge_heap_add(struct merge_heap *h, size_t walk)
{
    size_t at = h->count++;
    h->walks[at] = walk;
    for (; at > 0 && is_before(h, at, (at - 1) / 2); at = (at - 1) / 2)
        swap(h, at, (at - 1) / 2);
}

void merge_heap_next(struct merge_heap *h, bool over)
{
    assert(h->count > 0);
    if (over) h->walks[0] = h->walks[--h->count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < h->count && is_before(h, child, least)) least = child;
        if (least == at) return;
        swap(h, at, least);
        at = least;
    }
}
