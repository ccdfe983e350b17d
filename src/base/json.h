/*
 * json.h - reading JSON (RFC 8259): a cursor over untrusted text.
 *
 * simdjson finds the tokens and checks the UTF-8 (json.cpp); this header is C. A value
 * is read front to back: take an object's fields in the order they come, an array's
 * items in the order they come, and finish one value before asking for the next.
 * Values that are not read, or not read to their end, are checked and skipped. The
 * cursor keeps the path of the value it stands at, so every failure names it:
 *     documents[3].attributes.title: expected a string, got a number
 *
 * Strict: UTF-8 (no lone surrogates), one value and nothing behind it, at most
 * JSON_DEPTH_MAX levels, no number outside double's range (one too small for it is
 * zero), and duplicate keys of one object are refused, at the latest at its end. One
 * thread at a time. All errors are ERR_INVALID with the path (ERR_LIMIT for depth or
 * the op's memory).
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct op;
struct json;

/* Readable bytes that must follow the text in memory (their content does not matter).
 */
enum { JSON_PADDING = 64, JSON_DEPTH_MAX = 64 };

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

/* Where a value stands; cheap to copy, valid until the cursor has moved past it. Only
 * json.cpp looks inside. */
struct json_value {
    struct json *json;
    struct slice key; /* its name, or no data: it is an item or the root */
    uint32_t index;
    uint32_t depth; /* arrays and objects around it */
    uint32_t token;
};

/* An object or array being walked. */
struct json_walk {
    struct json *json;
    uint32_t depth;
    uint32_t index; /* fields or items taken so far */
    uint64_t seen;  /* json_field: known names that were seen */
};

/*
 * Starts reading text, which must stay until json_close and have JSON_PADDING readable
 * bytes behind it. ERR_INVALID without a path: empty, not UTF-8, a string without its
 * end. The parser is taken from a per-thread store and reused.
 */
enum err json_open(struct op *op, struct slice text, struct json **out,
                   struct json_value *root);
/* After the root was read: ERR_INVALID if anything but white space follows. */
enum err json_end(struct op *op, struct json *json);
void json_close(struct json *json); /* NULL is fine */

/* ERR_INVALID if the value's first byte starts no JSON value. */
enum err json_kind_of(struct op *op, struct json_value *v, enum json_kind *kind);
const char *json_kind_name(enum json_kind kind); /* "a string" */

/* op_fail with the value's path in front: "filter.conditions[1].op: <words>". */
enum err json_fail(struct op *op, const struct json_value *v, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for the walked object or array itself (a missing field, too few items). */
enum err json_walk_fail(struct op *op, const struct json_walk *w, const char *format,
                        ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__ /* see op_fail */
#define json_fail(...)      ((void)(json_fail)(__VA_ARGS__), ERR_INVALID)
#define json_walk_fail(...) ((void)(json_walk_fail)(__VA_ARGS__), ERR_INVALID)
#endif

enum err json_object(struct op *op, struct json_value *v, struct json_walk *w);
enum err json_array(struct op *op, struct json_value *v, struct json_walk *w);

/*
 * The next field of an object whose names are not known beforehand. *more is false at
 * the end, where a name that occurred twice is refused. key lives as long as a string.
 */
enum err json_next(struct op *op, struct json_walk *w, bool *more, struct slice *key,
                   struct json_value *value);
/*
 * The next field of an object that may only have the given names (count <= 64): *name
 * is its index, or -1 at the end. Unknown names are refused with the list of allowed
 * ones, repeated names too. w->seen has bit i set when names[i] was seen.
 */
enum err json_field(struct op *op, struct json_walk *w, const char *const *names,
                    size_t count, int *name, struct json_value *value);
/* The next item of an array; *more is false at the end. */
enum err json_item(struct op *op, struct json_walk *w, bool *more,
                   struct json_value *value);

/* Strings are unescaped, valid UTF-8, not terminated; a NUL inside is allowed. They
 * live in text itself or, where there were escapes, in the op's arena. */
enum err json_string(struct op *op, struct json_value *v, struct slice *out);
enum err json_bool(struct op *op, struct json_value *v, bool *out);
enum err json_f64(struct op *op, struct json_value *v, double *out);
/* A number as it was written: an integer keeps all its digits, as far as 64 bits hold
 * them; larger ones are floating. -0 is unsigned. */
enum json_number_kind { JSON_UNSIGNED, JSON_SIGNED, JSON_FLOATING };
struct json_number {
    enum json_number_kind kind; /* signed: below zero */
    union {
        uint64_t u64;
        int64_t i64;
        double f64;
    };
};
enum err json_number_of(struct op *op, struct json_value *v, struct json_number *out);
/* An unsigned integer in [min, max]: 1 and -0 are integers, 1.0 and 1e3 are not; out of
 * range is refused with the range. */
enum err json_u64_range(struct op *op, struct json_value *v, uint64_t min, uint64_t max,
                        uint64_t *out);

/*
 * Reads an array of numbers into floats, at most max of them; *count gets how many.
 * More than max items: the rest is checked and *count is max + 1. Not a number, or
 * beyond float's range: refused with the item's index in the path. This is the hot path
 * of ingest.
 */
enum err json_floats(struct op *op, struct json_value *v, float *out, size_t max,
                     size_t *count);

#ifdef __cplusplus
}
#endif

#endif
