#include "vec/rotate.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "vec/vec_kernels.h"
#include "vec/vec_random.h"

enum { PAD = 64, ROUNDS = 4 };

struct rotation {
    size_t dim, padded;
    size_t transformed; /* the power of two that Hadamard works on */
    uint32_t *signs;    /* ROUNDS x padded, in the top bit */
};

size_t rotation_padded(size_t dim)
{
    return (dim + PAD - 1) / PAD * PAD;
}

struct rotation *rotation_new(size_t dim, uint64_t seed)
{
    struct rotation *r = mem_new(struct rotation);
    assert(dim > 0);
    r->dim = dim;
    r->padded = rotation_padded(dim);
    for (r->transformed = PAD; 2 * r->transformed <= r->padded;)
        r->transformed *= 2;
    r->signs = mem_new_array(uint32_t, ROUNDS * r->padded);
    for (size_t i = 0; i < ROUNDS * r->padded; i++)
        r->signs[i] = vec_random(&seed) >> 63 ? 0x80000000u : 0;
    return r;
}

void rotation_free(struct rotation *r)
{
    if (!r) return;
    mem_free(r->signs);
    mem_free(r);
}

void rotation_apply(const struct rotation *r, const float *in, float *out)
{
    const struct vec_kernels *kernels = vec_kernels();
    size_t outside = r->padded - r->transformed;
    const float scale = 1 / sqrtf((float)r->transformed);
    memcpy(out, in, r->dim * sizeof *out);
    memset(out + r->dim, 0, (r->padded - r->dim) * sizeof *out);
    for (size_t round = 0; round < ROUNDS; round++) {
        const uint32_t *signs = r->signs + round * r->padded;
        size_t start = round % 2 ? outside : 0; /* of the transformed part */
        size_t rest = round % 2 ? 0 : r->transformed;
        kernels->flip(out + start, signs + start, r->transformed, scale);
        kernels->flip(out + rest, signs + rest, outside, 1);
        kernels->hadamard(out + start, r->transformed);
        if (outside) kernels->mix(out, r->padded);
    }
}
