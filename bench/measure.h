/*
 * measure.h - the clock and the percentiles of a benchmark of one part.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts n > 0 times. */
static inline double percentile(double *times, size_t n, double p)
{
    qsort(times, n, sizeof *times, compare_doubles);
    return times[(size_t)((double)(n - 1) * p)];
}

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

#endif
