/*
 * AVX2 and FMA: registers of eight floats, the rest of a row under a mask.
 */
#include "vec/distance_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { WIDTH = 8 };
typedef __m256 lanes;

/* Eight lanes from rest_masks + 8 - n: the first n are taken. */
static const int32_t rest_masks[2 * WIDTH] = {-1, -1, -1, -1, -1, -1, -1, -1};

KERNEL lanes step(lanes sum, lanes a, lanes b, bool squares)
{
    if (!squares) return _mm256_fmadd_ps(a, b, sum);
    lanes d = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(d, d, sum);
}

KERNEL lanes step_at(lanes sum, const float *a, const float *b, bool squares)
{
    return step(sum, _mm256_loadu_ps(a), _mm256_loadu_ps(b), squares);
}

KERNEL lanes rest_step(lanes sum, const float *a, const float *b, size_t count,
                       bool squares)
{
    __m256i rest =
        _mm256_loadu_si256((const __m256i *)(const void *)(rest_masks + WIDTH - count));
    return step(sum, _mm256_maskload_ps(a, rest), _mm256_maskload_ps(b, rest), squares);
}

KERNEL float lane_sum(lanes v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#define DISTANCE_TABLE distance_avx2
#include "vec/distance_simd.h"

#endif
