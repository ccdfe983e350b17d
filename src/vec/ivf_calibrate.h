/*
 * ivf_calibrate.h - which cut a wanted recall takes, measured at build. Private to
 * vec/.
 *
 * Some vectors of the segment serve as queries; they had no part in the centroids.
 * While all rows pass by for encoding, their exact distances to these queries are
 * taken. Each true neighbour then tells which cosine its cluster required; quantiles of
 * those are the cuts at which the finished index is searched and compared. What is kept
 * of each is not the recall seen but a lower bound of confidence, for the queries are a
 * sample. A query does not count itself.
 */
#ifndef VEC_IVF_CALIBRATE_H
#define VEC_IVF_CALIBRATE_H

#include "vec/ivf.h"
#include "vec/ivf_format.h"

struct calibration;

/* raw: the queries as the user gave them, count x dim, taken from vectors[i] of the
 * source; coded: the same as distances are computed, count x padded. Both lent. */
struct calibration *calibration_new(const struct ivf *ivf, const uint32_t *vectors,
                                    const float *raw, const float *coded,
                                    uint32_t count);
void calibration_free(struct calibration *c); /* NULL is fine */

/* The next rows, count x padded floats: vectors first, first + 1, ... */
void calibration_see(struct calibration *c, const float *rows, uint32_t first,
                     uint32_t count);
/* Searches ivf, whose records and slots these are, and fills in its calibration. rows:
 * the segment's row of each vector, or NULL. */
enum err calibration_measure(struct op *op, struct calibration *c, struct ivf *ivf,
                             struct slice records, struct slice slots,
                             const uint32_t *rows);

#endif
