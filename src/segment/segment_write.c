#include "segment/segment_write.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "attr/column.h"
#include "base/codec.h"
#include "base/mem.h"
#include "segment/segment_ids.h"
#include "segment/segment_parts.h"
#include "segment/segment_vectors.h"
#include "text/text_index.h"
#include "vec/ivf.h"

enum {
    /* A fetch expands a block for each document it wants, so not much larger. */
    DOCUMENT_BLOCK_SIZE = 16 << 10,
    SCRATCH_MAX = 1 << 20,
    TERMS_FROM = 1 << 20, /* what is smaller is as well read whole */
    ROWS_PER_CHECK = 64   /* of the deadline */
};

/* ---- sections ---- */

static struct section *section_begin(struct segment_writer *w, enum section_kind kind,
                                     uint32_t field, uint32_t block_size)
{
    struct section *s = &w->layout.sections[w->layout.section_count++];
    *s = (struct section){.kind = kind,
                          .field = field,
                          .block_size = block_size,
                          .offset = w->out->size - w->start};
    assert(s->offset % SECTION_ALIGNMENT == 0);
    if (section_is_resident(kind) && w->layout.resident_offset == 0)
        w->layout.resident_offset = s->offset;
    return s;
}

static void section_finish(struct segment_writer *w, struct section *s)
{
    s->size = w->out->size - w->start - s->offset;
    section_seal(w->op, s, w->start, w->out, &w->checks);
}

/* Appends what may be large. */
static void append(struct segment_writer *w, const struct buf *bytes)
{
    enum { STEP = 256 << 10 };
    for (size_t at = 0; at < bytes->size; at += STEP) {
        size_t left = bytes->size - at;
        op_rest(w->op);
        buf_append(w->out, bytes->data + at, left < STEP ? left : STEP);
    }
}

static void section_write(struct segment_writer *w, enum section_kind kind,
                          uint32_t field, const struct buf *bytes,
                          const struct buf *more)
{
    if (bytes->size == 0) return;
    uint32_t block_size = kind == SECTION_RECORDS ? 0 : CHECK_BLOCK_SIZE;
    struct section *s = section_begin(w, kind, field, block_size);
    append(w, bytes);
    if (more) append(w, more);
    section_finish(w, s);
}

/* ---- rows ---- */

static void layout_init(struct segment_writer *w, enum id_kind id_kind,
                        uint32_t vector_count)
{
    const struct schema *schema = w->schema;
    struct segment_layout *l = &w->layout;
    size_t sections_max = 4 * (size_t)schema->attr_count + SECTION_KINDS;

    l->sections = mem_calloc(1, sections_max * sizeof *l->sections +
                                    schema->attr_count * sizeof *l->attrs);
    l->attrs = (void *)(l->sections + sections_max);
    l->row_count = w->row_count;
    l->vector_count = vector_count;
    l->vector_dim = schema->vector_dim;
    l->metric = schema->metric;
    l->id_kind = id_kind;
    l->attr_count = schema->attr_count;
    for (uint32_t i = 0; i < schema->attr_count; i++)
        l->attrs[i] = (struct segment_attr){.type = schema->attrs[i].type,
                                            .array = schema->attrs[i].array,
                                            .full_text = schema->attrs[i].full_text};
}

