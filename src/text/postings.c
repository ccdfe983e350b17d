#include "text/postings.h"

#include <assert.h>

#include "base/codec.h"

enum {
    ENTRY_SIZE = 16,
    FREQUENCY_CAP = 255,
    LANES = 4,
    GROUPS = POSTINGS_BLOCK / LANES
};

typedef uint32_t lanes __attribute__((vector_size(16)));

/* ---- varints ---- */

void postings_put(struct buf *b, int64_t before, struct posting posting)
{
    uint64_t gap = (uint64_t)((int64_t)posting.row - before - 1);
    assert((int64_t)posting.row > before && posting.frequency > 0);

    put_varint(b, gap << 1 | (posting.frequency == 1));
    if (posting.frequency != 1) put_varint(b, posting.frequency - 2);
}

/* LEB128 without codec's checks for the shortest form, which cost more than the rest.
 */
static bool varint_get(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 40; shift += 7) {
        if (*at == end) return false;
        uint8_t byte = *(*at)++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* count postings behind row `before`, from exactly these bytes. */
static bool varints_decode(struct slice bytes, int64_t before, uint32_t row_count,
                           uint32_t count, struct postings_block *out)
{
    const uint8_t *at = bytes.data, *end = bytes.data + bytes.size;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t gap, more = 0;
        if (!varint_get(&at, end, &gap)) return false;
        bool once = gap & 1;
        if (!once && !varint_get(&at, end, &more)) return false;
        uint64_t row = (uint64_t)(before + 1) + (gap >> 1);
        if (row >= row_count || more > UINT32_MAX - 2) return false;
        out->rows[i] = (uint32_t)row;
        out->frequencies[i] = once ? 1 : (uint32_t)more + 2;
        before = (int64_t)row;
    }
    out->count = count;
    out->packed = NULL;
    out->bits = NULL;
    return at == end;
}

bool postings_small_size(struct slice bytes, uint32_t count, size_t *size,
                         uint64_t *frequencies)
{
    const uint8_t *at = bytes.data, *end = bytes.data + bytes.size;

    assert(count <= POSTINGS_SMALL);
    *frequencies = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t gap, more = 0;
        if (!varint_get(&at, end, &gap)) return false;
        bool once = gap & 1;
        if (!once && !varint_get(&at, end, &more)) return false;
        *frequencies += once ? 1 : more + 2;
    }
    *size = (size_t)(at - bytes.data);
    return true;
}

/* ---- packing ---- */

static uint32_t bits_for(const uint32_t values[POSTINGS_BLOCK])
{
    uint32_t all = 0;
    for (size_t i = 0; i < POSTINGS_BLOCK; i++)
        all |= values[i];
    return all ? 32u - (uint32_t)__builtin_clz(all) : 0;
}

static void pack(const uint32_t values[POSTINGS_BLOCK], uint32_t bits, struct buf *out)
{
    uint32_t packed[POSTINGS_BLOCK] = {0};

    for (uint32_t i = 0; i < POSTINGS_BLOCK; i++) {
        uint32_t bit = i / LANES * bits;
        uint32_t word = bit / 32 * LANES + i % LANES;
        uint32_t shift = bit % 32;
        packed[word] |= values[i] << shift;
        if (shift + bits > 32) packed[word + LANES] |= values[i] >> (32 - shift);
    }
    buf_append(out, packed, (size_t)bits * 16);
}

/* Inlined once for each number of bits, so that every shift is a constant. */
static inline __attribute__((always_inline)) void
unpack_bits(const uint8_t *in, const uint32_t bits, lanes out[GROUPS])
{
    const uint32_t mask = bits == 32 ? UINT32_MAX : (1u << bits) - 1;
    lanes word;
    memcpy(&word, in, sizeof word);
    uint32_t shift = 0;

#pragma GCC unroll 32
    for (uint32_t i = 0; i < GROUPS; i++) {
        lanes v = word >> shift;
        shift += bits;
        if (shift >= 32 && i + 1 < GROUPS) {
            shift -= 32;
            in += 16;
            memcpy(&word, in, sizeof word);
            if (shift > 0) v |= word << (bits - shift);
        }
        out[i] = v & mask;
    }
}

