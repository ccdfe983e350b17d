/*
 * AVX-512: four sums of sixteen floats, the rest of a row under a mask.
 *
 * A scan is bound by memory. The hardware prefetcher stops at each 4 KiB page, so rows
 * are asked for PREFETCH_BYTES ahead by hand; asking for bytes behind the last row is
 * harmless (a prefetch never faults).
 */
#include "vec/distance_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { WIDTH = 16, LINE_BYTES = 64, PREFETCH_BYTES = 4096 };

/* One of the two distances; `squares` and `scan` are constants wherever this is
 * inlined. */
#define KERNEL static inline __attribute__((always_inline))

KERNEL __m512 step(__m512 sum, __m512 a, __m512 b, bool squares)
{
    if (!squares) return _mm512_fmadd_ps(a, b, sum);
    __m512 d = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(d, d, sum);
}

KERNEL __m512 step_at(__m512 sum, const float *a, const float *b, bool squares)
{
    return step(sum, _mm512_loadu_ps(a), _mm512_loadu_ps(b), squares);
}

KERNEL float distance(const float *a, const float *b, size_t dim, bool squares,
                      bool scan)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    for (; dim >= 4 * WIDTH; dim -= 4 * WIDTH, a += 4 * WIDTH, b += 4 * WIDTH) {
        if (scan) {
            const char *ahead = (const char *)a + PREFETCH_BYTES;
            _mm_prefetch(ahead, _MM_HINT_T0);
            _mm_prefetch(ahead + LINE_BYTES, _MM_HINT_T0);
            _mm_prefetch(ahead + 2 * LINE_BYTES, _MM_HINT_T0);
            _mm_prefetch(ahead + 3 * LINE_BYTES, _MM_HINT_T0);
        }
        s0 = step_at(s0, a, b, squares);
        s1 = step_at(s1, a + WIDTH, b + WIDTH, squares);
        s2 = step_at(s2, a + 2 * WIDTH, b + 2 * WIDTH, squares);
        s3 = step_at(s3, a + 3 * WIDTH, b + 3 * WIDTH, squares);
    }
    for (; dim >= WIDTH; dim -= WIDTH, a += WIDTH, b += WIDTH)
        s0 = step_at(s0, a, b, squares);
    if (dim > 0) {
        __mmask16 rest = (__mmask16)((1u << dim) - 1);
        s1 = step(s1, _mm512_maskz_loadu_ps(rest, a), _mm512_maskz_loadu_ps(rest, b),
                  squares);
    }
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
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

const struct distance_kernels distance_avx512 = {dot, l2, dot_rows, l2_rows};

#endif
