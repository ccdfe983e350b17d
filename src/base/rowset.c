#include "base/rowset.h"

#include <assert.h>
#include <roaring/containers/containers.h>
#include <roaring/roaring.h>
#include <stdatomic.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"

/* Of the library's portable layout, and of its memory. */
enum {
    COOKIE_PLAIN = 12346,
    COOKIE_RUNS = 12347,
    CONTAINERS_MAX = 65536,
    OFFSETS_FROM = 4,
    ARRAY_MAX = 4096,
    BITS_SIZE = 8192,
    CHUNK_ROWS = 65536,
    CHUNK_WORDS = CHUNK_ROWS / 64
};

struct rowset {
    roaring_bitmap_t *rows;
    atomic_uint refs;
};

static struct rowset *wrap(roaring_bitmap_t *rows)
{
    assert(rows); /* NULL only when memory ran out */
    struct rowset *set = mem_new(struct rowset);
    set->rows = rows;
    atomic_init(&set->refs, 1);
    return set;
}

struct rowset *rowset_new(void)
{
    return wrap(roaring_bitmap_create());
}

struct rowset *rowset_range(uint32_t first, uint32_t end)
{
    struct rowset *set = rowset_new();
    rowset_add_range(set, first, end);
    return set;
}

struct rowset *rowset_from(const uint32_t *rows, size_t count)
{
    return wrap(roaring_bitmap_of_ptr(count, rows));
}

struct rowset *rowset_copy(const struct rowset *set)
{
    return wrap(roaring_bitmap_copy(set->rows));
}

struct rowset *rowset_ref(struct rowset *set)
{
    if (set) (void)atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void rowset_unref(struct rowset *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) > 1)
        return;
    roaring_bitmap_free(set->rows);
    mem_free(set);
}

void rowset_add(struct rowset *set, uint32_t row)
{
    roaring_bitmap_add(set->rows, row);
}

void rowset_add_range(struct rowset *set, uint32_t first, uint32_t end)
{
    if (first < end) roaring_bitmap_add_range_closed(set->rows, first, end - 1);
}

bool rowset_has(const struct rowset *set, uint32_t row)
{
    return roaring_bitmap_contains(set->rows, row);
}

uint64_t rowset_count(const struct rowset *set)
{
    return roaring_bitmap_get_cardinality(set->rows);
}

/* Members of the set below end. */
static uint64_t count_below(const struct rowset *set, uint32_t end)
{
    return end ? roaring_bitmap_rank(set->rows, end - 1) : 0;
}

uint64_t rowset_count_range(const struct rowset *set, uint32_t first, uint32_t end)
{
    return first < end ? count_below(set, end) - count_below(set, first) : 0;
}

void rowset_and(struct rowset *set, const struct rowset *other)
{
    if (set != other) roaring_bitmap_and_inplace(set->rows, other->rows);
}

void rowset_or(struct rowset *set, const struct rowset *other)
{
    if (set != other) roaring_bitmap_or_inplace(set->rows, other->rows);
}

void rowset_andnot(struct rowset *set, const struct rowset *other)
{
    if (set == other)
        roaring_bitmap_clear(set->rows);
    else
        roaring_bitmap_andnot_inplace(set->rows, other->rows);
}

void rowset_flip(struct rowset *set, uint32_t end)
{
    roaring_bitmap_flip_inplace(set->rows, 0, end);
    roaring_bitmap_remove_range_closed(set->rows, end, UINT32_MAX);
}

size_t rowset_read(const struct rowset *set, uint32_t from, uint32_t *rows, size_t max)
{
    roaring_uint32_iterator_t at;
    uint32_t room = max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;

    roaring_init_iterator(set->rows, &at);
    if (!roaring_move_uint32_iterator_equalorlarger(&at, from)) return 0;
    return roaring_read_uint32_iterator(&at, rows, room);
}

/*
 * The window of rowset_bits. The library keeps a chunk of 65536 rows as bits, as a
 * sorted array or as runs, and has no call that hands out bits of a part; so this reads
 * its containers (roaring/containers) directly.
 */
struct window {
    uint64_t first, end; /* rows */
    uint64_t *bits;
};

static void window_add_range(const struct window *w, uint64_t first, uint64_t end)
{
    first = first > w->first ? first : w->first;
    end = end < w->end ? end : w->end;
    while (first < end) {
        uint64_t at = first - w->first, room = 64 - at % 64;
        uint64_t count = end - first < room ? end - first : room;
        uint64_t ones = count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
        w->bits[at / 64] |= ones << at % 64;
        first += count;
    }
}

