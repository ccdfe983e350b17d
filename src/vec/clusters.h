/*
 * clusters.h - divides the rows of a segment into clusters of bounded size.
 *
 * Centroids are trained on a sample, rows are assigned in one pass over them, clusters
 * that came out too small give their rows to their neighbours, those too large are
 * halved until they fit. Where some rows lie in clusters already, these are kept
 * instead of training: the other rows join the nearest, large ones are halved, and of
 * all clusters near to such a change rows move to where they are nearer (as in SPFresh:
 * Xu et al., SOSP 2023). So no cluster is larger than size_max whatever the data, be
 * it all one point; smaller than size_min are only those that a small neighbourhood
 * leaves no choice. Rows are read through a callback and never held together: memory is
 * bounded by the sample and a few bytes a row.
 */
#ifndef VEC_CLUSTERS_H
#define VEC_CLUSTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct op;

/* Rows first .. first + count - 1, dim floats each, into out. */
struct row_source {
    void (*read)(const void *context, uint32_t first, uint32_t count, float *out);
    const void *context;
    uint32_t count;
    size_t dim;    /* multiple of 16 */
    struct op *op; /* the work it is a part of, which rests between steps */
};

struct clusters_options {
    uint32_t size, size_min, size_max; /* size: what we wish for; size_max >= 3 */
    uint64_t seed;
    /* Rows, ascending, that belong to clusters but have no part in their means, unless
     * there are no others: as queries they are like those from outside. */
    const uint32_t *held_out;
    uint32_t held_out_count;
    /* The clusters, below known_count, that rows lie in already, CLUSTER_UNKNOWN where
     * they do not; NULL: train. Some cluster has a row. */
    const uint32_t *known;
    uint32_t known_count;
};

#define CLUSTER_UNKNOWN UINT32_MAX

struct clusters {
    uint32_t count;
    float *centroids; /* count x dim: means of their rows */
    bool *far;        /* source->count: rows so far off that they have no part in it */
    uint32_t *of_row; /* source->count: the cluster of each row */
    uint32_t *sizes;
};

/* source->count > 0. */
void clusters_find(const struct row_source *source,
                   const struct clusters_options *options, struct clusters *out);
void clusters_release(struct clusters *c);
/* Bytes of the rows that clusters_find holds, at most: of all, or of a sample to train
 * on; less where they are too many to hold and the clusters of some are known, so that
 * nothing is trained. */
uint64_t clusters_memory(size_t dim, uint64_t count, bool known);

#endif
