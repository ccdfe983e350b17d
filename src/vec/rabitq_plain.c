/*
 * The plain twin: what every other level must agree with, byte by byte.
 */
#define LANES              4
#define LANES_FMA(a, b, c) ((a) * (b) + (c))
#define LANES_SUM(v)       (((v)[0] + (v)[2]) + ((v)[1] + (v)[3]))
#define TILE_WIDTH         2
#include "vec/vec_float.h"

/* The code of one of 32: a dword of its half in each 128 bytes (rabitq.h). */
static uint32_t scan_code(const uint8_t *codes, size_t index, const uint8_t *tables,
                          size_t dim)
{
    uint32_t sum = 0;
    const uint8_t *at = codes + index * 4;
    for (size_t d = 0; d < dim; d += 32, at += 128, tables += 8 * TABLE_ENTRIES)
        for (size_t b = 0; b < 4; b++) {
            sum += tables[b * TABLE_ENTRIES + (at[b] & 15)];
            sum += tables[(4 + b) * TABLE_ENTRIES + (at[b] >> 4)];
        }
    return sum;
}

static void scan(const uint8_t *blocks, size_t count, size_t block_size,
                 const uint8_t *tables, size_t dim, uint32_t *sums)
{
    for (size_t b = 0; b < count; b++, blocks += block_size, sums += BLOCK_CODES)
        for (size_t i = 0; i < BLOCK_CODES; i++)
            sums[i] = scan_code(blocks, i, tables, dim);
}

static void dot8(const uint8_t *rows, size_t count, const int8_t *query, size_t dim,
                 int32_t *out)
{
    for (size_t r = 0; r < count; r++, rows += dim) {
        int32_t sum = 0;
        for (size_t d = 0; d < dim; d++)
            sum += rows[d] * query[d];
        out[r] = sum;
    }
}

static uint32_t below(const float *values, float limit)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < BLOCK_CODES; i++)
        mask |= (uint32_t)(values[i] < limit) << i;
    return mask;
}

const struct vec_kernels vec_plain = {scan, bounds, below,  dot8,  tile,    hadamard,
                                      flip, mix,    extent, table, quantise};