static void unpack(const uint8_t *in, uint32_t bits, lanes out[GROUPS])
{
    switch (bits) {
    case 0: memset(out, 0, GROUPS * sizeof *out); break;
#define UNPACK(n)                                                                      \
    case n:                                                                            \
        unpack_bits(in, n, out);                                                       \
        break;
#define UNPACK4(n) UNPACK(n) UNPACK((n) + 1) UNPACK((n) + 2) UNPACK((n) + 3)
        UNPACK4(1)
        UNPACK4(5)
        UNPACK4(9)
        UNPACK4(13)
        UNPACK4(17)
        UNPACK4(21)
        UNPACK4(25)
        UNPACK4(29)
#undef UNPACK4
#undef UNPACK
    default: assert(!"bits are at most 32");
    }
}

/* Gaps to rows: a running sum over lanes, four at a time. */
static void sum_gaps(lanes v[GROUPS], uint32_t before)
{
    lanes sum = {before, before, before, before};
    const lanes zero = {0};

    for (uint32_t i = 0; i < GROUPS; i++) {
        lanes x = v[i] + 1;
        x += __builtin_shufflevector(zero, x, 0, 4, 5, 6);
        x += __builtin_shufflevector(zero, x, 0, 1, 4, 5);
        x += sum;
        v[i] = x;
        sum = __builtin_shufflevector(x, x, 3, 3, 3, 3);
    }
}

static bool ascends(const uint32_t *rows, uint32_t before, bool first)
{
    bool good = first || rows[0] > before;
    for (size_t i = 1; i < POSTINGS_BLOCK; i++)
        good &= rows[i] > rows[i - 1];
    return good;
}

static bool packed_decode(struct slice bytes, int64_t before, uint32_t last,
                          struct postings_block *out)
{
    uint32_t row_bits = bytes.data[0], frequency_bits = bytes.data[1];
    if (row_bits > 32 || frequency_bits > 32) return false;
    if (bytes.size != 2 + 16 * (size_t)(row_bits + frequency_bits)) return false;

    lanes values[GROUPS];
    const uint8_t *data = bytes.data + 2;
    unpack(data, row_bits, values);
    sum_gaps(values, (uint32_t)before);
    memcpy(out->rows, values, sizeof out->rows);

    out->packed = data + 16 * (size_t)row_bits;
    out->packed_bits = frequency_bits;
    out->bits = NULL;
    out->count = POSTINGS_BLOCK;

    /* 128 gaps below 2^25 sum to less than 2^32, so a right last row proves that
     * nothing wrapped around; wider gaps are looked at one by one. */
    if (out->rows[POSTINGS_BLOCK - 1] != last) return false;
    return row_bits < 25 || ascends(out->rows, (uint32_t)before, before < 0);
}

/* ---- rows as bits ---- */

/* Words that hold the rows behind `before` up to last. */
static uint32_t bits_words(int64_t before, uint32_t last)
{
    return (uint32_t)(((uint64_t)(last - before) + 63) / 64);
}

static bool bits_load(struct slice bytes, int64_t before, uint32_t last,
                      struct postings_block *out)
{
    uint32_t frequency_bits = bytes.data[1], words = bits_words(before, last);
    uint32_t last_bit = (uint32_t)(last - before - 1), count = 0;
    const uint8_t *data = bytes.data + 2;

    if (frequency_bits > 32) return false;
    if (bytes.size != 2 + 8 * (size_t)words + 16 * (size_t)frequency_bits) return false;
    for (uint32_t i = 0; i < words; i++)
        count += (uint32_t)__builtin_popcountll(load_u64(data + 8 * (size_t)i));
    uint64_t end = load_u64(data + 8 * ((size_t)words - 1));
    if (count != POSTINGS_BLOCK || end >> last_bit % 64 != 1) return false;

    out->bits = data;
    out->bits_row = (uint32_t)(before + 1);
    out->bits_last = last;
    out->packed = data + 8 * (size_t)words;
    out->packed_bits = frequency_bits;
    out->count = POSTINGS_BLOCK;
    return true;
}

void postings_rows(struct postings_block *b)
{
    uint32_t count = 0;

    for (uint32_t first = 0; b->bits && count < b->count; first += 64) {
        uint64_t word = load_u64(b->bits + first / 8);
        for (; word; word &= word - 1)
            b->rows[count++] = b->bits_row + first + (uint32_t)__builtin_ctzll(word);
    }
    b->bits = NULL;
}

