/*
 * segment_offer.c - what queries looked at of old segments, of the new one in memory.
 *
 * Without it the first queries of a new segment would read it from the store, all that
 * they had in memory of the old ones: many MiB, and each of them late.
 */
#include "base/op.h"
#include "segment/segment_parts.h"

enum { BUDGET_PART = 2 }; /* of the cache, at most, for one segment */

/* What searches and filters read whole or in large parts. Vectors and documents are
 * read a few at a time. */
static bool is_searched(enum section_kind kind)
{
    return kind == SECTION_RECORDS || kind == SECTION_SLOTS || kind == SECTION_TEXT ||
           kind == SECTION_COLUMN;
}

/* A section is read by as many ranges. */
static uint32_t range_count(const struct segment *s, const struct section *section)
{
    return section->kind == SECTION_RECORDS ? ivf_clusters(s->ivf) : 1;
}

static struct cache_pin range_at(const struct segment *s, const struct section *section,
                                 uint32_t index)
{
    if (section->kind != SECTION_RECORDS) return segment_section_range(s, section);
    struct ivf_record record = ivf_record_of(s->ivf, index);
    return segment_range(s, section->offset + record.offset, record.size);
}

/* Is most of what the segment has of such a section in memory? */
static bool is_near(const struct segment *s, const struct section *wanted)
{
    if (!s->cache) return true;
    const struct section *section =
        layout_section(&s->layout, wanted->kind, wanted->field);
    if (!section) return false;
    uint32_t count = range_count(s, section), near = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct cache_pin pin = range_at(s, section, i);
        near += cache_has(s->cache, &pin);
    }
    return near > count / 2;
}

static bool was_near(const struct section *section, const struct segment_input *inputs,
                     size_t n)
{
    uint64_t rows = 0, near = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t count = segment_row_count(inputs[i].segment);
        rows += count;
        near += is_near(inputs[i].segment, section) ? count : 0;
    }
    return near > rows / 2;
}

void segment_offer(struct op *op, const struct segment *s, struct slice object,
                   const struct segment_input *inputs, size_t n)
{
    if (!s->cache) return;
    uint64_t left = cache_usage(s->cache).memory_max / BUDGET_PART;
    for (uint32_t i = 0; i < s->layout.section_count; i++) {
        const struct section *section = &s->layout.sections[i];
        if (!is_searched(section->kind) || section->size > left ||
            !was_near(section, inputs, n))
            continue;
        left -= section->size;
        for (uint32_t r = 0; r < range_count(s, section); r++) {
            struct cache_pin pin = range_at(s, section, r);
            op_rest(op);
            cache_put(s->cache, s->key, pin.offset,
                      slice_of(object.data + pin.offset, pin.size));
        }
    }
}
