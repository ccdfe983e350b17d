/*
 * rabitq.h - vectors as 1 bit and as 8 bits a dimension, and distances to them.
 *
 * After RaBitQ (Gao and Long, SIGMOD 2024; Gao et al., SIGMOD 2025). All vectors here
 * are rotated (rotate.h) and padded to dim, a multiple of 64. A vector o is coded
 * relative to the centroid c of its cluster: r = o - c. Code x holds unsigned numbers
 * of B bits; v = x - (2^B - 1) / 2 points roughly along r, and
 *
 *     <r, q>  is estimated by  |r|^2 / <v, r> * <v, q>
 *
 * without bias over the rotation, with an error about |r| |q| / sqrt(dim). From that
 *
 *     squared distance   f_add + |q - c|^2 + f_rescale * <v, q>
 *                        f_add = |r|^2 + 2 |r|^2 <v,c> / <v,r>   f_rescale = -2 |r|^2 /
 * <v,r> negative product   -<q, c> + f_rescale * <v, q>            f_rescale = -|r|^2 /
 * <v,r>
 *
 * and the 1-bit code knows its error: estimate - f_err * eps * |q - c| (of products:
 * |q|) is below the truth but for a chance that eps decides: at 1.9 a few in a hundred
 * at most.
 *
 * Layout of 32 1-bit codes, a block of rabitq_block_size(dim) bytes: for each 32
 * dimensions 128 bytes, dword j of which belongs to code j; low nibble of its byte b:
 * dimensions 4b to 4b+3, high nibble: 16+4b to 16+4b+3, lowest dimension in the lowest
 * bit. Then 32 f32 each of f_add, f_rescale, f_err, and 32 u32 for the caller's row
 * numbers. An 8-bit code is dim bytes, its factors {f_add, f_rescale} two f32.
 *
 * Products of a code with the query are exact sums of integers: the query is rounded to
 * tables of bytes for the 1-bit scan and to int8 for the 8-bit codes, the error of the
 * tables is part of the bound.
 */
#ifndef VEC_RABITQ_H
#define VEC_RABITQ_H

#include <stddef.h>
#include <stdint.h>

#include "vec/vec_kernels.h"

enum rabitq_kind {
    RABITQ_L2,     /* squared distance */
    RABITQ_PRODUCT /* minus the inner product */
};

enum { RABITQ_FACTORS8_SIZE = 2 * sizeof(float) };

size_t rabitq_block_size(size_t dim);
/* Where in a block: the factors, which bounds() takes, and the rows. */
size_t rabitq_factors_offset(size_t dim);
size_t rabitq_rows_offset(size_t dim);

/* Writes code, factors and row of the index-th of a block; the block was zeroed.
 * residual is o - c. */
void rabitq_encode1(enum rabitq_kind kind, const float *residual, const float *centroid,
                    size_t dim, uint32_t row, size_t index, uint8_t *block);
/* Writes dim bytes to code and the two factors. */
void rabitq_encode8(enum rabitq_kind kind, const float *residual, const float *centroid,
                    size_t dim, uint8_t *code, uint8_t *factors);

/* A query against all clusters of an index; memory is the caller's. */
struct rabitq_query {
    const float *values;          /* dim: rotated, centred as the data is */
    uint8_t *table;               /* 4 * dim bytes */
    int8_t *codes;                /* dim: values = step8 * codes */
    float step1, offset1, slack1; /* <v, q> of 1-bit codes, see struct bound_terms */
    float step8, offset8;         /* <v, q> = step8 * dot8 + offset8 */
    float norm;
};

/* Fills in everything from values, table and codes. */
void rabitq_query_prepare(struct rabitq_query *q, size_t dim);

/* What the cluster with this centroid adds. */
struct bound_terms rabitq_terms(enum rabitq_kind kind, const struct rabitq_query *q,
                                const float *centroid, size_t dim, float eps);

/* The distance by an 8-bit code, its product with q->codes and its cluster's terms. */
static inline float rabitq_distance8(const struct rabitq_query *q, int32_t dot,
                                     const uint8_t *factors, float add)
{
    float f[2];
    __builtin_memcpy(f, factors, sizeof f);
    return f[0] + add + f[1] * (q->step8 * (float)dot + q->offset8);
}

#endif
