/*
 * distance.h - exact distances between float vectors, one query against many rows.
 *
 * Kernels are chosen once by simd_level (base/simd.h); each instruction set has a file
 * of its own (distance_avx512.c, distance_avx2.c, distance_neon.c, distance_plain.c).
 * Sums are taken in an order of their own by each, so results may differ in the last
 * bits between machines, never on one machine. Vectors need no alignment.
 */
#ifndef VEC_DISTANCE_H
#define VEC_DISTANCE_H

#include <stddef.h>
#include <stdint.h>

float distance_dot(const float *a, const float *b, size_t dim);
/* Squared Euclidean distance. */
float distance_l2(const float *a, const float *b, size_t dim);

/* Sums in double: for norms, and for values so large or small that a float sum of them
 * overflows or vanishes. Never overflows for floats that are finite. */
double distance_dot_f64(const float *a, const float *b, size_t dim);
double distance_l2_f64(const float *a, const float *b, size_t dim);
double distance_norm(const float *a, size_t dim); /* Euclidean length */

/* out[i] = dot / l2 of query and rows[i * dim ...], for count rows that lie one behind
 * the other: memory-bound, prefetched. */
void distance_dot_rows(const float *query, const float *rows, size_t count, size_t dim,
                       float *out);
void distance_l2_rows(const float *query, const float *rows, size_t count, size_t dim,
                      float *out);

#endif
