#include "segment/segment.h"

#include <assert.h>
#include <string.h>

#include "attr/column.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "segment/segment_ids.h"
#include "segment/segment_parts.h"
#include "segment/segment_stats.h"
#include "segment/segment_terms.h"
#include "text/text_index.h"

enum {
    UNIT_SIZE = 256 << 10, /* about: little to read for one row, much for a scan */
    /* What the end of an object is expected to hold. */
    ROW_END_SIZE = 9,
    ROWS_PER_CENTROID = 192,
    END_SIZE_MAX = 32 << 20
};

/* ---- checks ---- */

static enum err document_check(struct op *op, const struct segment *s, uint32_t block,
                               struct slice data)
{
    if (crc32c(0, data.data, data.size) == s->blocks[block].check) return ERR_OK;
    return op_fail(op, ERR_CORRUPT, "checksum of block %u of documents", block);
}

/* The block that starts at offset from the start of the documents. */
static uint32_t block_at(const struct segment *s, uint64_t offset)
{
    uint32_t low = 0, high = s->block_count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->blocks[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    assert(s->blocks[low].offset == offset);
    return low;
}

/* What the cache asks when a range came from the store. */
static enum err range_check(struct op *op, const void *context, uint64_t offset,
                            struct slice data)
{
    const struct segment *s = context;
    const struct section *section = layout_section_at(&s->layout, offset);
    assert(section);
    if (section->kind == SECTION_DOCUMENTS)
        return document_check(op, s, block_at(s, offset - section->offset), data);
    if (section->kind == SECTION_RECORDS)
        return ivf_record_check(op, s->ivf, offset - section->offset, data);
    return section_check(op, section, offset, data);
}

static struct slice held_range(const struct segment *s, uint64_t offset, uint64_t size)
{
    assert(offset >= s->held_offset && size <= s->size - offset);
    return slice_of(s->held.data + (offset - s->held_offset), (size_t)size);
}

static struct slice held_section(const struct segment *s, enum section_kind kind)
{
    const struct section *section = layout_section(&s->layout, kind, 0);
    return section ? held_range(s, section->offset, section->size) : SLICE_EMPTY;
}

static enum err check_held(struct op *op, const struct segment *s)
{
    for (uint32_t i = 0; i < s->layout.section_count; i++) {
        const struct section *section = &s->layout.sections[i];
        if (section->offset < s->held_offset || section->block_size == 0) continue;
        uint64_t size = section_end(section) - section->offset;
        enum err e = section_check(op, section, section->offset,
                                   held_range(s, section->offset, size));
        if (e) return e;
    }
    return ERR_OK;
}

static enum err check_held_documents(struct op *op, const struct segment *s)
{
    for (uint32_t block = 0; block < s->block_count; block++) {
        struct cache_pin pin = segment_block_range(s, block);
        enum err e = document_check(op, s, block, held_range(s, pin.offset, pin.size));
        if (e) return e;
    }
    return ERR_OK;
}

/* ---- opening ---- */

static enum err numbers_open(struct op *op, struct segment *s, struct slice ids)
{
    const uint64_t *numbers = (const void *)ids.data;
    for (uint32_t row = 1; row < s->layout.row_count; row++)
        if (numbers[row - 1] >= numbers[row])
            return op_fail(op, ERR_CORRUPT, "ids are not in order");
    s->ids = numbers;
    return ERR_OK;
}

static enum err strings_open(struct op *op, struct segment *s, struct slice ids)
{
    uint32_t row_count = s->layout.row_count;
    const uint32_t *ends = (const void *)ids.data;
    const uint8_t *bytes = ids.data + row_count * sizeof *ends;
    size_t size = ids.size - row_count * sizeof *ends;
    struct slice previous = SLICE_EMPTY;
    uint32_t start = 0;

    for (uint32_t row = 0; row < row_count; row++) {
        if (ends[row] <= start || ends[row] > size || ends[row] - start > ID_STRING_MAX)
            return op_fail(op, ERR_CORRUPT, "damaged ids");
        struct slice id = slice_of(bytes + start, ends[row] - start);
        if (slice_compare(previous, id) >= 0)
            return op_fail(op, ERR_CORRUPT, "ids are not in order");
        previous = id;
        start = ends[row];
    }
    if (start != size) return op_fail(op, ERR_CORRUPT, "damaged ids");
    s->id_ends = ends;
    s->id_bytes = bytes;
    return ERR_OK;
}

static enum err ids_open(struct op *op, struct segment *s)
{
    struct slice ids = held_section(s, SECTION_IDS);
    if (!ids.data) { /* packed, or the directory was refused */
        enum err e = ids_unpack(op, s->layout.id_kind, s->layout.row_count,
                                held_section(s, SECTION_PACKED_IDS), &s->unpacked_ids);
        if (e) return e;
        ids = buf_slice(&s->unpacked_ids);
    }
    return s->layout.id_kind == ID_U64 ? numbers_open(op, s, ids)
                                       : strings_open(op, s, ids);
}

static enum err presence_open(struct op *op, struct segment *s)
{
    struct slice bytes = held_section(s, SECTION_PRESENCE);
    uint32_t row_count = s->layout.row_count, count = 0;
    if (bytes.size == 0) return ERR_OK;

    s->presence = (const void *)bytes.data;
    size_t words = bytes.size / sizeof *s->presence;
    uint64_t beyond = row_count % 64 ? s->presence[words - 1] >> row_count % 64 : 0;
    s->ranks = mem_new_array(uint32_t, words);
    s->present = rowset_new();
    for (uint32_t word = 0; word < words; word++) {
        s->ranks[word] = count;
        count += (uint32_t)__builtin_popcountll(s->presence[word]);
    }
    if (beyond || count != s->layout.vector_count)
        return op_fail(op, ERR_CORRUPT, "damaged presence");
    for (uint32_t row = 0; row < row_count; row++)
        if (segment_has_vector(s, row)) rowset_add(s->present, row);
    return ERR_OK;
}

static uint32_t block_slots(const struct segment *s)
{
    return s->vectors->block_size / (uint32_t)(s->layout.vector_dim * sizeof(float));
}

static void vectors_open(struct segment *s)
{
    s->vectors = layout_section(&s->layout, SECTION_VECTORS, 0);
    if (!s->vectors) return;
    uint32_t block_size = s->vectors->block_size;
    uint32_t blocks = block_size < UNIT_SIZE ? UNIT_SIZE / block_size : 1;
    s->unit_slots = blocks * block_slots(s);
}

static enum err blocks_open(struct op *op, struct segment *s)
{
    struct buf blocks = BUF_INIT;

    s->documents = layout_section(&s->layout, SECTION_DOCUMENTS, 0);
    if (!s->documents) return ERR_OK;

    enum err e = document_index_decode(op, held_section(s, SECTION_DOCUMENT_INDEX),
                                       s->documents, s->layout.row_count, &blocks);
    s->blocks = (void *)blocks.data;
    s->block_count = (uint32_t)(blocks.size / sizeof *s->blocks);
    return e;
}

static enum err vector_index_open(struct op *op, struct segment *s)
{
    const struct segment_layout *l = &s->layout;
    s->records = layout_section(l, SECTION_RECORDS, 0);
    if (!s->records) return ERR_OK;
    enum err e = ivf_open(op, held_section(s, SECTION_INDEX), &s->ivf);
    if (e) return e;
    if (ivf_fits(s->ivf, segment_ivf_metric(l->metric), l->vector_dim, l->vector_count,
                 l->row_count) &&
        ivf_records_size(s->ivf) == s->records->size)
        return ERR_OK;
    return op_fail(op, ERR_CORRUPT, "the vector index is another's");
}

static enum err check_held_records(struct op *op, const struct segment *s)
{
    uint32_t count = s->ivf ? ivf_clusters(s->ivf) : 0;
    for (uint32_t cluster = 0; cluster < count; cluster++) {
        struct ivf_record r = ivf_record_of(s->ivf, cluster);
        enum err e =
            ivf_record_check(op, s->ivf, r.offset,
                             held_range(s, s->records->offset + r.offset, r.size));
        if (e) return e;
    }
    return ERR_OK;
}

/* Columns and text indexes of a segment that is held whole stay open. */
static enum err indexes_open(struct op *op, struct segment *s)
{
    const struct segment_layout *l = &s->layout;
    s->columns = mem_new_array(struct column *, l->attr_count);
    s->texts = mem_new_array(struct text_index *, l->attr_count);
    for (uint32_t i = 0; i < l->section_count; i++) {
        const struct section *section = &l->sections[i];
        const struct segment_attr *attr = &l->attrs[section->field];
        enum err e = ERR_OK;
        if (section->kind == SECTION_COLUMN)
            e = column_open(NULL, held_range(s, section->offset, section->size),
                            attr->type, attr->array, l->row_count,
                            &s->columns[section->field]);
        else if (section->kind == SECTION_TEXT)
            e = text_index_open(op, held_range(s, section->offset, section->size),
                                l->row_count, &s->texts[section->field]);
        else if (section->kind == SECTION_POSITIONS) /* they lie behind the texts */
            text_index_attach(s->texts[section->field],
                              held_range(s, section->offset, section->size));
        if (e)
            return op_fail(op, e, "%s %u", section_kind_name(section->kind),
                           section->field);
    }
    return ERR_OK;
}

/* Everything but reading: s->held holds what must be held. */
static enum err open_held(struct op *op, struct segment *s)
{
    struct segment_footer footer;
    bool whole = s->held_offset == 0;
    enum err e;

    if (s->size < SEGMENT_HEADER_SIZE + SEGMENT_FOOTER_SIZE)
        return op_fail(op, ERR_CORRUPT, "too short for a segment");
    uint64_t end = s->size - SEGMENT_FOOTER_SIZE;
    e = segment_footer_decode(op, held_range(s, end, SEGMENT_FOOTER_SIZE), s->size,
                              &footer);
    if (!e && whole)
        e = segment_header_check(op, held_range(s, 0, SEGMENT_HEADER_SIZE));
    if (e) return e;

    uint64_t directory = footer.directory_offset;
    e = segment_directory_decode(op, held_range(s, directory, end - directory), &footer,
                                 &s->layout);
    if (!e) e = check_held(op, s);
    if (!e) e = ids_open(op, s);
    if (!e) e = presence_open(op, s);
    if (!e) vectors_open(s);
    if (!e) e = blocks_open(op, s);
    if (!e) e = vector_index_open(op, s);
    if (!e && whole) e = check_held_documents(op, s);
    if (!e && whole) e = check_held_records(op, s);
    if (!e) e = whole ? indexes_open(op, s) : terms_open_heads(op, s);
    return e;
}

static struct segment *segment_new(const char *key, uint64_t size)
{
    struct segment *s = mem_new(struct segment);
    atomic_init(&s->refs, 1);
    s->key = mem_strdup(key);
    s->size = size;
    return s;
}

struct segment_end segment_end_of(const struct segment_object *object,
                                  uint64_t tail_size)
{
    /* Ids of 8 bytes, some bits beside; a byte a coordinate of each centroid. */
    uint64_t rows = object->rows;
    uint64_t guess =
        rows * ROW_END_SIZE + rows * object->vector_dim / ROWS_PER_CENTROID;
    struct segment_end end = {.tail = {.key = object->key},
                              .body = {.key = object->key}};

    /* One range, and so one request, where a manifest says how long the end is. */
    if (object->end_size > tail_size) tail_size = object->end_size;
    if (tail_size > END_SIZE_MAX) tail_size = END_SIZE_MAX;
    if (tail_size > object->size) tail_size = object->size;
    end.tail.offset = object->size - tail_size;
    end.tail.size = (size_t)tail_size;
    uint64_t wanted = !object->end_size && guess > tail_size ? guess : 0;
    if (wanted > END_SIZE_MAX) wanted = END_SIZE_MAX;
    if (wanted == 0) return end;
    end.body.size = (size_t)(wanted < end.tail.offset ? wanted : end.tail.offset);
    end.body.offset = end.tail.offset - end.body.size;
    return end;
}

/* Appends what a range has from held_offset on. */
static void hold(struct segment *s, const struct cache_pin *pin)
{
    uint64_t skip = s->held_offset > pin->offset ? s->held_offset - pin->offset : 0;
    if (skip < pin->data.size)
        buf_append(&s->held, pin->data.data + skip, pin->data.size - (size_t)skip);
}

void segment_tail_hash(struct slice object, uint8_t hash[16])
{
    size_t size = object.size < SEGMENT_TAIL_SIZE ? object.size : SEGMENT_TAIL_SIZE;
    xxh3_128(object.data + object.size - size, size, hash);
}

/* Is it the segment that the manifest means? end: its last bytes, SEGMENT_TAIL_SIZE of
 * them or all. */
static enum err check_tail(struct op *op, const struct segment_object *object,
                           struct slice end)
{
    uint8_t hash[16];
    if (!object->tail_hash) return ERR_OK;
    segment_tail_hash(end, hash);
    if (memcmp(hash, object->tail_hash, sizeof hash) == 0) return ERR_OK;
    return op_fail(op, ERR_CORRUPT, "it is not the segment its manifest names");
}

/* Reads the end of the object: a guess, and in a second round what the footer says it
 * missed. */
static enum err read_end(struct op *op, struct cache *cache, struct segment *s,
                         const struct segment_object *object,
                         const struct segment_end *end)
{
    struct cache_pin first[2] = {end->tail, end->body}, rest = {.key = s->key};
    const struct cache_pin *tail = &first[0];
    size_t count = end->body.size ? 2 : 1;
    struct segment_footer footer = {0};
    struct slice last;
    enum err e;

    e = cache_pin(op, cache, first, count);
    if (e) goto done;
    last = slice_of(tail->data.data + tail->size - SEGMENT_FOOTER_SIZE,
                    SEGMENT_FOOTER_SIZE);
    e = check_tail(op, object, tail->data);
    if (!e) e = segment_footer_decode(op, last, s->size, &footer);
    if (e) goto done;

    s->held_offset = tail->offset == 0 ? 0 : footer.resident_offset;
    if (s->held_offset < segment_end_offset(end)) {
        rest.offset = s->held_offset;
        rest.size = (size_t)(segment_end_offset(end) - s->held_offset);
        e = cache_pin(op, cache, &rest, 1);
        if (e) goto done;
    }
    buf_reserve(&s->held, (size_t)(s->size - s->held_offset));
    hold(s, &rest);
    hold(s, &first[1]);
    hold(s, tail);
done:
    cache_unpin(cache, first, count);
    cache_unpin(cache, &rest, 1);
    return e;
}

/* What was read to open it is damaged: whoever tries again reads the object again. */
static void forget_end(struct cache *cache, const struct segment *s,
                       const struct segment_end *end)
{
    uint64_t read = segment_end_offset(end);
    cache_forget(cache, s->key, end->tail.offset, end->tail.size);
    if (end->body.size) cache_forget(cache, s->key, end->body.offset, end->body.size);
    if (s->held_offset < read)
        cache_forget(cache, s->key, s->held_offset, (size_t)(read - s->held_offset));
}

/* What is held counts in the cache's budget for as long as the segment lives. */
static enum err reserve_held(struct op *op, struct cache *cache, struct segment *s)
{
    uint64_t bytes = segment_memory(s);
    if (!cache_reserve(cache, bytes))
        return op_fail(op, ERR_BUSY,
                       "the memory budget has no room for the %llu bytes "
                       "that stay in memory",
                       (unsigned long long)bytes);
    s->budget = cache;
    s->reserved = bytes;
    return ERR_OK;
}

static enum err open_object(struct op *op, struct cache *cache,
                            const struct segment_object *object, uint64_t tail_size,
                            struct segment **out)
{
    struct segment *s = segment_new(object->key, object->size);
    struct segment_end end = segment_end_of(object, tail_size);
    enum err e = ERR_OK;

    *out = NULL;
    assert(tail_size >= SEGMENT_FOOTER_SIZE);
    if (s->size < SEGMENT_HEADER_SIZE + SEGMENT_FOOTER_SIZE)
        e = op_fail(op, ERR_CORRUPT, "too short for a segment");
    if (!e) e = read_end(op, cache, s, object, &end);
    if (!e) e = open_held(op, s);
    if (!e) e = reserve_held(op, cache, s);
    if (e) {
        if (e == ERR_CORRUPT) forget_end(cache, s, &end);
        segment_unref(s);
        return op_fail(op, e, "open segment %s", object->key);
    }
    if (s->held_offset > 0) s->cache = cache;
    *out = s;
    return ERR_OK;
}

enum err segment_open_tail(struct op *op, struct cache *cache, const char *key,
                           uint64_t size, uint64_t tail_size, struct segment **out)
{
    struct segment_object object = {.key = key, .size = size};
    return open_object(op, cache, &object, tail_size, out);
}

/* Asking the footer for sizes first would cost a round, which is dearer than bytes:
 * read an end that holds all of a small segment, and the directory of nearly any. */
enum err segment_open(struct op *op, struct cache *cache, const char *key,
                      uint64_t size, struct segment **out)
{
    return segment_open_tail(op, cache, key, size, SEGMENT_OPEN_TAIL, out);
}

enum err segment_open_object(struct op *op, struct cache *cache,
                             const struct segment_object *object, struct segment **out)
{
    return open_object(op, cache, object, SEGMENT_OPEN_TAIL, out);
}

enum err segment_open_memory(struct op *op, struct buf *bytes, struct segment **out)
{
    struct segment *s = segment_new("memory", bytes->size);

    *out = NULL;
    s->held = *bytes;
    *bytes = BUF_INIT;
    if (s->held.capacity > s->held.size) {
        s->held.data = mem_realloc(s->held.data, s->held.size);
        s->held.capacity = s->held.size;
    }
    enum err e = open_held(op, s);
    if (e) {
        segment_unref(s);
        return op_fail(op, e, "open segment in memory");
    }
    *out = s;
    return ERR_OK;
}

struct segment *segment_ref(struct segment *s)
{
    (void)atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void segment_unref(struct segment *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1) return;
    if (s->budget) cache_unreserve(s->budget, s->reserved);
    for (uint32_t i = 0; s->columns && i < s->layout.attr_count; i++)
        column_close(s->columns[i]);
    for (uint32_t i = 0; s->texts && i < s->layout.attr_count; i++)
        text_index_close(s->texts[i]);
    terms_close_heads(s);
    mem_free(s->columns);
    mem_free(s->texts);
    mem_free(s->blocks);
    mem_free(s->ranks);
    rowset_unref(s->present);
    ivf_close(s->ivf);
    segment_layout_release(&s->layout);
    segment_stats_unref(s->stats);
    buf_release(&s->held);
    buf_release(&s->unpacked_ids);
    mem_free(s->key);
    mem_free(s);
}

/* ---- asking ---- */

uint32_t segment_row_count(const struct segment *s)
{
    return s->layout.row_count;
}

uint64_t segment_size(const struct segment *s)
{
    return s->size;
}

uint64_t segment_end_size(const struct segment *s)
{
    return s->size - s->layout.resident_offset;
}

uint64_t segment_memory(const struct segment *s)
{
    const struct segment_layout *l = &s->layout;
    uint64_t words = s->presence ? ((uint64_t)l->row_count + 63) / 64 : 0;
    return sizeof *s + s->held.capacity + s->unpacked_ids.capacity +
           l->section_count * sizeof *l->sections +
           l->attr_count * (sizeof *l->attrs + 2 * sizeof(void *)) +
           s->block_count * sizeof *s->blocks +
           words * (sizeof *s->ranks + sizeof *s->presence) +
           (s->ivf ? ivf_memory(s->ivf) : 0);
}

const char *segment_key(const struct segment *s)
{
    return s->key;
}

uint32_t segment_vector_count(const struct segment *s)
{
    return s->layout.vector_count;
}

bool segment_is_far(const struct segment *s)
{
    return s->cache && cache_is_far(s->cache);
}

bool segment_indexed(const struct segment *s)
{
    return s->ivf != NULL;
}

/* ---- ids ---- */

static struct slice string_id(const struct segment *s, uint32_t row)
{
    uint32_t start = row ? s->id_ends[row - 1] : 0;
    return slice_of(s->id_bytes + start, s->id_ends[row] - start);
}

struct doc_id segment_id(const struct segment *s, uint32_t row)
{
    assert(row < s->layout.row_count);
    if (s->ids) return (struct doc_id){.kind = ID_U64, .u64 = s->ids[row]};
    return (struct doc_id){.kind = ID_STRING, .string = string_id(s, row)};
}

/* The first row whose id is not below; without branches, so that the steps of
 * neighbouring look-ups overlap. */
static uint32_t number_bound(const struct segment *s, uint64_t id)
{
    const uint64_t *base = s->ids;
    for (uint32_t count = s->layout.row_count; count > 1;) {
        uint32_t half = count / 2;
        base += base[half - 1] < id ? half : 0;
        count -= half;
    }
    return (uint32_t)(base - s->ids) + (*base < id);
}

static uint32_t string_bound(const struct segment *s, struct slice id)
{
    uint32_t low = 0, high = s->layout.row_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(string_id(s, middle), id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t find_one(const struct segment *s, const struct doc_id *id)
{
    uint32_t row_count = s->layout.row_count;
    if (id->kind != s->layout.id_kind) return UINT32_MAX;
    if (id->kind == ID_U64) {
        uint32_t row = number_bound(s, id->u64);
        return row < row_count && s->ids[row] == id->u64 ? row : UINT32_MAX;
    }
    uint32_t row = string_bound(s, id->string);
    return row < row_count && slice_equal(string_id(s, row), id->string) ? row
                                                                         : UINT32_MAX;
}

void segment_find(const struct segment *s, const struct doc_id *ids, size_t n,
                  uint32_t *rows)
{
    for (size_t i = 0; i < n; i++)
        rows[i] = find_one(s, &ids[i]);
}

/* ---- reading sections ---- */

struct cache_pin segment_range(const struct segment *s, uint64_t offset, uint64_t size)
{
    return (struct cache_pin){.key = s->key,
                              .offset = offset,
                              .size = (size_t)size,
                              .check = range_check,
                              .context = s};
}

struct cache_pin segment_section_range(const struct segment *s,
                                       const struct section *section)
{
    return segment_range(s, section->offset, section_end(section) - section->offset);
}

enum err segment_pin(struct op *op, const struct segment *s, struct cache_pin *pins,
                     size_t n)
{
    if (s->cache) return cache_pin(op, s->cache, pins, n);
    for (size_t i = 0; i < n; i++)
        pins[i].data = held_range(s, pins[i].offset, pins[i].size);
    return ERR_OK;
}

void segment_unpin(const struct segment *s, struct cache_pin *pins, size_t n)
{
    if (s->cache) cache_unpin(s->cache, pins, n);
}

enum err segment_fits(struct op *op, const struct segment *s,
                      const struct schema *schema)
{
    const struct segment_layout *l = &s->layout;
    bool fits = l->vector_dim == schema->vector_dim && l->metric == schema->metric &&
                l->attr_count <= schema->attr_count;
    for (uint32_t i = 0; fits && i < l->attr_count; i++)
        fits = l->attrs[i].type == schema->attrs[i].type &&
               l->attrs[i].array == schema->attrs[i].array &&
               l->attrs[i].full_text == schema->attrs[i].full_text;
    if (fits) return ERR_OK;
    return op_fail(op, ERR_CORRUPT, "written for another schema");
}

/* ---- vectors ---- */

bool segment_has_vector(const struct segment *s, uint32_t row)
{
    if (!s->presence) return s->layout.vector_count > 0;
    return s->presence[row / 64] >> row % 64 & 1;
}

uint32_t segment_slot(const struct segment *s, uint32_t row)
{
    if (!s->presence) return row;
    uint64_t below = s->presence[row / 64] & (((uint64_t)1 << row % 64) - 1);
    return s->ranks[row / 64] + (uint32_t)__builtin_popcountll(below);
}

uint32_t segment_slot_row(const struct segment *s, uint32_t slot)
{
    assert(slot < s->layout.vector_count);
    if (!s->presence) return slot;

    uint32_t low = 0, high = (s->layout.row_count - 1) / 64;
    while (low < high) { /* the last word with at most slot vectors before it */
        uint32_t middle = low + (high - low + 1) / 2;
        if (s->ranks[middle] <= slot)
            low = middle;
        else
            high = middle - 1;
    }
    uint64_t bits = s->presence[low];
    for (uint32_t left = slot - s->ranks[low]; left > 0; left--)
        bits &= bits - 1;
    return low * 64 + (uint32_t)__builtin_ctzll(bits);
}

struct cache_pin segment_unit_range(const struct segment *s, uint32_t unit)
{
    uint64_t size = (uint64_t)s->unit_slots * s->layout.vector_dim * sizeof(float);
    uint64_t offset = s->vectors->offset + unit * size;
    uint64_t left = section_end(s->vectors) - offset;
    return segment_range(s, offset, left < size ? left : size);
}

struct cache_pin segment_vector_range(const struct segment *s, uint32_t slot)
{
    uint64_t block = slot / block_slots(s);
    uint64_t offset = s->vectors->offset + block * s->vectors->block_size;
    uint64_t left = section_end(s->vectors) - offset;
    uint32_t size = s->vectors->block_size;
    return segment_range(s, offset, left < size ? left : size);
}

const float *segment_range_vector(const struct segment *s, struct slice data,
                                  uint32_t slot)
{
    size_t size = s->layout.vector_dim * sizeof(float);
    size_t offset = slot % block_slots(s) * size;
    assert(offset + size <= data.size);
    return (const void *)(data.data + offset);
}

const float *segment_unit_vector(const struct segment *s, struct slice data,
                                 uint32_t slot)
{
    size_t index = slot % s->unit_slots;
    size_t size = s->layout.vector_dim * sizeof(float);
    assert((index + 1) * size <= data.size);
    return (const void *)(data.data + index * size);
}

/* ---- documents ---- */

uint32_t segment_block_of(const struct segment *s, uint32_t row)
{
    uint32_t low = 0, high = s->block_count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (s->blocks[middle].first_row <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

struct cache_pin segment_block_range(const struct segment *s, uint32_t block)
{
    uint64_t offset = s->documents->offset + s->blocks[block].offset;
    bool last = block + 1 == s->block_count;
    return segment_range(s, offset,
                         last ? section_end(s->documents) - offset
                              : s->blocks[block].stored_size);
}

static enum err cursor_load(struct op *op, struct record_cursor *c,
                            const struct segment *s, uint32_t block,
                            struct slice stored)
{
    const struct document_block *b = &s->blocks[block];
    struct slice records = slice_of(stored.data, b->stored_size);

    assert(stored.size >= b->stored_size);
    if (b->stored_size < b->raw_size) {
        buf_clear(&c->expanded);
        enum err e = zstd_expand(op, records, b->raw_size, &c->expanded);
        if (e) return op_fail(op, e, "block %u of documents", block);
        records = buf_slice(&c->expanded);
    }
    c->records = reader_of(records);
    c->block = block;
    c->next_row = b->first_row;
    c->loaded = true;
    return ERR_OK;
}

enum err record_cursor_get(struct op *op, struct record_cursor *c,
                           const struct segment *s, uint32_t row, struct slice stored,
                           struct slice *record)
{
    uint32_t block = segment_block_of(s, row);
    if (!c->loaded || c->block != block || row < c->next_row) {
        c->loaded = false;
        enum err e = cursor_load(op, c, s, block, stored);
        if (e) return e;
    }
    for (; c->next_row <= row; c->next_row++)
        *record = get_sized(&c->records);
    if (!c->records.failed) return ERR_OK;
    c->loaded = false;
    return op_fail(op, ERR_CORRUPT, "block %u of documents has no row %u", block, row);
}

void record_cursor_release(struct record_cursor *c)
{
    buf_release(&c->expanded);
    *c = (struct record_cursor){0};
}
