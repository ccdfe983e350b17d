/*
 * vec_float.h - the float loops of vec_kernels.h in the compiler's own vectors.
 *
 * Included once by the file of each instruction set, which says before
 *   LANES                floats of a register: 4, 8 or 16
 *   LANES_FMA(a, b, c)   a * b + c, fused or not
 *   LANES_SUM(v)         the sum of a register
 *   TILE_WIDTH           columns of a tile that fit the registers: 2 or 4
 */
#include "vec/vec_kernels.h"

#include <string.h>

typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t lanes_int __attribute__((vector_size(LANES * 4)));
typedef uint32_t lanes_bits __attribute__((vector_size(LANES * 4)));
typedef float sixteen __attribute__((vector_size(64)));
typedef int32_t sixteen_int __attribute__((vector_size(64)));
typedef int8_t sixteen_i8 __attribute__((vector_size(16)));
typedef uint8_t sixteen_u8 __attribute__((vector_size(16)));

#define INLINED static inline __attribute__((always_inline))

INLINED lanes load_lanes(const void *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINED void store_lanes(void *p, lanes v)
{
    memcpy(p, &v, sizeof v);
}

/* One butterfly between lanes that lie h apart. */
INLINED lanes butterfly(lanes x, int h)
{
    lanes_int other;
    lanes_bits signs;
    for (int i = 0; i < LANES; i++) {
        other[i] = i ^ h;
        signs[i] = i & h ? 0x80000000u : 0;
    }
    return __builtin_shuffle(x, other) + (lanes)((lanes_bits)x ^ signs);
}

static void hadamard(float *x, size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        lanes v = butterfly(butterfly(load_lanes(x + i), 1), 2);
        if (LANES > 4) v = butterfly(v, 4);
        if (LANES > 8) v = butterfly(v, 8);
        store_lanes(x + i, v);
    }
    size_t h = LANES;
    for (; 4 * h <= count; h *= 4)
        for (size_t first = 0; first < count; first += 4 * h)
            for (float *p = x + first; p < x + first + h; p += LANES) {
                lanes a = load_lanes(p), b = load_lanes(p + h);
                lanes c = load_lanes(p + 2 * h), d = load_lanes(p + 3 * h);
                lanes ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
                store_lanes(p, ab + cd);
                store_lanes(p + h, a_b + c_d);
                store_lanes(p + 2 * h, ab - cd);
                store_lanes(p + 3 * h, a_b - c_d);
            }
    if (h == count) return;
    for (float *p = x; p < x + h; p += LANES) {
        lanes a = load_lanes(p), b = load_lanes(p + h);
        store_lanes(p, a + b);
        store_lanes(p + h, a - b);
    }
}

static void flip(float *x, const uint32_t *signs, size_t dim, float scale)
{
    for (size_t i = 0; i < dim; i += LANES) {
        lanes_bits s;
        memcpy(&s, signs + i, sizeof s);
        lanes v = load_lanes(x + i);
        store_lanes(x + i, (lanes)((lanes_bits)v ^ s) * scale);
    }
}

static void mix(float *x, size_t dim)
{
    const float scale = 0.70710678f;
    for (float *p = x, *q = x + dim / 2; p < x + dim / 2; p += LANES, q += LANES) {
        lanes a = load_lanes(p), b = load_lanes(q);
        store_lanes(p, (a + b) * scale);
        store_lanes(q, (a - b) * scale);
    }
}

static struct query_extent extent(const float *query, size_t dim)
{
    const sixteen_int one = {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14};
    const sixteen_int two = {2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13};
    sixteen sum = {0}, magnitudes = {0}, largest = {0}, range = {0};
    for (size_t d = 0; d < dim; d += 16) {
        sixteen q;
        memcpy(&q, query + d, sizeof q);
        sixteen magnitude = (sixteen)((sixteen_int)q & 0x7fffffff);
        sixteen pairs = magnitude + __builtin_shuffle(magnitude, one);
        sum += q;
        magnitudes += magnitude;
        sixteen four = pairs + __builtin_shuffle(pairs, two);
        sixteen_int first = magnitude > largest, second = four > range;
        largest = (sixteen)(((sixteen_int)magnitude & first) |
                            ((sixteen_int)largest & ~first));
        range =
            (sixteen)(((sixteen_int)four & second) | ((sixteen_int)range & ~second));
    }
    struct query_extent e = {0, 0, 0, 0};
    for (int i = 0; i < 16; i++) {
        e.sum += sum[i];
        e.least += (sum[i] - magnitudes[i]) / 2;
        e.largest = largest[i] > e.largest ? largest[i] : e.largest;
        e.range = range[i] > e.range ? range[i] : e.range;
    }
    return e;
}

