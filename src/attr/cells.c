/*
 * cells.c - frame-of-reference blocks: encoding, random reads, scans.
 *
 * Stored form (part of a column, docs/formats.md "column"), little endian. The count is
 * known from elsewhere; there are ceil(count / 4096) blocks.
 *
 *   0   per block, 32 bytes
 *          0  u64  least number of the block
 *          8  u64  greatest
 *         16  u64  offset of its cells from the start of all cells
 *         24  u8   width: 0, 1, 2, 4 or 8 bytes per cell
 *         25  7 zeros
 *   then the cells, block after block: number - least, width bytes each; a block is
 *   filled up with zeros to a multiple of 8
 */
#include "attr/cells.h"

#include <assert.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/task.h"

enum { HEAD_SIZE = 32 };

struct head {
    uint64_t least, most, offset;
    uint8_t width;
};

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

/* ---- encoding ---- */

static uint8_t width_for(uint64_t range)
{
    if (range == 0) return 0;
    if (range <= UINT8_MAX) return 1;
    if (range <= UINT16_MAX) return 2;
    if (range <= UINT32_MAX) return 4;
    return 8;
}

static bool skipped(const uint64_t *skip, uint64_t index)
{
    return skip && (skip[index / 64] >> index % 64 & 1);
}

static struct head head_for(const uint64_t *keys, uint64_t first, uint64_t end,
                            const uint64_t *skip)
{
    struct head head = {.least = keys[first], .most = keys[first]};
    bool any = false;
    for (uint64_t i = first; i < end; i++) {
        if (skipped(skip, i)) continue;
        if (!any || keys[i] < head.least) head.least = keys[i];
        if (!any || keys[i] > head.most) head.most = keys[i];
        any = true;
    }
    head.width = width_for(head.most - head.least);
    return head;
}

static void put_head(struct buf *out, const struct head *head)
{
    put_u64(out, head->least);
    put_u64(out, head->most);
    put_u64(out, head->offset);
    put_u64(out, head->width);
}

void cells_encode(const uint64_t *keys, uint64_t count, const uint64_t *skip,
                  struct buf *out)
{
    struct buf payload = BUF_INIT;
    for (uint64_t first = 0; first < count; first += CELL_BLOCK) {
        uint64_t end = count - first < CELL_BLOCK ? count : first + CELL_BLOCK;
        struct head head = head_for(keys, first, end, skip);
        head.offset = payload.size;
        put_head(out, &head);
        for (uint64_t i = first; i < end; i++) {
            uint64_t cell = skipped(skip, i) ? 0 : keys[i] - head.least;
            buf_append(&payload, &cell, head.width);
        }
        buf_append_zeros(&payload, padded(payload.size) - payload.size);
    }
    buf_append_slice(out, buf_slice(&payload));
    buf_release(&payload);
}

/* ---- opening and reading ---- */

static struct head head_at(const struct cells *c, uint64_t block)
{
    const uint8_t *p = c->heads + block * HEAD_SIZE;
    return (struct head){load_u64(p), load_u64(p + 8), load_u64(p + 16), p[24]};
}

static bool head_is_sound(const struct head *head, uint64_t least, uint64_t most,
                          uint64_t offset)
{
    bool known = head->width == 0 || head->width == 1 || head->width == 2 ||
                 head->width == 4 || head->width == 8;
    return known && head->least >= least && head->most <= most &&
           head->least <= head->most &&
           width_for(head->most - head->least) <= head->width && head->offset == offset;
}

bool cells_open(struct reader *r, uint64_t count, uint64_t least, uint64_t most,
                struct cells *out)
{
    struct cells c = {.count = count};
    uint64_t block_count = cells_block_count(&c), size = 0;

    if (block_count > reader_left(r) / HEAD_SIZE) return false;
    c.heads = get_bytes(r, block_count * HEAD_SIZE).data;
    for (uint64_t block = 0; block < block_count; block++) {
        struct head head = head_at(&c, block);
        bool padding = load_u64(c.heads + block * HEAD_SIZE + 24) == head.width;
        if (!padding || !head_is_sound(&head, least, most, size)) return false;
        size += padded(cells_in_block(&c, block) * head.width);
    }
    /* At most 32 KiB a block and 32 bytes for its head: no overflow before this. */
    c.payload = get_bytes(r, size).data;
    *out = c;
    return !r->failed;
}

void cells_bounds(const struct cells *c, uint64_t block, uint64_t *least,
                  uint64_t *most)
{
    struct head head = head_at(c, block);
    *least = head.least;
    *most = head.most;
}

