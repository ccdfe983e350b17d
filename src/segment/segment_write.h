/*
 * segment_write.h - writing a segment row by row. Private to segment/.
 *
 * The writer is fed in the order of the file, rows ascending by id: first the id and
 * the vector of each row, then the record of each row. So vectors and documents go
 * straight to their place in out, and the caller may free its vectors in between. The
 * builder and the merge both feed it, which is why equal documents make equal bytes.
 */
#ifndef SEGMENT_SEGMENT_WRITE_H
#define SEGMENT_SEGMENT_WRITE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/op.h"
#include "doc/value.h"
#include "segment/segment.h"
#include "segment/segment_format.h"

struct column_builder;
struct schema;
struct text_builder;

struct segment_writer {
    struct op *op;               /* rests between steps */
    const struct schema *schema; /* borrowed, like out */
    struct segment_options options;
    struct buf *out;
    size_t start; /* of the object in out */

    struct segment_layout layout; /* room for all sections that a schema can have */
    struct buf checks;            /* of all sections so far */

    uint32_t row_count, row; /* rows to come; the next one */
    struct buf ids, id_bytes, norms, presence;

    struct op scratch;    /* arrays of the values at hand */
    struct value *values; /* of the row at hand */
    struct column_builder **columns;
    struct text_builder **texts;
    struct buf *merged_columns; /* instead of being built */
    struct buf *merged_texts;
    bool merged;           /* all of them: records are not looked into */
    struct buf *positions; /* of the texts that are written */
    struct buf *terms;     /* heads of those that have one */
    uint32_t *clusters;    /* of the vectors, as an input has them; or NULL */
    uint32_t cluster_count;
    struct buf block;  /* records not yet written */
    struct buf blocks; /* struct document_block */
    uint32_t block_row;
};

/* row_count > 0 rows will come, vector_count of them with a vector. op outlives w. */
void writer_init(struct op *op, struct segment_writer *w, const struct schema *schema,
                 const struct segment_options *options, enum id_kind id_kind,
                 uint32_t row_count, uint32_t vector_count, struct buf *out);
/* Does the attribute's column get an index? */
bool writer_indexes(const struct segment_writer *w, uint32_t attr);
/* The next row, ids ascending; vector is NULL or dim floats, aligned or not. */
void writer_row(struct segment_writer *w, const struct doc_id *id, const void *vector);
/* All rows were given; their records come now, from row 0 on. */
void writer_rows_end(struct segment_writer *w);
/* Before the first record: the column of an attribute, of so many values, is made; it
 * is taken over. Empty: there are no values. */
void writer_column(struct segment_writer *w, uint32_t attr, struct buf *column,
                   uint32_t value_count);
/* As well: its text index, and that one's positions. */
void writer_text(struct segment_writer *w, uint32_t attr, struct buf *text,
                 struct buf *positions);
/* The clusters that vectors, in their order, lie in already (struct ivf_source); taken
 * over. */
void writer_clusters(struct segment_writer *w, uint32_t *clusters,
                     uint32_t cluster_count);
/* Every attribute's column was given: are the text indexes of those with values? Then
 * records are passed on as they are. */
void writer_merged(struct segment_writer *w);
/* ERR_CORRUPT unless it is a record under the writer's schema, where it is looked
 * into. */
enum err writer_record(struct op *op, struct segment_writer *w, struct slice record);
/* Completes the object. ERR_TIMEOUT, ERR_CANCELED. */
enum err writer_finish(struct op *op, struct segment_writer *w);
/* Frees what the writer holds; harmless at any time after writer_init. */
void writer_release(struct segment_writer *w);

#endif