INLINED void tile_columns(const float *const a[TILE], const float *const *b, size_t dim,
                          float *out)
{
    lanes sums[TILE][TILE_WIDTH] = {{{0}}};
    for (size_t d = 0; d < dim; d += LANES) {
        lanes column[TILE_WIDTH];
#pragma GCC unroll 4
        for (int j = 0; j < TILE_WIDTH; j++)
            column[j] = load_lanes(b[j] + d);
#pragma GCC unroll 4
        for (int i = 0; i < TILE; i++) {
            lanes row = load_lanes(a[i] + d);
#pragma GCC unroll 4
            for (int j = 0; j < TILE_WIDTH; j++)
                sums[i][j] = LANES_FMA(row, column[j], sums[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
        for (int j = 0; j < TILE_WIDTH; j++)
            out[TILE * i + j] = LANES_SUM(sums[i][j]);
}

static void tile(const float *const a[TILE], const float *const b[TILE], size_t dim,
                 float out[TILE * TILE])
{
    for (int j = 0; j < TILE; j += TILE_WIDTH)
        tile_columns(a, b + j, dim, out + j);
}

static void table(const float *query, size_t dim, float step, uint8_t *out)
{
    const sixteen bit0 = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
    const sixteen bit1 = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1};
    const sixteen bit2 = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
    const sixteen bit3 = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    float inverse = 1 / step;
    for (size_t d = 0; d < dim; d += TABLE_GROUP, out += TABLE_ENTRIES) {
        float q[TABLE_GROUP], least = 0;
        for (int i = 0; i < TABLE_GROUP; i++) {
            q[i] = query[d + (size_t)i] * inverse;
            least += q[i] < 0 ? q[i] : 0;
        }
        sixteen sums = (bit0 * q[0] + bit1 * q[1]) + (bit2 * q[2] + bit3 * q[3]);
        sixteen_int rounded = __builtin_convertvector(sums - least + 0.5f, sixteen_int);
        sixteen_u8 bytes = __builtin_convertvector(rounded, sixteen_u8);
        memcpy(out, &bytes, sizeof bytes);
    }
}

static int32_t quantise(const float *query, size_t dim, float step, int8_t *codes)
{
    sixteen_int sum = {0};
    float inverse = 1 / step;
    for (size_t d = 0; d < dim; d += 16) {
        sixteen q;
        memcpy(&q, query + d, sizeof q);
        /* Rounded by cutting a number made positive first. */
        sixteen_int rounded =
            __builtin_convertvector(q * inverse + 256.5f, sixteen_int) - 256;
        sixteen_i8 bytes = __builtin_convertvector(rounded, sixteen_i8);
        memcpy(codes + d, &bytes, sizeof bytes);
        sum += rounded;
    }
    int32_t total = 0;
    for (int i = 0; i < 16; i++)
        total += sum[i];
    return total;
}

static void bounds(const uint8_t *factors, const uint32_t *sums,
                   const struct bound_terms *terms, float *estimates, float *lowers)
{
    const uint8_t *add = factors, *rescale = add + BLOCK_CODES * sizeof(float);
    const uint8_t *error = rescale + BLOCK_CODES * sizeof(float);
    const lanes_bits magnitude = (lanes_bits){0} + 0x7fffffffu;
    for (size_t i = 0; i < BLOCK_CODES; i += LANES) {
        lanes_int sum;
        memcpy(&sum, sums + i, sizeof sum);
        lanes f_rescale = load_lanes(rescale + 4 * i);
        lanes product =
            __builtin_convertvector(sum, lanes) * terms->step + terms->offset;
        lanes estimate = load_lanes(add + 4 * i) + terms->add + f_rescale * product;
        lanes width = load_lanes(error + 4 * i) * terms->error +
                      (lanes)((lanes_bits)f_rescale & magnitude) * terms->slack;
        store_lanes(estimates + i, estimate);
        store_lanes(lowers + i, estimate - width);
    }
}
