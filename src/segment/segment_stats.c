/*
 * Stored form: count of attributes, then for each u8 0, nothing is known, or u8 1 and
 * its column's statistics. Attributes behind the last are null in all rows.
 */
#include "segment/segment_stats.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "attr/column.h"
#include "base/codec.h"
#include "base/mem.h"
#include "base/op.h"
#include "segment/segment_parts.h"

struct attr_stats {
    bool known;
    struct column_stats column;
};

struct segment_stats {
    atomic_uint refs;
    struct buf bytes; /* texts of attrs are in it */
    uint32_t row_count, attr_count;
    struct attr_stats *attrs;
};

/* ---- bytes ---- */

static struct segment_stats *stats_new(uint32_t row_count, uint32_t attr_count)
{
    struct segment_stats *s = mem_new(struct segment_stats);
    atomic_init(&s->refs, 1);
    s->row_count = row_count;
    s->attr_count = attr_count;
    s->attrs = mem_new_array(struct attr_stats, attr_count);
    return s;
}

struct segment_stats *segment_stats_ref(struct segment_stats *s)
{
    if (s) (void)atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void segment_stats_unref(struct segment_stats *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1) return;
    for (uint32_t i = 0; i < s->attr_count; i++)
        if (s->attrs[i].known) column_stats_release(&s->attrs[i].column);
    mem_free(s->attrs);
    buf_release(&s->bytes);
    mem_free(s);
}

struct slice segment_stats_bytes(const struct segment_stats *s)
{
    return buf_slice(&s->bytes);
}

static void read_attr(struct op *op, struct reader *r, const struct attr *attr,
                      uint32_t row_count, struct attr_stats *out)
{
    uint8_t form = get_u8(r);
    if (form > 1) r->failed = true;
    if (r->failed || form == 0) return;
    out->known =
        column_stats_decode(op, r, attr->type, attr->array, row_count, &out->column);
}

enum err segment_stats_decode(struct op *op, struct slice bytes,
                              const struct schema *schema, uint32_t row_count,
                              struct segment_stats **out)
{
    struct buf copy = BUF_INIT;
    *out = NULL;
    if (bytes.size > SEGMENT_STATS_MAX)
        return op_fail(op, ERR_CORRUPT, "statistics of %zu bytes", bytes.size);
    buf_append_slice(&copy, bytes);
    struct reader r = reader_of(buf_slice(&copy));
    uint32_t count = (uint32_t)get_varint_max(&r, schema->attr_count);
    struct segment_stats *s = stats_new(row_count, r.failed ? 0 : count);
    s->bytes = copy;
    for (uint32_t i = 0; i < s->attr_count && !r.failed; i++)
        read_attr(op, &r, &schema->attrs[i], row_count, &s->attrs[i]);
    if (!reader_done(&r)) {
        segment_stats_unref(s);
        return op_fail(op, ERR_CORRUPT, "damaged statistics");
    }
    *out = s;
    return ERR_OK;
}

/* ---- making ---- */

/* In the fullest form that leaves room for those that follow: half of what there is is
 * kept for short forms, and a byte each for attributes of which nothing is said. */
static void put_attr(const struct column_stats *column, uint32_t attrs_left,
                     struct buf *out)
{
    struct buf form = BUF_INIT;
    put_u8(&form, 1);
    column_stats_encode(column, false, &form);
    if (out->size + form.size > SEGMENT_STATS_MAX / 2) {
        buf_release(&form);
        put_u8(&form, 1);
        column_stats_encode(column, true, &form);
    }
    if (out->size + form.size + attrs_left <= SEGMENT_STATS_MAX)
        buf_append_slice(out, buf_slice(&form));
    else
        put_u8(out, 0);
    buf_release(&form);
}

/* Of a column whose section may be missing: all its values are null then. */
static enum err stats_of(struct op *op, const struct segment_layout *l, uint32_t attr,
                         const struct column *column, struct column_stats *out)
{
    if (column) return column_stats_make(op, column, out);
    *out = (struct column_stats){.type = l->attrs[attr].type,
                                 .array = l->attrs[attr].array,
                                 .row_count = l->row_count};
    return ERR_OK;
}

static enum err put_column(struct op *op, struct slice object,
                           const struct segment_layout *l, uint32_t attr,
                           struct buf *out)
{
    const struct section *section = layout_section(l, SECTION_COLUMN, attr);
    struct column *column = NULL;
    struct column_stats stats;
    enum err e = ERR_OK;

