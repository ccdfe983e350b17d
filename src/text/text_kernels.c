#include "text/text_kernels.h"

#include <string.h>

#include "base/simd.h"

enum { ROWS = 64, PART = 16 };

typedef int32_t int4 __attribute__((vector_size(16)));
typedef uint64_t word2 __attribute__((vector_size(16)));

/* Most parts hold nothing: one test for sixteen sums. */
static uint64_t reach(const int32_t sums[ROWS], int32_t least)
{
    const int4 limit = {least, least, least, least};
    uint64_t found = 0;

    for (uint32_t part = 0; part < ROWS; part += PART) {
        int4 v[4];
        memcpy(v, sums + part, sizeof v);
        int4 any =
            (v[0] >= limit) | (v[1] >= limit) | (v[2] >= limit) | (v[3] >= limit);
        word2 words = (word2)any;
        if (!(words[0] | words[1])) continue;
        for (uint32_t i = part; i < part + PART; i++)
            found |= (uint64_t)(sums[i] >= least) << i;
    }
    return found;
}

const struct text_kernels text_kernels_plain = {reach};

const struct text_kernels *text_kernels(void)
{
#if defined(__x86_64__)
    if (simd_level() >= SIMD_AVX512) return &text_kernels_avx512;
#endif
    return &text_kernels_plain;
}
