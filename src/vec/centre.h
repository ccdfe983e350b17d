/*
 * centre.h - a mean that few rows cannot draw away.
 *
 * Rows and queries are rounded relative to how far they are from one centre. With the
 * plain mean a single row a million times farther off than the others would move the
 * centre away from all of them and leave them no digits. So a sample tells where most
 * rows are (its median, by coordinate) and how far from there; a row that is several
 * times farther counts as if it lay that far off, on the way to where it is: a
 * winsorised mean. Where no row is so far, the plain mean comes out.
 *
 * Threads  one at a time.
 * Memory   a few numbers a dimension.
 */
#ifndef VEC_CENTRE_H
#define VEC_CENTRE_H

#include <stdint.h>

struct centre;

enum { CENTRE_SAMPLE = 255 /* rows are enough */ };

/* sample: count rows of dim finite floats, spread over all; count 0: the plain mean. */
struct centre *centre_new(const float *sample, uint32_t count, uint32_t dim);
/* Every row once, scale times as long. */
void centre_add(struct centre *c, const float *row, double scale);
/* The mean of all rows so far, at least one, into dim floats. */
void centre_get(const struct centre *c, float *mean);
void centre_free(struct centre *c); /* NULL is fine */

#endif
