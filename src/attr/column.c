/*
 * column.c - building a column, opening it, reading one value.
 *
 * Every value becomes an unsigned key whose order is the values' order, so that one
 * scan and one block layout (cells.c) serve all types:
 *
 *   int, datetime   the number with its sign bit turned
 *   uint, bool      the number, 0 or 1
 *   float           its bits, all turned if negative, else the sign bit turned
 *   string, uuid    its place in the column's sorted dictionary of distinct values
 *
 * Stored form (docs/formats.md "column"), little endian; every part is a multiple of 8
 * bytes long but the last:
 *
 *    0  u8   version: 1, or 2 with an index
 *    1  u8   type, as in schema.c
 *    2  u8   flags: 1 array, 2 some rows are null
 *    3  u8   0
 *    4  u32  row_count
 *    8  u64  item_count: row_count or, in arrays, the number of all items
 *   16  u32  dict_count: distinct values of string and uuid, else 0
 *   20  u32  0
 *   24  u64  dict_size: bytes of the dictionary's values
 *   32  with flag 2: a bit per row, 1 for null, in ceil(row_count / 64) u64; bits
 * behind the last row are 0 arrays: row_count + 1 cells, where each row's items start
 * and the last one ends item_count cells, the keys (any for a null) version 2: the
 * index string: dict_count + 1 cells, where each value starts and the last one ends
 *       string, uuid: dict_size bytes, the values in byte order, without gaps
 *
 * The index (column_index.h): u32 key_count, the distinct keys; u32 dense_count, those
 * whose rows are a set; u64 listed, rows of the others; u64 sets_size. Then
 *
 *       without a dictionary of values: key_count cells, the keys, ascending
 *       key_count + 1 cells: where each key's rows start in the list, and the last
 * one's end; none for those whose rows are a set listed cells: rows, by key, ascending
 * within one dense_count cells: the places among the keys of those whose rows are a set
 *       dense_count cells: how many rows each has
 *       dense_count + 1 cells: where each set starts in the sets, and the last one ends
 *       sets_size bytes: portable roaring sets; zeros to a multiple of 8
 *
 * No checksum: a column is a section of a segment, which has one. Opening checks what
 * memory safety needs, and looks at one head per 4096 rows for it; cells_get keeps what
 * it reads inside the bounds that were checked.
 */
#include "attr/column.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "attr/column_format.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/task.h"

enum {
    VERSION_PLAIN = 1,
    VERSION_INDEXED = 2,
    FLAG_ARRAY = 1,
    FLAG_NULLS = 2,
    FLAGS = 3,
    UUID_SIZE = 16
};

/* ---- keys ---- */

static const uint64_t sign_bit = (uint64_t)1 << 63;

static uint64_t float_key(double f)
{
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits & sign_bit ? ~bits : bits | sign_bit;
}

