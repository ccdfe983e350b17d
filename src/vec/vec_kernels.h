/*
 * vec_kernels.h - the hot loops of the vector index, once per instruction set.
 *
 * Private to vec/. Stored bytes come as bytes, aligned or not. Integer results are
 * exact and the same at every level; so are the query's tables and the
 * rotation, which take their sums in one order everywhere. Only tile and bounds may
 * differ in the last bits between machines, never on one. dim is a multiple of 64.
 */
#ifndef VEC_VEC_KERNELS_H
#define VEC_VEC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum {
    BLOCK_CODES = 32, /* 1-bit codes that lie together */
    TILE = 4,         /* tile multiplies 4 vectors by 4 */
    TABLE_GROUP = 4,  /* dimensions of one look-up table of 16 entries */
    TABLE_ENTRIES = 16
};

/* What turns look-up sums into distances (rabitq.h has the formulas). */
struct bound_terms {
    float add;   /* of the cluster: added to every estimate */
    float error; /* of the cluster: times f_err, the width of the bound */
    float step;  /* <v, q> = step * sum + offset */
    float offset;
    float slack; /* what rounding the table may do to <v, q> */
};

/* What the steps of a query's tables and codes follow from. */
struct query_extent {
    float sum, least; /* of all values; of the negative ones */
    float largest;    /* magnitude */
    float range;      /* of a group of TABLE_GROUP: greatest sum of magnitudes */
};

struct vec_kernels {
    /* sums[32 * b + i]: the table's entries of code i of block b, added up. Blocks lie
     * block_size apart. */
    void (*scan)(const uint8_t *blocks, size_t count, size_t block_size,
                 const uint8_t *table, size_t dim, uint32_t *sums);
    /* Estimates and lower bounds of one block from its factors and sums. */
    void (*bounds)(const uint8_t *factors, const uint32_t *sums,
                   const struct bound_terms *terms, float *estimates, float *lowers);
    /* Which of 32 values are below the limit, as bits. */
    uint32_t (*below)(const float *values, float limit);
    /* out[i] = <row i, query>, rows one behind the other. */
    void (*dot8)(const uint8_t *rows, size_t count, const int8_t *query, size_t dim,
                 int32_t *out);
    /* out[4 * i + j] = <a[i], b[j]>. */
    void (*tile)(const float *const a[TILE], const float *const b[TILE], size_t dim,
                 float out[TILE * TILE]);
    /* In place and not normalised; count is a power of two, at least 16. */
    void (*hadamard)(float *x, size_t count);
    /* x[i] = +-x[i] by the top bit of signs[i], times scale. */
    void (*flip)(float *x, const uint32_t *signs, size_t dim, float scale);
    /* (x, y) = ((x + y) / sqrt 2, (x - y) / sqrt 2), x and y being the halves. */
    void (*mix)(float *x, size_t dim);
    struct query_extent (*extent)(const float *query, size_t dim);
    /* table[4 * i + m] = round((sum of the q[i..i+3] chosen by the bits of m, less the
     * least such sum) / step). */
    void (*table)(const float *query, size_t dim, float step, uint8_t *table);
    /* codes[i] = round(query[i] / step); returns their sum. */
    int32_t (*quantise)(const float *query, size_t dim, float step, int8_t *codes);
};

/* Those of the level in force. */
const struct vec_kernels *vec_kernels(void);

extern const struct vec_kernels vec_plain;
#if defined(__x86_64__)
extern const struct vec_kernels vec_avx2;
extern const struct vec_kernels vec_avx512; /* needs VBMI and VNNI too */
#elif defined(__aarch64__)
extern const struct vec_kernels vec_neon;
#endif

#endif