void writer_init(struct op *op, struct segment_writer *w, const struct schema *schema,
                 const struct segment_options *options, enum id_kind id_kind,
                 uint32_t row_count, uint32_t vector_count, struct buf *out)
{
    assert(row_count > 0 && row_count <= SEGMENT_ROWS_MAX);
    assert(vector_count <= row_count && (schema->vector_dim > 0 || vector_count == 0));
    *w = (struct segment_writer){.op = op,
                                 .schema = schema,
                                 .options = *options,
                                 .out = out,
                                 .start = out->size,
                                 .row_count = row_count};
    layout_init(w, id_kind, vector_count);
    op_init(&w->scratch, OP_NO_DEADLINE, 0);
    w->values = mem_new_array(struct value, schema->attr_count);
    w->columns = mem_new_array(struct column_builder *, schema->attr_count);
    w->texts = mem_new_array(struct text_builder *, schema->attr_count);
    w->merged_columns = mem_new_array(struct buf, schema->attr_count);
    w->merged_texts = mem_new_array(struct buf, schema->attr_count);
    w->positions = mem_new_array(struct buf, schema->attr_count);
    w->terms = mem_new_array(struct buf, schema->attr_count);
    if (vector_count > 0 && vector_count < row_count)
        buf_append_zeros(&w->presence,
                         ((size_t)row_count + 63) / 64 * sizeof(uint64_t));

    w->ids = buf_cut(options->room, row_count * (id_kind == ID_U64 ? sizeof(uint64_t)
                                                                   : sizeof(uint32_t)));
    w->norms = buf_cut(options->room, vector_count * sizeof(float));
    size_t vector_size = schema->vector_dim * sizeof(float);
    buf_reserve(out, vector_count * vector_size + 1024);
    segment_header_encode(out);
    if (vector_count > 0)
        (void)section_begin(w, SECTION_VECTORS, 0,
                            vector_block_size(schema->vector_dim));
}

static void id_add(struct segment_writer *w, const struct doc_id *id)
{
    assert(id->kind == w->layout.id_kind);
    if (id->kind == ID_U64) {
        assert(w->row == 0 || load_u64(w->ids.data + w->ids.size - 8) < id->u64);
        put_u64(&w->ids, id->u64);
        return;
    }
    assert(id->string.size >= 1 && id->string.size <= ID_STRING_MAX);
    buf_append_slice(&w->id_bytes, id->string);
    put_u32(&w->ids, (uint32_t)w->id_bytes.size);
}

void writer_row(struct segment_writer *w, const struct doc_id *id, const void *vector)
{
    assert(w->row < w->row_count);
    id_add(w, id);
    if (vector) {
        buf_append(w->out, vector, w->schema->vector_dim * sizeof(float));
        if (w->schema->metric == METRIC_COSINE)
            put_f32(&w->norms, vector_inverse_norm(vector, w->schema->vector_dim));
        uint64_t *words = (void *)w->presence.data;
        if (words) words[w->row / 64] |= (uint64_t)1 << w->row % 64;
    }
    w->row++;
}

void writer_rows_end(struct segment_writer *w)
{
    assert(w->row == w->row_count);
    w->row = 0;
    if (w->layout.section_count > 0) section_finish(w, &w->layout.sections[0]);
    (void)section_begin(w, SECTION_DOCUMENTS, 0, 0);
}

void writer_column(struct segment_writer *w, uint32_t attr, struct buf *column,
                   uint32_t value_count)
{
    assert(w->row == 0 && (column->size > 0) == (value_count > 0));
    w->merged_columns[attr] = *column;
    w->layout.attrs[attr].value_count = value_count;
    *column = BUF_INIT;
}

void writer_merged(struct segment_writer *w)
{
    w->merged = true;
    for (uint32_t i = 0; i < w->schema->attr_count; i++)
        if (w->schema->attrs[i].full_text && w->layout.attrs[i].value_count > 0 &&
            w->merged_texts[i].size == 0)
            w->merged = false;
}

void writer_text(struct segment_writer *w, uint32_t attr, struct buf *text,
                 struct buf *positions)
{
    assert(w->row == 0 && text->size > 0 && w->merged_texts[attr].size == 0);
    w->merged_texts[attr] = *text;
    w->positions[attr] = *positions;
    *text = *positions = BUF_INIT;
}

/* ---- records ---- */

