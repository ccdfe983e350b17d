#include "segment/segment_merge_index.h"

#include "attr/column.h"
#include "base/mem.h"
#include "base/op.h"
#include "segment/segment_parts.h"
#include "segment/segment_write.h"
#include "text/text_index.h"
#include "text/text_merge.h"

enum {
    STEP_SIZE = 256 << 10, /* read at once, about */
    SPARE = 64 << 10,      /* what a small result may be larger by, … */
    CELL_SIZE = 8          /* … and a cell of a column */
};

/* What is open of one attribute of one input. */
struct part {
    struct buf copies[3]; /* of sections that no memory holds */
    size_t copy_count;
    struct column *column; /* NULL where there is none */
    struct text_index *text;
    bool held; /* both are the segment's */
};

/* ---- reading ---- */

static const struct section *section_of(const struct segment_input *input,
                                        enum section_kind kind, uint32_t attr)
{
    return layout_section(&input->segment->layout, kind, attr);
}

static enum err copy_section(struct op *op, const struct segment *s,
                             const struct section *section, struct buf *out)
{
    uint64_t end = section_end(section), blocks = STEP_SIZE / section->block_size;
    uint64_t step = section->block_size * (blocks ? blocks : 1);
    enum err e = ERR_OK;

    for (uint64_t at = section->offset; at < end && !e; at += step) {
        struct cache_pin pin = segment_range(s, at, end - at < step ? end - at : step);
        e = op_check(op);
        if (!e) e = segment_pin(op, s, &pin, 1);
        if (e) break;
        buf_append_slice(out, pin.data);
        segment_unpin(s, &pin, 1);
    }
    return e;
}

/* The bytes of a section, valid with the part. */
static enum err part_read(struct op *op, const struct segment *s,
                          const struct section *section, struct buf_room *room,
                          struct part *p, struct slice *bytes)
{
    struct buf *copy = &p->copies[p->copy_count++];
    *copy = buf_cut(room, (size_t)(section_end(section) - section->offset));
    enum err e = copy_section(op, s, section, copy);
    *bytes = slice_of(copy->data, (size_t)section->size);
    return e;
}

static enum err column_part(struct op *op, const struct segment_input *input,
                            uint32_t attr, struct buf_room *room, struct part *p)
{
    const struct segment *s = input->segment;
    const struct section *section = section_of(input, SECTION_COLUMN, attr);
    struct slice bytes;

    p->held = !s->cache;
    if (!section) return ERR_OK;
    if (p->held) {
        p->column = s->columns[attr];
        return ERR_OK;
    }
    const struct segment_attr *a = &s->layout.attrs[attr];
    enum err e = part_read(op, s, section, room, p, &bytes);
    if (!e)
        e = column_open(NULL, bytes, a->type, a->array, s->layout.row_count,
                        &p->column);
    return e ? op_fail(op, e, "column %u", attr) : ERR_OK;
}

static enum err text_part(struct op *op, const struct segment_input *input,
                          uint32_t attr, struct buf_room *room, struct part *p)
{
    const struct segment *s = input->segment;
    const struct section *section = section_of(input, SECTION_TEXT, attr);
    const struct section *more = section_of(input, SECTION_POSITIONS, attr);
    struct slice bytes;

    p->held = !s->cache;
    if (!section) return ERR_OK;
    if (p->held) {
        p->text = s->texts[attr];
        return ERR_OK;
    }
    enum err e = part_read(op, s, section, room, p, &bytes);
    if (!e) e = text_index_open(op, bytes, s->layout.row_count, &p->text);
    if (!e && more) e = part_read(op, s, more, room, p, &bytes);
    if (!e && more) text_index_attach(p->text, bytes);
    return e ? op_fail(op, e, "text %u", attr) : ERR_OK;
}

static void parts_close(struct part *parts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!parts[i].held) {
            column_close(parts[i].column);
            text_index_close(parts[i].text);
        }
        for (size_t k = 0; k < parts[i].copy_count; k++)
            buf_release(&parts[i].copies[k]);
    }
    mem_free(parts);
}

/* ---- sizes ---- */

/* Of one section of all inputs. */
static uint64_t size_of_all(const struct segment_input *inputs, size_t n,
                            enum section_kind kind, uint32_t attr)
{
    uint64_t size = 0;
    for (size_t i = 0; i < n; i++) {
        const struct section *section = section_of(&inputs[i], kind, attr);
        if (section) size += section_end(section) - section->offset;
    }
    return size;
}

static uint64_t row_count_of_all(const struct segment_input *inputs, size_t n)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < n; i++)
        rows += inputs[i].segment->layout.row_count;
    return rows;
}

static uint64_t text_result(uint64_t size)
{
    return size + size / 8 + SPARE;
}

/* Cells of one column may need more bytes than they did in several. */
static uint64_t column_result(const struct segment_input *inputs, size_t n,
                              uint32_t attr)
{
    uint64_t size = size_of_all(inputs, n, SECTION_COLUMN, attr);
    return 2 * size + CELL_SIZE * row_count_of_all(inputs, n) + SPARE;
}

