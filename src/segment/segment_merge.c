/*
 * Merging: the live rows of all inputs are put in the order of ids, then vectors and
 * records of the rows are streamed from the inputs to the writer. Records are copied as
 * they are (a record of an older schema is one of the newer). Columns and text indexes
 * are merged from those of the inputs (segment_merge_index.h); only where an input was
 * written before there were positions records are read and their texts analysed again.
 *
 * The vector index of the largest input lends its clusters to the merged one, which is
 * much less work than finding clusters anew.
 *
 * Rows of an input ascend by id, so each input is read from front to back, a window of
 * blocks at a time. Were rows in another order, this would stay right and get slow.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/merge_heap.h"
#include "base/op.h"
#include "base/rowset.h"
#include "segment/segment.h"
#include "segment/segment_merge_index.h"
#include "segment/segment_parts.h"
#include "segment/segment_write.h"

enum {
    WINDOW_MAX = 16,
    WINDOW_BYTES = 4 << 20, /* read in one go, without a rest, and a unit more */
    WINDOWS_PINS_MAX = 128,
    ROWS_PER_CHECK = 32,
    ROWS_PER_LISTING = 1024,
    CLUSTERS_KEPT_FROM = 64 /* an index of at least one in so many vectors */
};

struct live_row {
    uint32_t input, row;
};

/* Neighbouring units of vectors or blocks of documents, pinned together. */
struct window {
    struct cache_pin pins[WINDOW_MAX];
    uint32_t first, count;
};

struct merge_input {
    struct segment *segment;
    const struct rowset *dead; /* or NULL */
    uint32_t next;             /* while rows are listed */
    struct window window;
    struct record_cursor cursor;
};

struct merge {
    struct merge_input *inputs;
    size_t input_count;
    uint32_t window_size;
    struct live_row *rows;
    uint32_t row_count, vector_count;
};

static void window_release(const struct segment *s, struct window *w)
{
    segment_unpin(s, w->pins, w->count);
    w->count = 0;
}

/* The bytes of block `index` of count; range is what makes the pin of a block. */
static enum err window_get(struct op *op, const struct merge *m, struct merge_input *in,
                           uint32_t index, uint32_t count,
                           struct cache_pin (*range)(const struct segment *, uint32_t),
                           struct slice *data)
{
    struct window *w = &in->window;
    if (index - w->first >= w->count) {
        window_release(in->segment, w);
        uint32_t left = count - index;
        uint32_t most = left < m->window_size ? left : m->window_size, size = 0;
        for (uint64_t bytes = 0; size < most && bytes < WINDOW_BYTES; size++) {
            w->pins[size] = range(in->segment, index + size);
            bytes += w->pins[size].size;
        }
        enum err e = segment_pin(op, in->segment, w->pins, size);
        if (e) return e;
        w->first = index;
        w->count = size;
    }
    *data = w->pins[index - w->first].data;
    return ERR_OK;
}

static enum err vector_get(struct op *op, const struct merge *m, struct merge_input *in,
                           uint32_t row, const void **vector)
{
    const struct segment *s = in->segment;
    struct slice unit;

    *vector = NULL;
    if (!segment_has_vector(s, row)) return ERR_OK;
    uint32_t slots = s->unit_slots, slot = segment_slot(s, row);
    uint32_t units = (s->layout.vector_count - 1) / slots + 1;
    enum err e = window_get(op, m, in, slot / slots, units, segment_unit_range, &unit);
    if (!e) *vector = segment_unit_vector(s, unit, slot);
    return e;
}

static enum err record_get(struct op *op, const struct merge *m, struct merge_input *in,
                           uint32_t row, struct slice *record)
{
    const struct segment *s = in->segment;
    struct slice stored;

    if (!s->blocks) {
        *record = slice_of("", 1); /* no values */
        return ERR_OK;
    }
    uint32_t block = segment_block_of(s, row);
    enum err e =
        window_get(op, m, in, block, s->block_count, segment_block_range, &stored);
    if (!e) e = record_cursor_get(op, &in->cursor, s, row, stored, record);
    return e;
}

