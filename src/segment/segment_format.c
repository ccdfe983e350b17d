#include "segment/segment_format.h"

#include <assert.h>
#include <string.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"

static const char header_magic[8] = "elacsegm", footer_magic[8] = "elacsend";

enum {
    FLAG_ARRAY = 1,
    FLAG_FULL_TEXT = 2,
    FOOTER_CHECKED = 52,
    DOCUMENT_BLOCK_ENTRY = 16
};

const char *section_kind_name(enum section_kind kind)
{
    static const char *const names[] = {
        [SECTION_VECTORS] = "vectors",
        [SECTION_DOCUMENTS] = "documents",
        [SECTION_COLUMN] = "column",
        [SECTION_TEXT] = "text",
        [SECTION_NORMS] = "norms",
        [SECTION_PRESENCE] = "presence",
        [SECTION_DOCUMENT_INDEX] = "document index",
        [SECTION_IDS] = "ids",
        [SECTION_INDEX] = "vector index",
        [SECTION_SLOTS] = "slots",
        [SECTION_RECORDS] = "records",
        [SECTION_POSITIONS] = "positions",
        [SECTION_PACKED_IDS] = "packed ids",
        [SECTION_TERMS] = "terms",
    };
    assert(kind >= SECTION_VECTORS && kind < SECTION_KINDS);
    return names[kind];
}

/* Kinds in the order in which their sections lie. */
static const uint8_t kind_places[SECTION_KINDS] = {
    [SECTION_VECTORS] = 1,   [SECTION_DOCUMENTS] = 2,
    [SECTION_COLUMN] = 3,    [SECTION_TEXT] = 4,
    [SECTION_POSITIONS] = 5, [SECTION_NORMS] = 6,
    [SECTION_SLOTS] = 7,     [SECTION_RECORDS] = 8,
    [SECTION_PRESENCE] = 9,  [SECTION_DOCUMENT_INDEX] = 10,
    [SECTION_IDS] = 11,      [SECTION_PACKED_IDS] = 12,
    [SECTION_INDEX] = 13,    [SECTION_TERMS] = 14,
};

static uint64_t order_of(enum section_kind kind, uint32_t field)
{
    return (uint64_t)kind_places[kind] << 32 | field;
}

static bool of_attribute(enum section_kind kind)
{
    return kind == SECTION_COLUMN || kind == SECTION_TEXT ||
           kind == SECTION_POSITIONS || kind == SECTION_TERMS;
}

const struct section *layout_section(const struct segment_layout *l,
                                     enum section_kind kind, uint32_t field)
{
    size_t low = 0, high = l->section_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct section *s = &l->sections[middle];
        if (order_of(s->kind, s->field) < order_of(kind, field))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == l->section_count) return NULL;
    const struct section *s = &l->sections[low];
    return s->kind == kind && s->field == field ? s : NULL;
}

const struct section *layout_section_at(const struct segment_layout *l, uint64_t offset)
{
    size_t low = 0, high = l->section_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (section_end(&l->sections[middle]) <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == l->section_count || l->sections[low].offset > offset) return NULL;
    return &l->sections[low];
}

uint32_t vector_block_size(uint32_t dim)
{
    uint32_t size = dim * (uint32_t)sizeof(float);
    return size >= VECTOR_BLOCK_SIZE ? size : VECTOR_BLOCK_SIZE / size * size;
}

/* ---- header and footer ---- */

void segment_header_encode(struct buf *out)
{
    buf_append(out, header_magic, sizeof header_magic);
    put_u32(out, SEGMENT_VERSION);
    buf_append_zeros(out, SEGMENT_HEADER_SIZE - sizeof header_magic - sizeof(uint32_t));
}

enum err segment_header_check(struct op *op, struct slice header)
{
    struct buf wanted = BUF_INIT;
    segment_header_encode(&wanted);
    bool same = slice_equal(header, buf_slice(&wanted));
    buf_release(&wanted);
    return same ? ERR_OK : op_fail(op, ERR_CORRUPT, "damaged header");
}

