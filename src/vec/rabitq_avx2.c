/*
 * AVX2. VPSHUFB has one table of sixteen entries for all bytes of a lane, so the 128
 * bytes of 32 dimensions are transposed first: four registers, each with one byte of
 * all 32 codes. Sums are kept in 16 bits: in one register the even and odd bytes of the
 * results together, in another the odd ones alone; they are told apart and widened
 * before they can overflow.
 */
#include "vec/vec_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

static inline float sum_of(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#define LANES 8
#define LANES_FMA(a, b, c)                                                             \
    ((lanes)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define LANES_SUM(v) sum_of((__m256)(v))
#define TILE_WIDTH   2
#include "vec/vec_float.h"

enum {
    GROUP_BYTES = 128,
    WIDTH = 32,
    GROUPS_OF_16_BITS = 32 /* 8 look-ups of at most 255 each: below 65536 */
};

INLINED __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* out[b]: byte b of all codes. Dwords keep their four codes; their order in out is that
 * of code_of. */
INLINED void transpose(const uint8_t *group, __m256i out[4])
{
    const __m256i gather = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m256i a = _mm256_shuffle_epi8(load(group), gather);
    __m256i b = _mm256_shuffle_epi8(load(group + WIDTH), gather);
    __m256i c = _mm256_shuffle_epi8(load(group + 2 * WIDTH), gather);
    __m256i d = _mm256_shuffle_epi8(load(group + 3 * WIDTH), gather);
    __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
    __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
    out[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

/* The code whose sum stands at a byte of a transposed register: lanes hold codes 0-3
 * and 4-7 of each eight, dwords the eights in order. */
static size_t code_of(size_t byte)
{
    return byte % 16 / 4 * 8 + byte / 16 * 4 + byte % 4;
}

struct pairs {
    __m256i both; /* even + 256 * odd, modulo 65536 */
    __m256i odd;
};

INLINED void look_up(struct pairs *sums, __m256i nibbles, const uint8_t *table)
{
    __m256i entries = _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)(const void *)table));
    __m256i found = _mm256_shuffle_epi8(entries, nibbles);
    sums->both = _mm256_add_epi16(sums->both, found);
    sums->odd = _mm256_add_epi16(sums->odd, _mm256_srli_epi16(found, 8));
}

static void spill(struct pairs sums, uint32_t *out)
{
    uint16_t even[16], odd[16];
    __m256i low = _mm256_sub_epi16(sums.both, _mm256_slli_epi16(sums.odd, 8));
    _mm256_storeu_si256((__m256i *)(void *)even, low);
    _mm256_storeu_si256((__m256i *)(void *)odd, sums.odd);
    for (size_t i = 0; i < 16; i++) {
        out[code_of(2 * i)] += even[i];
        out[code_of(2 * i + 1)] += odd[i];
    }
}

static void scan_block(const uint8_t *codes, const uint8_t *tables, size_t dim,
                       uint32_t *sums)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    memset(sums, 0, BLOCK_CODES * sizeof *sums);
    for (size_t groups = dim / 32; groups > 0;) {
        size_t now = groups < GROUPS_OF_16_BITS ? groups : GROUPS_OF_16_BITS;
        struct pairs pairs = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        groups -= now;
        for (; now > 0; now--, codes += GROUP_BYTES, tables += GROUP_BYTES) {
            __m256i bytes[4];
            transpose(codes, bytes);
#pragma GCC unroll 4
            for (size_t b = 0; b < 4; b++) {
                const uint8_t *at = tables + b * TABLE_ENTRIES;
                __m256i high = _mm256_srli_epi16(bytes[b], 4);
                look_up(&pairs, _mm256_and_si256(bytes[b], nibble), at);
                look_up(&pairs, _mm256_and_si256(high, nibble), at + 4 * TABLE_ENTRIES);
            }
        }
        spill(pairs, sums);
    }
}

static void scan(const uint8_t *blocks, size_t count, size_t block_size,
                 const uint8_t *tables, size_t dim, uint32_t *sums)
{
    for (size_t b = 0; b < count; b++)
        scan_block(blocks + b * block_size, tables, dim, sums + b * BLOCK_CODES);
}

/* VPMADDUBSW would saturate at 16 bits, so both sides are widened first. */
INLINED __m256i dot8_step(__m256i sum, const uint8_t *row, const int8_t *query)
{
    __m256i a =
        _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)row));
    __m256i b =
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)query));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

static void dot8(const uint8_t *rows, size_t count, const int8_t *query, size_t dim,
                 int32_t *out)
{
    for (size_t r = 0; r < count; r++, rows += dim) {
        __m256i even = _mm256_setzero_si256(), odd = even;
        for (size_t d = 0; d < dim; d += 32) {
            even = dot8_step(even, rows + d, query + d);
            odd = dot8_step(odd, rows + d + 16, query + d + 16);
        }
        int32_t sums[8], sum = 0;
        _mm256_storeu_si256((__m256i *)(void *)sums, _mm256_add_epi32(even, odd));
        for (int i = 0; i < 8; i++)
            sum += sums[i];
        out[r] = sum;
    }
}

static uint32_t below(const float *values, float limit)
{
    __m256 limits = _mm256_set1_ps(limit);
    uint32_t mask = 0;
    for (size_t i = 0; i < BLOCK_CODES; i += LANES) {
        __m256 smaller = _mm256_cmp_ps(_mm256_loadu_ps(values + i), limits, _CMP_LT_OQ);
        mask |= (uint32_t)_mm256_movemask_ps(smaller) << i;
    }
    return mask;
}

const struct vec_kernels vec_avx2 = {scan, bounds, below,  dot8,  tile,    hadamard,
                                     flip, mix,    extent, table, quantise};

#endif
