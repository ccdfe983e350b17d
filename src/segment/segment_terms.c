#include "segment/segment_terms.h"

#include <assert.h>

#include "base/mem.h"
#include "base/op.h"
#include "cache/gather.h"
#include "segment/segment_parts.h"
#include "text/text_index.h"

static const struct section *text_section(const struct segment *s, uint32_t attr)
{
    return layout_section(&s->layout, SECTION_TEXT, attr);
}

/* ---- heads ---- */

static enum err head_open(struct op *op, struct segment *s, const struct section *terms)
{
    const struct section *text = text_section(s, terms->field);
    assert(text); /* the counts that call for one call for the other */
    struct slice bytes =
        slice_of(s->held.data + (terms->offset - s->held_offset), (size_t)terms->size);
    enum err e = text_index_open_head(op, bytes, s->layout.row_count, text->size,
                                      &s->heads[terms->field].index);
    return e ? op_fail(op, e, "head of text %u", terms->field) : ERR_OK;
}

enum err terms_open_heads(struct op *op, struct segment *s)
{
    const struct segment_layout *l = &s->layout;
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < l->section_count && !e; i++) {
        if (l->sections[i].kind != SECTION_TERMS) continue;
        if (!s->heads) s->heads = mem_new_array(struct segment_head, l->attr_count);
        e = head_open(op, s, &l->sections[i]);
    }
    return e;
}

void terms_close_heads(struct segment *s)
{
    for (uint32_t i = 0; s->heads && i < s->layout.attr_count; i++)
        text_index_close(s->heads[i].index);
    mem_free(s->heads);
}

/* ---- ranges ---- */

bool terms_by_ranges(const struct segment *s, const struct segment_text *text)
{
    if (!text->terms || !s->cache || !cache_is_far(s->cache) || !s->heads) return false;
    if ((uint32_t)text->attr >= s->layout.attr_count) return false;
    struct segment_head *head = &s->heads[text->attr];
    if (!head->index) return false;
    const struct section *section = text_section(s, (uint32_t)text->attr);
    struct cache_pin whole = segment_section_range(s, section);
    return atomic_load_explicit(&head->asked, memory_order_relaxed) < section->size &&
           !cache_has(s->cache, &whole);
}

/* The check blocks around a range of a section. */
static struct cache_pin blocks_around(const struct segment *s,
                                      const struct section *section, uint64_t offset,
                                      uint64_t size)
{
    uint64_t block = section->block_size, end = offset + size;
    uint64_t last = section_end(section) - section->offset;
    uint64_t first = offset / block * block;
    end = (end + block - 1) / block * block;
    if (end > last) end = last;
    return segment_range(s, section->offset + first, end - first);
}

static bool has_page(const struct text_chunk *chunks, size_t n, uint32_t page)
{
    for (size_t i = 0; i < n; i++)
        if (chunks[i].page == page) return true;
    return false;
}

size_t terms_plan(const struct segment *s, const struct segment_text *text,
                  struct cache_pin *pins, struct text_chunk *chunks)
{
    const struct section *section = text_section(s, (uint32_t)text->attr);
    const struct text_index *head = s->heads[text->attr].index;
    size_t n = 0;

    pins[0] = blocks_around(s, section, 0, text_index_lengths_end(head));
    for (size_t i = 0; i < text->term_count; i++) {
        struct text_chunk *chunk = &chunks[n];
        if (!text_index_chunk(head, text->terms[i], chunk) || chunk->size == 0 ||
            has_page(chunks, n, chunk->page))
            continue;
        pins[++n] = blocks_around(s, section, chunk->offset, chunk->size);
    }
    return n;
}

struct text_index *terms_open(const struct segment *s, int attr,
                              const struct cache_pin *pins, struct text_chunk *chunks,
                              size_t n)
{
    const struct section *section = text_section(s, (uint32_t)attr);
    struct segment_head *head = &s->heads[attr];
    uint64_t asked = pins[0].size + GATHER_GAP_MAX;

    for (size_t i = 0; i < n; i++) {
        const struct cache_pin *pin = &pins[i + 1];
        uint64_t skip = chunks[i].offset - (pin->offset - section->offset);
        assert(skip + chunks[i].size <= pin->data.size);
        chunks[i].bytes = slice_of(pin->data.data + skip, (size_t)chunks[i].size);
        asked += pin->size + GATHER_GAP_MAX;
    }
    (void)atomic_fetch_add_explicit(&head->asked, asked, memory_order_relaxed);
    return text_index_of_chunks(head->index, pins[0].data, chunks, n);
}