/* ---- which rows ---- */

static struct doc_id cursor_id(const struct merge *m, size_t input)
{
    return segment_id(m->inputs[input].segment, m->inputs[input].next);
}

static bool is_before(const void *context, size_t a, size_t b)
{
    const struct merge *m = context;
    struct doc_id x = cursor_id(m, a), y = cursor_id(m, b);
    return doc_id_compare(&x, &y) < 0;
}

/* Moves the input's cursor to the first living row from `row` on; false at the end. */
static bool cursor_to(struct merge_input *in, uint32_t row)
{
    uint32_t count = in->segment->layout.row_count;
    while (row < count && in->dead && rowset_has(in->dead, row))
        row++;
    in->next = row;
    return row < count;
}

/* Lists the living rows of all inputs by id: each input's ascend, so the least of the
 * inputs' next ones comes next. */
static void list_rows(struct op *op, struct merge *m)
{
    struct merge_heap heap;

    merge_heap_init(&heap, m->input_count, is_before, m);
    for (size_t i = 0; i < m->input_count; i++)
        if (cursor_to(&m->inputs[i], 0)) merge_heap_add(&heap, i);
    while (heap.count > 0) {
        size_t input = heap.walks[0];
        if (m->row_count % ROWS_PER_LISTING == 0) op_rest(op);
        struct merge_input *in = &m->inputs[input];
        m->rows[m->row_count++] = (struct live_row){(uint32_t)input, in->next};
        m->vector_count += segment_has_vector(in->segment, in->next);
        merge_heap_next(&heap, !cursor_to(in, in->next + 1));
    }
    merge_heap_release(&heap);
}

static enum err check_inputs(struct op *op, const struct schema *schema,
                             const struct segment_input *inputs, size_t n)
{
    uint64_t row_count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct segment *s = inputs[i].segment;
        enum err e = segment_fits(op, s, schema);
        if (!e && s->layout.id_kind != inputs[0].segment->layout.id_kind)
            e = op_fail(op, ERR_CORRUPT, "its ids are of another kind");
        if (e) return op_fail(op, e, "segment %s", s->key);
        row_count += s->layout.row_count;
    }
    if (row_count > SEGMENT_ROWS_MAX)
        return op_fail(op, ERR_LIMIT, "%llu rows, at most %d in one segment",
                       (unsigned long long)row_count, SEGMENT_ROWS_MAX);
    return ERR_OK;
}

static void merge_init(struct op *op, struct merge *m,
                       const struct segment_input *inputs, size_t n)
{
    size_t row_count = 0;
    m->inputs = mem_new_array(struct merge_input, n);
    m->input_count = n;
    m->window_size = (uint32_t)(n ? WINDOWS_PINS_MAX / n : 1);
    if (m->window_size > WINDOW_MAX) m->window_size = WINDOW_MAX;
    if (m->window_size == 0) m->window_size = 1;
    for (size_t i = 0; i < n; i++) {
        m->inputs[i].segment = inputs[i].segment;
        m->inputs[i].dead = inputs[i].dead;
        row_count += inputs[i].segment->layout.row_count;
    }
    m->rows = mem_new_array(struct live_row, row_count);
    list_rows(op, m);
}

static void merge_release(struct merge *m)
{
    for (size_t i = 0; i < m->input_count; i++) {
        window_release(m->inputs[i].segment, &m->inputs[i].window);
        record_cursor_release(&m->inputs[i].cursor);
    }
    mem_free(m->inputs);
    mem_free(m->rows);
}

/* ---- copying ---- */

static enum err fail_input(struct op *op, enum err e, const struct merge_input *in)
{
    return op_fail(op, e, "segment %s", in->segment->key);
}

