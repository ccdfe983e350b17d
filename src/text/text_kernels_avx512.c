#include "text/text_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

static uint64_t reach(const int32_t sums[64], int32_t least)
{
    const __m512i limit = _mm512_set1_epi32(least);
    uint64_t found = 0;

    for (unsigned i = 0; i < 64; i += 16) {
        __mmask16 part = _mm512_cmpge_epi32_mask(_mm512_load_si512(sums + i), limit);
        found |= (uint64_t)part << i;
    }
    return found;
}

const struct text_kernels text_kernels_avx512 = {reach};

#endif
