/*
 * rotate.h - a random rotation of float vectors in about a microsecond.
 *
 * RaBitQ's estimates are unbiased over a random rotation, and rounding errors spread
 * evenly once no coordinate stands out. A dense random matrix would cost dim^2
 * multiplications; this one is four rounds of random sign flips and a Hadamard
 * transform over the largest power of two that fits, at the front and at the back in
 * turn, with a butterfly between the halves where a part stays outside (the library of
 * the RaBitQ authors calls that FhtKac). All steps are orthogonal, so lengths and
 * products are kept. The result is the same on every machine.
 *
 * The seed is all its state: a namespace keeps one, so that one rotated query serves
 * all segments. A rotation never changes; any thread may use it.
 */
#ifndef VEC_ROTATE_H
#define VEC_ROTATE_H

#include <stddef.h>
#include <stdint.h>

struct rotation;

/* Coordinates after rotation: dim padded to a multiple of 64. */
size_t rotation_padded(size_t dim);

struct rotation *rotation_new(size_t dim, uint64_t seed);
void rotation_free(struct rotation *r); /* NULL is fine */

/* in: dim floats; out: rotation_padded(dim) floats, not overlapping in. */
void rotation_apply(const struct rotation *r, const float *in, float *out);

#endif
