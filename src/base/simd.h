/*
 * simd.h - which instruction sets this machine has, and which we may use.
 *
 * Levels are cumulative. ELACSYM_SIMD=plain|avx2|avx512 (or neon on arm64) lowers the
 * level for tests and benchmarks; asking for more than the machine has is refused at
 * start by simd_init.
 */
#ifndef BASE_SIMD_H
#define BASE_SIMD_H

#include "base/err.h"

struct op;

enum simd_level {
    SIMD_PLAIN,
    SIMD_NEON,
    SIMD_AVX2,       /* AVX2 + FMA */
    SIMD_AVX512,     /* F, BW, VL, DQ */
    SIMD_AVX512_VNNI /* + VBMI and VNNI */
};

/* Detects, then applies ELACSYM_SIMD. ERR_INVALID names the value and what is allowed.
 */
enum err simd_init(struct op *op);
/* The level in force; detects on first use when simd_init was not called. */
enum simd_level simd_level(void);
const char *simd_name(enum simd_level level);
/* For tests: forces a level that the machine has. */
void simd_force(enum simd_level level);
/* The highest level the machine has. */
enum simd_level simd_detect(void);

#endif
