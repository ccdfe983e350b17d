/*
 * distance_simd.h - the loops of distance_kernels.h over registers of several floats.
 *
 * Included once by the file of each instruction set, which says before
 *   WIDTH                                  floats of a register: 4, 8 or 16
 *   lanes                                  the register's type
 *   step_at(sum, a, b, squares)            sum + a * b or + (a - b)^2, lane by lane
 *   rest_step(sum, a, b, count, squares)   the same of count < WIDTH floats
 *   lane_sum(v)                            the sum of a register
 *   DISTANCE_TABLE                         the name of its table
 *
 * Four sums side by side, because one would wait for itself. A scan is bound by memory,
 * and the hardware prefetcher stops at each 4 KiB page, so rows are asked for
 * PREFETCH_BYTES ahead by hand; asking for bytes behind the last row is harmless (a
 * prefetch never faults).
 */
#include <stdbool.h>

enum { LINE_BYTES = 64, PREFETCH_BYTES = 4096, PASS_BYTES = 4 * WIDTH * 4 };

KERNEL void prefetch_pass(const float *row)
{
    const char *ahead = (const char *)row + PREFETCH_BYTES;
    __builtin_prefetch(ahead);
    if (PASS_BYTES > LINE_BYTES) __builtin_prefetch(ahead + LINE_BYTES);
    if (PASS_BYTES > 2 * LINE_BYTES) {
        __builtin_prefetch(ahead + 2 * LINE_BYTES);
        __builtin_prefetch(ahead + 3 * LINE_BYTES);
    }
}

/* `squares` and `scan` are constants wherever this is inlined. */
KERNEL float distance(const float *a, const float *b, size_t dim, bool squares,
                      bool scan)
{
    lanes s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
    for (; dim >= 4 * WIDTH; dim -= 4 * WIDTH, a += 4 * WIDTH, b += 4 * WIDTH) {
        if (scan) prefetch_pass(a);
        s0 = step_at(s0, a, b, squares);
        s1 = step_at(s1, a + WIDTH, b + WIDTH, squares);
        s2 = step_at(s2, a + 2 * WIDTH, b + 2 * WIDTH, squares);
        s3 = step_at(s3, a + 3 * WIDTH, b + 3 * WIDTH, squares);
    }
    for (; dim >= WIDTH; dim -= WIDTH, a += WIDTH, b += WIDTH)
        s0 = step_at(s0, a, b, squares);
    if (dim > 0) s1 = rest_step(s1, a, b, dim, squares);
    return lane_sum((s0 + s1) + (s2 + s3));
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

const struct distance_kernels DISTANCE_TABLE = {dot, l2, dot_rows, l2_rows};
