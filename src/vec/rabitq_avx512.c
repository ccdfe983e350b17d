/*
 * AVX-512 with VBMI and VNNI.
 *
 * VPERMB looks up four tables of sixteen entries at once: each byte of a dword has a
 * table of its own, chosen by two bits that one VPTERNLOG puts above the nibble.
 * VPDPBUSD with ones then adds the four results of a dword into the 32-bit sum of its
 * code, so no 16-bit sum can overflow and none has to be widened.
 */
#include "vec/vec_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define LANES 16
#define LANES_FMA(a, b, c)                                                             \
    ((lanes)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LANES_SUM(v) _mm512_reduce_add_ps((__m512)(v))
#define TILE_WIDTH   4
#include "vec/vec_float.h"

enum { GROUP_BYTES = 128, LINE_BYTES = 64, PREFETCH_BYTES = 2048 };

INLINED __m512i look_up(__m512i sum, __m512i codes, __m512i tables)
{
    const __m512i which = _mm512_set1_epi32(0x30201000);
    const __m512i nibble = _mm512_set1_epi8(15), ones = _mm512_set1_epi8(1);
    __m512i index = _mm512_ternarylogic_epi32(codes, nibble, which, 0xEA);
    return _mm512_dpbusd_epi32(sum, _mm512_permutexvar_epi8(index, tables), ones);
}

/* count blocks, a constant wherever this is inlined. */
INLINED void scan_blocks(const uint8_t *blocks, size_t count, size_t block_size,
                         const uint8_t *tables, size_t dim, uint32_t *sums)
{
    __m512i low[4], high[4];
    for (size_t h = 0; h < 2 * count; h++)
        low[h] = high[h] = _mm512_setzero_si512();
    for (size_t d = 0; d < dim; d += 32, blocks += GROUP_BYTES, tables += GROUP_BYTES) {
        __m512i low_tables = _mm512_loadu_si512(tables);
        __m512i high_tables = _mm512_loadu_si512(tables + LINE_BYTES);
#pragma GCC unroll 4
        for (size_t h = 0; h < 2 * count; h++) {
            const uint8_t *at = blocks + h / 2 * block_size + h % 2 * LINE_BYTES;
            _mm_prefetch((const char *)at + PREFETCH_BYTES, _MM_HINT_T0);
            __m512i codes = _mm512_loadu_si512(at);
            low[h] = look_up(low[h], codes, low_tables);
            high[h] = look_up(high[h], _mm512_srli_epi32(codes, 4), high_tables);
        }
    }
    for (size_t h = 0; h < 2 * count; h++)
        _mm512_storeu_si512(sums + 16 * h, _mm512_add_epi32(low[h], high[h]));
}

static void scan(const uint8_t *blocks, size_t count, size_t block_size,
                 const uint8_t *tables, size_t dim, uint32_t *sums)
{
    for (; count >= 2; count -= 2, blocks += 2 * block_size, sums += 2 * BLOCK_CODES)
        scan_blocks(blocks, 2, block_size, tables, dim, sums);
    if (count) scan_blocks(blocks, 1, block_size, tables, dim, sums);
}

INLINED void dot8_four(const uint8_t *rows, const int8_t *query, size_t dim,
                       int32_t *out)
{
    __m512i sums[4];
    for (int r = 0; r < 4; r++)
        sums[r] = _mm512_setzero_si512();
    for (size_t d = 0; d < dim; d += LINE_BYTES) {
        __m512i q = _mm512_loadu_si512(query + d);
#pragma GCC unroll 4
        for (size_t r = 0; r < 4; r++)
            sums[r] =
                _mm512_dpbusd_epi32(sums[r], _mm512_loadu_si512(rows + r * dim + d), q);
    }
    for (int r = 0; r < 4; r++)
        out[r] = _mm512_reduce_add_epi32(sums[r]);
}

INLINED int32_t dot8_one(const uint8_t *row, const int8_t *query, size_t dim)
{
    __m512i even = _mm512_setzero_si512(), odd = even;
    size_t d = 0;
    for (; d + 2 * LINE_BYTES <= dim; d += 2 * LINE_BYTES) {
        even = _mm512_dpbusd_epi32(even, _mm512_loadu_si512(row + d),
                                   _mm512_loadu_si512(query + d));
        odd = _mm512_dpbusd_epi32(odd, _mm512_loadu_si512(row + d + LINE_BYTES),
                                  _mm512_loadu_si512(query + d + LINE_BYTES));
    }
    if (d < dim)
        even = _mm512_dpbusd_epi32(even, _mm512_loadu_si512(row + d),
                                   _mm512_loadu_si512(query + d));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
}

static void dot8(const uint8_t *rows, size_t count, const int8_t *query, size_t dim,
                 int32_t *out)
{
    for (; count >= 4; count -= 4, rows += 4 * dim, out += 4)
        dot8_four(rows, query, dim, out);
    for (; count > 0; count--, rows += dim)
        *out++ = dot8_one(rows, query, dim);
}

static uint32_t below(const float *values, float limit)
{
    __m512 limits = _mm512_set1_ps(limit);
    __mmask16 low = _mm512_cmp_ps_mask(_mm512_loadu_ps(values), limits, _CMP_LT_OQ);
    __mmask16 high =
        _mm512_cmp_ps_mask(_mm512_loadu_ps(values + LANES), limits, _CMP_LT_OQ);
    return (uint32_t)low | (uint32_t)high << 16;
}

const struct vec_kernels vec_avx512 = {scan, bounds, below,  dot8,  tile,    hadamard,
                                       flip, mix,    extent, table, quantise};

#endif
