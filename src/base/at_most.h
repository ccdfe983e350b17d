/*
 * at_most.h - the smaller of two numbers, where one is what is there or wanted and the
 * other what there is room for. The plain name is that of rows, clusters and counts.
 */
#ifndef BASE_AT_MOST_H
#define BASE_AT_MOST_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t at_most(uint32_t value, uint32_t limit)
{
    return value < limit ? value : limit;
}

static inline size_t at_most_size(size_t value, size_t limit)
{
    return value < limit ? value : limit;
}

static inline int64_t at_most_i64(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

#endif
