/*
 * api_v1_namespace.h - namespaces: list, create, look at, compact, drop; schemas as
 * JSON.
 */
#ifndef API_API_V1_NAMESPACE_H
#define API_API_V1_NAMESPACE_H

#include "api/api_call.h"
#include "base/json.h"
#include "base/json_write.h"
#include "doc/schema.h"

enum { PAGE_SIZE_MAX = 1000, PAGE_SIZE_DEFAULT = 100 };

/*
 * Reads a schema, also one wrapped in {"schema": …}; *out is a reference of the
 * caller's, checked by schema_check. ERR_INVALID.
 */
enum err v1_schema_parse(struct op *op, struct json_value *root, struct schema **out);
/* In the form that v1_schema_parse reads, every default spelled out. */
void v1_schema_write(struct json_writer *w, const struct schema *schema);

enum err v1_list(struct op *op, struct api_call *call);
enum err v1_create(struct op *op, struct api_call *call);
enum err v1_info(struct op *op, struct api_call *call);
enum err v1_drop(struct op *op, struct api_call *call);
enum err v1_compact(struct op *op, struct api_call *call);

#endif