uint64_t cells_get(const struct cells *c, uint64_t index)
{
    struct head head = head_at(c, index / CELL_BLOCK);
    const uint8_t *p = c->payload + head.offset + index % CELL_BLOCK * head.width;
    uint64_t cell = 0;
    switch (head.width) {
    case 0: break;
    case 1: cell = *p; break;
    case 2: {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        cell = v;
        break;
    }
    case 4: cell = load_u32(p); break;
    default: cell = load_u64(p);
    }
    return cell > head.most - head.least ? head.most : head.least + cell;
}

/* ---- scanning ---- */

/* Eight bytes that are 0 or 1 as eight bits: the product puts byte i's bit at 56 + i.
 */
static uint64_t pack_bytes(const uint8_t *bytes)
{
    return (load_u64(bytes) * 0x0102040810204080u) >> 56;
}

static uint64_t pack_word(const uint8_t bytes[64])
{
    uint64_t word = 0;
    for (size_t i = 0; i < 8; i++)
        word |= pack_bytes(bytes + 8 * i) << (8 * i);
    return word;
}

/*
 * Bits of the cells in [low, low + span]: one subtraction and one comparison each,
 * whatever the operator was. 64 at a time, so that the compiler uses vectors.
 */
#define DEFINE_RANGE(name, type)                                                       \
    static void name(const uint8_t *p, size_t n, uint64_t low, uint64_t span,          \
                     uint64_t *bits)                                                   \
    {                                                                                  \
        const type first = (type)low, width = (type)span;                              \
        uint8_t hits[64];                                                              \
        type cells[64];                                                                \
        for (size_t start = 0; start < n; start += 64) {                               \
            size_t count = n - start < 64 ? n - start : 64;                            \
            memcpy(cells, p + start * sizeof *cells, count * sizeof *cells);           \
            if (count < 64) memset(cells + count, 0, (64 - count) * sizeof *cells);    \
            for (size_t i = 0; i < 64; i++)                                            \
                hits[i] = (type)(cells[i] - first) <= width;                           \
            uint64_t word = pack_word(hits);                                           \
            bits[start / 64] =                                                         \
                count < 64 ? word & (((uint64_t)1 << count) - 1) : word;               \
        }                                                                              \
    }
DEFINE_RANGE(range_u8, uint8_t)
DEFINE_RANGE(range_u16, uint16_t)
DEFINE_RANGE(range_u32, uint32_t)
DEFINE_RANGE(range_u64, uint64_t)

static void match_range(const uint8_t *p, size_t n, uint8_t width, uint64_t low,
                        uint64_t span, uint64_t *bits)
{
    switch (width) {
    case 1: range_u8(p, n, low, span, bits); break;
    case 2: range_u16(p, n, low, span, bits); break;
    case 4: range_u32(p, n, low, span, bits); break;
    default: range_u64(p, n, low, span, bits);
    }
}

/* The cells of a block as they are stored, without the least number. */
#define DEFINE_UNPACK(name, type)                                                      \
    static void name(const uint8_t *p, size_t n, uint64_t *out)                        \
    {                                                                                  \
        for (size_t i = 0; i < n; i++) {                                               \
            type v;                                                                    \
            memcpy(&v, p + i * sizeof v, sizeof v);                                    \
            out[i] = v;                                                                \
        }                                                                              \
    }
DEFINE_UNPACK(unpack_u8, uint8_t)
DEFINE_UNPACK(unpack_u16, uint16_t)
DEFINE_UNPACK(unpack_u32, uint32_t)
DEFINE_UNPACK(unpack_u64, uint64_t)

static void unpack(const uint8_t *p, size_t n, uint8_t width, uint64_t *out)
{
    switch (width) {
    case 1: unpack_u8(p, n, out); break;
    case 2: unpack_u16(p, n, out); break;
    case 4: unpack_u32(p, n, out); break;
    default: unpack_u64(p, n, out);
    }
}

void cells_read(const struct cells *c, uint64_t first, size_t count, uint64_t *out)
{
    for (size_t done = 0; done < count;) {
        uint64_t block = (first + done) / CELL_BLOCK, at = (first + done) % CELL_BLOCK;
        size_t here = CELL_BLOCK - at < count - done ? CELL_BLOCK - at : count - done;
        struct head head = head_at(c, block);
        uint64_t span = head.most - head.least;

        memset(out + done, 0, here * sizeof *out);
        if (head.width > 0)
            unpack(c->payload + head.offset + at * head.width, here, head.width,
                   out + done);
        for (size_t i = done; i < done + here; i++)
            out[i] = out[i] > span ? head.most : head.least + out[i];
        done += here;
    }
}

