/*
 * AVX-512: registers of sixteen floats, the rest of a row under a mask.
 */
#include "vec/distance_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdbool.h>

enum { WIDTH = 16 };
typedef __m512 lanes;

KERNEL lanes step(lanes sum, lanes a, lanes b, bool squares)
{
    if (!squares) return _mm512_fmadd_ps(a, b, sum);
    lanes d = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(d, d, sum);
}

KERNEL lanes step_at(lanes sum, const float *a, const float *b, bool squares)
{
    return step(sum, _mm512_loadu_ps(a), _mm512_loadu_ps(b), squares);
}

KERNEL lanes rest_step(lanes sum, const float *a, const float *b, size_t count,
                       bool squares)
{
    __mmask16 rest = (__mmask16)((1u << count) - 1);
    return step(sum, _mm512_maskz_loadu_ps(rest, a), _mm512_maskz_loadu_ps(rest, b),
                squares);
}

KERNEL float lane_sum(lanes v)
{
    return _mm512_reduce_add_ps(v);
}

#define DISTANCE_TABLE distance_avx512
#include "vec/distance_simd.h"

#endif
