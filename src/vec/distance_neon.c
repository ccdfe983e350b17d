/*
 * NEON: registers of four floats, the rest of a row filled up with zeros. Compiled on
 * arm64 only.
 */
#include "vec/distance_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <stdbool.h>
#include <string.h>

enum { WIDTH = 4 };
typedef float32x4_t lanes;

KERNEL lanes load4(const float *p)
{
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p));
}

KERNEL lanes step_at(lanes sum, const float *a, const float *b, bool squares)
{
    lanes x = load4(a), y = load4(b);
    if (!squares) return vfmaq_f32(sum, x, y);
    lanes d = vsubq_f32(x, y);
    return vfmaq_f32(sum, d, d);
}

KERNEL lanes rest_step(lanes sum, const float *a, const float *b, size_t count,
                       bool squares)
{
    float x[WIDTH] = {0}, y[WIDTH] = {0};
    memcpy(x, a, count * sizeof *x);
    memcpy(y, b, count * sizeof *y);
    return step_at(sum, x, y, squares);
}

KERNEL float lane_sum(lanes v)
{
    return vaddvq_f32(v);
}

#define DISTANCE_TABLE distance_neon
#include "vec/distance_simd.h"

#endif
