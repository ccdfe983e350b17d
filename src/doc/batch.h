/*
 * batch.h - one write request, decoded and checked: documents to put, ids to delete.
 *
 * Documents hold the values of all the schema's attributes (null where absent). Within
 * a batch each id occurs once: batch_unique keeps the last of several.
 */
#ifndef DOC_BATCH_H
#define DOC_BATCH_H

#include "doc/schema.h"
#include "doc/value.h"

struct doc {
    struct doc_id id;
    const float *vector;        /* schema->vector_dim floats, or NULL */
    const struct value *values; /* schema->attr_count values */
};

struct batch {
    struct doc *docs;
    size_t doc_count;
    struct doc_id *deletes;
    size_t delete_count;
    /* Attributes to add, or NULL: a write that widens the schema. Applied first. */
    struct schema *schema;
};

/*
 * Drops all but the last of several documents with one id, and repeated deletes; order
 * is kept otherwise. In place. v1 requests hold documents or deletes, not both; where
 * both name one id, the document wins.
 */
enum err batch_unique(struct op *op, struct batch *b);

/* Kind of the batch's ids, ID_NONE when it has none. ERR_INVALID when they are mixed,
 * naming the first that differs. */
enum err batch_id_kind(struct op *op, const struct batch *b, enum id_kind *kind);

/*
 * Stored form of a batch: docs/formats.md "batch". schema is the one its values follow:
 * the wider one if the batch widens it.
 */
void batch_encode(const struct batch *b, const struct schema *schema, struct buf *out);
/*
 * schema is the namespace's before this batch; a batch that widens it is decoded under
 * the wider one, schema_extend(schema, out->schema), and values that were stored under
 * fewer attributes are null in the later ones. Vectors (where aligned) and strings are
 * borrowed from bytes, the rest is op's; out->schema is NULL or a reference of the
 * caller's. ERR_CORRUPT, also for ids of two kinds or an id that occurs twice.
 */
enum err batch_decode(struct op *op, struct slice bytes, struct schema *schema,
                      struct batch *out);

#endif
