/*
 * json_write.h - writing JSON into a buf.
 *
 * The writer puts commas and colons itself: begin, keys, values, end. Output is UTF-8
 * with only ", \, and control characters escaped. Floats print the shortest digits that
 * read back to the same float, doubles to the same double; infinities and NaN are our
 * own mistake (asserted). Nesting is asserted to match, at most 64 levels.
 */
#ifndef BASE_JSON_WRITE_H
#define BASE_JSON_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

struct json_writer {
    struct buf *out;
    uint64_t has_items; /* bit per level: something was written at it */
    uint64_t objects;   /* bit per level: it is an object, not an array */
    uint32_t depth;
    bool after_key;
};

void json_writer_init(struct json_writer *w, struct buf *out);
void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
void json_put_string(struct json_writer *w, struct slice s); /* must be UTF-8 */
void json_put_str(struct json_writer *w, const char *s);
void json_put_bool(struct json_writer *w, bool v);
void json_put_null(struct json_writer *w);
void json_put_i64(struct json_writer *w, int64_t v);
void json_put_u64(struct json_writer *w, uint64_t v);
void json_put_f32(struct json_writer *w, float v);
void json_put_f64(struct json_writer *w, double v);
/* A key and its value. */
void json_member_u64(struct json_writer *w, const char *key, uint64_t v);
void json_member_f64(struct json_writer *w, const char *key, double v);
/* A whole array of floats; the hot path of include_vector. */
void json_put_floats(struct json_writer *w, const float *v, size_t count);

#ifdef __cplusplus
}
#endif

#endif
