/*
 * The builder keeps documents as records until the last one has come, then feeds them
 * to the writer in the order of their ids. Vectors lie in a buffer of their own, which
 * is freed as soon as they are in the segment: at no time are there more than two
 * copies.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "segment/segment.h"
#include "segment/segment_write.h"

/* Offsets into the builder's buffers, which move while they grow. */
struct row {
    uint64_t number;  /* id, of that kind */
    size_t string_at; /* id, of the other */
    size_t string_size;
    size_t vector_at; /* SIZE_MAX: none */
    size_t record_at, record_size;
};

struct segment_builder {
    struct schema *schema;
    struct segment_options options;
    enum id_kind id_kind;
    uint32_t row_count, vector_count;
    struct buf rows; /* struct row */
    struct buf vectors;
    struct buf bytes; /* string ids and records */
};

struct segment_builder *segment_builder_new(struct schema *schema,
                                            const struct segment_options *options)
{
    struct segment_builder *b = mem_new(struct segment_builder);
    b->schema = schema_ref(schema);
    b->options = *options;
    return b;
}

static void builder_free(struct segment_builder *b)
{
    buf_release(&b->rows);
    buf_release(&b->vectors);
    buf_release(&b->bytes);
    schema_unref(b->schema);
    mem_free(b);
}

void segment_builder_add(struct segment_builder *b, const struct doc *d)
{
    struct row row = {.vector_at = SIZE_MAX};

    assert(d->id.kind == ID_U64 || d->id.kind == ID_STRING);
    assert(b->row_count == 0 || d->id.kind == b->id_kind);
    assert(b->row_count < SEGMENT_ROWS_MAX);
    b->id_kind = d->id.kind;
    row.number = d->id.u64;
    if (d->id.kind == ID_STRING) {
        row.string_at = b->bytes.size;
        row.string_size = d->id.string.size;
        buf_append_slice(&b->bytes, d->id.string);
    }
    if (d->vector) {
        row.vector_at = b->vectors.size;
        buf_append(&b->vectors, d->vector, b->schema->vector_dim * sizeof(float));
        b->vector_count++;
    }
    row.record_at = b->bytes.size;
    record_encode(b->schema, d->values, &b->bytes);
    row.record_size = b->bytes.size - row.record_at;
    buf_append(&b->rows, &row, sizeof row);
    b->row_count++;
}

static struct doc_id row_id(const struct segment_builder *b, const struct row *row)
{
    if (b->id_kind == ID_U64)
        return (struct doc_id){.kind = ID_U64, .u64 = row->number};
    return (struct doc_id){.kind = ID_STRING,
                           .string = slice_of(b->bytes.data + row->string_at,
                                              row->string_size)};
}

static int compare_ids(const void *x, const void *y, void *builder)
{
    struct doc_id a = row_id(builder, x), b = row_id(builder, y);
    return doc_id_compare(&a, &b);
}

static enum err rows_write(struct op *op, struct segment_builder *b,
                           struct segment_writer *w)
{
    const struct row *rows = (const void *)b->rows.data;
    enum err e = ERR_OK;

    for (uint32_t i = 0; i < b->row_count; i++) {
        struct doc_id id = row_id(b, &rows[i]);
        bool has_vector = rows[i].vector_at != SIZE_MAX;
        writer_row(w, &id, has_vector ? b->vectors.data + rows[i].vector_at : NULL);
    }
    writer_rows_end(w);
    buf_release(&b->vectors);
    for (uint32_t i = 0; i < b->row_count && !e; i++)
        e = writer_record(op, w,
                          slice_of(b->bytes.data + rows[i].record_at,
                                   rows[i].record_size));
    return e;
}

enum err segment_builder_finish(struct op *op, struct segment_builder *b,
                                struct buf *out)
{
    struct segment_writer w;
    size_t start = out->size;

    assert(b->row_count > 0);
    qsort_r(b->rows.data, b->row_count, sizeof(struct row), compare_ids, b);
    writer_init(op, &w, b->schema, &b->options, b->id_kind, b->row_count,
                b->vector_count, out);
    enum err e = rows_write(op, b, &w);
    if (!e) e = writer_finish(op, &w);
    if (e) out->size = start;
    writer_release(&w);
    builder_free(b);
    return e ? op_fail(op, e, "build segment") : ERR_OK;
}