static enum err copy_vectors(struct op *op, struct merge *m, struct segment_writer *w)
{
    for (uint32_t i = 0; i < m->row_count; i++) {
        const struct live_row *row = &m->rows[i];
        struct merge_input *in = &m->inputs[row->input];
        const void *vector = NULL;
        enum err e = i % ROWS_PER_CHECK == 0 ? op_check(op) : ERR_OK;
        if (!e) e = vector_get(op, m, in, row->row, &vector);
        if (e) return fail_input(op, e, in);
        struct doc_id id = segment_id(in->segment, row->row);
        writer_row(w, &id, vector);
    }
    for (size_t i = 0; i < m->input_count; i++)
        window_release(m->inputs[i].segment, &m->inputs[i].window);
    return ERR_OK;
}

static enum err copy_records(struct op *op, struct merge *m, struct segment_writer *w)
{
    for (uint32_t i = 0; i < m->row_count; i++) {
        struct merge_input *in = &m->inputs[m->rows[i].input];
        struct slice record = SLICE_EMPTY;
        enum err e = record_get(op, m, in, m->rows[i].row, &record);
        if (!e) e = writer_record(op, w, record);
        if (e) return fail_input(op, e, in);
    }
    return ERR_OK;
}

/* By input and row: the row it becomes. */
static uint32_t **row_maps(const struct merge *m)
{
    uint32_t **maps = mem_new_array(uint32_t *, m->input_count);
    for (size_t i = 0; i < m->input_count; i++) {
        uint32_t count = m->inputs[i].segment->layout.row_count;
        maps[i] = mem_alloc(count * sizeof **maps);
        memset(maps[i], 0xff, count * sizeof **maps); /* TEXT_ROW_GONE */
    }
    for (uint32_t row = 0; row < m->row_count; row++)
        maps[m->rows[row].input][m->rows[row].row] = row;
    return maps;
}

static enum err copy_indexes(struct op *op, const struct merge *m,
                             const struct segment_input *inputs,
                             struct segment_writer *w)
{
    uint32_t **maps = row_maps(m);
    enum err e = merge_indexes(op, inputs, m->input_count, maps, w);

    for (size_t i = 0; i < m->input_count; i++)
        mem_free(maps[i]);
    mem_free(maps);
    return e;
}

/* ---- clusters of vectors ---- */

/* Has it more vectors than so many, in an index that the merged one can go on from? */
static bool goes_on(const struct segment *s, uint64_t vectors)
{
    return s->ivf && !ivf_is_flat(s->ivf) && s->layout.vector_count > vectors;
}

/* The input with the most vectors in such an index. */
static uint32_t largest_indexed(const struct merge *m)
{
    uint32_t largest = UINT32_MAX, most = m->vector_count / CLUSTERS_KEPT_FROM;
    for (uint32_t i = 0; i < m->input_count; i++) {
        const struct segment *s = m->inputs[i].segment;
        if (!goes_on(s, most)) continue;
        most = s->layout.vector_count;
        largest = i;
    }
    return largest;
}

/* Rows of the largest input stay in the clusters they have. */
static enum err keep_clusters(struct op *op, const struct merge *m,
                              struct segment_writer *w)
{
    uint32_t largest = largest_indexed(m), count = 0, kept = 0;
    if (largest == UINT32_MAX || w->options.index_from == 0) return ERR_OK;
    const struct segment *s = m->inputs[largest].segment;
    struct cache_pin pin =
        segment_section_range(s, layout_section(&s->layout, SECTION_SLOTS, 0));
    enum err e = segment_pin(op, s, &pin, 1);
    if (e) return fail_input(op, e, &m->inputs[largest]);
    struct slice slots = slice_of(pin.data.data, (size_t)ivf_slots_size(s->ivf));
    uint32_t *clusters = mem_new_array(uint32_t, m->vector_count);
    for (uint32_t i = 0; i < m->row_count; i++) {
        const struct live_row *row = &m->rows[i];
        if (!segment_has_vector(m->inputs[row->input].segment, row->row)) continue;
        bool known = row->input == largest;
        clusters[count++] =
            known ? ivf_row_cluster(s->ivf, slots, row->row) : IVF_NO_CLUSTER;
        kept += known;
    }
    segment_unpin(s, &pin, 1);
    if (kept > 0)
        writer_clusters(w, clusters, ivf_clusters(s->ivf));
    else
        mem_free(clusters); /* the others are dead */
    return ERR_OK;
}

