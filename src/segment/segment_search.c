#include <assert.h>
#include <string.h>

#include "attr/attr_filter.h"
#include "attr/column.h"
#include "base/mem.h"
#include "base/op.h"
#include "base/rowset.h"
#include "segment/segment.h"
#include "segment/segment_parts.h"
#include "segment/segment_terms.h"
#include "text/text_index.h"

/* ---- views ---- */

struct view_part {
    enum section_kind kind;
    int attr;
    size_t pin; /* the first of its pins */
    struct column *column;
    struct text_index *text;
    struct slice positions;
    bool by_ranges;
    struct text_chunk *chunks; /* of a text read by ranges */
    size_t chunk_count;
};

struct segment_view {
    struct segment *segment;
    struct cache_pin *pins; /* one per part; of a text by ranges one more a chunk */
    struct view_part *parts;
    size_t count, pin_count;
    size_t pinned; /* 0 or pin_count */
};

static const struct view_part *part_find(const struct segment_view *v,
                                         enum section_kind kind, int attr)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->parts[i].kind == kind && v->parts[i].attr == attr) return &v->parts[i];
    return NULL;
}

/* A section that is there, once. */
static void part_add(struct segment_view *v, enum section_kind kind, int attr)
{
    assert(attr >= 0);
    const struct section *section =
        layout_section(&v->segment->layout, kind, (uint32_t)attr);
    if (!section || part_find(v, kind, attr)) return;
    v->parts[v->count++] =
        (struct view_part){.kind = kind, .attr = attr, .pin = v->pin_count};
    v->pins[v->pin_count++] = segment_section_range(v->segment, section);
}

static void text_add(struct segment_view *v, const struct segment_text *text)
{
    if (!terms_by_ranges(v->segment, text)) {
        part_add(v, SECTION_TEXT, text->attr);
        return;
    }
    struct text_chunk *chunks = mem_new_array(struct text_chunk, text->term_count);
    size_t n = terms_plan(v->segment, text, v->pins + v->pin_count, chunks);
    v->parts[v->count++] = (struct view_part){.kind = SECTION_TEXT,
                                              .attr = text->attr,
                                              .pin = v->pin_count,
                                              .by_ranges = true,
                                              .chunks = chunks,
                                              .chunk_count = n};
    v->pin_count += n + 1;
}

static enum err part_open(struct op *op, const struct segment_view *v,
                          struct view_part *part)
{
    const struct segment *s = v->segment;
    uint32_t field = (uint32_t)part->attr;
    const struct section *section = layout_section(&s->layout, part->kind, field);
    const struct segment_attr *attr = &s->layout.attrs[field];
    uint32_t row_count = s->layout.row_count;
    struct slice bytes = v->pins[part->pin].data;

    if (part->by_ranges) {
        part->text = terms_open(s, part->attr, v->pins + part->pin, part->chunks,
                                part->chunk_count);
        return ERR_OK;
    }
    bytes.size = (size_t)section->size; /* the pin ends with the gap */
    if (part->kind == SECTION_POSITIONS) {
        part->positions = bytes;
        return ERR_OK;
    }
    enum err e =
        part->kind == SECTION_COLUMN
            ? column_open(op, bytes, attr->type, attr->array, row_count, &part->column)
            : text_index_open(op, bytes, row_count, &part->text);
    return e ? op_fail(op, e, "%s %u", section_kind_name(part->kind), field) : ERR_OK;
}

static void positions_attach(struct segment_view *v)
{
    for (size_t i = 0; i < v->count; i++) {
        if (v->parts[i].kind != SECTION_POSITIONS) continue;
        const struct view_part *text = part_find(v, SECTION_TEXT, v->parts[i].attr);
        assert(text);
        text_index_attach(text->text, v->parts[i].positions);
    }
}

static enum err view_open(struct op *op, struct segment_view *v)
{
    enum err e = segment_pin(op, v->segment, v->pins, v->pin_count);
    if (e) return e;
    v->pinned = v->pin_count;
    for (size_t i = 0; i < v->count && !e; i++)
        e = part_open(op, v, &v->parts[i]);
    if (!e) positions_attach(v);
    return e;
}

