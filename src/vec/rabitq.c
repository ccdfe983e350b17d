#include "vec/rabitq.h"

#include <math.h>
#include <string.h>

#include "vec/distance.h"

enum { FACTORS = 3, GROUP_DIMS = 32, GROUP_BYTES = 128 };

/* An 8-bit code may cut off its largest coordinate a little: the others gain. */
static const float CLIP = 0.98f;

size_t rabitq_factors_offset(size_t dim)
{
    return dim * BLOCK_CODES / 8;
}

size_t rabitq_rows_offset(size_t dim)
{
    return rabitq_factors_offset(dim) + FACTORS * BLOCK_CODES * sizeof(float);
}

size_t rabitq_block_size(size_t dim)
{
    return rabitq_rows_offset(dim) + BLOCK_CODES * sizeof(uint32_t);
}

/* Sums of a code in double: the factors cancel large terms. */
struct sums {
    double rr, vv, vr, vc;
};

/* LANES sums side by side, because one would wait for itself, and in one order at every
 * level. dim is a multiple of it. */
enum { LANES = 8 };

static double add_lanes(const double lanes[LANES])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

struct factors {
    float add, rescale, error;
};

static struct factors factors_of(enum rabitq_kind kind, const struct sums *s,
                                 size_t dim)
{
    double scale = s->vr > 0 ? s->rr / s->vr : 0; /* 0: o lies on c */
    double spread = s->vr > 0 ? s->rr * s->vv / (s->vr * s->vr) - 1 : 0;
    double error = sqrt(s->rr) * sqrt(fmax(spread, 0) / (double)(dim - 1));
    if (kind == RABITQ_PRODUCT) return (struct factors){0, (float)-scale, (float)error};
    return (struct factors){(float)(s->rr + 2 * scale * s->vc), (float)(-2 * scale),
                            (float)(2 * error)};
}

static void put_float(uint8_t *array, size_t index, float value)
{
    memcpy(array + index * sizeof value, &value, sizeof value);
}

/* The signs of GROUP_DIMS coordinates, as a code has them. */
static void put_signs(const float *residual, uint8_t *bytes)
{
    enum { HALF = GROUP_DIMS / 2, NIBBLE = 4 };
    for (size_t b = 0; b < HALF / NIBBLE; b++) {
        const float *low = residual + b * NIBBLE, *high = low + HALF;
        unsigned bits = 0;
        for (size_t i = 0; i < NIBBLE; i++)
            bits |= (unsigned)(low[i] > 0) << i | (unsigned)(high[i] > 0)
                                                      << (NIBBLE + i);
        bytes[b] = (uint8_t)bits;
    }
}

void rabitq_encode1(enum rabitq_kind kind, const float *residual, const float *centroid,
                    size_t dim, uint32_t row, size_t index, uint8_t *block)
{
    double rr[LANES] = {0}, magnitudes[LANES] = {0}, signed_c[LANES] = {0};
    for (size_t d = 0; d < dim; d += LANES) {
        for (size_t i = 0; i < LANES; i++) {
            double r = (double)residual[d + i], c = (double)centroid[d + i];
            rr[i] += r * r;
            magnitudes[i] += fabs(r);
            signed_c[i] += r > 0 ? c : -c;
        }
    }
    for (size_t d = 0; d < dim; d += GROUP_DIMS)
        put_signs(residual + d, block + d / GROUP_DIMS * GROUP_BYTES + index * 4);
    struct sums s = {add_lanes(rr), (double)dim / 4, add_lanes(magnitudes) / 2,
                     add_lanes(signed_c) / 2};
    struct factors f = factors_of(kind, &s, dim);
    uint8_t *factors = block + rabitq_factors_offset(dim);
    put_float(factors, index, f.add);
    put_float(factors, BLOCK_CODES + index, f.rescale);
    put_float(factors, 2 * BLOCK_CODES + index, f.error);
    memcpy(block + rabitq_rows_offset(dim) + index * sizeof row, &row, sizeof row);
}

void rabitq_encode8(enum rabitq_kind kind, const float *residual, const float *centroid,
                    size_t dim, uint8_t *code, uint8_t *factors)
{
    double rr[LANES] = {0}, vv[LANES] = {0}, vr[LANES] = {0}, vc[LANES] = {0};
    float largest = vec_kernels()->extent(residual, dim).largest;
    float inverse = largest > 0 ? 127.5f / (largest * CLIP) : 0;
    for (size_t d = 0; d < dim; d += LANES) {
        for (size_t i = 0; i < LANES; i++) {
            int x = (int)(residual[d + i] * inverse + 128.0f);
            x = x < 0 ? 0 : x > 255 ? 255 : x;
            double v = x - 127.5, r = (double)residual[d + i];
            rr[i] += r * r;
            vv[i] += v * v;
            vr[i] += v * r;
            vc[i] += v * (double)centroid[d + i];
            code[d + i] = (uint8_t)x;
        }
    }
    struct sums s = {add_lanes(rr), add_lanes(vv), add_lanes(vr), add_lanes(vc)};
    struct factors f = factors_of(kind, &s, dim);
    put_float(factors, 0, f.add);
    put_float(factors, 1, f.rescale);
}

void rabitq_query_prepare(struct rabitq_query *q, size_t dim)
{
    const struct vec_kernels *kernels = vec_kernels();
    struct query_extent e = kernels->extent(q->values, dim);
    q->step1 = e.range > 0 ? e.range / 255 : 1;
    q->offset1 = e.least - e.sum / 2;
    /* Two standard deviations of a sum of dim / 4 errors, each uniform in a step. */
    q->slack1 = 2 * q->step1 * sqrtf((float)dim / TABLE_GROUP / 12);
    kernels->table(q->values, dim, q->step1, q->table);
    q->step8 = e.largest > 0 ? e.largest / 127 : 1;
    q->offset8 = -127.5f * q->step8 *
                 (float)kernels->quantise(q->values, dim, q->step8, q->codes);
    q->norm = sqrtf(distance_dot(q->values, q->values, dim));
}

struct bound_terms rabitq_terms(enum rabitq_kind kind, const struct rabitq_query *q,
                                const float *centroid, size_t dim, float eps)
{
    struct bound_terms t = {.step = q->step1, .offset = q->offset1, .slack = q->slack1};
    if (kind == RABITQ_PRODUCT) {
        t.add = -distance_dot(q->values, centroid, dim);
        t.error = eps * q->norm;
    } else {
        t.add = distance_l2(q->values, centroid, dim);
        t.error = eps * sqrtf(t.add);
    }
    return t;
}
