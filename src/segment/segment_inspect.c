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
