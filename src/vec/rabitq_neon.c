/*
 * NEON. VLD4 loads 64 bytes as four registers with one byte of 16 codes each, which is
 * just how the tables want them: TBL looks up sixteen entries for all of them. Results
 * are added in 16 bits and widened before they can overflow.
 */
#include "vec/vec_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define LANES 4
#define LANES_FMA(a, b, c)                                                             \
    ((lanes)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define LANES_SUM(v) vaddvq_f32((float32x4_t)(v))
#define TILE_WIDTH   4
#include "vec/vec_float.h"

enum {
    GROUP_BYTES = 128,
    HALF_BYTES = 64,
    HALF_CODES = 16,
    GROUPS_OF_16_BITS = 32 /* 8 look-ups of at most 255 each: below 65536 */
};

/* Adds the look-ups of 16 codes over some groups of 32 dimensions to sums. */
static void scan_some(const uint8_t *codes, const uint8_t *tables, size_t groups,
                      uint32_t *sums)
{
    uint16x8_t low = vdupq_n_u16(0), high = low;
    for (; groups > 0; groups--, codes += GROUP_BYTES, tables += GROUP_BYTES) {
        uint8x16x4_t bytes = vld4q_u8(codes);
        for (size_t b = 0; b < 4; b++) {
            const uint8_t *table_at = tables + b * TABLE_ENTRIES;
            uint8x16_t first =
                vqtbl1q_u8(vld1q_u8(table_at), vandq_u8(bytes.val[b], vdupq_n_u8(15)));
            uint8x16_t second = vqtbl1q_u8(vld1q_u8(table_at + 4 * TABLE_ENTRIES),
                                           vshrq_n_u8(bytes.val[b], 4));
            low = vaddw_u8(vaddw_u8(low, vget_low_u8(first)), vget_low_u8(second));
            high = vaddw_high_u8(vaddw_high_u8(high, first), second);
        }
    }
    vst1q_u32(sums, vaddw_u16(vld1q_u32(sums), vget_low_u16(low)));
    vst1q_u32(sums + 4, vaddw_high_u16(vld1q_u32(sums + 4), low));
    vst1q_u32(sums + 8, vaddw_u16(vld1q_u32(sums + 8), vget_low_u16(high)));
    vst1q_u32(sums + 12, vaddw_high_u16(vld1q_u32(sums + 12), high));
}

static void scan_half(const uint8_t *codes, const uint8_t *tables, size_t dim,
                      uint32_t *sums)
{
    memset(sums, 0, HALF_CODES * sizeof *sums);
    for (size_t groups = dim / 32; groups > 0;) {
        size_t now = groups < GROUPS_OF_16_BITS ? groups : GROUPS_OF_16_BITS;
        scan_some(codes, tables, now, sums);
        codes += now * GROUP_BYTES;
        tables += now * GROUP_BYTES;
        groups -= now;
    }
}

static void scan(const uint8_t *blocks, size_t count, size_t block_size,
                 const uint8_t *tables, size_t dim, uint32_t *sums)
{
    for (size_t b = 0; b < count; b++, blocks += block_size, sums += BLOCK_CODES) {
        scan_half(blocks, tables, dim, sums);
        scan_half(blocks + HALF_BYTES, tables, dim, sums + HALF_CODES);
    }
}

static void dot8(const uint8_t *rows, size_t count, const int8_t *query, size_t dim,
                 int32_t *out)
{
    for (size_t r = 0; r < count; r++, rows += dim) {
        int32x4_t even = vdupq_n_s32(0), odd = even;
        for (size_t d = 0; d < dim; d += 8) {
            int16x8_t a = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(rows + d)));
            int16x8_t b = vmovl_s8(vld1_s8(query + d));
            even = vmlal_s16(even, vget_low_s16(a), vget_low_s16(b));
            odd = vmlal_high_s16(odd, a, b);
        }
        out[r] = vaddvq_s32(vaddq_s32(even, odd));
    }
}

static uint32_t below(const float *values, float limit)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    uint32_t mask = 0;
    for (size_t i = 0; i < BLOCK_CODES; i += LANES) {
        uint32x4_t smaller = vcltq_f32(vld1q_f32(values + i), vdupq_n_f32(limit));
        mask |= vaddvq_u32(vandq_u32(smaller, bits)) << i;
    }
    return mask;
}

const struct vec_kernels vec_neon = {scan, bounds, below,  dot8,  tile,    hadamard,
                                     flip, mix,    extent, table, quantise};

#endif
