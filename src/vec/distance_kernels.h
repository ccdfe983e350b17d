/*
 * distance_kernels.h - the same four loops, once per instruction set.
 *
 * Private to vec/: distance.c picks a table, tests compare them through simd_force. A
 * table is only entered on a machine that has its instructions.
 */
#ifndef VEC_DISTANCE_KERNELS_H
#define VEC_DISTANCE_KERNELS_H

#include <stddef.h>

/* A part of a loop: what is constant where it is called costs nothing. */
#define KERNEL static inline __attribute__((always_inline))

struct distance_kernels {
    float (*dot)(const float *a, const float *b, size_t dim);
    float (*l2)(const float *a, const float *b, size_t dim);
    void (*dot_rows)(const float *query, const float *rows, size_t count, size_t dim,
                     float *out);
    void (*l2_rows)(const float *query, const float *rows, size_t count, size_t dim,
                    float *out);
};

extern const struct distance_kernels distance_plain;
#if defined(__x86_64__)
extern const struct distance_kernels distance_avx2;
extern const struct distance_kernels distance_avx512;
#elif defined(__aarch64__)
extern const struct distance_kernels distance_neon;
#endif

#endif