static void window_add_bits(const struct window *w, uint64_t base,
                            const bitset_container_t *chunk)
{
    uint64_t first = base > w->first ? base : w->first;
    uint64_t end = base + CHUNK_ROWS < w->end ? base + CHUNK_ROWS : w->end;

    for (uint64_t row = first; row < end;) {
        /* To the next word's border on both sides. */
        uint64_t from = (row - base) % 64, to = (row - w->first) % 64;
        uint64_t count = 64 - (from > to ? from : to);
        if (end - row < count) count = end - row;
        uint64_t word = chunk->array[(row - base) / 64] >> from;
        if (count < 64) word &= (UINT64_C(1) << count) - 1;
        w->bits[(row - w->first) / 64] |= word << to;
        row += count;
    }
}

static void window_add_array(const struct window *w, uint64_t base,
                             const array_container_t *chunk)
{
    int32_t low = 0, high = chunk->cardinality;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (base + chunk->array[middle] < w->first)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < chunk->cardinality && base + chunk->array[low] < w->end; low++) {
        uint64_t at = base + chunk->array[low] - w->first;
        w->bits[at / 64] |= UINT64_C(1) << at % 64;
    }
}

static void window_add_runs(const struct window *w, uint64_t base,
                            const run_container_t *chunk)
{
    for (int32_t i = 0; i < chunk->n_runs; i++) {
        uint64_t first = base + chunk->runs[i].value;
        window_add_range(w, first, first + chunk->runs[i].length + 1u);
    }
}

void rowset_bits(const struct rowset *set, uint32_t first, uint64_t *bits, size_t words)
{
    const roaring_array_t *chunks = &set->rows->high_low_container;
    struct window w = {first, first + (uint64_t)words * 64, bits};
    int32_t low = 0, high = chunks->size;

    memset(bits, 0, words * sizeof *bits);
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (chunks->keys[middle] < first / CHUNK_ROWS)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < chunks->size; low++) {
        uint64_t base = (uint64_t)chunks->keys[low] * CHUNK_ROWS;
        uint8_t type = chunks->typecodes[low];
        if (base >= w.end) break;
        const void *chunk = container_unwrap_shared(chunks->containers[low], &type);
        if (type == BITSET_CONTAINER_TYPE_CODE)
            window_add_bits(&w, base, chunk);
        else if (type == ARRAY_CONTAINER_TYPE_CODE)
            window_add_array(&w, base, chunk);
        else
            window_add_runs(&w, base, chunk);
    }
}

/*
 * A set in the portable layout that `sound` describes, made of bits: what the library
 * copies into memory, instead of adding rows one by one.
 */
static void put_chunk(struct buf *body, const uint64_t *bits, size_t words,
                      uint32_t count)
{
    if (count > ARRAY_MAX) {
        buf_append(body, bits, words * sizeof *bits);
        buf_append_zeros(body, BITS_SIZE - words * sizeof *bits);
        return;
    }
    uint16_t rows[ARRAY_MAX];
    size_t n = 0;
    for (size_t word = 0; word < words; word++)
        for (uint64_t left = bits[word]; left; left &= left - 1)
            rows[n++] = (uint16_t)(word * 64 + (size_t)__builtin_ctzll(left));
    buf_append(body, rows, n * sizeof *rows);
}

static void put_bits(const uint64_t *bits, size_t words, struct buf *out)
{
    struct buf head = BUF_INIT, offsets = BUF_INIT, body = BUF_INIT;
    uint32_t chunks = 0;

    for (size_t first = 0, key = 0; first < words; first += CHUNK_WORDS, key++) {
        size_t here = words - first < CHUNK_WORDS ? words - first : CHUNK_WORDS;
        uint32_t count = 0;
        for (size_t i = 0; i < here; i++)
            count += (uint32_t)__builtin_popcountll(bits[first + i]);
        if (count == 0) continue;
        put_u16(&head, (uint16_t)key);
        put_u16(&head, (uint16_t)(count - 1));
        put_u32(&offsets, (uint32_t)body.size);
        put_chunk(&body, bits + first, here, count);
        chunks++;
    }
    uint32_t front = 8 + chunks * 8;
    put_u32(out, COOKIE_PLAIN);
    put_u32(out, chunks);
    buf_append_slice(out, buf_slice(&head));
    for (uint32_t i = 0; i < chunks; i++)
        put_u32(out, front + load_u32(offsets.data + i * sizeof(uint32_t)));
    buf_append_slice(out, buf_slice(&body));
    buf_release(&head);
    buf_release(&offsets);
    buf_release(&body);
}

struct rowset *rowset_from_bits(const uint64_t *bits, size_t words)
{
    struct buf bytes = BUF_INIT;
    put_bits(bits, words, &bytes);
    struct rowset *set = wrap(
        roaring_bitmap_portable_deserialize_safe((const char *)bytes.data, bytes.size));
    buf_release(&bytes);
    return set;
}