static void block_flush(struct segment_writer *w)
{
    struct slice records = buf_slice(&w->block);
    size_t start = w->out->size;

    if (records.size == 0) return;
    assert(records.size <= DOCUMENT_BLOCK_MAX);
    if (w->options.zstd_level > 0) zstd_append(w->out, records, w->options.zstd_level);
    if (w->out->size == start || w->out->size - start >= records.size) {
        w->out->size = start;
        buf_append_slice(w->out, records);
    }
    struct document_block b = {.first_row = w->block_row,
                               .raw_size = (uint32_t)records.size,
                               .stored_size = (uint32_t)(w->out->size - start)};
    b.check = crc32c(0, w->out->data + start, b.stored_size);
    buf_append(&w->blocks, &b, sizeof b);
    buf_clear(&w->block);
    w->block_row = w->row;
}

bool writer_indexes(const struct segment_writer *w, uint32_t attr)
{
    return w->schema->attrs[attr].indexed && w->row_count >= COLUMN_INDEX_ROWS_MIN;
}

static void column_add(struct segment_writer *w, uint32_t i, const struct value *v)
{
    const struct attr *attr = &w->schema->attrs[i];
    if (!w->columns[i] && v->null) return;
    if (!w->columns[i]) {
        w->columns[i] =
            column_builder_new(attr->type, attr->array, writer_indexes(w, i));
        for (uint32_t row = 0; row < w->row; row++)
            column_builder_add(w->columns[i], &VALUE_NULL);
    }
    column_builder_add(w->columns[i], v);
    if (!v->null) w->layout.attrs[i].value_count++;
}

static void text_add(struct segment_writer *w, uint32_t i, const struct value *v)
{
    const struct attr *attr = &w->schema->attrs[i];
    if (v->null || !attr->full_text || w->merged_texts[i].size > 0) return;
    if (!w->texts[i]) w->texts[i] = text_builder_new(&attr->analysis);
    text_builder_add(w->texts[i], w->row, attr->array, v);
}

/* Reads the record into w->values; what that takes from the arena goes with the row. */
static enum err values_read(struct op *op, struct segment_writer *w,
                            struct slice record)
{
    uint32_t attr_count = w->schema->attr_count;
    if (w->scratch.arena.used > SCRATCH_MAX) {
        op_release(&w->scratch);
        op_init(&w->scratch, OP_NO_DEADLINE, 0);
    }
    for (uint32_t i = 0; i < attr_count; i++)
        w->values[i] = VALUE_NULL;
    enum err e = record_decode(&w->scratch, &w->layout, record, w->values, attr_count);
    return e ? op_fail(op, e, "%s", w->scratch.error) : ERR_OK;
}

enum err writer_record(struct op *op, struct segment_writer *w, struct slice record)
{
    enum err e = w->row % ROWS_PER_CHECK == 0 ? op_check(op) : ERR_OK;

    assert(w->row < w->row_count);
    if (!e && !w->merged) e = values_read(op, w, record);
    if (e) return e;
    if (w->block.size + record.size > DOCUMENT_BLOCK_SIZE) block_flush(w);
    put_sized(&w->block, record);
    for (uint32_t i = 0; i < w->schema->attr_count && !w->merged; i++) {
        if (w->merged_columns[i].size == 0) column_add(w, i, &w->values[i]);
        text_add(w, i, &w->values[i]);
    }
    w->row++;
    return ERR_OK;
}

/* ---- the end ---- */

static void documents_finish(struct segment_writer *w)
{
    static const uint8_t zeros[SECTION_ALIGNMENT];
    struct section *s = &w->layout.sections[w->layout.section_count - 1];

    assert(s->kind == SECTION_DOCUMENTS);
    for (uint32_t i = 0; i < w->schema->attr_count; i++)
        if (w->layout.attrs[i].value_count > 0) w->layout.any_value = true;
    if (!w->layout.any_value) { /* nothing but empty records */
        w->out->size = w->start + (size_t)s->offset;
        w->layout.section_count--;
        buf_clear(&w->blocks);
        return;
    }
    block_flush(w);
    section_finish(w, s);
    struct document_block *blocks = (void *)w->blocks.data;
    struct document_block *last = blocks + w->blocks.size / sizeof *last - 1;
    size_t gap = (size_t)(section_end(s) - s->offset - s->size);
    last->check = crc32c(last->check, zeros, gap);
}