bool postings_has(const struct postings_block *b, uint32_t row, uint32_t *index)
{
    uint32_t bit = row - b->bits_row, count = 0;

    assert(b->bits);
    if (row < b->bits_row || row > b->bits_last) return false;
    uint64_t word = load_u64(b->bits + bit / 64 * 8);
    if (!(word >> bit % 64 & 1)) return false;
    for (uint32_t i = 0; i < bit / 64; i++)
        count += (uint32_t)__builtin_popcountll(load_u64(b->bits + (size_t)i * 8));
    uint64_t below = word & ((1ull << bit % 64) - 1);
    *index = count + (uint32_t)__builtin_popcountll(below);
    return true;
}

void postings_frequencies(struct postings_block *b)
{
    lanes values[GROUPS];

    if (!b->packed) return;
    unpack(b->packed, b->packed_bits, values);
    for (uint32_t i = 0; i < GROUPS; i++)
        values[i] += 1;
    memcpy(b->frequencies, values, sizeof b->frequencies);
    b->packed = NULL;
}

uint32_t postings_frequency(const struct postings_block *b, uint32_t i)
{
    assert(i < b->count);
    if (!b->packed) return b->frequencies[i];
    if (b->packed_bits == 0) return 1;

    uint32_t bit = i / LANES * b->packed_bits, shift = bit % 32;
    const uint8_t *word = b->packed + (bit / 32 * LANES + i % LANES) * 4;
    uint64_t value = load_u32(word) >> shift;
    if (shift + b->packed_bits > 32)
        value |= (uint64_t)load_u32(word + (size_t)LANES * 4) << (32 - shift);
    return (uint32_t)(value & ((1ull << b->packed_bits) - 1)) + 1;
}

/* ---- bounds ---- */

struct pair {
    uint8_t frequency, length;
};

/* Keeps the pairs that no other one dominates, by rising frequency (and length). */
static size_t pair_insert(struct pair *pairs, size_t count, struct pair p)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (pairs[i].frequency >= p.frequency && pairs[i].length <= p.length)
            return count;
    for (size_t i = 0; i < count; i++)
        if (pairs[i].frequency > p.frequency || pairs[i].length < p.length)
            pairs[kept++] = pairs[i];

    size_t at = kept;
    for (; at > 0 && pairs[at - 1].frequency > p.frequency; at--)
        pairs[at] = pairs[at - 1];
    pairs[at] = p;
    return kept + 1;
}

static void bounds_put(const struct posting *postings, size_t count,
                       const uint8_t *lengths, struct buf *out)
{
    struct pair pairs[POSTINGS_BLOCK + 1];
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t f = postings[i].frequency;
        uint8_t capped = f < FREQUENCY_CAP ? (uint8_t)f : FREQUENCY_CAP;
        n = pair_insert(pairs, n, (struct pair){capped, lengths[postings[i].row]});
    }
    /* Scores hardly grow with high frequencies, so these are merged: the highest of
     * them with the shortest length of them. */
    if (n > POSTINGS_PAIRS) {
        pairs[POSTINGS_PAIRS - 1].frequency = pairs[n - 1].frequency;
        n = POSTINGS_PAIRS;
    }
    for (size_t i = 0; i < POSTINGS_PAIRS; i++)
        put_u8(out, pairs[i < n ? i : n - 1].frequency);
    for (size_t i = 0; i < POSTINGS_PAIRS; i++)
        put_u8(out, pairs[i < n ? i : n - 1].length);
}

void postings_bounds(const struct postings *p, uint32_t block,
                     struct postings_bounds *out)
{
    assert(!p->small && block < p->block_count);
    const uint8_t *entry = p->bytes.data + (size_t)block * ENTRY_SIZE;

    for (size_t i = 0; i < POSTINGS_PAIRS; i++) {
        uint8_t frequency = entry[8 + i];
        out->frequencies[i] = frequency == FREQUENCY_CAP ? UINT32_MAX : frequency;
        out->lengths[i] = entry[12 + i];
    }
}

/* ---- lists ---- */

static void put_bits(const struct posting postings[POSTINGS_BLOCK], int64_t before,
                     uint32_t words, struct buf *out)
{
    size_t begin = out->size;
    buf_append_zeros(out, (size_t)words * 8);
    for (size_t i = 0; i < POSTINGS_BLOCK; i++) {
        uint64_t bit = (uint64_t)((int64_t)postings[i].row - before - 1);
        out->data[begin + bit / 8] |= (uint8_t)(1u << bit % 8);
    }
}