static void footer_encode(const struct segment_footer *f, uint64_t size,
                          struct buf *out)
{
    size_t start = out->size;
    put_u64(out, f->resident_offset);
    put_u64(out, f->directory_offset);
    put_u64(out, size);
    buf_append(out, f->digest, sizeof f->digest);
    put_u32(out, SEGMENT_VERSION);
    put_u64(out, 0);
    assert(out->size - start == FOOTER_CHECKED);
    put_u32(out, crc32c(0, out->data + start, FOOTER_CHECKED));
    buf_append(out, footer_magic, sizeof footer_magic);
}

enum err segment_footer_decode(struct op *op, struct slice tail, uint64_t size,
                               struct segment_footer *out)
{
    struct reader r = reader_of(tail);
    struct segment_footer f = {0};

    if (tail.size != SEGMENT_FOOTER_SIZE || size < SEGMENT_HEADER_SIZE + tail.size)
        return op_fail(op, ERR_CORRUPT, "too short for a segment");
    f.resident_offset = get_u64(&r);
    f.directory_offset = get_u64(&r);
    uint64_t object_size = get_u64(&r);
    memcpy(f.digest, get_bytes(&r, sizeof f.digest).data, sizeof f.digest);
    uint32_t version = get_u32(&r);
    uint64_t zero = get_u64(&r);
    uint32_t check = get_u32(&r);

    if (!slice_equal(get_bytes(&r, sizeof footer_magic),
                     slice_of(footer_magic, sizeof footer_magic)) ||
        check != crc32c(0, tail.data, FOOTER_CHECKED))
        return op_fail(op, ERR_CORRUPT, "damaged footer");
    if (version != SEGMENT_VERSION)
        return op_fail(op, ERR_CORRUPT, "segment version %u, this program reads %d",
                       version, SEGMENT_VERSION);
    if (zero != 0 || object_size != size || f.resident_offset < SEGMENT_HEADER_SIZE ||
        f.resident_offset % SECTION_ALIGNMENT != 0 ||
        f.resident_offset > f.directory_offset ||
        f.directory_offset > size - SEGMENT_FOOTER_SIZE)
        return op_fail(op, ERR_CORRUPT, "footer does not fit an object of %llu bytes",
                       (unsigned long long)size);
    *out = f;
    return ERR_OK;
}

/* ---- checks ---- */

uint64_t section_block_count(const struct section *s)
{
    if (s->block_size == 0) return 0;
    return (section_end(s) - s->offset + s->block_size - 1) / s->block_size;
}

void section_seal(struct op *op, struct section *s, size_t start, struct buf *out,
                  struct buf *checks)
{
    assert(s->size > 0 && out->size - start == s->offset + s->size);
    buf_append_zeros(out, (size_t)(section_end(s) - s->offset - s->size));
    uint64_t end = section_end(s) - s->offset;
    const uint8_t *data = out->data + start + s->offset;
    for (uint64_t at = 0; s->block_size && at < end; at += s->block_size) {
        uint64_t size = end - at < s->block_size ? end - at : s->block_size;
        op_rest(op);
        put_u32(checks, crc32c(0, data + at, (size_t)size));
    }
}

enum err section_check(struct op *op, const struct section *s, uint64_t offset,
                       struct slice data)
{
    uint64_t at = offset - s->offset, end = section_end(s) - s->offset;

    assert(s->block_size && offset >= s->offset && at % s->block_size == 0);
    assert(data.size <= end - at);
    for (size_t done = 0; done < data.size;
         at += s->block_size, done += s->block_size) {
        uint64_t size = end - at < s->block_size ? end - at : s->block_size;
        uint64_t block = at / s->block_size;
        assert(size <= data.size - done);
        if (crc32c(0, data.data + done, (size_t)size) !=
            load_u32(s->checks.data + block * sizeof(uint32_t)))
            return op_fail(op, ERR_CORRUPT, "checksum of block %llu of %s %u",
                           (unsigned long long)block, section_kind_name(s->kind),
                           s->field);
    }
    return ERR_OK;
}

/* ---- directory ---- */

void segment_directory_encode(const struct segment_layout *l, size_t start,
                              struct buf *out)
{
    struct segment_footer footer = {.resident_offset = l->resident_offset,
                                    .directory_offset = out->size - start};
    size_t directory = out->size;