    if (section)
        e = column_open(op, slice_of(object.data + section->offset, section->size),
                        l->attrs[attr].type, l->attrs[attr].array, l->row_count,
                        &column);
    if (!e) e = stats_of(op, l, attr, column, &stats);
    if (e) return e;
    put_attr(&stats, l->attr_count - attr - 1, out);
    column_stats_release(&stats);
    return ERR_OK;
}

static enum err read_layout(struct op *op, struct slice object,
                            struct segment_layout *out)
{
    struct segment_footer footer;
    if (object.size < SEGMENT_FOOTER_SIZE) return op_fail(op, ERR_CORRUPT, "no footer");
    const uint8_t *end = object.data + object.size - SEGMENT_FOOTER_SIZE;
    enum err e = segment_footer_decode(op, slice_of(end, SEGMENT_FOOTER_SIZE),
                                       object.size, &footer);
    if (e) return e;
    const uint8_t *directory = object.data + footer.directory_offset;
    return segment_directory_decode(op, slice_of(directory, (size_t)(end - directory)),
                                    &footer, out);
}

/* The types are the segment's own. */
static void read_own(struct op *op, const struct segment_layout *l,
                     struct segment_stats *s)
{
    struct reader r = reader_of(buf_slice(&s->bytes));
    (void)get_varint(&r);
    for (uint32_t i = 0; i < l->attr_count; i++) {
        struct attr attr = {.type = l->attrs[i].type, .array = l->attrs[i].array};
        read_attr(op, &r, &attr, l->row_count, &s->attrs[i]);
    }
    assert(reader_done(&r));
}

enum err segment_stats_make(struct op *op, struct slice object,
                            struct segment_stats **out)
{
    struct segment_layout layout;
    struct buf bytes = BUF_INIT;

    *out = NULL;
    enum err e = read_layout(op, object, &layout);
    if (e) return op_fail(op, e, "statistics");
    put_varint(&bytes, layout.attr_count);
    for (uint32_t i = 0; i < layout.attr_count && !e; i++)
        e = put_column(op, object, &layout, i, &bytes);
    if (e) {
        buf_release(&bytes);
    } else {
        *out = stats_new(layout.row_count, layout.attr_count);
        (*out)->bytes = bytes;
        read_own(op, &layout, *out);
    }
    segment_layout_release(&layout);
    return e ? op_fail(op, e, "statistics") : ERR_OK;
}

void segment_stats_attach(struct segment *segment, struct segment_stats *s)
{
    segment_stats_unref(segment->stats);
    segment->stats = segment_stats_ref(s);
}

/* ---- asking ---- */

static bool is_group(const struct filter *f)
{
    return f->op == FILTER_AND || f->op == FILTER_OR || f->op == FILTER_NOT;
}

static void ask(const struct segment *segment, const struct filter *f,
                struct stats_answer *out);

/* Ids are in memory, and asking them costs what the answer does. */
static void ask_id(const struct segment *segment, const struct filter *f,
                   struct stats_answer *out)
{
    double rows = segment->layout.row_count;
    *out = (struct stats_answer){.may_be_true = true,
                                 .may_be_false = true,
                                 .part_true = 0.5};
    if (f->op == FILTER_EQ || f->op == FILTER_IN)
        out->part_true = (double)f->id_count < rows ? (double)f->id_count / rows : 1;
    if (f->op == FILTER_NE || f->op == FILTER_NOT_IN) out->part_true = 1;
}

static void ask_condition(const struct segment *segment, const struct filter *f,
                          struct stats_answer *out)
{
    const struct segment_stats *s = segment->stats;
    uint32_t attr = (uint32_t)f->attr;

    if (f->attr == FILTER_ATTR_ID) {
        ask_id(segment, f, out);
    } else if (attr >= segment->layout.attr_count) {
        struct column_stats nulls = {.type = f->type,
                                     .array = f->array,
                                     .row_count = segment->layout.row_count};
        column_stats_ask(&nulls, f, out);
    } else if (s && attr < s->attr_count && s->attrs[attr].known &&
               s->attrs[attr].column.type == f->type &&
               s->attrs[attr].column.array == f->array) {
        column_stats_ask(&s->attrs[attr].column, f, out);
    } else {
        stats_answer_blind(out);
    }
}