static void text_write(struct segment_writer *w, uint32_t i)
{
    bool merged = w->merged_texts[i].size > 0 && w->layout.attrs[i].value_count > 0;
    if (!w->texts[i] && !merged) return;

    struct section *s = section_begin(w, SECTION_TEXT, i, TEXT_BLOCK_SIZE);
    if (merged)
        append(w, &w->merged_texts[i]);
    else
        text_builder_finish(w->texts[i], w->row_count, w->out, &w->positions[i]);
    w->texts[i] = NULL;
    buf_release(&w->merged_texts[i]);
    section_finish(w, s);
    if (s->size < TERMS_FROM) return;
    text_index_head(slice_of(w->out->data + w->start + s->offset, (size_t)s->size),
                    &w->terms[i]);
}

static void indexes_write(struct segment_writer *w)
{
    for (uint32_t i = 0; i < w->schema->attr_count; i++) {
        if (w->layout.attrs[i].value_count == 0) continue;
        struct section *s = section_begin(w, SECTION_COLUMN, i, CHECK_BLOCK_SIZE);
        if (w->columns[i])
            column_builder_finish(w->columns[i], w->out);
        else
            append(w, &w->merged_columns[i]);
        w->columns[i] = NULL;
        buf_release(&w->merged_columns[i]);
        section_finish(w, s);
    }
    for (uint32_t i = 0; i < w->schema->attr_count; i++)
        text_write(w, i);
    for (uint32_t i = 0; i < w->schema->attr_count; i++) {
        section_write(w, SECTION_POSITIONS, i, &w->positions[i], NULL);
        buf_release(&w->positions[i]);
    }
}

static void document_index_write(struct segment_writer *w)
{
    const struct document_block *blocks = (const void *)w->blocks.data;
    struct buf index = BUF_INIT;
    for (size_t i = 0; i < w->blocks.size / sizeof *blocks; i++)
        document_block_encode(&blocks[i], &index);
    section_write(w, SECTION_DOCUMENT_INDEX, 0, &index, NULL);
    buf_release(&index);
}

/* Packed where documents are compressed and it saves something. */
static void ids_write(struct segment_writer *w)
{
    struct buf packed = BUF_INIT;
    if (w->options.zstd_level > 0)
        ids_pack(w->layout.id_kind, w->row_count, buf_slice(&w->ids),
                 buf_slice(&w->id_bytes), w->options.zstd_level, &packed);
    if (packed.size > 0 && packed.size < w->ids.size + w->id_bytes.size)
        section_write(w, SECTION_PACKED_IDS, 0, &packed, NULL);
    else
        section_write(w, SECTION_IDS, 0, &w->ids, &w->id_bytes);
    buf_release(&packed);
}

/* ---- the vector index ---- */

struct vector_reader {
    const struct segment_writer *writer;
    struct op *op;
};

/* ivf_source.read: the vectors lie in the first section. */
static void read_vectors(const void *context, uint32_t first, uint32_t count,
                         float *out)
{
    const struct vector_reader *r = context;
    const struct segment_writer *w = r->writer;
    size_t size = w->schema->vector_dim * sizeof *out;
    op_rest(r->op);
    memcpy(out, w->out->data + w->start + w->layout.sections[0].offset + first * size,
           count * size);
}

/* Rows that have a vector; NULL: all. */
static uint32_t *vector_rows(const struct segment_writer *w)
{
    const uint64_t *words = (const void *)w->presence.data;
    uint32_t count = 0;
    if (!words) return NULL;
    uint32_t *rows = mem_new_array(uint32_t, w->layout.vector_count);
    for (uint32_t row = 0; row < w->row_count; row++)
        if (words[row / 64] >> row % 64 & 1) rows[count++] = row;
    return rows;
}

