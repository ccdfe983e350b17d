#include "segment/segment_ahead.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "doc/filter.h"
#include "segment/segment_parts.h"
#include "segment/segment_terms.h"
#include "text/text_index.h"

struct segment_ahead {
    struct cache *cache; /* of the segments added; NULL: none yet */
    size_t waits;        /* calls that would each wait for a round */
    bool pinned;
    struct cache_pin *pins;
    size_t count, room;
    uint64_t bytes;
};

struct segment_ahead *segment_ahead_new(void)
{
    return mem_new(struct segment_ahead);
}

void segment_ahead_free(struct segment_ahead *a)
{
    if (!a) return;
    if (a->pinned) cache_unpin(a->cache, a->pins, a->count);
    mem_free(a->pins);
    mem_free(a);
}

static bool same_range(const struct cache_pin *x, const struct cache_pin *y)
{
    return x->key == y->key && x->offset == y->offset && x->size == y->size;
}

/* Repeats come one behind the other, if at all. */
static void add(struct segment_ahead *a, const struct segment *s, struct cache_pin pin)
{
    assert(!a->pinned && s->cache);
    if (a->count > 0 && same_range(&a->pins[a->count - 1], &pin)) return;
    if (a->count == AHEAD_PINS_MAX || pin.size > AHEAD_BYTES_MAX - a->bytes) return;
    if (a->count == a->room) {
        a->room = a->room ? 2 * a->room : 64;
        a->pins = mem_realloc(a->pins, a->room * sizeof *a->pins);
    }
    a->cache = s->cache;
    a->pins[a->count++] = pin;
    a->bytes += pin.size;
}

static void add_section(struct segment_ahead *a, const struct segment *s,
                        enum section_kind kind, int attr)
{
    if (!s->cache || attr < 0) return;
    const struct section *section = layout_section(&s->layout, kind, (uint32_t)attr);
    if (section) add(a, s, segment_section_range(s, section));
}

/* Behind what one call will read; there were count pins before. */
static void end_call(struct segment_ahead *a, size_t count)
{
    a->waits += a->count > count;
}

static void add_text(struct segment_ahead *a, const struct segment *s,
                     const struct segment_text *text)
{
    if (!terms_by_ranges(s, text)) {
        add_section(a, s, SECTION_TEXT, text->attr);
        return;
    }
    struct cache_pin *pins = mem_new_array(struct cache_pin, text->term_count + 1);
    struct text_chunk *chunks = mem_new_array(struct text_chunk, text->term_count);
    size_t count = terms_plan(s, text, pins, chunks);
    for (size_t i = 0; i <= count; i++)
        add(a, s, pins[i]);
    mem_free(pins);
    mem_free(chunks);
}

void segment_ahead_view(struct segment_ahead *a, const struct segment *s,
                        const struct segment_want *want)
{
    size_t before = a->count;
    for (size_t i = 0; i < want->text_count; i++)
        add_text(a, s, &want->texts[i]);
    for (size_t i = 0; i < want->text_count && want->positions; i++)
        add_section(a, s, SECTION_POSITIONS, want->texts[i].attr);
    for (size_t i = 0; i < want->column_count; i++)
        add_section(a, s, SECTION_COLUMN, want->columns[i]);
    end_call(a, before);
}

/* Depth is at most FILTER_DEPTH_MAX. */
static void add_columns(struct segment_ahead *a, const struct segment *s,
                        const struct filter *filter)
{
    for (size_t i = 0; i < filter->child_count; i++)
        add_columns(a, s, filter->children[i]);
    if (filter->op == FILTER_AND || filter->op == FILTER_OR || filter->op == FILTER_NOT)
        return;
    add_section(a, s, SECTION_COLUMN, filter->attr);
}

void segment_ahead_filter(struct segment_ahead *a, const struct segment *s,
                          const struct filter *filter)
{
    size_t before = a->count;
    add_columns(a, s, filter);
    end_call(a, before);
}