static double part_false(const struct stats_answer *a)
{
    double part = 1 - a->part_true - a->part_unknown;
    return part > 0 ? part : 0;
}

static void negate(struct stats_answer *a)
{
    bool may_be_true = a->may_be_true;
    a->part_true = part_false(a);
    a->may_be_true = a->may_be_false;
    a->may_be_false = may_be_true;
}

/* Do they bound the same scalar from below and from above? */
static bool is_interval(const struct filter *a, const struct filter *b)
{
    bool below = a->op == FILTER_GT || a->op == FILTER_GTE;
    bool above = b->op == FILTER_LT || b->op == FILTER_LTE;
    return below && above && a->attr == b->attr && !a->array && a->attr >= 0;
}

static const struct filter *other_bound(const struct filter *f, size_t child)
{
    for (size_t i = 0; i < f->child_count; i++)
        if (is_interval(f->children[child], f->children[i])) return f->children[i];
    return NULL;
}

static bool has_partner(const struct filter *f, size_t child)
{
    for (size_t i = 0; i < f->child_count; i++)
        if (is_interval(f->children[i], f->children[child])) return true;
    return false;
}

/* The part of the rows that both bounds leave, as a factor beside a. */
static double interval_part(const struct segment *segment, const struct stats_answer *a,
                            const struct filter *upper)
{
    struct stats_answer b;
    ask(segment, upper, &b);
    double with = 1 - a->part_unknown; /* both leave out the same nulls */
    double both = a->part_true + b.part_true - with;
    double least = 1 / ((double)segment->layout.row_count + 1);
    return both > least ? both : least;
}

enum { PAIRED_MAX = 64 };

/* Under `not`s pushed down: and of children, or by De Morgan or of their opposites. */
static void ask_all(const struct segment *segment, const struct filter *f, bool any,
                    struct stats_answer *out)
{
    bool paired = !any && f->child_count <= PAIRED_MAX;
    double not_false = 1;
    *out = (struct stats_answer){.may_be_true = true, .part_true = 1};
    for (size_t i = 0; i < f->child_count; i++) {
        struct stats_answer a;
        ask(segment, f->children[i], &a);
        if (any) negate(&a);
        out->may_be_true &= a.may_be_true;
        out->may_be_false |= a.may_be_false;
        out->may_be_unknown |= a.may_be_unknown;
        out->blind |= a.blind;
        not_false *= a.part_true + a.part_unknown;
        const struct filter *upper = paired ? other_bound(f, i) : NULL;
        if (upper)
            out->part_true *= interval_part(segment, &a, upper);
        else if (!paired || !has_partner(f, i))
            out->part_true *= a.part_true;
    }
    if (not_false > out->part_true) out->part_unknown = not_false - out->part_true;
    if (any) negate(out);
}

static void ask(const struct segment *segment, const struct filter *f,
                struct stats_answer *out)
{
    assert(f);
    switch (f->op) {
    case FILTER_AND: ask_all(segment, f, false, out); break;
    case FILTER_OR: ask_all(segment, f, true, out); break;
    case FILTER_NOT:
        ask(segment, f->children[0], out);
        negate(out);
        break;
    default: ask_condition(segment, f, out); break;
    }
}

void segment_stats_ask(const struct segment *segment, const struct filter *f,
                       struct stats_answer *out)
{
    ask(segment, f, out);
}

/* Conditions that name values, which an index finds. */
static bool names_values(const struct filter *f)
{
    return f->op != FILTER_GLOB && f->op != FILTER_EXISTS &&
           !(f->op == FILTER_CONTAINS && !f->array);
}

uint64_t segment_stats_scan_rows(const struct segment *segment,
                                 const struct schema *schema, const struct filter *f)
{
    uint64_t rows = segment->layout.row_count, sum = 0;
    struct stats_answer a;

    for (size_t i = 0; i < f->child_count; i++)
        sum += segment_stats_scan_rows(segment, schema, f->children[i]);
    if (is_group(f)) return sum;
    if (f->attr < 0 || (uint32_t)f->attr >= segment->layout.attr_count) return 0;
    ask_condition(segment, f, &a);
    if (!a.may_be_true || !schema->attrs[f->attr].indexed || !names_values(f))
        return rows;
    return column_index_cost((uint64_t)(a.part_true * (double)rows), rows);
}

/* ---- comparing ---- */

static bool same_scalar(const struct column_stats *a, const union scalar *x,
                        const union scalar *y)
{
    return scalar_compare(a->type, x, y) == 0;
}

