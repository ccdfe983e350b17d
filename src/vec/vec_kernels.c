#include "vec/vec_kernels.h"

#include "base/simd.h"

const struct vec_kernels *vec_kernels(void)
{
    switch (simd_level()) {
#if defined(__x86_64__)
    case SIMD_AVX512_VNNI: return &vec_avx512;
    /* Without VPERMB and VPDPBUSD the wider registers win nothing on these loops. */
    case SIMD_AVX512:
    case SIMD_AVX2: return &vec_avx2;
#elif defined(__aarch64__)
    case SIMD_NEON: return &vec_neon;
#endif
    default: return &vec_plain;
    }
}