static uint32_t attr_count_of_all(const struct segment_input *inputs, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (inputs[i].segment->layout.attr_count > count)
            count = inputs[i].segment->layout.attr_count;
    return count;
}

uint64_t merge_indexes_room(const struct segment_input *inputs, size_t n)
{
    uint64_t kept = 0, most = 0;
    for (uint32_t a = 0; a < attr_count_of_all(inputs, n); a++) {
        uint64_t text = size_of_all(inputs, n, SECTION_TEXT, a);
        uint64_t positions = size_of_all(inputs, n, SECTION_POSITIONS, a);
        uint64_t column = size_of_all(inputs, n, SECTION_COLUMN, a);
        uint64_t gaps = 2 * n * SECTION_ALIGNMENT;
        uint64_t passing = text + positions + text_merge_room(text) + gaps;
        kept += text_result(text) + text_result(positions);
        kept += column_result(inputs, n, a);
        if (passing > most) most = passing;
        if (column + gaps > most) most = column + gaps;
    }
    return kept + most;
}

/* Items of arrays are not counted by rows; few types have items below a byte. */
uint64_t merge_indexes_heap(const struct segment_input *inputs, size_t n)
{
    enum { ITEM_FACTOR = 4 };
    uint64_t most = 0;
    for (uint32_t a = 0; a < attr_count_of_all(inputs, n); a++) {
        uint64_t column = size_of_all(inputs, n, SECTION_COLUMN, a);
        bool array = false;
        for (size_t i = 0; i < n; i++)
            if (a < inputs[i].segment->layout.attr_count)
                array |= inputs[i].segment->layout.attrs[a].array;
        if (array && ITEM_FACTOR * column > most) most = ITEM_FACTOR * column;
    }
    return most;
}

/* ---- one attribute ---- */

static enum err merge_column(struct op *op, const struct segment_input *inputs,
                             size_t n, uint32_t attr, uint32_t *const *rows,
                             struct segment_writer *w)
{
    struct buf_room *room = w->options.room;
    const struct attr *a = &w->schema->attrs[attr];
    struct buf column = buf_cut(room, (size_t)column_result(inputs, n, attr));
    size_t mark = room ? room->used : 0;
    struct part *parts = mem_new_array(struct part, n);
    struct column_merge_input *merged = mem_new_array(struct column_merge_input, n);
    uint32_t value_count = 0;
    enum err e = ERR_OK;

    for (size_t i = 0; i < n && !e; i++) {
        e = column_part(op, &inputs[i], attr, room, &parts[i]);
        if (e) e = op_fail(op, e, "segment %s", segment_key(inputs[i].segment));
        merged[i] = (struct column_merge_input){parts[i].column, rows[i]};
    }
    if (!e)
        e = column_merge(op, a->type, a->array, writer_indexes(w, attr), merged, n,
                         w->row_count, &column, &value_count);
    if (!e) writer_column(w, attr, &column, value_count);
    buf_release(&column);
    parts_close(parts, n);
    mem_free(merged);
    if (room) room->used = mark;
    return e;
}

/* Merges the attribute's indexes, where those of all inputs can be. */
static enum err merge_text(struct op *op, const struct segment_input *inputs, size_t n,
                           uint32_t attr, uint32_t *const *rows,
                           struct segment_writer *w)
{
    struct buf_room *room = w->options.room;
    const struct analysis *analysis = &w->schema->attrs[attr].analysis;
    uint64_t sizes[2] = {size_of_all(inputs, n, SECTION_TEXT, attr),
                         size_of_all(inputs, n, SECTION_POSITIONS, attr)};
    struct buf text = buf_cut(room, (size_t)text_result(sizes[0]));
    struct buf positions = buf_cut(room, (size_t)text_result(sizes[1]));
    size_t mark = room ? room->used : 0, count = 0;
    struct part *parts = mem_new_array(struct part, n);
    struct text_merge_input *merged = mem_new_array(struct text_merge_input, n);
    bool all = true;
    enum err e = ERR_OK;

    for (size_t i = 0; i < n && !e; i++) {
        e = text_part(op, &inputs[i], attr, room, &parts[i]);
        if (e) e = op_fail(op, e, "segment %s", segment_key(inputs[i].segment));
        if (!parts[i].text) continue;
        all &= text_merge_takes(parts[i].text, analysis);
        merged[count++] = (struct text_merge_input){parts[i].text, rows[i]};
    }
    if (!e && all && count > 0) {
        e = text_merge(op, analysis, merged, count, w->row_count, room, &text,
                       &positions);
        if (!e) writer_text(w, attr, &text, &positions);
    }
    buf_release(&text);
    buf_release(&positions);
    parts_close(parts, n);
    mem_free(merged);
    if (room) room->used = mark;
    return e;
}

enum err merge_indexes(struct op *op, const struct segment_input *inputs, size_t n,
                       uint32_t *const *rows, struct segment_writer *w)
{
    enum err e = ERR_OK;

    for (uint32_t i = 0; !e && i < w->schema->attr_count; i++) {
        e = merge_column(op, inputs, n, i, rows, w);
        if (!e && w->schema->attrs[i].full_text)
            e = merge_text(op, inputs, n, i, rows, w);
    }
    if (!e) writer_merged(w);
    return e;
}
