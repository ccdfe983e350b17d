/*
 * Documents of chosen rows. Rows are taken in ascending order, so each block of
 * documents and each block of vectors is pinned and expanded once.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "segment/segment.h"
#include "segment/segment_parts.h"

/* What one round may pin. */
enum { ROUND_PINS_MAX = 1024, ROUND_BYTES_MAX = 16 << 20 };

struct wanted {
    uint32_t row;
    size_t index;            /* in the caller's arrays */
    size_t document, vector; /* pins of this round; SIZE_MAX: not needed */
};

struct fetch {
    struct segment *segment;
    const struct schema *schema;
    struct segment_fetch what;
    struct wanted *wanted; /* ascending rows */
    size_t count;
    struct doc *out;
    const struct value *nulls; /* of documents without values */
    struct cache_pin *pins;
    size_t pin_count;
    uint64_t pin_bytes;
    struct record_cursor cursor;
};

static int compare_rows(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* The pin at index `last` if it is the same range, or a new one: its index. */
static size_t pin_add(struct fetch *f, size_t last, struct cache_pin pin)
{
    if (last != SIZE_MAX && f->pins[last].offset == pin.offset) return last;
    f->pins[f->pin_count] = pin;
    f->pin_bytes += pin.size;
    return f->pin_count++;
}

/* Lists the pins of as many rows from `first` on as fit one round; where they end. */
static size_t round_plan(struct fetch *f, size_t first)
{
    const struct segment *s = f->segment;
    size_t document = SIZE_MAX, vector = SIZE_MAX, i = first;

    f->pin_count = 0;
    f->pin_bytes = 0;
    for (; i < f->count; i++) {
        struct wanted *w = &f->wanted[i];
        if (f->pin_count + 2 > ROUND_PINS_MAX || f->pin_bytes >= ROUND_BYTES_MAX) break;
        w->document = w->vector = SIZE_MAX;
        if (f->what.attributes && s->blocks) {
            uint32_t block = segment_block_of(s, w->row);
            w->document = document =
                pin_add(f, document, segment_block_range(s, block));
        }
        if (f->what.vector && segment_has_vector(s, w->row)) {
            uint32_t slot = segment_slot(s, w->row);
            w->vector = vector = pin_add(f, vector, segment_vector_range(s, slot));
        }
    }
    return i;
}

static enum err values_fetch(struct op *op, struct fetch *f, const struct wanted *w,
                             struct value *values)
{
    const struct segment *s = f->segment;
    struct slice record;

    enum err e = record_cursor_get(op, &f->cursor, s, w->row, f->pins[w->document].data,
                                   &record);
    if (e) return e;
    struct slice copy = op_copy(op, record); /* outlives pin and cursor */
    if (!copy.data) return ERR_LIMIT;
    return record_decode(op, &s->layout, copy, values, f->schema->attr_count);
}

static struct value *nulls_new(struct op *op, uint32_t count)
{
    struct value *values = op_new_array(op, struct value, count);
    for (uint32_t i = 0; values && i < count; i++)
        values[i].null = true;
    return values;
}

static enum err doc_fetch(struct op *op, struct fetch *f, const struct wanted *w)
{
    const struct segment *s = f->segment;
    struct doc doc = {.id = segment_id(s, w->row), .values = f->nulls};

    if (doc.id.kind == ID_STRING) {
        doc.id.string = op_copy(op, doc.id.string);
        if (!doc.id.string.data) return ERR_LIMIT;
    }
    if (w->document != SIZE_MAX) {
        struct value *values = nulls_new(op, f->schema->attr_count);
        if (!values) return ERR_LIMIT;
        enum err e = values_fetch(op, f, w, values);
        if (e) return e;
        doc.values = values;
    }
    if (w->vector != SIZE_MAX) {
        float *vector = op_new_array(op, float, s->layout.vector_dim);
        if (!vector) return ERR_LIMIT;
        struct slice block = f->pins[w->vector].data;
        memcpy(vector, segment_range_vector(s, block, segment_slot(s, w->row)),
               s->layout.vector_dim * sizeof *vector);
        doc.vector = vector;
    }
    f->out[w->index] = doc;
    return ERR_OK;
}

static enum err round_fetch(struct op *op, struct fetch *f, size_t first, size_t end)
{
    enum err e = op_check(op);
    if (!e) e = segment_pin(op, f->segment, f->pins, f->pin_count);
    if (e) return e;
    for (size_t i = first; i < end && !e; i++)
        e = doc_fetch(op, f, &f->wanted[i]);
    segment_unpin(f->segment, f->pins, f->pin_count);
    f->cursor.loaded = false; /* its bytes may have been the pin's */
    return e;
}

enum err segment_fetch(struct op *op, struct segment *s, const struct schema *schema,
                       const uint32_t *rows, size_t n, struct segment_fetch what,
                       struct doc *out)
{
    size_t pins = n < ROUND_PINS_MAX / 2 ? 2 * n : ROUND_PINS_MAX;
    struct fetch f = {
        .segment = s, .schema = schema, .what = what, .count = n, .out = out};
    enum err e = segment_fits(op, s, schema);

    if (!e && !(f.nulls = nulls_new(op, schema->attr_count))) e = ERR_LIMIT;

    f.wanted = mem_new_array(struct wanted, n);
    f.pins = mem_new_array(struct cache_pin, pins);
    for (size_t i = 0; i < n; i++) {
        assert(rows[i] < s->layout.row_count);
        f.wanted[i] = (struct wanted){.row = rows[i], .index = i};
    }
    qsort(f.wanted, n, sizeof *f.wanted, compare_rows);
    for (size_t done = 0; done < n && !e;) {
        size_t end = round_plan(&f, done);
        e = round_fetch(op, &f, done, end);
        done = end;
    }
    record_cursor_release(&f.cursor);
    mem_free(f.wanted);
    mem_free(f.pins);
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}
