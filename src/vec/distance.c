#include "vec/distance.h"

#include <math.h>
#include <string.h>

#include "base/simd.h"
#include "vec/distance_kernels.h"

static const struct distance_kernels *kernels(void)
{
    switch (simd_level()) {
#if defined(__x86_64__)
    case SIMD_AVX512:
    case SIMD_AVX512_VNNI: return &distance_avx512;
    case SIMD_AVX2: return &distance_avx2;
#elif defined(__aarch64__)
    case SIMD_NEON: return &distance_neon;
#endif
    default: return &distance_plain;
    }
}

float distance_dot(const float *a, const float *b, size_t dim)
{
    return kernels()->dot(a, b, dim);
}

float distance_l2(const float *a, const float *b, size_t dim)
{
    return kernels()->l2(a, b, dim);
}

void distance_dot_rows(const float *query, const float *rows, size_t count, size_t dim,
                       float *out)
{
    kernels()->dot_rows(query, rows, count, dim, out);
}

void distance_l2_rows(const float *query, const float *rows, size_t count, size_t dim,
                      float *out)
{
    kernels()->l2_rows(query, rows, count, dim, out);
}

enum { SUMS = 8 }; /* side by side, because one would wait for itself */

static double load(const float *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return (double)v;
}

double distance_dot_f64(const float *a, const float *b, size_t dim)
{
    double sums[SUMS] = {0}, sum = 0;
    for (; dim >= SUMS; dim -= SUMS, a += SUMS, b += SUMS)
#pragma GCC unroll 8
        for (size_t i = 0; i < SUMS; i++)
            sums[i] += load(a + i) * load(b + i);
    for (size_t i = 0; i < dim; i++)
        sums[i] += load(a + i) * load(b + i);
    for (size_t i = 0; i < SUMS; i++)
        sum += sums[i];
    return sum;
}

double distance_l2_f64(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double d = load(a + i) - load(b + i);
        sum += d * d;
    }
    return sum;
}

double distance_norm(const float *a, size_t dim)
{
    return sqrt(distance_dot_f64(a, a, dim));
}
