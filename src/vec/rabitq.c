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

void rabitq_encode1(enum rabitq_kind kind, const float *residual, const float *centroid,
                    size_t dim, uint32_t row, size_t index, uint8_t *block)
{
    double rr = 0, magnitudes = 0, signed_c = 0;
    for (size_t d = 0; d < dim; d++) {
        double r = (double)residual[d], c = (double)centroid[d];
        size_t in_half = d % GROUP_DIMS % 16;
        uint8_t *byte = block + d / GROUP_DIMS * GROUP_BYTES + index * 4 + in_half / 4;
        size_t bit = d % 4 + (d % GROUP_DIMS < 16 ? 0 : 4);
        rr += r * r;
        magnitudes += fabs(r);
        signed_c += r > 0 ? c : -c;
        if (r > 0) *byte |= (uint8_t)(1u << bit);
    }
    struct sums s = {rr, (double)dim / 4, magnitudes / 2, signed_c / 2};
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
    float largest = 0;
    for (size_t d = 0; d < dim; d++)
        largest = fmaxf(largest, fabsf(residual[d]));
    float inverse = largest > 0 ? 127.5f / (largest * CLIP) : 0;
    struct sums s = {0, 0, 0, 0};
    for (size_t d = 0; d < dim; d++) {
        int x = (int)(residual[d] * inverse + 128.0f);
        x = x < 0 ? 0 : x > 255 ? 255 : x;
        double v = x - 127.5, r = (double)residual[d];
        s.rr += r * r;
        s.vv += v * v;
        s.vr += v * r;
        s.vc += v * (double)centroid[d];
        code[d] = (uint8_t)x;
    }
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