static enum err merge_write(struct op *op, struct merge *m, const struct schema *schema,
                            const struct segment_options *options,
                            const struct segment_input *inputs, struct buf *out)
{
    struct doc_id first = segment_id(inputs[m->rows[0].input].segment, m->rows[0].row);
    struct segment_writer w;
    size_t start = out->size;

    writer_init(op, &w, schema, options, first.kind, m->row_count, m->vector_count,
                out);
    enum err e = copy_vectors(op, m, &w);
    if (!e) {
        writer_rows_end(&w);
        e = copy_indexes(op, m, inputs, &w);
    }
    if (!e) e = keep_clusters(op, m, &w);
    if (!e) e = copy_records(op, m, &w);
    if (!e) e = writer_finish(op, &w);
    if (e) out->size = start;
    writer_release(&w);
    return e;
}

enum err segment_merge(struct op *op, struct schema *schema,
                       const struct segment_options *options,
                       const struct segment_input *inputs, size_t n, struct buf *out,
                       uint32_t *row_count)
{
    struct merge m = {0};

    enum err e = check_inputs(op, schema, inputs, n);
    if (e) return op_fail(op, e, "merge");
    merge_init(op, &m, inputs, n);
    if (m.row_count > 0) e = merge_write(op, &m, schema, options, inputs, out);
    if (!e) *row_count = m.row_count;
    merge_release(&m);
    return e ? op_fail(op, e, "merge") : ERR_OK;
}

/* Will keep_clusters surely find clusters? As largest_indexed chooses, of all rows. */
static bool keeps_clusters(const struct segment_input *inputs, size_t n,
                           uint64_t vectors)
{
    uint64_t most = vectors / CLUSTERS_KEPT_FROM, dead = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct segment *s = inputs[i].segment;
        if (!goes_on(s, most)) continue;
        most = s->layout.vector_count;
        dead = inputs[i].dead ? rowset_count(inputs[i].dead) : 0;
    }
    return dead < most;
}

static struct segment_needs index_needs(const struct segment_options *options,
                                        uint32_t dim, uint64_t vectors, bool known)
{
    if (options->index_from == 0 || vectors < options->index_from || dim == 0)
        return (struct segment_needs){0, 0, 0};
    uint64_t bytes = vectors * ivf_bytes_per_vector(dim);
    return (struct segment_needs){.result = bytes,
                                  .room = bytes,
                                  .heap = ivf_build_memory(dim, vectors, known)};
}

struct segment_needs segment_merge_needs(const struct segment_options *options,
                                         const struct segment_input *inputs, size_t n)
{
    /* Where a row comes from and where it goes to; keys of a column, its index. */
    enum { ROW_BYTES = sizeof(struct live_row) + 64, PACKING = 2, FIXED = 8 << 20 };
    uint64_t size = 0, rows = 0, vectors = 0, ids = 0, unpacked = 0;
    uint32_t dim = 0;

    for (size_t i = 0; i < n; i++) {
        const struct segment *s = inputs[i].segment;
        const struct section *section = layout_section(&s->layout, SECTION_IDS, 0);
        size += s->size;
        unpacked += s->unpacked_ids.size;
        rows += s->layout.row_count;
        vectors += s->layout.vector_count;
        ids += section ? section->size : 0;
        dim = s->layout.vector_dim;
    }
    struct segment_needs index =
        index_needs(options, dim, vectors, keeps_clusters(inputs, n, vectors));
    uint64_t norms = vectors * sizeof(float);
    return (struct segment_needs){.result = size + unpacked + index.result,
                                  .room = index.room + ids + unpacked + norms +
                                          merge_indexes_room(inputs, n) + FIXED,
                                  .heap = index.heap + rows * ROW_BYTES +
                                          PACKING * (ids + unpacked) +
                                          merge_indexes_heap(inputs, n)};
}
