/*
 * The plain twin: what every other table must equal. Eight sums side by side, because
 * one long sum would wait for itself and lose precision; memcpy, because rows need no
 * alignment.
 */
#include <string.h>

#include "vec/distance_kernels.h"

enum { LANES = 8 };

static float load(const float *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

static float lane_sum(const float *lanes)
{
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

static float dot(const float *a, const float *b, size_t dim)
{
    float lanes[LANES] = {0};
    for (; dim >= LANES; dim -= LANES, a += LANES, b += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += load(a + k) * load(b + k);
    for (size_t k = 0; k < dim; k++)
        lanes[k] += load(a + k) * load(b + k);
    return lane_sum(lanes);
}

static float l2(const float *a, const float *b, size_t dim)
{
    float lanes[LANES] = {0};
    for (; dim >= LANES; dim -= LANES, a += LANES, b += LANES)
        for (size_t k = 0; k < LANES; k++) {
            float d = load(a + k) - load(b + k);
            lanes[k] += d * d;
        }
    for (size_t k = 0; k < dim; k++) {
        float d = load(a + k) - load(b + k);
        lanes[k] += d * d;
    }
    return lane_sum(lanes);
}

static void dot_rows(const float *query, const float *rows, size_t count, size_t dim,
                     float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = dot(query, rows + i * dim, dim);
}

static void l2_rows(const float *query, const float *rows, size_t count, size_t dim,
                    float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = l2(query, rows + i * dim, dim);
}

const struct distance_kernels distance_plain = {dot, l2, dot_rows, l2_rows};