void rowset_encode(const struct rowset *set, struct buf *out)
{
    roaring_bitmap_t *packed = roaring_bitmap_copy(set->rows);

    assert(packed);
    (void)roaring_bitmap_run_optimize(packed);
    size_t size = roaring_bitmap_portable_size_in_bytes(packed);
    buf_reserve(out, size);
    size_t written =
        roaring_bitmap_portable_serialize(packed, (char *)out->data + out->size);
    assert(written == size);
    out->size += written;
    roaring_bitmap_free(packed);
}

/*
 * The library's own decoder stays inside the bytes but believes what they say: an
 * unsorted array or a wrong count becomes a set that answers wrongly. So we walk the
 * layout (RoaringFormatSpec, github.com/RoaringBitmap) and hand over only what is
 * sound:
 *
 *   u32 cookie    12346, then u32 n; or 12347 | (n - 1) << 16, then a bit per container
 *                 that says whether it holds runs
 *   n times       u16 key, u16 count - 1
 *   n times       u32 offset of the container; left out with cookie 12347 and n < 4
 *   containers    runs: u16 number of runs, then (u16 first, u16 length - 1) each
 *                 count <= 4096: count u16 values; otherwise 8192 bytes of bits
 */

/* Each checker reads one container and returns how many values it holds, 0 if it is
 * not sound; *last is its largest. */
static uint32_t check_array(struct reader *r, uint32_t count, uint32_t *last)
{
    const uint8_t *p = get_bytes(r, count * sizeof(uint16_t)).data;
    uint32_t previous = 0, wrong = 0;
    if (r->failed) return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value = (uint32_t)p[2 * i] | (uint32_t)p[2 * i + 1] << 8;
        wrong |= i > 0 && value <= previous;
        previous = value;
    }
    *last = previous;
    return wrong ? 0 : count;
}

static uint32_t check_bits(struct reader *r, uint32_t *last)
{
    const uint8_t *p = get_bytes(r, BITS_SIZE).data;
    uint32_t count = 0;
    if (r->failed) return 0;
    for (uint32_t i = 0; i < BITS_SIZE / 8; i++) {
        uint64_t word = load_u64(p + i * 8);
        if (!word) continue;
        count += (uint32_t)__builtin_popcountll(word);
        *last = i * 64 + 63 - (uint32_t)__builtin_clzll(word);
    }
    return count;
}

static uint32_t check_runs(struct reader *r, uint32_t *last)
{
    uint32_t runs = get_u16(r);
    uint32_t count = 0;
    for (uint32_t i = 0; i < runs; i++) {
        uint32_t first = get_u16(r);
        uint32_t length = get_u16(r) + 1u;
        if (first + length > CONTAINERS_MAX || (i > 0 && first <= *last)) return 0;
        *last = first + length - 1;
        count += length;
    }
    return count;
}

/* True when bytes are one whole set whose rows are all < row_count. */
static bool sound(struct slice bytes, uint32_t row_count)
{
    struct reader r = reader_of(bytes);
    uint32_t cookie = get_u32(&r);
    bool has_runs = (cookie & 0xffff) == COOKIE_RUNS;
    uint32_t n = has_runs ? (cookie >> 16) + 1 : get_u32(&r);
    if (!has_runs && (cookie != COOKIE_PLAIN || n > CONTAINERS_MAX)) return false;

    struct slice run_flags = get_bytes(&r, has_runs ? (n + 7) / 8 : 0);
    struct reader keys = reader_of(get_bytes(&r, (size_t)n * 4));
    bool has_offsets = !has_runs || n >= OFFSETS_FROM;
    struct reader offsets = reader_of(get_bytes(&r, has_offsets ? (size_t)n * 4 : 0));
    if (r.failed) return false;

    uint32_t previous = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = get_u16(&keys);
        uint32_t count = get_u16(&keys) + 1u;
        bool runs = has_runs && (run_flags.data[i / 8] >> i % 8 & 1);
        uint32_t last = 0;
        if (i > 0 && key <= previous) return false;
        if (has_offsets && get_u32(&offsets) != r.offset) return false;
        uint32_t held = runs                 ? check_runs(&r, &last)
                        : count <= ARRAY_MAX ? check_array(&r, count, &last)
                                             : check_bits(&r, &last);
        if (r.failed || held != count || (key << 16 | last) >= row_count) return false;
        previous = key;
    }
    return reader_done(&r);
}

enum err rowset_decode(struct op *op, struct slice bytes, uint32_t row_count,
                       struct rowset **out)
{
    *out = NULL;
    if (!sound(bytes, row_count))
        return op_fail(op, ERR_CORRUPT, "not a set of rows below %u", row_count);
    *out = wrap(
        roaring_bitmap_portable_deserialize_safe((const char *)bytes.data, bytes.size));
    return ERR_OK;
}