    put_u32(out, l->row_count);
    put_u32(out, l->vector_count);
    put_u32(out, l->vector_dim);
    put_u8(out, (uint8_t)l->metric);
    put_u8(out, (uint8_t)l->id_kind);
    put_u16(out, (uint16_t)l->attr_count);
    for (uint32_t i = 0; i < l->attr_count; i++) {
        const struct segment_attr *a = &l->attrs[i];
        put_u8(out, (uint8_t)a->type);
        put_u8(out, (uint8_t)((a->array ? FLAG_ARRAY : 0) |
                              (a->full_text ? FLAG_FULL_TEXT : 0)));
        put_u32(out, a->value_count);
    }
    put_u32(out, l->section_count);
    for (uint32_t i = 0; i < l->section_count; i++) {
        const struct section *s = &l->sections[i];
        put_u16(out, (uint16_t)s->kind);
        put_u16(out, (uint16_t)s->field);
        put_u32(out, s->block_size);
        put_u64(out, s->offset);
        put_u64(out, s->size);
        buf_append_slice(out, s->checks);
    }
    xxh3_128(out->data + directory, out->size - directory, footer.digest);
    footer_encode(&footer, out->size - start + SEGMENT_FOOTER_SIZE, out);
}

/* True when the counts call for the section, or allow it. */
static bool section_wanted(const struct segment_layout *l, enum section_kind kind,
                           uint32_t field)
{
    if (of_attribute(kind) ? field >= l->attr_count : field != 0) return false;
    switch (kind) {
    case SECTION_VECTORS: return l->vector_count > 0;
    case SECTION_DOCUMENTS:
    case SECTION_DOCUMENT_INDEX: return l->any_value;
    case SECTION_COLUMN: return l->attrs[field].value_count > 0;
    case SECTION_TEXT:
    case SECTION_POSITIONS:
    case SECTION_TERMS:
        return l->attrs[field].value_count > 0 && l->attrs[field].full_text;
    case SECTION_NORMS: return l->vector_count > 0 && l->metric == METRIC_COSINE;
    case SECTION_PRESENCE: return l->vector_count > 0 && l->vector_count < l->row_count;
    case SECTION_IDS:
    case SECTION_PACKED_IDS: return true;
    case SECTION_INDEX:
    case SECTION_SLOTS:
    case SECTION_RECORDS: return l->indexed;
    default: return false;
    }
}

/* How many sections of the kinds from first to last the counts call for. */
static uint32_t sections_wanted(const struct segment_layout *l, enum section_kind first,
                                enum section_kind last)
{
    uint32_t count = 0;
    for (enum section_kind kind = first; kind <= last; kind++) {
        uint32_t fields = of_attribute(kind) ? l->attr_count : 1;
        for (uint32_t field = 0; field < fields; field++)
            count += section_wanted(l, kind, field);
    }
    return count;
}

/* Does the section have the size that its content must have? */
static bool size_fits(const struct segment_layout *l, const struct section *s)
{
    switch (s->kind) {
    case SECTION_VECTORS:
        return s->size == (uint64_t)l->vector_count * l->vector_dim * sizeof(float);
    case SECTION_NORMS: return s->size == (uint64_t)l->vector_count * sizeof(float);
    case SECTION_PRESENCE:
        return s->size == ((uint64_t)l->row_count + 63) / 64 * sizeof(uint64_t);
    case SECTION_SLOTS: return s->size == (uint64_t)l->row_count * sizeof(uint32_t);
    case SECTION_DOCUMENT_INDEX:
        return s->size > 0 && s->size % DOCUMENT_BLOCK_ENTRY == 0;
    case SECTION_IDS:
        if (l->id_kind == ID_U64)
            return s->size == (uint64_t)l->row_count * sizeof(uint64_t);
        return s->size > (uint64_t)l->row_count * sizeof(uint32_t);
    default: return s->size > 0;
    }
}

static bool block_size_fits(const struct segment_layout *l, const struct section *s)
{
    if (s->kind == SECTION_DOCUMENTS || s->kind == SECTION_RECORDS)
        return s->block_size == 0;
    if (s->block_size == 0 || s->block_size > CHECK_BLOCK_MAX) return false;
    return s->kind != SECTION_VECTORS ||
           s->block_size % (l->vector_dim * sizeof(float)) == 0;
}

