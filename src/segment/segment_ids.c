#include "segment/segment_ids.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "doc/batch.h"

enum { BLOCK_ROWS = 1024, BLOCK_HEAD = 9, STRING_HEAD = 2 };

static enum err damaged(struct op *op)
{
    return op_fail(op, ERR_CORRUPT, "damaged ids");
}

/* ---- numbers ---- */

static uint32_t block_rows(uint32_t row_count, uint32_t first)
{
    return row_count - first < BLOCK_ROWS ? row_count - first : BLOCK_ROWS;
}

static size_t gaps_size(uint32_t rows, unsigned bits)
{
    return ((size_t)(rows - 1) * bits + 7) / 8;
}

/* Where a number is stored from bit `at` on there are zeros. */
static void bits_put(uint8_t *to, size_t at, uint64_t value)
{
    while (value) {
        to[at / 8] |= (uint8_t)(value << at % 8);
        value >>= 8 - at % 8;
        at += 8 - at % 8;
    }
}

static uint64_t bits_get(struct slice from, size_t at, unsigned bits)
{
    uint8_t bytes[9] = {0};
    size_t begin = at / 8, left = from.size - begin;

    memcpy(bytes, from.data + begin, left < sizeof bytes ? left : sizeof bytes);
    uint64_t value = load_u64(bytes) >> at % 8;
    if (at % 8 + bits > 64) value |= (uint64_t)bytes[8] << (64 - at % 8);
    return bits == 64 ? value : value & (((uint64_t)1 << bits) - 1);
}

/* The gap before the i-th of these ids, which need not be aligned. */
static uint64_t gap_before(const uint8_t *ids, uint32_t i)
{
    const uint8_t *id = ids + i * sizeof(uint64_t);
    return load_u64(id) - load_u64(id - sizeof(uint64_t)) - 1;
}

static void block_pack(const uint8_t *ids, uint32_t rows, struct buf *out)
{
    uint64_t any = 0;
    for (uint32_t i = 1; i < rows; i++)
        any |= gap_before(ids, i);
    unsigned bits = any ? 64 - (unsigned)__builtin_clzll(any) : 0;

    put_u64(out, load_u64(ids));
    put_u8(out, (uint8_t)bits);
    size_t start = out->size;
    buf_append_zeros(out, gaps_size(rows, bits));
    for (uint32_t i = 1; i < rows && bits; i++)
        bits_put(out->data + start, (size_t)(i - 1) * bits, gap_before(ids, i));
}

/* False if an id is not above the one before it. */
static bool block_unpack(struct reader *r, uint32_t rows, uint64_t *ids)
{
    ids[0] = get_u64(r);
    unsigned bits = get_u8(r);
    struct slice gaps = get_bytes(r, bits <= 64 ? gaps_size(rows, bits) : SIZE_MAX);
    if (r->failed) return false;

    for (uint32_t i = 1; i < rows; i++) {
        uint64_t gap = bits ? bits_get(gaps, (size_t)(i - 1) * bits, bits) : 0;
        ids[i] = ids[i - 1] + gap + 1;
        if (ids[i] <= ids[i - 1]) return false;
    }
    return true;
}

static enum err numbers_unpack(struct op *op, uint32_t row_count, struct slice packed,
                               struct buf *out)
{
    struct reader r = reader_of(packed);
    uint64_t blocks = ((uint64_t)row_count + BLOCK_ROWS - 1) / BLOCK_ROWS;

    if (packed.size / BLOCK_HEAD < blocks) return damaged(op);
    uint64_t *ids = mem_alloc(row_count * sizeof *ids);
    bool good = true;
    for (uint32_t row = 0; row < row_count && good; row += BLOCK_ROWS) {
        good = block_unpack(&r, block_rows(row_count, row), ids + row);
        good = good && (row == 0 || ids[row - 1] < ids[row]);
    }
    if (!good || !reader_done(&r)) {
        mem_free(ids);
        return damaged(op);
    }
    *out = (struct buf){.data = (void *)ids,
                        .size = row_count * sizeof *ids,
                        .capacity = row_count * sizeof *ids};
    return ERR_OK;
}

