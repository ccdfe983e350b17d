/*
 * ivf_calibrate.h - how many clusters a wanted recall takes, measured at build. Private
 * to vec/.
 *
 * Some vectors of the segment serve as queries. While all rows pass by for encoding,
 * their exact distances to these queries are taken; afterwards the finished index is
 * searched with more and more clusters and compared. A query does not count itself.
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
/* Searches ivf, whose records these are, and fills in its calibration. rows: the
 * segment's row of each vector, or NULL. */
enum err calibration_measure(struct op *op, struct calibration *c, struct ivf *ivf,
                             struct slice records, const uint32_t *rows);

#endif
