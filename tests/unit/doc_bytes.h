/* doc_bytes.h - a document as bytes, so that two can be compared. */
#ifndef TESTS_UNIT_DOC_BYTES_H
#define TESTS_UNIT_DOC_BYTES_H

#include "base/codec.h"
#include "doc/batch.h"

static inline void doc_encode(const struct doc *d, const struct schema *schema,
                              struct buf *out)
{
    doc_id_encode(&d->id, out);
    put_u8(out, d->vector != NULL);
    if (d->vector) buf_append(out, d->vector, schema->vector_dim * sizeof(float));
    for (uint32_t i = 0; i < schema->attr_count; i++)
        value_encode(schema->attrs[i].type, schema->attrs[i].array, &d->values[i], out);
}

#endif
