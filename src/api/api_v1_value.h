/*
 * api_v1_value.h - ids, attribute values and vectors: from JSON and to JSON.
 *
 * What JSON may stand for which type is decided here, once, for documents and filters:
 *   string     a string, at most 8 MiB      int, uint  an integer (1, not 1.0 or 1e0)
 *   float      any number                   bool       true or false
 *   datetime   an RFC 3339 string           uuid       an 8-4-4-4-12 string
 * Memory: strings borrow from the JSON text, the rest is op's.
 */
#ifndef API_API_V1_VALUE_H
#define API_API_V1_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "base/json_write.h"
#include "doc/schema.h"
#include "doc/value.h"

/* A null, bool, number or string as it was written, before its type is known. */
struct v1_literal {
    enum json_kind kind;
    union {
        bool boolean;
        struct json_number number;
        struct slice string;
    };
};

/* Words about what is wrong with a value, without its path. */
struct v1_complaint {
    char text[192];
};

/*
 * Room for one more item in an array of op's arena, which doubles when it is full.
 * NULL (and ERR_LIMIT words) above the op's memory.
 */
void *v1_grow(struct op *op, void *items, size_t count, size_t *capacity, size_t size);

/* What may be written as one value or as an array of values: its items, one by one. */
struct v1_items {
    bool array; /* it was written as one */
    struct json_walk walk;
    struct json_value only;
    bool taken;
};
enum err v1_items_begin(struct op *op, struct json_value *v, struct v1_items *out);
/* *more is false at the end. */
enum err v1_items_next(struct op *op, struct v1_items *items, bool *more,
                       struct json_value *item);

/* Arrays and objects are refused. */
enum err v1_literal_read(struct op *op, struct json_value *v, struct v1_literal *out);
/* False: the complaint says what was expected. A null literal is never a scalar. */
bool v1_scalar(const struct v1_literal *literal, enum attr_type type, union scalar *out,
               struct v1_complaint *why);
bool v1_id(const struct v1_literal *literal, struct doc_id *out,
           struct v1_complaint *why);

enum err v1_id_read(struct op *op, struct json_value *v, struct doc_id *out);
/* A document's value of attr. *bytes grows by what it holds. */
enum err v1_value_read(struct op *op, struct json_value *v, const struct attr *attr,
                       struct value *out, size_t *bytes);
/*
 * An array of numbers or base64 of little-endian floats, at most max of them into out;
 * *count is max + 1 when there are more.
 */
enum err v1_vector_read(struct op *op, struct json_value *v, float *out, size_t max,
                        size_t *count);
/*
 * False if a namespace of dim and metric cannot take these count numbers (count as
 * v1_vector_read gives it): wrong length, NaN, infinity, a norm outside what float
 * scores can hold (above 1e18; under cosine also below 1e-18, zero among them).
 */
bool v1_vector_check(const float *vector, size_t count, uint32_t dim,
                     enum metric_kind metric, struct v1_complaint *why);
/* How much of a name an error's words show: no more than an attribute's may have. */
static inline int v1_shown_size(struct slice name)
{
    return (int)(name.size < ATTR_NAME_MAX ? name.size : ATTR_NAME_MAX);
}
/* Where in a request a name stands: in a list or, alone, in its place. */
struct v1_path {
    char text[64];
};
struct v1_path v1_item_path(const char *list, bool listed, size_t index);
/* The attribute's number; -1, and the words of an ERR_INVALID, if there is none. */
int v1_find_attr(struct op *op, const struct schema *schema, struct slice name,
                 const char *path);
/* *present is false for null, which means the same as absent everywhere in v1. */
enum err v1_present(struct op *op, struct json_value *v, bool *present);

/* Strict RFC 4648 base64 with padding; false also above size_max bytes (*size tells).
 */
bool base64_decode(struct slice text, uint8_t *out, size_t size_max, size_t *size);

void v1_id_write(struct json_writer *w, const struct doc_id *id);
void v1_value_write(struct json_writer *w, const struct attr *attr,
                    const struct value *v);

#endif