static double key_float(uint64_t key)
{
    uint64_t bits = key & sign_bit ? key & ~sign_bit : ~key;
    double f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint64_t int_key(int64_t i)
{
    return (uint64_t)i ^ sign_bit;
}

uint64_t column_key(enum attr_type type, const union scalar *v)
{
    switch (type) {
    case ATTR_INT:
    case ATTR_DATETIME: return int_key(v->i);
    case ATTR_UINT: return v->u;
    case ATTR_FLOAT: return float_key(v->f);
    case ATTR_BOOL: return v->b;
    default: assert(!"a type without a dictionary"); return 0;
    }
}

/* The bounds of a type's keys; what opens within them is a value of that type. */
static void key_bounds(enum attr_type type, uint32_t dict_count, uint64_t *least,
                       uint64_t *most)
{
    *least = 0;
    *most = UINT64_MAX;
    switch (type) {
    case ATTR_STRING:
    case ATTR_UUID: *most = dict_count > 0 ? dict_count - 1 : 0; break;
    case ATTR_FLOAT:
        *least = float_key(-DBL_MAX);
        *most = float_key(DBL_MAX);
        break;
    case ATTR_DATETIME:
        *least = int_key(DATETIME_MIN);
        *most = int_key(DATETIME_MAX);
        break;
    case ATTR_BOOL: *most = 1; break;
    case ATTR_INT:
    case ATTR_UINT: break;
    }
}

/* ---- the dictionary while it grows ---- */

struct entry {
    uint64_t offset; /* in dict.bytes */
    uint32_t size;
    uint32_t number; /* in order of arrival */
};

struct dict {
    struct buf bytes;
    struct entry *entries;
    size_t count, capacity;
    uint32_t *slots; /* entry number + 1 or 0; open addressing, at most half taken */
    size_t slot_count;
    uint64_t seed; /* the values are the users': nobody may choose the collisions */
};

static struct slice entry_text(const struct dict *d, const struct entry *e)
{
    return slice_of(d->bytes.data + e->offset, e->size);
}

/* The slot that holds text, or the free one where it belongs. */
static size_t dict_slot(const struct dict *d, struct slice text)
{
    size_t mask = d->slot_count - 1,
           slot = xxh3_64_seeded(text.data, text.size, d->seed) & mask;
    for (; d->slots[slot]; slot = (slot + 1) & mask)
        if (slice_equal(entry_text(d, &d->entries[d->slots[slot] - 1]), text)) break;
    return slot;
}

static void dict_grow(struct dict *d)
{
    d->capacity = d->capacity ? 2 * d->capacity : 64;
    d->entries = mem_realloc(d->entries, d->capacity * sizeof *d->entries);
    mem_free(d->slots);
    d->slot_count = 2 * d->capacity;
    d->slots = mem_new_array(uint32_t, d->slot_count);
    for (size_t i = 0; i < d->count; i++)
        d->slots[dict_slot(d, entry_text(d, &d->entries[i]))] = (uint32_t)i + 1;
}

/* The number of text, in order of first arrival. */
static uint32_t dict_add(struct dict *d, struct slice text)
{
    if (d->count == d->capacity) dict_grow(d);
    size_t slot = dict_slot(d, text);
    if (d->slots[slot]) return d->slots[slot] - 1;

    assert(d->count < UINT32_MAX - 1 && text.size <= UINT32_MAX);
    uint32_t number = (uint32_t)d->count++;
    d->entries[number] = (struct entry){d->bytes.size, (uint32_t)text.size, number};
    buf_append_slice(&d->bytes, text);
    d->slots[slot] = number + 1;
    return number;
}

static void dict_release(struct dict *d)
{
    buf_release(&d->bytes);
    mem_free(d->entries);
    mem_free(d->slots);
}

static int entry_order(const void *a, const void *b, void *context)
{
    return slice_compare(entry_text(context, a), entry_text(context, b));
}

/* Sorts the entries; places[number] is where entry `number` went. The caller's. */
static uint32_t *dict_sort(struct dict *d)
{
    uint32_t *places = mem_new_array(uint32_t, d->count);
    if (d->count > 0) qsort_r(d->entries, d->count, sizeof *d->entries, entry_order, d);
    for (size_t i = 0; i < d->count; i++)
        places[d->entries[i].number] = (uint32_t)i;
    return places;
}

/* ---- building ---- */

/* A growing array of u64. */
struct numbers {
    uint64_t *data;
    size_t count, capacity;
};

static void numbers_add(struct numbers *n, uint64_t v)
{
    if (n->count == n->capacity) {
        n->capacity = n->capacity ? 2 * n->capacity : 64;
        n->data = mem_realloc(n->data, n->capacity * sizeof *n->data);
    }
    n->data[n->count++] = v;
}

struct column_builder {
    enum attr_type type;
    bool array, indexed;
    uint32_t row_count;
    bool any_null;
    struct numbers nulls;  /* a bit per row */
    struct numbers starts; /* arrays: where each row's items start */
    struct numbers keys;   /* of items; dictionary numbers until finish */
    struct dict dict;
};

struct column_builder *column_builder_new(enum attr_type type, bool array, bool indexed)
{
    struct column_builder *b = mem_new(struct column_builder);
    b->type = type;
    b->array = array;
    b->indexed = indexed;
    b->dict.seed = random_u64();
    return b;
}

void column_builder_free(struct column_builder *b)
{
    if (!b) return;
    mem_free(b->nulls.data);
    mem_free(b->starts.data);
    mem_free(b->keys.data);
    dict_release(&b->dict);
    mem_free(b);
}

static void add_scalar(struct column_builder *b, const union scalar *v)
{
    uint64_t key;
    if (b->type == ATTR_STRING)
        key = dict_add(&b->dict, v->s);
    else if (b->type == ATTR_UUID)
        key = dict_add(&b->dict, slice_of(v->uuid, UUID_SIZE));
    else
        key = column_key(b->type, v);
    assert(b->type != ATTR_FLOAT || isfinite(v->f));
    numbers_add(&b->keys, key);
}

uint64_t column_filler(enum attr_type type)
{
    uint64_t least, most;
    key_bounds(type, 0, &least, &most);
    return least;
}

void column_builder_add(struct column_builder *b, const struct value *v)
{
    assert(b->row_count < UINT32_MAX);
    uint32_t row = b->row_count++;
    if (row % 64 == 0) numbers_add(&b->nulls, 0);
    if (v->null) {
        b->any_null = true;
        b->nulls.data[row / 64] |= (uint64_t)1 << row % 64;
    }
    if (!b->array) {
        if (v->null)
            numbers_add(&b->keys, column_filler(b->type));
        else
            add_scalar(b, &v->one);
        return;
    }
    numbers_add(&b->starts, b->keys.count);
    for (uint32_t i = 0; !v->null && i < v->count; i++)
        add_scalar(b, &v->items[i]);
}

static void numbers_to_places(struct numbers *keys, const uint32_t *places)
{
    for (size_t i = 0; i < keys->count; i++)
        keys->data[i] = places[keys->data[i]];
}

static void put_dict(const struct dict *d, bool with_ends, struct buf *out)
{
    struct numbers ends = {.data = NULL};
    uint64_t size = 0;

    numbers_add(&ends, 0);
    for (size_t i = 0; i < d->count; i++)
        numbers_add(&ends, size += d->entries[i].size);
    if (with_ends) cells_encode(ends.data, ends.count, NULL, out);
    for (size_t i = 0; i < d->count; i++)
        buf_append_slice(out, entry_text(d, &d->entries[i]));
    mem_free(ends.data);
}

void column_content_put(const struct column_content *c, struct buf *out)
{
    uint64_t item_count = c->starts ? c->starts[c->row_count] : c->row_count;
    size_t null_words = ((size_t)c->row_count + 63) / 64;
    struct index_source source = {.keys = c->keys,
                                  .starts = c->starts,
                                  .nulls = c->nulls,
                                  .row_count = c->row_count,
                                  .dict_count = c->dict_count};

    put_u8(out, c->indexed ? VERSION_INDEXED : VERSION_PLAIN);
    put_u8(out, (uint8_t)c->type);
    put_u8(out, (uint8_t)((c->starts ? FLAG_ARRAY : 0) | (c->nulls ? FLAG_NULLS : 0)));
    put_u8(out, 0);
    put_u32(out, c->row_count);
    put_u64(out, item_count);
    put_u32(out, c->dict_count);
    put_u32(out, 0);
    put_u64(out, c->dict_size);
    if (c->nulls) buf_append(out, c->nulls, null_words * sizeof(uint64_t));
    if (c->starts) cells_encode(c->starts, (uint64_t)c->row_count + 1, NULL, out);
    cells_encode(c->keys, item_count, c->starts ? NULL : c->nulls, out);
    if (c->indexed) column_index_put(&source, out);
}

void column_builder_finish(struct column_builder *b, struct buf *out)
{
    bool has_dict = column_has_dict(b->type);

    if (has_dict && b->dict.count > 0) {
        uint32_t *places = dict_sort(&b->dict);
        numbers_to_places(&b->keys, places);
        mem_free(places);
    }
    if (b->array) numbers_add(&b->starts, b->keys.count);
    struct column_content content = {.type = b->type,
                                     .indexed = b->indexed,
                                     .row_count = b->row_count,
                                     .dict_count = (uint32_t)b->dict.count,
                                     .dict_size = b->dict.bytes.size,
                                     .nulls = b->any_null ? b->nulls.data : NULL,
                                     .starts = b->array ? b->starts.data : NULL,
                                     .keys = b->keys.data};
    column_content_put(&content, out);
    if (has_dict) put_dict(&b->dict, b->type == ATTR_STRING, out);
    column_builder_free(b);
}

/* ---- opening ---- */

struct column_head {
    uint8_t version, flags;
    uint32_t row_count, dict_count;
    uint64_t item_count, dict_size;
};

/* False unless the bytes begin as a column of that type and row count does. */
static bool get_head(struct reader *r, enum attr_type type, bool array,
                     uint32_t row_count, struct column_head *head)
{
    head->version = get_u8(r);
    uint8_t stored_type = get_u8(r);
    head->flags = get_u8(r);
    uint8_t zero = get_u8(r);
    head->row_count = get_u32(r);
    head->item_count = get_u64(r);
    head->dict_count = get_u32(r);
    uint32_t zeros = get_u32(r);
    head->dict_size = get_u64(r);

    bool is_array = head->flags & FLAG_ARRAY;
    if (r->failed || zero || zeros) return false;
    if (head->version != VERSION_PLAIN && head->version != VERSION_INDEXED)
        return false;
    if (stored_type != (uint8_t)type || is_array != array || (head->flags & ~FLAGS))
        return false;
    if (head->row_count != row_count) return false;
    if (!array && head->item_count != row_count) return false;
    return column_has_dict(type) || (head->dict_count == 0 && head->dict_size == 0);
}

static bool get_nulls(struct reader *r, uint32_t row_count, const uint8_t **nulls)
{
    size_t words = ((size_t)row_count + 63) / 64;
    *nulls = get_bytes(r, words * 8).data;
    if (r->failed) return false;
    if (row_count % 64 == 0) return true;
    return load_u64(*nulls + (words - 1) * 8) >> row_count % 64 == 0;
}

static bool get_dict(struct reader *r, const struct column_head *head, struct column *c)
{
    if (c->type == ATTR_UUID &&
        head->dict_size != (uint64_t)head->dict_count * UUID_SIZE)
        return false;
    if (c->type == ATTR_STRING && !cells_open(r, (uint64_t)head->dict_count + 1, 0,
                                              head->dict_size, &c->dict_ends))
        return false;
    c->dict_count = head->dict_count;
    c->dict = get_bytes(r, head->dict_size);
    return !r->failed;
}

static bool get_column(struct reader *r, uint32_t row_count, struct column *c)
{
    struct column_head head;
    uint64_t least, most;

    if (!get_head(r, c->type, c->array, row_count, &head)) return false;
    c->row_count = row_count;
    if ((head.flags & FLAG_NULLS) && !get_nulls(r, row_count, &c->nulls)) return false;
    if (c->array &&
        !cells_open(r, (uint64_t)row_count + 1, 0, head.item_count, &c->starts))
        return false;
    key_bounds(c->type, head.dict_count, &least, &most);
    if (!cells_open(r, head.item_count, least, most, &c->items)) return false;
    c->indexed = head.version == VERSION_INDEXED;
    bool numbered = column_has_dict(c->type) && head.dict_count > 0;
    if (c->indexed && !column_index_get(r, row_count, numbered, head.dict_count, least,
                                        most, &c->index))
        return false;
    if (column_has_dict(c->type) && !get_dict(r, &head, c)) return false;
    return reader_done(r);
}

enum err column_open(struct op *op, struct slice bytes, enum attr_type type, bool array,
                     uint32_t row_count, struct column **out)
{
    struct reader r = reader_of(bytes);
    struct column c = {.type = type, .array = array, .on_heap = !op};

    if (!get_column(&r, row_count, &c))
        return op ? op_fail(op, ERR_CORRUPT, "damaged column") : ERR_CORRUPT;
    struct column *place = op ? op_new(op, struct column) : mem_new(struct column);
    if (!place) return ERR_LIMIT;
    *place = c;
    *out = place;
    return ERR_OK;
}

void column_close(struct column *c)
{
    if (c && c->on_heap) mem_free(c);
}

/* ---- reading ---- */

struct slice column_dict_entry(const struct column *c, uint64_t code)
{
    if (code >= c->dict_count) return SLICE_EMPTY;
    if (c->type == ATTR_UUID)
        return slice_of(c->dict.data + code * UUID_SIZE, UUID_SIZE);
    uint64_t start = cells_get(&c->dict_ends, code);
    uint64_t end = cells_get(&c->dict_ends, code + 1);
    return start < end ? slice_of(c->dict.data + start, end - start) : SLICE_EMPTY;
}

uint64_t column_dict_bound(const struct column *c, struct slice text, bool after)
{
    uint64_t low = 0, high = c->dict_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = slice_compare(column_dict_entry(c, middle), text);
        if (order < 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t column_null_word(const struct column *c, uint64_t word)
{
    return c->nulls ? load_u64(c->nulls + word * 8) : 0;
}

static bool is_null(const struct column *c, uint32_t row)
{
    return column_null_word(c, row / 64) >> row % 64 & 1;
}

void column_items(const struct column *c, uint32_t row, uint64_t *first, uint64_t *end)
{
    *first = cells_get(&c->starts, row);
    *end = cells_get(&c->starts, (uint64_t)row + 1);
    if (*end < *first || *end - *first > UINT32_MAX) *end = *first;
}

union scalar column_key_scalar(const struct column *c, uint64_t key)
{
    union scalar v = {.u = 0};
    switch (c->type) {
    case ATTR_STRING: v.s = column_dict_entry(c, key); break;
    case ATTR_UUID: {
        struct slice bytes = column_dict_entry(c, key);
        if (bytes.size) memcpy(v.uuid, bytes.data, UUID_SIZE);
        break;
    }
    case ATTR_INT:
    case ATTR_DATETIME: v.i = (int64_t)(key ^ sign_bit); break;
    case ATTR_UINT: v.u = key; break;
    case ATTR_FLOAT: v.f = key_float(key); break;
    case ATTR_BOOL: v.b = key != 0; break;
    }
    return v;
}

enum err column_value(struct op *op, const struct column *c, uint32_t row,
                      struct value *out)
{
    uint64_t first, end;

    assert(row < c->row_count);
    *out = VALUE_NULL;
    if (is_null(c, row)) return ERR_OK;
    if (!c->array) {
        *out = (struct value){.one = column_key_scalar(c, cells_get(&c->items, row))};
        return ERR_OK;
    }
    column_items(c, row, &first, &end);
    union scalar *items = op_new_array(op, union scalar, end - first);
    if (!items) return ERR_LIMIT;
    for (uint64_t i = first; i < end; i++)
        items[i - first] = column_key_scalar(c, cells_get(&c->items, i));
    *out = (struct value){.count = (uint32_t)(end - first), .items = items};
    return ERR_OK;
}

/* -0 equals 0, so they have one key here. */
static uint64_t one_zero(const struct column *c, uint64_t key)
{
    return c->type == ATTR_FLOAT && key == sign_bit - 1 ? sign_bit : key;
}

bool column_key_at(const struct column *c, uint32_t row, uint64_t *key)
{
    assert(!c->array && row < c->row_count);
    if (is_null(c, row)) return false;
    *key = one_zero(c, cells_get(&c->items, row));
    return true;
}

void column_block_keys(const struct column *c, uint32_t block, uint64_t *least,
                       uint64_t *most)
{
    assert(!c->array);
    cells_bounds(&c->items, block, least, most);
    *least = one_zero(c, *least);
    *most = one_zero(c, *most);
}

uint64_t column_key_from(const struct column *c, const union scalar *v, bool *equal)
{
    *equal = true;
    if (!column_has_dict(c->type)) return one_zero(c, column_key(c->type, v));

    struct slice text = c->type == ATTR_UUID ? slice_of(v->uuid, UUID_SIZE) : v->s;
    uint64_t code = column_dict_bound(c, text, false);
    *equal = code < c->dict_count && slice_equal(column_dict_entry(c, code), text);
    return code;
}

uint32_t column_dict_count(const struct column *c)
{
    return c->dict_count;
}
