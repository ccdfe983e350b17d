#include "segment/segment.h"

#include "base/op.h"
#include "segment/segment_parts.h"

/* A step of a walk over check blocks: much to read in one request, little to hold. */
enum { STEP_SIZE = 8 << 20 };

/* ---- every byte ---- */

static enum err read_range(struct op *op, struct segment *s, uint64_t offset,
                           uint64_t size)
{
    struct cache_pin pin = segment_range(s, offset, size);
    enum err e = segment_pin(op, s, &pin, 1);
    if (!e) segment_unpin(s, &pin, 1);
    return e;
}

static enum err verify_blocks(struct op *op, struct segment *s,
                              const struct section *section)
{
    uint64_t blocks = STEP_SIZE / section->block_size;
    uint64_t step = section->block_size * (blocks ? blocks : 1);
    uint64_t end = section_end(section);

    for (uint64_t at = section->offset; at < end; at += step) {
        enum err e = read_range(op, s, at, end - at < step ? end - at : step);
        if (!e) e = op_check(op);
        if (e) return e;
    }
    return ERR_OK;
}

static enum err verify_documents(struct op *op, struct segment *s)
{
    struct record_cursor cursor = {.loaded = false};
    enum err e = ERR_OK;

    for (uint32_t block = 0; block < s->block_count && !e; block++) {
        struct cache_pin pin = segment_block_range(s, block);
        struct slice record;
        e = segment_pin(op, s, &pin, 1);
        if (e) break;
        bool last = block + 1 == s->block_count;
        uint32_t end = last ? s->layout.row_count : s->blocks[block + 1].first_row;
        e = record_cursor_get(op, &cursor, s, end - 1, pin.data, &record);
        segment_unpin(s, &pin, 1);
        if (!e) e = op_check(op);
    }
    record_cursor_release(&cursor);
    return e;
}

static enum err verify_records(struct op *op, struct segment *s)
{
    uint32_t count = ivf_clusters(s->ivf);
    enum err e = ERR_OK;
    for (uint32_t cluster = 0; cluster < count && !e; cluster++) {
        struct ivf_record r = ivf_record_of(s->ivf, cluster);
        e = read_range(op, s, s->records->offset + r.offset, r.size);
        if (!e) e = op_check(op);
    }
    return e;
}

static enum err verify_header(struct op *op, struct segment *s)
{
    if (!s->cache) return ERR_OK; /* held whole: open compared it */
    struct cache_pin pin = {.key = s->key, .size = SEGMENT_HEADER_SIZE};
    enum err e = cache_pin(op, s->cache, &pin, 1);
    if (!e) e = segment_header_check(op, pin.data);
    cache_unpin(s->cache, &pin, 1);
    return e;
}

enum err segment_verify(struct op *op, struct segment *s)
{
    enum err e = verify_header(op, s);
    for (uint32_t i = 0; i < s->layout.section_count && !e; i++) {
        const struct section *section = &s->layout.sections[i];
        if (section->kind == SECTION_DOCUMENTS)
            e = verify_documents(op, s);
        else if (section->kind == SECTION_RECORDS)
            e = verify_records(op, s);
        else if (section->offset < s->held_offset)
            e = verify_blocks(op, s, section);
    }
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}

/* ---- what it says of its documents ---- */

/* How many documents there are that … */
struct counts {
    uint64_t vectors; /* … have a vector */
    uint64_t *values; /* … have the attribute */
};

static void count_document(struct counts *c, const struct schema *schema,
                           const struct doc *doc)
{
    c->vectors += doc->vector != NULL;
    for (uint32_t i = 0; i < schema->attr_count; i++)
        c->values[i] += !doc->values[i].null;
}

static enum err count_page(struct op *op, struct segment *s,
                           const struct schema *schema, uint32_t from, size_t n,
                           struct counts *c)
{
    const struct segment_fetch everything = {.vector = true, .attributes = true};
    uint32_t *rows = op_new_array(op, uint32_t, n);
    struct doc *docs = op_new_array(op, struct doc, n);
    if (!rows || !docs) return ERR_LIMIT;
    for (size_t i = 0; i < n; i++)
        rows[i] = from + (uint32_t)i;
    enum err e = segment_fetch(op, s, schema, rows, n, everything, docs);
    for (size_t i = 0; i < n && !e; i++)
        count_document(c, schema, &docs[i]);
    return e;
}

static enum err count_documents(struct op *op, struct segment *s,
                                const struct schema *schema, struct counts *c)
{
    enum { PAGE = 64 };
    uint32_t rows = s->layout.row_count;
    enum err e = ERR_OK;
    for (uint32_t from = 0; from < rows && !e; from += PAGE) {
        struct op step;
        op_init(&step, op->deadline_ms, 0);
        e = count_page(&step, s, schema, from, rows - from < PAGE ? rows - from : PAGE,
                       c);
        if (e) (void)op_fail(op, e, "%s", step.error);
        op_release(&step);
    }
    return e;
}

enum err segment_verify_counts(struct op *op, struct segment *s,
                               const struct schema *schema)
{
    const struct segment_layout *l = &s->layout;
    struct counts c = {.values = op_new_array(op, uint64_t, schema->attr_count + 1)};
    if (!c.values) return ERR_LIMIT;
    enum err e = count_documents(op, s, schema, &c);
    if (e) return e;
    if (c.vectors != l->vector_count)
        e = op_fail(op, ERR_CORRUPT, "it says %u vectors and has %llu", l->vector_count,
                    (unsigned long long)c.vectors);
    for (uint32_t i = 0; i < l->attr_count && i < schema->attr_count && !e; i++)
        if (c.values[i] != l->attrs[i].value_count)
            e = op_fail(op, ERR_CORRUPT, "it says %u values of \"%s\" and has %llu",
                        l->attrs[i].value_count, schema->attrs[i].name,
                        (unsigned long long)c.values[i]);
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}

/* ---- in words ---- */

void segment_describe(const struct segment *s, struct buf *out)
{
    const struct segment_layout *l = &s->layout;

    buf_printf(out, "rows          %u, ids are %s\n", l->row_count,
               l->id_kind == ID_U64 ? "numbers" : "strings");
    if (l->vector_count)
        buf_printf(out, "vectors       %u of %u numbers, %s\n", l->vector_count,
                   l->vector_dim, metric_kind_name(l->metric));
    if (s->ivf)
        buf_printf(out,
                   "vector index  %u clusters of at most %u; of them %u for recall "
                   "0.95\n",
                   ivf_clusters(s->ivf), ivf_largest_cluster(s->ivf),
                   ivf_probes(s->ivf, 0.95F, true));
    for (uint32_t i = 0; i < l->attr_count; i++)
        buf_printf(out, "attribute %-3u %s%s, %u values\n", i,
                   attr_type_name(l->attrs[i].type, l->attrs[i].array),
                   l->attrs[i].full_text ? ", full text" : "", l->attrs[i].value_count);
    for (uint32_t i = 0; i < l->section_count; i++) {
        const struct section *section = &l->sections[i];
        buf_printf(out, "section       %-14s %-4u %12llu bytes at %llu\n",
                   section_kind_name(section->kind), section->field,
                   (unsigned long long)section->size,
                   (unsigned long long)section->offset);
    }
}
