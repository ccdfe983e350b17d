/*
 * api_v1_write.h - upsert and delete: JSON into a batch, a batch into the registry.
 *
 * Nothing of a refused request is applied: a batch is whole and checked before it
 * leaves this file. Documents are read straight into the batch's own memory (op's
 * arena), one pass over the body; strings borrow the parser's, so the JSON stays open
 * until the write is answered.
 */
#ifndef API_API_V1_WRITE_H
#define API_API_V1_WRITE_H

#include "api/api_call.h"
#include "api/api_v1_filter.h"
#include "doc/batch.h"

enum { DOCUMENT_SIZE_MAX = 64 << 20 };

/*
 * Reads {"documents": […]} under schema. ERR_INVALID says the path of what is wrong
 * and, where it is inside a document whose id was read before it, the id. Repeated ids
 * are kept (batch_unique drops them). *failed_index is the document it failed in, or
 * SIZE_MAX.
 */
enum err v1_upsert_parse(struct op *op, struct json_value *root,
                         const struct schema *schema, struct batch *out,
                         size_t *failed_index);
/* Reads {"ids": […], "filter": …}; *filter is NULL where there is none. */
enum err v1_delete_parse(struct op *op, struct json_value *root, struct batch *out,
                         struct v1_filter **filter);

enum err v1_upsert(struct op *op, struct api_call *call);
enum err v1_delete(struct op *op, struct api_call *call);

#endif