static void parts_add(struct segment_view *v, const struct segment_want *want)
{
    size_t parts = 2 * want->text_count + want->column_count, pins = parts;
    for (size_t i = 0; i < want->text_count; i++)
        pins += want->texts[i].term_count;
    v->pins = mem_new_array(struct cache_pin, pins);
    v->parts = mem_new_array(struct view_part, parts);
    for (size_t i = 0; i < want->text_count; i++)
        text_add(v, &want->texts[i]);
    for (size_t i = 0; i < want->text_count && want->positions; i++)
        part_add(v, SECTION_POSITIONS, want->texts[i].attr);
    for (size_t i = 0; i < want->column_count; i++)
        part_add(v, SECTION_COLUMN, want->columns[i]);
}

enum err segment_view_open(struct op *op, struct segment *s,
                           const struct segment_want *want, struct segment_view **out)
{
    struct segment_view *v = mem_new(struct segment_view);
    enum err e = ERR_OK;

    *out = NULL;
    v->segment = segment_ref(s);
    if (s->cache && want->text_count + want->column_count > 0) {
        parts_add(v, want);
        e = view_open(op, v);
    }
    if (e) {
        segment_view_close(v);
        return op_fail(op, e, "segment %s", s->key);
    }
    *out = v;
    return ERR_OK;
}

static bool held_attr(const struct segment *s, int attr)
{
    assert(attr >= 0);
    return !s->cache && (uint32_t)attr < s->layout.attr_count;
}

const struct text_index *segment_view_text(const struct segment_view *v, int attr)
{
    if (held_attr(v->segment, attr)) return v->segment->texts[attr];
    const struct view_part *part = part_find(v, SECTION_TEXT, attr);
    return part ? part->text : NULL;
}

const struct column *segment_view_column(const struct segment_view *v, int attr)
{
    if (held_attr(v->segment, attr)) return v->segment->columns[attr];
    const struct view_part *part = part_find(v, SECTION_COLUMN, attr);
    return part ? part->column : NULL;
}

void segment_view_close(struct segment_view *v)
{
    if (!v) return;
    for (size_t i = 0; i < v->count; i++) {
        column_close(v->parts[i].column);
        text_index_close(v->parts[i].text);
        mem_free(v->parts[i].chunks);
    }
    segment_unpin(v->segment, v->pins, v->pinned);
    mem_free(v->pins);
    mem_free(v->parts);
    segment_unref(v->segment);
    mem_free(v);
}

/* ---- filters ---- */

struct filter_context {
    const struct segment *segment;
    const struct segment_view *view;
};

static enum err filter_column(struct op *op, void *context, int attr,
                              const struct column **out)
{
    (void)op;
    const struct filter_context *f = context;
    *out = segment_view_column(f->view, attr);
    return ERR_OK;
}

/* The first row at or behind `from` where the condition is `wanted`, if rows with that
 * answer lie behind the others. */
