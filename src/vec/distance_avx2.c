/*
 * AVX2 and FMA: four sums of eight floats, the rest of a row under a mask. Prefetch as
 * in distance_avx512.c.
 */
#include "vec/distance_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { WIDTH = 8, LINE_BYTES = 64, PREFETCH_BYTES = 4096 };

/* One of the two distances; `squares` and `scan` are constants wherever this is
 * inlined. */
#define KERNEL static inline __attribute__((always_inline))

/* Eight lanes from rest_masks + 8 - n: the first n are taken. */
static const int32_t rest_masks[2 * WIDTH] = {-1, -1, -1, -1, -1, -1, -1, -1};

KERNEL __m256 step(__m256 sum, __m256 a, __m256 b, bool squares)
{
    if (!squares) return _mm256_fmadd_ps(a, b, sum);
    __m256 d = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(d, d, sum);
}

KERNEL __m256 step_at(__m256 sum, const float *a, const float *b, bool squares)
{
    return step(sum, _mm256_loadu_ps(a), _mm256_loadu_ps(b), squares);
}

KERNEL float lane_sum(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

KERNEL float distance(const float *a, const float *b, size_t dim, bool squares,
                      bool scan)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    for (; dim >= 4 * WIDTH; dim -= 4 * WIDTH, a += 4 * WIDTH, b += 4 * WIDTH) {
        if (scan) {
            const char *ahead = (const char *)a + PREFETCH_BYTES;
            _mm_prefetch(ahead, _MM_HINT_T0);
            _mm_prefetch(ahead + LINE_BYTES, _MM_HINT_T0);
        }
        s0 = step_at(s0, a, b, squares);
        s1 = step_at(s1, a + WIDTH, b + WIDTH, squares);
        s2 = step_at(s2, a + 2 * WIDTH, b + 2 * WIDTH, squares);
        s3 = step_at(s3, a + 3 * WIDTH, b + 3 * WIDTH, squares);
    }
    for (; dim >= WIDTH; dim -= WIDTH, a += WIDTH, b += WIDTH)
        s0 = step_at(s0, a, b, squares);
    if (dim > 0) {
        __m256i rest = _mm256_loadu_si256(
            (const __m256i *)(const void *)(rest_masks + WIDTH - dim));
        s1 =
            step(s1, _mm256_maskload_ps(a, rest), _mm256_maskload_ps(b, rest), squares);
    }
    return lane_sum(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

KERNEL void distance_rows(const float *query, const float *rows, size_t count,
                          size_t dim, float *out, bool squares)
{
    for (size_t r = 0; r < count; r++, rows += dim)
        out[r] = distance(rows, query, dim, squares, true);
}

static float dot(const float *a, const float *b, size_t dim)
{
    return distance(a, b, dim, false, false);
}

static float l2(const float *a, const float *b, size_t dim)
{
    return distance(a, b, dim, true, false);
}

static void dot_rows(const float *query, const float *rows, size_t count, size_t dim,
                     float *out)
{
    distance_rows(query, rows, count, dim, out, false);
}

static void l2_rows(const float *query, const float *rows, size_t count, size_t dim,
                    float *out)
{
    distance_rows(query, rows, count, dim, out, true);
}

const struct distance_kernels distance_avx2 = {dot, l2, dot_rows, l2_rows};

#endif