void segment_ahead_fetch(struct segment_ahead *a, const struct segment *s,
                         const uint32_t *rows, size_t n, struct segment_fetch what)
{
    size_t before = a->count;
    if (!s->cache) return;
    for (size_t i = 0; i < n && what.attributes && s->blocks; i++)
        add(a, s, segment_block_range(s, segment_block_of(s, rows[i])));
    for (size_t i = 0; i < n && what.vector; i++)
        if (segment_has_vector(s, rows[i]))
            add(a, s, segment_vector_range(s, segment_slot(s, rows[i])));
    end_call(a, before);
}

/* Whether a failure only means that it is not worth it. */
static enum err forgive(struct op *op, enum err e)
{
    if (e != ERR_BUSY && e != ERR_LIMIT) return e;
    op_clear_error(op);
    return ERR_OK;
}

enum err segment_ahead_read(struct op *op, struct segment_ahead *a)
{
    if (a->waits < 2) return ERR_OK;
    enum err e = cache_pin_ahead(op, a->cache, a->pins, a->count);
    a->pinned = !e;
    return forgive(op, e);
}

/* ---- opening ---- */

/* What of an object lies before the end that is read first, and is held. */
static struct cache_pin rest_of(struct op *op, const struct segment_object *object,
                                const struct segment_end *end, struct slice tail)
{
    struct cache_pin rest = {.key = object->key};
    struct segment_footer footer;
    size_t skip = tail.size - SEGMENT_FOOTER_SIZE;

    if (end->tail.offset == 0) return rest; /* held whole */
    if (segment_footer_decode(op, slice_of(tail.data + skip, SEGMENT_FOOTER_SIZE),
                              object->size, &footer) ||
        footer.resident_offset >= segment_end_offset(end))
        return rest;
    rest.offset = footer.resident_offset;
    rest.size = (size_t)(segment_end_offset(end) - footer.resident_offset);
    return rest;
}

/* tails: pins of the objects' tails, in their order. */
static void rests_ahead(struct op *op, struct cache *cache,
                        const struct segment_object *objects,
                        const struct cache_pin *tails, size_t n)
{
    struct cache_pin *rests = mem_new_array(struct cache_pin, n);
    uint64_t bytes = 0;
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        struct segment_end end = segment_end_of(&objects[i], SEGMENT_OPEN_TAIL);
        struct cache_pin rest = rest_of(op, &objects[i], &end, tails[i].data);
        if (rest.size == 0 || rest.size > AHEAD_BYTES_MAX - bytes) continue;
        rests[count++] = rest;
        bytes += rest.size;
    }
    if (cache_pin_ahead(op, cache, rests, count) == ERR_OK)
        cache_unpin(cache, rests, count);
    mem_free(rests);
}

void segment_open_ahead(struct op *op, struct cache *cache,
                        const struct segment_object *objects, size_t n,
                        const struct cache_pin *more, size_t more_count)
{
    size_t tails = 0, count;
    uint64_t bytes = 0;

    if (n > AHEAD_PINS_MAX / 4) n = AHEAD_PINS_MAX / 4;
    if (more_count > AHEAD_PINS_MAX / 4) more_count = AHEAD_PINS_MAX / 4;
    struct cache_pin *pins = mem_new_array(struct cache_pin, 2 * n + more_count);
    for (; tails < n && objects[tails].size >= SEGMENT_FOOTER_SIZE; tails++) {
        pins[tails] = segment_end_of(&objects[tails], SEGMENT_OPEN_TAIL).tail;
        if (pins[tails].size > AHEAD_BYTES_MAX - bytes) break;
        bytes += pins[tails].size;
    }
    count = tails;
    for (size_t i = 0; i < tails; i++) {
        struct cache_pin body = segment_end_of(&objects[i], SEGMENT_OPEN_TAIL).body;
        if (body.size == 0 || body.size > AHEAD_BYTES_MAX - bytes) continue;
        pins[count++] = body;
        bytes += body.size;
    }
    for (size_t i = 0; i < more_count; i++)
        pins[count++] = more[i];
    if (cache_pin_ahead(op, cache, pins, count) == ERR_OK) {
        rests_ahead(op, cache, objects, pins, tails);
        cache_unpin(cache, pins, count);
    }
    op_clear_error(op);
    mem_free(pins);
}
