/*
 * text_kernels.h - loops of the search that are written once per instruction set.
 *
 * Private to text/; tests compare the sets through simd_force. All of them give the
 * same bits.
 */
#ifndef TEXT_TEXT_KERNELS_H
#define TEXT_TEXT_KERNELS_H

#include <stdint.h>

struct text_kernels {
    /* Bit i: sums[i] is at least `least`, as signed numbers. Aligned to 64 bytes. */
    uint64_t (*reach)(const int32_t sums[64], int32_t least);
};

extern const struct text_kernels text_kernels_plain;
#if defined(__x86_64__)
extern const struct text_kernels text_kernels_avx512;
#endif

/* The quickest ones of the level in force (base/simd.h). */
const struct text_kernels *text_kernels(void);

#endif
