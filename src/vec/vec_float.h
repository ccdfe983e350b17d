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
typedef uint32_t sixteen_uint __attribute__((vector_size(64)));
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

/* v[i ^ h] in the place of v[i]; h is a constant. */
#define SWAP4(h) 0 ^ (h), 1 ^ (h), 2 ^ (h), 3 ^ (h)
#define SWAP8(h) SWAP4(h), 4 ^ (h), 5 ^ (h), 6 ^ (h), 7 ^ (h)
#define SWAP16(h)                                                                      \
    SWAP8(h), 8 ^ (h), 9 ^ (h), 10 ^ (h), 11 ^ (h), 12 ^ (h), 13 ^ (h), 14 ^ (h),      \
        15 ^ (h)
#define SWAPPED16(v, h) __builtin_shufflevector(v, v, SWAP16(h))
#if LANES == 4
#define SWAPPED(v, h) __builtin_shufflevector(v, v, SWAP4(h))
#elif LANES == 8
#define SWAPPED(v, h) __builtin_shufflevector(v, v, SWAP8(h))
#else
#define SWAPPED(v, h) SWAPPED16(v, h)
#endif

/* One butterfly between lanes that lie h apart. */
INLINED lanes butterfly(lanes x, lanes swapped, int h)
{
    lanes_bits signs;
    for (int i = 0; i < LANES; i++)
        signs[i] = i & h ? 0x80000000u : 0;
    return swapped + (lanes)((lanes_bits)x ^ signs);
}

static void hadamard(float *x, size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        lanes v = load_lanes(x + i);
        v = butterfly(v, SWAPPED(v, 1), 1);
        v = butterfly(v, SWAPPED(v, 2), 2);
#if LANES > 4
        v = butterfly(v, SWAPPED(v, 4), 4);
#endif
#if LANES > 8
        v = butterfly(v, SWAPPED(v, 8), 8);
#endif
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
    sixteen sum = {0}, magnitudes = {0}, largest = {0}, range = {0};
    for (size_t d = 0; d < dim; d += 16) {
        sixteen q;
        memcpy(&q, query + d, sizeof q);
        sixteen magnitude = (sixteen)((sixteen_int)q & 0x7fffffff);
        sixteen pairs = magnitude + SWAPPED16(magnitude, 1);
        sum += q;
        magnitudes += magnitude;
        sixteen four = pairs + SWAPPED16(pairs, 2);
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

/* Of a step that lies, as a damaged index has it, the sums wrap around. */
static int32_t quantise(const float *query, size_t dim, float step, int8_t *codes)
{
    sixteen_uint sum = {0};
    float inverse = 1 / step;
    for (size_t d = 0; d < dim; d += 16) {
        sixteen q;
        memcpy(&q, query + d, sizeof q);
        /* Rounded by cutting a number made positive first. */
        sixteen_uint rounded =
            (sixteen_uint) __builtin_convertvector(q * inverse + 256.5f, sixteen_int) -
            256;
        sixteen_i8 bytes = __builtin_convertvector((sixteen_int)rounded, sixteen_i8);
        memcpy(codes + d, &bytes, sizeof bytes);
        sum += rounded;
    }
    uint32_t total = 0;
    for (int i = 0; i < 16; i++)
        total += sum[i];
    return (int32_t)total;
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