static bool has_common(const struct column_stats *s, const union scalar *v)
{
    for (uint32_t i = 0; i < s->common_count; i++)
        if (same_scalar(s, &s->values[i], v)) return true;
    return false;
}

/* Are the facts of `stored` those of the column? */
static bool facts_hold(const struct column_stats *stored,
                       const struct column_stats *found)
{
    if (stored->value_count != found->value_count ||
        stored->item_count != found->item_count)
        return false;
    if (found->item_count == 0) return true;
    if (stored->cut != found->cut ||
        !same_scalar(found, &stored->least, &found->least) ||
        !same_scalar(found, &stored->greatest, &found->greatest))
        return false;
    if (!stored->complete) return true;
    for (uint32_t i = 0; i < found->common_count; i++)
        if (!has_common(stored, &found->values[i])) return false;
    return found->complete;
}

static enum err verify_attr(struct op *op, struct segment *segment, int attr,
                            const struct column_stats *stored)
{
    struct segment_view *view = NULL;
    struct column_stats found = {.values = NULL};

    const struct segment_want want = {.columns = &attr, .column_count = 1};
    enum err e = segment_view_open(op, segment, &want, &view);
    if (e) return e;
    e = stats_of(op, &segment->layout, (uint32_t)attr, segment_view_column(view, attr),
                 &found);
    if (!e && !facts_hold(stored, &found))
        e = op_fail(op, ERR_CORRUPT,
                    "segment %s: its statistics in the manifest are not those of "
                    "attribute %d",
                    segment->key, attr);
    column_stats_release(&found);
    segment_view_close(view);
    return e;
}

enum err segment_stats_verify(struct op *op, struct segment *segment)
{
    const struct segment_stats *s = segment->stats;
    enum err e = ERR_OK;
    if (!s) return ERR_OK;
    if (s->attr_count != segment->layout.attr_count)
        return op_fail(op, ERR_CORRUPT,
                       "segment %s: the manifest has statistics of %u attributes, and "
                       "it has %u",
                       segment->key, s->attr_count, segment->layout.attr_count);
    for (uint32_t i = 0; i < s->attr_count && !e; i++)
        if (s->attrs[i].known)
            e = verify_attr(op, segment, (int)i, &s->attrs[i].column);
    return e;
}

/* ---- in words ---- */

static void put_scalar(enum attr_type type, const union scalar *v, struct buf *out)
{
    char text[48];
    switch (type) {
    case ATTR_STRING:
        buf_printf(out, "\"%.*s\"", (int)v->s.size, (const char *)v->s.data);
        break;
    case ATTR_INT: buf_printf(out, "%" PRId64, v->i); break;
    case ATTR_UINT: buf_printf(out, "%" PRIu64, v->u); break;
    case ATTR_FLOAT: buf_printf(out, "%.17g", v->f); break;
    case ATTR_BOOL: buf_append_str(out, v->b ? "true" : "false"); break;
    case ATTR_DATETIME: buf_append(out, text, datetime_text(v->i, text)); break;
    case ATTR_UUID:
        uuid_text(v->uuid, text);
        buf_append_str(out, text);
        break;
    }
}

static void describe_items(const struct column_stats *s, struct buf *out)
{
    buf_printf(out, ", %s%" PRIu64 " distinct, ", s->complete ? "" : "about ",
               s->distinct);
    put_scalar(s->type, &s->least, out);
    buf_append_str(out, " to ");
    put_scalar(s->type, &s->greatest, out);
    if (s->cut) buf_append_str(out, "...");
    for (uint32_t i = 0; i < s->common_count; i++) {
        buf_append_str(out, i ? ", " : "; ");
        put_scalar(s->type, &s->values[i], out);
        buf_printf(out, " in %u", s->common_rows[i]);
    }
}

void segment_stats_describe(const struct segment_stats *s, const struct schema *schema,
                            struct buf *out)
{
    for (uint32_t i = 0; i < s->attr_count; i++) {
        const struct column_stats *column = &s->attrs[i].column;
        buf_printf(out, "  statistics  %s: ", schema->attrs[i].name);
        if (!s->attrs[i].known) {
            buf_append_str(out, "none\n");
            continue;
        }
        buf_printf(out, "%u of %u rows", column->value_count, column->row_count);
        if (column->item_count > 0) describe_items(column, out);
        buf_append_byte(out, '\n');
    }
}