/* offset is where the section must start, end where the directory does. */
static void section_decode(struct reader *r, const struct segment_layout *l,
                           uint64_t offset, uint64_t end, struct section *s)
{
    uint16_t kind = get_u16(r);
    s->kind = (enum section_kind)kind;
    s->field = get_u16(r);
    s->block_size = get_u32(r);
    s->offset = get_u64(r);
    s->size = get_u64(r);
    r->failed = r->failed || kind < SECTION_VECTORS || kind >= SECTION_KINDS ||
                !section_wanted(l, s->kind, s->field) || s->offset != offset ||
                s->size > end || section_end(s) > end || !size_fits(l, s) ||
                !block_size_fits(l, s);
    if (r->failed) return;
    uint64_t blocks = section_block_count(s);
    if (blocks > reader_left(r) / sizeof(uint32_t))
        r->failed = true;
    else
        s->checks = get_bytes(r, (size_t)blocks * sizeof(uint32_t));
}

static void counts_decode(struct reader *r, struct segment_layout *l)
{
    l->row_count = get_u32(r);
    l->vector_count = get_u32(r);
    l->vector_dim = get_u32(r);
    uint8_t metric = get_u8(r), id_kind = get_u8(r);
    l->metric = (enum metric_kind)metric;
    l->id_kind = (enum id_kind)id_kind;
    l->attr_count = get_u16(r);
    r->failed = r->failed || l->row_count == 0 || l->row_count > SEGMENT_ROWS_MAX ||
                l->vector_count > l->row_count || l->vector_dim > VECTOR_DIM_MAX ||
                (l->vector_dim == 0 && l->vector_count > 0) || metric < METRIC_COSINE ||
                metric > METRIC_DOT || id_kind < ID_U64 || id_kind > ID_STRING ||
                l->attr_count > SCHEMA_ATTRS_MAX;
}

static void attr_decode(struct reader *r, uint32_t row_count, struct segment_attr *a)
{
    uint8_t type = get_u8(r), flags = get_u8(r);
    a->type = (enum attr_type)type;
    a->array = flags & FLAG_ARRAY;
    a->full_text = flags & FLAG_FULL_TEXT;
    a->value_count = get_u32(r);
    r->failed = r->failed || type < ATTR_STRING || type > ATTR_UUID ||
                flags > (FLAG_ARRAY | FLAG_FULL_TEXT) ||
                (a->full_text && type != ATTR_STRING) || a->value_count > row_count;
}

static void attrs_decode(struct reader *r, struct segment_layout *l,
                         struct segment_attr *attrs)
{
    for (uint32_t i = 0; i < l->attr_count && !r->failed; i++) {
        attr_decode(r, l->row_count, &attrs[i]);
        if (attrs[i].value_count > 0) l->any_value = true;
    }
}

static void sections_decode(struct reader *r, uint64_t end, struct segment_layout *l)
{
    uint64_t offset = SEGMENT_HEADER_SIZE, previous = 0;
    uint32_t optional = 0, index = 0, ids = 0;
    for (uint32_t i = 0; i < l->section_count && !r->failed; i++) {
        struct section *s = &l->sections[i];
        section_decode(r, l, offset, end, s);
        if (r->failed) return;
        r->failed = order_of(s->kind, s->field) <= previous ||
                    section_is_resident(s->kind) != (s->offset >= l->resident_offset);
        previous = order_of(s->kind, s->field);
        offset = section_end(s);
        optional += s->kind == SECTION_POSITIONS || s->kind == SECTION_TERMS;
        index += s->kind >= SECTION_INDEX && s->kind <= SECTION_RECORDS;
        ids += s->kind == SECTION_IDS || s->kind == SECTION_PACKED_IDS;
    }
    uint32_t required = sections_wanted(l, SECTION_VECTORS, SECTION_IDS);
    l->indexed = index == INDEX_SECTIONS;
    r->failed = r->failed || offset != end || (index > 0 && !l->indexed) || ids != 1 ||
                l->section_count - optional - index != required;
}