static uint32_t id_turn(const struct segment *s, const struct filter *f, uint32_t from,
                        bool wanted)
{
    uint32_t low = from, high = s->layout.row_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct doc_id id = segment_id(s, middle);
        if (filter_id(f, &id) == wanted)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void add_found(const struct segment *s, const struct filter *f,
                      struct rowset *out)
{
    for (size_t i = 0; i < f->id_count; i++) {
        uint32_t row;
        segment_find(s, &f->ids[i], 1, &row);
        if (row != UINT32_MAX) rowset_add(out, row);
    }
}

static void add_not_found(const struct segment *s, const struct filter *f,
                          struct rowset *out)
{
    struct rowset *rows = rowset_new();
    add_found(s, f, rows);
    rowset_flip(rows, s->layout.row_count);
    rowset_or(out, rows);
    rowset_unref(rows);
}

static uint32_t prefix_start(const struct segment *s, const struct filter *f)
{
    struct filter from = *f;
    from.op = FILTER_GTE;
    return id_turn(s, &from, 0, true);
}

/* Rows lie in the order of their ids, so each condition is a few look-ups or a range.
 */
static enum err filter_ids(struct op *op, void *context, const struct filter *f,
                           struct rowset *out)
{
    (void)op;
    const struct segment *s = ((const struct filter_context *)context)->segment;
    uint32_t row_count = s->layout.row_count, first;

    switch (f->op) {
    case FILTER_EQ:
    case FILTER_IN: add_found(s, f, out); break;
    case FILTER_NE:
    case FILTER_NOT_IN: add_not_found(s, f, out); break;
    case FILTER_GT:
    case FILTER_GTE: rowset_add_range(out, id_turn(s, f, 0, true), row_count); break;
    case FILTER_LT:
    case FILTER_LTE: rowset_add_range(out, 0, id_turn(s, f, 0, false)); break;
    default:
        assert(f->op == FILTER_PREFIX);
        first = prefix_start(s, f);
        rowset_add_range(out, first, id_turn(s, f, first, false));
        break;
    }
    return ERR_OK;
}

struct attr_list {
    int attrs[SCHEMA_ATTRS_MAX];
    size_t count;
};

static void list_add(struct attr_list *list, int attr)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->attrs[i] == attr) return;
    assert(list->count < SCHEMA_ATTRS_MAX);
    list->attrs[list->count++] = attr;
}

/* Lists the attributes that the segment has. Depth is at most FILTER_DEPTH_MAX. */
static enum err filter_attrs(struct op *op, const struct segment *s,
                             const struct filter *f, struct attr_list *list)
{
    for (size_t i = 0; i < f->child_count; i++) {
        enum err e = filter_attrs(op, s, f->children[i], list);
        if (e) return e;
    }
    bool condition = f->op != FILTER_AND && f->op != FILTER_OR && f->op != FILTER_NOT;
    if (!condition || f->attr < 0 || (uint32_t)f->attr >= s->layout.attr_count)
        return ERR_OK;
    const struct segment_attr *attr = &s->layout.attrs[f->attr];
    if (attr->type != f->type || attr->array != f->array)
        return op_fail(op, ERR_CORRUPT, "segment %s: attribute %d has another type",
                       s->key, f->attr);
    list_add(list, f->attr);
    return ERR_OK;
}

/* What a filter is asked of; the view stays open while it is. */
struct filter_asking {
    struct segment_view *view;
    struct filter_context context;
    struct filter_input input;
};

static enum err filter_open(struct op *op, struct segment *s, const struct filter *f,
                            struct filter_work *work, struct filter_asking *out)
{
    struct attr_list list = {.count = 0};

    *out = (struct filter_asking){.view = NULL};
    enum err e = filter_attrs(op, s, f, &list);
    if (!e)
        e = segment_view_open(op, s,
                              &(struct segment_want){.columns = list.attrs,
                                                     .column_count = list.count},
                              &out->view);
    if (e) return e;
    out->context = (struct filter_context){.segment = s, .view = out->view};
    out->input = (struct filter_input){.context = &out->context,
                                       .row_count = s->layout.row_count,
                                       .column = filter_column,
                                       .ids = filter_ids,
                                       .work = work};
    return ERR_OK;
}

enum err segment_filter(struct op *op, struct segment *s, const struct filter *f,
                        const struct rowset *among, struct filter_work *work,
                        struct rowset **out)
{
    struct filter_asking asking;

    *out = NULL;
    enum err e = filter_open(op, s, f, work, &asking);
    if (e) return e;
    e = attr_filter(op, f, &asking.input, among, out);
    segment_view_close(asking.view);
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}

enum err segment_filter_estimate(struct op *op, struct segment *s,
                                 const struct filter *f, struct filter_estimate *out)
{
    struct filter_asking asking;

    enum err e = filter_open(op, s, f, NULL, &asking);
    if (e) return e;
    e = attr_filter_estimate(op, f, &asking.input, out);
    segment_view_close(asking.view);
    return e ? op_fail(op, e, "segment %s", s->key) : ERR_OK;
}