static void block_encode(const struct posting *postings, size_t count, int64_t before,
                         struct buf *out)
{
    uint32_t gaps[POSTINGS_BLOCK], frequencies[POSTINGS_BLOCK];
    int64_t start = before;

    if (count < POSTINGS_BLOCK) {
        for (size_t i = 0; i < count; i++) {
            postings_put(out, before, postings[i]);
            before = postings[i].row;
        }
        return;
    }
    for (size_t i = 0; i < POSTINGS_BLOCK; i++) {
        gaps[i] = (uint32_t)((int64_t)postings[i].row - before - 1);
        frequencies[i] = postings[i].frequency - 1;
        before = postings[i].row;
    }
    uint32_t row_bits = bits_for(gaps), frequency_bits = bits_for(frequencies);
    uint32_t words = bits_words(start, (uint32_t)before);
    bool dense = (size_t)words * 8 <= (size_t)row_bits * 16;
    put_u8(out, dense ? POSTINGS_BITS : (uint8_t)row_bits);
    put_u8(out, (uint8_t)frequency_bits);
    if (dense)
        put_bits(postings, start, words, out);
    else
        pack(gaps, row_bits, out);
    pack(frequencies, frequency_bits, out);
}

void postings_encode(const struct posting *postings, size_t count,
                     const uint8_t *lengths, struct buf *out)
{
    struct buf blocks = BUF_INIT;
    int64_t before = -1;

    assert(count > POSTINGS_SMALL);
    for (size_t i = 0; i < count; i += POSTINGS_BLOCK) {
        size_t n = count - i < POSTINGS_BLOCK ? count - i : POSTINGS_BLOCK;
        uint32_t last = postings[i + n - 1].row;
        assert(blocks.size <= UINT32_MAX);
        put_u32(out, last);
        put_u32(out, (uint32_t)blocks.size);
        bounds_put(postings + i, n, lengths, out);
        block_encode(postings + i, n, before, &blocks);
        before = last;
    }
    buf_append_slice(out, buf_slice(&blocks));
    buf_release(&blocks);
}

bool postings_open(struct slice bytes, uint32_t count, uint32_t row_count,
                   struct postings *out)
{
    if (count == 0 || count > row_count) return false;
    bool small = count <= POSTINGS_SMALL;
    uint32_t blocks = small ? 1 : (count - 1) / POSTINGS_BLOCK + 1;
    if (!small && bytes.size / ENTRY_SIZE < blocks) return false;
    *out = (struct postings){bytes, count, blocks, row_count, small};
    return true;
}

/* The bytes of a block; false if the table points outside the list. */
static bool block_bytes(const struct postings *p, uint32_t block, struct slice *out)
{
    const uint8_t *entry = p->bytes.data + (size_t)block * ENTRY_SIZE;
    size_t table = (size_t)p->block_count * ENTRY_SIZE;
    size_t data_size = p->bytes.size - table;
    bool last = block + 1 == p->block_count;

    size_t begin = load_u32(entry + 4);
    size_t end = last ? data_size : load_u32(entry + ENTRY_SIZE + 4);
    if (begin > end || end > data_size) return false;
    *out = slice_of(p->bytes.data + table + begin, end - begin);
    return true;
}

bool postings_decode(const struct postings *p, uint32_t block,
                     struct postings_block *out)
{
    if (!postings_load(p, block, out)) return false;
    postings_rows(out);
    postings_frequencies(out);
    return true;
}

bool postings_load(const struct postings *p, uint32_t block, struct postings_block *out)
{
    assert(block < p->block_count);
    if (p->small) return varints_decode(p->bytes, -1, p->row_count, p->count, out);

    int64_t before = block ? (int64_t)postings_last_row(p, block - 1) : -1;
    uint32_t last = postings_last_row(p, block);
    uint32_t count = p->count - block * POSTINGS_BLOCK;
    struct slice bytes;
    if (before >= last || last >= p->row_count) return false;
    if (!block_bytes(p, block, &bytes)) return false;
    if (count < POSTINGS_BLOCK)
        return varints_decode(bytes, before, p->row_count, count, out) &&
               out->rows[count - 1] == last;
    if (bytes.size < 2) return false;
    return bytes.data[0] == POSTINGS_BITS ? bits_load(bytes, before, last, out)
                                          : packed_decode(bytes, before, last, out);
}
