#include "vec/centre.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vec/distance.h"

struct centre {
    uint32_t dim;
    float *middle; /* of the sample, or NULL */
    double reach;  /* rows farther from the middle are drawn in */
    double *sum;
    uint64_t count;
};

/* Of 100 rows of the sample so many are near; the others may be anywhere. */
static const double NEAR_PART = 0.9;
/* Times as far as these: nothing that follows a usual law is. */
static const double REACH = 4;

static int by_size(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static float quantile(float *values, uint32_t count, double part)
{
    qsort(values, count, sizeof *values, by_size);
    return values[(uint32_t)(part * (count - 1))];
}

static void find_middle(struct centre *c, const float *sample, uint32_t count)
{
    float *column = mem_new_array(float, count);
    for (uint32_t d = 0; d < c->dim; d++) {
        for (uint32_t i = 0; i < count; i++)
            column[i] = sample[(size_t)i * c->dim + d];
        c->middle[d] = quantile(column, count, 0.5);
    }
    for (uint32_t i = 0; i < count; i++)
        column[i] = distance_l2(sample + (size_t)i * c->dim, c->middle, c->dim);
    c->reach = REACH * sqrt((double)quantile(column, count, NEAR_PART));
    mem_free(column);
}

struct centre *centre_new(const float *sample, uint32_t count, uint32_t dim)
{
    struct centre *c = mem_new(struct centre);
    c->dim = dim;
    c->sum = mem_new_array(double, dim);
    if (count == 0) return c;
    c->middle = mem_new_array(float, dim);
    find_middle(c, sample, count);
    return c;
}

/* How much of the way from the middle to the row counts. */
static double part_of_way(const struct centre *c, const float *row)
{
    if (!(c->reach > 0)) return 1;
    double distance = sqrt((double)distance_l2(row, c->middle, c->dim));
    return distance > c->reach ? c->reach / distance : 1;
}

void centre_add(struct centre *c, const float *row, double scale)
{
    double part = part_of_way(c, row);
    c->count++;
    for (uint32_t d = 0; d < c->dim; d++)
        c->sum[d] += (double)row[d] * scale * part;
    for (uint32_t d = 0; d < c->dim && part < 1; d++)
        c->sum[d] += (double)c->middle[d] * scale * (1 - part);
}

void centre_get(const struct centre *c, float *mean)
{
    assert(c->count > 0);
    for (uint32_t d = 0; d < c->dim; d++)
        mean[d] = (float)(c->sum[d] / (double)c->count);
}

void centre_free(struct centre *c)
{
    if (!c) return;
    mem_free(c->middle);
    mem_free(c->sum);
    mem_free(c);
}
