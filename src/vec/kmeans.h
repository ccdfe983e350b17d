/*
 * kmeans.h - centroids of float vectors, and who is nearest to which.
 *
 * Lloyd's rounds over points in memory, distances by blocked products. More centroids
 * than KMEANS_FLAT_MAX are trained as a tree, and found through one: points look only
 * at the children of their nearest groups, so the cost of n points is about n times
 * twice the square root of the count. Repeatable: the same seed, the same centroids.
 * dim is a multiple of 16. op is the work that it is a part of, which rests between
 * steps. No threads, memory beside the points bounded by the count of
 * centroids.
 */
#ifndef VEC_KMEANS_H
#define VEC_KMEANS_H

#include <stddef.h>
#include <stdint.h>

struct op;

enum { KMEANS_FLAT_MAX = 1024 };

struct kmeans {
    size_t dim, count;
    float *centroids; /* count x dim */
    float *norms;     /* squared lengths */
    struct kmeans *groups;
    uint32_t *group_first; /* groups->count + 1 of them, into members */
    uint32_t *members;     /* centroids by group */
};

/* count may come out a little different where a tree is trained, and is at most n. */
struct kmeans *kmeans_train(struct op *op, const float *points, size_t n, size_t dim,
                            size_t count, unsigned rounds, uint64_t *seed);
/* Takes the centroids over. */
struct kmeans *kmeans_of(struct op *op, float *centroids, size_t count, size_t dim);
void kmeans_free(struct kmeans *m); /* NULL is fine */

/* nearest[i] is the centroid nearest to point i. */
void kmeans_nearest(struct op *op, const struct kmeans *m, const float *points,
                    size_t n, uint32_t *nearest);

#endif
