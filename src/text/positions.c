#include "text/positions.h"

#include <assert.h>

#include "base/codec.h"

/* ---- writing ---- */

static void numbers_pack(const uint32_t *numbers, size_t count, struct buf *out)
{
    uint32_t all = 0;
    for (size_t i = 0; i < count; i++)
        all |= numbers[i];
    uint32_t bits = all ? 32u - (uint32_t)__builtin_clz(all) : 0;

    put_u8(out, (uint8_t)bits);
    uint64_t pending = 0;
    uint32_t filled = 0;
    for (size_t i = 0; bits > 0 && i < count; i++) {
        pending |= (uint64_t)numbers[i] << filled;
        filled += bits;
        if (filled < 32) continue;
        put_u32(out, (uint32_t)pending);
        pending >>= 32;
        filled -= 32;
    }
    for (; filled > 0; filled = filled > 8 ? filled - 8 : 0) {
        put_u8(out, (uint8_t)pending);
        pending >>= 8;
    }
}

static size_t numbers_of(const struct posting *postings, size_t count)
{
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += postings[i].frequency;
    return sum;
}

void positions_encode(const struct posting *postings, size_t count,
                      const uint32_t *numbers, struct buf *out)
{
    if (count <= POSTINGS_SMALL) {
        numbers_pack(numbers, numbers_of(postings, count), out);
        return;
    }
    size_t table = out->size;
    size_t table_size = ((count - 1) / POSTINGS_BLOCK + 1) * sizeof(uint32_t);
    buf_append_zeros(out, table_size);
    for (size_t i = 0; i < count; i += POSTINGS_BLOCK) {
        size_t in_block = count - i < POSTINGS_BLOCK ? count - i : POSTINGS_BLOCK;
        size_t block_numbers = numbers_of(postings + i, in_block);
        size_t begin = out->size - table - table_size;
        assert(begin <= UINT32_MAX);
        uint32_t offset = (uint32_t)begin;
        memcpy(out->data + table + i / POSTINGS_BLOCK * sizeof offset, &offset,
               sizeof offset);
        numbers_pack(numbers, block_numbers, out);
        numbers += block_numbers;
    }
}

/* ---- reading ---- */

static struct slice slice_from(struct slice s, size_t offset)
{
    return offset <= s.size ? slice_of(s.data + offset, s.size - offset) : SLICE_EMPTY;
}

/* The bytes from where a block begins; empty if that lies outside. */
static struct slice block_bytes(const struct positions *p, uint32_t block)
{
    if (p->small) return p->bytes;
    assert(block < p->block_count);
    size_t table_size = p->block_count * sizeof(uint32_t);
    if (p->bytes.size < table_size) return SLICE_EMPTY;
    size_t begin = load_u32(p->bytes.data + block * sizeof(uint32_t));
    return slice_from(p->bytes, table_size + begin);
}

/* Passes over numbers of the postings before. */
static void varints_skip(struct position_walk *w, uint64_t count)
{
    struct reader r = reader_of(w->bytes);
    for (uint64_t i = 0; i < count && !r.failed; i++)
        (void)get_varint(&r);
    w->offset = r.offset;
    w->damaged = r.failed;
}

void positions_walk(const struct positions *p, uint32_t block,
                    const struct postings_block *rows, uint32_t at,
                    struct position_walk *out)
{
    uint64_t before = 0;

    assert(at < rows->count);
    for (uint32_t i = 0; i < at; i++)
        before += rows->frequencies[i];
    *out = (struct position_walk){.left = rows->frequencies[at],
                                  .varints = p->in_dictionary};
    if (p->in_dictionary) {
        out->bytes = p->bytes;
        varints_skip(out, before);
        return;
    }
    struct slice bytes = block_bytes(p, block);
    out->damaged = bytes.size == 0 || bytes.data[0] > 32;
    if (out->damaged) return;
    out->bits = bytes.data[0];
    out->bytes = slice_from(bytes, 1);
    out->offset = before * out->bits;
}

static bool varint_read(struct position_walk *w, uint64_t *number)
{
    struct reader r = reader_of(w->bytes);
    r.offset = (size_t)w->offset;
    *number = get_varint_max(&r, UINT32_MAX);
    w->offset = r.offset;
    return !r.failed;
}

static bool packed_read(struct position_walk *w, uint64_t *number)
{
    uint64_t byte = w->offset / 8, shift = w->offset % 8, word = 0;
    uint64_t end = (w->offset + w->bits + 7) / 8;

    if (end > w->bytes.size) return false;
    if (w->bytes.size - byte >= sizeof word)
        word = load_u64(w->bytes.data + byte);
    else
        memcpy(&word, w->bytes.data + byte, (size_t)(end - byte));
    *number = word >> shift & ((1ull << w->bits) - 1);
    w->offset += w->bits;
    return true;
}

bool position_next(struct position_walk *w, uint32_t *position)
{
    uint64_t number;

    if (w->left == 0 || w->damaged) return false;
    w->damaged = !(w->varints ? varint_read(w, &number) : packed_read(w, &number)) ||
                 w->next + number > UINT32_MAX;
    if (w->damaged) return false;
    *position = (uint32_t)(w->next + number);
    w->next = (uint64_t)*position + 1;
    w->left--;
    return true;
}
