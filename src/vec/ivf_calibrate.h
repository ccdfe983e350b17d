/*
 * ivf_calibrate.h - what a wanted recall takes, measured at build. Private to vec/.
 *
 * Some vectors of the segment serve as queries; they had no part in the centroids. What
 * is nearest to them is found by looking at every cluster with a bound so wide that it
 * leaves nothing out, and by exact distances. Each true neighbour then tells the place
 * of its cluster in the query's order and the cosine that the cluster required. That
 * suggests limits of both, at which the finished index is searched and compared:
 * cosines alone, for filters and for an index beside others; cosines and a number of
 * clusters, which together leave out more at the same recall. What is kept of each is
 * not the recall seen but a lower bound of confidence, for the queries are a sample. A
 * query does not count itself.
 */
#ifndef VEC_IVF_CALIBRATE_H
#define VEC_IVF_CALIBRATE_H

#include "vec/ivf.h"
#include "vec/ivf_format.h"

/* Vectors of the source that serve as queries, all lent. */
struct calibration_queries {
    const struct ivf_source *source;
    const uint32_t *vectors;
    uint32_t count;
    const float *raw;   /* as the user gave them, count x dim */
    const float *coded; /* as distances are computed, count x padded */
};

/* Searches ivf, whose records and slots these are, and fills in its calibrations.
 * ERR_TIMEOUT, ERR_CANCELED. */
enum err calibration_measure(struct op *op, const struct calibration_queries *queries,
                             struct ivf *ivf, struct slice records, struct slice slots);

#endif
