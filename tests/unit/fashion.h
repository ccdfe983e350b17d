/*
 * fashion.h - Fashion-MNIST as float vectors, with the true neighbours of its queries.
 */
#ifndef TESTS_UNIT_FASHION_H
#define TESTS_UNIT_FASHION_H

#include "base/mem.h"
#include "unit/data.h"

enum {
    FASHION_ROWS = 60000,
    FASHION_DIM = 784,
    FASHION_QUERIES_MAX = 10000,
    FASHION_TRUTH = 100 /* neighbours of a query that are known */
};

struct fashion {
    float *base, *queries;
    uint32_t query_count;
    const uint8_t *labels;    /* of the base, 0 to 9 */
    const uint8_t *distances; /* float, squared, FASHION_TRUTH a query, ascending */
    struct buf files[4];
};

static inline float *fashion_floats(const struct buf *file, size_t rows)
{
    const uint8_t *bytes = npy_data(file);
    float *out = mem_new_array(float, rows *FASHION_DIM);
    for (size_t i = 0; i < rows * FASHION_DIM; i++)
        out[i] = (float)bytes[i];
    return out;
}

static inline void fashion_release(struct fashion *f)
{
    mem_free(f->base);
    mem_free(f->queries);
    for (size_t i = 0; i < 4; i++)
        buf_release(&f->files[i]);
}

/* False, and a line that says so, without the collection. */
static inline bool fashion_load(struct fashion *f, uint32_t queries)
{
    static const char *const names[4] = {"fashion-base.u8.npy", "fashion-query.u8.npy",
                                         "fashion-base-label.u8.npy",
                                         "fashion-gt100-dist.f32.npy"};
    *f = (struct fashion){.query_count = queries};
    for (size_t i = 0; i < 4; i++)
        if (!data_read(names[i], &f->files[i])) {
            fashion_release(f);
            return false;
        }
    f->base = fashion_floats(&f->files[0], FASHION_ROWS);
    f->queries = fashion_floats(&f->files[1], queries);
    f->labels = npy_data(&f->files[2]);
    f->distances = npy_data(&f->files[3]);
    return true;
}

static inline const float *fashion_query(const struct fashion *f, uint32_t query)
{
    return f->queries + (size_t)query * FASHION_DIM;
}

/* The squared distance of the k-th neighbour. */
static inline float fashion_kth(const struct fashion *f, uint32_t query, uint32_t k)
{
    float kth;
    size_t place = (size_t)query * FASHION_TRUTH + k - 1;
    memcpy(&kth, f->distances + place * sizeof kth, sizeof kth);
    return kth;
}

/* Is a squared distance no more than that of the k-th neighbour? Ties count. */
static inline bool is_within(float distance, float kth)
{
    return distance <= kth * (1 + 1e-5f) + 1e-6f;
}

static inline bool fashion_is_near(const struct fashion *f, uint32_t query, uint32_t k,
                                   float distance)
{
    return is_within(distance, fashion_kth(f, query, k));
}

#endif
