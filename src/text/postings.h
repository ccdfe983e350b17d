/*
 * postings.h - the rows that hold one term, and how often, as stored bytes.
 *
 * A list of up to POSTINGS_SMALL postings is small: varints only, no blocks. A longer
 * one is cut into blocks of 128. A table in front of them holds 16 bytes a block:
 *
 *   0  u32     last row of the block
 *   4  u32     where the block begins, counted from the end of the table
 *   8  4 x u8  frequencies (255: 255 or more) of up to four pairs, and …
 *  12  4 x u8  … their length bytes
 *
 * For each posting of the block there is a pair with at least its frequency and at most
 * its length, so the best score of the pairs bounds the block under any k1, b and
 * average length.
 *
 * A block of 128: u8 bits of a row gap, u8 bits of a frequency, then the gaps (row
 * minus row before, minus 1) and the frequencies minus 1, each 128 values packed in
 * four lanes: value i is in lane i % 4, lanes are interleaved 32 bits at a time. Where
 * rows lie dense the first byte is POSTINGS_BITS, and in place of the gaps there are
 * u64 words, as few as reach the last row: bit i % 64 of word i / 64 says that the row
 * i + 1 behind the one before the block is in it. The last, shorter block and small
 * lists: for each posting a varint (gap << 1 | frequency is 1) and, unless it is 1, a
 * varint frequency - 2. Varints are LEB128.
 *
 * Readers take any bytes: what is no list is refused, before a row outside the index or
 * out of order comes out.
 */
#ifndef TEXT_POSTINGS_H
#define TEXT_POSTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    POSTINGS_BLOCK = 128,
    POSTINGS_SMALL = 8,
    POSTINGS_PAIRS = 4,
    POSTINGS_BITS = 64 /* no gap has as many bits */
};

struct posting {
    uint32_t row;
    uint32_t frequency; /* at least 1 */
};

/* ---- writing ---- */

/* Appends one posting as varints; before: the row before it, -1 at the start. */
void postings_put(struct buf *b, int64_t before, struct posting posting);
/* Appends a list of more than POSTINGS_SMALL postings. lengths: of every row. */
void postings_encode(const struct posting *postings, size_t count,
                     const uint8_t *lengths, struct buf *out);

/* ---- reading ---- */

/* How many bytes the list of count <= POSTINGS_SMALL postings takes at the start of
 * these, and the sum of its frequencies. False if it is none. */
bool postings_small_size(struct slice bytes, uint32_t count, size_t *size,
                         uint64_t *frequencies);

struct postings {
    struct slice bytes;   /* borrowed */
    uint32_t count;       /* postings in the list */
    uint32_t block_count; /* a small list is one block */
    uint32_t row_count;   /* rows are below it */
    bool small;
};

/* Up to 128 postings, decoded; perhaps but for their frequencies, or for rows that are
 * bits. */
struct postings_block {
    uint32_t count;
    const uint8_t *packed; /* frequencies that are not decoded yet, else NULL */
    uint32_t packed_bits;
    const uint8_t *bits;          /* rows that are not decoded yet, else NULL */
    uint32_t bits_row, bits_last; /* of the first and the last bit */
    _Alignas(16) uint32_t rows[POSTINGS_BLOCK];
    _Alignas(16) uint32_t frequencies[POSTINGS_BLOCK];
};

/* False if the bytes cannot be a list of count postings. Blocks are checked as they are
 * decoded. */
bool postings_open(struct slice bytes, uint32_t count, uint32_t row_count,
                   struct postings *out);
/* Last row of a block as the table has it; a small list has no table: the last row. */
static inline uint32_t postings_last_row(const struct postings *p, uint32_t block)
{
    if (p->small) return p->row_count - 1;
    uint32_t row;
    memcpy(&row, p->bytes.data + (size_t)block * 16, sizeof row);
    return row;
}
/* False if the block is damaged; otherwise its rows ascend strictly, lie behind the
 * block before it, end with postings_last_row (unless small) and are below row_count.
 */
bool postings_decode(const struct postings *p, uint32_t block,
                     struct postings_block *out);

/* The same without frequencies, which look-ups of single rows hardly need: ask for one
 * or for all of them while the list's bytes are there. Rows that are bits stay so: for
 * postings_has, or postings_rows. */
bool postings_load(const struct postings *p, uint32_t block,
                   struct postings_block *out);
void postings_rows(struct postings_block *b);
/* Is the row in a block whose rows are bits, and as which of them? */
bool postings_has(const struct postings_block *b, uint32_t row, uint32_t *index);
uint32_t postings_frequency(const struct postings_block *b, uint32_t i);
void postings_frequencies(struct postings_block *b);

/* Frequency and length byte of the pairs that bound a block; not for small lists. */
struct postings_bounds {
    uint32_t frequencies[POSTINGS_PAIRS];
    uint8_t lengths[POSTINGS_PAIRS];
};
void postings_bounds(const struct postings *p, uint32_t block,
                     struct postings_bounds *out);

#endif