/* ---- strings ---- */

static void strings_pack(uint32_t row_count, const uint8_t *ends, struct slice bytes,
                         int zstd_level, struct buf *out)
{
    struct buf plain = BUF_INIT;
    struct slice before = SLICE_EMPTY;
    uint32_t start = 0;

    for (uint32_t row = 0; row < row_count; row++) {
        uint32_t end = load_u32(ends + row * sizeof end);
        struct slice id = slice_of(bytes.data + start, end - start);
        size_t shared = slice_shared(before, id);
        put_u8(&plain, (uint8_t)shared);
        put_u8(&plain, (uint8_t)(id.size - shared));
        buf_append(&plain, id.data + shared, id.size - shared);
        before = id;
        start = end;
    }
    zstd_append(out, buf_slice(&plain), zstd_level);
    buf_release(&plain);
}

/* How many bytes the strings have; false if they are none. */
static bool strings_size(struct slice plain, uint32_t row_count, uint64_t *size)
{
    struct reader r = reader_of(plain);
    size_t before = 0;

    *size = 0;
    for (uint32_t row = 0; row < row_count; row++) {
        size_t shared = get_u8(&r), more = get_u8(&r);
        (void)get_bytes(&r, more);
        if (r.failed || shared > before || shared + more > ID_STRING_MAX) return false;
        before = shared + more;
        *size += before;
    }
    return reader_done(&r) && *size <= UINT32_MAX;
}

static void strings_expand(struct slice plain, uint32_t row_count, uint32_t *ends,
                           uint8_t *bytes)
{
    struct reader r = reader_of(plain);
    uint32_t start = 0, end = 0;

    for (uint32_t row = 0; row < row_count; row++) {
        uint8_t shared = get_u8(&r), more = get_u8(&r);
        if (shared) memcpy(bytes + end, bytes + start, shared);
        struct slice rest = get_bytes(&r, more);
        if (more) memcpy(bytes + end + shared, rest.data, more);
        start = end;
        end += (uint32_t)shared + more;
        ends[row] = end;
    }
}

static enum err strings_unpack(struct op *op, uint32_t row_count, struct slice packed,
                               struct buf *out)
{
    struct buf plain = BUF_INIT;
    size_t plain_max = (size_t)row_count * (STRING_HEAD + ID_STRING_MAX);
    size_t ends_size = row_count * sizeof(uint32_t);
    uint64_t size;

    enum err e = zstd_expand(op, packed, plain_max, &plain);
    if (!e && !strings_size(buf_slice(&plain), row_count, &size)) e = damaged(op);
    if (!e) {
        out->data = mem_alloc(ends_size + (size_t)size);
        out->size = out->capacity = ends_size + (size_t)size;
        strings_expand(buf_slice(&plain), row_count, (void *)out->data,
                       out->data + ends_size);
    }
    buf_release(&plain);
    return e;
}

/* ---- either ---- */

void ids_pack(enum id_kind kind, uint32_t row_count, struct slice ids,
              struct slice bytes, int zstd_level, struct buf *out)
{
    assert(row_count > 0);
    if (kind == ID_STRING) {
        strings_pack(row_count, ids.data, bytes, zstd_level, out);
        return;
    }
    for (uint32_t row = 0; row < row_count; row += BLOCK_ROWS)
        block_pack(ids.data + row * sizeof(uint64_t), block_rows(row_count, row), out);
}

enum err ids_unpack(struct op *op, enum id_kind kind, uint32_t row_count,
                    struct slice packed, struct buf *out)
{
    assert(row_count > 0 && out->capacity == 0);
    return kind == ID_U64 ? numbers_unpack(op, row_count, packed, out)
                          : strings_unpack(op, row_count, packed, out);
}
