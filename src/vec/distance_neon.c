/*
 * NEON: four sums of four floats, the rest of a row one by one. Compiled on arm64 only.
 */
#include "vec/distance_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <stdbool.h>
#include <string.h>

enum { WIDTH = 4, PREFETCH_BYTES = 4096 };

/* One of the two distances; `squares` and `scan` are constants wherever this is
 * inlined. */
#define KERNEL static inline __attribute__((always_inline))

KERNEL float32x4_t load4(const float *p)
{
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p));
}

KERNEL float32x4_t step_at(float32x4_t sum, const float *a, const float *b,
                           bool squares)
{
    float32x4_t x = load4(a), y = load4(b);
    if (!squares) return vfmaq_f32(sum, x, y);
    float32x4_t d = vsubq_f32(x, y);
    return vfmaq_f32(sum, d, d);
}

/* Fewer than four floats, as a vector filled up with zeros. */
KERNEL float32x4_t rest_step(float32x4_t sum, const float *a, const float *b,
                             size_t count, bool squares)
{
    float x[WIDTH] = {0}, y[WIDTH] = {0};
    memcpy(x, a, count * sizeof *x);
    memcpy(y, b, count * sizeof *y);
    return step_at(sum, x, y, squares);
}

KERNEL float distance(const float *a, const float *b, size_t dim, bool squares,
                      bool scan)
{
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0, s2 = s0, s3 = s0;
    for (; dim >= 4 * WIDTH; dim -= 4 * WIDTH, a += 4 * WIDTH, b += 4 * WIDTH) {
        if (scan) {
            const char *ahead = (const char *)a + PREFETCH_BYTES;
            __builtin_prefetch(ahead);
        }
        s0 = step_at(s0, a, b, squares);
        s1 = step_at(s1, a + WIDTH, b + WIDTH, squares);
        s2 = step_at(s2, a + 2 * WIDTH, b + 2 * WIDTH, squares);
        s3 = step_at(s3, a + 3 * WIDTH, b + 3 * WIDTH, squares);
    }
    for (; dim >= WIDTH; dim -= WIDTH, a += WIDTH, b += WIDTH)
        s0 = step_at(s0, a, b, squares);
    if (dim > 0) s1 = rest_step(s1, a, b, dim, squares);
    return vaddvq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3)));
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

const struct distance_kernels distance_neon = {dot, l2, dot_rows, l2_rows};

#endif
