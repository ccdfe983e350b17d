/*
 * vectors.h - random vectors for the tests of vec/.
 */
#ifndef TESTS_UNIT_VECTORS_H
#define TESTS_UNIT_VECTORS_H

#include <math.h>

#include "base/mem.h"
#include "unit/test.h"

static inline float gaussian(uint64_t *seed)
{
    double u = ((double)(test_random(seed) >> 11) + 1) * 0x1p-53;
    double angle = (double)(test_random(seed) >> 11) * 0x1p-53 * 6.283185307179586;
    return (float)(sqrt(-2 * log(u)) * cos(angle));
}

/* Independent, of mean 0 and deviation 1; free with mem_free. */
static inline float *gaussians(size_t count, uint64_t *seed)
{
    float *p = mem_new_array(float, count + 1);
    for (size_t i = 0; i < count; i++)
        p[i] = gaussian(seed);
    return p;
}

#endif