/* The first of count ascending keys that is not below key. */
static size_t lower_bound(const uint64_t *keys, size_t count, uint64_t key)
{
    size_t low = 0;
    while (count > 0) {
        size_t half = count / 2;
        if (keys[low + half] < key) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

static size_t table_slot(const struct key_table *t, uint64_t key)
{
    return (size_t)(key * t->factor >> t->shift);
}

void key_table_make(const uint64_t *keys, size_t count, struct key_table *out)
{
    struct key_table t = {.shift = 63, .factor = random_u64() | 1, .none = keys[0]};
    size_t mask = 1;

    for (size_t i = 1; i < count && t.none == keys[0]; i++)
        if (keys[i] - keys[i - 1] > 1) t.none = keys[i] - 1;
    assert(t.none != keys[0]);
    for (; mask + 1 < 2 * count; mask = 2 * mask + 1)
        t.shift--;
    t.slots = mem_alloc((mask + 1) * sizeof *t.slots);
    for (size_t i = 0; i <= mask; i++)
        t.slots[i] = t.none;
    for (size_t i = 0; i < count; i++) {
        size_t slot = table_slot(&t, keys[i]);
        while (t.slots[slot] != t.none)
            slot = (slot + 1) & mask;
        t.slots[slot] = keys[i];
    }
    *out = t;
}

static bool table_has(const struct key_table *t, uint64_t key)
{
    size_t mask = ((size_t)1 << (64 - t->shift)) - 1;
    for (size_t slot = table_slot(t, key); t->slots[slot] != t->none;
         slot = (slot + 1) & mask)
        if (t->slots[slot] == key) return true;
    return false;
}

static bool has_key(const struct key_set *set, uint64_t key)
{
    uint64_t index = key - set->low;
    if (key < set->low || key > set->high) return false;
    if (set->bits) return set->bits[index / 64] >> index % 64 & 1;
    if (!set->keys) return true;
    if (set->table) return table_has(set->table, key);
    size_t at = lower_bound(set->keys, set->key_count, key);
    return at < set->key_count && set->keys[at] == key;
}

/* The listed keys in [least, most]. */
static void narrow_keys(struct key_set *set, uint64_t least, uint64_t most)
{
    size_t first = lower_bound(set->keys, set->key_count, least);
    set->keys += first;
    set->key_count -= first;
    size_t end = lower_bound(set->keys, set->key_count, most);
    set->key_count = end + (end < set->key_count && set->keys[end] == most);
}

static enum match any_bit(const uint64_t *bits)
{
    uint64_t any = 0;
    for (size_t i = 0; i < CELL_WORDS; i++)
        any |= bits[i];
    return any ? MATCH_SOME : MATCH_NONE;
}

/* Few keys are compared one after the other, which is quicker than any look-up. */
static enum match match_few(const struct head *head, const uint8_t *p, size_t n,
                            const struct key_set *set, uint64_t *bits)
{
    uint64_t one[CELL_WORDS] = {0};
    for (size_t i = 0; i < set->key_count; i++) {
        match_range(p, n, head->width, set->keys[i] - head->least, 0, one);
        for (size_t word = 0; word < CELL_WORDS; word++)
            bits[word] |= one[word];
    }
    return any_bit(bits);
}

static enum match match_members(const struct head *head, const uint8_t *p, size_t n,
                                const struct key_set *set, uint64_t *bits)
{
    enum { FEW = 4 };
    uint64_t cells[CELL_BLOCK];
    struct key_set part = *set;

    if (part.keys) {
        narrow_keys(&part, head->least, head->most);
        if (part.key_count == 0) return MATCH_NONE;
        if (part.key_count <= FEW) return match_few(head, p, n, &part, bits);
    }
    unpack(p, n, head->width, cells);
    for (size_t start = 0; start < n; start += 64) {
        size_t end = n - start < 64 ? n - start : 64;
        uint64_t word = 0;
        for (size_t i = 0; i < end; i++)
            word |= (uint64_t)has_key(&part, head->least + cells[start + i]) << i;
        bits[start / 64] = word;
    }
    return any_bit(bits);
}

enum match cells_match(const struct cells *c, uint64_t block, const struct key_set *set,
                       uint64_t bits[CELL_WORDS])
{
    struct head head = head_at(c, block);
    size_t n = cells_in_block(c, block);
    const uint8_t *p = c->payload + head.offset;
    uint64_t low = set->low > head.least ? set->low : head.least;
    uint64_t high = set->high < head.most ? set->high : head.most;
    bool interval = !set->bits && !set->keys;

    if (set->empty || low > high) return MATCH_NONE;
    if (head.width == 0) return has_key(set, head.least) ? MATCH_ALL : MATCH_NONE;
    if (interval && low == head.least && high == head.most) return MATCH_ALL;

    memset(bits, 0, CELL_WORDS * sizeof *bits);
    if (!interval) return match_members(&head, p, n, set, bits);
    match_range(p, n, head.width, low - head.least, high - low, bits);
    return MATCH_SOME;
}
