/*
 * segment_vectors.h - exact scores of vectors. Private to segment/.
 *
 * A score comes out the same wherever it is computed: by the scan, which has the norms
 * of cosine vectors stored, or for a row that the vector index found.
 */
#ifndef SEGMENT_SEGMENT_VECTORS_H
#define SEGMENT_SEGMENT_VECTORS_H

#include <stdint.h>

#include "base/err.h"
#include "doc/schema.h"

struct op;

struct vector_query {
    enum metric_kind metric;
    uint32_t dim;
    const float *values;
    double norm;
    const float *probe; /* values; for cosine of length 1 */
};

/* values must outlive out; the probe lives in op's arena. */
enum err vector_query_make(struct op *op, enum metric_kind metric, uint32_t dim,
                           const float *values, struct vector_query *out);
/* Finite, or not a number where the vector is not finite. */
float vector_score(const struct vector_query *q, const float *vector);
/* 1 / length, or 0 where floats cannot work with it. */
float vector_inverse_norm(const float *vector, uint32_t dim);

#endif