enum err segment_directory_decode(struct op *op, struct slice directory,
                                  const struct segment_footer *footer,
                                  struct segment_layout *out)
{
    struct segment_layout l = {.resident_offset = footer->resident_offset};
    struct segment_attr attrs[SCHEMA_ATTRS_MAX];
    struct reader r = reader_of(directory);
    uint8_t digest[16];

    xxh3_128(directory.data, directory.size, digest);
    if (memcmp(digest, footer->digest, sizeof digest) != 0)
        return op_fail(op, ERR_CORRUPT, "checksum of the directory");

    counts_decode(&r, &l);
    if (!r.failed) attrs_decode(&r, &l, attrs);
    l.attrs = attrs;
    l.section_count = get_u32(&r);
    l.indexed = l.vector_count > 0; /* it may be; the sections will tell */
    if (r.failed ||
        l.section_count > sections_wanted(&l, SECTION_VECTORS, SECTION_TERMS))
        return op_fail(op, ERR_CORRUPT, "damaged directory");

    l.sections = mem_calloc(1, l.section_count * sizeof *l.sections +
                                   l.attr_count * sizeof *l.attrs);
    l.attrs = (void *)(l.sections + l.section_count);
    memcpy(l.attrs, attrs, l.attr_count * sizeof *attrs);
    sections_decode(&r, footer->directory_offset, &l);
    if (!reader_done(&r)) {
        segment_layout_release(&l);
        return op_fail(op, ERR_CORRUPT, "damaged directory");
    }
    *out = l;
    return ERR_OK;
}

void segment_layout_release(struct segment_layout *l)
{
    mem_free(l->sections);
    *l = (struct segment_layout){0};
}

/* ---- the blocks of documents ---- */

void document_block_encode(const struct document_block *b, struct buf *index)
{
    put_u32(index, b->first_row);
    put_u32(index, b->raw_size);
    put_u32(index, b->stored_size);
    put_u32(index, b->check);
}

enum err document_index_decode(struct op *op, struct slice index,
                               const struct section *documents, uint32_t row_count,
                               struct buf *blocks)
{
    struct reader r = reader_of(index);
    struct document_block b = {0};

    for (uint64_t i = 0; reader_left(&r) > 0; i++) {
        uint32_t previous = b.first_row;
        b.offset += b.stored_size;
        b.first_row = get_u32(&r);
        b.raw_size = get_u32(&r);
        b.stored_size = get_u32(&r);
        b.check = get_u32(&r);
        bool in_order = i == 0 ? b.first_row == 0 : b.first_row > previous;
        r.failed = r.failed || !in_order || b.first_row >= row_count ||
                   b.stored_size == 0 || b.stored_size > b.raw_size ||
                   b.raw_size > DOCUMENT_BLOCK_MAX ||
                   b.stored_size > documents->size - b.offset;
        if (!r.failed) buf_append(blocks, &b, sizeof b);
    }
    if (!reader_done(&r) || b.offset + b.stored_size != documents->size)
        return op_fail(op, ERR_CORRUPT, "damaged document index");
    return ERR_OK;
}

/* ---- records ---- */

void record_encode(const struct schema *schema, const struct value *values,
                   struct buf *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < schema->attr_count; i++)
        count += !values[i].null;
    put_varint(out, count);
    for (uint32_t i = 0; i < schema->attr_count; i++) {
        if (values[i].null) continue;
        put_varint(out, i);
        value_encode(schema->attrs[i].type, schema->attrs[i].array, &values[i], out);
    }
}

enum err record_decode(struct op *op, const struct segment_layout *l,
                       struct slice record, struct value *values, uint32_t attr_count)
{
    struct reader r = reader_of(record);
    uint64_t count = get_varint_max(&r, l->attr_count), next = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t attr = get_varint(&r);
        if (r.failed || attr < next || attr >= l->attr_count)
            return op_fail(op, ERR_CORRUPT, "damaged record");
        next = attr + 1;

        struct value v;
        const struct segment_attr *a = &l->attrs[attr];
        enum err e = value_decode(op, a->type, a->array, &r, &v);
        if (e) return e;
        if (v.null) return op_fail(op, ERR_CORRUPT, "damaged record");
        if (attr < attr_count) values[attr] = v;
    }
    return reader_done(&r) ? ERR_OK : op_fail(op, ERR_CORRUPT, "damaged record");
}
