/*
 * merge_heap.h - which of several ascending walks comes next.
 *
 * A walk is a number here; what it is at, only its owner knows. A heap, the least walk
 * first; walks that are equal come in any order, unless is_before orders them. One
 * thread at a time.
 */
#ifndef BASE_MERGE_HEAP_H
#define BASE_MERGE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

/* Is walk a at something less than walk b? */
typedef bool (*walk_before)(const void *context, size_t a, size_t b);

struct merge_heap {
    size_t *walks; /* the least first */
    size_t count;
    walk_before is_before;
    const void *context;
};

/* Room for so many walks, of which none takes part yet. Release it. */
void merge_heap_init(struct merge_heap *h, size_t max, walk_before is_before,
                     const void *context);
void merge_heap_release(struct merge_heap *h);

/* The walk takes part; it is at something. */
void merge_heap_add(struct merge_heap *h, size_t walk);
/* The first walk has moved on; over: it is at its end and takes part no more. */
void merge_heap_next(struct merge_heap *h, bool over);

#endif