/* Builds the index where there are enough vectors. Vectors that no index takes are
 * searched without. */
static enum err index_build(struct op *op, struct segment_writer *w,
                            struct ivf_bytes *out)
{
    uint32_t count = w->layout.vector_count;
    if (w->options.index_from == 0 || count < w->options.index_from) return ERR_OK;
    uint32_t *rows = vector_rows(w);
    struct vector_reader reader = {w, op};
    struct ivf_source source = {.read = read_vectors,
                                .context = &reader,
                                .count = count,
                                .dim = w->schema->vector_dim,
                                .rows = rows,
                                .row_count = w->row_count,
                                .clusters = w->clusters,
                                .cluster_count = w->cluster_count};
    struct ivf_build_options options = {.metric = segment_ivf_metric(w->schema->metric),
                                        .seed = w->options.index_seed,
                                        .flat = w->options.index_flat,
                                        .room = w->options.room};
    enum err e = ivf_build(op, &source, &options, out);
    mem_free(rows);
    if (e == ERR_LIMIT) {
        op_clear_error(op);
        return ERR_OK;
    }
    w->layout.indexed = !e;
    return e;
}

void writer_clusters(struct segment_writer *w, uint32_t *clusters,
                     uint32_t cluster_count)
{
    assert(!w->clusters);
    w->clusters = clusters;
    w->cluster_count = cluster_count;
}

static void directory_write(struct segment_writer *w)
{
    size_t at = 0;
    for (uint32_t i = 0; i < w->layout.section_count; i++) {
        struct section *s = &w->layout.sections[i];
        size_t size = (size_t)section_block_count(s) * sizeof(uint32_t);
        s->checks = slice_of(w->checks.data + at, size);
        at += size;
    }
    assert(at == w->checks.size);
    segment_directory_encode(&w->layout, w->start, w->out);
}

enum err writer_finish(struct op *op, struct segment_writer *w)
{
    struct ivf_bytes index = {BUF_INIT, BUF_INIT, BUF_INIT};
    assert(w->row == w->row_count);
    enum err e = index_build(op, w, &index);
    if (!e) {
        documents_finish(w);
        indexes_write(w);
        section_write(w, SECTION_NORMS, 0, &w->norms, NULL);
        section_write(w, SECTION_SLOTS, 0, &index.slots, NULL);
        section_write(w, SECTION_RECORDS, 0, &index.records, NULL);
        section_write(w, SECTION_PRESENCE, 0, &w->presence, NULL);
        document_index_write(w);
        ids_write(w);
        section_write(w, SECTION_INDEX, 0, &index.head, NULL);
        for (uint32_t i = 0; i < w->schema->attr_count; i++)
            section_write(w, SECTION_TERMS, i, &w->terms[i], NULL);
        directory_write(w);
    }
    ivf_bytes_release(&index);
    return e;
}

void writer_release(struct segment_writer *w)
{
    for (uint32_t i = 0; i < w->schema->attr_count; i++) {
        column_builder_free(w->columns[i]);
        text_builder_free(w->texts[i]);
        buf_release(&w->merged_columns[i]);
        buf_release(&w->merged_texts[i]);
        buf_release(&w->positions[i]);
        buf_release(&w->terms[i]);
    }
    mem_free(w->terms);
    mem_free(w->merged_columns);
    mem_free(w->columns);
    mem_free(w->texts);
    mem_free(w->merged_texts);
    mem_free(w->positions);
    mem_free(w->clusters);
    mem_free(w->values);
    op_release(&w->scratch);
    segment_layout_release(&w->layout);
    buf_release(&w->checks);
    buf_release(&w->ids);
    buf_release(&w->id_bytes);
    buf_release(&w->norms);
    buf_release(&w->presence);
    buf_release(&w->block);
    buf_release(&w->blocks);
}
