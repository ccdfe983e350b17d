#include "cache/gather.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The ranges order[first] to order[end - 1] are read as one. */
struct group {
    size_t first, end;
};

static bool alone(struct group g)
{
    return g.end - g.first == 1;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct store_range *x = *(struct store_range *const *)a;
    const struct store_range *y = *(struct store_range *const *)b;
    int keys = strcmp(x->key, y->key);
    return keys ? keys : (x->offset > y->offset) - (x->offset < y->offset);
}

static uint64_t end_of(const struct store_range *r)
{
    return r->offset + r->size;
}

/* Whether next can be read together with what starts at first and ends at end. */
static bool belongs(const struct store_range *first, uint64_t end,
                    const struct store_range *next)
{
    uint64_t new_end = end_of(next) > end ? end_of(next) : end;
    return strcmp(first->key, next->key) == 0 && end_of(next) >= next->offset &&
           (next->offset <= end || next->offset - end <= GATHER_GAP_MAX) &&
           new_end - first->offset <= GATHER_SIZE_MAX;
}

/* The next group from order[at] on and, if it is of several, one range for all of it,
 * whose buffer takes from *room. */
static struct group next_group(struct store_range *const *order, size_t at, size_t n,
                               uint64_t *room, struct store_range *merged)
{
    const struct store_range *first = order[at];
    struct group g = {.first = at, .end = at + 1};
    uint64_t end = end_of(first);

    *merged = *first;
    while (g.end < n && belongs(first, end, order[g.end])) {
        if (end_of(order[g.end]) > end) end = end_of(order[g.end]);
        g.end++;
    }
    if (!alone(g) && end - first->offset <= *room) {
        merged->size = (size_t)(end - first->offset);
        *room -= merged->size;
    } else {
        g.end = g.first + 1;
    }
    return g;
}

/* Hands out what came of one request, and frees its buffer. */
static void scatter(struct store_range *const *order, struct group g,
                    const struct store_range *merged)
{
    for (size_t i = g.first; i < g.end; i++) {
        struct store_range *r = order[i];
        r->err = merged->err;
        if (!alone(g) && !r->err)
            memcpy(r->data, merged->data + (r->offset - merged->offset), r->size);
    }
    if (!alone(g)) mem_free(merged->data);
}

/* Which ranges are read together. */
struct plan {
    struct store_range **order;
    struct store_range *requests; /* one a group */
    struct group *groups;
    size_t count; /* of groups */
};

/* Takes what the merged requests need from *room. */
static struct plan plan_make(struct store_range *ranges, size_t n, uint64_t *room)
{
    struct plan p = {.order = mem_new_array(struct store_range *, n),
                     .requests = mem_new_array(struct store_range, n),
                     .groups = mem_new_array(struct group, n)};
    for (size_t i = 0; i < n; i++)
        p.order[i] = &ranges[i];
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what is sorted */
    if (n > 1) qsort(p.order, n, sizeof *p.order, compare_ranges);
    for (size_t at = 0; at < n; at = p.groups[p.count++].end)
        p.groups[p.count] = next_group(p.order, at, n, room, &p.requests[p.count]);
    return p;
}

static void plan_release(struct plan *p)
{
    mem_free(p->order);
    mem_free(p->requests);
    mem_free(p->groups);
}

uint64_t gather_room(struct store_range *ranges, size_t n)
{
    uint64_t room = GATHER_BUFFER_MAX;
    struct plan p = plan_make(ranges, n, &room);
    plan_release(&p);
    return GATHER_BUFFER_MAX - room;
}

enum err gather_read(struct op *op, struct store *s, struct store_range *ranges,
                     size_t n, uint64_t room)
{
    struct plan p = plan_make(ranges, n, &room);

    for (size_t i = 0; i < p.count; i++)
        if (!alone(p.groups[i])) p.requests[i].data = mem_alloc(p.requests[i].size);
    enum err e = store_read(op, s, p.requests, p.count);
    for (size_t i = 0; i < p.count; i++)
        scatter(p.order, p.groups[i], &p.requests[i]);
    plan_release(&p);
    return e;
}
